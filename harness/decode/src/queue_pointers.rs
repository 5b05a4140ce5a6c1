//! Decodes the producer and the consumer of a queue.

use smmu_types::queue::QueueSize;
use smmu_types::regs::cmdq_cons;
use smmu_types::{CommandErrorCode, fields};

use crate::advice::Advice;
use crate::advice::table::command_error;
use crate::item::LogSays;
use crate::kind::StructureKind;
use crate::report::{FieldRow, StructureReport};

const OVERFLOW: u32 = 1 << 31;
/// The index and the wrap bit.
const POINTER: u32 = 0xf_ffff;
const EMPTY: &str = "empty: everything was consumed";
const FULL: &str = "read CONS again: if it does not move, the SMMU takes no command (read GERROR and CMDQ_CONS.ERR), or software does not read the event or PRI queue";

const fn wait(count: u32) -> &'static str {
    if count == 1 { "waits" } else { "wait" }
}

/// What a `CMD_SYNC` that timed out means.
fn timeout(advice: &mut Advice, at: u32, producer: u32, consumer: u32) {
    let behind = (producer & POINTER).wrapping_sub(at & POINTER) & POINTER;
    match behind {
        _ if producer & POINTER == consumer & POINTER => {
            advice.means.push_str("; the SYNC is done by now, after the driver gave up");
        }
        1 => advice.means.push_str("; the SYNC is the last of them"),
        _ if behind & (POINTER >> 1) == behind && behind > 0 => {
            let more = behind - 1;
            advice
                .means
                .push_str(&format!("; the SYNC is at {at:#x}, and {more} were queued behind it"));
        }
        _ => {}
    }
    if cmdq_cons::error(consumer) == CommandErrorCode::NONE {
        advice.next.push("CMDQ_CONS.ERR is 0: no command was refused; the SMMU is slow or stuck. Does CMDQ_CONS.RD move when it is read again? An ATC_INV waits for a device, a TLBI for walks in flight".into());
    }
    if consumer & POINTER == 0 {
        advice.next.insert(0, "CMDQ_CONS is 0: nothing was consumed, or the SMMU was reset or lost power since. Check CR0.CMDQEN with CR0ACK, CMDQ_BASE, and with IDR0.COHACC = 0 the cache maintenance of the queue".into());
    }
}

/// The words are `PROD`, `CONS` and, if known, log2 of the number of entries.
pub(crate) fn report(words: &[u64], says: LogSays) -> StructureReport {
    let word = |n: usize| words.get(n).copied().unwrap_or(0) as u32;
    let (producer, consumer) = (word(0), word(1));
    let size = words.get(2).map(|log2| u8::try_from(*log2).ok().and_then(QueueSize::from_log2));
    let row = |name, hi, lo, value: u32, meaning: String| FieldRow {
        name,
        hi,
        lo,
        value: value.into(),
        shown: value.to_string(),
        meaning,
        reserved: false,
        counts: true,
    };
    let error = cmdq_cons::error(consumer);
    let mut rows = Vec::new();
    let mut advice = Advice::default();
    match size {
        Some(Some(size)) => {
            let log2 = u16::from(size.log2());
            for (index, wrap, register, what) in [
                ("PROD.WR", "PROD.WR_WRAP", producer, "where the producer writes next"),
                ("CONS.RD", "CONS.RD_WRAP", consumer, "what the consumer reads next"),
            ] {
                if log2 > 0 {
                    let value = register & (size.entries() - 1);
                    rows.push(row(index, log2 - 1, 0, value, what.into()));
                }
                let value = register >> log2 & 1;
                rows.push(row(wrap, log2, log2, value, "which time round".into()));
            }
            advice.means = match size.used(producer, consumer) {
                Some(0) => EMPTY.into(),
                Some(used) if used == size.entries() => {
                    advice.next.push(FULL.into());
                    format!("full: {used} wait; equal indices and different wrap bits")
                }
                Some(used) => format!("{used} of {} {}", size.entries(), wait(used)),
                None => {
                    advice.next.push("check that both were read from the same queue, and that the size is that of its base register".into());
                    "impossible: the consumer is not within one queue length behind the producer"
                        .into()
                }
            };
        }
        unknown => {
            rows.push(row("PROD", 19, 0, producer & 0xf_ffff, "index and wrap bit".into()));
            rows.push(row("CONS", 19, 0, consumer & 0xf_ffff, "index and wrap bit".into()));
            // The index and the wrap bit count as one number, whatever the size.
            let waiting = (producer & POINTER).checked_sub(consumer & POINTER);
            advice.means = match (unknown, waiting) {
                (_, Some(0)) => EMPTY.into(),
                (None, Some(waiting)) => format!("{waiting} {}", wait(waiting)),
                (None, None) => {
                    advice.next.push(
                        "give log2 of the number of entries (bits 4:0 of the base register) as a third word"
                            .into(),
                    );
                    "not empty; how much waits depends on the size of the queue".into()
                }
                (Some(_), _) => format!(
                    "not empty; a queue has 2^0 to 2^{} entries, so the size that was given is not one",
                    QueueSize::MAX_LOG2
                ),
            };
        }
    }
    let summary = advice.means.clone();
    if let LogSays::SyncTimeout { at } = says {
        timeout(&mut advice, at, producer, consumer);
    }
    let flags = (producer & OVERFLOW, consumer & OVERFLOW);
    rows.push(row("PROD.OVFLG", 31, 31, producer >> 31, "event and PRI queues".into()));
    rows.push(row("CONS.OVACKFLG", 31, 31, consumer >> 31, "event and PRI queues".into()));
    rows.push(row("CONS.ERR", 30, 24, error.0.into(), format!("command queue: {error}")));
    if flags.0 != flags.1 {
        advice.next.push(
            "event or PRI queue: OVFLG and OVACKFLG differ, so records were lost since the last acknowledgement; the records in the queue are older: begin with the first"
                .into(),
        );
    }
    if error != CommandErrorCode::NONE {
        let (_, next) = command_error(error.0.into());
        advice.next.insert(0, format!(
            "command queue: if GERROR.CMDQ_ERR is active, it has stopped with {error} at the command at CONS.RD: {next}"
        ));
    }
    StructureReport {
        kind: StructureKind::Queue,
        name: "PROD, CONS".into(),
        summary,
        words: words.to_vec(),
        bits: fields::cmdq_prod::LAYOUT.bits(),
        rows,
        residue: Vec::new(),
        advice,
        findings: Vec::new(),
        not_judged: Vec::new(),
        device: None,
        cut_off: None,
    }
}
