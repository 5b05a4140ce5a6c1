//! The resolver over an IORT.

use core::fmt;

use smmu_types::{PhysAddr, SmmuId};

use super::device::IortDevice;
use super::error::{IortError, IortProblem};
use super::kind::NodeKind;
use super::node::{IortNode, RawMapping, Table};
use super::rmr::ReservedMemory;
use super::smmu::{device_id_mapping, smmu};
use crate::firmware::mapping::{IdMapping, Inputs, Stream, Target};
use crate::firmware::names::StreamNames;
use crate::firmware::request_id::RequestId;
use crate::firmware::smmu::FirmwareSmmu;
use crate::firmware::window::ReservedWindow;

/// The ACPI table IORT.
#[derive(Clone, Copy)]
pub struct Iort<'a> {
    table: Table<'a>,
}

/// Where the MSIs of a device go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiRoute {
    /// The byte of the table at which the ITS group begins.
    pub its_group_at: u32,
    /// The DeviceID there.
    pub device_id: u32,
}

impl<'a> Iort<'a> {
    /// Reads a table. Bytes after it are left alone.
    ///
    /// The checksum does not decide: tables with a wrong one are in use. Ask
    /// [`checksum_is_right`](Self::checksum_is_right).
    pub fn new(bytes: &'a [u8]) -> Result<Self, IortError> {
        Ok(Self { table: Table::new(bytes)? })
    }

    /// Whether the bytes of the table add up to 0.
    #[must_use]
    pub fn checksum_is_right(&self) -> bool {
        self.table.bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == 0
    }

    /// The revision of the table.
    #[must_use]
    pub fn revision(&self) -> u8 {
        self.table.bytes.get(8).copied().unwrap_or(0)
    }

    /// The bytes of the table, as its header says.
    #[must_use]
    pub fn length(&self) -> usize {
        self.table.bytes.len()
    }

    fn smmu_nodes(&self) -> impl Iterator<Item = (SmmuId, IortNode<'a>)> + use<'a> {
        let smmus = self.table.nodes().filter(|node| node.kind == NodeKind::SmmuV3);
        // There are fewer nodes than SmmuIds.
        (0..).map(SmmuId).zip(smmus)
    }

    /// Reads the node of an SMMUv3. SMMUs count from 0, in the order of the table.
    pub fn smmu(&self, id: SmmuId) -> Result<FirmwareSmmu, IortError> {
        let Some((_, node)) = self.smmu_nodes().find(|(other, _)| *other == id) else {
            let problem = IortProblem::NoSuchSmmu { asked: id.0, count: self.smmu_count() };
            return Err(IortError { at: 36, problem });
        };
        smmu(node, id)
    }

    /// Every SMMUv3.
    pub fn smmus(&self) -> impl Iterator<Item = Result<FirmwareSmmu, IortError>> + use<'a> {
        self.smmu_nodes().map(|(id, node)| smmu(node, id))
    }

    /// Every root complex and named component.
    pub fn devices(&self) -> impl Iterator<Item = IortDevice<'a>> + use<'a> {
        let kinds = [NodeKind::RootComplex, NodeKind::NamedComponent];
        let nodes = self.table.nodes().filter(move |node| kinds.contains(&node.kind));
        nodes.map(|node| IortDevice { node })
    }

    /// The root complexes of a PCI segment.
    pub fn root_complexes(&self, segment: u32) -> impl Iterator<Item = IortDevice<'a>> + use<'a> {
        self.devices().filter(move |device| device.segment() == Some(segment))
    }

