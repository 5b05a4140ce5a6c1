//! Carries out raw work on one machine, and says what it saw.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smmu_engine::machine::{
    AtsPower, Backend, BackendError, DMA_PATTERN, DmaWriteOutcome, Machine, MachineDevice,
    MachineSmmu, MachineSpec, Ram,
};
use smmu_types::pool::Window;
use smmu_types::regs::{self, cr0, gbpa, gerror, irq_ctrl};
use smmu_types::seam::{Registers, RegistersExt};
use smmu_types::{CommandErrorCode, EventRecord, Irq, PhysAddr, StreamId};

use super::memory::{
    BASE, BYTES, COMMANDS_LOG2, DEVICES, EVENTS_LOG2, PAGES, SMMUS, STREAM_TABLE_LOG2, Stage,
    TREES, Tree, command_ring, event_ring, ste, stream_table,
};
use super::raw_op::RawOp;

const COMMANDS: u32 = 1 << COMMANDS_LOG2;
const EVENTS: u32 = 1 << EVENTS_LOG2;
/// Looks at `CMDQ_CONS` or at a register before an SMMU counts as stuck.
const LOOKS: u32 = 1000;
const SYNC: [u64; 2] = [0x46, 0];
const CFGI_ALL: [u64; 2] = [0x4, 31];
const TLBI_NSNH_ALL: [u64; 2] = [0x30, 0];

/// Where the write of a device went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landed {
    /// To this address.
    At(u64),
    /// Nowhere that raw work looks.
    Elsewhere,
}

/// What an operation did, as a driver and a device see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Where a write went; `None` if it was refused.
    pub landed: Option<Landed>,
    /// The commands that the SMMU refused: index in the batch, and the error.
    pub refused: Vec<(u32, CommandErrorCode)>,
    /// The events, with the index of their SMMU.
    pub events: Vec<(usize, EventRecord)>,
    /// The interrupts, each once.
    pub interrupts: Vec<(usize, Irq)>,
    /// Errors that are active in `GERROR` afterwards, other than that of the command queue.
    pub errors: u32,
}

impl Seen {
    /// A DMA that reached nothing, and of which nobody was told.
    pub(super) fn is_silent(&self) -> bool {
        self.landed.is_none() && self.events.is_empty()
    }
}

type Regs = Arc<dyn Registers + Send + Sync>;

/// When a rig empties the caches of an SMMU by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushes {
    Never,
    /// So that each transaction sees the tables of that moment.
    BeforeEachDma,
}

/// What memory has for a device, if its STE and CD are of the usual kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stream {
    /// Its tree of stage 1.
    pub(super) tree: Option<u64>,
    /// Both stages translate.
    pub(super) nested: bool,
    /// Faults of stage 1 are recorded (`CD.R`).
    pub(super) records: bool,
    /// Stage 1 begins at level 0.
    pub(super) four_levels: bool,
}

/// One machine that raw work runs on.
pub(super) struct RawRig {
    machine: Box<dyn Machine>,
    ram: Ram,
    registers: Vec<Regs>,
    produced: [u32; SMMUS],
    taken: [u32; SMMUS],
    flushes: Flushes,
}

/// The machine of raw work.
pub(super) fn spec() -> MachineSpec {
    let device = |(smmu, stream): (usize, u32)| MachineDevice {
        smmu,
        stream: StreamId(stream),
        ats: AtsPower::Off,
    };
    MachineSpec {
        smmus: vec![MachineSmmu::default(); SMMUS],
        devices: DEVICES.map(device).to_vec(),
        ..MachineSpec::default()
    }
}

impl RawRig {
    pub(super) fn new(backend: &dyn Backend, flushes: Flushes) -> Result<Self, BackendError> {
        let machine = backend.start(&spec())?;
        let ram = machine.ram();
        let words = (BYTES / 8) as usize;
        if ram.base() != PhysAddr(BASE) || ram.words().len() < words {
            let (base, size) = (ram.base(), ram.words().len() * 8);
            return Err(BackendError::Impossible(format!(
                "raw work needs {BYTES:#x} bytes of RAM at {BASE:#x}; there are {size:#x} at {base}"
            )));
        }
        let registers = (0..SMMUS).map(|n| machine.registers(n)).collect::<Result<_, _>>()?;
        let (produced, taken) = ([0; SMMUS], [0; SMMUS]);
        Ok(RawRig { machine, ram, registers, produced, taken, flushes })
    }

