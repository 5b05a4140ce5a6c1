//! What must be true of a survey of any memory. The fuzz target `adopt` uses it too.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use smmu_attach::adopt::*;
use smmu_attach::smmu_types::fake::{RecordingObserver, RecordingSink};
use smmu_attach::smmu_types::legal::SmmuView;
use smmu_attach::smmu_types::pool::{HeapWindow, Pool, PoolBlock};
use smmu_attach::smmu_types::seam::{DmaBlock, DmaError, DmaLayout, DmaMemory};
use smmu_attach::smmu_types::{
    CacheTag, Capabilities, IdRegisters, PhysAddr, SmmuId, Ste, StreamId, Vmid,
};
use smmu_attach::{Env, Platform, Smmu, SmmuConfig, TableDescription};
use smmu_invs::{ArcSwapCell, InvArray};

const BUDGET: u64 = 1 << 16;

/// Survey memory that repeats these words without end. Returns the number of live streams.
pub(crate) fn survey_of(registers: IdRegisters, base: u64, config: u32, words: &[u64]) -> usize {
    let read = AtomicU64::new(0);
    let memory = |address: PhysAddr, out: &mut [u64]| {
        read.fetch_add(out.len() as u64, Ordering::Relaxed);
        assert_eq!(address.0 % 8, 0);
        for (n, word) in out.iter_mut().enumerate() {
            *word = words[(address.0 as usize / 8 + n) % words.len()];
        }
        Ok(())
    };
    let tables = RunningTables::new(base, config, SmmuView::new(registers));
    let survey = Survey::new(tables, &memory, ReadBudget::new(BUDGET));
    assert!(read.load(Ordering::Relaxed) <= BUDGET);
    let survey = match survey {
        Ok(survey) => survey,
        Err(doubt) => {
            assert!(!doubt.to_string().is_empty());
            return 0;
        }
    };
    let streams: Vec<StreamId> = survey.streams().map(|live| live.stream).collect();
    assert!(streams.is_sorted_by(|a, b| a < b));
    for live in survey.streams() {
        assert_eq!(live.ste.0[0] & 1, 1);
        assert!(u64::from(live.stream.0) >> survey.shape().log2 == 0);
        assert!(live.tags().all(|tag| tag != CacheTag::Vmid(Vmid(0))));
        assert!(live.tags().collect::<Vec<_>>().is_sorted_by(|a, b| a < b));
        let again = survey.stream(live.stream).map(|again| again.ste);
        assert_eq!(again, Some(live.ste));
    }
    adopt_of(registers, &survey, words);
    streams.len()
}

