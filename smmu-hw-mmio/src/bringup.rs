//! Brings an SMMU from any state to translation, in the one safe order.
//!
//! Each state is a type. A step consumes one state and returns the next:
//!
//! | state | step | registers written |
//! |---|---|---|
//! | | [`Bringup::begin`] | `GBPA` (if translation is on), `CR0` = 0, `GERRORN` (if an error is active), `CR1`, `CR2` |
//! | [`Disabled`] | [`set_tables`](Disabled::set_tables) | `STRTAB_BASE`, `STRTAB_BASE_CFG` |
//! | [`TablesSet`] | [`enable_commands`](TablesSet::enable_commands) | `CMDQ_BASE`, `CMDQ_PROD`, `CMDQ_CONS`, `CR0` |
//! | [`CommandsEnabled`] | [`invalidate_all`](CommandsEnabled::invalidate_all) | commands, through a sink |
//! | [`Invalidated`] | [`enable_events`](Invalidated::enable_events) | `EVENTQ_BASE`, `EVENTQ_PROD`, `EVENTQ_CONS`, `CR0` |
//! | [`EventsEnabled`] | [`enable_page_requests`](EventsEnabled::enable_page_requests), left out without PRI | `PRIQ_BASE`, `PRIQ_PROD`, `PRIQ_CONS`, `CR0` |
//! | | [`enable_interrupts`](EventsEnabled::enable_interrupts) | `IRQ_CTRL`, the MSI registers |
//! | [`InterruptsSet`] | [`enable_translation`](InterruptsSet::enable_translation) | `CR0` |
//! | [`Running`] | [`disable`](Running::disable) | `GBPA`, `CR0` = 0 |
//! | [`Disabled`] | [`leave`](Disabled::leave) | `IRQ_CTRL`, `GBPA` |
//!
//! [`suspend`](crate::suspend) has the steps to sleep and to wake.
//!
//! A step that fails returns only the error: begin again. The registers keep what was written
//! before the failure. So translation may be on after `enable_translation`, `disable` or `begin`
//! got no acknowledgement.
//!
//! No step waits longer than [`BringupConfig::timeout`] for one register.
//!
//! Each write on which isolation rests is read back: `GBPA.ABORT` before translation goes off, the
//! address and format of the stream table, and the addresses of MSIs. An SMMU that drops one of them
//! gets [`BringupError::NotKept`]. Then `GBPA`, the tables and translation stay as they were; after an
//! address of an MSI, all interrupts are off.

use core::time::Duration;

use smmu_types::queue::QueueSize;
use smmu_types::regs::strtab::{DecodedBase, StreamTableFormat};
use smmu_types::regs::{self, Reg, Ro, Rw, cr0, cr1, cr2, gbpa, irq_ctrl, queue_base, strtab};
use smmu_types::seam::{CommandSink, InUnits, Registers, RegistersExt, SinkError, Wait, poll};
use smmu_types::{
    Capabilities, Command, EventRecord, FieldError, PhysAddr, PriRecord, RawCommand, SmmuId,
    SyncProof,
};

use crate::interrupts::{Interrupts, MSI_REGISTERS, NO_MSIS};

/// Whether the SMMU snoops caches when it reads tables and queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coherency {
    /// Snoops: accesses are Inner Shareable, Write-Back.
    Coherent,
    /// Does not snoop: accesses are Outer Shareable, Non-cacheable. The DMA memory cleans caches.
    NonCoherent,
}

/// The EL2 translation regime of the SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum El2 {
    /// No EL2 regime (`IDR0.HYP` = 0).
    Absent,
    /// Implemented, so the bring-up flushes it. EL2 streams have no ASIDs.
    Present,
    /// Implemented, and EL2 streams have ASIDs (`CR2.E2H`).
    PresentWithAsids,
}

/// Parameters of a bring-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BringupConfig {
    /// Longest wait for one register to acknowledge. 1 s by default.
    pub timeout: Duration,
    /// Whether the SMMU snoops tables and queues.
    pub coherency: Coherency,
    /// The EL2 regime.
    pub el2: El2,
    /// Address Translation Services (ATS).
    pub ats: Ats,
    /// The Page Request Interface (PRI).
    pub page_requests: PageRequests,
    /// The control pages of enhanced command queues (ECMDQ), for a
    /// [takeover](crate::takeover).
    pub control_pages: ControlPages,
}

