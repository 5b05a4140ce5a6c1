//! An SMMU that does not snoop caches (`IDR0.COHACC` = 0) sees only published words.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::common::{QueueFixture, atc, illegal, nth, refused};
use rstest::rstest;
use smmu_cmdq::fake::Pace;
use smmu_cmdq::{CommandQueue, QueueConfig, SyncBy};
use smmu_types::fake::{HeapWindow, PoolBlock};
use smmu_types::seam::{CountingWait, DmaBlock};
use smmu_types::{Command, CommandErrorCode, PhysAddr};

/// A block with a CPU cache in front of it. `publish` writes words back.
struct CachedBlock {
    cache: Vec<AtomicU64>,
    memory: PoolBlock<HeapWindow>,
}

#[expect(unsafe_code, reason = "a block with a cache in front")]
// SAFETY: the device reads published words at the address of the block behind the cache.
unsafe impl DmaBlock for CachedBlock {
    fn words(&self) -> &[AtomicU64] {
        &self.cache
    }

    fn address(&self) -> PhysAddr {
        self.memory.address()
    }

    fn publish(&self, words: Range<usize>) {
        let memory = &self.memory.words()[words.clone()];
        for (memory, cache) in memory.iter().zip(&self.cache[words]) {
            memory.store(cache.load(SeqCst), SeqCst);
        }
    }

    fn observe(&self, _: Range<usize>) {}
}

fn sees_every_command(log2: u8, pace: Pace) {
    let fixture = QueueFixture::new(pace);
    let memory = fixture.block(log2, SyncBy::Polling);
    let cache = memory.words().iter().map(|_| AtomicU64::new(0)).collect();
    let block = CachedBlock { cache, memory };
    let (device, wait, config) = (&fixture.device, CountingWait::new(), QueueConfig::default());
    let queue: CommandQueue<_, _, _, 256> = fixture.queue_in(block, device, wait, log2, config);
    let mut want = Vec::new();
    for lap in 0..40 {
        for length in [1, 2, 3, 7, 1 << log2, 3 << log2] {
            let commands: Vec<_> = (lap..lap + length).map(nth).collect();
            let pushed = queue.push(None, &commands).unwrap();
            let ticket = queue.prove(pushed, &[nth(lap)]).unwrap();
            let _proof = queue.wait(ticket).unwrap();
            want.extend(commands);
            want.extend([nth(lap), Command::SYNC]);
        }
        // The SMMU also sees each CMD_SYNC that replaces a command.
        let error = refused(illegal(lap), CommandErrorCode::ILL);
        assert_eq!(queue.run(&[illegal(lap)]), Err(error));
        let _refused = queue.push(None, &[atc(), nth(lap)]).unwrap_err();
        want.extend([Command::SYNC, Command::SYNC, Command::SYNC, nth(lap)]);
    }
    let _proof = queue.run(&[]).unwrap();
    want.push(Command::SYNC);
    assert_eq!(device.executed(), want);
}

#[rstest]
fn every_word_is_published_before_cmdq_prod_covers_it(
    #[values(2, 3, 5)] log2: u8,
    #[values(Pace::OnWrite, Pace::PerRead(1), Pace::PerRead(3))] pace: Pace,
) {
    sees_every_command(log2, pace);
}
