//! Counts what orders memory in the code of the driver's hot paths, as it is for AArch64.
//!
//! An x86 has most of it for nothing, so no measurement there shows one too many. The counts are of
//! the code, not of a run: a call takes as many, or fewer, and a loop its own again in each round. [`HOT`]
//! has the most that each path may have.

use std::fmt;

use object::LittleEndian;
use object::elf::{FileHeader64, SHT_SYMTAB};
use object::read::elf::{FileHeader, SectionHeader, Sym};

/// Instructions that order memory accesses, or change memory at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// `DMB` and `DSB`.
    pub(crate) barriers: usize,
    /// `LDAR`, `LDAPR` and `LDAXR`.
    pub(crate) acquires: usize,
    /// `STLR` and `STLXR`.
    pub(crate) releases: usize,
    /// Read-modify-writes: a store of an exclusive pair, or one instruction of `FEAT_LSE`.
    pub(crate) changes: usize,
}

impl Counts {
    const fn new(barriers: usize, acquires: usize, releases: usize, changes: usize) -> Self {
        Counts { barriers, acquires, releases, changes }
    }

    fn count(&mut self, class: Class) {
        match class {
            Class::Barrier => self.barriers += 1,
            Class::Acquire => self.acquires += 1,
            Class::Release => self.releases += 1,
            Class::Change { acquires, releases } => {
                self.changes += 1;
                self.acquires += usize::from(acquires);
                self.releases += usize::from(releases);
            }
        }
    }

    /// What an instruction sequence has.
    fn of(body: &[u8]) -> Self {
        let mut counts = Counts::default();
        for word in body.as_chunks::<4>().0 {
            if let Some(class) = class(u32::from_le_bytes(*word)) {
                counts.count(class);
            }
        }
        counts
    }

    fn by(self, other: Self, f: impl Fn(usize, usize) -> usize) -> Self {
        Counts {
            barriers: f(self.barriers, other.barriers),
            acquires: f(self.acquires, other.acquires),
            releases: f(self.releases, other.releases),
            changes: f(self.changes, other.changes),
        }
    }

    fn and(self, other: Self) -> Self {
        self.by(other, |a, b| a + b)
    }

    fn worse(self, other: Self) -> Self {
        self.by(other, usize::max)
    }

    fn is_within(self, most: Counts) -> bool {
        self.barriers <= most.barriers
            && self.acquires <= most.acquires
            && self.releases <= most.releases
            && self.changes <= most.changes
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { barriers, acquires, releases, changes } = self;
        write!(
            f,
            "{barriers} barriers, {acquires} acquires, {releases} releases, {changes} atomic changes"
        )
    }
}

/// What an instruction does for the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Barrier,
    Acquire,
    Release,
    Change { acquires: bool, releases: bool },
}

/// The class of an instruction word (Arm ARM, C4.1.94: barriers, exclusives, ordered accesses and
/// atomics). A load of an exclusive pair counts by its acquire alone: the store is the change.
const fn class(word: u32) -> Option<Class> {
    // The masks leave the two bits of the size out.
    match word {
        // DSB, DMB: CRm says which.
        w if w & 0xffff_f0ff == 0xd503_309f || w & 0xffff_f0ff == 0xd503_30bf => {
            Some(Class::Barrier)
        }
        // LDAR, LDAPR, and LDAXR of an exclusive pair.
        w if w & 0x3fff_fc00 == 0x08df_fc00 => Some(Class::Acquire),
        w if w & 0x3fff_fc00 == 0x38bf_c000 => Some(Class::Acquire),
        w if w & 0x3fff_fc00 == 0x085f_fc00 => Some(Class::Acquire),
        // STLR.
        w if w & 0x3fff_fc00 == 0x089f_fc00 => Some(Class::Release),
        // STXR, STLXR.
        w if w & 0x3fe0_fc00 == 0x0800_7c00 => {
            Some(Class::Change { acquires: false, releases: false })
        }
        w if w & 0x3fe0_fc00 == 0x0800_fc00 => {
            Some(Class::Change { acquires: false, releases: true })
        }
        // CAS: bit 22 is its acquire, bit 15 its release.
        w if w & 0x3fa0_7c00 == 0x08a0_7c00 => {
            Some(Class::Change { acquires: w & 1 << 22 != 0, releases: w & 1 << 15 != 0 })
        }
        // SWP, LDADD and the like: bit 23 is the acquire, bit 22 the release.
        w if w & 0x3f20_0c00 == 0x3820_0000 => {
            Some(Class::Change { acquires: w & 1 << 23 != 0, releases: w & 1 << 22 != 0 })
        }
        _ => None,
    }
}

