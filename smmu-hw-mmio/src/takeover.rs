//! Takes over the registers and queues of an SMMU that translates, while it goes on translating.
//!
//! `STRTAB_BASE` stays, because it may be written only while translation is off. `smmu-attach` reads
//! the tables behind it (`adopt`), and this module replaces the queues around them. Each state is a
//! type, as in the [bring-up](crate::bringup):
//!
//! | state | step | registers written |
//! |---|---|---|
//! | | [`Takeover::begin`] | none |
//! | [`Occupied`] | [`stop_commands`](Occupied::stop_commands) | `IRQ_CTRL` = 0, `ECMDQ_PROD.EN` = 0, `CR0.CMDQEN` = 0 |
//! | [`CommandsStopped`] | [`enable_commands`](CommandsStopped::enable_commands) | `GERRORN`, `CMDQ_BASE`, `CMDQ_PROD`, `CMDQ_CONS`, `CR0.CMDQEN` |
//! | [`CommandsTaken`] | [`keep_events`](CommandsTaken::keep_events) | none |
//! | | [`replace_events`](CommandsTaken::replace_events) | `CR0.EVENTQEN`, `EVENTQ_BASE`, `EVENTQ_PROD`, `EVENTQ_CONS` |
//! | [`EventsTaken`] | [`keep_page_requests`](EventsTaken::keep_page_requests) | none |
//! | | [`replace_page_requests`](EventsTaken::replace_page_requests) | `CR0.PRIQEN`, `PRIQ_BASE`, `PRIQ_PROD`, `PRIQ_CONS` |
//! | | [`stop_page_requests`](EventsTaken::stop_page_requests) | `CR0.PRIQEN` = 0 |
//! | [`QueuesTaken`] | [`enable_interrupts`](QueuesTaken::enable_interrupts) | `IRQ_CTRL`, the MSI registers |
//! | [`Running`] | | as after a bring-up |
//!
//! # The order, and why
//!
//! 1. `IRQ_CTRL` = 0 comes first: an interrupt would reach the old owner's handler or MSI address.
//! 2. The SMMU carries out what the old command queue has. The wait ends after
//!    [`BringupConfig::timeout`], and at once if `GERROR.CMDQ_ERR` says that the SMMU has stopped.
//!    Before that, it carries out what each enhanced command queue (ECMDQ) has, and each is turned off:
//!    `ECMDQ_PROD.EN` = 0, acknowledged by `ECMDQ_CONS.ENACK` (3.5.6.2). The SMMU consumes its queues in
//!    no order, so a queue that stays on could fill caches from the old owner's memory later.
//! 3. `CR0.CMDQEN` = 0, acknowledged. No other bit of `CR0` changes.
//! 4. Errors of the old queue and of old MSIs are acknowledged. The new queue starts empty.
//! 5. Before the queues that the SMMU fills, the caller aborts the streams that it does not keep, and
//!    flushes. What step 3 has cut off ([`OldCommands`]) is then paid for, except for answers and
//!    `ATC_INV`: the caller sends those again for each kept stream that has stalls, PRI or ATS.
//! 6. The old event queue stays on while it is read. [`keep_events`](CommandsTaken::keep_events)
//!    loses no event.
//! 7. [`replace_events`](CommandsTaken::replace_events) reads the old queue, turns it off, and reads it
//!    once more. Events between the two acknowledgements are lost.
//! 8. The PRI queue is treated alike. While it is off, the SMMU answers requests itself (8.2).
//! 9. Interrupts come last, when each queue has its reader.
//!
//! A wrong order does not compile. Here the event queue would change hands while the old owner's
//! commands are under way:
//!
//! ```compile_fail,E0599
//! use smmu_hw_mmio::{EventQueue, Occupied, TakeoverError};
//! use smmu_hw_mmio::smmu_types::seam::{DmaBlock, Registers, Wait};
//!
//! fn hasty<R: Registers, W: Wait, B: DmaBlock>(
//!     occupied: Occupied<R, W>, events: &EventQueue<R, B>,
//! ) -> Result<(), TakeoverError> {
//!     occupied.keep_events(events)?; // no such method before `enable_commands`
//!     Ok(())
//! }
//! ```
//!
//! # After an error
//!
//! `begin` has written nothing. An error of [`stop_commands`](Occupied::stop_commands) leaves the old
//! command queue as it was, unless `CR0` was not acknowledged; enhanced queues may be off. After any other error the SMMU
//! translates on with the queues that it had at that step. In each case begin again with
//! [`Takeover::begin`], or turn the SMMU off: [`Takeover::cut_off_enhanced_queues`], then
//! [`Bringup::begin`](crate::Bringup::begin). The memory
//! of a queue that was handed to a step stays allocated until then.
//!
//! # Hazard
//!
//! - The old owner has stopped: it writes neither registers nor queues.
//! - The old owner has turned its virtual queues (Tegra241) off: this module does not know them.
//! - With [`ControlPages::Reachable`] the window of registers reaches every control page. With
//!   [`ControlPages::Unused`] on an SMMU that has some, all enhanced queues are off.
//! - `CR1` and `CR2` stay as they are. [`Occupied::el2`] tells about `CR2.E2H`.

