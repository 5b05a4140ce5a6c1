//! Stream table entries and context descriptors.

use smmu_types::fields;
use smmu_types::{Cd, ShareabilityOverride, Ste, SteConfig};

use super::text_of;

/// Any 64 bytes are an STE; what it says depends on the used bits alone.
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
    let made = made.map(|made| (made.decode(), made.ats()));
    assert_eq!(made, Ok((config, ats)), "an encoder refuses or changes what was decoded");
}

/// Any 64 bytes are a CD; what it says depends on the used bits alone.
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
        let made =
            Cd::stage1(config).map(|made| (made.decode(), and(made.0, made.used()) == made.0));
        assert_eq!(
            made,
            Ok((Some(config), true)),
            "the encoder refuses or changes what was decoded"
        );
    }
}

fn and(words: [u64; 8], mask: [u64; 8]) -> [u64; 8] {
    std::array::from_fn(|at| words[at] & mask[at])
}
