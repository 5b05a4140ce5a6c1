//! What adding a device takes and changes: stream tables of both formats, and blocks of a wrong size.
#![expect(unsafe_code, reason = "the promise of DMA memory")]

use std::sync::atomic::{AtomicUsize, Ordering};

use rstest::rstest;
use smmu_attach::*;
use smmu_types::fake::*;
use smmu_types::pool::{PoolBlock, Window};
use smmu_types::seam::{DmaError, DmaLayout, DmaMemory};
use smmu_types::*;

use crate::common::*;

/// An SMMU whose stream table is linear: 16 StreamIDs.
const FEW_STREAMS: IdRegisters =
    IdRegisters { idr1: ID_REGISTERS.idr1 & !0x3f | 4, ..ID_REGISTERS };

#[test]
fn a_linear_table_has_all_entries_from_the_start() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu_of_kind(0, FEW_STREAMS, None);
    let (base, format) = smmu.stream_table();
    assert_eq!(format, regs::strtab::StreamTableFormat::Linear { log2: 4 });
    let entries = || -> Vec<Ste> {
        let words = fixture.dma().window().words();
        let first = (base.0 - fixture.dma().window().base().0) as usize / 8;
        let entry = |n: usize| core::array::from_fn(|word| &words[first + n * 8 + word]);
        (0..16).map(|n| Ste(entry(n).map(|word| word.load(Ordering::Relaxed)))).collect()
    };
    assert_eq!(entries(), [Ste::ABORT; 16]);
    let free = fixture.dma().free_bytes();
    let device = fixture.device(&smmu, 5);
    assert_eq!((fixture.dma().free_bytes(), entries()), (free, vec![Ste::ABORT; 16]));
    assert_eq!(device.bypass(), Ok(Outcome::Done));
    for (stream, ste) in entries().into_iter().enumerate() {
        assert_eq!(ste == Ste::ABORT, stream != 5, "{stream}: {ste}");
    }
}

#[test]
fn a_second_level_table_is_made_for_its_first_device_alone() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let taken = |stream| {
        let free = fixture.dma().free_bytes();
        let device = smmu.add_device(&[StreamId(stream)]).unwrap();
        (free - fixture.dma().free_bytes(), device)
    };
    let second_level = 256 * Ste::BYTES as u64;
    let devices = [0x100, 0x101, 0x1ff, 0x200, 0x201].map(taken);
    let bytes = devices.each_ref().map(|(bytes, _)| *bytes);
    assert_eq!(bytes, [second_level, 0, 0, second_level, 0]);
}

/// A table for fewer StreamIDs than the SMMU has takes less memory.
#[test]
fn a_table_of_few_stream_bits() {
    let fixture = Fixture::new();
    let taken = |id, config| {
        let free = fixture.dma().free_bytes();
        let smmu = Smmu::new(&fixture.env, SmmuId(id), LARGE, caps(), config).unwrap();
        let (_, format) = smmu.stream_table();
        (format, free - fixture.dma().free_bytes(), smmu)
    };
    let (format, bytes, smmu) = taken(0, SmmuConfig::default().with_stream_bits(5));
    assert_eq!((format, bytes), (regs::strtab::StreamTableFormat::Linear { log2: 5 }, 32 * 64));
    assert!(smmu.add_device(&[StreamId(31)]).is_ok());
    let beyond = smmu.add_device(&[StreamId(32)]);
    assert!(matches!(beyond, Err(AttachError::StreamRange { bits: 5, .. })), "{beyond:?}");
    let (format, ..) = taken(1, SmmuConfig::default());
    assert_eq!(format.log2(), caps().sid_bits);
}

/// Memory whose blocks are half or twice as long as asked for, from a number of allocations on.
struct WrongMemory {
    pool: Pool<HeapWindow>,
    right: AtomicUsize,
    halves: u64,
}

// SAFETY: blocks are the pool's.
unsafe impl DmaMemory for WrongMemory {
    type Block = PoolBlock<HeapWindow>;

    fn allocate(&self, layout: DmaLayout) -> Result<Self::Block, DmaError> {
        let right = self.right.load(Ordering::Relaxed);
        self.right.store(right.saturating_sub(1), Ordering::Relaxed);
        let halves = if right == 0 { self.halves } else { 2 };
        let (bytes, align) = (layout.bytes() * halves / 2, layout.align());
        self.pool.allocate(DmaLayout::new(bytes, align).ok_or(DmaError { bytes, align })?)
    }

    fn full_barrier(&self) {
        self.pool.full_barrier();
    }
}

/// The blocks of an attach with a substream: level 1, level 2, CD tables.
#[rstest]
fn a_block_that_is_too_short_is_refused_by_its_size(#[values(0, 1, 2)] right: usize) {
    let pool = heap_pool(4 << 20);
    let free = pool.free_bytes();
    let memory = WrongMemory { pool: pool.clone(), right: AtomicUsize::new(right), halves: 1 };
    let got = attach_substream(memory);
    let Err(AttachError::ShortBlock { smmu: SmmuId(0), wanted, got }) = got else {
        panic!("{got:?}")
    };
    assert_eq!(got * 2, wanted);
    assert_eq!(pool.free_bytes(), free);
}

#[test]
fn a_block_may_be_longer_than_asked_for() {
    let pool = heap_pool(4 << 20);
    let memory = WrongMemory { pool, right: AtomicUsize::new(0), halves: 4 };
    assert_eq!(attach_substream(memory), Ok(Outcome::Done));
}

fn attach_substream(memory: WrongMemory) -> Result<Outcome, AttachError> {
    type Wrong = FakePlatform<WrongMemory, RecordingObserver>;
    let env = Env::<Wrong>::new(memory, RecordingSink::new(), RecordingObserver::new()).unwrap();
    let caps = Capabilities::decode(LARGE);
    let smmu = Smmu::new(&env, SmmuId(0), LARGE, caps, SmmuConfig::default())?;
    let config = DeviceConfig::default().with_substream_bits(4);
    let device = smmu.add_device_with(&[StreamId(8)], config)?;
    let domain = Domain::new(&env, DomainId(1), tables(S1, 0x8000_0000))?;
    device.substream(SubstreamId::new(1).unwrap())?.attach(&domain)
}
