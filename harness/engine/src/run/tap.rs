//! A tap on an SMMU's registers that sees which commands reach its queue.
//!
//! It looks at the queue in memory at the moment `CMDQ_PROD` is written: at what the SMMU is shown,
//! not at what some layer above believes it has sent.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

#[cfg(feature = "record")]
use smmu_driver::smmu_types::SubstreamId;
use smmu_driver::smmu_types::queue::QueueSize;
use smmu_driver::smmu_types::regs::{self, vcmdq};
use smmu_driver::smmu_types::seam::Registers;
use smmu_driver::smmu_types::{Command, Completion, PhysAddr, RawCommand};

#[cfg(feature = "record")]
use super::entries::{Changed, Words};
use crate::alloc_fault;
use crate::lock::{Mutex, MutexGuard};
use crate::machine::Ram;
use crate::prelude::*;
#[cfg(feature = "record")]
use crate::row::Hex;
use crate::row::{Detail, Facts, Queue};
use crate::transcript::{LineKind, Recorder};

/// Where a command queue has its registers.
#[derive(Clone, Copy, Debug)]
struct QueueLayout {
    base: u32,
    producer: u32,
    consumer: u32,
    enable: u32,
    enable_bit: u32,
    acknowledge: u32,
}

const MAIN: QueueLayout = QueueLayout {
    base: regs::CMDQ_BASE.offset(),
    producer: regs::CMDQ_PROD.offset(),
    consumer: regs::CMDQ_CONS.offset(),
    enable: regs::CR0.offset(),
    enable_bit: regs::cr0::CMDQEN,
    acknowledge: regs::GERRORN.offset(),
};

const SECOND: QueueLayout = QueueLayout {
    base: vcmdq::BASE,
    producer: vcmdq::PROD,
    consumer: vcmdq::CONS,
    enable: vcmdq::CONFIG,
    enable_bit: vcmdq::ENABLE,
    acknowledge: vcmdq::GERRORN,
};

/// Registers that record commands and acknowledgements. Clones share what they have seen.
#[derive(Clone)]
pub struct Tap {
    registers: Arc<dyn Registers + Send + Sync>,
    ram: Ram,
    recorder: Recorder,
    name: Arc<str>,
    layout: QueueLayout,
    seen: Arc<Mutex<Seen>>,
}

/// Called after each completed sync.
pub(crate) type Watch = dyn Fn() + Send + Sync;

impl core::fmt::Debug for Tap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tap").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Seen {
    queue: Option<(PhysAddr, QueueSize)>,
    producer: u32,
    running: bool,
    /// How often the consumer was read.
    reads: u64,
    kept: Option<Vec<RawCommand>>,
    after_enable: Option<Arc<Watch>>,
    #[cfg(feature = "record")]
    entries: super::entries::Entries,
    /// The commands that the SMMU may not have consumed yet: the numbers of their lines.
    #[cfg(feature = "record")]
    pending: Vec<u64>,
    #[cfg(feature = "record")]
    batches: usize,
}

impl core::fmt::Debug for Seen {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Seen").field("queue", &self.queue).finish_non_exhaustive()
    }
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
        let layout = MAIN;
        Tap { registers, ram, recorder, name: name.into(), layout, seen: Arc::default() }
    }

    /// A tap on the registers of a second command queue, at the offsets of [`vcmdq`]. Its lines
    /// carry `name`.
    pub fn on_second(
        registers: Arc<dyn Registers + Send + Sync>,
        ram: Ram,
        recorder: Recorder,
        name: &str,
    ) -> Self {
        Tap { layout: SECOND, ..Tap::new(registers, ram, recorder, name) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock()
    }

    /// Keep from now on, for [`take_shown`](Self::take_shown), what the SMMU is shown.
    pub(crate) fn keep(&self) {
        self.seen().kept.get_or_insert_default();
    }

    /// The commands that the SMMU was shown since the last call; none unless they are kept.
    pub(crate) fn take_shown(&self) -> Vec<RawCommand> {
        self.seen().kept.as_mut().map(core::mem::take).unwrap_or_default()
    }

    /// Call `watch` after each write of the register that turns the queue on, until it is replaced.
    pub(crate) fn set_watch(&self, watch: Option<Arc<Watch>>) {
        self.seen().after_enable = watch;
    }

    /// How often the consumer was read since the last call.
    pub(crate) fn take_reads(&self) -> u64 {
        core::mem::take(&mut self.seen().reads)
    }

    fn look(&self, offset: u32, value: u64) {
        let mut seen = self.seen();
        let QueueLayout { base, producer, enable, enable_bit, acknowledge, .. } = self.layout;
        if offset == base {
            let size = QueueSize::from_log2((value & 0x1f) as u8);
            seen.queue = size.map(|size| (PhysAddr(value & ADDRESS), size));
            #[cfg(feature = "record")]
            seen.pending.clear();
        } else if offset == enable {
            seen.running = value as u32 & enable_bit != 0;
        } else if offset == producer {
            let producer = value as u32;
            if seen.running {
                self.record(&mut seen, producer);
            }
            seen.producer = producer;
        } else if offset == acknowledge {
            self.recorder.about(LineKind::Acknowledge, &self.name, || "GERROR".into());
        }
        #[cfg(feature = "record")]
        seen.entries.wrote(offset, value);
    }

    fn record(&self, seen: &mut Seen, producer: u32) {
        let Some((base, size)) = seen.queue else { return };
        let new = size.used(producer, seen.producer).unwrap_or(0);
        #[cfg(feature = "record")]
        if new > 0 {
            seen.batches += 1;
        }
        for n in 0..new {
            let index = u64::from(seen.producer.wrapping_add(n) & (size.entries() - 1));
            let word = |at: u64| {
                let address = PhysAddr(base.0 + index * 16 + at);
                self.ram.word(address).map_or(0, |word| word.load(Ordering::Acquire))
            };
            let raw = RawCommand([word(0), word(8)]);
            #[cfg(feature = "record")]
            self.record_stores(seen, raw);
            let facts = || {
                Facts::of(Detail::Command {
                    queue: if self.layout.base == MAIN.base { Queue::Main } else { Queue::Second },
                    position: seen.producer.wrapping_add(n) & size.pointer_mask(),
                    consumed: None,
                    #[cfg(feature = "record")]
                    batch: seen.batches,
                    #[cfg(not(feature = "record"))]
                    batch: 0,
                    fields: Vec::new(),
                })
            };
            #[cfg(feature = "record")]
            let serial = self.recorder.serial();
            self.recorder.typed(LineKind::Command, Some(&self.name), &raw.0, facts, || text(raw));
            #[cfg(feature = "record")]
            alloc_fault::suspended(|| seen.pending.push(serial));
            if let Some(kept) = &mut seen.kept {
                // The driver may be running under injected allocation failures.
                alloc_fault::suspended(|| kept.push(raw));
            }
        }
    }
}