    /// The named component with this path in the ACPI namespace.
    #[must_use]
    pub fn named_component(&self, name: &str) -> Option<IortDevice<'a>> {
        self.devices().find(|device| device.name() == Ok(Some(name)))
    }

    /// Every RMR node.
    pub fn reserved_memory(&self) -> impl Iterator<Item = ReservedMemory<'a>> + use<'a> {
        let nodes = self.table.nodes().filter(|node| node.kind == NodeKind::Rmr);
        nodes.map(|node| ReservedMemory { node })
    }

    fn resolve(&self, from: IortNode<'a>, raw: RawMapping) -> Result<IdMapping, IortError> {
        let to = self.table.target(from, raw)?;
        let target = match to.kind {
            NodeKind::SmmuV3 => {
                let smmu = self.smmu_nodes().find(|(_, node)| node.at == to.at);
                // The node is in the table, so it is among the SMMUs.
                smmu.map_or(Target::OtherIommu(to.at), |(id, _)| Target::Smmu(id))
            }
            NodeKind::SmmuV2 => Target::OtherIommu(to.at),
            _ => Target::NoIommu,
        };
        let wraps = |first| {
            let problem = IortProblem::RangeWraps { first, more: raw.more };
            IortError { at: raw.at, problem }
        };
        // The streams of an RMR are its outputs; it has no inputs.
        let rmr = from.kind == NodeKind::Rmr;
        let inputs = if raw.single {
            Inputs::Any
        } else {
            let first = if rmr { raw.output } else { raw.input };
            let last = first.checked_add(raw.more).ok_or(wraps(first))?;
            raw.output.checked_add(raw.more).ok_or(wraps(raw.output))?;
            Inputs::Range { first, last }
        };
        Ok(IdMapping { inputs, output: raw.output, target, at: raw.at })
    }

    fn resolved(
        &self,
        node: IortNode<'a>,
    ) -> impl Iterator<Item = Result<IdMapping, IortError>> + use<'a> {
        let iort = *self;
        let raw = (0..node.mapping_count()).map_while(move |n| node.mapping(n));
        raw.map(move |raw| iort.resolve(node, raw))
    }

    /// The mappings of a device, in the order of its node. A wrong one gives an error, and the next
    /// one follows.
    pub fn mappings(
        &self,
        device: &IortDevice<'a>,
    ) -> impl Iterator<Item = Result<IdMapping, IortError>> + use<'a> {
        self.resolved(device.node)
    }

    /// The streams of an RMR. The inputs of its mappings are their outputs.
    pub fn reserved_streams(
        &self,
        memory: &ReservedMemory<'a>,
    ) -> impl Iterator<Item = Result<IdMapping, IortError>> + use<'a> {
        self.resolved(memory.node)
    }

    /// The windows that RMRs reserve for a stream, in the order of the table.
    ///
    /// A wrong mapping of an RMR gives an error: it may be that of the stream. So do wrong access
    /// attributes of an RMR with the stream. The next windows follow.
    pub fn windows_of(
        &self,
        stream: Stream,
    ) -> impl Iterator<Item = Result<ReservedWindow, IortError>> + use<'a> {
        let iort = *self;
        self.reserved_memory().flat_map(move |memory| {
            let streams = || iort.reserved_streams(&memory);
            let has = streams().any(|one| one.is_ok_and(|one| one.holds(stream)));
            let (windows, wrong) = match has.then(|| memory.windows()) {
                Some(Ok(windows)) => (Some(windows), None),
                Some(Err(error)) => (None, Some(error)),
                None => (None, None),
            };
            let errors = streams().filter_map(Result::err).chain(wrong);
            errors.map(Err).chain(windows.into_iter().flatten().map(Ok))
        })
    }

    /// The stream of a device's transactions with this input ID: a [`RequestId`] behind a root
    /// complex; any number for a named component with single mappings, which has the first of its
    /// streams then.
    ///
    /// `None` if the device is not behind an SMMUv3 with this input. Where mappings overlap, the
    /// first counts.
    pub fn stream_of(
        &self,
        device: &IortDevice<'a>,
        input: impl Into<u32>,
    ) -> Result<Option<Stream>, IortError> {
        let input = input.into();
        for mapping in self.mappings(device) {
            let mapping = mapping?;
            if mapping.output_of(input).is_some() {
                return Ok(mapping.stream_of(input));
            }
        }
        Ok(None)
    }

    /// The stream of a PCIe function. A segment may have several root complexes.
    pub fn stream_of_request(
        &self,
        segment: u32,
        function: RequestId,
    ) -> Result<Option<Stream>, IortError> {
        for device in self.root_complexes(segment) {
            if let Some(stream) = self.stream_of(&device, function)? {
                return Ok(Some(stream));
            }
        }
        Ok(None)
    }

    /// The ITS group and the DeviceID of a device's MSIs: past its SMMU, or directly.
    pub fn msi_of(
        &self,
        device: &IortDevice<'a>,
        input: impl Into<u32>,
    ) -> Result<Option<MsiRoute>, IortError> {
        let (mut node, mut id) = (device.node, input.into());
        // A device, an SMMU, an ITS group.
        for _ in 0..2 {
            let own = match node.kind {
                NodeKind::SmmuV3 => device_id_mapping(node)?.map(|mapping| mapping.at),
                _ => None,
            };
            let mut next = None;
            for raw in (0..node.mapping_count()).map_while(|n| node.mapping(n)) {
                // The SMMU's own DeviceID is no device's.
                if own == Some(raw.at) {
                    continue;
                }
                let output = self.resolve(node, raw)?.output_of(id);
                if let Some(output) = output {
                    next = Some((self.table.target(node, raw)?, output));
                    break;
                }
            }
            let Some((to, output)) = next else { return Ok(None) };
            if to.kind == NodeKind::ItsGroup {
                return Ok(Some(MsiRoute { its_group_at: to.at, device_id: output }));
            }
            (node, id) = (to, output);
        }
        Ok(None)
    }

    /// The device that has a stream, and its input ID.
    ///
    /// Where several have it, the first in the table. A device with a wrong mapping is looked at
    /// all the same; the mapping is not.
    #[must_use]
    pub fn device_of(&self, stream: Stream) -> Option<(IortDevice<'a>, Option<u32>)> {
        self.devices().find_map(|device| {
            let mut mappings = self.mappings(&device).filter_map(Result::ok);
            let mapping = mappings.find(|mapping| mapping.holds(stream))?;
            Some((device, mapping.input_of(stream.id.0)))
        })
    }
}