/// Take the surveyed tables over, whatever they are: every second stream is kept bit for bit, all others
/// abort, and a device with a stream next to each is accepted or refused with a reason.
fn adopt_of(registers: IdRegisters, survey: &Survey, words: &[u64]) {
    let own = Pool::new(HeapWindow::new(OWN, 1 << 20));
    let dma = Torn { own, words: words.into(), made: Mutex::default() };
    let Ok(env) = Env::<Torn>::new(dma, RecordingSink::new(), RecordingObserver::new()) else {
        return;
    };
    let caps = Capabilities::decode(registers);
    let keep = |stream: StreamId| stream.0.is_multiple_of(2);
    let (config, adoption) = (SmmuConfig::default(), Adoption::new(survey));
    let adopting = Smmu::adopt(&env, SmmuId(0), caps, config, adoption, |live| {
        if keep(live.stream) { Keep::Running } else { Keep::Abort }
    });
    let smmu = match adopting.map(|adopting| adopting.abort_others()) {
        Ok(Ok(smmu)) => smmu,
        Ok(Err(_)) => unreachable!("the sink confirms all"),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let shape = survey.shape();
    let (base, format) = smmu.stream_table();
    assert_eq!((base, format.log2(), format.split()), (shape.base, shape.log2, shape.split));
    let stes = |address: PhysAddr, first: u32, count: u32| {
        let made = env.dma().made.lock().unwrap();
        let (_, block) = made.iter().find(|(at, _)| *at == address).unwrap();
        assert_eq!(block.len(), 8 * count as usize);
        for (n, ste) in block.chunks(8).enumerate() {
            let stream = StreamId(first + n as u32);
            let now = Ste(std::array::from_fn(|word| ste[word].load(Ordering::Relaxed)));
            let expected = survey.stream(stream).filter(|_| keep(stream));
            assert_eq!(now, expected.map_or(Ste::ABORT, |live| live.ste), "{stream}");
        }
    };
    match shape.split {
        None => stes(shape.base, 0, 1 << shape.log2),
        Some(split) => {
            for array in &shape.arrays {
                let (address, count) = shape.stes(array).unwrap();
                assert!(count <= 1 << shape.log2);
                stes(address, array.index << split.bits(), count as u32);
            }
        }
    }
    for live in survey.streams().take(64) {
        for stream in [Some(live.stream.0), live.stream.0.checked_add(1)].into_iter().flatten() {
            if let Ok(device) = smmu.add_device(&[StreamId(stream)]) {
                assert!(device.block().settled().is_ok());
            }
        }
    }
}

const OWN: PhysAddr = PhysAddr(1 << 40);

/// A pool, and blocks over memory that repeats its words: each keeps its own stores.
struct Torn {
    own: Pool<HeapWindow>,
    words: Arc<[u64]>,
    made: Mutex<Vec<(PhysAddr, Arc<[AtomicU64]>)>>,
}

impl Platform for Torn {
    type Lock = parking_lot::RawMutex;
    type SleepLock = parking_lot::RawMutex;
    type Dma = Torn;
    type Sink = RecordingSink;
    type Cell = ArcSwapCell<InvArray>;
    type Observer = RecordingObserver;
    type Tables = TableDescription;
    type Ats = ();
}

enum TornBlock {
    Own(PoolBlock<HeapWindow>),
    Old(PhysAddr, Arc<[AtomicU64]>),
}

// SAFETY: blocks are the pool's, or words that the block owns. No SMMU reads them.
unsafe impl DmaMemory for Torn {
    type Block = TornBlock;
    fn allocate(&self, layout: DmaLayout) -> Result<TornBlock, DmaError> {
        self.own.allocate(layout).map(TornBlock::Own)
    }
    fn full_barrier(&self) {
        self.own.full_barrier();
    }
}

// SAFETY: as above. The block has the content of the memory at the address.
unsafe impl AdoptMemory for Torn {
    fn adopt(&self, address: PhysAddr, layout: DmaLayout) -> Result<TornBlock, DmaError> {
        let first = address.0 as usize / 8;
        let word = |n| AtomicU64::new(self.words[(first + n) % self.words.len()]);
        let block: Arc<[AtomicU64]> = (0..layout.words()).map(word).collect();
        self.made.lock().unwrap().push((address, Arc::clone(&block)));
        Ok(TornBlock::Old(address, block))
    }
}

// SAFETY: the words do not move while the block lives.
unsafe impl DmaBlock for TornBlock {
    fn words(&self) -> &[AtomicU64] {
        match self {
            TornBlock::Own(block) => block.words(),
            TornBlock::Old(_, words) => words,
        }
    }
    fn address(&self) -> PhysAddr {
        match self {
            TornBlock::Own(block) => block.address(),
            TornBlock::Old(address, _) => *address,
        }
    }
    fn publish(&self, _words: Range<usize>) {}
    fn observe(&self, _words: Range<usize>) {}
}

/// The same, with registers and memory from bytes.
pub(crate) fn bytes(data: &[u8]) -> usize {
    let mut words = data
        .chunks_exact(8)
        .map(|bytes| u64::from_le_bytes(<[u8; 8]>::try_from(bytes).unwrap_or_default()));
    let (Some(base), Some(config), Some(ids), Some(idr5)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return 0;
    };
    let registers = IdRegisters {
        idr0: ids as u32,
        idr1: (ids >> 32) as u32,
        idr5: idr5 as u32,
        aidr: (idr5 >> 32) as u32,
        ..IdRegisters::default()
    };
    let memory: Vec<u64> = words.collect();
    if memory.is_empty() { 0 } else { survey_of(registers, base, config as u32, &memory) }
}
