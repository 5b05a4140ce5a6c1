//! Machines that misbehave: the model behind registers, commands, devices, events or interrupts that
//! are not what they should be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use smmu_engine::machine::{
    Backend, BackendError, Clock, DmaReadOutcome, DmaSource, DmaWriteOutcome, Machine, MachineSpec,
    Need, Ram,
};
use smmu_harness::backend::Mock;
use smmu_types::regs::{self, cr0, gbpa, irq_ctrl};
use smmu_types::seam::{Registers, RegistersExt};
use smmu_types::{Irq, PhysAddr};

/// One way to misbehave, and the check that finds it.
pub(crate) struct Sabotage {
    pub(crate) name: &'static str,
    pub(crate) found_by: &'static str,
    pub(crate) how: How,
}

/// What of the machine is not as it should be.
#[derive(Clone, Copy)]
pub(crate) enum How {
    /// A register reads as something else: its value, and the last word written there.
    Reads(u32, fn(u32, u32) -> u32),
    /// A register gets something else than what is written: what it has, and the word.
    Writes(u32, fn(u32, u32) -> u32),
    /// 64-bit writes lose their upper halves.
    Narrow64,
    /// Writes of the upper half of a 64-bit register are lost.
    NoUpperHalf,
    /// A command is another one.
    Commands(fn([u64; 2]) -> [u64; 2]),
    /// A device writes elsewhere.
    Address(fn(u64) -> u64),
    /// A device says that each write was carried out.
    NeverRefused,
    /// A device drops its SubstreamID.
    NoSubstream,
    /// A device reads nothing but zeros.
    ReadsZero,
    /// A record has other words.
    Events(fn([u64; 4]) -> [u64; 4]),
    /// Other interrupts are raised.
    Interrupts(fn(Raised) -> Raised),
}

impl How {
    pub(crate) const EVENT_STREAM: How = How::Events(|[a, b, c, d]| [a ^ 1 << 32, b, c, d]);
}

/// A command that does nothing.
const NOTHING: [u64; 2] = [0x1, 0];

fn if_opcode(words: [u64; 2], opcode: u64, then: [u64; 2]) -> [u64; 2] {
    if words[0] & 0xff == opcode { then } else { words }
}

const fn sabotage(name: &'static str, found_by: &'static str, how: How) -> Sabotage {
    Sabotage { name, found_by, how }
}

const IDR0: u32 = regs::IDR0.offset();
const CR0: u32 = regs::CR0.offset();
const CR0ACK: u32 = regs::CR0ACK.offset();
const CR2: u32 = regs::CR2.offset();
const GBPA: u32 = regs::GBPA.offset();
const IRQ_CTRL: u32 = regs::IRQ_CTRL.offset();
const IRQ_CTRLACK: u32 = regs::IRQ_CTRLACK.offset();
const GERROR: u32 = regs::GERROR.offset();
const GERRORN: u32 = regs::GERRORN.offset();
const CMDQ_CONS: u32 = regs::CMDQ_CONS.offset();
const EVENTQ_PROD: u32 = regs::EVENTQ_PROD.offset();
const EVENTQ_CONS: u32 = regs::EVENTQ_CONS.offset();
const STRTAB_BASE_CFG: u32 = regs::STRTAB_BASE_CFG.offset();

