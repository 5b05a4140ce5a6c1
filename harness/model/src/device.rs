//! One modelled SMMU: its registers, its caches, and what it has to say.

use smmu_types::regs::{cr0, cr2};
use smmu_types::{CacheTag, StreamId};

use super::hazard::{Hazard, Violation};
use super::memory::Ram;
use super::profile::Profile;
use super::queues::{Feed, Which};
use super::regs::RegisterFile;
use super::second::SecondRegisters;
use super::stream::{ConfigCache, StreamTable};
use super::tlb::Tlb;
use smmu_types::Irq;

#[derive(Debug)]
pub(super) struct Smmu {
    pub(super) index: usize,
    pub(super) profile: Profile,
    pub(super) regs: RegisterFile,
    pub(super) second_regs: SecondRegisters,
    pub(super) main: Feed,
    pub(super) second: Feed,
    pub(super) config: ConfigCache,
    pub(super) tlb: Tlb,
    pub(super) interrupts: Vec<Irq>,
    pub(super) hazards: Vec<Hazard>,
}

impl Smmu {
    pub(super) fn new(index: usize, profile: &Profile) -> Self {
        let profile = profile.bounded();
        Smmu {
            index,
            regs: RegisterFile::default(),
            second_regs: SecondRegisters::default(),
            main: Feed::with(profile.faults.clone()),
            second: Feed::default(),
            config: ConfigCache::default(),
            tlb: Tlb::default(),
            interrupts: Vec::new(),
            hazards: Vec::new(),
            profile,
        }
    }

    /// Registers and caches as at power-on. Injected faults are part of the machine and stay.
    pub(super) fn reset(&mut self) {
        self.regs = RegisterFile::default();
        self.second_regs = SecondRegisters::default();
        self.main.reset();
        self.second.reset();
        self.config = ConfigCache::default();
        self.tlb = Tlb::default();
    }

    pub(super) fn translates(&self) -> bool {
        self.regs.cr0 & cr0::SMMUEN != 0
    }

    pub(super) fn e2h(&self) -> bool {
        self.regs.cr2 & cr2::E2H != 0
    }

    /// The stream table as the SMMU understands the registers: sizes that are too large are cut,
    /// and a base loses the bits below its alignment.
    pub(super) fn stream_table(&self) -> StreamTable {
        let config = self.regs.strtab_base_cfg;
        let log2 = (config & 0x3f).min(u32::from(self.profile.sid_bits));
        let split = match config >> 6 & 0x1f {
            split @ (8 | 10) => split,
            _ => 6,
        };
        let split = (self.profile.two_level && config >> 16 & 3 == 1).then_some(split);
        let mut table = StreamTable { base: 0, log2, split };
        table.base = self.regs.strtab_base & 0x000f_ffff_ffff_ffc0 & !(table.bytes() - 1);
        table
    }

    pub(super) fn interrupt(&mut self, irq: Irq) {
        self.interrupts.push(irq);
    }

    /// Note a hazard; a driver that polls through one gets it once.
    pub(super) fn hazard(&mut self, hazard: Hazard) {
        if self.hazards.last() != Some(&hazard) {
            self.hazards.push(hazard);
        }
    }

    pub(super) fn violation(&mut self, violation: Violation) {
        let smmu = self.index;
        self.hazard(Hazard::Protocol { smmu, violation });
    }

    pub(super) fn unsupported(&mut self, stream: StreamId, feature: &'static str) {
        let smmu = self.index;
        self.hazard(Hazard::Unsupported { smmu, stream, feature });
    }

    pub(super) fn lines_with_tag(&self, tag: CacheTag) -> usize {
        self.tlb.count(tag)
    }

    /// Consume until the queues are empty or stop.
    pub(super) fn drain(&mut self, ram: &Ram) {
        // Twice the largest queue: commands cannot appear while this runs.
        let all = 2 << smmu_types::queue::QueueSize::MAX_LOG2;
        self.consume(ram, Which::Main, all);
        self.consume(ram, Which::Second, all);
    }

    /// Time passes. It tells only a driver that waits for an MSI, and so looks at no register, anything new.
    pub(super) fn tick(&mut self, ram: &Ram) {
        if self.profile.msi {
            self.consume(ram, Which::Main, self.pace(Which::Main));
        }
    }
}
