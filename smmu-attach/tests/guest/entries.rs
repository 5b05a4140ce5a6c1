//! A guest's STE: vectors from drivers, every bit, every rule, and the table of the documentation.

use rstest::rstest;
use smmu_attach::guest::{
    AtsPermission, GuestConfig, GuestSmmu, GuestSmmuError, HostEntry, STE_FIELDS, SteReason,
    Treatment,
};
use smmu_types::legal::SmmuView;
use smmu_types::{AtsMode, EventKind, IdRegisters, Ste};

use crate::checks::{self, PLAIN, RICH, WHERE_S1, World, parent};

const DENIED: AtsPermission = AtsPermission::Denied;
const ALLOWED: AtsPermission = AtsPermission::Allowed;

fn ste(w0: u64, w1: u64) -> Ste {
    Ste([w0, w1, 0, 0, 0, 0, 0, 0])
}

/// What Linux writes as a guest, and the two words of the host's entry. Words 2 and 3 are the
/// parent's: VMID 0x2a, 48 bits of 4 KiB pages from level 0, tables at 0x8_8000_0000.
#[rstest]
// One CD at 0x4000_0000: S1DSS = 2, write-back, inner shareable. Config 5 becomes 7, MEV is set,
// SHCFG = 1 is the parent's.
#[case::one_cd(0x4000_000b, 0xd6, 0x4000_000f, 0x1000_0008_00d6)]
// A two-level table of 2^20 CDs, S1Fmt = 2.
#[case::two_level(0xa000_0000_4000_002b, 0xd6, 0xa000_0000_4000_002f, 0x1000_0008_00d6)]
// S1STALLD, as for a device that may not stall.
#[case::stall_disabled(0x4000_000b, 0x0800_00d6, 0x4000_000f, 0x1000_0808_00d6)]
// Stage 1 bypassed for transactions without a SubstreamID.
#[case::bypass_without_substream(
    0x5000_0000_4000_000b,
    0xd5,
    0x5000_0000_4000_000f,
    0x1000_0008_00d5
)]
// ATS.
#[case::ats(0x4000_000b, 0x1000_00d6, 0x4000_000f, 0x1000_1008_00d6)]
#[case::bypass(0x9, 0, 0xd, 0x1000_0008_0000)]
fn what_linux_writes(#[case] w0: u64, #[case] w1: u64, #[case] host0: u64, #[case] host1: u64) {
    let entry = World::rich().smmu.entry(&ste(w0, w1), ALLOWED).unwrap();
    let words = entry.entry().0;
    assert_eq!(words[..2], [host0, host1], "{words:x?}");
    assert_eq!(words[2..4], [0x044d_3590_0000_002a, 0x8_8000_0000], "{words:x?}");
    assert_eq!(words[4..], [0; 4]);
    let ats = if w1 >> 28 & 1 == 1 { AtsMode::Full } else { AtsMode::Off };
    assert_eq!(entry.ats(), ats);
}

#[rstest]
#[case::invalid(0, GuestConfig::Invalid, Some(EventKind::C_BAD_STE))]
#[case::invalid_with_leftovers(
    0xffff_ffff_ffff_fffe,
    GuestConfig::Invalid,
    Some(EventKind::C_BAD_STE)
)]
#[case::abort(0x1, GuestConfig::Abort, None)]
#[case::reserved_1(0x3, GuestConfig::Abort, None)]
#[case::reserved_2(0x5, GuestConfig::Abort, None)]
#[case::reserved_3(0x7, GuestConfig::Abort, None)]
#[case::abort_with_leftovers(0xffff_ffff_ffff_fff1, GuestConfig::Abort, None)]
fn an_entry_without_transactions_aborts_whatever_else_it_says(
    #[case] w0: u64,
    #[case] config: GuestConfig,
    #[case] event: Option<EventKind>,
    #[values(0, u64::MAX)] rest: u64,
) {
    let guest = Ste([w0, rest, rest, rest, rest, rest, rest, rest]);
    let entry = World::rich().smmu.entry(&guest, DENIED).unwrap();
    assert_eq!((entry.entry(), entry.config()), (ste(1, 0), config));
    assert_eq!((entry.event(), entry.ats()), (event, AtsMode::Off));
}

#[test]
fn an_entry_for_events_is_invalid_for_the_hosts_smmu() {
    assert_eq!(HostEntry::INVALID_WITH_EVENTS.entry().0, [0; 8]);
    assert_eq!(HostEntry::INVALID_WITH_EVENTS.event(), Some(EventKind::C_BAD_STE));
    assert_eq!(HostEntry::INVALID.entry(), ste(1, 0));
}

