//! Configurations, each one odd in a way that its name tells.

use smmu_harness::explore::random::Random;
use smmu_types::regs::cr2;
use smmu_types::{Capabilities, Cd, IdRegisters, StreamId};

use super::bases::{self, Base};
use super::fields::{self, TriedField};

use super::{Configuration, L2_TABLE};

/// What the generator gives: configurations with their names.
type Named = Vec<(String, Configuration)>;

/// Configurations for an SMMU with these ID registers:
///
/// - the good ones;
/// - those that deviate in one field, or in two related fields;
/// - every geometry of stage 2, and stream tables of every kind;
/// - random ones with two or more odd fields, up to `n` in total.
///
/// The first three kinds are the same for every seed, and complete even if `n` is smaller. Equal
/// arguments give equal configurations.
pub(crate) fn generate(seed: u64, n: usize, id: &IdRegisters) -> Vec<(String, Configuration)> {
    let caps = Capabilities::decode(*id);
    let bits = bases::output_bits(&caps);
    let bases = bases::all(&caps);
    let mut all = Named::new();
    for base in &bases {
        all.push((base.name.to_owned(), base.configuration));
        single(base, bits, &mut all);
    }
    for (base, first, second) in RELATED {
        if let Some(base) = named(&bases, base) {
            related(base, first, second, bits, &mut all);
        }
    }
    if let Some(base) = named(&bases, "stage2") {
        geometry(base, &mut all);
    }
    for name in ["bypass", "stage1"] {
        if let Some(base) = named(&bases, name) {
            tables(base, caps.sid_bits, &mut all);
            // Without two levels `FMT` is reserved and every table is linear: the STE would not lie
            // where these put it.
            if caps.two_level_stream_table {
                two_level_tables(base, &mut all);
            }
        }
    }
    let mut random = Random::new(seed);
    // What an abort or an invalid STE ignores was tried above.
    let rich: Vec<&Base> = ["stage1", "stage2", "nested", "both-tables", "bypass"]
        .into_iter()
        .filter_map(|name| named(&bases, name))
        .collect();
    let mut pairs = true;
    while all.len() < n {
        let Some(base) = rich.get(random.below(rich.len())) else { break };
        let fields = if pairs { 2 } else { 3 + random.below(4) };
        all.push(several(base, fields, bits, &mut random));
        pairs = !pairs;
    }
    all
}

fn named<'a>(bases: &'a [Base], name: &str) -> Option<&'a Base> {
    bases.iter().find(|base| base.name == name)
}

/// The two structures that a field can be in.
#[derive(Clone, Copy)]
enum FieldHolder {
    Ste,
    Cd,
}

impl FieldHolder {
    const fn name(self) -> &'static str {
        match self {
            FieldHolder::Ste => "STE",
            FieldHolder::Cd => "CD",
        }
    }

    fn words(self, c: &Configuration) -> [u64; 8] {
        match self {
            FieldHolder::Ste => c.ste.0,
            FieldHolder::Cd => c.cd.unwrap_or_default().0,
        }
    }

    fn set(self, c: &mut Configuration, field: &TriedField, value: u64) {
        match self {
            FieldHolder::Ste => field.set(&mut c.ste.0, value),
            FieldHolder::Cd => field.set(&mut c.cd.get_or_insert(Cd::INVALID).0, value),
        }
    }
}

/// Every field that a configuration has.
fn fields_of(c: &Configuration) -> impl Iterator<Item = (FieldHolder, &'static TriedField)> {
    let cd = if c.cd.is_some() { fields::CD } else { &[] };
    let ste = fields::STE.iter().map(|field| (FieldHolder::Ste, field));
    ste.chain(cd.iter().map(|field| (FieldHolder::Cd, field)))
}

fn single(base: &Base, bits: u32, all: &mut Named) {
    for (part, field) in fields_of(&base.configuration) {
        // These bases are there for one structure only.
        if base.name == "both-tables" && matches!(part, FieldHolder::Ste) {
            continue;
        }
        for value in field.values(&part.words(&base.configuration), bits) {
            let mut c = base.configuration;
            part.set(&mut c, field, value);
            all.push((format!("{}: {}.{}={value:#x}", base.name, part.name(), field.name), c));
        }
    }
}

fn several(base: &Base, count: usize, bits: u32, random: &mut Random) -> (String, Configuration) {
    let mut c = base.configuration;
    let mut name = format!("{}:", base.name);
    let fields: Vec<(FieldHolder, &TriedField)> = fields_of(&c).collect();
    for _ in 0..count {
        let (part, field) = fields[random.below(fields.len())];
        let values = field.values(&part.words(&c), bits);
        let Some(value) = values.get(random.below(values.len())) else { continue };
        part.set(&mut c, field, *value);
        name += &format!(" {}.{}={value:#x}", part.name(), field.name);
    }
    (name, c)
}

/// Fields of which one decides what is right for the other.
const RELATED: &[(&str, &str, &str)] = &[
    ("stage1", "STE.S1Fmt", "STE.S1CDMax"),
    ("stage1", "STE.S1CDMax", "STE.S1DSS"),
    ("stage1", "STE.S1STALLD", "CD.S"),
    ("stage1", "CD.A", "CD.S"),
    ("stage1", "CD.A", "CD.R"),
    ("stage1", "CD.HD", "CD.HA"),
    ("stage1", "CD.EPD0", "CD.ENDI"),
    ("stage1", "CD.T0SZ", "CD.EPD0"),
    ("stage1", "CD.TG0", "CD.EPD0"),
    ("stage1", "CD.EPD0", "CD.TTB0"),
    ("stage1", "CD.IPS", "CD.TTB0"),
    ("both-tables", "CD.EPD0", "CD.EPD1"),
    ("both-tables", "CD.T1SZ", "CD.EPD1"),
    ("both-tables", "CD.EPD1", "CD.TTB1"),
    ("stage2", "STE.EATS", "STE.S2S"),
    ("nested", "STE.EATS", "STE.S2S"),
    ("stage2", "STE.S2HD", "STE.S2HA"),
    ("stage2", "STE.S2T0SZ", "STE.S2PS"),
    ("stage2", "STE.S2PS", "STE.S2TTB"),
];

