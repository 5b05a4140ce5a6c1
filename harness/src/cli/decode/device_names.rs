//! Names the device of a StreamID by firmware tables: a device tree or the IORT.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use smmu_decode::StreamResolver;
use smmu_hw_mmio::firmware::fdt::DeviceTree;
use smmu_hw_mmio::firmware::iort::Iort;
use smmu_hw_mmio::firmware::{IdMapping, Stream, StreamNames, Target};
use smmu_types::{PhysAddr, SmmuId, StreamId};

use crate::cli::exit::Exit;
use crate::cli::lint::files::{self, FoundTable, TableKind};

/// Room for more IOMMUs than any machine has.
const IOMMUS: usize = 256;
/// An answer names no more devices.
const MOST_NAMED: usize = 8;
/// How many answers are remembered: a log has the same stream many times.
const REMEMBERED: usize = 4096;

/// Reads the tables of each path that `--dtb` and `--iort` name. A path may be a folder of tables.
///
/// # Errors
///
/// A path has no table of its kind, in the words of `lint`.
pub(super) fn tables(
    dtb: Option<&Path>,
    iort: Option<&Path>,
) -> Result<Vec<Vec<FoundTable>>, Exit> {
    let mut tables = Vec::new();
    for (path, kind) in [(dtb, TableKind::DeviceTree), (iort, TableKind::Iort)] {
        let Some(path) = path else { continue };
        let found = files::find(path);
        let (fitting, others): (Vec<_>, Vec<_>) =
            found.tables.into_iter().partition(|table| table.kind == kind);
        if fitting.is_empty() {
            let wrong = others.first().map(|table| match table.kind {
                TableKind::DeviceTree => format!("{}: is a device tree; give --dtb", table.name),
                TableKind::Iort => format!("{}: is an IORT; give --iort", table.name),
            });
            return Err(Exit::Usage(
                wrong.into_iter().chain(found.unread).collect::<Vec<_>>().join("; "),
            ));
        }
        found.unread.iter().for_each(|error| complain(error));
        tables.push(fitting);
    }
    Ok(tables)
}

/// Tells about a table that is left out beside others.
fn complain(error: &str) {
    // Without standard error, no reader is left.
    let _ = writeln!(io::stderr(), "error: {error}");
}

/// The devices behind the SMMUs of some tables.
#[derive(Debug)]
pub(super) struct DeviceNames<'a> {
    tables: Vec<Table<'a>>,
    answers: RefCell<HashMap<(String, StreamId), String>>,
}

struct Table<'a> {
    format: &'static str,
    names: Box<dyn StreamNames + 'a>,
    smmus: Vec<Smmu>,
    /// The streams of all devices.
    streams: Vec<Streams>,
}

#[derive(Debug)]
struct Smmu {
    id: SmmuId,
    /// `None` if the table describes the SMMU wrongly.
    base: Option<PhysAddr>,
    /// The path of the node in a device tree.
    path: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Streams {
    smmu: SmmuId,
    first: u32,
    last: u32,
}

impl Streams {
    fn of(mapping: &IdMapping) -> Option<Streams> {
        let Target::Smmu(smmu) = mapping.target else { return None };
        Some(Streams { smmu, first: mapping.output, last: mapping.last_output() })
    }
}

impl<'a> Table<'a> {
    fn read(table: &'a FoundTable) -> Result<Self, String> {
        let told = |error: &dyn fmt::Display| format!("{}: {error}", table.name);
        match table.kind {
            TableKind::DeviceTree => {
                let tree = DeviceTree::<IOMMUS>::with_room(&table.bytes);
                Ok(Self::of_tree(tree.map_err(|error| told(&error))?))
            }
            TableKind::Iort => {
                Ok(Self::of_iort(Iort::new(&table.bytes).map_err(|error| told(&error))?))
            }
        }
    }

    fn of_tree(tree: DeviceTree<'a, IOMMUS>) -> Self {
        let smmus = (0..).map(SmmuId).zip(tree.smmus()).map(|(id, smmu)| Smmu {
            id,
            base: smmu.ok().map(|smmu| smmu.base),
            path: smmu.ok().map(|smmu| tree.path_at(smmu.at).to_string()),
        });
        let smmus = smmus.collect();
        let mut streams = Vec::new();
        for device in tree.devices() {
            let mappings = tree.mappings(&device).filter_map(Result::ok);
            streams.extend(mappings.filter_map(|mapping| Streams::of(&mapping)));
        }
        Table { format: "device tree", names: Box::new(tree), smmus, streams }
    }

    fn of_iort(iort: Iort<'a>) -> Self {
        let smmus = (0..).map(SmmuId).zip(iort.smmus());
        let smmus =
            smmus.map(|(id, smmu)| Smmu { id, base: smmu.ok().map(|smmu| smmu.base), path: None });
        let mut streams = Vec::new();
        for device in iort.devices() {
            let mappings = iort.mappings(&device).filter_map(Result::ok);
            streams.extend(mappings.filter_map(|mapping| Streams::of(&mapping)));
        }
        Table { format: "IORT", names: Box::new(iort), smmus: smmus.collect(), streams }
    }

