//! Register accesses, and the rules for them.

use rstest::rstest;
use smmu_types::seam::{Registers, RegistersExt};
use smmu_types::{Capabilities, IdRegisters, StreamId, regs};

use super::model_rig::{A, ModelRig, STRTAB};
use crate::{Hazard, Profile, Violation};

#[test]
fn the_id_registers_are_the_profile() {
    let rig = ModelRig::off(Profile { asid_bits: 8, stage2: false, ..Profile::default() });
    let r = &rig.regs;
    let caps = Capabilities::decode(IdRegisters {
        idr0: r.read(regs::IDR0),
        idr1: r.read(regs::IDR1),
        idr3: r.read(regs::IDR3),
        idr5: r.read(regs::IDR5),
        iidr: r.read(regs::IIDR),
        aidr: r.read(regs::AIDR),
        ..IdRegisters::default()
    });
    assert!(caps.stage1 && !caps.stage2);
    assert_eq!((caps.asid_bits, caps.minor_version), (8, 1));
    assert_eq!(r.read(regs::IDR2) | r.read(regs::IDR4), 0);
    assert_eq!(rig.violations(), []);
}

#[test]
fn while_translation_is_off_gbpa_decides() {
    let rig = ModelRig::off(Profile::default());
    assert_eq!(rig.dma(StreamId(99), A), Some(A));
    rig.regs.write(regs::GBPA, regs::gbpa::UPDATE | regs::gbpa::ABORT);
    assert_eq!(rig.dma(StreamId(99), A), Some(A), "GBPA was not read yet");
    // 6.3.14.1: the new value is visible while the update is under way.
    assert_eq!(rig.regs.read(regs::GBPA), regs::gbpa::UPDATE | regs::gbpa::ABORT);
    assert_eq!(rig.regs.read(regs::GBPA), regs::gbpa::ABORT);
    assert_eq!(rig.dma(StreamId(99), A), None);
    assert_eq!(rig.read(StreamId(99), A), None);
    assert_eq!(rig.violations(), []);
}

#[test]
fn gbpa_needs_update_set_and_no_update_pending() {
    let rig = ModelRig::off(Profile::default());
    rig.regs.write(regs::GBPA, regs::gbpa::ABORT);
    assert_eq!(rig.violations(), [Violation::Update]);
    rig.regs.write(regs::GBPA, regs::gbpa::UPDATE | regs::gbpa::ABORT);
    rig.regs.write(regs::GBPA, regs::gbpa::UPDATE);
    assert_eq!(rig.violations(), [Violation::Update]);
}

#[test]
fn wide_registers_may_be_written_in_halves() {
    let rig = ModelRig::off(Profile::default());
    let offset = regs::STRTAB_BASE.offset();
    rig.regs.write32(offset, STRTAB as u32);
    rig.regs.write32(offset + 4, 1 << 30);
    assert_eq!(rig.regs.read(regs::STRTAB_BASE), 1 << 62 | STRTAB);
    assert_eq!(rig.regs.read32(offset), STRTAB as u32);
    assert_eq!(rig.regs.read32(offset + 4), 1 << 30);
    assert_eq!(rig.violations(), []);
}

#[rstest]
#[case::undefined(0x1000, 4, Violation::Undefined { offset: 0x1000 })]
#[case::beyond(0x4_0000, 4, Violation::Undefined { offset: 0x4_0000 })]
#[case::misaligned(0x22, 4, Violation::Width { offset: 0x22, bytes: 4 })]
#[case::misaligned_wide(0x84, 8, Violation::Width { offset: 0x84, bytes: 8 })]
#[case::two_registers(0x20, 8, Violation::Width { offset: 0x20, bytes: 8 })]
fn illegal_accesses(#[case] offset: u32, #[case] bytes: u32, #[case] violation: Violation) {
    let rig = ModelRig::off(Profile::default());
    let read = match bytes {
        4 => rig.regs.read32(offset).into(),
        _ => rig.regs.read64(offset),
    };
    assert_eq!(read, 0);
    assert_eq!(rig.violations(), [violation]);
    match bytes {
        4 => rig.regs.write32(offset, u32::MAX),
        _ => rig.write64(offset, u64::MAX),
    }
    assert_eq!(rig.violations(), [violation]);
}

#[rstest]
#[case(regs::CR1.offset(), "CR1", "an enable bit of CR0")]
#[case(regs::CR2.offset(), "CR2", "CR0.SMMUEN")]
#[case(regs::STRTAB_BASE_CFG.offset(), "STRTAB_BASE_CFG", "CR0.SMMUEN")]
#[case(regs::CMDQ_CONS.offset(), "CMDQ_CONS", "CR0.CMDQEN")]
#[case(regs::EVENTQ_PROD.offset(), "EVENTQ_PROD", "CR0.EVENTQEN")]
#[case(regs::STRTAB_BASE.offset(), "STRTAB_BASE", "CR0.SMMUEN")]
#[case(regs::CMDQ_BASE.offset(), "CMDQ_BASE", "CR0.CMDQEN")]
#[case(regs::EVENTQ_BASE.offset(), "EVENTQ_BASE", "CR0.EVENTQEN")]
fn closed_while_enabled(#[case] offset: u32, #[case] register: &str, #[case] by: &str) {
    let rig = ModelRig::new();
    let before = rig.regs.read32(offset);
    rig.regs.write32(offset, !before & 0x40);
    assert_eq!(rig.regs.read32(offset), before);
    let found = rig.violations();
    assert!(
        matches!(found[..], [Violation::Enabled { register: r, by: b }] if r == register && b == by),
        "{found:?}"
    );
}