use smmu_types::fields::cr1 as cr1_field;
use smmu_types::queue::{Cmdq, ConsumerRegister, ProducerRegister, QueueSize, QueueState};
use smmu_types::regs::queue_base::QueueBase;
use smmu_types::regs::{self, Reg, Rw, cr0, cr2, gerror};
use smmu_types::seam::{DmaBlock, Registers, RegistersExt, Wait, poll};
use smmu_types::{Cacheability, Capabilities, EventRecord, PhysAddr, PriRecord, Shareability};

use crate::bringup::{
    Ats, BringupConfig, BringupError, BringupState, Coherency, ControlPages, El2, PageRequests,
    Running,
};
use crate::enhanced::{Drain, OldEnhanced};
use crate::interrupts::Interrupts;
pub use crate::takeover_error::{OldCommands, TakeoverError};
use crate::{EventQueue, EventQueueError, Gerror, PriQueue, PriQueueError};

/// Errors of the old owner that harm no new owner: its command queue stopped, or its MSIs aborted.
const HARMLESS: u32 = gerror::CMDQ
    | gerror::MSI_CMDQ_ABT
    | gerror::MSI_EVENTQ_ABT
    | gerror::MSI_PRIQ_ABT
    | gerror::MSI_GERROR_ABT;

/// A queue that the old owner gave to the SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldQueue {
    /// Where it is, as the SMMU uses it.
    pub address: PhysAddr,
    /// Its size, as the SMMU uses it.
    pub size: QueueSize,
}

/// Entry point of a takeover; see [`begin`](Self::begin).
#[derive(Debug)]
pub struct Takeover;

impl Takeover {
    /// Reads what runs, and judges whether it can be taken over. Writes no register.
    ///
    /// `caps` are those of the [probe](crate::probe). The states keep `registers` and `wait`;
    /// references suffice.
    ///
    /// # Errors
    ///
    /// The state is none that can be taken over.
    pub fn begin<R: Registers, W: Wait>(
        registers: R,
        wait: W,
        config: BringupConfig,
        caps: &Capabilities,
    ) -> Result<Occupied<R, W>, TakeoverError> {
        let mut smmu = BringupState { registers, wait, config, cr0: 0 };
        let cr0 = smmu.registers.read(regs::CR0);
        if cr0 == u32::MAX && smmu.registers.read(regs::GERROR) == u32::MAX {
            return Err(TakeoverError::NoDevice);
        }
        if cr0 & cr0::SMMUEN == 0 {
            return Err(TakeoverError::Off { cr0 });
        }
        // The old owner may have stopped inside an update.
        smmu.wait_for(regs::CR0ACK, cr0)?;
        smmu.cr0 = cr0;
        if cr0 & cr0::DPT_WALK_EN != 0 {
            return Err(TakeoverError::DevicePermissionTable { cr0 });
        }
        if config.ats == Ats::Checked && cr0 & cr0::ATSCHK == 0 {
            return Err(TakeoverError::UncheckedAts { cr0 });
        }
        let cr1 = smmu.registers.read(regs::CR1);
        if config.coherency == Coherency::Coherent && !is_coherent(cr1) {
            return Err(TakeoverError::Attributes { cr1 });
        }
        check_errors(&smmu)?;
        let enhanced = enhanced(&smmu, caps)?;
        let old = |on: u32, base: Reg<u64, Rw>, largest: u8, entry: usize| {
            let largest = QueueSize::from_log2(largest.min(QueueSize::MAX_LOG2))?;
            let base = QueueBase::decode(smmu.registers.read(base));
            (cr0 & on != 0).then(|| OldQueue {
                address: base.effective_address(largest, entry as u64),
                size: base.effective_size(largest),
            })
        };
        let commands = old(cr0::CMDQEN, regs::CMDQ_BASE, caps.cmdq_log2, 16);
        let events = old(cr0::EVENTQEN, regs::EVENTQ_BASE, caps.eventq_log2, EventRecord::BYTES);
        let pages = match config.page_requests {
            PageRequests::Present => {
                old(cr0::PRIQEN, regs::PRIQ_BASE, caps.priq_log2, PriRecord::BYTES)
            }
            PageRequests::Absent => None,
        };
        if let Some(queue) = commands {
            command_state(&smmu.registers, queue.size)?;
        }
        let strtab_base = smmu.registers.read(regs::STRTAB_BASE);
        let strtab_base_cfg = smmu.registers.read(regs::STRTAB_BASE_CFG);
        let e2h = smmu.registers.read(regs::CR2) & cr2::E2H != 0;
        let el2 =
            if e2h && config.el2 == El2::Present { El2::PresentWithAsids } else { config.el2 };
        smmu.config.el2 = el2;
        let queues = Queues { commands, events, pages };
        Ok(Occupied { smmu, strtab_base, strtab_base_cfg, queues, enhanced })
    }

