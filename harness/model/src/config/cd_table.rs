//! Where a CD lies: the table of CDs as an STE describes it (IHI 0070, 5.2 and 5.3).

use smmu_types::fields::ste;
use smmu_types::{Cd, ContextTableDescriptor, EventKind, PhysAddr, Ste, SubstreamId};

use crate::config::stream_table::Absent;
use crate::profile::Profile;
use crate::walk::translation::Translation;

/// The table of CDs of a stream, or its single CD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CdTable {
    base: PhysAddr,
    /// log2 of the number of CDs: `S1CDMax`, or 0 without substreams.
    log2: u32,
    /// log2 of the CDs of one leaf of a two-level table.
    leaf: Option<u32>,
    /// `S1DSS`, for a table with substreams.
    default: DefaultSubstream,
    output_bits: u32,
    /// Stage 2 of a nested stream: every address of the table is an IPA.
    pub(crate) second: Option<Translation>,
    /// `S1ContextPtr` has bits below the alignment of the table.
    pub(crate) is_misaligned: bool,
}

/// What a transaction without a SubstreamID does, if the stream has substreams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DefaultSubstream {
    Terminate,
    Bypass,
    Zero,
}

/// What the table has for a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CdChoice {
    /// The CD of this index.
    Cd(u32),
    /// None: the transaction bypasses stage 1.
    Bypass,
}

impl CdTable {
    pub(crate) const CD_BYTES: u64 = Cd::BYTES as u64;

    /// The table that a stage-1 STE describes. `None` if the STE is illegal: `S1CDMax` beyond
    /// `IDR1.SSIDSIZE`, two levels without `IDR0.CD2L`, or a table beyond the output size.
    ///
    /// With `second` the table lies behind stage 2, which answers an IPA out of range with a
    /// Translation fault (3.4.3).
    pub(crate) fn of(entry: &Ste, profile: &Profile, second: Option<Translation>) -> Option<Self> {
        let pointer = entry.get(ste::S1CONTEXTPTR);
        let output_bits = profile.output_bits();
        // Without SubstreamIDs the SMMU ignores S1CDMax; with one CD it ignores S1Fmt and S1DSS.
        let log2 = match profile.substream_bits {
            0 => 0,
            _ => entry.get(ste::S1CDMAX) as u32,
        };
        let leaf = match entry.get(ste::S1FMT) {
            _ if log2 == 0 => None,
            1 => Some(6),
            2 => Some(10),
            _ => None,
        };
        let default = match entry.get(ste::S1DSS) {
            1 => DefaultSubstream::Bypass,
            2 => DefaultSubstream::Zero,
            _ => DefaultSubstream::Terminate,
        };
        let refused =
            log2 > profile.substream_bits.into() || leaf.is_some() && !profile.two_level_cd;
        let base = PhysAddr(0);
        let is_misaligned = false;
        let table = CdTable { base, log2, leaf, default, output_bits, second, is_misaligned };
        if refused || !table.may_hold(pointer) {
            return None;
        }
        // 5.2: the low bits must be zero. This SMMU treats them so, and the audit names them.
        let low = pointer & (table.bytes() - 1);
        Some(CdTable { base: PhysAddr(pointer - low), is_misaligned: low != 0, ..table })
    }

    /// The SMMU may fetch from this address: stage 2 judges an IPA.
    fn may_hold(&self, address: u64) -> bool {
        self.second.is_some() || address >> self.output_bits == 0
    }

    /// Bytes of the first level, a power of two.
    pub(crate) fn bytes(&self) -> u64 {
        match self.leaf {
            None => 64 << self.log2,
            Some(leaf) => (8 << self.log2.saturating_sub(leaf)).max(64),
        }
    }

    /// The transactions of this stream may carry a SubstreamID.
    pub(crate) fn has_substreams(&self) -> bool {
        self.log2 != 0
    }

    /// Number of CDs.
    pub(crate) fn len(&self) -> u32 {
        1 << self.log2
    }

    /// The CD of a transaction, or the event of a transaction that the STE does not allow.
    pub(crate) fn choose(&self, substream: Option<SubstreamId>) -> Result<CdChoice, EventKind> {
        let Some(substream) = substream else {
            return match self.default {
                _ if self.log2 == 0 => Ok(CdChoice::Cd(0)),
                DefaultSubstream::Zero => Ok(CdChoice::Cd(0)),
                DefaultSubstream::Bypass => Ok(CdChoice::Bypass),
                DefaultSubstream::Terminate => Err(EventKind::F_STREAM_DISABLED),
            };
        };
        let index = substream.get();
        if self.log2 == 0 || index >= self.len() {
            return Err(EventKind::C_BAD_SUBSTREAMID);
        }
        if index == 0 && self.default == DefaultSubstream::Zero {
            return Err(EventKind::F_STREAM_DISABLED);
        }
        Ok(CdChoice::Cd(index))
    }

    /// Index of the level-1 descriptor that leads to a CD; `None` for a linear table.
    pub(crate) fn l1_index(&self, cd: u32) -> Option<u32> {
        self.leaf.map(|leaf| cd >> leaf)
    }

    /// The first CD below a level-1 descriptor.
    pub(crate) fn first_of(&self, l1: u32) -> u32 {
        self.leaf.map_or(0, |leaf| l1 << leaf)
    }

    /// The last CD of the leaf that holds a CD: of the whole table, if it is linear.
    pub(crate) fn end_of_leaf(&self, cd: u32) -> u32 {
        let log2 = self.leaf.unwrap_or(self.log2);
        cd | ((1 << log2) - 1)
    }

    /// Bytes of a leaf; 0 for a linear table.
    pub(crate) fn leaf_bytes(&self) -> u64 {
        self.leaf.map_or(0, |leaf| Self::CD_BYTES << leaf)
    }

    /// Number of level-1 descriptors.
    pub(crate) fn l1_len(&self) -> u32 {
        self.leaf.map_or(0, |leaf| 1 << self.log2.saturating_sub(leaf))
    }

    pub(crate) fn l1_address(&self, index: u32) -> PhysAddr {
        PhysAddr(self.base.0 + u64::from(index) * 8)
    }

    /// The leaf that a level-1 descriptor points to; `None` without one.
    pub(crate) fn leaf_table(&self, descriptor: u64) -> Option<PhysAddr> {
        let bytes = (Cd::BYTES as u64) << self.leaf?;
        let table = ContextTableDescriptor([descriptor]).table()?;
        // 5.3 and 3.4.3: a pointer beyond OAS counts as no table.
        self.may_hold(table.0).then(|| PhysAddr(table.0 & !(bytes - 1)))
    }

    /// The address of a CD, which is an IPA behind stage 2; `l1` reads a level-1 descriptor.
    pub(crate) fn locate(
        &self,
        cd: u32,
        l1: impl FnOnce(u32, PhysAddr) -> Result<u64, Absent>,
    ) -> Result<PhysAddr, Absent> {
        let (table, within) = match self.leaf {
            None => (self.base, cd),
            Some(leaf) => {
                let index = cd >> leaf;
                let address = self.l1_address(index);
                let descriptor = l1(index, address)?;
                let table = self.leaf_table(descriptor).ok_or(Absent::Missing)?;
                (table, cd & ((1 << leaf) - 1))
            }
        };
        Ok(PhysAddr(table.0 + u64::from(within) * Cd::BYTES as u64))
    }
}
