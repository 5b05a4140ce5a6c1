//! One modelled SMMU: its registers, its caches, its devices, and what it reports.

use std::collections::BTreeMap;

use smmu_types::regs::{cr0, cr2};
use smmu_types::{CacheTag, Command, EventRecord, Irq, Ste, StreamId};

use crate::cache::config_cache::ConfigCache;
use crate::cache::tlb::{Tlb, TlbKey, TlbLine};
use crate::config::stream_table::StreamTableLayout;
use crate::dma::ats_device::AtsDevice;
use crate::dma::memo::Memo;
use crate::hazard::Hazard;
use crate::profile::Profile;
use crate::queue::enhanced::EnhancedQueue;
use crate::queue::feed::CommandFeed;
use crate::regs::register_file::RegisterFile;
use crate::regs::vcmdq_file::SecondRegisters;
use crate::violation::Violation;
use crate::waiting::pages::Pages;
use crate::waiting::stalls::Stalls;

/// State of one SMMU. Each room adds the methods that act on its part.
#[derive(Debug)]
pub(crate) struct ModelSmmu {
    pub(crate) index: usize,
    pub(crate) profile: Profile,
    pub(crate) regs: RegisterFile,
    pub(crate) second_regs: SecondRegisters,
    pub(crate) main: CommandFeed,
    pub(crate) second: CommandFeed,
    /// Those of all control pages, page by page.
    pub(crate) enhanced: Vec<EnhancedQueue>,
    pub(crate) config: ConfigCache,
    pub(crate) tlb: Tlb,
    /// Lines that a TLBI dropped since the last `CMD_SYNC`: until then a walk may still use them.
    pub(crate) unsynced: Vec<(TlbKey, TlbLine)>,
    /// The STEs that differed from the cached ones when the driver showed commands, by stream and
    /// oldest first. Only with [`Profile::word_by_word`].
    pub(crate) shown_stes: BTreeMap<u32, Vec<Ste>>,
    /// The invalidations of whole caches that are due since reset.
    pub(crate) due: Vec<Command>,
    /// An invalidation is checked, and drops nothing.
    pub(crate) only_checks: bool,
    /// The devices that have an ATC, by StreamID.
    pub(crate) devices: BTreeMap<u32, AtsDevice>,
    pub(crate) stalls: Stalls,
    pub(crate) pages: Pages,
    pub(crate) interrupts: Vec<Irq>,
    pub(crate) hazards: Vec<Hazard>,
    pub(crate) memo: Memo,
    /// Events that no event queue has, oldest first.
    pub(crate) unrecorded: Vec<EventRecord>,
}

impl ModelSmmu {
    pub(crate) fn new(index: usize, profile: &Profile) -> Self {
        let profile = profile.bounded();
        ModelSmmu {
            index,
            regs: RegisterFile::default(),
            second_regs: SecondRegisters::default(),
            main: CommandFeed::with(profile.faults.clone()),
            second: CommandFeed::default(),
            enhanced: enhanced(&profile),
            config: ConfigCache::of(&profile),
            tlb: Tlb::default(),
            unsynced: Vec::new(),
            shown_stes: BTreeMap::new(),
            due: due_after_reset(&profile),
            only_checks: false,
            devices: BTreeMap::new(),
            stalls: Stalls::default(),
            pages: Pages::default(),
            interrupts: Vec::new(),
            hazards: Vec::new(),
            memo: Memo::default(),
            unrecorded: Vec::new(),
            profile,
        }
    }

    /// Reset registers and caches as at power-on. Injected faults and devices stay, with their ATCs
    /// and page requests: they belong to the machine.
    pub(crate) fn reset(&mut self) {
        self.regs = RegisterFile::default();
        self.second_regs = SecondRegisters::default();
        self.main.reset();
        self.second.reset();
        for queue in &mut self.enhanced {
            queue.feed.reset();
            (queue.base, queue.prod, queue.cons) = (0, 0, 0);
        }
        self.forget();
        self.unsynced.clear();
        self.shown_stes.clear();
        self.due = due_after_reset(&self.profile);
        self.stalls.end_all();
    }

    fn forget(&mut self) {
        self.memo.forget();
        self.config = ConfigCache::of(&self.profile);
        self.tlb = Tlb::default();
    }

    /// Keeps nothing of a transaction, on an SMMU without caches.
    pub(crate) fn forget_without_caches(&mut self) {
        if !self.profile.caches {
            self.forget();
        }
    }

    pub(crate) fn translates(&self) -> bool {
        self.regs.cr0 & cr0::SMMUEN != 0
    }

    pub(crate) fn e2h(&self) -> bool {
        self.regs.cr2 & cr2::E2H != 0
    }

    /// The stream table that the registers describe. The SMMU cuts sizes that it does not support,
    /// and clears the bits of the base below its alignment.
    pub(crate) fn stream_table(&self) -> StreamTableLayout {
        let config = self.regs.strtab_base_cfg;
        let log2 = (config & 0x3f).min(u32::from(self.profile.sid_bits));
        let split = match config >> 6 & 0x1f {
            split @ (8 | 10) => split,
            _ => 6,
        };
        let split = (self.profile.two_level && config >> 16 & 3 == 1).then_some(split);
        let mut table = StreamTableLayout { base: 0, log2, split };
        table.base = self.regs.strtab_base & 0x000f_ffff_ffff_ffc0 & !(table.bytes() - 1);
        table
    }

    pub(crate) fn interrupt(&mut self, irq: Irq) {
        self.interrupts.push(irq);
    }

    /// Record a hazard. A repeat of the last one is dropped, so a polling driver gets it once.
    pub(crate) fn hazard(&mut self, hazard: Hazard) {
        if self.hazards.last() != Some(&hazard) {
            self.hazards.push(hazard);
        }
    }

    pub(crate) fn violation(&mut self, violation: Violation) {
        let smmu = self.index;
        self.hazard(Hazard::Protocol { smmu, violation });
    }

    /// The defined bits of a value. Any other set bit is a violation.
    pub(crate) fn defined(&mut self, register: &'static str, value: u64, bits: u64) -> u64 {
        if value & !bits != 0 {
            self.violation(Violation::ReservedBits { register, bits: value & !bits });
        }
        value & bits
    }

    pub(crate) fn unsupported(&mut self, stream: StreamId, feature: &'static str) {
        let smmu = self.index;
        self.hazard(Hazard::Unsupported { smmu, stream, feature });
    }

    pub(crate) fn lines_with_tag(&self, tag: CacheTag) -> usize {
        self.tlb.count(tag)
    }

    pub(crate) fn has_second_queue(&self) -> bool {
        self.profile.second_queue.is_some()
    }
}

fn enhanced(profile: &Profile) -> Vec<EnhancedQueue> {
    let count = profile.enhanced_queues.map_or(0, |has| 1 << (has.pages_log2 + has.queues_log2));
    (0..count).map(|_| EnhancedQueue::default()).collect()
}

/// 3.11: software invalidates all configuration and TLB caches before it enables translation.
fn due_after_reset(profile: &Profile) -> Vec<Command> {
    match (profile.unknown_at_reset, profile.hyp && profile.stage1) {
        (false, _) => Vec::new(),
        (true, false) => vec![Command::CfgiAll, Command::TlbiNsnhAll],
        (true, true) => vec![Command::CfgiAll, Command::TlbiNsnhAll, Command::TlbiEl2All],
    }
}