    /// Turns each enhanced command queue of an old owner off, and cuts its commands off: before
    /// [`Bringup::begin`](crate::Bringup::begin) of an SMMU that is reset instead of taken over.
    ///
    /// `CR0` does not stop these queues. One that stays on goes on reading memory that its owner has
    /// given back, and lets the SMMU ignore a write of `CR1` (3.5.6.1).
    ///
    /// # Errors
    ///
    /// [`TakeoverError::ControlPagesUnknown`], [`TakeoverError::ControlPage`], or
    /// [`TakeoverError::EnhancedQueue`] for a queue that does not go off.
    pub fn cut_off_enhanced_queues<R: Registers, W: Wait>(
        registers: R,
        wait: W,
        config: BringupConfig,
        caps: &Capabilities,
    ) -> Result<(), TakeoverError> {
        let smmu = BringupState { registers, wait, config, cr0: 0 };
        if let Some(enhanced) = enhanced(&smmu, caps)? {
            enhanced.turn_off(&smmu, Drain::CutOff)?;
        }
        Ok(())
    }
}

/// The enhanced queues that may be on.
fn enhanced<R: Registers, W>(
    smmu: &BringupState<R, W>,
    caps: &Capabilities,
) -> Result<Option<OldEnhanced>, TakeoverError> {
    match (caps.enhanced_queues, smmu.config.control_pages) {
        (None, _) | (_, ControlPages::Unused) => Ok(None),
        (Some(has), ControlPages::Reachable) => {
            OldEnhanced::find(&smmu.registers, caps, has).map(Some)
        }
        (Some(has), ControlPages::Unknown) => {
            let [pages, queues] = [has.pages_log2, has.queues_log2].map(|log2| 1 << log2.min(15));
            Err(TakeoverError::ControlPagesUnknown { pages, queues })
        }
    }
}

/// Whether tables and queues are shareable, and Write-Back in both caches.
fn is_coherent(cr1: u32) -> bool {
    let value = [u64::from(cr1)];
    let write_back = Cacheability::WriteBack as u64;
    let shared = [Shareability::Outer as u64, Shareability::Inner as u64];
    let cached = [
        cr1_field::TABLE_IC.get(&value),
        cr1_field::TABLE_OC.get(&value),
        cr1_field::QUEUE_IC.get(&value),
        cr1_field::QUEUE_OC.get(&value),
    ];
    cached.into_iter().all(|attribute| attribute == write_back)
        && [cr1_field::TABLE_SH.get(&value), cr1_field::QUEUE_SH.get(&value)]
            .iter()
            .all(|attribute| shared.contains(attribute))
}