pub(crate) const SABOTAGES: &[Sabotage] = &[
    sabotage("IDR0 can be written", "registers/id-read-only", How::Reads(IDR0, |v, w| v | w)),
    sabotage("CR0ACK stays 0", "registers/cr0-ack", How::Reads(CR0ACK, |_, _| 0)),
    sabotage(
        "CR0ACK shows a reserved bit",
        "registers/cr0ack-reserved",
        How::Reads(CR0ACK, |v, _| v | 1 << 9),
    ),
    sabotage("CR0 comes up as on", "registers/reset-cr0", How::Reads(CR0, |v, _| v | 1)),
    sabotage("IRQ_CTRLACK stays 0", "registers/irq-ctrl-ack", How::Reads(IRQ_CTRLACK, |_, _| 0)),
    sabotage(
        "an update of GBPA never ends",
        "registers/gbpa-update",
        How::Reads(GBPA, |v, _| v | gbpa::UPDATE),
    ),
    sabotage(
        "GBPA shows the old value during an update",
        "registers/gbpa-visible",
        How::Reads(GBPA, |v, _| if v & gbpa::UPDATE != 0 { v & !gbpa::ABORT } else { v }),
    ),
    sabotage("64-bit writes lose a half", "registers/wide", How::Narrow64),
    sabotage("an upper half cannot be written", "registers/halves", How::NoUpperHalf),
    sabotage("CR2 loses RECINVSID", "registers/cr1-cr2", How::Writes(CR2, |_, w| w & !2)),
    sabotage(
        "CMDQ_CONS has bits above its wrap flag",
        "registers/cons-above-wrap",
        How::Reads(CMDQ_CONS, |v, _| v | 1 << 12),
    ),
    sabotage("CMDQ_CONS has no wrap flag", "queues/wrap", How::Reads(CMDQ_CONS, |v, _| v & !0x10)),
    sabotage("no error is told", "queues/ill-unknown", How::Reads(GERROR, |v, _| v & !1)),
    sabotage(
        "the error code is another one",
        "queues/ill-unknown",
        How::Reads(CMDQ_CONS, |v, _| if v >> 24 == 1 { v ^ 3 << 24 } else { v }),
    ),
    sabotage(
        "errors cannot be acknowledged",
        "queues/error-is-acknowledged",
        How::Writes(GERRORN, |has, _| has),
    ),
    sabotage(
        "OVFLG stays 0",
        "queues/events-overflow",
        How::Reads(EVENTQ_PROD, |v, _| v & !(1 << 31)),
    ),
    sabotage(
        "an overflow acknowledges itself",
        "queues/events-overflow-twice",
        How::Writes(EVENTQ_CONS, |_, w| w & !(1 << 31)),
    ),
    sabotage(
        "the command queue is always on",
        "queues/off",
        How::Writes(CR0, |_, w| w | cr0::CMDQEN),
    ),
    sabotage(
        "the event queue is always on",
        "queues/events-off",
        How::Writes(CR0, |_, w| w | cr0::EVENTQEN),
    ),
    sabotage(
        "CS = 3 counts as 0",
        "queues/ill-completion",
        How::Commands(|[a, b]| if a & 0x30ff == 0x3046 { [a & !0x3000, b] } else { [a, b] }),
    ),
    sabotage("SSec does not count", "queues/ill-ssec", How::Commands(|[a, b]| [a & !(1 << 10), b])),
    sabotage(
        "a CMD_SYNC raises no interrupt",
        "queues/sync-irq",
        How::Commands(|[a, b]| if a & 0x30ff == 0x1046 { [a & !0x3000, b] } else { [a, b] }),
    ),
    sabotage(
        "addresses have 39 bits",
        "walks/s1-level-0",
        How::Address(|iova| iova & ((1 << 39) - 1)),
    ),
    sabotage("addresses lose a bit", "walks/s1-block-2", How::Address(|iova| iova & !(1 << 12))),
    sabotage("a refused write says written", "walks/s1-read-only", How::NeverRefused),
    sabotage("reads get zeros", "walks/s1-read-only-reads", How::ReadsZero),
    sabotage(
        "the stream table has one more bit",
        "configuration/linear-limit",
        How::Writes(STRTAB_BASE_CFG, |_, w| w + 1),
    ),
    sabotage(
        "RECINVSID is always set",
        "configuration/silent-limit",
        How::Writes(CR2, |_, w| w | regs::cr2::RECINVSID),
    ),
    sabotage("no SubstreamIDs arrive", "configuration/substream", How::NoSubstream),
    sabotage("FetchAddr is 0", "configuration/cd-fetch", How::Events(|[a, b, c, _]| [a, b, c, 0])),
    sabotage(
        "TLBI_NH_ASID does nothing",
        "caches/drop-nh-asid",
        How::Commands(|words| if_opcode(words, 0x11, NOTHING)),
    ),
    sabotage(
        "TLBI_NH_VA does nothing",
        "caches/drop-nh-va",
        How::Commands(|words| if_opcode(words, 0x12, NOTHING)),
    ),
    sabotage(
        "TLBI_NH_VA drops everything",
        "caches/keep-va-other-page",
        How::Commands(|words| if_opcode(words, 0x12, [0x10, 0])),
    ),
    sabotage(
        "TLBI_S12_VMALL drops every VMID",
        "caches/keep-vmall-other-vmid",
        How::Commands(|words| if_opcode(words, 0x28, [0x30, 0])),
    ),
    sabotage(
        "Leaf = 0 counts as 1",
        "caches/drop-tables",
        How::Commands(|[a, b]| if a & 0xff == 0x12 { [a, b | 1] } else { [a, b] }),
    ),
    sabotage(
        "NUM does not count",
        "caches/drop-range",
        How::Commands(|[a, b]| if b & 0xc00 != 0 { [a & !0x1_f000, b] } else { [a, b] }),
    ),
    sabotage(
        "SCALE does not count",
        "caches/drop-range",
        How::Commands(|[a, b]| if b & 0xc00 != 0 { [a & !0x1f0_0000, b] } else { [a, b] }),
    ),
    sabotage(
        "a range is twice as long",
        "caches/keep-beside-range",
        How::Commands(|[a, b]| if b & 0xc00 != 0 { [a + (1 << 20), b] } else { [a, b] }),
    ),
    sabotage(
        "TLBI_S2_IPA does nothing",
        "caches/drop-s2-ipa",
        How::Commands(|words| if_opcode(words, 0x2a, NOTHING)),
    ),
    sabotage(
        "CFGI_STE does nothing",
        "caches/drop-ste",
        How::Commands(|words| if_opcode(words, 0x3, NOTHING)),
    ),
    sabotage(
        "CFGI_CD does nothing",
        "caches/drop-cd",
        How::Commands(|words| if_opcode(words, 0x5, NOTHING)),
    ),
    sabotage(
        "CFGI_CD drops the STE, too",
        "caches/keep-ste-over-cd",
        How::Commands(|[a, b]| if a & 0xff == 0x5 { [a & !0xff | 0x3, b] } else { [a, b] }),
    ),
    sabotage(
        "CFGI_STE_RANGE is one bit too wide",
        "caches/keep-ste-beside-range",
        How::Commands(|[a, b]| if a & 0xff == 0x4 && b < 31 { [a, b + 1] } else { [a, b] }),
    ),
    sabotage("events name another stream", "faults/each-stream", How::EVENT_STREAM),
    sabotage(
        "the class is that of a CD",
        "faults/translation-each-level",
        How::Events(|[a, b, c, d]| [a, b & !(3 << 40), c, d]),
    ),
    sabotage(
        "faults of stage 2 are told as of stage 1",
        "faults/s2-translation",
        How::Events(|[a, b, c, d]| [a, b & !(1 << 39), c, d]),
    ),
    sabotage(
        "an IPA has low bits",
        "faults/s2-ipa-is-a-page",
        How::Events(|[a, b, c, d]| [a, b, c, d | c & 0xfff]),
    ),
    sabotage(
        "an address is that of its page",
        "faults/whole-address",
        How::Events(|[a, b, c, d]| [a, b, c & !0xfff, d]),
    ),
    sabotage("RnW stays 0", "faults/read", How::Events(|[a, b, c, d]| [a, b & !(1 << 35), c, d])),
    sabotage(
        "a reserved bit is set",
        "faults/reserved-bits",
        How::Events(|[a, b, c, d]| [a | 1 << 9, b, c, d]),
    ),
    sabotage(
        "writes count as privileged",
        "faults/unprivileged-data",
        How::Events(|[a, b, c, d]| [a, b | 1 << 33, c, d]),
    ),
    sabotage(
        "each interrupt comes twice",
        "interrupts/event",
        How::Interrupts(|raised| raised.iter().flat_map(|one| [*one; 2]).collect()),
    ),
    sabotage(
        "errors raise none",
        "interrupts/gerror",
        How::Interrupts(|mut raised| {
            raised.retain(|(_, irq)| *irq != Irq::Gerror);
            raised
        }),
    ),
    sabotage(
        "all interrupts are those of SMMU 0",
        "interrupts/of-its-own-smmu",
        How::Interrupts(|raised| raised.into_iter().map(|(_, irq)| (0, irq)).collect()),
    ),
    sabotage(
        "interrupts cannot be turned off",
        "interrupts/event-off",
        How::Writes(IRQ_CTRL, |_, w| w | irq_ctrl::EVENTQ),
    ),
];

