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

    /// The first stream below a level-1 descriptor.
    pub(crate) fn first_of(&self, l1: u32) -> Option<StreamId> {
        l1.checked_shl(self.split?).map(StreamId)
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
        let leaf = second_level(descriptor, split).ok_or(Absent::Missing)?;
        if within < leaf.stes { Ok(leaf.ste(within)) } else { Err(Absent::Missing) }
    }

    /// The StreamIDs whose STE is valid in memory, whose words `read` gives.
    pub(crate) fn valid(&self, read: impl Fn(PhysAddr) -> Option<u64>) -> Vec<StreamId> {
        let covered = 1_u64 << self.log2;
        let (split, leaves) = match self.split {
            None => (self.log2, 1),
            Some(split) => (split, covered.checked_shr(split).unwrap_or(0).max(1)),
        };
        let mut valid = Vec::new();
        for index in 0..leaves {
            let leaf = match self.split {
                None => Some(Leaf { base: self.base, stes: covered }),
                Some(split) => read(PhysAddr(self.base + index * 8))
                    .and_then(|descriptor| second_level(descriptor, split)),
            };
            let Some(leaf) = leaf else { continue };
            let first = index << split;
            for within in 0..leaf.stes.min(covered - first) {
                if read(leaf.ste(within)).is_some_and(|word| word & 1 != 0) {
                    valid.extend(u32::try_from(first + within).map(StreamId));
                }
            }
        }
        valid
    }
}

/// STEs that lie side by side.
struct Leaf {
    base: u64,
    stes: u64,
}

impl Leaf {
    fn ste(&self, within: u64) -> PhysAddr {
        PhysAddr(self.base + within * Ste::BYTES as u64)
    }
}

/// The second-level table of a level-1 descriptor. `None` if `Span` is zero, reserved, or larger
/// than `STRTAB_BASE_CFG.SPLIT` allows.
fn second_level(descriptor: u64, split: u32) -> Option<Leaf> {
    let span = descriptor & 0x1f;
    if span == 0 || span > 11 || span > u64::from(split) + 1 {
        return None;
    }
    let stes = 1 << (span - 1);
    let base = descriptor & 0x00ff_ffff_ffff_ffc0 & !(stes * Ste::BYTES as u64 - 1);
    Some(Leaf { base, stes })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::model_ram::{BASE, ModelRam};

    const TABLE: u64 = BASE + 0x1000;
    const LEAVES: u64 = BASE + 0x8000;

    /// The streams of a table are those whose STE the SMMU would find, one by one, and is valid.
    /// `Span` of a level-1 descriptor: none, one STE, 16, all, too large, reserved.
    #[rstest]
    #[case::linear(None, 6, &[])]
    #[case::levels(Some(6), 9, &[0, 1, 5, 7, 8, 12, 31, 7])]
    #[case::a_leaf_for_more_than_there_are(Some(8), 5, &[9])]
    fn valid_streams_are_those_that_are_found(
        #[case] split: Option<u32>,
        #[case] log2: u32,
        #[case] spans: &[u64],
    ) {
        let ram = ModelRam::new(0x10000);
        let table = StreamTableLayout { base: TABLE, log2, split };
        // Every third STE is valid, also beyond each table.
        for ste in (0..0x8000).step_by(3 * Ste::BYTES) {
            ram.write_words(PhysAddr(LEAVES + ste), &[1]).unwrap();
            ram.write_words(PhysAddr(TABLE + ste), &[1]).unwrap();
        }
        for (index, span) in (0..).zip(spans) {
            // The last leaf of several lies outside of RAM.
            let leaf = if index == 7 { 1 << 40 } else { LEAVES + 0x4000 * (index % 2) };
            ram.write_words(PhysAddr(TABLE + index * 8), &[leaf | span]).unwrap();
        }
        let one_by_one: Vec<StreamId> = (0..1 << log2)
            .map(StreamId)
            .filter(|stream| {
                let at = table.locate(*stream, |_, address| ram.read64(address));
                at.ok().and_then(|at| ram.read64(at)).is_some_and(|word| word & 1 != 0)
            })
            .collect();
        assert_eq!(table.valid(|at| ram.read64(at)), one_by_one);
        assert!(one_by_one.len() > 10, "{one_by_one:?}");
    }
}