/// The harmless errors that are active.
fn check_errors<R: Registers, W>(smmu: &BringupState<R, W>) -> Result<Gerror, TakeoverError> {
    let errors = Gerror::read(&smmu.registers);
    // Queues that are turned off here may have stopped at an error.
    let stopped = smmu.config.control_pages == ControlPages::Reachable;
    let harmless = if stopped { HARMLESS | gerror::CMDQP } else { HARMLESS };
    if errors.contains(!harmless) {
        Err(TakeoverError::GlobalErrors { errors })
    } else {
        Ok(errors)
    }
}

fn command_state<R: Registers>(
    registers: &R,
    size: QueueSize,
) -> Result<QueueState<Cmdq>, TakeoverError> {
    let (producer, consumer) = (registers.read(regs::CMDQ_PROD), registers.read(regs::CMDQ_CONS));
    let state = QueueState::new(
        ProducerRegister::decode(size, producer),
        ConsumerRegister::decode(size, consumer),
    );
    state.map_err(|_| TakeoverError::CommandPointers { producer, consumer })
}

/// The old queues that are on.
#[derive(Clone, Copy, Debug)]
struct Queues {
    commands: Option<OldQueue>,
    events: Option<OldQueue>,
    pages: Option<OldQueue>,
}

/// The SMMU translates for an old owner. Nothing was written.
#[derive(Debug)]
pub struct Occupied<R, W> {
    smmu: BringupState<R, W>,
    strtab_base: u64,
    strtab_base_cfg: u32,
    queues: Queues,
    enhanced: Option<OldEnhanced>,
}

impl<R: Registers, W: Wait> Occupied<R, W> {
    /// `STRTAB_BASE`.
    #[must_use]
    pub const fn strtab_base(&self) -> u64 {
        self.strtab_base
    }

    /// `STRTAB_BASE_CFG`.
    #[must_use]
    pub const fn strtab_base_cfg(&self) -> u32 {
        self.strtab_base_cfg
    }

    /// The EL2 regime, with `CR2.E2H` as it runs.
    #[must_use]
    pub const fn el2(&self) -> El2 {
        self.smmu.config.el2
    }

    /// The event queue that is on.
    #[must_use]
    pub const fn events(&self) -> Option<OldQueue> {
        self.queues.events
    }

    /// The PRI queue that is on.
    #[must_use]
    pub const fn page_requests(&self) -> Option<OldQueue> {
        self.queues.pages
    }

    /// Lets the SMMU carry out the old owner's commands, and turns that queue and each enhanced one off.
    /// The interrupts are off from here on.
    ///
    /// # Errors
    ///
    /// The old owner still writes, the SMMU does not carry the commands out, an error is active, or a
    /// register gets no acknowledgement.
    pub fn stop_commands(mut self) -> Result<CommandsStopped<R, W>, TakeoverError> {
        self.check_unchanged()?;
        self.smmu.write_irq_ctrl(0)?;
        let enhanced = match &self.enhanced {
            Some(enhanced) => enhanced.turn_off(&self.smmu, Drain::Wait)?,
            None => OldCommands::default(),
        };
        let main = match self.queues.commands {
            Some(queue) => self.drain_commands(queue.size)?,
            None => OldCommands::default(),
        };
        let cut_off = main.cut_off.saturating_add(enhanced.cut_off);
        let old = OldCommands { cut_off, error: main.error.or(enhanced.error) };
        self.smmu.write_cr0(self.smmu.cr0 & !cr0::CMDQEN)?;
        Ok(CommandsStopped { smmu: self.smmu, queues: self.queues, old })
    }

    fn check_unchanged(&self) -> Result<(), TakeoverError> {
        let registers = &self.smmu.registers;
        let size = u64::from(self.strtab_base_cfg);
        let values = [
            (regs::CR0.name(), u64::from(self.smmu.cr0), registers.read(regs::CR0).into()),
            (regs::STRTAB_BASE.name(), self.strtab_base, registers.read(regs::STRTAB_BASE)),
            (regs::STRTAB_BASE_CFG.name(), size, registers.read(regs::STRTAB_BASE_CFG).into()),
        ];
        match values.into_iter().find(|(_, was, is)| was != is) {
            Some((register, was, is)) => Err(TakeoverError::Changed { register, was, is }),
            None => Ok(()),
        }
    }

