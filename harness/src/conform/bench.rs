//! One machine at work: memory, queues and devices, by hand.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smmu_engine::machine::{AtsPower, BackendError, Machine, MachineDevice, MachineSpec, Ram};
use smmu_types::pool::Window;
use smmu_types::regs::{self, Reg, cr0, gbpa, gerror, irq_ctrl};
use smmu_types::seam::{Registers, RegistersExt};
use smmu_types::{Capabilities, Command, CommandErrorCode, IdRegisters, PhysAddr, StreamId};

use super::ended::{Checked, not_offered, wrong};
use super::kinds::Kind;

/// Looks at a register before an SMMU counts as stuck.
const LOOKS: u32 = 1000;
/// The devices: index of the SMMU, and StreamID.
pub(super) const DEVICES: [(usize, u32); 4] = [(0, 0x08), (0, 0x10), (1, 0x200), (1, 0x201)];
/// log2 of the STEs of a linear stream table.
pub(super) const STREAMS_LOG2: u32 = 10;
/// log2 of the commands, and of the events, of a ring.
pub(super) const COMMANDS_LOG2: u32 = 4;
pub(super) const EVENTS_LOG2: u32 = 3;
/// Where nothing is, within 32 bits. A machine with RAM there has nothing behind it.
const HOLE: u64 = 0xf000_0000;

type Regs = Arc<dyn Registers + Send + Sync>;

/// One SMMU, and where its things lie.
struct Smmu {
    registers: Regs,
    commands: u64,
    commands_log2: u32,
    events: u64,
    events_log2: u32,
    streams: u64,
}

/// How a list of commands ended: the index of the one that the SMMU refused, and why.
pub(super) type Refusal = Option<(u32, CommandErrorCode)>;

/// The machine of checks: each SMMU with two devices.
pub(super) fn spec(kind: &Kind, smmus: usize) -> MachineSpec {
    let devices = DEVICES.iter().filter(|(smmu, _)| *smmu < smmus);
    let devices = devices.map(|&(smmu, stream)| MachineDevice {
        smmu,
        stream: StreamId(stream),
        ats: AtsPower::Off,
    });
    MachineSpec {
        smmus: vec![(kind.smmu)(); smmus],
        devices: devices.collect(),
        ..MachineSpec::default()
    }
}

/// A machine, its memory, and its SMMUs.
pub(super) struct Bench {
    pub(super) machine: Box<dyn Machine>,
    pub(super) ram: Ram,
    smmus: Vec<Smmu>,
    pub(super) caps: Capabilities,
    next: u64,
    pub(super) pages: Vec<u64>,
    pub(super) substream_sent: Option<u32>,
}

impl Bench {
    /// A machine as at power-on, and memory for its queues and stream tables.
    pub(super) fn new(machine: Box<dyn Machine>, smmus: usize) -> Result<Self, BackendError> {
        let ram = machine.ram();
        let registers: Vec<Regs> =
            (0..smmus).map(|n| machine.registers(n)).collect::<Result<_, _>>()?;
        let mut caps = Capabilities::decode(IdRegisters::default());
        if let Some(r) = registers.first() {
            caps = Capabilities::decode(IdRegisters {
                idr0: r.read(regs::IDR0),
                idr1: r.read(regs::IDR1),
                idr2: r.read(regs::IDR2),
                idr3: r.read(regs::IDR3),
                idr4: r.read(regs::IDR4),
                idr5: r.read(regs::IDR5),
                iidr: r.read(regs::IIDR),
                aidr: r.read(regs::AIDR),
                ..IdRegisters::default()
            });
        }
        let next = ram.base().0;
        let mut bench = Bench {
            machine,
            ram,
            smmus: Vec::new(),
            caps,
            next,
            pages: Vec::new(),
            substream_sent: None,
        };
        for registers in registers {
            let streams = bench.allocate(64 << STREAMS_LOG2)?;
            let (commands, events) = (bench.allocate(0x1000)?, bench.allocate(0x1000)?);
            let (commands_log2, events_log2) = (COMMANDS_LOG2, EVENTS_LOG2);
            let smmu = Smmu { registers, commands, commands_log2, events, events_log2, streams };
            bench.smmus.push(smmu);
        }
        Ok(bench)
    }