/// The model, tampered with.
pub(crate) struct Tampered(pub(crate) How);

impl Backend for Tampered {
    fn name(&self) -> &'static str {
        "tampered"
    }
    fn describe(&self) -> String {
        "the model, tampered with".into()
    }
    fn offers(&self, _: Need) -> bool {
        true
    }
    fn start(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>, BackendError> {
        let inner = Mock.start(spec)?;
        let smmus = (0..spec.smmus.len()).map(|n| inner.registers(n));
        let smmus: Vec<Regs> = smmus.collect::<Result<_, _>>()?;
        let devices = spec.devices.iter().map(|device| device.smmu).collect();
        Ok(Box::new(TamperedMachine { how: self.0, inner, smmus, devices }))
    }
}

/// Interrupts with the indices of their SMMUs.
type Raised = Vec<(usize, Irq)>;

type Regs = Arc<dyn Registers + Send + Sync>;

struct TamperedMachine {
    how: How,
    inner: Box<dyn Machine>,
    smmus: Vec<Regs>,
    /// The SMMU of each device.
    devices: Vec<usize>,
}

impl TamperedMachine {
    fn address(&self, iova: u64) -> u64 {
        if let How::Address(change) = self.how { change(iova) } else { iova }
    }

    /// A transaction. Then the records that it has brought are changed.
    fn with_events<T>(
        &self,
        device: usize,
        transaction: impl FnOnce() -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        let How::Events(change) = self.how else { return transaction() };
        let r = &self.smmus[self.devices[device]];
        let before = r.read(regs::EVENTQ_PROD) & 0xf_ffff;
        let done = transaction();
        let (base, after) = (r.read(regs::EVENTQ_BASE), r.read(regs::EVENTQ_PROD) & 0xf_ffff);
        if before != after {
            let entries = 1_u64 << (base & 0x1f);
            let at = (base & 0xff_ffff_ffff_ffe0) + 32 * (u64::from(before) & (entries - 1));
            let ram = self.inner.ram();
            let words = [0, 8, 16, 24].map(|n| ram.word(PhysAddr(at + n)).unwrap());
            let changed = change(words.map(|word| word.load(Ordering::SeqCst)));
            for (word, value) in words.iter().zip(changed) {
                word.store(value, Ordering::SeqCst);
            }
        }
        done
    }
}