/// What a takeover knows of the control pages of enhanced command queues (ECMDQ, 3.5.6).
///
/// They lie behind page 1, where `CMDQ_CONTROL_PAGE_BASE` says. A window of registers that ends before
/// them must not be read there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlPages {
    /// The SMMU has none (`IDR1.ECMDQ` = 0), or every enhanced queue is off.
    Unused,
    /// The registers reach every control page. A takeover turns off each queue that is on.
    Reachable,
    /// The SMMU has some. A takeover refuses.
    Unknown,
}

/// Whether the SMMU implements Address Translation Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ats {
    /// Not implemented (`IDR0.ATS` = 0).
    Absent,
    /// Implemented. The bring-up sets `CR0.ATSCHK` before translation is on. The SMMU then checks a
    /// translated transaction against its STE, instead of letting it pass.
    Checked,
}

/// Whether the SMMU implements the Page Request Interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageRequests {
    /// Not implemented (`IDR0.PRI` = 0).
    Absent,
    /// Implemented. The bring-up turns the PRI queue on if it is given one. Until then the SMMU
    /// answers each page request with `Response Failure` (8.2), and the device stops asking.
    Present,
}

impl BringupConfig {
    /// Follows the ID registers: coherency from `IDR0.COHACC`, ATS from `IDR0.ATS`, PRI from
    /// `IDR0.PRI`, and EL2 without ASIDs from `IDR0.HYP`. The timeout is 1 s. Of control pages
    /// (`IDR1.ECMDQ`) nothing is known.
    ///
    /// Takes coherency from `caps.coherent`: what firmware says belongs there first
    /// ([`Probe::with_coherency`](crate::Probe::with_coherency)).
    #[must_use]
    pub const fn new(caps: &Capabilities) -> Self {
        BringupConfig {
            timeout: Duration::from_secs(1),
            coherency: if caps.coherent { Coherency::Coherent } else { Coherency::NonCoherent },
            el2: if caps.hyp { El2::Present } else { El2::Absent },
            ats: if caps.ats { Ats::Checked } else { Ats::Absent },
            page_requests: if caps.pri { PageRequests::Present } else { PageRequests::Absent },
            control_pages: match caps.enhanced_queues {
                Some(_) => ControlPages::Unknown,
                None => ControlPages::Unused,
            },
        }
    }
}

/// Address and format of the stream table, for `STRTAB_BASE` and `STRTAB_BASE_CFG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamTableBase {
    /// Physical address, aligned to the size of the table.
    pub address: PhysAddr,
    /// Format and size.
    pub format: StreamTableFormat,
}

/// Why a bring-up failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BringupError {
    /// A register did not reach the value that the step waits for.
    #[error(
        "{register} = {got:#x} after {}, wanted {wanted:#x} in bits {mask:#x}; the SMMU hangs or is gone",
        InUnits(*timeout)
    )]
    NoAck {
        /// The register, by the architecture's name.
        register: &'static str,
        /// Bits that the step compares.
        mask: u32,
        /// Wanted value of these bits.
        wanted: u32,
        /// Value of the register when the time ran out.
        got: u32,
        /// The configured limit.
        timeout: Duration,
    },
    /// A register does not hold what was written, although the SMMU acknowledged the write.
    #[error(
        "{register} reads {read:#x} after {wrote:#x} was written; the SMMU does not keep it, so it is not driven"
    )]
    NotKept {
        /// The register, by the architecture's name.
        register: &'static str,
        /// The bits that were written.
        wrote: u64,
        /// The same bits as read back.
        read: u64,
    },
    /// The format does not allow a stream table of this size.
    #[error(
        "no stream table can be {format}; a table has up to 2^32 STEs, and SPLIT is 6, 8 or 10"
    )]
    StreamTableSize {
        /// The requested format.
        format: StreamTableFormat,
    },
    /// A base register cannot hold this address.
    #[error("{register}: {error}")]
    Base {
        /// The register.
        register: &'static str,
        /// Why it does not fit.
        error: FieldError,
    },
    /// A command queue that was to go to sleep still has commands.
    #[error(
        "CMDQ_PROD = {producer:#x}, CMDQ_CONS = {consumer:#x} after {}: the SMMU has commands left; no caller may use the queue of an SMMU that goes to sleep",
        InUnits(*timeout)
    )]
    CommandsLeft {
        /// `CMDQ_PROD`.
        producer: u32,
        /// `CMDQ_CONS`.
        consumer: u32,
        /// The configured limit.
        timeout: Duration,
    },
    /// The SMMU has no PRI queue.
    #[error("the SMMU has no PRI queue (IDR0.PRI = 0); leave enable_page_requests out")]
    NoPageRequests,
    /// The SMMU did not confirm that its caches are invalidated.
    #[error("the SMMU did not confirm that its caches are invalidated: {0}")]
    Invalidate(#[from] SinkError),
}