    /// The machine, for another bench.
    pub(super) fn into_machine(self) -> Box<dyn Machine> {
        self.machine
    }

    /// Whether the machine still works.
    pub(super) fn check(&self) -> Result<(), BackendError> {
        self.machine.check()
    }

    // Memory.

    /// Where RAM begins.
    pub(super) fn ram_base(&self) -> u64 {
        self.ram.base().0
    }

    /// An address where nothing is.
    pub(super) fn hole(&self) -> u64 {
        let first = self.ram_base();
        let end = first + self.ram.words().len() as u64 * 8;
        if (first..end).contains(&HOLE) { end.next_multiple_of(1 << 20) } else { HOLE }
    }

    /// Zeroed memory, aligned to its size, which is a power of two.
    pub(super) fn allocate(&mut self, bytes: u64) -> Result<u64, BackendError> {
        let at = self.next.next_multiple_of(bytes.max(0x1000));
        let end = at + bytes.max(0x1000);
        let size = self.ram.words().len() as u64 * 8;
        if end > self.ram.base().0 + size {
            let what = format!("{bytes:#x} more bytes of RAM; it has {size:#x}");
            return Err(BackendError::Impossible(what));
        }
        self.next = end;
        for word in 0..bytes / 8 {
            self.put(at + 8 * word, 0);
        }
        Ok(at)
    }

    /// A page of data, where writes of devices are looked for.
    pub(super) fn page(&mut self) -> Checked<u64> {
        let page = self.allocate(0x1000)?;
        self.pages.push(page);
        Ok(page)
    }

    /// Writes of devices are looked for in this page, too.
    pub(super) fn watch(&mut self, page: u64) {
        self.pages.push(page);
    }

    /// A page of data at a multiple of `align`, which lies in RAM. Nothing else may lie there yet.
    pub(super) fn page_at_multiple(&mut self, align: u64, offset: u64) -> Checked<u64> {
        let block = self.next.next_multiple_of(align);
        let block = if self.ram.base().0.is_multiple_of(align) && offset != 0 {
            // The block around all of RAM serves, if no smaller one is free.
            let end = self.ram.base().0 + self.ram.words().len() as u64 * 8;
            if block + offset + 0x1000 > end { self.ram.base().0 } else { block }
        } else {
            block
        };
        let page = block + offset;
        if self.ram.word(PhysAddr(page + 0xff8)).is_none() {
            return not_offered(format_args!("RAM in a block of {align:#x} bytes"));
        }
        if page >= self.next {
            self.next = page + 0x1000;
        }
        self.pages.push(page);
        Ok(page)
    }

    pub(super) fn put(&self, at: u64, word: u64) {
        if let Some(to) = self.ram.word(PhysAddr(at)) {
            to.store(word, Ordering::SeqCst);
            let index = ((at - self.ram.base().0) / 8) as usize;
            self.ram.publish(index..index + 1);
        }
    }

    pub(super) fn put_all(&self, at: u64, words: &[u64]) {
        for (n, word) in (0u64..).zip(words) {
            self.put(at + 8 * n, *word);
        }
    }

    pub(super) fn get(&self, at: u64) -> u64 {
        let Some(from) = self.ram.word(PhysAddr(at)) else { return 0 };
        let index = ((at - self.ram.base().0) / 8) as usize;
        self.ram.observe(index..index + 1);
        from.load(Ordering::SeqCst)
    }

    // Registers.

    pub(super) fn regs(&self, smmu: usize) -> Checked<Regs> {
        match self.smmus.get(smmu) {
            Some(smmu) => Ok(Arc::clone(&smmu.registers)),
            None => not_offered(format_args!("SMMU {smmu}")),
        }
    }

    /// Waits until a register has a value in some bits.
    pub(super) fn wait_for(
        &self,
        smmu: usize,
        register: Reg<u32, impl regs::Rights + regs::Readable>,
        bits: u32,
        value: u32,
    ) -> Checked {
        let r = self.regs(smmu)?;
        let mut got = 0;
        for _ in 0..LOOKS {
            got = r.read32(register.offset());
            if got & bits == value {
                return Ok(());
            }
        }
        let name = register.name();
        wrong(
            format_args!("{name} with {value:#x} in the bits {bits:#x}"),
            format_args!("{name} with {:#x} in them, after {LOOKS} looks", got & bits),
        )
    }

