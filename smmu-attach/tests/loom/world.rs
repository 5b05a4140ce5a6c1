//! The parts of a model: one SMMU, its devices and domains, and the run of all interleavings.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use loom::thread;
use smmu_attach::*;
use smmu_types::fake::ID_REGISTERS;
use smmu_types::*;

use crate::ats::Switches;
use crate::hardware::{Beside, DOMAINS, Fault, LoomSmmu, Memory, Owners, ROOT, SMMU, Sink};
use crate::seams::{Modelled, forget_waiting};

pub(crate) const STAGE_1: TranslationStage = TranslationStage::Stage1 { mair: 0xff };
pub(crate) const STAGE_2: TranslationStage = TranslationStage::Stage2 { start_level: 1 };

/// Domains D, E and F, and one device for each stream from 0.
pub(crate) struct World {
    pub(crate) hardware: Arc<LoomSmmu>,
    pub(crate) smmu: Smmu<Modelled>,
    pub(crate) devices: Vec<Device<Modelled>>,
    pub(crate) domains: [Domain<Modelled>; DOMAINS],
}

pub(crate) fn smmu(
    beside: Beside,
    tables: [usize; DOMAINS],
) -> (Arc<LoomSmmu>, Env<Modelled>, Smmu<Modelled>) {
    let hardware = LoomSmmu::new(beside, tables);
    let (memory, sink) = (Memory::new(hardware.clone()), Sink(hardware.clone()));
    let (owners, switches) = (Owners(hardware.clone()), Switches(hardware.clone()));
    let env = Env::with_ats(memory, sink, owners, switches).unwrap();
    let (two_level, mut registers) = (beside == Beside::SecondLevel, ID_REGISTERS);
    match beside {
        Beside::Nothing | Beside::SecondLevel => {}
        // IDR1.SSIDSIZE = 1.
        Beside::Substreams => registers.idr1 |= 1 << 6,
        // IDR0.ATS.
        Beside::Ats => registers.idr0 |= 1 << 10,
    }
    let mut caps = Capabilities::decode(registers);
    // Small tag spaces keep the model small.
    (caps.asid_bits, caps.vmid_bits) = (8, 8);
    caps.two_level_stream_table = two_level;
    let bits = if two_level { 9 } else { 2 };
    let config = SmmuConfig::default().with_stream_bits(bits);
    let smmu = Smmu::new(&env, SMMU, registers, caps, config).unwrap();
    (hardware, env, smmu)
}

impl World {
    /// A world whose domains are all of one stage, with tables of their own.
    pub(crate) fn new(stage: TranslationStage, devices: u32) -> Self {
        Self::with([stage; DOMAINS], devices, [0, 1, 2])
    }

    /// A world of one device with substreams or ATS.
    pub(crate) fn beside(beside: Beside, stage: TranslationStage) -> Self {
        let config = match beside {
            Beside::Substreams => DeviceConfig::default().with_substream_bits(1),
            Beside::Ats => DeviceConfig::default().with_ats(AtsUse::Switched),
            Beside::Nothing | Beside::SecondLevel => DeviceConfig::default(),
        };
        Self::of(beside, [stage; DOMAINS], (1, config), [0, 1, 2])
    }

    /// A world whose domains have these stages, and the tables of these numbers.
    pub(crate) fn with(
        stages: [TranslationStage; DOMAINS],
        devices: u32,
        tables: [usize; DOMAINS],
    ) -> Self {
        Self::of(Beside::Nothing, stages, (devices, DeviceConfig::default()), tables)
    }

    fn of(
        beside: Beside,
        stages: [TranslationStage; DOMAINS],
        (devices, config): (u32, DeviceConfig),
        tables: [usize; DOMAINS],
    ) -> Self {
        let (hardware, env, smmu) = smmu(beside, tables);
        let add = |n| smmu.add_device_with(&[StreamId(n)], config).unwrap();
        let devices = (0..devices).map(add).collect();
        let domains = std::array::from_fn(|n| {
            let root = PhysAddr(ROOT + tables[n] as u64 * 0x1000);
            let description = TableDescription::new(stages[n], root);
            Domain::new(&env, DomainId(n as u32), description).unwrap()
        });
        World { hardware, smmu, devices, domains }
    }

    /// Attach device `n` to domain `to`.
    pub(crate) fn attached(self, n: usize, to: usize) -> Self {
        assert_eq!(self.devices[n].attach(&self.domains[to]), Ok(Outcome::Done));
        self
    }

    /// A thread that makes one DMA.
    pub(crate) fn walker(&self, stream: u32) -> thread::JoinHandle<()> {
        let hardware = self.hardware.clone();
        spawn(move || hardware.dma(stream))
    }

    /// A thread that unmaps the page of a domain.
    pub(crate) fn mapper(&self, domain: usize) -> thread::JoinHandle<()> {
        let (hardware, domain) = (self.hardware.clone(), self.domains[domain].clone());
        spawn(move || hardware.unmap(&[&domain]))
    }

    /// How many devices and substreams use the tag of a domain.
    pub(crate) fn users(&self, domain: usize) -> u32 {
        let array = self.domains[domain].array();
        array.iter().filter(|entry| entry.spec.tag().is_some()).map(|entry| entry.users).sum()
    }

    /// Nothing is in use any more, and every number is free.
    pub(crate) fn end(self) {
        self.hardware.fail(Fault::None);
        assert_eq!(self.smmu.settle(), Ok(()));
        for (n, device) in self.devices.iter().enumerate() {
            assert_eq!(device.block().settled(), Ok(()));
            self.hardware.dma(n as u32);
        }
        assert!(self.domains.iter().all(|domain| domain.array().is_empty()), "a user is left");
        for stats in [self.smmu.asids().stats(), self.smmu.vmids().stats()] {
            assert_eq!(stats.free, stats.capacity, "a number is lost");
        }
    }
}

/// A thread with room for an attach: loom's own have 32 KiB.
pub(crate) fn spawn<T: Send + 'static>(
    run: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    // When a model fails, loom drops threads that have not run, outside of the model.
    let run = ManuallyDrop::new(run);
    let run = move || ManuallyDrop::into_inner(run)();
    thread::Builder::new().stack_size(0x1_0000).spawn(run).unwrap()
}

/// Run every interleaving with up to this many preemptions.
pub(crate) fn model(preemptions: usize, test: impl Fn() + Copy + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    let (count, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let runs = count.clone();
    builder.check(move || {
        runs.fetch_add(1, Ordering::Relaxed);
        forget_waiting();
        spawn(test).join().unwrap();
    });
    let runs = count.load(Ordering::Relaxed);
    println!("{runs} interleavings in {:.1} s", start.elapsed().as_secs_f64());
}

/// The model fails, and says `why`.
pub(crate) fn must_fail(why: &str, test: impl FnOnce()) {
    let start = Instant::now();
    let Err(message) = catch_unwind(AssertUnwindSafe(test)) else {
        panic!("no interleaving notices");
    };
    let message = message.downcast_ref::<String>().map_or_else(
        || message.downcast_ref::<&str>().copied().unwrap_or_default(),
        |message| message.as_str(),
    );
    println!("after {:.1} s: {message}", start.elapsed().as_secs_f64());
    assert!(message.contains(why), "another failure: {message}");
}