    /// Clears memory, writes trees of tables that map nothing, and turns both SMMUs on with empty
    /// caches and stream tables.
    pub(super) fn begin(&mut self) -> Result<(), BackendError> {
        for n in 0..SMMUS {
            self.write(n, regs::CR0, 0);
        }
        for word in self.ram.words().iter().take((BYTES / 8) as usize) {
            word.store(0, Ordering::Relaxed);
        }
        for stage in [Stage::One, Stage::Two] {
            for n in 0..TREES {
                for (at, word) in (Tree { stage, n }).initial() {
                    self.put(at, word);
                }
            }
        }
        self.ram.publish(0..(BYTES / 8) as usize);
        for n in 0..SMMUS {
            self.bring_up(n)?;
        }
        self.machine.take_interrupts();
        self.take_hazards();
        self.machine.check()
    }

    fn bring_up(&mut self, n: usize) -> Result<(), BackendError> {
        let Some(r) = self.registers.get(n).cloned() else { return Ok(()) };
        let errors = r.read(regs::GERROR);
        r.write(regs::GERRORN, errors);
        r.write(regs::CR1, regs::cr1::COHERENT);
        r.write(regs::CR2, regs::cr2::RECINVSID | regs::cr2::PTM);
        r.write(regs::STRTAB_BASE, stream_table(n));
        r.write(regs::STRTAB_BASE_CFG, STREAM_TABLE_LOG2);
        r.write(regs::CMDQ_BASE, command_ring(n) | u64::from(COMMANDS_LOG2));
        r.write(regs::CMDQ_PROD, 0);
        r.write(regs::CMDQ_CONS, 0);
        r.write(regs::EVENTQ_BASE, event_ring(n) | u64::from(EVENTS_LOG2));
        r.write(regs::EVENTQ_PROD, 0);
        r.write(regs::EVENTQ_CONS, 0);
        r.write(regs::IRQ_CTRL, irq_ctrl::GERROR | irq_ctrl::EVENTQ);
        self.abort_all(n, false)?;
        r.write(regs::CR0, cr0::CMDQEN);
        (self.produced, self.taken) = match n {
            0 => ([0; SMMUS], [0; SMMUS]),
            _ => (self.produced, self.taken),
        };
        self.send(n, &[CFGI_ALL, TLBI_NSNH_ALL])?;
        self.translate(n, true)
    }

    fn write(&self, smmu: usize, register: regs::Reg<u32, regs::Rw>, value: u32) {
        if let Some(r) = self.registers.get(smmu) {
            r.write(register, value);
        }
    }

    fn put(&self, at: u64, word: u64) {
        let index = (at.wrapping_sub(BASE) / 8) as usize;
        if let Some(to) = self.ram.words().get(index) {
            to.store(word, Ordering::SeqCst);
        }
    }

