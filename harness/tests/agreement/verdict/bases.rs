//! Good configurations, from which the others deviate.

use smmu_types::{
    Cacheability, Capabilities, Cd, OutputSize, Shareability, ShareabilityOverride, Ste,
};

use super::{CDS, Configuration, S1_ROOT, S2_ROOT};

/// One good configuration.
pub(super) struct Base {
    pub(super) name: &'static str,
    pub(super) configuration: Configuration,
}

const WALK: u64 = Cacheability::WriteBack as u64
    | (Cacheability::WriteBack as u64) << 2
    | (Shareability::Inner as u64) << 4;
/// 39 bits of input.
const T0SZ: u64 = 25;
/// The 4 KiB granule in `TG1`, which has an encoding of its own.
const TG1_4K: u64 = 2;

/// `V` and `Config`.
const fn config(value: u64) -> u64 {
    1 | value << 1
}

/// Bits of an output address; a reserved size has become 48.
pub(super) fn output_bits(caps: &Capabilities) -> u32 {
    caps.output_size.unwrap_or(OutputSize::Bits48).bits()
}

/// The field of a CD or an STE that gives all of them, for tables of any granule.
fn output_size(caps: &Capabilities) -> u64 {
    let sizes = (0..=5).filter_map(OutputSize::from_encoding);
    let mut fits = sizes.filter(|size| size.bits() <= output_bits(caps));
    fits.next_back().map_or(0, |size| size as u64)
}

fn context() -> [u64; 8] {
    // Substream 0 is the default stream's, where there are substreams.
    [CDS.0, 2 | WALK << 2, 0, 0, 0, 0, 0, 0]
}

fn stage2(caps: &Capabilities) -> [u64; 8] {
    const START_LEVEL_1: u64 = 1;
    let w2 = 7
        | T0SZ << 32
        | START_LEVEL_1 << 38
        | WALK << 40
        | output_size(caps) << 48
        | 1 << 51 // S2AA64
        | 1 << 58; // S2R
    [0, 0, w2, S2_ROOT.0, 0, 0, 0, 0]
}

fn cd(caps: &Capabilities) -> Cd {
    let w0 = T0SZ
        | WALK << 8
        | 1 << 30 // EPD1
        | 1 << 31 // V
        | output_size(caps) << 32
        | 1 << 41 // AA64
        | 1 << 45 // R
        | 1 << 46 // A
        | 1 << 47 // ASET
        | 5 << 48; // ASID
    Cd([w0, S1_ROOT.0, 0, 0xff, 0, 0, 0, 0])
}

/// The same with `TTB1` in use as well.
fn both(cd: Cd) -> Cd {
    let [w0, w1, _, w3, ..] = cd.0;
    let upper = T0SZ << 16 | TG1_4K << 22 | WALK << 24;
    Cd([w0 & !(1 << 30) | upper, w1, S1_ROOT.0, w3, 0, 0, 0, 0])
}

fn ste(value: u64, parts: &[[u64; 8]]) -> Ste {
    let mut words = [config(value), 0, 0, 0, 0, 0, 0, 0];
    for part in parts {
        for (word, bits) in words.iter_mut().zip(part) {
            *word |= bits;
        }
    }
    // Where attributes cannot be overridden, this is what stands for leaving them alone.
    words[1] |= (ShareabilityOverride::Incoming as u64) << 44;
    Ste(words)
}

/// Those that an SMMU with both stages, the 4 KiB granule and 39 bits of address takes.
pub(super) fn all(caps: &Capabilities) -> Vec<Base> {
    let (context, stage2, cd) = (context(), stage2(caps), cd(caps));
    let base = |name, ste, cd| Base { name, configuration: Configuration::new(ste, cd) };
    vec![
        base("stage1", ste(5, &[context]), Some(cd)),
        base("stage2", ste(6, &[stage2]), None),
        base("nested", ste(7, &[context, stage2]), Some(cd)),
        base("bypass", ste(4, &[]), None),
        base("abort", ste(0, &[]), None),
        base("invalid", Ste::INVALID, None),
        base("both-tables", ste(5, &[context]), Some(both(cd))),
    ]
}
