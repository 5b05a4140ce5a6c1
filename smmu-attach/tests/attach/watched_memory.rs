//! DMA memory that tells of each published store, for tests that look at what the SMMU then sees.
#![expect(unsafe_code, reason = "implements the promise of DMA memory")]

use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use smmu_types::PhysAddr;
use smmu_types::fake::*;
use smmu_types::seam::{DmaBlock, DmaError, DmaLayout, DmaMemory};

/// Looks at memory after a store.
pub(crate) trait Watch: Clone + Send + Sync {
    fn stored(&self);
}

/// A look that a test begins and ends.
pub(crate) type Look = Arc<Mutex<Option<Box<dyn Fn() + Send>>>>;

impl Watch for Look {
    fn stored(&self) {
        if let Some(look) = &*self.lock().unwrap() {
            look();
        }
    }
}

/// A pool that calls [`Watch::stored`] after each published store.
pub(crate) struct WatchedMemory<W>(pub(crate) Pool<HeapWindow>, pub(crate) W);
pub(crate) struct WatchedBlock<W>(PoolBlock<HeapWindow>, W);

// SAFETY: blocks are the pool's.
unsafe impl<W: Watch> DmaMemory for WatchedMemory<W> {
    type Block = WatchedBlock<W>;
    fn allocate(&self, layout: DmaLayout) -> Result<WatchedBlock<W>, DmaError> {
        Ok(WatchedBlock(self.0.allocate(layout)?, self.1.clone()))
    }
    fn full_barrier(&self) {
        self.0.full_barrier();
    }
}

// SAFETY: as the pool's block.
unsafe impl<W: Watch> DmaBlock for WatchedBlock<W> {
    fn words(&self) -> &[AtomicU64] {
        self.0.words()
    }
    fn address(&self) -> PhysAddr {
        self.0.address()
    }
    fn publish(&self, words: Range<usize>) {
        self.0.publish(words);
        self.1.stored();
    }
    fn observe(&self, words: Range<usize>) {
        self.0.observe(words);
    }
}
