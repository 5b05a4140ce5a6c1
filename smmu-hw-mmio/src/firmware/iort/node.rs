//! The bytes of an IORT: header, nodes, ID mappings.
//!
//! A walker of our own: no crate that reads ACPI tables without an allocator knows IORT.

use super::error::{IortError, IortProblem};
use super::kind::NodeKind;
use super::limits::{MAX_BYTES, MAX_NODES};

/// ACPI's header, then the number of nodes, their offset, and a reserved word.
const HEADER: usize = 48;
const NODE_HEADER: usize = 16;
const MAPPING: usize = 20;

/// A table whose nodes were all read once.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    /// Up to the length in the header.
    pub(super) bytes: &'a [u8],
    count: u32,
    first: u32,
}

/// A node.
#[derive(Clone, Copy)]
pub(super) struct IortNode<'a> {
    pub(super) bytes: &'a [u8],
    /// Where it begins in the table.
    pub(super) at: u32,
    pub(super) kind: NodeKind,
}

/// An ID mapping as it is written.
#[derive(Clone, Copy)]
pub(super) struct RawMapping {
    pub(super) input: u32,
    /// The number of IDs, less one.
    pub(super) more: u32,
    pub(super) output: u32,
    pub(super) target: u32,
    pub(super) single: bool,
    pub(super) at: u32,
}

fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    chunk(bytes, at).map(u32::from_le_bytes)
}

fn err<T>(at: u32, problem: IortProblem) -> Result<T, IortError> {
    Err(IortError { at, problem })
}

impl<'a> Table<'a> {
    /// Reads the header, and every node once. After that, no read fails.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, IortError> {
        let field = |at| match word(bytes, at) {
            Some(field) if bytes.len() >= HEADER => Ok(field),
            _ => err(0, IortProblem::NoHeader { have: bytes.len(), need: HEADER }),
        };
        let (signature, length) = (field(0)?.to_le_bytes(), field(4)?);
        if signature != *b"IORT" {
            return err(0, IortProblem::Signature { got: signature });
        }
        if length as usize > MAX_BYTES {
            return err(4, IortProblem::TooLong { length });
        }
        let Some(table) = bytes.get(..length as usize) else {
            return err(4, IortProblem::Truncated { length, have: bytes.len() });
        };
        if table.len() < HEADER {
            return err(4, IortProblem::NoHeader { have: table.len(), need: HEADER });
        }
        let (count, first) = (field(36)?, field(40)?);
        if count as usize > MAX_NODES {
            return err(36, IortProblem::TooManyNodes { count });
        }
        let mut at = first as usize;
        for number in 0..count {
            at += Self::check_node(table, at, number, count)?;
        }
        Ok(Self { bytes: table, count, first })
    }

    /// The length of the node at `at`.
    fn check_node(table: &[u8], at: usize, number: u32, count: u32) -> Result<usize, IortError> {
        let rest = table.get(at..).unwrap_or_default();
        let place = u32::try_from(at).unwrap_or(u32::MAX);
        let length = chunk(rest, 1).map_or(0, u16::from_le_bytes);
        let kind = NodeKind::of(rest.first().copied().unwrap_or(u8::MAX));
        let fits = length >= kind.least() && usize::from(length) <= rest.len();
        let Some(node) = rest.get(..usize::from(length)).filter(|_| fits) else {
            let (least, room) = (kind.least(), rest.len());
            return err(place, IortProblem::NodeLength { number, count, length, least, room });
        };
        let inside = |count: u32, offset: u32| {
            let bytes = (count as usize).checked_mul(MAPPING);
            let end = bytes.and_then(|bytes| bytes.checked_add(offset as usize));
            count == 0 || offset as usize >= NODE_HEADER && end.is_some_and(|end| end <= node.len())
        };
        let (count, offset) = (word(node, 8).unwrap_or(0), word(node, 12).unwrap_or(0));
        if !inside(count, offset) {
            return err(place, IortProblem::MappingsOutside { count, offset, length });
        }
        if kind == NodeKind::Rmr {
            let (count, offset) = (word(node, 20).unwrap_or(0), word(node, 24).unwrap_or(0));
            if !inside(count, offset) {
                return err(place, IortProblem::RangesOutside { count, offset, length });
            }
        }
        Ok(node.len())
    }

    pub(super) fn nodes(self) -> impl Iterator<Item = IortNode<'a>> + use<'a> {
        let mut at = self.first;
        (0..self.count).map_while(move |_| {
            let rest = self.bytes.get(at as usize..)?;
            let length = chunk(rest, 1).map(u16::from_le_bytes)?;
            let bytes = rest.get(..usize::from(length))?;
            let node = IortNode { bytes, at, kind: NodeKind::of(*bytes.first()?) };
            at += u32::from(length);
            Some(node)
        })
    }

    /// The node that begins at this byte.
    pub(super) fn node_at(self, at: u32) -> Option<IortNode<'a>> {
        self.nodes().find(|node| node.at == at)
    }

    /// The target of a mapping, if the architecture lets a mapping of `from` lead there.
    pub(super) fn target(
        self,
        from: IortNode<'a>,
        mapping: RawMapping,
    ) -> Result<IortNode<'a>, IortError> {
        let at = mapping.at;
        let Some(to) = self.node_at(mapping.target) else {
            return err(at, IortProblem::NoTarget { target: mapping.target });
        };
        // Nothing follows an ITS group, and an SMMU is followed by one: so there is no circle.
        let may = match (from.kind, to.kind) {
            (NodeKind::ItsGroup, _) => false,
            (NodeKind::SmmuV2 | NodeKind::SmmuV3 | NodeKind::Pmcg, to) => to == NodeKind::ItsGroup,
            (NodeKind::Rmr, to) => matches!(to, NodeKind::SmmuV2 | NodeKind::SmmuV3),
            (_, NodeKind::SmmuV2 | NodeKind::SmmuV3 | NodeKind::ItsGroup) => true,
            _ => false,
        };
        if may {
            return Ok(to);
        }
        err(at, IortProblem::WrongTarget { from: from.kind, to: to.kind })
    }
}

impl IortNode<'_> {
    pub(super) fn word(self, at: usize) -> Option<u32> {
        word(self.bytes, at)
    }

    pub(super) fn long(self, at: usize) -> Option<u64> {
        chunk(self.bytes, at).map(u64::from_le_bytes)
    }

    pub(super) fn byte(self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    pub(super) fn revision(self) -> u8 {
        self.byte(3).unwrap_or(0)
    }

    pub(super) fn mapping_count(self) -> u32 {
        self.word(8).unwrap_or(0)
    }

    /// The offset of the mappings, which is the end of the node's own fields.
    pub(super) fn mappings_offset(self) -> usize {
        self.word(12).unwrap_or(0) as usize
    }

    /// The mapping with this number.
    pub(super) fn mapping(self, number: u32) -> Option<RawMapping> {
        if number >= self.mapping_count() {
            return None;
        }
        let offset = self.mappings_offset() + number as usize * MAPPING;
        let field = |n: usize| self.word(offset + n * 4);
        Some(RawMapping {
            input: field(0)?,
            more: field(1)?,
            output: field(2)?,
            target: field(3)?,
            single: field(4)? & 1 != 0,
            at: self.at + u32::try_from(offset).ok()?,
        })
    }

    /// The bytes of the fields of this kind: up to what follows them.
    pub(super) fn has_field(self, end: usize) -> bool {
        let mappings = self.mappings_offset();
        let fields = if self.mapping_count() > 0 { mappings } else { self.bytes.len() };
        end <= fields
    }
}
