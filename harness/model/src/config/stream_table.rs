//! Where an STE lies: the stream table as the registers describe it.

use smmu_types::{PhysAddr, Ste, StreamId};

use crate::walk::table_walk::WalkFault;

/// Address and shape of the stream table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamTableLayout {
    pub(crate) base: u64,
    /// log2 of the number of StreamIDs.
    pub(crate) log2: u32,
    /// log2 of the STEs of one second-level table.
    pub(crate) split: Option<u32>,
}

/// Why the SMMU found no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// The table does not cover the StreamID (`C_BAD_STREAMID`) or the SubstreamID
    /// (`C_BAD_SUBSTREAMID`).
    Missing,
    /// The fetch from this address aborted.
    Abort(PhysAddr),
    /// Stage 2 has no address for the fetch.
    Fault(WalkFault),
}

impl StreamTableLayout {
    /// Index of the level-1 descriptor of a stream.
    pub(crate) fn l1_index(&self, stream: StreamId) -> Option<u32> {
        let split = self.split?;
        self.covers(stream).then(|| stream.0.checked_shr(split).unwrap_or(0))
    }

    fn covers(&self, stream: StreamId) -> bool {
        u64::from(stream.0) >> self.log2 == 0
    }

    /// Bytes of the first level, a power of two.
    pub(crate) fn bytes(&self) -> u64 {
        match self.split {
            None => 64 << self.log2,
            Some(split) => (8 << self.log2.saturating_sub(split)).max(64),
        }
    }

    pub(crate) fn l1_address(&self, index: u32) -> PhysAddr {
        PhysAddr(self.base + u64::from(index) * 8)
    }

    /// The address of a stream's STE; `l1` reads a level-1 descriptor.
    pub(crate) fn locate(
        &self,
        stream: StreamId,
        l1: impl FnOnce(u32, PhysAddr) -> Option<u64>,
    ) -> Result<PhysAddr, Absent> {
        if !self.covers(stream) {
            return Err(Absent::Missing);
        }
        let Some(split) = self.split else {
            return Ok(PhysAddr(self.base + u64::from(stream.0) * Ste::BYTES as u64));
        };
        let index = stream.0.checked_shr(split).unwrap_or(0);
        let address = self.l1_address(index);
        let descriptor = l1(index, address).ok_or(Absent::Abort(address))?;
        let within = u64::from(stream.0) & ((1 << split) - 1);
        match descriptor & 0x1f {
            // `Span` is zero, reserved, or larger than `STRTAB_BASE_CFG.SPLIT` allows.
            span if span == 0 || span > 11 || span > u64::from(split) + 1 => Err(Absent::Missing),
            span if within >> (span - 1) != 0 => Err(Absent::Missing),
            span => {
                let table = descriptor & 0x00ff_ffff_ffff_ffc0 & !((64 << (span - 1)) - 1);
                Ok(PhysAddr(table + within * Ste::BYTES as u64))
            }
        }
    }
}
