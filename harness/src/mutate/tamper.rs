//! A backend that changes one command on its way: in the ring, at the moment the driver shows it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smmu_engine::machine::{
    AtsPower, Backend, BackendError, Clock, Coherency, DmaReadOutcome, DmaSource, DmaWriteOutcome,
    Insight, Machine, MachineSpec, Need, PageAnswer, QueueFault, QueueName, Ram,
};
use smmu_types::pool::Window;
use smmu_types::queue::QueueSize;
use smmu_types::regs::queue_base::QueueBase;
use smmu_types::regs::{CMDQ_BASE, CMDQ_PROD, CR0, cr0, vcmdq};
use smmu_types::seam::{Registers, RegistersExt};
use smmu_types::{Irq, PhysAddr, PriRecord, RawCommand};

use super::mutation::Mutation;
use super::site::Site;

/// Audits behind a mutation. Each reads all tables.
const LOOKS: usize = 4;
const COMMAND_BYTES: u64 = 16;

/// What to change, and what came.
#[derive(Debug, Default)]
pub(super) struct Plan {
    change: Option<(usize, Mutation)>,
    seen: Mutex<Seen>,
}

/// What came to the SMMUs.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The commands, in their order.
    pub(super) sites: Vec<Site>,
    /// What was stale whenever the driver showed commands.
    pub(super) looks: Vec<Look>,
}

/// What was stale when the driver showed commands.
#[derive(Debug)]
pub(super) struct Look {
    /// How many commands came before.
    pub(super) before: usize,
    /// What a device could reach and should not, in sentences.
    pub(super) stale: BTreeSet<String>,
}

impl Plan {
    pub(super) fn change(number: usize, mutation: Mutation) -> Self {
        Plan { change: Some((number, mutation)), seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A backend whose SMMUs get the commands of a plan.
pub(super) struct Tampered<'b> {
    backend: &'b dyn Backend,
    plan: Arc<Plan>,
}

impl<'b> Tampered<'b> {
    pub(super) fn new(backend: &'b dyn Backend, plan: Plan) -> Self {
        Tampered { backend, plan: Arc::new(plan) }
    }

    pub(super) fn into_seen(self) -> Seen {
        std::mem::take(&mut *self.plan.seen())
    }
}

impl Backend for Tampered<'_> {
    fn name(&self) -> &'static str {
        self.backend.name()
    }
    fn describe(&self) -> String {
        self.backend.describe()
    }
    fn offers(&self, need: Need) -> bool {
        self.backend.offers(need)
    }
    fn start(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>, BackendError> {
        let (machine, plan) = (Arc::from(self.backend.start(spec)?), Arc::clone(&self.plan));
        Ok(Box::new(TamperedMachine { machine, plan }))
    }
}

/// The registers of an SMMU, or of its second command queue. A write of the queue's `PROD` shows
/// commands.
struct TamperedRegisters {
    smmu: usize,
    queue: QueueName,
    registers: Arc<dyn Registers + Send + Sync>,
    machine: Arc<dyn Machine>,
    ram: Ram,
    plan: Arc<Plan>,
}

impl TamperedRegisters {
    /// Takes the commands from the one that was shown last to `produced`, and changes one of them.
    fn show(&self, produced: u32) {
        // A queue that is off gets its first position.
        let (is_on, base) = match self.queue {
            QueueName::Main => {
                let is_on = self.registers.read(CR0) & cr0::CMDQEN != 0;
                (is_on, self.registers.read(CMDQ_BASE))
            }
            QueueName::Second => {
                let is_on = self.registers.read32(vcmdq::CONFIG) & vcmdq::ENABLE != 0;
                (is_on, self.registers.read64(vcmdq::BASE))
            }
        };
        if !is_on {
            return;
        }
        self.look();
        let base = QueueBase::decode(base);
        let Some(size) = QueueSize::from_log2(base.log2) else { return };
        let start = base.effective_address(size, COMMAND_BYTES);
        let at = |index: u32| {
            PhysAddr(start.0 + u64::from(index & (size.entries() - 1)) * COMMAND_BYTES)
        };
        let before = self.registers.read32(self.producer());
        let Some(count) = size.used(produced, before) else { return };
        for n in 0..count {
            let index = before.wrapping_add(n);
            let Some(command) = self.load(at(index)) else { return };
            let next = (n + 1 < count).then(|| self.load(at(index.wrapping_add(1)))).flatten();
            let site = Site { smmu: self.smmu, queue: self.queue, command, next };
            let mut seen = self.plan.seen();
            let number = seen.sites.len();
            seen.sites.push(site);
            drop(seen);
            if let Some((wanted, mutation)) = self.plan.change
                && wanted == number
                && let Some((changed, after)) = mutation.apply(&site)
            {
                self.store(at(index), changed);
                if let Some(after) = after {
                    self.store(at(index.wrapping_add(1)), after);
                }
            }
        }
    }

    /// Offset of the register that says up to where the queue has commands.
    fn producer(&self) -> u32 {
        match self.queue {
            QueueName::Main => CMDQ_PROD.offset(),
            QueueName::Second => vcmdq::PROD,
        }
    }

    /// Audits the SMMUs, as far as the machine can tell. What the driver waited for is complete.
    fn look(&self) {
        let mut seen = self.plan.seen();
        let before = seen.sites.len();
        let is_due = match self.plan.change {
            // What stays stale for longer, the audit of the step finds.
            Some((number, _)) => number < before && seen.looks.len() < LOOKS,
            None => true,
        };
        if let Some(insight) = self.machine.insight()
            && is_due
        {
            let stale = insight.audit().into_iter().map(|hazard| hazard.text).collect();
            seen.looks.push(Look { before, stale });
        }
    }