    fn drain_commands(&self, size: QueueSize) -> Result<OldCommands, TakeoverError> {
        let (registers, timeout) = (&self.smmu.registers, self.smmu.config.timeout);
        let look = || -> Result<Option<OldCommands>, TakeoverError> {
            // The error before the pointers: the SMMU writes CMDQ_CONS first (7.1).
            let stopped = check_errors(&self.smmu)?.contains(gerror::CMDQ);
            let state = command_state(registers, size)?;
            if state.is_empty() && !stopped {
                return Ok(Some(OldCommands::default()));
            }
            let error = Some(state.consumer().error());
            Ok(stopped.then(|| OldCommands { cut_off: state.used(), error }))
        };
        let drained = poll(&self.smmu.wait, timeout, || look().transpose());
        drained.unwrap_or_else(|_| {
            let (producer, consumer) =
                (registers.read(regs::CMDQ_PROD), registers.read(regs::CMDQ_CONS));
            Err(TakeoverError::CommandsLeft { producer, consumer, timeout })
        })
    }
}

/// The command queue is off. The SMMU translates on.
#[derive(Debug)]
#[must_use = "the SMMU has no command queue"]
pub struct CommandsStopped<R, W> {
    smmu: BringupState<R, W>,
    queues: Queues,
    old: OldCommands,
}

impl<R: Registers, W: Wait> CommandsStopped<R, W> {
    /// What became of the old owner's commands.
    #[must_use]
    pub const fn old_commands(&self) -> OldCommands {
        self.old
    }

    /// Acknowledges the errors of the old queue, and turns on an empty command queue.
    ///
    /// `CMDQ_PROD` and `CMDQ_CONS` start at 0, and so must the owner of the queue.
    ///
    /// # Errors
    ///
    /// An error is active that harms, or a register gets no acknowledgement.
    pub fn enable_commands(
        mut self,
        base: PhysAddr,
        size: QueueSize,
    ) -> Result<CommandsTaken<R, W>, TakeoverError> {
        let errors = check_errors(&self.smmu)?;
        if !errors.is_empty() {
            // A queue that is turned on with CMDQ_ERR active would not move.
            let acknowledged = self.smmu.registers.read(regs::GERRORN);
            self.smmu.registers.write(regs::GERRORN, acknowledged ^ errors.active());
        }
        self.smmu.enable_commands(base, size)?;
        Ok(CommandsTaken { smmu: self.smmu, queues: self.queues })
    }
}

/// The command queue is the caller's. The caller now aborts the streams that it does not keep, and
/// flushes.
#[derive(Debug)]
#[must_use = "the old owner's event queue fills up"]
pub struct CommandsTaken<R, W> {
    smmu: BringupState<R, W>,
    queues: Queues,
}

impl<R: Registers, W: Wait> CommandsTaken<R, W> {
    /// Keeps the event queue that is on: [`EventQueue::of_running`] of [`Occupied::events`]. No event
    /// is lost.
    ///
    /// # Errors
    ///
    /// `events` is another queue.
    pub fn keep_events<B: DmaBlock>(
        self,
        events: &EventQueue<R, B>,
    ) -> Result<EventsTaken<R, W>, TakeoverError> {
        same(regs::EVENTQ_BASE, self.queues.events, events.base(), events.size())?;
        Ok(EventsTaken { smmu: self.smmu, queues: self.queues })
    }

    /// Turns an empty event queue on, in the place of the old one if one is on.
    ///
    /// `read_old` reads the old queue until it is empty; it runs once before the old queue is off and
    /// once after. Events between the two acknowledgements are lost, so keep the queue where a kept
    /// stream stalls.
    ///
    /// # Errors
    ///
    /// The old queue cannot be read, or a register gets no acknowledgement.
    pub fn replace_events(
        mut self,
        base: PhysAddr,
        size: QueueSize,
        read_old: impl FnMut() -> Result<(), EventQueueError>,
    ) -> Result<EventsTaken<R, W>, TakeoverError> {
        stop(&mut self.smmu, self.queues.events, cr0::EVENTQEN, read_old)?;
        self.smmu.enable_events(base, size)?;
        Ok(EventsTaken { smmu: self.smmu, queues: self.queues })
    }
}