#[cfg(feature = "record")]
impl Tap {
    /// Records the entries that a command is about, if they have changed.
    fn record_stores(&self, seen: &mut Seen, raw: RawCommand) {
        let changed =
            alloc_fault::suspended(|| seen.entries.changed(&self.ram, &Command::decode(raw)));
        for Changed { stream, substream, before, after } in changed {
            let entry = if substream.is_some() { "CD" } else { "STE" };
            let hex = |words: Words| words.into_iter().map(Hex).collect();
            let facts = || Facts {
                stream: Some(stream),
                substream: substream.and_then(SubstreamId::new),
                detail: Some(Detail::Store {
                    entry: entry.into(),
                    before: hex(before),
                    after: hex(after),
                }),
                ..Facts::default()
            };
            self.recorder.typed(LineKind::Store, Some(&self.name), &after, facts, || {
                let pairs = before.iter().zip(&after).enumerate();
                let words = pairs.filter(|(_, (before, after))| before != after);
                let words: Vec<String> = words.map(|(n, _)| n.to_string()).collect();
                format!("{entry} of sid={stream}: words {}", words.join(", "))
            });
        }
    }

    /// The driver reads how far the SMMU has come.
    fn consumed(&self, consumer: u32) {
        let seen = &mut *self.seen();
        let Some((_, size)) = seen.queue else { return };
        let left = size.used(seen.producer, consumer).unwrap_or(0) as usize;
        let done = seen.pending.len().saturating_sub(left);
        for serial in seen.pending.drain(..done) {
            self.recorder.consumed(serial);
        }
    }
}

/// A command without what differs from machine to machine: where an MSI goes, and what it says.
fn text(raw: RawCommand) -> String {
    match Command::decode(raw) {
        Command::Sync { completion: Completion::Msi(_), .. } => "SYNC cs=irq msi".into(),
        command => command.to_string(),
    }
}

impl Registers for Tap {
    fn read32(&self, offset: u32) -> u32 {
        if offset == self.layout.consumer {
            self.seen().reads += 1;
        }
        let value = self.registers.read32(offset);
        #[cfg(feature = "record")]
        if offset == self.layout.consumer {
            self.consumed(value & 0x000f_ffff);
        }
        value
    }
    fn write32(&self, offset: u32, value: u32) {
        self.look(offset, value.into());
        self.registers.write32(offset, value);
        if offset == self.layout.enable {
            let watch = self.seen().after_enable.clone();
            if let Some(watch) = watch {
                watch();
            }
        }
    }
    fn read64(&self, offset: u32) -> u64 {
        self.registers.read64(offset)
    }
    fn write64(&self, offset: u32, value: u64) {
        self.look(offset, value);
        self.registers.write64(offset, value);
    }
}

#[cfg(test)]
mod tests {
    use smmu_driver::smmu_types::SyncMsi;
    use smmu_driver::smmu_types::pool::Window;

    use super::*;
    use smmu_model::{Model, Profile, SecondQueue};

    #[test]
    fn a_second_queue_is_seen_as_the_main_one_is() {
        let profile = Profile { second_queue: Some(SecondQueue::Restricted), ..Profile::default() };
        let model = Model::new(0x1000, &[profile]);
        let window = model.window();
        let recorder = Recorder::default();
        let registers = Arc::new(model.second_queue(0).unwrap());
        let ram = Ram::new(model.window());
        let tap = Tap::on_second(registers, ram, recorder.clone(), "smmu0");
        tap.keep();
        tap.write64(vcmdq::BASE, window.base().0 | 2);
        let [w0, w1] = Command::SYNC.encode().0;
        window.words()[0].store(w0, Ordering::Release);
        window.words()[1].store(w1, Ordering::Release);
        tap.write32(vcmdq::CONFIG, vcmdq::ENABLE);
        tap.write32(vcmdq::PROD, 1);
        assert_eq!(tap.read32(vcmdq::CONS), 1);
        assert_eq!((tap.take_reads(), tap.take_reads()), (1, 0));
        assert_eq!(tap.take_shown(), [Command::SYNC.encode()]);
        assert_eq!(recorder.transcript()[0].to_string(), "    command   smmu0 SYNC");
    }

    #[test]
    fn addresses_of_msis_are_not_told() {
        let msi = SyncMsi::new(PhysAddr(0x4000_1000), 7).unwrap();
        assert_eq!(text(Command::sync(Completion::Msi(msi)).encode()), "SYNC cs=irq msi");
        assert_eq!(text(Command::sync(Completion::Interrupt).encode()), "SYNC cs=irq");
    }
}