/// What every state of a bring-up carries.
#[derive(Debug)]
pub(crate) struct BringupState<R, W> {
    pub(crate) registers: R,
    pub(crate) wait: W,
    pub(crate) config: BringupConfig,
    // Value last written to CR0.
    pub(crate) cr0: u32,
}

impl<R: Registers, W: Wait> BringupState<R, W> {
    pub(crate) fn wait_for(&self, register: Reg<u32, Ro>, wanted: u32) -> Result<(), BringupError> {
        self.wait_for_bits(register.name(), || self.registers.read(register), u32::MAX, wanted)
    }

    fn wait_for_bits(
        &self,
        register: &'static str,
        read: impl Fn() -> u32,
        mask: u32,
        wanted: u32,
    ) -> Result<(), BringupError> {
        let timeout = self.config.timeout;
        let mut got = 0;
        poll(&self.wait, timeout, || {
            got = read();
            (got & mask == wanted).then_some(())
        })
        .map_err(|_| BringupError::NoAck { register, mask, wanted, got, timeout })
    }

    pub(crate) fn write_cr0(&mut self, value: u32) -> Result<(), BringupError> {
        self.cr0 = value;
        self.registers.write(regs::CR0, value);
        self.wait_for(regs::CR0ACK, value)
    }

    pub(crate) fn write_irq_ctrl(&self, value: u32) -> Result<(), BringupError> {
        self.registers.write(regs::IRQ_CTRL, value);
        self.wait_for(regs::IRQ_CTRLACK, value)
    }

    /// Make the SMMU abort transactions while translation is off.
    pub(crate) fn abort_untranslated(&self) -> Result<(), BringupError> {
        self.update_gbpa(|gbpa| gbpa | gbpa::ABORT)
    }

    /// Change `GBPA`, and read `GBPA.ABORT` back.
    pub(crate) fn update_gbpa(&self, change: impl FnOnce(u32) -> u32) -> Result<(), BringupError> {
        const GBPA: Reg<u32, Rw> = regs::GBPA;
        let read = || self.registers.read(GBPA);
        // Software may write GBPA only while no earlier update is under way.
        self.wait_for_bits(GBPA.name(), read, gbpa::UPDATE, 0)?;
        let wanted = change(read()) & !gbpa::UPDATE;
        self.registers.write(GBPA, wanted | gbpa::UPDATE);
        self.wait_for_bits(GBPA.name(), read, gbpa::UPDATE, 0)?;
        let abort = |value: u32| u64::from(value & gbpa::ABORT);
        kept(GBPA.name(), abort(wanted), abort(read()))
    }

    /// Invalidate all that the SMMU may have cached: configuration first, then translations.
    ///
    /// A configuration that is still cached could fetch old translations again.
    pub(crate) fn invalidate_all<S: CommandSink + ?Sized>(
        &self,
        sink: &S,
        smmu: SmmuId,
    ) -> Result<(), BringupError> {
        let run = |commands: &[Command]| -> Result<(), SinkError> {
            let proof: SyncProof = sink.run(smmu, commands)?;
            if proof.smmu() != smmu {
                return Err(SinkError::ForeignProof { want: smmu, got: proof.smmu() });
            }
            Ok(())
        };
        run(&[Command::CfgiAll])?;
        match self.config.el2 {
            El2::Absent => run(&[Command::TlbiNsnhAll])?,
            El2::Present | El2::PresentWithAsids => {
                run(&[Command::TlbiEl2All, Command::TlbiNsnhAll])?;
            }
        }
        Ok(())
    }

