//! Stream table entries and context descriptors.

use smmu_types::legal::{
    self, El2Regime, Finding, Partitions, SmmuView, StreamLookup, TranslatedTraffic,
};
use smmu_types::{Cd, ContextTableDescriptor, FieldError, ShareabilityOverride, Ste, SteConfig};
use smmu_types::{StreamId, StreamTableDescriptor, SubstreamId, fields};

use super::sizes::id_registers;
use super::text_of;

/// Any 64 bytes decode as an STE, and only the used bits decide the result.
pub(crate) fn ste(words: [u64; 8]) {
    let ste = Ste(words);
    let config = ste.decode();
    text_of(&ste);
    for key in [fields::ste::V, fields::ste::CONFIG, fields::ste::S2VMID] {
        assert_eq!(ste.with(key, ste.get(key)), Ok(ste));
    }
    assert_eq!(config == SteConfig::Invalid, ste.get(fields::ste::V) == 0);

    let used = Ste(and(words, ste.used()));
    assert_eq!(used.decode(), config, "an unused bit changes the meaning");
    assert_eq!(used.used(), ste.used(), "an unused bit decides what is used");
    if config != SteConfig::Invalid {
        assert_eq!(ste.used()[0] & 0xf, 0xf, "V and Config are used");
    }

    let (ats, share) = (ste.ats(), ShareabilityOverride::Incoming);
    let made = match config {
        SteConfig::Stage1(table) => Ste::stage1(table, ats, share),
        SteConfig::Stage2(stage2) => Ste::stage2(stage2, ats, share),
        _ => return,
    };
    match made {
        Ok(made) => assert_eq!((made.decode(), made.ats()), (config, ats)),
        Err(error) => assert!(matches!(error, FieldError::Reserved { .. }), "{error} in {ste:?}"),
    }
}

/// Any 64 bytes decode as a CD, and only the used bits decide the result.
pub(crate) fn cd(words: [u64; 8]) {
    let cd = Cd(words);
    let config = cd.decode();
    text_of(&cd);
    assert!(cd.is_valid() || config.is_none());
    let _ = (cd.records(), cd.aborts());

    let used = Cd(and(words, cd.used()));
    assert_eq!(used.decode(), config, "an unused bit changes the meaning");
    assert_eq!(used.used(), cd.used(), "an unused bit decides what is used");
    assert_eq!(used.is_valid(), cd.is_valid());

    if let Some(config) = config {
        assert_eq!(config.asid, cd.asid());
        match Cd::stage1(config) {
            Ok(made) => {
                assert_eq!(made.decode(), Some(config));
                assert_eq!(and(made.0, made.used()), made.0, "a bit that is set is not used");
            }
            Err(error) => assert_eq!(error, FieldError::Reserved { field: "SH0", value: 1 }),
        }
    }
}

/// Level-1 descriptors: a constructor makes each decoded one again.
pub(crate) fn descriptors(word: u64) {
    let stream = StreamTableDescriptor([word]);
    text_of(&stream);
    if let Some((l2, log2)) = stream.array() {
        assert!(log2 <= StreamTableDescriptor::MAX_LOG2);
        let made = StreamTableDescriptor::new(l2, log2).map(|made| made.array());
        assert_eq!(made, Ok(Some((l2, log2))));
    }
    let context = ContextTableDescriptor([word]);
    text_of(&context);
    if let Some(l2) = context.table() {
        assert_eq!(ContextTableDescriptor::new(l2).map(|made| made.table()), Ok(Some(l2)));
    }
}

/// Structures for the rules, and any ID registers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Judgement {
    pub(crate) ste: [u64; 8],
    pub(crate) cd: [u64; 8],
    pub(crate) descriptor: u64,
    pub(crate) id: [u32; 9],
    pub(crate) strtab_base_cfg: u32,
    pub(crate) stream: u32,
    pub(crate) substream: u32,
    /// Bits that select the case.
    pub(crate) choices: u8,
}

/// The rules accept any structure. Each finding prints its field, value, rule and remedy.
pub(crate) fn legal(case: Judgement) {
    let chosen = |bit: u8| case.choices >> bit & 1 != 0;
    let smmu = SmmuView::new(id_registers(case.id))
        .with_el2(if chosen(0) { El2Regime::El2E2h } else { El2Regime::El2 })
        .with_translated(if chosen(1) {
            TranslatedTraffic::Checked
        } else {
            TranslatedTraffic::Passes
        })
        .with_partitions(Partitions {
            partid: case.substream as u16,
            pmg: (case.substream >> 16) as u8,
        });
    let (ste, cd) = (Ste(case.ste), Cd(case.cd));
    let descriptor = [case.descriptor];
    let substream = if chosen(2) { SubstreamId::new(case.substream) } else { None };
    let table = StreamLookup {
        config: case.strtab_base_cfg,
        descriptor: chosen(3).then_some(StreamTableDescriptor(descriptor)),
    };

    let on = |words: &[u64], finding: Finding| {
        let field = finding.field();
        assert_eq!(finding.value(), field.get(words), "{finding}");
        assert!(finding.layout().field(field.name()).is_some(), "{finding}");
        let text = text_of(&finding);
        assert!(text.contains(field.name()), "{text:?}");
        text_of(&finding.rule());
        assert!(!finding.rule().section().is_empty() && !finding.rule().remedy().is_empty());
    };
    legal::ste(&ste, &smmu, &mut |finding| on(&ste.0, finding));
    legal::cd(&cd, &ste, &smmu, &mut |finding| on(&cd.0, finding));
    legal::substream_id(substream, &ste, &smmu, &mut |finding| on(&ste.0, finding));
    let context = ContextTableDescriptor(descriptor);
    legal::context_table(context, &ste, &smmu, &mut |finding| on(&descriptor, finding));
    legal::stream_id(StreamId(case.stream), table, &smmu, &mut |finding| {
        text_of(&finding);
        text_of(&finding.rule());
    });
}

fn and(words: [u64; 8], mask: [u64; 8]) -> [u64; 8] {
    std::array::from_fn(|at| words[at] & mask[at])
}