    fn get(&self, at: u64) -> u64 {
        let index = (at.wrapping_sub(BASE) / 8) as usize;
        self.ram.words().get(index).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    /// The hazards of caches since the last call. Broken rules of registers do not count.
    pub(super) fn take_hazards(&self) -> Vec<String> {
        let Some(insight) = self.machine.insight() else { return Vec::new() };
        let of_caches = insight.take_hazards().into_iter().filter(|h| h.missing.is_some());
        of_caches.map(|hazard| hazard.text).collect()
    }

    /// Whether the machine tells of what is stale in its caches.
    pub(super) fn has_insight(&self) -> bool {
        self.machine.insight().is_some()
    }

    /// Whether an audit finds something stale. Always false on a machine without insight.
    pub(super) fn is_stale(&self) -> bool {
        let stale = |hazards: Vec<smmu_engine::machine::HazardReport>| {
            hazards.iter().any(|hazard| hazard.missing.is_some())
        };
        self.machine.insight().is_some_and(|insight| stale(insight.audit()))
    }

    /// Carries an operation out.
    pub(super) fn run(&mut self, op: &RawOp) -> Result<Seen, BackendError> {
        let mut seen = Seen::default();
        match op {
            RawOp::Store { at, words } => {
                for (n, word) in (0u64..).zip(words) {
                    self.put(at + 8 * n, *word);
                }
                let first = (at.wrapping_sub(BASE) / 8) as usize;
                self.ram.publish(first..first + words.len());
                return Ok(seen);
            }
            RawOp::Send { smmu, commands } => {
                seen.refused = self.send(*smmu, commands)?;
                seen.errors = self.active_errors(*smmu) & !gerror::CMDQ;
            }
            RawOp::Dma { device, iova } => {
                let smmu = DEVICES.get(*device).map_or(0, |(smmu, _)| *smmu);
                if self.flushes == Flushes::BeforeEachDma {
                    self.flush(*device)?;
                }
                seen.landed = self.dma(*device, *iova)?;
                seen.events = self.take_events(smmu)?;
            }
            RawOp::Translate { smmu, on } => self.translate(*smmu, *on)?,
            RawOp::AbortAll { smmu, on } => self.abort_all(*smmu, *on)?,
        }
        seen.interrupts = self.machine.take_interrupts();
        seen.interrupts.sort_unstable();
        seen.interrupts.dedup();
        Ok(seen)
    }

    /// Empties the caches of the SMMU of a device.
    pub(super) fn flush(&mut self, device: usize) -> Result<(), BackendError> {
        let smmu = DEVICES.get(device).map_or(0, |(smmu, _)| *smmu);
        self.send(smmu, &[CFGI_ALL, TLBI_NSNH_ALL]).map(drop)
    }

    /// What memory has for a device.
    pub(super) fn stream_of(&self, device: usize) -> Stream {
        const CD_POINTER: u64 = 0xf_ffff_ffff_ffc0;
        const NESTED: u64 = 7;
        const RECORD: u64 = 1 << 45;
        let Some(&(smmu, stream)) = DEVICES.get(device) else { return Stream::default() };
        let word = self.get(ste(smmu, stream));
        let cd = self.get(word & CD_POINTER);
        let root = self.get((word & CD_POINTER) + 8);
        Stream {
            tree: Tree::with_root(root).map(|tree| tree.n),
            nested: word >> 1 & 7 == NESTED,
            records: cd & RECORD != 0,
            // With 4 KiB pages, 39 bits are what three levels translate.
            four_levels: cd & 0x3f < 64 - 39,
        }
    }

    fn active_errors(&self, smmu: usize) -> u32 {
        let Some(r) = self.registers.get(smmu) else { return 0 };
        r.read(regs::GERROR) ^ r.read(regs::GERRORN)
    }

    /// Sends commands and a `CMD_SYNC`, mends the queue at each refusal, and says what was refused.
    fn send(
        &mut self,
        smmu: usize,
        commands: &[[u64; 2]],
    ) -> Result<Vec<(u32, CommandErrorCode)>, BackendError> {
        const POINTER: u32 = 2 * COMMANDS - 1;
        let mut refused = Vec::new();
        let (Some(r), Some(produced)) = (self.registers.get(smmu), self.produced.get(smmu)) else {
            return Ok(refused);
        };
        let (r, first) = (Arc::clone(r), *produced);
        let slot = |at: u32| command_ring(smmu) + 16 * u64::from(at & (COMMANDS - 1));
        let mut at = first;
        for [w0, w1] in commands.iter().chain([&SYNC]) {
            self.put(slot(at), *w0);
            self.put(slot(at) + 8, *w1);
            at = (at + 1) & POINTER;
        }
        if let Some(produced) = self.produced.get_mut(smmu) {
            *produced = at;
        }
        r.write(regs::CMDQ_PROD, at);
        let mut looks = 0;
        loop {
            let cons = r.read(regs::CMDQ_CONS);
            if cons & POINTER == at {
                return Ok(refused);
            }
            if self.active_errors(smmu) & gerror::CMDQ != 0 {
                let index = (cons & POINTER).wrapping_sub(first) & POINTER;
                refused.push((index, regs::cmdq_cons::error(cons)));
                self.put(slot(cons), SYNC[0]);
                self.put(slot(cons) + 8, SYNC[1]);
                r.write(regs::GERRORN, r.read(regs::GERRORN) ^ gerror::CMDQ);
            }
            looks += 1;
            if looks > LOOKS || refused.len() > commands.len() {
                self.machine.check()?;
                let (cons, code) = (cons & POINTER, regs::cmdq_cons::error(cons));
                return Err(BackendError::Broken(format!(
                    "smmu{smmu} is stuck: CMDQ_CONS {cons:#x}, CMDQ_PROD {at:#x}, last error {code}"
                )));
            }
        }
    }

    /// A device writes. Says where.
    fn dma(&self, device: usize, iova: u64) -> Result<Option<Landed>, BackendError> {
        let pages = PAGES.map(|page| page + (iova & 0xffc));
        for at in pages {
            self.put(at & !7, 0);
        }
        let outcome = self.machine.dma_write(device, iova)?;
        self.ram.observe(0..0);
        let shows =
            |at: &u64| self.get(*at & !7) >> (*at % 8 * 8) as u32 as u64 == u64::from(DMA_PATTERN);
        let landed = pages.iter().copied().find(shows);
        Ok(match (outcome, landed) {
            (_, Some(at)) => Some(Landed::At(at)),
            (DmaWriteOutcome::Written, None) => Some(Landed::Elsewhere),
            (_, None) => None,
        })
    }

    fn take_events(&mut self, smmu: usize) -> Result<Vec<(usize, EventRecord)>, BackendError> {
        const POINTER: u32 = 2 * EVENTS - 1;
        let mut events = Vec::new();
        let (Some(r), Some(taken)) = (self.registers.get(smmu), self.taken.get_mut(smmu)) else {
            return Ok(events);
        };
        let produced = r.read(regs::EVENTQ_PROD);
        if produced & POINTER == *taken {
            return Ok(events);
        }
        let words = self.ram.words();
        while produced & POINTER != *taken {
            let at = event_ring(smmu) + 32 * u64::from(*taken & (EVENTS - 1));
            let first = ((at - BASE) / 8) as usize;
            let mut record = EventRecord([0; 4]);
            for (to, from) in record.0.iter_mut().zip(words.get(first..).unwrap_or_default()) {
                *to = from.load(Ordering::SeqCst);
            }
            events.push((smmu, record));
            *taken = (*taken + 1) & POINTER;
        }
        r.write(regs::EVENTQ_CONS, *taken | produced & 1 << 31);
        self.machine.check()?;
        Ok(events)
    }

    fn translate(&self, smmu: usize, on: bool) -> Result<(), BackendError> {
        let bits = cr0::CMDQEN | cr0::EVENTQEN | if on { cr0::SMMUEN } else { 0 };
        self.write(smmu, regs::CR0, bits);
        self.wait_for(smmu, "CR0ACK", |r| r.read(regs::CR0ACK) == bits)
    }

    fn abort_all(&self, smmu: usize, on: bool) -> Result<(), BackendError> {
        self.write(smmu, regs::GBPA, gbpa::UPDATE | if on { gbpa::ABORT } else { 0 });
        self.wait_for(smmu, "GBPA", |r| r.read(regs::GBPA) & gbpa::UPDATE == 0)
    }

    fn wait_for(
        &self,
        smmu: usize,
        register: &str,
        done: impl Fn(&Regs) -> bool,
    ) -> Result<(), BackendError> {
        match self.registers.get(smmu) {
            Some(r) if (0..LOOKS).any(|_| done(r)) => Ok(()),
            _ => {
                self.machine.check()?;
                Err(BackendError::Broken(format!("smmu{smmu}: {register} does not change")))
            }
        }
    }

    /// Takes over what a DMA to `iova` may have left in the pages of data of another machine.
    pub(super) fn take_over_pages(&self, iova: u64, other: &RawRig) {
        for at in PAGES.map(|page| page + (iova & 0xff8)) {
            self.put(at, other.get(at));
        }
    }

    /// The first address at which the memory of two machines differs. Queues may.
    pub(super) fn first_difference(&self, other: &RawRig) -> Option<u64> {
        let queues = command_ring(0)..command_ring(SMMUS);
        let pairs = self.ram.words().iter().zip(other.ram.words()).take((BYTES / 8) as usize);
        let addresses = (BASE..).step_by(8);
        addresses
            .zip(pairs)
            .find(|(at, (ours, theirs))| {
                !queues.contains(at) && ours.load(Ordering::SeqCst) != theirs.load(Ordering::SeqCst)
            })
            .map(|(at, _)| at)
    }
}