    /// Acknowledge errors of the previous owner: one would stop the command queue at once.
    fn acknowledge_old_errors(&self) {
        let error = self.registers.read(regs::GERROR);
        if error != self.registers.read(regs::GERRORN) {
            self.registers.write(regs::GERRORN, error);
        }
    }

    /// Turn on an empty command queue.
    pub(crate) fn enable_commands(
        &mut self,
        base: PhysAddr,
        size: QueueSize,
    ) -> Result<(), BringupError> {
        self.enable_queue(&COMMANDS, base, size)
    }

    /// Turn on an empty event queue.
    pub(crate) fn enable_events(
        &mut self,
        base: PhysAddr,
        size: QueueSize,
    ) -> Result<(), BringupError> {
        self.enable_queue(&EVENTS, base, size)
    }

    /// Turn on an empty PRI queue.
    pub(crate) fn enable_page_requests(
        &mut self,
        base: PhysAddr,
        size: QueueSize,
    ) -> Result<(), BringupError> {
        self.enable_queue(&PAGE_REQUESTS, base, size)
    }

    fn enable_queue(
        &mut self,
        queue: &QueueRegisters,
        base: PhysAddr,
        size: QueueSize,
    ) -> Result<(), BringupError> {
        let value = queue_base::encode(base, size, queue.entry_bytes as u64)
            .map_err(|error| BringupError::Base { register: queue.base.name(), error })?;
        self.registers.write(queue.base, value);
        self.registers.write(queue.producer, 0);
        self.registers.write(queue.consumer, 0);
        self.write_cr0(self.cr0 | queue.enable)
    }

    /// Turn the interrupts off, set their MSIs, and turn the chosen ones on.
    pub(crate) fn set_interrupts(&self, interrupts: Interrupts) -> Result<(), BringupError> {
        // MSI registers may be written only while their interrupt is off (6.3.21). The
        // acknowledgement says that all earlier MSIs are complete (6.3.16).
        self.write_irq_ctrl(0)?;
        let pages = if self.cr0 & cr0::PRIQEN != 0 { irq_ctrl::PRIQ } else { 0 };
        let all = irq_ctrl::GERROR | irq_ctrl::EVENTQ | pages;
        let (enabled, msis) = match interrupts {
            Interrupts::Wired => (all, NO_MSIS),
            Interrupts::Polled => (0, NO_MSIS),
            Interrupts::Msis(msis) => (all, msis.values),
            Interrupts::Saved(saved) => (saved.irq_ctrl, saved.values),
        };
        for ((address, data, attributes), values) in MSI_REGISTERS.into_iter().zip(msis) {
            self.registers.write(address, values.0);
            self.registers.write(data, values.1);
            self.registers.write(attributes, values.2);
            kept(address.name(), values.0, self.registers.read(address))?;
        }
        if enabled == 0 { Ok(()) } else { self.write_irq_ctrl(enabled) }
    }
}

/// Whether a register holds what was written.
pub(crate) const fn kept(
    register: &'static str,
    wrote: u64,
    read: u64,
) -> Result<(), BringupError> {
    if wrote == read { Ok(()) } else { Err(BringupError::NotKept { register, wrote, read }) }
}

/// The registers of one queue, and its bit of `CR0`.
struct QueueRegisters {
    base: Reg<u64, Rw>,
    producer: Reg<u32, Rw>,
    consumer: Reg<u32, Rw>,
    entry_bytes: usize,
    enable: u32,
}

const COMMANDS: QueueRegisters = QueueRegisters {
    base: regs::CMDQ_BASE,
    producer: regs::CMDQ_PROD,
    consumer: regs::CMDQ_CONS,
    entry_bytes: RawCommand::BYTES,
    enable: cr0::CMDQEN,
};