    /// Writes `CR0`, and waits for its acknowledgement.
    pub(super) fn enable(&self, smmu: usize, bits: u32) -> Checked {
        self.regs(smmu)?.write(regs::CR0, bits);
        self.wait_for(smmu, regs::CR0ACK, u32::MAX, bits)
    }

    /// Writes `IRQ_CTRL`, and waits for its acknowledgement.
    pub(super) fn enable_interrupts(&self, smmu: usize, bits: u32) -> Checked {
        self.regs(smmu)?.write(regs::IRQ_CTRL, bits);
        self.wait_for(smmu, regs::IRQ_CTRLACK, u32::MAX, bits)
    }

    /// Changes `GBPA.ABORT`.
    pub(super) fn abort_all(&self, smmu: usize, abort: bool) -> Checked {
        let bits = if abort { gbpa::ABORT } else { 0 };
        self.regs(smmu)?.write(regs::GBPA, gbpa::UPDATE | bits);
        self.wait_for(smmu, regs::GBPA, gbpa::UPDATE, 0)
    }

    /// The errors that are active.
    pub(super) fn errors(&self, smmu: usize) -> Checked<u32> {
        let r = self.regs(smmu)?;
        Ok(r.read(regs::GERROR) ^ r.read(regs::GERRORN))
    }

    pub(super) fn acknowledge(&self, smmu: usize) -> Checked {
        let r = self.regs(smmu)?;
        r.write(regs::GERRORN, r.read(regs::GERROR));
        Ok(())
    }

    // Setting up.

    /// The rings lie elsewhere, or have other sizes.
    pub(super) fn set_commands(&mut self, smmu: usize, at: u64, log2: u32) {
        if let Some(smmu) = self.smmus.get_mut(smmu) {
            (smmu.commands, smmu.commands_log2) = (at, log2);
        }
    }

    pub(super) fn set_events(&mut self, smmu: usize, at: u64, log2: u32) {
        if let Some(smmu) = self.smmus.get_mut(smmu) {
            (smmu.events, smmu.events_log2) = (at, log2);
        }
    }

    pub(super) fn command_ring(&self, smmu: usize) -> (u64, u32) {
        self.smmus.get(smmu).map_or((0, 0), |smmu| (smmu.commands, smmu.commands_log2))
    }

    pub(super) fn event_ring(&self, smmu: usize) -> (u64, u32) {
        self.smmus.get(smmu).map_or((0, 0), |smmu| (smmu.events, smmu.events_log2))
    }

    pub(super) fn stream_table(&self, smmu: usize) -> u64 {
        self.smmus.get(smmu).map_or(0, |smmu| smmu.streams)
    }

    /// Queues and a linear stream table are programmed. Everything is off.
    pub(super) fn program(&self, smmu: usize) -> Checked {
        let r = self.regs(smmu)?;
        let (commands, commands_log2) = self.command_ring(smmu);
        let (events, events_log2) = self.event_ring(smmu);
        self.enable(smmu, 0)?;
        r.write(regs::CR1, regs::cr1::COHERENT);
        r.write(regs::CR2, regs::cr2::RECINVSID);
        r.write(regs::STRTAB_BASE, self.stream_table(smmu));
        r.write(regs::STRTAB_BASE_CFG, STREAMS_LOG2.min(u32::from(self.caps.sid_bits)));
        r.write(regs::CMDQ_BASE, commands | u64::from(commands_log2));
        r.write(regs::CMDQ_PROD, 0);
        r.write(regs::CMDQ_CONS, 0);
        r.write(regs::EVENTQ_BASE, events | u64::from(events_log2));
        r.write(regs::EVENTQ_PROD, 0);
        r.write(regs::EVENTQ_CONS, 0);
        Ok(())
    }

    /// The command queue is on, and the caches are empty. Nothing translates yet.
    pub(super) fn queues(&mut self, smmu: usize) -> Checked {
        self.program(smmu)?;
        self.enable_interrupts(smmu, irq_ctrl::GERROR | irq_ctrl::EVENTQ)?;
        self.abort_all(smmu, false)?;
        self.enable(smmu, cr0::CMDQEN)?;
        self.send(smmu, &[Command::CfgiAll, Command::TlbiNsnhAll])
    }

