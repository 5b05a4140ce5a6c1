//! The SMMUs that firmware tables and the kernel's command line name, and the streams behind them.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use smmu_hw_mmio::Coherency;
use smmu_hw_mmio::firmware::fdt::{DeviceTree, FdtError};
use smmu_hw_mmio::firmware::iort::{Iort, IortError};
use smmu_hw_mmio::firmware::{FirmwareSmmu, REGISTERS_SIZE, StreamNames};
use smmu_types::{SmmuId, StreamId};

use super::pci_functions::PciFunction;
use super::system_files::SystemFiles;
use crate::machine::Region;
use crate::scenarios::further_smmus::{Further, WrongFurther, further_smmus};

/// The kernel's copy of the device tree.
pub const KERNEL_TREE: &str = "/sys/firmware/fdt";
/// The kernel's copy of IORT.
pub const KERNEL_IORT: &str = "/sys/firmware/acpi/tables/IORT";

/// Why the SMMUs are not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// There is no table.
    #[error(
        "the kernel shows neither {KERNEL_IORT} nor {KERNEL_TREE}; run as root, or name a file \
         with --iort or --dtb"
    )]
    NoTable,
    /// The device tree is wrong.
    #[error("device tree: {0}")]
    Tree(#[from] FdtError),
    /// IORT is wrong.
    #[error("IORT: {0}")]
    Iort(#[from] IortError),
    /// The kernel's command line is wrong.
    #[error("/proc/cmdline: {0}")]
    Line(#[from] WrongFurther),
}

/// The bytes of a firmware table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableBytes<'a> {
    /// A flattened device tree.
    Tree(&'a [u8]),
    /// IORT.
    Iort(&'a [u8]),
}

enum Table<'a> {
    Tree(Box<DeviceTree<'a>>),
    Iort(Iort<'a>),
}

/// An SMMU that a table or the command line names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownSmmu {
    /// Its registers.
    pub registers: Region,
    /// What the table says of coherency. `None` for one of the command line.
    pub coherency: Option<Coherency>,
    /// Who names it.
    pub named_by: NamedBy,
}

/// Who names an SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// The firmware table.
    Table(SmmuId),
    /// The firmware table, in a node that is disabled.
    DisabledNode(SmmuId),
    /// The kernel's command line; the number counts the SMMUs there.
    CommandLine(usize),
}

impl fmt::Display for KnownSmmu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Region { base, bytes } = self.registers;
        let by = match self.named_by {
            NamedBy::Table(_) => "named by the firmware table",
            NamedBy::DisabledNode(_) => "named by a node that is disabled",
            NamedBy::CommandLine(_) => "named by the kernel's command line",
        };
        write!(f, "SMMU at {base:#x}, {bytes:#x} bytes of registers, {by}")
    }
}

/// The SMMUs of a machine.
pub struct KnownSmmus<'a> {
    table: Table<'a>,
    further: Vec<Further>,
    all: Vec<KnownSmmu>,
}

impl fmt::Debug for KnownSmmus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownSmmus").field("all", &self.all).finish_non_exhaustive()
    }
}

impl<'a> KnownSmmus<'a> {
    /// Reads a table and the kernel's command line.
    ///
    /// # Errors
    ///
    /// One of them is wrong.
    pub fn read(bytes: TableBytes<'a>, command_line: &str) -> Result<Self, TableError> {
        let mut all = Vec::new();
        let mut add = |smmu: FirmwareSmmu| {
            let registers = Region { base: smmu.base.0, bytes: smmu.registers_size() };
            let named_by = match smmu.enabled {
                true => NamedBy::Table(smmu.id),
                false => NamedBy::DisabledNode(smmu.id),
            };
            all.push(KnownSmmu { registers, coherency: Some(smmu.coherency), named_by });
        };
        let table = match bytes {
            TableBytes::Tree(bytes) => {
                let tree = DeviceTree::new(bytes)?;
                tree.smmus().try_for_each(|smmu| smmu.map(&mut add))?;
                Table::Tree(Box::new(tree))
            }
            TableBytes::Iort(bytes) => {
                let iort = Iort::new(bytes)?;
                iort.smmus().try_for_each(|smmu| smmu.map(&mut add))?;
                Table::Iort(iort)
            }
        };
        let further = further_smmus(command_line)?;
        for (n, one) in further.iter().enumerate() {
            // A table that names it too knows more of it.
            if all.iter().all(|known| known.registers.base != one.base) {
                let registers = Region { base: one.base, bytes: REGISTERS_SIZE };
                let named_by = NamedBy::CommandLine(n);
                all.push(KnownSmmu { registers, coherency: None, named_by });
            }
        }
        Ok(KnownSmmus { table, further, all })
    }