/// The bits of linux-driver.md 9 that a guest of Linux may set, and those that an SMMU ignores.
fn expected(bit: usize) -> Treatment {
    let (word, mask) = (bit / 64, 1 << (bit % 64));
    let of = |masks: [u64; 2]| masks.get(word).is_some_and(|bits| bits & mask != 0);
    if of([0xf, 3 << 28]) {
        Treatment::Followed
    } else if of(WHERE_S1) {
        Treatment::Copied
    } else if of([0, 1 << 19 | 0xf << 20 | 3 << 46]) {
        Treatment::Forced
    } else {
        Treatment::Refused
    }
}

#[test]
fn each_bit_is_copied_forced_or_refused() {
    let world = World::rich();
    for base in [ste(0x4000_000b, 0), ste(0x9, 0)] {
        let stage1 = base.0[0] != 9;
        let without = world.smmu.entry(&base, ALLOWED).unwrap().entry();
        for bit in 0..512 {
            let (word, mask) = (bit / 64, 1u64 << (bit % 64));
            let mut guest = base;
            if guest.0[word] & mask != 0 || bit < 4 {
                continue;
            }
            guest.0[word] |= mask;
            checks::entry(&world, guest.0, ALLOWED);
            let found = world.smmu.entry(&guest, ALLOWED);
            match (expected(bit), found) {
                (Treatment::Refused, Err(refusal)) => {
                    let (hi, lo) = refusal.bits;
                    assert!(usize::from(lo) <= bit && bit <= usize::from(hi), "{bit}: {refusal}");
                    assert!(matches!(refusal.reason, SteReason::MustBeZero(_)), "{bit}: {refusal}");
                    assert_eq!(refusal.value, mask >> (lo % 64) << (lo % 64) >> shift(&refusal));
                }
                (Treatment::Forced, Ok(entry)) => assert_eq!(entry.entry(), without, "{bit}"),
                // Without stage 1 what is copied has no effect.
                (Treatment::Copied | Treatment::Followed, Ok(entry)) if !stage1 => {
                    assert_eq!(entry.entry(), without, "{bit}");
                }
                (Treatment::Copied, Ok(entry)) => {
                    let mut with = without;
                    with.0[word] |= mask;
                    // S1CSH = 1 is reserved and behaves as 0.
                    let expected = if bit == 64 + 6 { without } else { with };
                    assert_eq!(entry.entry(), expected, "{bit}");
                }
                // 48 bits of stage 2, and a table of 2^16 CDs (bit 63 alone) of 4 MiB.
                (Treatment::Copied, Err(refusal)) => {
                    assert!((48..=55).contains(&bit), "{bit}: {refusal}");
                    assert_eq!(refusal.field, "S1ContextPtr");
                }
                (Treatment::Followed, Ok(entry)) => {
                    assert_eq!((bit, entry.ats()), (64 + 28, AtsMode::Full));
                }
                (Treatment::Followed, Err(refusal)) => {
                    assert_eq!((bit, refusal.field), (64 + 29, "EATS"), "{refusal}");
                }
                (treatment, found) => panic!("bit {bit}: {treatment:?}, {found:?}"),
            }
        }
    }
}

/// By how much a refusal's value is moved down: an address keeps its place.
fn shift(refusal: &smmu_attach::guest::SteRefusal) -> u16 {
    match refusal.field {
        "S2TTB" | "VMSPtr" => 0,
        _ => refusal.bits.1 % 64,
    }
}

#[test]
fn the_table_has_each_bit_once() {
    let mut seen = [0u64; 8];
    for row in STE_FIELDS {
        assert_eq!(seen[row.key.word()] & row.key.mask(), 0, "{} twice", row.key.name());
        seen[row.key.word()] |= row.key.mask();
        for bit in row.key.lo()..=row.key.hi() {
            assert_eq!(row.treatment, expected(bit.into()), "bit {bit}, {}", row.key.name());
        }
        assert!(!row.reason.is_empty());
    }
    // What is left is in no field of the architecture's table either.
    let left: Vec<u64> = seen.iter().map(|word| !word).collect();
    let fields = smmu_types::fields::ste::LAYOUT.fields();
    assert!(fields.iter().all(|field| left[field.word()] & field.mask() == 0));
}

#[test]
fn the_documentation_has_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/guest/mod.rs");
    let text = std::fs::read_to_string(path).unwrap();
    let mut groups: Vec<(Treatment, &str, Vec<String>)> = Vec::new();
    for row in STE_FIELDS {
        let name = format!("`{}`", row.key.name());
        match groups.iter_mut().find(|of| (of.0, of.1) == (row.treatment, row.reason)) {
            Some(group) => group.2.push(name),
            None => groups.push((row.treatment, row.reason, vec![name])),
        }
    }
    for (treatment, reason, names) in groups {
        let treatment = format!("{treatment:?}").to_lowercase();
        let line = format!("//! | {} | {treatment} | {reason} |", names.join(", "));
        assert!(text.lines().any(|of| of == line), "src/guest/mod.rs lacks the line\n{line}");
    }
}