    /// Queues and translation are on.
    pub(super) fn start(&mut self, smmu: usize) -> Checked {
        self.queues(smmu)?;
        self.enable(smmu, cr0::CMDQEN | cr0::EVENTQEN | cr0::SMMUEN)?;
        self.machine.take_interrupts();
        Ok(())
    }

    // Commands.

    /// Puts words into the ring and moves `CMDQ_PROD`, without a wait.
    pub(super) fn push(&self, smmu: usize, commands: &[[u64; 2]]) -> Checked {
        let r = self.regs(smmu)?;
        let (ring, log2) = self.command_ring(smmu);
        let mut at = r.read(regs::CMDQ_PROD) & pointer(log2);
        for words in commands {
            self.put_all(ring + 16 * u64::from(at & (pointer(log2) >> 1)), words);
            at = (at + 1) & pointer(log2);
        }
        r.write(regs::CMDQ_PROD, at);
        Ok(())
    }

    /// Waits until the ring is empty, or the SMMU refuses a command. `first` is the pointer of the
    /// command that counts as 0.
    pub(super) fn drained(&self, smmu: usize, first: u32) -> Checked<Refusal> {
        let r = self.regs(smmu)?;
        let (_, log2) = self.command_ring(smmu);
        let prod = r.read(regs::CMDQ_PROD) & pointer(log2);
        let mut cons = 0;
        // A ring may be long, and a look may see few commands go.
        for _ in 0..LOOKS.max(2 << log2) {
            cons = r.read(regs::CMDQ_CONS);
            if self.errors(smmu)? & gerror::CMDQ != 0 {
                cons = r.read(regs::CMDQ_CONS);
                let index = (cons & pointer(log2)).wrapping_sub(first) & pointer(log2);
                return Ok(Some((index, regs::cmdq_cons::error(cons))));
            }
            if cons & pointer(log2) == prod {
                return Ok(None);
            }
        }
        wrong(
            format_args!("CMDQ_CONS {prod:#x}, as CMDQ_PROD"),
            format_args!("CMDQ_CONS {:#x}, without an error", cons & pointer(log2)),
        )
    }

    /// Carries out commands and a `CMD_SYNC`, and says which the SMMU refused.
    pub(super) fn refusal(&self, smmu: usize, commands: &[[u64; 2]]) -> Checked<Refusal> {
        let (_, log2) = self.command_ring(smmu);
        let first = self.regs(smmu)?.read(regs::CMDQ_PROD) & pointer(log2);
        let mut all = commands.to_vec();
        all.push(Command::SYNC.encode().0);
        self.push(smmu, &all)?;
        self.drained(smmu, first)
    }

    /// Carries out words and a `CMD_SYNC`, which the SMMU takes.
    pub(super) fn send_words(&self, smmu: usize, commands: &[[u64; 2]]) -> Checked {
        let refused = self.refusal(smmu, commands)?;
        match refused {
            None => Ok(()),
            Some((n, code)) => {
                let words = commands.get(n as usize).copied().unwrap_or_default();
                let command = Command::decode(smmu_types::RawCommand(words));
                wrong(
                    format_args!("{command} is carried out"),
                    format_args!("{command} is refused: {code}"),
                )
            }
        }
    }

    /// Carries out commands and a `CMD_SYNC`, which the SMMU takes.
    pub(super) fn send(&self, smmu: usize, commands: &[Command]) -> Checked {
        let words: Vec<[u64; 2]> = commands.iter().map(|command| command.encode().0).collect();
        self.send_words(smmu, &words)
    }

    pub(super) fn reset(&self, smmu: usize) -> Checked {
        Ok(self.machine.reset(smmu)?)
    }
}

/// The SMMU of a device.
pub(super) fn smmu_of(device: usize) -> usize {
    DEVICES.get(device).map_or(0, |(smmu, _)| *smmu)
}

/// The stream of a device.
pub(super) fn stream_of(device: usize) -> StreamId {
    StreamId(DEVICES.get(device).map_or(0, |(_, stream)| *stream))
}

/// Index and wrap flag of a queue.
pub(super) const fn pointer(log2: u32) -> u32 {
    (2 << log2) - 1
}