impl Machine for TamperedMachine {
    fn ram(&self) -> Ram {
        self.inner.ram()
    }
    fn registers(&self, smmu: usize) -> Result<Regs, BackendError> {
        let (inner, ram) = (self.inner.registers(smmu)?, self.inner.ram());
        Ok(Arc::new(TamperedRegisters { how: self.how, inner, ram, written: AtomicU32::new(0) }))
    }
    fn dma_write(&self, device: usize, iova: u64) -> Result<DmaWriteOutcome, BackendError> {
        let iova = self.address(iova);
        let outcome = self.with_events(device, || self.inner.dma_write(device, iova))?;
        let never = matches!(self.how, How::NeverRefused);
        Ok(if never { DmaWriteOutcome::Written } else { outcome })
    }
    fn dma_write_from(
        &self,
        device: usize,
        source: DmaSource,
        iova: u64,
    ) -> Result<DmaWriteOutcome, BackendError> {
        if matches!(self.how, How::NoSubstream) {
            return self.inner.dma_write(device, iova);
        }
        self.with_events(device, || self.inner.dma_write_from(device, source, iova))
    }
    fn dma_read(&self, device: usize, iova: u64) -> Result<DmaReadOutcome, BackendError> {
        let read = self.with_events(device, || self.inner.dma_read(device, iova))?;
        Ok(match (read, self.how) {
            (DmaReadOutcome::Read(_), How::ReadsZero) => DmaReadOutcome::Read(0),
            (read, _) => read,
        })
    }
    fn ended_write(&self, device: usize) -> Result<Option<DmaWriteOutcome>, BackendError> {
        self.inner.ended_write(device)
    }
    fn take_interrupts(&self) -> Vec<(usize, Irq)> {
        let raised = self.inner.take_interrupts();
        if let How::Interrupts(change) = self.how { change(raised) } else { raised }
    }
    fn check(&self) -> Result<(), BackendError> {
        self.inner.check()
    }
    fn clock(&self) -> Clock {
        self.inner.clock()
    }
    fn reset(&self, smmu: usize) -> Result<(), BackendError> {
        self.inner.reset(smmu)
    }
}

