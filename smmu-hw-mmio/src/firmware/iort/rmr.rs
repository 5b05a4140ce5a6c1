//! RMRs: memory that firmware reserves for streams.

use smmu_types::{Iova, PhysAddr};

use super::error::{IortError, IortProblem};
use super::node::IortNode;
use crate::firmware::window::{MemoryType, ReservedWindow};

/// The flags of the node.
const FLAGS: u32 = 16;
const REMAP_PERMITTED: u32 = 1 << 0;
const PRIVILEGED: u32 = 1 << 1;
/// From this revision of the node on, its flags have access attributes.
const REVISION_WITH_ATTRIBUTES: u8 = 3;

/// An RMR node: memory that streams use from before bring-up on.
#[derive(Clone, Copy)]
pub struct ReservedMemory<'a> {
    pub(super) node: IortNode<'a>,
}

/// A range of an RMR. Its IOVAs are its physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedRange {
    /// The first address.
    pub base: PhysAddr,
    /// The length in bytes.
    pub length: u64,
    /// The byte of the table at which the entry begins.
    pub at: u32,
}

impl<'a> ReservedMemory<'a> {
    fn flags(&self) -> u32 {
        self.node.word(FLAGS as usize).unwrap_or(0)
    }

    /// The byte of the table at which the node begins.
    #[must_use]
    pub fn at(&self) -> u32 {
        self.node.at
    }

    /// Whether the operating system may map the memory at other IOVAs, once it has told the device.
    #[must_use]
    pub fn may_be_remapped(&self) -> bool {
        self.flags() & REMAP_PERMITTED != 0
    }

    /// Whether the device accesses the memory with privilege.
    #[must_use]
    pub fn is_privileged(&self) -> bool {
        self.flags() & PRIVILEGED != 0
    }

    /// How the device accesses the memory. Nodes before revision 3 do not tell.
    ///
    /// # Errors
    ///
    /// The field has a reserved value.
    pub fn memory_type(&self) -> Result<Option<MemoryType>, IortError> {
        if self.node.revision() < REVISION_WITH_ATTRIBUTES {
            return Ok(None);
        }
        // Bits 9:2.
        let [got, ..] = (self.flags() >> 2).to_le_bytes();
        Ok(Some(match got {
            0 => MemoryType::DeviceNGnRnE,
            1 => MemoryType::DeviceNGnRE,
            2 => MemoryType::DeviceNGRE,
            3 => MemoryType::DeviceGRE,
            4 => MemoryType::NormalNonCacheable,
            5 => MemoryType::NormalWriteBack,
            got => {
                let problem = IortProblem::AccessAttributes { got };
                return Err(IortError { at: self.at() + FLAGS, problem });
            }
        }))
    }

    /// The ranges.
    pub fn ranges(&self) -> impl Iterator<Item = ReservedRange> + use<'a> {
        let node = self.node;
        let word = |at| node.word(at).unwrap_or(0);
        let (count, offset) = (word(20), word(24));
        (0..count).map_while(move |n| {
            let at = offset.checked_add(n.checked_mul(20)?)?;
            Some(ReservedRange {
                base: PhysAddr(node.long(at as usize)?),
                length: node.long(at as usize + 8)?,
                at: node.at + at,
            })
        })
    }

    /// The ranges as windows, which each stream of the node needs.
    ///
    /// # Errors
    ///
    /// As of [`memory_type`](Self::memory_type).
    pub fn windows(&self) -> Result<impl Iterator<Item = ReservedWindow> + use<'a>, IortError> {
        let memory_type = self.memory_type()?;
        let (privileged, may_move) = (self.is_privileged(), self.may_be_remapped());
        Ok(self.ranges().map(move |range| ReservedWindow {
            iova: Iova(range.base.0),
            length: range.length,
            memory: Some(range.base),
            memory_type,
            privileged,
            may_move,
            at: range.at,
        }))
    }
}
