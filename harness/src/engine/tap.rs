//! A tap on an SMMU's registers that sees which commands reach its queue.
//!
//! It looks at the queue in memory at the moment `CMDQ_PROD` is written: at what the SMMU is shown,
//! not at what some layer above believes it has sent.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use smmu_types::queue::QueueSize;
use smmu_types::regs;
use smmu_types::seam::Registers;
use smmu_types::{Command, PhysAddr, RawCommand};

use super::transcript::{Kind, Recorder};
use crate::machine::Ram;

/// Registers that record commands and acknowledgements. Clones share what they have seen.
#[derive(Clone)]
pub struct Tap {
    registers: Arc<dyn Registers + Send + Sync>,
    ram: Ram,
    recorder: Recorder,
    name: Arc<str>,
    seen: Arc<Mutex<Seen>>,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Seen {
    queue: Option<(PhysAddr, QueueSize)>,
    producer: u32,
    running: bool,
}

const ADDRESS: u64 = 0x000f_ffff_ffff_ffe0;

impl Tap {
    /// A tap on the registers of the SMMU called `name`.
    pub(crate) fn new(
        registers: Arc<dyn Registers + Send + Sync>,
        ram: Ram,
        recorder: Recorder,
        name: &str,
    ) -> Self {
        Tap { registers, ram, recorder, name: name.into(), seen: Arc::default() }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, offset: u32, value: u64) {
        let mut seen = self.seen();
        if offset == regs::CMDQ_BASE.offset() {
            let size = QueueSize::from_log2((value & 0x1f) as u8);
            seen.queue = size.map(|size| (PhysAddr(value & ADDRESS), size));
        } else if offset == regs::CR0.offset() {
            seen.running = value as u32 & regs::cr0::CMDQEN != 0;
        } else if offset == regs::CMDQ_PROD.offset() {
            let producer = value as u32;
            if seen.running {
                self.record(&seen, producer);
            }
            seen.producer = producer;
        } else if offset == regs::GERRORN.offset() {
            self.recorder.about(Kind::Acknowledge, &self.name, || "GERROR".into());
        }
    }

    fn record(&self, seen: &Seen, producer: u32) {
        let Some((base, size)) = seen.queue else { return };
        let new = size.used(producer, seen.producer).unwrap_or(0);
        for n in 0..new {
            let index = u64::from(seen.producer.wrapping_add(n) & (size.entries() - 1));
            let word = |at: u64| {
                let address = PhysAddr(base.0 + index * 16 + at);
                self.ram.word(address).map_or(0, |word| word.load(Ordering::Acquire))
            };
            let raw = RawCommand([word(0), word(8)]);
            self.recorder
                .raw(Kind::Command, &self.name, &raw.0, || Command::decode(raw).to_string());
        }
    }
}

impl Registers for Tap {
    fn read32(&self, offset: u32) -> u32 {
        self.registers.read32(offset)
    }
    fn write32(&self, offset: u32, value: u32) {
        self.look(offset, value.into());
        self.registers.write32(offset, value);
    }
    fn read64(&self, offset: u32) -> u64 {
        self.registers.read64(offset)
    }
    fn write64(&self, offset: u32, value: u64) {
        self.look(offset, value);
        self.registers.write64(offset, value);
    }
}