#[test]
fn read_only_and_reserved() {
    let rig = ModelRig::off(Profile::default());
    rig.regs.write32(regs::IDR0.offset(), 7);
    rig.regs.write32(regs::CR0ACK.offset(), 7);
    rig.regs.write32(regs::GERROR.offset(), 7);
    let names = ["IDR0", "CR0ACK", "GERROR"];
    assert_eq!(rig.violations(), names.map(|register| Violation::ReadOnly { register }));
    rig.regs.write(regs::CR0, u32::MAX);
    assert_eq!(rig.regs.read(regs::CR0ACK), 0xd, "neither PRI nor ATS");
    assert_eq!(rig.violations()[0], Violation::ReservedBits { register: "CR0", bits: 0xffff_fff2 });
    rig.regs.write(regs::GERROR_IRQ_CFG0, 0);
    rig.regs.write(regs::PRIQ_BASE, 0);
    assert_eq!(rig.violations(), []);
    rig.regs.write(regs::GERROR_IRQ_CFG0, 0x1000);
    assert_eq!(
        rig.violations(),
        [Violation::ReservedBits { register: "GERROR_IRQ_CFG0", bits: 0x1000 }]
    );
    assert_eq!(rig.regs.read(regs::GERROR_IRQ_CFG0), 0);
}

#[test]
fn gerrorn_follows_gerror() {
    let rig = ModelRig::new();
    rig.regs.write(regs::GERRORN, regs::gerror::CMDQ);
    assert_eq!(rig.violations(), [Violation::NotActive { bits: regs::gerror::CMDQ }]);
    assert_eq!(rig.regs.read(regs::GERRORN), 0);
}

#[test]
fn bases_and_sizes_are_checked_when_they_are_enabled() {
    let rig = ModelRig::off(Profile::default());
    let r = &rig.regs;
    r.write(regs::STRTAB_BASE, STRTAB + 0x40);
    r.write(regs::STRTAB_BASE_CFG, 17 | 2 << 16);
    r.write(regs::CMDQ_BASE, 0x4000_1020 | 9);
    r.write(regs::EVENTQ_BASE, 0x4000_2020 | 3);
    assert_eq!(rig.violations(), []);
    r.write(regs::CR0, 0xd);
    assert_eq!(
        rig.violations(),
        [
            Violation::Unsupported { register: "CMDQ_BASE", field: "LOG2SIZE", value: 9 },
            Violation::Alignment { register: "CMDQ_BASE", address: 0x4000_1020, align: 0x1000 },
            Violation::Alignment { register: "EVENTQ_BASE", address: 0x4000_2020, align: 0x100 },
            Violation::Unsupported { register: "STRTAB_BASE_CFG", field: "LOG2SIZE", value: 17 },
            Violation::Unsupported { register: "STRTAB_BASE_CFG", field: "FMT", value: 2 },
            Violation::Alignment {
                register: "STRTAB_BASE",
                address: STRTAB + 0x40,
                align: 1 << 22
            },
        ]
    );
}

#[test]
fn queue_pointers_stay_in_the_queue() {
    let rig = ModelRig::new();
    let prod = rig.regs.read(regs::CMDQ_PROD);
    rig.regs.write(regs::CMDQ_PROD, (prod + 17) & 0x1f);
    rig.regs.write(regs::EVENTQ_CONS, 3);
    assert_eq!(
        rig.violations(),
        [
            Violation::Pointer { register: "CMDQ_PROD", value: (prod + 17) & 0x1f },
            Violation::Pointer { register: "EVENTQ_CONS", value: 3 },
        ]
    );
    rig.regs.read(regs::CMDQ_CONS);
    assert_eq!(rig.regs.read(regs::CMDQ_CONS), prod, "nothing is consumed");
}

#[test]
fn pointer_bits_above_the_wrap_flag_read_as_zero() {
    let rig = ModelRig::off(Profile { pri: true, ..Profile::default() });
    let r = &rig.regs;
    for (base, log2) in [(regs::CMDQ_BASE, 4), (regs::EVENTQ_BASE, 3), (regs::PRIQ_BASE, 2)] {
        r.write(base, log2);
    }
    r.write(regs::CMDQ_CONS, 0x7f0f_ffff);
    r.write(regs::EVENTQ_CONS, 0x800f_ffff);
    r.write(regs::PRIQ_CONS, 0x800f_ffff);
    assert_eq!(r.read(regs::CMDQ_CONS), 0x7f00_001f, "the error code stays");
    assert_eq!(r.read(regs::EVENTQ_CONS), 0x8000_000f, "the overflow flag stays");
    assert_eq!(r.read(regs::PRIQ_CONS), 0x8000_0007);
    assert_eq!(rig.violations(), []);
    // The size at the time of the read counts.
    r.write(regs::CMDQ_BASE, 6);
    assert_eq!(r.read(regs::CMDQ_CONS), 0x7f00_007f);
}

#[test]
fn violations_display_as_sentences() {
    let violation = Violation::Enabled { register: "CMDQ_BASE", by: "CR0.CMDQEN" };
    assert_eq!(
        Hazard::Protocol { smmu: 1, violation }.to_string(),
        "smmu1: CMDQ_BASE was written while CR0.CMDQEN is set; the write is ignored"
    );
}
