//! The rules: a good structure, one deviation, and exactly what that breaks.
#![expect(clippy::unwrap_used, reason = "tests")]

mod cd;
mod lookup;
mod stage2;
mod ste;

use rstest::rstest;
use smmu_types::fields::ste as field;
use smmu_types::layout::FieldValue;
use smmu_types::legal::{self, Effect, El2Regime, Finding, Partitions, Rule};
use smmu_types::legal::{RuleStage, SmmuView, TranslatedTraffic};
use smmu_types::{Cd, EventKind, IdRegisters, Ste};

const ONE: RuleStage = RuleStage::One;
const TWO: RuleStage = RuleStage::Two;

/// Findings: field and rule.
type Findings = Vec<(&'static str, Rule)>;

/// SMMUv3.2 with both stages and formats, EL2, ATS, PRI, substreams, stalls, 48 bits and every
/// granule.
fn rich() -> SmmuView {
    ids(|_| {})
}

fn ids(change: impl FnOnce(&mut IdRegisters)) -> SmmuView {
    let mut id = IdRegisters {
        idr0: 0x080d_168f,
        idr1: 0x0c00_0520,
        idr3: 0x110c,
        idr5: 0x75,
        aidr: 2,
        ..IdRegisters::default()
    };
    change(&mut id);
    SmmuView::new(id)
}

fn idr0(clear: u32, set: u32) -> SmmuView {
    ids(|id| id.idr0 = id.idr0 & !clear | set)
}

fn idr1(clear: u32) -> SmmuView {
    ids(|id| id.idr1 &= !clear)
}

fn idr3(clear: u32, set: u32) -> SmmuView {
    ids(|id| id.idr3 = id.idr3 & !clear | set)
}

fn idr5(clear: u32, set: u32) -> SmmuView {
    ids(|id| id.idr5 = id.idr5 & !clear | set)
}

fn version(minor: u32) -> SmmuView {
    ids(|id| id.aidr = minor)
}

fn checked() -> SmmuView {
    rich().with_translated(TranslatedTraffic::Checked)
}

/// With 52-bit addresses for small pages.
fn lpa2() -> SmmuView {
    idr5(7, 0x486)
}

/// SMMUv3.4 with 128-bit descriptors, 56 bits, small tables and indirect permissions.
fn wide() -> SmmuView {
    ids(|id| {
        id.idr0 &= !4;
        id.idr3 |= 0x9c_0200;
        id.idr5 = 0x0977;
        id.aidr = 4;
    })
}

/// The same with hardening of translation.
fn hardened() -> SmmuView {
    let mut smmu = wide();
    smmu.id.idr3 |= 1 << 21;
    smmu
}

/// With MPAM, 64 partitions and 4 groups.
fn mpam() -> SmmuView {
    idr3(0, 0x80).with_partitions(Partitions { partid: 63, pmg: 3 })
}

/// Read from QEMU 11.1.3.
fn qemu() -> SmmuView {
    SmmuView::new(IdRegisters {
        idr0: 0x0d44_101b,
        idr1: 0x0273_0010,
        idr3: 0x1414,
        idr5: 0x74,
        aidr: 1,
        ..IdRegisters::default()
    })
}

const BYPASS: Ste = Ste([0x9, 0, 0, 0, 0, 0, 0, 0]);
/// One CD at 0x8000_0000, write-back, inner shareable.
const STAGE1: Ste = Ste([0x8000_000b, 0xd4, 0, 0, 0, 0, 0, 0]);
/// VMID 7, 40 bits of input from level 1 in 4 KiB pages, 48 bits of output, the table at
/// 0x8010_0000.
const STAGE2: Ste = Ste([0xd, 0, 0x000d_3558_0000_0007, 0x8010_0000, 0, 0, 0, 0]);
const NESTED: Ste = Ste([0x8000_000f, 0xd4, STAGE2.0[2], STAGE2.0[3], 0, 0, 0, 0]);
/// ASID 5, 48 bits of input in 4 KiB pages, 48 bits of output, TTB0 only, abort and record.
const CONTEXT: Cd = Cd([0x0005_e205_c000_3510, 0x8020_0000, 0, 0xff, 0, 0, 0, 0]);

fn el2() -> Ste {
    STAGE1.with(field::STRW, 2).unwrap()
}

fn collect(judge: impl FnOnce(&mut dyn FnMut(Finding))) -> Findings {
    let mut found = Vec::new();
    judge(&mut |finding| {
        let (name, text) = (finding.field().name(), finding.to_string());
        assert!(text.starts_with(name) && text.len() > name.len() + 8, "{text}");
        assert!(!finding.rule().section().is_empty() && !finding.rule().remedy().is_empty());
        assert_eq!((finding.structure(), finding.name()), (finding.layout().name(), name));
        let value = FieldValue { field: finding.field(), value: finding.value() };
        assert!(text.starts_with(&format!("{name} = {value}: ")), "{text}");
        assert_eq!(finding.layout().field(name).unwrap().lo(), finding.field().lo());
        found.push((name, finding.rule()));
    });
    found
}

fn of_ste(entry: Ste, smmu: &SmmuView) -> Findings {
    collect(|report| legal::ste(&entry, smmu, report))
}

fn of_cd(context: Cd, entry: Ste, smmu: &SmmuView) -> Findings {
    collect(|report| legal::cd(&context, &entry, smmu, report))
}

#[rstest]
#[case::rich(rich())]
#[case::newest(version(7))]
#[case::oldest(version(0))]
fn good_bases_break_nothing(#[case] smmu: SmmuView) {
    for entry in [Ste::ABORT, BYPASS, STAGE1, STAGE2, NESTED, el2()] {
        assert_eq!(of_ste(entry, &smmu), [], "{entry}");
    }
    for entry in [STAGE1, NESTED] {
        assert_eq!(of_cd(CONTEXT, entry, &smmu), []);
    }
    assert_eq!(of_cd(CONTEXT, el2(), &smmu.with_el2(El2Regime::El2E2h)), []);
    for entry in [Ste::ABORT, BYPASS, STAGE2, Ste::INVALID] {
        assert_eq!(of_cd(Cd::INVALID, entry, &smmu), [], "no CD is read");
    }
}

#[test]
fn good_bases_on_qemu() {
    // The structures say 48 bits, and IDR5.OAS is 44.
    let s2ps = [("S2PS", Rule::OutputSizeCapped { bits: 44 })];
    for (entry, want) in
        [(Ste::ABORT, &[][..]), (BYPASS, &[]), (STAGE1, &[]), (STAGE2, &s2ps), (NESTED, &s2ps)]
    {
        assert_eq!(of_ste(entry, &qemu()), want, "{entry}");
    }
    let ips = [("IPS", Rule::OutputSizeCapped { bits: 44 })];
    assert_eq!(of_cd(CONTEXT, STAGE1, &qemu()), ips);
}

#[test]
fn a_reserved_output_size_is_48_bits() {
    let entry = STAGE1.with(field::S1CONTEXTPTR, 1 << 48).unwrap();
    for (oas, minor) in [(6, 0), (7, 3), (7, 4)] {
        let mut smmu = version(minor);
        smmu.id.idr5 = 0x70 | oas;
        let want = Rule::ContextsBeyondOutput { bits: 48, minor: minor as u8 };
        assert_eq!(of_ste(entry, &smmu), [("S1ContextPtr", want)]);
        let capped = [("IPS", Rule::OutputSizeCapped { bits: 48 })];
        let context = CONTEXT.with(smmu_types::fields::cd::IPS, 6).unwrap();
        assert_eq!(of_cd(context, STAGE1, &smmu), capped);
    }
}

#[rstest]
#[case(Rule::Invalid { stage: ONE }, Effect::Illegal(EventKind::C_BAD_CD), "5.4")]
#[case(Rule::Invalid { stage: TWO }, Effect::Illegal(EventKind::C_BAD_STE), "5.2")]
#[case(
    Rule::InputSize { stage: ONE, min: 16, max: 39, minor: 0 },
    Effect::ConstrainedUnpredictable, "5.4"
)]
#[case(
    Rule::InputSize { stage: TWO, min: 16, max: 39, minor: 1 },
    Effect::Illegal(EventKind::C_BAD_STE), "5.2"
)]
#[case(
    Rule::ContextsBeyondOutput { bits: 48, minor: 0 },
    Effect::ConstrainedUnpredictable, "5.2, 3.4.3"
)]
#[case(
    Rule::ContextsBeyondOutput { bits: 48, minor: 1 },
    Effect::Illegal(EventKind::C_BAD_STE), "5.2, 3.4.3"
)]
#[case(Rule::ReservedValue { behaves: "6" }, Effect::TreatedAs("6"), "5.2, 5.4")]
#[case(Rule::Res0 { why: "" }, Effect::Reserved, "5.2, 5.4")]
#[case(Rule::IgnoredField { why: "" }, Effect::Ignored, "5.2, 5.4")]
#[case(Rule::Substream0Taken, Effect::Illegal(EventKind::F_STREAM_DISABLED), "7.3.7")]
#[case(Rule::NoSpan, Effect::Illegal(EventKind::C_BAD_STREAMID), "5.1, 7.3.3")]
#[case(Rule::WalksOff, Effect::FaultsLater(EventKind::F_TRANSLATION), "5.4.1.1")]
#[case(Rule::UpdateUncached, Effect::ImplementationDefined, "5.2, 5.4")]
#[case(Rule::AtsWithUnusedStall, Effect::ConstrainedUnpredictable, "5.2")]
fn effects(#[case] rule: Rule, #[case] effect: Effect, #[case] section: &str) {
    assert_eq!((rule.effect(), rule.section()), (effect, section));
}