/// A hot path, and the most that its code may have.
#[derive(Debug)]
struct Hot {
    name: &'static str,
    /// Its functions: parts of their symbols. A compiler may have put all but the first one in line.
    functions: &'static [&'static [&'static str]],
    most: Counts,
}

/// The paths, as docs/performance.md states them.
const HOT: [Hot; 2] = [
    Hot {
        name: "push",
        functions: &[&["smmu_cmdq", "7produce17h"], &["ProdOwner", "6commit17h"]],
        most: Counts::new(6, 6, 1, 3),
    },
    Hot {
        name: "walk",
        functions: &[&["InvArray", "4walk17h"], &["fill_with_tags"], &["fill_with_substreams"]],
        most: Counts::new(0, 15, 0, 0),
    },
];

/// A path and what its code has.
#[derive(Debug)]
pub(crate) struct Counted {
    name: &'static str,
    counts: Counts,
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.counts)
    }
}

/// Counts each path of [`HOT`] in an ELF file with symbols; the error says which one is missing, or has
/// too many.
pub(crate) fn check(file: &[u8]) -> Result<Vec<Counted>, String> {
    HOT.iter().map(|hot| check_one(file, hot)).collect()
}

fn check_one(file: &[u8], hot: &Hot) -> Result<Counted, String> {
    let Hot { name, functions, most } = *hot;
    let mut counts = Counts::default();
    for (n, function) in functions.iter().enumerate() {
        let bodies = bodies(file, function)?;
        if n == 0 && bodies.is_empty() {
            return Err(format!("{name}: no function has {function:?} in its name"));
        }
        // A generic function has an instance for each use; the worst one counts.
        let instances = bodies.iter().map(|body| Counts::of(body));
        counts = counts.and(instances.fold(Counts::default(), Counts::worse));
    }
    if !counts.is_within(most) {
        return Err(format!(
            "{name} has {counts}, of {most} at most; take one out, or state the new count in \
             docs/performance.md and in xtask/src/board/barriers.rs"
        ));
    }
    // No hot path is without an acquire: these would be other functions.
    if counts.acquires == 0 {
        return Err(format!("{name} has no acquire; are those its functions?"));
    }
    Ok(Counted { name, counts })
}