const EVENTS: QueueRegisters = QueueRegisters {
    base: regs::EVENTQ_BASE,
    producer: regs::EVENTQ_PROD,
    consumer: regs::EVENTQ_CONS,
    entry_bytes: EventRecord::BYTES,
    enable: cr0::EVENTQEN,
};

const PAGE_REQUESTS: QueueRegisters = QueueRegisters {
    base: regs::PRIQ_BASE,
    producer: regs::PRIQ_PROD,
    consumer: regs::PRIQ_CONS,
    entry_bytes: PriRecord::BYTES,
    enable: cr0::PRIQEN,
};

/// Entry point of the bring-up; see [`begin`](Self::begin).
#[derive(Debug)]
pub struct Bringup;

impl Bringup {
    /// Turn the SMMU off from any state, and set the attributes of its own accesses.
    ///
    /// If translation is on, `begin` first sets `GBPA.ABORT`, so that a device which firmware left
    /// running does not reach memory untranslated. If translation is off already, `GBPA` stays as
    /// it is.
    ///
    /// The states keep `registers` and `wait`; references suffice.
    pub fn begin<R: Registers, W: Wait>(
        registers: R,
        wait: W,
        config: BringupConfig,
    ) -> Result<Disabled<R, W>, BringupError> {
        let mut smmu = BringupState { registers, wait, config, cr0: 0 };
        // CR0ACK lags CR0, so either may show that translation is on.
        let enabled = smmu.registers.read(regs::CR0) | smmu.registers.read(regs::CR0ACK);
        if enabled & cr0::SMMUEN != 0 {
            smmu.abort_untranslated()?;
        }
        smmu.write_cr0(0)?;
        smmu.acknowledge_old_errors();
        smmu.registers.write(
            regs::CR1,
            match config.coherency {
                Coherency::Coherent => cr1::COHERENT,
                Coherency::NonCoherent => cr1::NON_COHERENT,
            },
        );
        let e2h = if config.el2 == El2::PresentWithAsids { cr2::E2H } else { 0 };
        smmu.registers.write(regs::CR2, cr2::PTM | cr2::RECINVSID | e2h);
        Ok(Disabled(smmu))
    }
}

/// Translation and all queues are off.
#[derive(Debug)]
#[must_use = "the SMMU is not translating yet"]
pub struct Disabled<R, W>(pub(crate) BringupState<R, W>);

impl<R: Registers, W: Wait> Disabled<R, W> {
    /// Tell the SMMU where its stream table is.
    ///
    /// The caller has filled the table and published it to the SMMU: every STE already translates,
    /// bypasses or aborts as it shall when translation begins.
    pub fn set_tables(self, table: StreamTableBase) -> Result<TablesSet<R, W>, BringupError> {
        let StreamTableBase { address, format } = table;
        let size = format.config().map_err(|_| BringupError::StreamTableSize { format })?;
        let base = strtab::base(address, format)
            .map_err(|error| BringupError::Base { register: regs::STRTAB_BASE.name(), error })?;
        let registers = &self.0.registers;
        registers.write(regs::STRTAB_BASE, base);
        registers.write(regs::STRTAB_BASE_CFG, size);
        let read = DecodedBase::decode(registers.read(regs::STRTAB_BASE));
        kept(regs::STRTAB_BASE.name(), address.0, read.address.0)?;
        let read = registers.read(regs::STRTAB_BASE_CFG);
        kept(regs::STRTAB_BASE_CFG.name(), size.into(), read.into())?;
        Ok(TablesSet(self.0))
    }
}

/// The SMMU knows its stream table.
#[derive(Debug)]
#[must_use = "the SMMU is not translating yet"]
pub struct TablesSet<R, W>(pub(crate) BringupState<R, W>);

impl<R: Registers, W: Wait> TablesSet<R, W> {
    /// Turn on an empty command queue.
    ///
    /// `CMDQ_PROD` and `CMDQ_CONS` start at 0, and so must the owner of the queue.
    pub fn enable_commands(
        mut self,
        base: PhysAddr,
        size: QueueSize,
    ) -> Result<CommandsEnabled<R, W>, BringupError> {
        self.0.enable_commands(base, size)?;
        Ok(CommandsEnabled(self.0))
    }
}