    /// All of them: those of the table first.
    #[must_use]
    pub fn all(&self) -> &[KnownSmmu] {
        &self.all
    }

    fn with(&self, named_by: impl Fn(NamedBy) -> bool) -> Option<&KnownSmmu> {
        self.all.iter().find(|known| named_by(known.named_by))
    }

    fn of_table(&self, id: SmmuId) -> Option<&KnownSmmu> {
        self.with(|by| [NamedBy::Table(id), NamedBy::DisabledNode(id)].contains(&by))
    }

    /// The SMMU that a PCI function is behind, and its stream there. The command line goes before
    /// the table.
    ///
    /// # Errors
    ///
    /// The entry of the table that counts is wrong.
    pub fn stream_of(
        &self,
        function: &PciFunction,
    ) -> Result<Option<(&KnownSmmu, StreamId)>, TableError> {
        let id = u32::from(function.id);
        if function.segment == 0
            && let Some(n) = self.further.iter().position(|smmu| smmu.ids.contains(&id))
        {
            let base = self.further.get(n).map(|smmu| smmu.base);
            let known = self.all.iter().find(|known| Some(known.registers.base) == base);
            return Ok(known.map(|known| (known, StreamId(id))));
        }
        let stream = match &self.table {
            Table::Iort(iort) => iort.stream_of_request(function.segment, function.id)?,
            Table::Tree(tree) => {
                let node = function.host_bridge.as_deref().and_then(|path| {
                    tree.devices().find(|device| device.path().to_string() == path)
                });
                match node {
                    Some(node) => tree.stream_of(&node, function.id)?,
                    None => None,
                }
            }
        };
        Ok(stream.and_then(|stream| Some((self.of_table(stream.smmu)?, stream.id))))
    }

    /// The devices of the table that are no PCI host bridge, each with an SMMU that it is behind:
    /// the path of the node, or the name of the component.
    pub(super) fn other_devices(&self) -> Vec<(String, &KnownSmmu)> {
        let mut found = Vec::new();
        let mut add = |name: String, mappings: &mut dyn Iterator<Item = SmmuId>| {
            for id in mappings {
                found.extend(self.of_table(id).map(|known| (name.clone(), known)));
            }
        };
        match &self.table {
            Table::Tree(tree) => {
                for device in tree.devices().filter(|device| !device.has_map()) {
                    let mappings = tree.mappings(&device).filter_map(Result::ok);
                    let mut smmus = mappings.filter_map(|mapping| smmu_of(mapping.target));
                    add(device.path().to_string(), &mut smmus);
                }
            }
            Table::Iort(iort) => {
                for device in iort.devices().filter(|device| device.segment().is_none()) {
                    let Ok(Some(name)) = device.name() else { continue };
                    let mappings = iort.mappings(&device).filter_map(Result::ok);
                    let mut smmus = mappings.filter_map(|mapping| smmu_of(mapping.target));
                    add(String::from(name), &mut smmus);
                }
            }
        }
        found.dedup();
        found
    }

    /// The name of a stream's device in the table.
    #[must_use]
    pub fn name_of(&self, id: SmmuId, stream: StreamId) -> Option<String> {
        let stream = smmu_hw_mmio::firmware::Stream { smmu: id, id: stream };
        let mut name = String::new();
        let known = match &self.table {
            Table::Tree(tree) => tree.write_name(stream, &mut name),
            Table::Iort(iort) => iort.write_name(stream, &mut name),
        };
        known.is_ok_and(|known| known).then_some(name)
    }
}

fn smmu_of(target: smmu_hw_mmio::firmware::Target) -> Option<SmmuId> {
    match target {
        smmu_hw_mmio::firmware::Target::Smmu(id) => Some(id),
        _ => None,
    }
}

