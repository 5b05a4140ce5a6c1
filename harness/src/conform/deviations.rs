//! Where machines are known to do something else than the architecture demands.

use super::check::Check;

/// One known deviation of a machine. A check that passes in spite of its entry is a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deviation {
    /// The check that shows it.
    pub check: &'static str,
    /// The machine and its version, as [`describe`](smmu_engine::machine::Backend::describe) begins.
    pub machine: &'static str,
    /// What the machine does, in one sentence.
    pub text: &'static str,
    /// A part of what the check says that it got.
    pub got: &'static str,
}

const QEMU: &str = "QEMU 11.1.3";
const MODEL: &str = "the built-in model";

const fn deviation(
    machine: &'static str,
    check: &'static str,
    text: &'static str,
    got: &'static str,
) -> Deviation {
    Deviation { check, machine, text, got }
}

/// Those of all machines.
pub const DEVIATIONS: &[Deviation] = &[
    deviation(
        QEMU,
        "registers/cr0ack-reserved",
        "CR0ACK shows the bits of VMW, ATSCHK, PRIQEN and DPT_WALK_EN, which IDR0 and IDR3 deny",
        "0x5d2",
    ),
    deviation(
        QEMU,
        "registers/irq-ack-reserved",
        "IRQ_CTRLACK shows whatever is written to IRQ_CTRL",
        "0xfffffffa",
    ),
    deviation(
        QEMU,
        "registers/cons-above-wrap",
        "CMDQ_CONS reads back its bits above the wrap flag",
        "0xfffff",
    ),
    deviation(QEMU, "queues/ill-completion", "CMD_SYNC with CS = 3 completes", "refused: none"),
    deviation(QEMU, "queues/ill-el2", "TLBI_EL2_ALL is taken, and does nothing", "refused: none"),
    deviation(QEMU, "queues/ill-el3", "TLBI_EL3_ALL is taken, and does nothing", "refused: none"),
    deviation(QEMU, "queues/ill-atc-inv", "ATC_INV is taken, and does nothing", "refused: none"),
    deviation(QEMU, "queues/ill-pri-resp", "PRI_RESP is taken, and does nothing", "refused: none"),
    deviation(QEMU, "queues/ill-resume", "RESUME is taken, and does nothing", "refused: none"),
    deviation(
        QEMU,
        "queues/ill-stall-term",
        "STALL_TERM is taken, and does nothing",
        "refused: none",
    ),
    deviation(QEMU, "queues/ill-empty-range", "a range of no pages is no error", "refused: none"),
    deviation(
        QEMU,
        "queues/events-overflow",
        "a lost event activates EVENTQ_ABT_ERR, and toggles no OVFLG",
        "OVFLG: 0x0",
    ),
    deviation(
        QEMU,
        "queues/events-overflow-twice",
        "a lost event activates EVENTQ_ABT_ERR, and toggles no OVFLG",
        "OVFLG: 0x0",
    ),
    deviation(
        QEMU,
        "queues/events-abort-stops",
        "events are recorded while EVENTQ_ABT_ERR is active",
        "active: 1",
    ),
    deviation(QEMU, "walks/s1-no-block-0", "a descriptor of level 0 may be a block", "no event"),
    deviation(
        QEMU,
        "walks/s1-privileged",
        "every access counts as privileged at stage 1",
        "a write to",
    ),
    deviation(
        QEMU,
        "walks/s1-table-privileged",
        "every access counts as privileged at stage 1",
        "a write to",
    ),
    deviation(
        QEMU,
        "walks/s2-concatenated",
        "of tables side by side, stage 2 uses the first alone",
        "a write to",
    ),
    deviation(
        QEMU,
        "walks/s2-level-2",
        "of tables side by side, stage 2 uses the first alone",
        "F_TRANSLATION",
    ),
    deviation(
        QEMU,
        "walks/s2-input-beyond-output",
        "an input size of stage 2 beyond S2PS is refused",
        "C_BAD_STE",
    ),
    deviation(
        QEMU,
        "walks/bypass-beyond-output",
        "an STE that bypasses records nothing for an address beyond OAS",
        "no event",
    ),
    deviation(
        QEMU,
        "configuration/silent-limit",
        "C_BAD_STREAMID is recorded without RECINVSID, too",
        "C_BAD_STREAMID",
    ),
    deviation(
        QEMU,
        "configuration/two-levels-span",
        "a Span covers twice as many StreamIDs as it should",
        "C_BAD_STE",
    ),
    deviation(QEMU, "configuration/cd-fetch", "F_CD_FETCH tells address 0", "fetch=0x0"),
    deviation(
        QEMU,
        "caches/drop-nested-block",
        "a TLBI by VA drops one piece of a block of stage 1 that stage 2 has split",
        "a write to",
    ),
    deviation(
        QEMU,
        "caches/drop-global-by-va",
        "nG does not count: a global page has the tag of its ASID",
        "a write to",
    ),
    deviation(
        QEMU,
        "caches/keep-global-over-asid",
        "nG does not count: a global page has the tag of its ASID",
        "a write to",
    ),
    deviation(
        QEMU,
        "caches/keep-ste-over-cd",
        "CFGI_CD drops the STE as well, which an SMMU may",
        "a write to",
    ),
    deviation(
        QEMU,
        "faults/s2-ipa-is-a-page",
        "the low 12 bits of an IPA in an event are those of the address",
        "0xabc",
    ),
    deviation(
        QEMU,
        "faults/nested-table",
        "a fault of stage 2 on the way to a table is told as one of stage 1",
        "class=TT stage=1",
    ),
    deviation(
        QEMU,
        "faults/nested-table-read",
        "a fault of stage 2 on the way to a table is told as one of stage 1",
        "class=TT stage=1",
    ),
    deviation(
        QEMU,
        "faults/nested-cd",
        "a fault of stage 2 on the way to a CD tells a read",
        "read iova",
    ),
    deviation(
        QEMU,
        "faults/order-size-before-flag",
        "a clear access flag faults before an address beyond IPS",
        "F_ACCESS",
    ),
    deviation(
        QEMU,
        "interrupts/event-in-a-used-queue",
        "each event raises an interrupt",
        "EVENTQ of smmu0",
    ),
    deviation(
        MODEL,
        "walks/s1-ttb1",
        "a CD that uses TTB1 is refused: the model has no upper table",
        "C_BAD_CD",
    ),
    deviation(MODEL, "walks/s1-top-byte", "TBI0 and TBI1 do not count", "F_TRANSLATION"),
];

/// The entry of a check and a machine.
pub(super) fn of(check: &Check, machine: &str) -> Option<&'static Deviation> {
    let mut all = DEVIATIONS.iter();
    all.find(|entry| entry.check == check.name && is_of(entry, machine))
}

/// Whether an entry is for a machine that describes itself like this.
fn is_of(entry: &Deviation, machine: &str) -> bool {
    // Version 11.1.3 is not 11.1.30.
    let rest = machine.strip_prefix(entry.machine);
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric()))
}