impl StreamNames for Iort<'_> {
    fn smmu_count(&self) -> u16 {
        u16::try_from(self.smmu_nodes().count()).unwrap_or(u16::MAX)
    }

    fn smmu_at(&self, base: PhysAddr) -> Option<SmmuId> {
        let base = Some(base.0);
        self.smmu_nodes().find(|(_, node)| node.long(16) == base).map(|(id, _)| id)
    }

    fn write_name(&self, stream: Stream, out: &mut dyn fmt::Write) -> Result<bool, fmt::Error> {
        let Some((device, input)) = self.device_of(stream) else { return Ok(false) };
        let input = match (device.segment(), input) {
            (Some(segment), Some(input)) => match u16::try_from(input) {
                Ok(id) => {
                    write!(out, "{segment:04x}:{}", RequestId(id))?;
                    return Ok(true);
                }
                Err(_) => Some(input),
            },
            (_, input) => input,
        };
        write!(out, "{device}")?;
        if let Some(input) = input {
            write!(out, " ID {input:#x}")?;
        }
        Ok(true)
    }
}

/// The name of a component, or the segment of a root complex.
impl fmt::Display for IortDevice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.segment(), self.name()) {
            (Some(segment), _) => write!(f, "root complex of segment {segment:04x}"),
            (None, Ok(Some(name))) => f.write_str(name),
            _ => write!(f, "{} at byte {:#x}", self.kind(), self.at()),
        }
    }
}

impl fmt::Debug for IortDevice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IortDevice({self})")
    }
}

impl fmt::Debug for ReservedMemory<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReservedMemory").field("at", &self.at()).finish()
    }
}

impl fmt::Debug for Iort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iort").field("length", &self.length()).finish_non_exhaustive()
    }
}