#[rstest]
#[case::stage2(0xd, 0, "Config", 6, "no stage 2")]
#[case::nested(0x4000_000f, 0, "Config", 7, "no stage 2")]
#[case::split_ats(0x4000_000b, 2 << 28, "EATS", 2, "split-stage ATS needs both stages")]
#[case::checked_ats(0x4000_000b, 3 << 28, "EATS", 3, "full ATS or none")]
#[case::el2(0x4000_000b, 2 << 30, "STRW", 2, "no EL2")]
#[case::shareability(0x9, 1 << 44, "SHCFG", 1, "cannot replace memory types")]
#[case::privilege(0x9, 2 << 48, "PRIVCFG", 2, "cannot replace permissions")]
#[case::reserved(0x0100_0000_4000_000b, 0, "reserved bits", 1, "reserved")]
// 2^21 CDs; the SMMU has 20 bits.
#[case::too_many_cds(0xa800_0000_4000_000b, 0, "S1CDMax", 21, "20 bits of SubstreamID")]
// A linear table of 2^20 CDs is aligned to 64 MiB.
#[case::misaligned(0xa000_0000_4000_100b, 0, "S1ContextPtr", 0x4000_1000, "aligned to 2^26")]
#[case::beyond_output(0x0001_0000_0000_000b, 0, "S1ContextPtr", 1 << 48, "48 bits")]
fn a_refusal_names_field_value_rule_and_remedy(
    #[case] w0: u64,
    #[case] w1: u64,
    #[case] field: &str,
    #[case] value: u64,
    #[case] rule: &str,
) {
    let refusal = World::rich().smmu.entry(&ste(w0, w1), ALLOWED).unwrap_err();
    assert_eq!((refusal.field, refusal.value), (field, value), "{refusal}");
    let text = refusal.to_string();
    assert!(text.contains(rule) && text.contains(&format!("{value:#x}")), "{text}");
    assert!(text.ends_with(refusal.reason.remedy()), "{text}");
    assert_eq!((refusal.event(), refusal.entry()), (EventKind::C_BAD_STE, HostEntry::INVALID));
}

#[test]
fn the_refused_bits_of_no_field_are_named() {
    let refusal = World::rich().smmu.entry(&ste(0x0100_0000_0000_0009, 0), DENIED).unwrap_err();
    assert_eq!(refusal.bits, (56, 56));
    assert!(refusal.to_string().contains("reserved bits 56:56 = 0x1"), "{refusal}");
}

#[test]
fn ats_needs_the_hosts_permission_and_the_guests_ats() {
    let guest = ste(0x4000_000b, 0x1000_00d6);
    let refusal = World::rich().smmu.entry(&guest, DENIED).unwrap_err();
    assert!(matches!(refusal.reason, SteReason::AtsDenied), "{refusal}");
    assert_eq!((refusal.field, refusal.value), ("EATS", 1));
    // IDR0.ATS = 0: the field is ignored, whatever its value.
    for eats in 1..=3 {
        let guest = ste(0x4000_000b, 0xd6 | eats << 28);
        let entry = World::modest().smmu.entry(&guest, ALLOWED).unwrap();
        assert_eq!((entry.ats(), entry.config()), (AtsMode::Off, GuestConfig::Stage1));
    }
}

/// What counts is what the guest's ID registers say, also where the host's SMMU has more.
#[test]
fn the_guests_registers_count() {
    // No substreams: S1CDMax is ignored, and S1DSS with it.
    let entry = World::modest().smmu.entry(&ste(0x2800_0000_4000_000b, 0xd4), DENIED).unwrap();
    assert_eq!(entry.entry().0[0], 0x4000_000f);
    // STALL_MODEL = 1: stalls are not a choice.
    let refusal = World::modest().smmu.entry(&ste(0x4000_000b, 1 << 27), DENIED).unwrap_err();
    assert_eq!(refusal.field, "S1STALLD");
    assert!(matches!(refusal.reason, SteReason::Guest(_)), "{refusal}");
}

#[rstest]
#[case::format(0x5000_0000_4000_003b, 0, 0x5000_0000_4000_000f, 0)]
#[case::default_substream(0x5000_0000_4000_000b, 3, 0x5000_0000_4000_000f, 0)]
#[case::shareability(0x4000_000b, 1 << 6, 0x4000_000f, 0)]
fn reserved_values_become_those_that_they_behave_as(
    #[case] w0: u64,
    #[case] w1: u64,
    #[case] host0: u64,
    #[case] host1: u64,
) {
    let entry = World::rich().smmu.entry(&ste(w0, w1), DENIED).unwrap().entry();
    assert_eq!((entry.0[0], entry.0[1] & 0xff), (host0, host1));
}

