//! A model with one SMMU that the tests program by hand, without any driver crate.

use std::cell::Cell;
use std::sync::atomic::Ordering;

use smmu_types::pool::{HeapWindow, Window};
use smmu_types::range::Span;
use smmu_types::seam::{Registers, RegistersExt};
use smmu_types::{
    Asid, Command, EventRecord, Iova, Ipa, Leaf, PhysAddr, RawCommand, StreamId, SubstreamId, Vmid,
    regs,
};

use crate::{DmaRefused, Hazard, Model, ModelRegisters, Profile, Violation};

pub(super) const RAM: u64 = 0x4000_0000;
pub(super) const BYTES: usize = 0x20_0000;
pub(super) const CMDQ: u64 = RAM + 0x1000;
pub(super) const EVENTQ: u64 = RAM + 0x2000;
pub(super) const STRTAB: u64 = RAM + 0x1_0000;
pub(super) const CDS: u64 = RAM + 0x2_0000;
const TABLES: u64 = RAM + 0x4_0000;
/// Pages for data.
pub(super) const A: u64 = RAM + 0x10_0000;
pub(super) const B: u64 = RAM + 0x10_1000;
pub(super) const C: u64 = RAM + 0x10_2000;

pub(super) const SID: StreamId = StreamId(8);
pub(super) const OTHER: StreamId = StreamId(0x10);
pub(super) const IOVA: u64 = 0x5000_0000;

/// Attributes of a page that devices may read and write.
pub(super) const S1_RW: u64 = 1 << 6 | 3 << 8 | 1 << 10 | 1 << 11;
pub(super) const S2_RW: u64 = 0xf << 2 | 3 << 6 | 3 << 8 | 1 << 10;
pub(super) const GLOBAL: u64 = S1_RW & !(1 << 11);
const CMDQ_LOG2: u32 = 4;
pub(super) const EVENTQ_LOG2: u32 = 3;

pub(super) struct ModelRig {
    pub(super) model: Model,
    pub(super) regs: ModelRegisters,
    pub(super) smmu: usize,
    window: HeapWindow,
    next: Cell<u64>,
    value: Cell<u32>,
}

impl ModelRig {
    pub(super) fn new() -> Self {
        Self::with(Profile::default())
    }

    pub(super) fn with(profile: Profile) -> Self {
        let rig = Self::off(profile);
        rig.bring_up();
        rig
    }

    /// The SMMU in its power-on state.
    pub(super) fn off(profile: Profile) -> Self {
        Self::of(Model::new(BYTES, &[profile]), 0)
    }

    pub(super) fn of(model: Model, smmu: usize) -> Self {
        ModelRig {
            regs: model.registers(smmu).unwrap(),
            window: model.window(),
            model,
            smmu,
            next: Cell::new(TABLES),
            value: Cell::new(0),
        }
    }

    /// A register sequence that QEMU's SMMUv3 accepts, with a linear stream table of 256 entries.
    pub(super) fn bring_up(&self) {
        self.queues();
        self.run(&[Command::CfgiAll, Command::TlbiNsnhAll]);
        self.regs.write(regs::CR0, 0xd);
        assert_eq!(self.regs.read(regs::CR0ACK), 0xd);
        assert_eq!(self.model.take_hazards(), []);
    }

    /// The first half of it: the command queue is on, and no command was sent.
    pub(super) fn queues(&self) {
        let r = &self.regs;
        r.write(regs::CR1, regs::cr1::COHERENT);
        r.write(regs::CR2, regs::cr2::RECINVSID);
        r.write(regs::STRTAB_BASE, 1 << 62 | self.own(STRTAB));
        r.write(regs::STRTAB_BASE_CFG, 8);
        r.write(regs::CMDQ_BASE, 1 << 62 | self.own(CMDQ) | u64::from(CMDQ_LOG2));
        r.write(regs::CMDQ_PROD, 0);
        r.write(regs::CMDQ_CONS, 0);
        r.write(regs::EVENTQ_BASE, 1 << 62 | self.own(EVENTQ) | u64::from(EVENTQ_LOG2));
        r.write(regs::EVENTQ_PROD, 0);
        r.write(regs::EVENTQ_CONS, 0);
        r.write(regs::IRQ_CTRL, regs::irq_ctrl::GERROR | regs::irq_ctrl::EVENTQ);
        r.write(regs::CR0, regs::cr0::CMDQEN);
    }

    /// Each SMMU has its own queues and stream table, at its own offset.
    pub(super) fn own(&self, address: u64) -> u64 {
        address + self.smmu as u64 * 0x8_0000
    }

    pub(super) fn put(&self, address: u64, word: u64) {
        let index = (address - RAM) / 8;
        self.window.words()[index as usize].store(word, Ordering::Release);
    }