    fn load(&self, at: PhysAddr) -> Option<RawCommand> {
        let word = |offset| {
            let word = self.ram.word(PhysAddr(at.0 + offset))?;
            Some(word.load(Ordering::SeqCst))
        };
        Some(RawCommand([word(0)?, word(8)?]))
    }

    fn store(&self, at: PhysAddr, command: RawCommand) {
        for (offset, value) in [0, 8].into_iter().zip(command.0) {
            if let Some(word) = self.ram.word(PhysAddr(at.0 + offset)) {
                word.store(value, Ordering::SeqCst);
            }
        }
        let first = ((at.0 - self.ram.base().0) / 8) as usize;
        self.ram.publish(first..first + 2);
    }
}

impl Registers for TamperedRegisters {
    fn read32(&self, offset: u32) -> u32 {
        self.registers.read32(offset)
    }
    fn write32(&self, offset: u32, value: u32) {
        if offset == self.producer() {
            self.show(value);
        }
        self.registers.write32(offset, value);
    }
    fn read64(&self, offset: u32) -> u64 {
        self.registers.read64(offset)
    }
    fn write64(&self, offset: u32, value: u64) {
        self.registers.write64(offset, value);
    }
}

struct TamperedMachine {
    machine: Arc<dyn Machine>,
    plan: Arc<Plan>,
}

impl TamperedMachine {
    fn tampered(
        &self,
        smmu: usize,
        queue: QueueName,
        registers: Arc<dyn Registers + Send + Sync>,
    ) -> Arc<dyn Registers + Send + Sync> {
        let (machine, plan) = (Arc::clone(&self.machine), Arc::clone(&self.plan));
        Arc::new(TamperedRegisters {
            smmu,
            queue,
            registers,
            machine,
            ram: self.machine.ram(),
            plan,
        })
    }
}

impl Machine for TamperedMachine {
    fn registers(&self, smmu: usize) -> Result<Arc<dyn Registers + Send + Sync>, BackendError> {
        Ok(self.tampered(smmu, QueueName::Main, self.machine.registers(smmu)?))
    }
    fn ram(&self) -> Ram {
        self.machine.ram()
    }
    fn coherency(&self, smmu: usize) -> Coherency {
        self.machine.coherency(smmu)
    }
    fn pattern(&self, device: usize) -> Cow<'static, [u8]> {
        self.machine.pattern(device)
    }
    fn own_memory(&self, device: usize) -> Option<Range<u64>> {
        self.machine.own_memory(device)
    }
    fn dma_write(&self, device: usize, iova: u64) -> Result<DmaWriteOutcome, BackendError> {
        self.machine.dma_write(device, iova)
    }
    fn dma_read(&self, device: usize, iova: u64) -> Result<DmaReadOutcome, BackendError> {
        self.machine.dma_read(device, iova)
    }
    fn dma_write_from(
        &self,
        device: usize,
        source: DmaSource,
        iova: u64,
    ) -> Result<DmaWriteOutcome, BackendError> {
        self.machine.dma_write_from(device, source, iova)
    }
    fn dma_read_from(
        &self,
        device: usize,
        source: DmaSource,
        iova: u64,
    ) -> Result<DmaReadOutcome, BackendError> {
        self.machine.dma_read_from(device, source, iova)
    }
    fn switch_ats(&self, device: usize, to: AtsPower) -> Result<(), BackendError> {
        self.machine.switch_ats(device, to)
    }
    fn switch_page_requests(&self, device: usize, to: AtsPower) -> Result<(), BackendError> {
        self.machine.switch_page_requests(device, to)
    }
    fn ended_write(&self, device: usize) -> Result<Option<DmaWriteOutcome>, BackendError> {
        self.machine.ended_write(device)
    }
    fn page_request(&self, smmu: usize, request: PriRecord) -> Result<(), BackendError> {
        self.machine.page_request(smmu, request)
    }
    fn take_page_answers(&self, smmu: usize) -> Result<Vec<PageAnswer>, BackendError> {
        self.machine.take_page_answers(smmu)
    }
    fn sees_interrupts(&self) -> bool {
        self.machine.sees_interrupts()
    }
    fn take_interrupts(&self) -> Vec<(usize, Irq)> {
        self.machine.take_interrupts()
    }
    fn check(&self) -> Result<(), BackendError> {
        self.machine.check()
    }
    fn step_begins(&self, number: usize, text: &str) {
        self.machine.step_begins(number, text);
    }
    fn second_queue(&self, smmu: usize) -> Result<Arc<dyn Registers + Send + Sync>, BackendError> {
        Ok(self.tampered(smmu, QueueName::Second, self.machine.second_queue(smmu)?))
    }
    fn clock(&self) -> Clock {
        self.machine.clock()
    }
    fn cpu_number(&self) -> fn() -> usize {
        self.machine.cpu_number()
    }
    fn tells_time(&self) -> bool {
        self.machine.tells_time()
    }
    fn together(&self, callers: Vec<Box<dyn FnOnce() + Send + '_>>) -> Result<(), BackendError> {
        self.machine.together(callers)
    }
    fn inject(&self, smmu: usize, queue: QueueName, fault: QueueFault) -> Result<(), BackendError> {
        self.machine.inject(smmu, queue, fault)
    }
    fn mend(&self, smmu: usize) -> Result<(), BackendError> {
        self.machine.mend(smmu)
    }
    fn reset(&self, smmu: usize) -> Result<(), BackendError> {
        self.machine.reset(smmu)
    }
    fn insight(&self) -> Option<&dyn Insight> {
        self.machine.insight()
    }
}