#[test]
fn findings_say_field_value_and_rule() {
    let mut texts = Vec::new();
    let entry = STAGE1.with(field::S1CONTEXTPTR, 1 << 48).unwrap();
    legal::ste(&entry, &rich(), &mut |finding| {
        texts.push(format!("{finding} [{}]", finding.effect()));
    });
    let want = "S1ContextPtr = 0x1000000000000: the address does not fit into the 48 bits of IDR5.OAS \
                [refused with C_BAD_STE]";
    assert_eq!(texts, [want]);
}

#[test]
fn no_pattern_makes_a_judge_panic() {
    let smmus = [rich(), qemu(), wide(), lpa2(), version(0), SmmuView::new(IdRegisters::default())];
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..20_000 {
        let mut entry = Ste(std::array::from_fn(|_| next()));
        let context = Cd(std::array::from_fn(|_| next() | 1 << 31));
        entry.0[0] |= 9;
        let any = ids(|id| {
            (id.idr0, id.idr1, id.idr3) = (next() as u32, next() as u32, next() as u32);
            (id.idr5, id.aidr) = (next() as u32, next() as u32 & 0xff);
        });
        for smmu in [smmus[round % smmus.len()], any.with_el2(El2Regime::El2E2h)] {
            of_ste(entry, &smmu);
            of_cd(context, entry, &smmu);
        }
    }
}
