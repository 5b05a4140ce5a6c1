//! What must be true of a survey of any memory. The fuzz target `adopt` uses it too.

use std::sync::atomic::{AtomicU64, Ordering};

use smmu_attach::adopt::*;
use smmu_attach::smmu_types::legal::SmmuView;
use smmu_attach::smmu_types::{CacheTag, IdRegisters, PhysAddr, StreamId, Vmid};

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
    streams.len()
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