    pub(super) fn get(&self, address: u64) -> u64 {
        self.window.words()[((address - RAM) / 8) as usize].load(Ordering::Acquire)
    }

    pub(super) fn put_all(&self, address: u64, words: &[u64]) {
        for (i, word) in words.iter().enumerate() {
            self.put(address + 8 * i as u64, *word);
        }
    }

    /// A zeroed table.
    pub(super) fn table(&self) -> u64 {
        let table = self.next.get();
        self.next.set(table + 0x1000);
        table
    }

    /// The address of the descriptor of `iova` at `level`, below the level-1 table `root`. Creates
    /// missing tables.
    pub(super) fn slot(&self, root: u64, iova: u64, level: u32) -> u64 {
        let mut table = root;
        let mut at = 1;
        loop {
            let slot = table + (iova >> (39 - 9 * at) & 0x1ff) * 8;
            if at == level {
                return slot;
            }
            if self.get(slot) & 3 != 3 {
                let next = self.table();
                self.put(slot, next | 3);
            }
            table = self.get(slot) & 0xffff_ffff_f000;
            at += 1;
        }
    }

    pub(super) fn map(&self, root: u64, iova: u64, page: u64, attributes: u64) {
        self.put(self.slot(root, iova, 3), page | 3 | attributes);
    }

    pub(super) fn map_block(&self, root: u64, iova: u64, level: u32, to: u64, attributes: u64) {
        self.put(self.slot(root, iova, level), to | 1 | attributes);
    }

    pub(super) fn unmap(&self, root: u64, iova: u64) {
        self.put(self.slot(root, iova, 3), 0);
    }

    pub(super) fn ste(&self, sid: StreamId) -> u64 {
        self.own(STRTAB) + u64::from(sid.0) * 64
    }

    pub(super) fn cd(&self, sid: StreamId) -> u64 {
        self.own(CDS) + u64::from(sid.0) * 64
    }

    pub(super) fn write_cd(&self, sid: StreamId, asid: u16, root: u64) {
        self.put_all(self.cd(sid), &cd(asid, root));
    }

    /// Write a stage-1 stream, without `CFGI_STE`.
    pub(super) fn write_stage1(&self, sid: StreamId, asid: u16, root: u64) {
        self.write_cd(sid, asid, root);
        self.put_all(self.ste(sid), &[1 | 5 << 1 | self.cd(sid), 0, 0, 0]);
    }

    /// A stage-1 stream with a new table.
    pub(super) fn stage1(&self, sid: StreamId, asid: u16) -> u64 {
        let root = self.table();
        self.write_stage1(sid, asid, root);
        self.run(&[cfgi_ste(sid)]);
        root
    }

    /// A stage-2 stream with a new table.
    pub(super) fn stage2(&self, sid: StreamId, vmid: u16) -> u64 {
        let root = self.table();
        self.put_all(self.ste(sid), &stage2_ste(vmid, root));
        self.run(&[cfgi_ste(sid)]);
        root
    }

    /// Queue a command, without `CMD_SYNC` and wait.
    pub(super) fn send(&self, command: Command) {
        self.send_raw(command.encode().0);
    }

    pub(super) fn send_raw(&self, words: [u64; 2]) {
        let prod = self.regs.read(regs::CMDQ_PROD);
        let index = u64::from(prod) & ((1 << CMDQ_LOG2) - 1);
        self.put_all(self.own(CMDQ) + index * 16, &words);
        self.regs.write(regs::CMDQ_PROD, (prod + 1) & ((2 << CMDQ_LOG2) - 1));
    }

    /// Queue commands and a `CMD_SYNC`, and wait.
    pub(super) fn run(&self, commands: &[Command]) {
        for command in commands {
            self.send(*command);
        }
        self.send(Command::SYNC);
        assert!(self.wait(), "the queue stopped");
    }

    /// Poll until the queue is empty; false if it stops before.
    pub(super) fn wait(&self) -> bool {
        (0..100).any(|_| self.idle())
    }

    pub(super) fn idle(&self) -> bool {
        let pointers = (2 << CMDQ_LOG2) - 1;
        self.regs.read(regs::CMDQ_CONS) & pointers == self.regs.read(regs::CMDQ_PROD)
    }

    /// Write a new value by DMA, and return the page that it landed in.
    pub(super) fn dma(&self, sid: StreamId, iova: u64) -> Option<u64> {
        self.value.set(self.value.get() + 1);
        // Differs from every descriptor, so the search below is unambiguous.
        let value = 0xfeed_0000 | self.value.get();
        if self.model.dma_write32(self.smmu, sid, iova, value) == Err(DmaRefused) {
            return None;
        }
        let words = self.window.words().iter();
        let at = words.map(|w| w.load(Ordering::Acquire)).position(|w| w as u32 == value).unwrap();
        Some((RAM + at as u64 * 8) & !0xfff)
    }