/// The bytes of the table that the kernel booted with. IORT goes before the tree: a kernel that
/// boots by ACPI has a tree without devices.
///
/// # Errors
///
/// The kernel shows no table.
pub fn kernel_table(files: &dyn SystemFiles) -> Result<(TableKind, Vec<u8>), TableError> {
    if let Ok(bytes) = files.read(KERNEL_IORT) {
        return Ok((TableKind::Iort, bytes));
    }
    let bytes = files.read(KERNEL_TREE).map_err(|_| TableError::NoTable)?;
    Ok((TableKind::Tree, bytes))
}

/// The kind of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// A flattened device tree.
    Tree,
    /// IORT.
    Iort,
}

impl TableKind {
    /// The bytes, as a table of this kind.
    #[must_use]
    pub const fn of(self, bytes: &[u8]) -> TableBytes<'_> {
        match self {
            TableKind::Tree => TableBytes::Tree(bytes),
            TableKind::Iort => TableBytes::Iort(bytes),
        }
    }
}

/// The bases of SMMUs, for an error.
pub(super) fn bases(known: &[KnownSmmu]) -> String {
    let each: Vec<String> =
        known.iter().map(|known| format!("{:#x}", known.registers.base)).collect();
    if each.is_empty() { "none".into() } else { each.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::pci_functions;
    use super::super::test_system::TestSystem;
    use super::*;

    const TREE: &[u8] = include_bytes!("../../../../smmu-hw-mmio/tests/firmware/qemu.dtb");
    const IORT: &[u8] = include_bytes!("../../../../smmu-hw-mmio/tests/firmware/qemu.iort");
    const THREE: &[u8] = include_bytes!("../../../../smmu-hw-mmio/tests/firmware/qemu-three.iort");
    const LINE: &str = "quiet smmu=0xc020000,eventq=148,gerror=151,ids=0x10-0x17";

    #[test]
    fn streams_by_each_table() {
        for bytes in [TableBytes::Tree(TREE), TableBytes::Iort(IORT), TableBytes::Iort(THREE)] {
            let known = KnownSmmus::read(bytes, "").unwrap();
            assert_eq!(known.all()[0].named_by, NamedBy::Table(SmmuId(0)));
            let function = &pci_functions::all(&TestSystem::qemu())[0];
            let (smmu, stream) = known.stream_of(function).unwrap().unwrap();
            assert_eq!((smmu.registers, stream), (known.all()[0].registers, StreamId(8)));
        }
        let three = KnownSmmus::read(TableBytes::Iort(THREE), "").unwrap();
        assert_eq!(three.all().len(), 3);
    }

    #[test]
    fn the_command_line_goes_first() {
        let known = KnownSmmus::read(TableBytes::Tree(TREE), LINE).unwrap();
        assert_eq!(bases(known.all()), "0x9050000, 0xc020000");
        let functions = pci_functions::all(&TestSystem::qemu());
        let of = |n: usize| known.stream_of(&functions[n]).unwrap().unwrap();
        assert_eq!((of(0).0.registers.base, of(0).1), (0x905_0000, StreamId(0x8)));
        assert_eq!((of(1).0.registers.base, of(1).1), (0xc02_0000, StreamId(0x10)));
        assert_eq!(of(1).0.named_by, NamedBy::CommandLine(0));
        let error = KnownSmmus::read(TableBytes::Tree(TREE), "smmu=1").unwrap_err();
        assert!(error.to_string().starts_with("/proc/cmdline: SMMU 1"), "{error}");
    }

    #[test]
    fn acpi_goes_before_the_tree_and_no_table_is_told() {
        let system = TestSystem::default().file(KERNEL_TREE, TREE);
        assert_eq!(kernel_table(&system), Ok((TableKind::Tree, TREE.to_vec())));
        let system = system.file(KERNEL_IORT, IORT);
        assert_eq!(kernel_table(&system), Ok((TableKind::Iort, IORT.to_vec())));
        assert_eq!(kernel_table(&TestSystem::default()), Err(TableError::NoTable));
    }

    #[test]
    fn damaged_tables_are_refused() {
        for cut in [0, 4, 40, 100] {
            assert!(KnownSmmus::read(TableBytes::Tree(&TREE[..cut]), "").is_err(), "{cut}");
            assert!(KnownSmmus::read(TableBytes::Iort(&IORT[..cut]), "").is_err(), "{cut}");
        }
    }
}