/// The command queue is on.
#[derive(Debug)]
#[must_use = "the SMMU is not translating yet"]
pub struct CommandsEnabled<R, W>(BringupState<R, W>);

impl<R: Registers, W: Wait> CommandsEnabled<R, W> {
    /// Invalidate all that the SMMU may have cached: configuration first, then translations.
    ///
    /// A configuration that is still cached could fetch old translations again.
    pub fn invalidate_all<S: CommandSink + ?Sized>(
        self,
        sink: &S,
        smmu: SmmuId,
    ) -> Result<Invalidated<R, W>, BringupError> {
        self.0.invalidate_all(sink, smmu)?;
        Ok(Invalidated(self.0))
    }
}

/// The caches are invalidated.
#[derive(Debug)]
#[must_use = "the SMMU is not translating yet"]
pub struct Invalidated<R, W>(BringupState<R, W>);

impl<R: Registers, W: Wait> Invalidated<R, W> {
    /// Turn on an empty event queue.
    ///
    /// `EVENTQ_PROD` and `EVENTQ_CONS` start at 0, as [`EventQueue`](crate::EventQueue) does.
    pub fn enable_events(
        mut self,
        base: PhysAddr,
        size: QueueSize,
    ) -> Result<EventsEnabled<R, W>, BringupError> {
        self.0.enable_events(base, size)?;
        Ok(EventsEnabled(self.0))
    }
}

/// The event queue is on.
#[derive(Debug)]
#[must_use = "the SMMU is not translating yet"]
pub struct EventsEnabled<R, W>(BringupState<R, W>);

impl<R: Registers, W: Wait> EventsEnabled<R, W> {
    /// Turn on an empty PRI queue, where the SMMU has PRI and the integrator answers page requests.
    ///
    /// `PRIQ_PROD` and `PRIQ_CONS` start at 0, as [`PriQueue`](crate::PriQueue) does. The queue takes
    /// page requests from [`enable_translation`](InterruptsSet::enable_translation) on.
    pub fn enable_page_requests(
        mut self,
        base: PhysAddr,
        size: QueueSize,
    ) -> Result<Self, BringupError> {
        if self.0.config.page_requests == PageRequests::Absent {
            return Err(BringupError::NoPageRequests);
        }
        self.0.enable_page_requests(base, size)?;
        Ok(self)
    }

    /// Choose how the driver learns of errors, events and page requests.
    ///
    /// Writes all MSI registers while the interrupts are off, with 0 where there is no MSI.
    pub fn enable_interrupts(
        self,
        interrupts: Interrupts,
    ) -> Result<InterruptsSet<R, W>, BringupError> {
        self.0.set_interrupts(interrupts)?;
        Ok(InterruptsSet(self.0))
    }
}

/// All is on, except translation.
#[derive(Debug)]
#[must_use = "the SMMU is not translating yet"]
pub struct InterruptsSet<R, W>(BringupState<R, W>);

impl<R: Registers, W: Wait> InterruptsSet<R, W> {
    /// Turn translation on. `GBPA` stays as it is.
    pub fn enable_translation(mut self) -> Result<Running<R, W>, BringupError> {
        if self.0.config.ats == Ats::Checked {
            self.0.write_cr0(self.0.cr0 | cr0::ATSCHK)?;
        }
        self.0.write_cr0(self.0.cr0 | cr0::SMMUEN)?;
        Ok(Running(self.0))
    }
}

/// The SMMU translates.
///
/// Dropping this value leaves the SMMU running.
#[derive(Debug)]
pub struct Running<R, W>(pub(crate) BringupState<R, W>);

impl<R: Registers, W: Wait> Running<R, W> {
    /// The registers of the SMMU.
    pub const fn registers(&self) -> &R {
        &self.0.registers
    }

    /// Turn the SMMU off. `GBPA.ABORT` is set first, so that no device bypasses translation.
    pub fn disable(mut self) -> Result<Disabled<R, W>, BringupError> {
        self.0.abort_untranslated()?;
        self.0.write_cr0(0)?;
        Ok(Disabled(self.0))
    }
}