    pub(super) fn read(&self, sid: StreamId, iova: u64) -> Option<u32> {
        self.model.dma_read32(self.smmu, sid, iova).ok()
    }

    /// Take all event records out of the queue.
    pub(super) fn events(&self) -> Vec<EventRecord> {
        let mut events = Vec::new();
        let mask = (2u32 << EVENTQ_LOG2) - 1;
        loop {
            let prod = self.regs.read(regs::EVENTQ_PROD);
            let cons = self.regs.read(regs::EVENTQ_CONS);
            if prod & mask == cons & mask {
                return events;
            }
            let slot = self.own(EVENTQ) + u64::from(cons & (mask >> 1)) * 32;
            events.push(EventRecord([0, 8, 16, 24].map(|i| self.get(slot + i))));
            self.regs.write(regs::EVENTQ_CONS, prod & 1 << 31 | ((cons + 1) & mask));
        }
    }

    /// The events as text.
    pub(super) fn event_lines(&self) -> Vec<String> {
        self.events().iter().map(ToString::to_string).collect()
    }

    /// The mistakes of the driver since the last call. There was no other hazard.
    pub(super) fn violations(&self) -> Vec<Violation> {
        let hazards = self.model.take_hazards();
        let violation = |hazard: &Hazard| match hazard {
            Hazard::Protocol { violation, .. } => *violation,
            other => panic!("{other}"),
        };
        hazards.iter().map(violation).collect()
    }

    /// The missing commands of all hazards since the last call, as text.
    pub(super) fn missing(&self) -> Vec<String> {
        self.model.take_hazards().iter().map(missing_of).collect()
    }

    pub(super) fn audit(&self) -> Vec<String> {
        self.model.audit().iter().map(missing_of).collect()
    }

    pub(super) fn write64(&self, offset: u32, value: u64) {
        self.regs.write64(offset, value);
    }
}

fn missing_of(hazard: &Hazard) -> String {
    hazard.missing().map_or_else(|| hazard.to_string(), ToString::to_string)
}

/// T0SZ 25, IPS 44 bits.
pub(super) fn cd(asid: u16, root: u64) -> [u64; 4] {
    let w0 = 25 | 1 << 30 | 1 << 31 | 4 << 32 | 1 << 41 | 7 << 45 | u64::from(asid) << 48;
    [w0, root, 0, 0xff]
}

/// S2T0SZ 25, SL0 1, S2PS 44 bits.
pub(super) fn stage2_ste(vmid: u16, root: u64) -> [u64; 4] {
    let w2 = u64::from(vmid) | 25 << 32 | 1 << 38 | 4 << 48 | 1 << 51 | 1 << 53 | 1 << 58;
    [1 | 6 << 1, 0, w2, root]
}

pub(super) fn cfgi_ste(stream: StreamId) -> Command {
    Command::CfgiSte { stream, leaf: Leaf::Last }
}

pub(super) fn cfgi_cd(stream: StreamId) -> Command {
    Command::CfgiCd { stream, substream: SubstreamId::default(), leaf: Leaf::Last }
}

pub(super) fn nh_va(vmid: u16, asid: u16, va: u64, leaf: Leaf) -> Command {
    let span = Span::single(Iova(va), leaf).unwrap();
    Command::TlbiNhVa { vmid: Vmid(vmid), asid: Asid(asid), span }
}

pub(super) fn nh_vaa(vmid: u16, va: u64, leaf: Leaf) -> Command {
    Command::TlbiNhVaa { vmid: Vmid(vmid), span: Span::single(Iova(va), leaf).unwrap() }
}

pub(super) fn nh_asid(vmid: u16, asid: u16) -> Command {
    Command::TlbiNhAsid { vmid: Vmid(vmid), asid: Asid(asid) }
}

pub(super) fn s2_ipa(vmid: u16, ipa: u64, leaf: Leaf) -> Command {
    Command::TlbiS2Ipa { vmid: Vmid(vmid), span: Span::single(Ipa(ipa), leaf).unwrap() }
}

/// A ranged `TLBI_NH_VA` of ASID 5 and 4 KiB granules, also in forms that a driver must not send.
pub(super) fn ranged(va: u64, num: u8, scale: u8, ttl: u8, leaf: Leaf) -> Command {
    let w0 = 0x12 | u64::from(num) << 12 | u64::from(scale) << 20 | 5 << 48;
    let w1 = u64::from(leaf == Leaf::Last) | u64::from(ttl) << 8 | 1 << 10 | va;
    Command::decode(RawCommand([w0, w1]))
}

pub(super) fn page(address: PhysAddr) -> u64 {
    address.0 & !0xfff
}