/// A parent whose own stage-1 fields and EATS are set does not lend them to the guest.
#[test]
fn the_guest_gets_stage_2_of_the_parent_and_nothing_else() {
    let mut lent = parent(&RICH);
    lent.0[0] |= 0x2800_0000_7000_0020;
    lent.0[1] |= 1 << 28 | 0xff | 1 << 27 | 2 << 30 | 1 << 24;
    let ids = World::rich().ids;
    let smmu = GuestSmmu::new(SmmuView::new(RICH), ids, lent).unwrap();
    let clean = World::rich().smmu;
    for guest in [ste(0x4000_000b, 0), ste(0x9, 0)] {
        assert_eq!(smmu.entry(&guest, ALLOWED).unwrap(), clean.entry(&guest, ALLOWED).unwrap());
    }
}

fn made(host: IdRegisters, ids: IdRegisters, parent: Ste) -> Result<(), GuestSmmuError> {
    GuestSmmu::new(SmmuView::new(host), ids, parent).map(|_| ())
}

#[test]
fn a_host_without_both_stages_is_refused() {
    for stage in [1, 2] {
        let host = IdRegisters { idr0: RICH.idr0 & !stage, ..RICH };
        let error = made(host, World::rich().ids, parent(&RICH)).unwrap_err();
        assert_eq!(error, GuestSmmuError::NoNesting { idr0: host.idr0 });
    }
}

#[test]
fn a_parent_is_a_legal_entry_of_stage_2_with_a_vmid() {
    let ids = World::rich().ids;
    for (w0, config) in [(0, 0), (1, 0), (9, 4), (0xb, 5), (0xf, 7), (0xc, 6)] {
        let mut parent = parent(&RICH);
        parent.0[0] = w0;
        let valid = w0 & 1;
        let error = made(RICH, ids, parent).unwrap_err();
        assert_eq!(error, GuestSmmuError::ParentNotStage2 { valid, config });
    }
    let mut zero = parent(&RICH);
    zero.0[2] &= !0xffff;
    assert_eq!(made(RICH, ids, zero), Err(GuestSmmuError::VmidZero));
    // S2T0SZ = 63.
    let mut small = parent(&RICH);
    small.0[2] |= 0x3f << 32;
    let error = made(RICH, ids, small).unwrap_err();
    assert!(matches!(error, GuestSmmuError::Parent { field: "S2T0SZ", value: 63, .. }), "{error}");
}

#[rstest]
#[case::stage2(IdRegisters { idr0: 1, ..IdRegisters::default() }, "S2P")]
#[case::hyp(IdRegisters { idr0: 1 << 9, ..IdRegisters::default() }, "Hyp")]
#[case::ats(IdRegisters { idr0: 1 << 10, ..IdRegisters::default() }, "ATS")]
#[case::stalls(IdRegisters { idr0: 2 << 24, ..IdRegisters::default() }, "STALL_MODEL")]
#[case::substreams(IdRegisters { idr1: 1 << 6, ..IdRegisters::default() }, "SSIDSIZE")]
#[case::granule(IdRegisters { idr5: 1, ..IdRegisters::default() }, "OAS")]
#[case::version(IdRegisters { aidr: 2, ..IdRegisters::default() }, "ArchMinorRev")]
fn a_guest_is_not_told_of_more_than_the_host_has(#[case] more: IdRegisters, #[case] name: &str) {
    let ids = World::plain().ids;
    let told = IdRegisters {
        idr0: ids.idr0 ^ more.idr0,
        idr1: ids.idr1 | more.idr1,
        idr5: ids.idr5 | more.idr5,
        aidr: ids.aidr | more.aidr,
        ..ids
    };
    let error = made(PLAIN, told, parent(&PLAIN)).unwrap_err();
    let GuestSmmuError::NotASubset { field, .. } = error else { panic!("{error}") };
    assert_eq!(field, name, "{error}");
}

/// Queues, StreamIDs and messages are the emulator's: it may have more than the host's SMMU.
#[test]
fn tables_and_queues_of_the_emulator_are_its_own() {
    let ids = World::plain().ids;
    let told = IdRegisters { idr0: ids.idr0 | 3 << 13, idr1: ids.idr1 | 0x20 | 0x13 << 11, ..ids };
    assert_eq!(made(PLAIN, told, parent(&PLAIN)), Ok(()));
}