struct TamperedRegisters {
    how: How,
    inner: Regs,
    ram: Ram,
    /// The last word written to the register that is tampered with.
    written: AtomicU32,
}

impl TamperedRegisters {
    /// Changes the commands up to a new `CMDQ_PROD`.
    fn change_commands(&self, change: fn([u64; 2]) -> [u64; 2], to: u32) {
        let base = self.inner.read64(regs::CMDQ_BASE.offset());
        let (ring, entries) = (base & 0xff_ffff_ffff_ffe0, 1_u32 << (base & 0x1f));
        let mut at = self.inner.read32(regs::CMDQ_PROD.offset());
        while at & (2 * entries - 1) != to & (2 * entries - 1) {
            let slot = ring + 16 * u64::from(at & (entries - 1));
            if let (Some(a), Some(b)) =
                (self.ram.word(PhysAddr(slot)), self.ram.word(PhysAddr(slot + 8)))
            {
                let changed = change([a.load(Ordering::SeqCst), b.load(Ordering::SeqCst)]);
                a.store(changed[0], Ordering::SeqCst);
                b.store(changed[1], Ordering::SeqCst);
            }
            at = at.wrapping_add(1);
        }
    }
}

impl Registers for TamperedRegisters {
    fn read32(&self, offset: u32) -> u32 {
        let value = self.inner.read32(offset);
        match self.how {
            How::Reads(of, change) if of == offset => {
                change(value, self.written.load(Ordering::SeqCst))
            }
            _ => value,
        }
    }
    fn write32(&self, offset: u32, value: u32) {
        match self.how {
            How::Reads(of, _) if of == offset => self.written.store(value, Ordering::SeqCst),
            How::Writes(of, change) if of == offset => {
                return self.inner.write32(offset, change(self.inner.read32(offset), value));
            }
            How::NoUpperHalf if offset == regs::STRTAB_BASE.offset() + 4 => return,
            How::Commands(change) if offset == regs::CMDQ_PROD.offset() => {
                self.change_commands(change, value);
            }
            _ => {}
        }
        self.inner.write32(offset, value);
    }
    fn read64(&self, offset: u32) -> u64 {
        self.inner.read64(offset)
    }
    fn write64(&self, offset: u32, value: u64) {
        let narrow = matches!(self.how, How::Narrow64);
        self.inner.write64(offset, if narrow { value & 0xffff_ffff } else { value });
    }
}