/// The event queue has its reader.
#[derive(Debug)]
#[must_use = "the old owner's PRI queue may fill up"]
pub struct EventsTaken<R, W> {
    smmu: BringupState<R, W>,
    queues: Queues,
}

impl<R: Registers, W: Wait> EventsTaken<R, W> {
    /// Keeps the PRI queue that is on: [`PriQueue::of_running`] of [`Occupied::page_requests`].
    ///
    /// # Errors
    ///
    /// `pages` is another queue.
    pub fn keep_page_requests<B: DmaBlock>(
        self,
        pages: &PriQueue<R, B>,
    ) -> Result<QueuesTaken<R, W>, TakeoverError> {
        same(regs::PRIQ_BASE, self.queues.pages, pages.base(), pages.size())?;
        Ok(QueuesTaken(self.smmu))
    }

    /// Turns an empty PRI queue on, in the place of the old one if one is on.
    ///
    /// `read_old` reads the old queue until it is empty, and takes charge of each group that waits; it
    /// runs once before the old queue is off and once after. Between the two, the SMMU answers requests
    /// with `Response Failure`.
    ///
    /// # Errors
    ///
    /// The SMMU has no PRI queue, the old queue cannot be read, or a register gets no acknowledgement.
    pub fn replace_page_requests(
        self,
        base: PhysAddr,
        size: QueueSize,
        read_old: impl FnMut() -> Result<(), PriQueueError>,
    ) -> Result<QueuesTaken<R, W>, TakeoverError> {
        if self.smmu.config.page_requests == PageRequests::Absent {
            return Err(BringupError::NoPageRequests.into());
        }
        let mut taken = self.stop_page_requests(read_old)?;
        taken.0.enable_page_requests(base, size)?;
        Ok(taken)
    }

    /// Turns the PRI queue off if it is on. From then on the SMMU answers each request with
    /// `Response Failure` (8.2). `read_old` is as for
    /// [`replace_page_requests`](Self::replace_page_requests).
    ///
    /// # Errors
    ///
    /// The old queue cannot be read, or a register gets no acknowledgement.
    pub fn stop_page_requests(
        mut self,
        read_old: impl FnMut() -> Result<(), PriQueueError>,
    ) -> Result<QueuesTaken<R, W>, TakeoverError> {
        stop(&mut self.smmu, self.queues.pages, cr0::PRIQEN, read_old)?;
        Ok(QueuesTaken(self.smmu))
    }
}

/// Turns a queue that the SMMU fills off, if it is on. It is read before and after.
fn stop<R: Registers, W: Wait, E>(
    smmu: &mut BringupState<R, W>,
    old: Option<OldQueue>,
    enable: u32,
    mut read_old: impl FnMut() -> Result<(), E>,
) -> Result<(), TakeoverError>
where
    TakeoverError: From<E>,
{
    if old.is_some() {
        read_old()?;
        smmu.write_cr0(smmu.cr0 & !enable)?;
        read_old()?;
    }
    Ok(())
}

fn same(
    register: Reg<u64, Rw>,
    old: Option<OldQueue>,
    address: PhysAddr,
    size: QueueSize,
) -> Result<(), TakeoverError> {
    if old == Some(OldQueue { address, size }) {
        return Ok(());
    }
    let (register, log2) = (register.name(), size.log2());
    Err(TakeoverError::AnotherQueue { register, address, log2 })
}

/// Every queue has its reader. Interrupts are off.
#[derive(Debug)]
#[must_use = "the SMMU raises no interrupt yet"]
pub struct QueuesTaken<R, W>(BringupState<R, W>);

impl<R: Registers, W: Wait> QueuesTaken<R, W> {
    /// Choose how the driver learns of errors, events and page requests, instead of the old owner.
    ///
    /// The old owner's MSIs are complete, and off, before the new ones are on. No interrupt tells of
    /// records from before: drain each queue once after this call.
    ///
    /// # Errors
    ///
    /// `IRQ_CTRL` gets no acknowledgement, or the address of an MSI is not kept. The SMMU translates, and
    /// raises no interrupt.
    pub fn enable_interrupts(self, interrupts: Interrupts) -> Result<Running<R, W>, TakeoverError> {
        self.0.set_interrupts(interrupts)?;
        Ok(Running(self.0))
    }
}