    /// The SMMUs of this name in a log: by the path or the name of the node, or else by the address.
    fn named(&self, name: &str) -> Vec<&Smmu> {
        let leaf = |path: &str| path.rsplit('/').next() == Some(name);
        let is_node =
            |smmu: &&Smmu| smmu.path.as_deref().is_some_and(|path| path == name || leaf(path));
        let nodes: Vec<&Smmu> = self.smmus.iter().filter(is_node).collect();
        if !nodes.is_empty() {
            return nodes;
        }
        let base = address(name);
        self.smmus.iter().filter(|smmu| base.is_some() && smmu.base == base).collect()
    }

    fn has(&self, smmu: SmmuId, stream: StreamId) -> bool {
        let holds = |one: &Streams| one.smmu == smmu && (one.first..=one.last).contains(&stream.0);
        self.streams.iter().any(holds)
    }

    /// The name of the device, if one has the stream.
    fn device(&self, smmu: SmmuId, stream: StreamId) -> Option<String> {
        let mut name = String::new();
        let stream = Stream { smmu, id: stream };
        // A `String` takes all.
        self.names.write_name(stream, &mut name).unwrap_or(false).then_some(name)
    }
}

impl fmt::Debug for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("format", &self.format)
            .field("smmus", &self.smmus)
            .finish_non_exhaustive()
    }
}

/// The base address in the name that a log gives an SMMU: `smmuv3@a0000000`, `fd800000.iommu`,
/// `SMMU at 0xfd800000`. `arm-smmu-v3.4.auto` has none.
fn address(name: &str) -> Option<PhysAddr> {
    let hex = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(text.len());
        u64::from_str_radix(text.get(..end)?, 16).ok().map(PhysAddr)
    };
    if let Some((_, unit)) = name.rsplit_once('@') {
        return hex(unit);
    }
    if let Some((_, digits)) = name.rsplit_once(" 0x") {
        return hex(digits);
    }
    let (digits, _) = name.split_once('.')?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| hex(digits)).flatten()
}

impl<'a> DeviceNames<'a> {
    /// Reads the tables of each path. A broken table does not hide the others of its folder.
    ///
    /// # Errors
    ///
    /// All tables of a path are broken, in the words of `lint`, or have no SMMUv3.
    pub(super) fn new(paths: &'a [Vec<FoundTable>]) -> Result<Self, Exit> {
        let mut tables = Vec::new();
        for path in paths {
            let (mut read, mut errors) = (Vec::new(), Vec::new());
            for table in path {
                match Table::read(table) {
                    Ok(one) if one.smmus.is_empty() => {
                        errors.push(format!(
                            "{}: no SMMUv3 in it, so it names no device",
                            table.name
                        ));
                    }
                    Ok(one) => read.push(one),
                    Err(error) => errors.push(error),
                }
            }
            if read.is_empty() {
                return Err(Exit::Usage(errors.join("; ")));
            }
            errors.iter().for_each(|error| complain(error));
            tables.append(&mut read);
        }
        Ok(DeviceNames { tables, answers: RefCell::default() })
    }

    fn answer(&self, name: &str, stream: StreamId) -> String {
        let all = || {
            self.tables.iter().flat_map(|table| table.smmus.iter().map(move |smmu| (table, smmu)))
        };
        let named: Vec<(&Table<'_>, &Smmu)> = self
            .tables
            .iter()
            .flat_map(|table| table.named(name).into_iter().map(move |smmu| (table, smmu)))
            .collect();
        let asked = match (named.is_empty(), address(name)) {
            (false, _) => named,
            (true, Some(PhysAddr(base))) => {
                return format!("unknown: the tables have no SMMU at {base:#x}");
            }
            (true, None) => all().collect(),
        };
        // With one SMMU, the device alone is the answer.
        let place = |smmu: &Smmu| match (asked.len(), smmu.base) {
            (1, _) => String::new(),
            (_, Some(PhysAddr(base))) => format!(" behind the SMMU at {base:#x}"),
            (_, None) => format!(" behind {}, whose address the table gives wrongly", smmu.id),
        };
        let having: Vec<_> =
            asked.iter().filter(|(table, smmu)| table.has(smmu.id, stream)).collect();
        let mut devices: Vec<String> = having
            .iter()
            .take(MOST_NAMED)
            .filter_map(|(table, smmu)| {
                let device = table.device(smmu.id, stream)?;
                Some(format!("{device}{} ({})", place(smmu), table.format))
            })
            .collect();
        if let Some(more) = having.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
            devices.push(format!("or {more} more"));
        }
        match (devices.as_slice(), asked.as_slice()) {
            ([], [(table, smmu)]) => {
                let base = smmu.base.map_or_else(
                    || smmu.id.to_string(),
                    |PhysAddr(base)| format!("the SMMU at {base:#x}"),
                );
                format!("none: no device has StreamID {stream} behind {base} ({})", table.format)
            }
            ([], smmus) => {
                format!("none: no device has StreamID {stream} behind any of {} SMMUs", smmus.len())
            }
            ([one], _) => one.clone(),
            (several, _) => format!("one of: {}", several.join(", ")),
        }
    }
}

impl StreamResolver for DeviceNames<'_> {
    fn device(&self, smmu: &str, stream: StreamId) -> Option<String> {
        let key = (smmu.to_owned(), stream);
        if let Some(known) = self.answers.borrow().get(&key) {
            return Some(known.clone());
        }
        let answer = self.answer(smmu, stream);
        let mut answers = self.answers.borrow_mut();
        if answers.len() < REMEMBERED {
            answers.insert(key, answer.clone());
        }
        Some(answer)
    }
}