/// The code of all functions whose symbol contains all of `parts`.
fn bodies<'f>(file: &'f [u8], parts: &[&str]) -> Result<Vec<&'f [u8]>, String> {
    let broken = |error: object::Error| format!("broken ELF: {error}");
    let endian = LittleEndian;
    let header = FileHeader64::<LittleEndian>::parse(file).map_err(broken)?;
    let sections = header.sections(endian, file).map_err(broken)?;
    let symbols = sections.symbols(endian, file, SHT_SYMTAB).map_err(broken)?;
    let mut found = Vec::new();
    for (index, symbol) in symbols.enumerate() {
        let name = symbol.name(endian, symbols.strings()).map_err(broken)?;
        let name = String::from_utf8_lossy(name);
        if symbol.st_size(endian) == 0 || !parts.iter().all(|part| name.contains(part)) {
            continue;
        }
        let section = symbols.symbol_section(endian, symbol, index).map_err(broken)?;
        let Some(section) = section else { continue };
        let section = sections.section(section).map_err(broken)?;
        let (start, code) = (section.sh_addr.get(endian), section.data(endian, file));
        let code = code.map_err(broken)?;
        let offset = symbol.st_value(endian).wrapping_sub(start);
        let body = usize::try_from(offset).ok().and_then(|from| {
            let size = usize::try_from(symbol.st_size(endian)).ok()?;
            code.get(from..from.checked_add(size)?)
        });
        found.push(body.ok_or_else(|| format!("{name} lies outside of its section"))?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_have_their_class() {
        let change = |acquires, releases| Some(Class::Change { acquires, releases });
        // As an assembler encodes them.
        for (word, name, want) in [
            (0xd503_3bbf, "dmb ish", Some(Class::Barrier)),
            (0xd503_32bf, "dmb oshst", Some(Class::Barrier)),
            (0xd503_3f9f, "dsb sy", Some(Class::Barrier)),
            (0xd503_3fdf, "isb", None),
            (0xd503_201f, "nop", None),
            (0xd503_203f, "yield", None),
            (0xc8df_fc20, "ldar x0, [x1]", Some(Class::Acquire)),
            (0x08df_fc20, "ldarb w0, [x1]", Some(Class::Acquire)),
            (0xf8bf_c020, "ldapr x0, [x1]", Some(Class::Acquire)),
            (0xc85f_fc20, "ldaxr x0, [x1]", Some(Class::Acquire)),
            (0xc85f_7c20, "ldxr x0, [x1]", None),
            (0xc89f_fc20, "stlr x0, [x1]", Some(Class::Release)),
            (0x889f_fc20, "stlr w0, [x1]", Some(Class::Release)),
            (0xc802_7c20, "stxr w2, x0, [x1]", change(false, false)),
            (0xc802_fc20, "stlxr w2, x0, [x1]", change(false, true)),
            (0xc8a2_7c20, "cas x2, x0, [x1]", change(false, false)),
            (0xc8e2_7c20, "casa x2, x0, [x1]", change(true, false)),
            (0xc8e2_fc20, "casal x2, x0, [x1]", change(true, true)),
            (0xf8a2_0020, "ldadda x2, x0, [x1]", change(true, false)),
            (0xf862_8020, "swpl x2, x0, [x1]", change(false, true)),
            (0xf940_0020, "ldr x0, [x1]", None),
            (0xf900_0020, "str x0, [x1]", None),
            (0xf862_6820, "ldr x0, [x1, x2]", None),
            (0xa940_0440, "ldp x0, x1, [x2]", None),
        ] {
            assert_eq!(class(word), want, "{name}");
        }
    }

    #[test]
    fn counts_have_an_order_of_their_own() {
        let most = Counts::new(1, 2, 3, 4);
        assert!(most.is_within(most) && Counts::default().is_within(most));
        for more in [(2, 0, 0, 0), (0, 3, 0, 0), (0, 0, 4, 0), (0, 0, 0, 5)] {
            assert!(!Counts::new(more.0, more.1, more.2, more.3).is_within(most), "{more:?}");
        }
    }

    #[test]
    fn counts_of_a_body_add_up_and_the_worst_instance_counts() {
        // dmb ish; ldar; casal; add.
        let words = [0xd503_3bbf_u32, 0xc8df_fc20, 0xc8e2_fc20, 0x8b01_0000];
        let body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let counts = Counts::of(&body);
        assert_eq!(counts, Counts::new(1, 2, 1, 1));
        assert_eq!(counts.and(counts), Counts::new(2, 4, 2, 2));
        assert_eq!(counts.worse(Counts::new(0, 3, 0, 2)), Counts::new(1, 3, 1, 2));
        let text = "1 barriers, 2 acquires, 1 releases, 1 atomic changes";
        assert_eq!(counts.to_string(), text);
    }

    /// An ELF file with one function.
    fn elf(name: &str, words: &[u32]) -> Vec<u8> {
        let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let strings = [&b"\0"[..], name.as_bytes(), b"\0"].concat();
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        // A relocatable file for AArch64. Behind the header lie code, strings, symbols, sections.
        for half in [1u16, 183] {
            file.extend(half.to_le_bytes());
        }
        file.extend(1u32.to_le_bytes());
        let at = [64, 64 + code.len(), 64 + code.len() + strings.len()];
        let sections = at[2] + 48;
        for word in [0, 0, sections as u64] {
            file.extend(word.to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        // The strings are also the names of sections.
        for half in [64u16, 56, 0, 64, 4, 2] {
            file.extend(half.to_le_bytes());
        }
        file.extend(&code);
        file.extend(&strings);
        file.resize(at[2] + 24, 0);
        // The symbol: name 1, a global function, section 1, address 0x1000.
        file.extend(1u32.to_le_bytes());
        file.extend([0x12, 0]);
        file.extend(1u16.to_le_bytes());
        file.extend(0x1000u64.to_le_bytes());
        file.extend((code.len() as u64).to_le_bytes());
        file.resize(sections + 64, 0);
        for (kind, address, offset, size, link, entry) in [
            (1u32, 0x1000u64, at[0], code.len(), 0u32, 0u64),
            (3, 0, at[1], strings.len(), 0, 0),
            (2, 0, at[2], 48, 2, 24),
        ] {
            file.extend(0u32.to_le_bytes());
            file.extend(kind.to_le_bytes());
            for word in [0, address, offset as u64, size as u64] {
                file.extend(word.to_le_bytes());
            }
            file.extend(link.to_le_bytes());
            file.extend(1u32.to_le_bytes());
            for word in [1, entry] {
                file.extend(word.to_le_bytes());
            }
        }
        file
    }

    const PATH: Hot = Hot {
        name: "path",
        functions: &[&["hot", "path"], &["in_line"]],
        most: Counts::new(1, 2, 1, 1),
    };

    #[test]
    fn a_path_may_have_no_more_than_stated() {
        let words = [0xd503_3bbf, 0xc8df_fc20, 0xc8e2_fc20];
        let counted = check_one(&elf("hot_path", &words), &PATH).unwrap();
        assert_eq!(counted.counts, PATH.most);
        let more = [&words[..], &[0xd503_3bbf]].concat();
        let error = check_one(&elf("hot_path", &more), &PATH).unwrap_err();
        assert!(error.contains("path has 2 barriers"), "{error}");
    }

    #[test]
    fn a_file_without_the_functions_is_refused() {
        let error = check_one(&elf("cold_path", &[0xc8df_fc20]), &PATH).unwrap_err();
        assert!(error.contains("no function has"), "{error}");
        let error = check_one(&elf("hot_path", &[0xd503_201f]), &PATH).unwrap_err();
        assert!(error.contains("no acquire"), "{error}");
        assert!(check(b"").unwrap_err().contains("broken ELF"));
    }
}
