//! Three callers on one queue, and a thread that consumes the ring as an SMMU does.
//!
//!     cargo run -p smmu-cmdq --example ring

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst, fence};

use smmu_cmdq::{CommandQueue, Port, QueueConfig};
use smmu_types::queue::QueueSize;
use smmu_types::seam::{DmaBlock, Registers, StdWait};
use smmu_types::{Asid, Command, PhysAddr, RawCommand, SmmuId, Vmid};

/// An SMMU with the registers `CMDQ_PROD` and `CMDQ_CONS`, and a ring of 8 commands.
#[derive(Default)]
struct ToySmmu {
    prod: AtomicU32,
    cons: AtomicU32,
    ring: [AtomicU64; 16],
}

impl ToySmmu {
    /// Carry out everything up to `CMDQ_PROD`, in order.
    fn consume(&self) {
        let mut cons = self.cons.load(SeqCst);
        while cons != self.prod.load(SeqCst) {
            let slot = cons as usize % 8 * 2;
            let words = [&self.ring[slot], &self.ring[slot + 1]];
            println!("SMMU: {}", Command::decode(RawCommand(words.map(|word| word.load(SeqCst)))));
            cons = (cons + 1) % 16;
            self.cons.store(cons, SeqCst);
        }
    }
}

impl Registers for &ToySmmu {
    fn read32(&self, offset: u32) -> u32 {
        match offset {
            o if o == Port::MAIN.producer => self.prod.load(SeqCst),
            o if o == Port::MAIN.consumer => self.cons.load(SeqCst),
            _ => 0, // GERROR, GERRORN: no error
        }
    }
    fn write32(&self, offset: u32, value: u32) {
        assert_eq!(offset, Port::MAIN.producer);
        self.prod.store(value, SeqCst);
    }
    fn read64(&self, offset: u32) -> u64 {
        self.read32(offset).into()
    }
    fn write64(&self, offset: u32, value: u64) {
        self.write32(offset, value as u32);
    }
}

struct RingMemory<'s>(&'s ToySmmu);

// SAFETY: only the thread below uses the address, and it only reads.
unsafe impl DmaBlock for RingMemory<'_> {
    fn words(&self) -> &[AtomicU64] {
        &self.0.ring
    }
    fn address(&self) -> PhysAddr {
        PhysAddr(0x8000_0000)
    }
    fn publish(&self, _: Range<usize>) {
        fence(SeqCst);
    }
    fn observe(&self, _: Range<usize>) {
        fence(SeqCst);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let smmu = ToySmmu::default();
    let size = QueueSize::from_log2(3).ok_or("no queue of this size")?;
    let config = QueueConfig::default();
    let queue: CommandQueue<_, _, _> =
        CommandQueue::new(SmmuId(0), &smmu, RingMemory(&smmu), size, StdWait::new(), config)?;
    std::thread::scope(|scope| {
        let callers: Vec<_> = (1..=3)
            .map(|asid| {
                let (queue, asid) = (&queue, Asid(asid));
                let flush = [Command::TlbiNhAsid { vmid: Vmid(0), asid }; 2];
                scope.spawn(move || (asid, queue.run(&flush)))
            })
            .collect();
        while callers.iter().any(|caller| !caller.is_finished()) {
            smmu.consume();
            std::thread::yield_now();
        }
        for caller in callers {
            let (asid, proof) = caller.join().map_err(|_| "a caller panicked")?;
            println!("ASID {}: flushed on {}", asid.0, proof?.smmu());
        }
        Ok(())
    })
}