fn related(base: &Base, first: &str, second: &str, bits: u32, all: &mut Named) {
    let find = |wanted: &str| {
        let mut fields = fields_of(&base.configuration);
        fields.find(|(part, field)| {
            wanted.strip_prefix(part.name()).and_then(|rest| rest.strip_prefix('.'))
                == Some(field.name)
        })
    };
    let (Some(first), Some(second)) = (find(first), find(second)) else { return };
    let values = |(part, field): (FieldHolder, &TriedField)| {
        field.values(&part.words(&base.configuration), bits)
    };
    for a in values(first) {
        for b in values(second) {
            let mut c = base.configuration;
            first.0.set(&mut c, first.1, a);
            second.0.set(&mut c, second.1, b);
            let ((p, f), (q, g)) = (first, second);
            let (p, q) = (p.name(), q.name());
            all.push((format!("{}: {p}.{}={a:#x} {q}.{}={b:#x}", base.name, f.name, g.name), c));
        }
    }
}

/// Granule, start level and size of stage 2, which must fit each other.
fn geometry(base: &Base, all: &mut Named) {
    let find = |name| fields::STE.iter().find(|field| field.name == name);
    let (Some(granule), Some(level), Some(size)) = (find("S2TG"), find("S2SL0"), find("S2T0SZ"))
    else {
        return;
    };
    for tg in 0..4 {
        for sl0 in 0..4 {
            for t0sz in [16, 20, 21, 22, 24, 25, 29, 30, 31, 33, 34, 35, 38, 39] {
                let mut c = base.configuration;
                granule.set(&mut c.ste.0, tg);
                level.set(&mut c.ste.0, sl0);
                size.set(&mut c.ste.0, t0sz);
                all.push((format!("stage2: S2TG={tg} S2SL0={sl0} S2T0SZ={t0sz}"), c));
            }
        }
    }
}

const LINEAR: u32 = 0;
const TWO_LEVEL: u32 = 1;

const fn strtab(format: u32, split: u32, log2: u32) -> u32 {
    format << 16 | split << 6 | log2
}

/// Linear stream tables: StreamIDs beyond the end, and the formats.
fn tables(base: &Base, sid_bits: u8, all: &mut Named) {
    let mut linear = |stream: u32, format: u32, log2: u32, cr2: u32, what: &str| {
        let mut c = base.configuration;
        (c.stream, c.strtab, c.cr2) = (StreamId(stream), strtab(format, 8, log2), cr2);
        let name = format!("{}: stream {stream:#x}, FMT={format} LOG2SIZE={log2}{what}", base.name);
        all.push((name, c));
    };
    let usual = base.configuration.cr2;
    let widest = u32::from(sid_bits);
    for stream in [0x08, 0xe8] {
        for log2 in [0, 1, 3, 4, 5, 7, 8, widest, widest + 1, 24] {
            linear(stream, LINEAR, log2, usual, "");
        }
    }
    for format in [2, 3] {
        linear(0x08, format, 8, usual, "");
        linear(0x08, format, 3, usual, "");
    }
    linear(0x08, LINEAR, 3, usual & !cr2::RECINVSID, ", RECINVSID=0");
}

/// Stream tables of two levels.
fn two_level_tables(base: &Base, all: &mut Named) {
    let mut two_level = |stream: u32, split: u32, log2: u32, l1: u64, what: &str| {
        let mut c = base.configuration;
        (c.stream, c.strtab) = (StreamId(stream), strtab(TWO_LEVEL, split, log2));
        c.l1 = Some(l1);
        let span = l1 & 0x1f;
        let name = format!(
            "{}: stream {stream:#x}, two levels, SPLIT={split} LOG2SIZE={log2} Span={span}{what}",
            base.name
        );
        all.push((name, c));
    };
    for (stream, split) in [(0x08, 6), (0x08, 8), (0xe8, 6), (0xe8, 8), (0xe8, 10)] {
        for span in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16, 31] {
            two_level(stream, split, 16, L2_TABLE.0 | span, "");
        }
    }
    // Spans that fit as well if a reserved split counts as 6.
    for (stream, split) in [(0x08, 0), (0x08, 7), (0xe8, 7), (0x08, 11), (0x08, 31), (0xe8, 31)] {
        for span in [1, 5, 7] {
            two_level(stream, split, 16, L2_TABLE.0 | span, "");
        }
    }
    for log2 in [3, 4, 6, 7, 8, 9, 17] {
        two_level(0x08, 8, log2, L2_TABLE.0 | 9, "");
    }
    for (bit, what) in [(5, "reserved[5]"), (56, "reserved[56]"), (63, "reserved[63]")] {
        two_level(0x08, 8, 16, L2_TABLE.0 | 9 | 1 << bit, &format!(", {what}=1"));
    }
    for bit in [6, 13, 44, 52, 55] {
        two_level(0x08, 8, 16, L2_TABLE.0 | 9 | 1 << bit, &format!(", L2Ptr[{bit}]=1"));
    }
}
