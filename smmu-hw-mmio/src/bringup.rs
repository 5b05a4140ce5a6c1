//! From whatever state firmware left the SMMU in to translation, in the one order that is safe.
//!
//! Each state is a type, each step consumes one and returns the next:
//!
//! | state | step | registers written |
//! |---|---|---|
//! | | [`Bringup::begin`] | `GBPA` (only if translation is on), `CR0` = 0, `GERRORN` (only if an old error is active), `CR1`, `CR2` |
//! | [`Disabled`] | [`set_tables`](Disabled::set_tables) | `STRTAB_BASE`, `STRTAB_BASE_CFG` |
//! | [`TablesSet`] | [`enable_commands`](TablesSet::enable_commands) | `CMDQ_BASE`, `CMDQ_PROD`, `CMDQ_CONS`, `CR0` |
//! | [`CommandsEnabled`] | [`invalidate_all`](CommandsEnabled::invalidate_all) | commands, through a sink |
//! | [`Invalidated`] | [`enable_events`](Invalidated::enable_events) | `EVENTQ_BASE`, `EVENTQ_PROD`, `EVENTQ_CONS`, `CR0` |
//! | [`EventsEnabled`] | [`enable_interrupts`](EventsEnabled::enable_interrupts) | `IRQ_CTRL`, the MSI addresses |
//! | [`InterruptsSet`] | [`enable_translation`](InterruptsSet::enable_translation) | `CR0` |
//! | [`Running`] | [`disable`](Running::disable) | `GBPA`, `CR0` = 0 |
//!
//! A step that fails returns only the error: begin again. What was written before the failure stays, so after a missing
//! acknowledgement of `enable_translation`, `disable` or `begin` translation may be on. Nothing here waits longer than [`BringupConfig::timeout`] for one register.

use core::time::Duration;

use smmu_types::queue::QueueSize;
use smmu_types::regs::strtab::Format;
use smmu_types::regs::{self, Reg, Ro, Rw, cr0, cr1, cr2, gbpa, irq_ctrl, queue_base, strtab};
use smmu_types::seam::{CommandSink, Registers, RegistersExt, SinkError, Wait, poll};
use smmu_types::{
    Capabilities, Command, EventRecord, FieldError, PhysAddr, RawCommand, SmmuId, SyncProof,
};

/// Whether the SMMU snoops the caches when it reads tables and queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coherency {
    /// It does: Inner Shareable, Write-Back.
    Coherent,
    /// It does not: Outer Shareable, Non-cacheable. The DMA memory cleans caches.
    NonCoherent,
}

/// What of EL2 there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum El2 {
    /// No EL2 regime (`IDR0.HYP` = 0).
    Absent,
    /// It is there and must be flushed, and streams may use it without ASIDs.
    Present,
    /// As above, and streams of EL2 have ASIDs (`CR2.E2H`).
    PresentWithAsids,
}

/// What a bring-up needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BringupConfig {
    /// How long to wait for one register to acknowledge. 1 s by default.
    pub timeout: Duration,
    /// Coherency of tables and queues.
    pub coherency: Coherency,
    /// The EL2 regime.
    pub el2: El2,
    /// Address translation services.
    pub ats: Ats,
}

/// Whether the SMMU has address translation services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ats {
    /// It has none (`IDR0.ATS` = 0).
    Absent,
    /// It has. `CR0.ATSCHK` is set before translation is on, so that transactions which a device marks as translated
    /// are checked against their stream table entry and do not pass by it.
    Checked,
}

impl BringupConfig {
    /// What the ID registers say: coherency as `IDR0.COHACC`, EL2 as `IDR0.HYP` and without ASIDs, ATS as `IDR0.ATS`,
    /// 1 s.
    #[must_use]
    pub const fn new(caps: &Capabilities) -> Self {
        BringupConfig {
            timeout: Duration::from_secs(1),
            coherency: if caps.coherent { Coherency::Coherent } else { Coherency::NonCoherent },
            el2: if caps.hyp { El2::Present } else { El2::Absent },
            ats: if caps.ats { Ats::Checked } else { Ats::Absent },
        }
    }
}

/// Where the stream table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamTable {
    /// Where the SMMU finds it, aligned to its size.
    pub address: PhysAddr,
    /// Its format and size.
    pub format: Format,
}

/// Which interrupts the SMMU raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interrupts {
    /// Wires, for global errors and for events. MSIs are off.
    Wired,
    /// None: the driver looks at the registers.
    Polled,
}

/// Why an SMMU was not brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BringupError {
    /// A register did not take the value that the step waits for.
    #[error(
        "{register} = {got:#x} after {timeout:?}, wanted {wanted:#x} in the bits {mask:#x}; the SMMU hangs or is gone"
    )]
    NoAck {
        /// The architecture's name of the register.
        register: &'static str,
        /// Which bits are waited for.
        mask: u32,
        /// What they were to be.
        wanted: u32,
        /// What the register was when the time was up.
        got: u32,
        /// The time that was allowed.
        timeout: Duration,
    },
    /// The stream table has a size that its format cannot have.
    #[error(
        "a {format:?} stream table does not exist; linear tables have up to 2^32 STEs, two-level ones 2^8 to 2^32"
    )]
    StreamTableSize {
        /// The format asked for.
        format: Format,
    },
    /// An address cannot be a base.
    #[error("{register}: {error}")]
    Base {
        /// The register that was to hold it.
        register: &'static str,
        /// What is wrong with it.
        error: FieldError,
    },
    /// What the SMMU had cached could not be invalidated.
    #[error("the caches could not be invalidated: {0}")]
    Invalidate(#[from] SinkError),
}

#[derive(Debug)]
struct Smmu<R, W> {
    registers: R,
    wait: W,
    config: BringupConfig,
    // What CR0 holds.
    cr0: u32,
}

impl<R: Registers, W: Wait> Smmu<R, W> {
    fn wait_for(&self, register: Reg<u32, Ro>, wanted: u32) -> Result<(), BringupError> {
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

    fn write_cr0(&mut self, value: u32) -> Result<(), BringupError> {
        self.cr0 = value;
        self.registers.write(regs::CR0, value);
        self.wait_for(regs::CR0ACK, value)
    }

    fn write_irq_ctrl(&self, value: u32) -> Result<(), BringupError> {
        self.registers.write(regs::IRQ_CTRL, value);
        self.wait_for(regs::IRQ_CTRLACK, value)
    }

    /// Abort what arrives while translation is off.
    fn abort_untranslated(&self) -> Result<(), BringupError> {
        const GBPA: Reg<u32, Rw> = regs::GBPA;
        let read = || self.registers.read(GBPA);
        self.wait_for_bits(GBPA.name(), read, gbpa::UPDATE, 0)?;
        self.registers.write(GBPA, read() | gbpa::ABORT | gbpa::UPDATE);
        self.wait_for_bits(GBPA.name(), read, gbpa::UPDATE, 0)
    }

    /// An old error would stop the command queue before its first command.
    fn acknowledge_old_errors(&self) {
        let error = self.registers.read(regs::GERROR);
        if error != self.registers.read(regs::GERRORN) {
            self.registers.write(regs::GERRORN, error);
        }
    }
}

fn queue(
    register: Reg<u64, Rw>,
    base: PhysAddr,
    size: QueueSize,
    entry_bytes: usize,
) -> Result<u64, BringupError> {
    queue_base::encode(base, size, entry_bytes as u64)
        .map_err(|error| BringupError::Base { register: register.name(), error })
}

/// The way in.
#[derive(Debug)]
pub struct Bringup;

impl Bringup {
    /// Turn the SMMU off, whatever it was doing, and set the attributes of its own accesses.
    ///
    /// If translation is on, all traffic is set to abort first, so that devices that firmware left running
    /// never reach memory untranslated. If it is off already, `GBPA` stays as it is.
    ///
    /// `registers` and `wait` are kept until [`Running`]; references will do.
    pub fn begin<R: Registers, W: Wait>(
        registers: R,
        wait: W,
        config: BringupConfig,
    ) -> Result<Disabled<R, W>, BringupError> {
        let mut smmu = Smmu { registers, wait, config, cr0: 0 };
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
pub struct Disabled<R, W>(Smmu<R, W>);

impl<R: Registers, W: Wait> Disabled<R, W> {
    /// Tell the SMMU where its stream table is.
    ///
    /// The table is complete: every STE in it translates, bypasses or aborts as the integrator wants
    /// it from the moment when translation begins, and is published to the SMMU.
    pub fn set_tables(self, table: StreamTable) -> Result<TablesSet<R, W>, BringupError> {
        let StreamTable { address, format } = table;
        let size = format.config().map_err(|_| BringupError::StreamTableSize { format })?;
        let base = strtab::base(address, format)
            .map_err(|error| BringupError::Base { register: regs::STRTAB_BASE.name(), error })?;
        self.0.registers.write(regs::STRTAB_BASE, base);
        self.0.registers.write(regs::STRTAB_BASE_CFG, size);
        Ok(TablesSet(self.0))
    }
}

/// The stream table is known.
#[derive(Debug)]
#[must_use = "the SMMU is not translating yet"]
pub struct TablesSet<R, W>(Smmu<R, W>);

impl<R: Registers, W: Wait> TablesSet<R, W> {
    /// Turn an empty command queue on.
    ///
    /// Whoever fills it counts from 0.
    pub fn enable_commands(
        mut self,
        base: PhysAddr,
        size: QueueSize,
    ) -> Result<CommandsEnabled<R, W>, BringupError> {
        let value = queue(regs::CMDQ_BASE, base, size, RawCommand::BYTES)?;
        self.0.registers.write(regs::CMDQ_BASE, value);
        self.0.registers.write(regs::CMDQ_PROD, 0);
        self.0.registers.write(regs::CMDQ_CONS, 0);
        self.0.write_cr0(self.0.cr0 | cr0::CMDQEN)?;
        Ok(CommandsEnabled(self.0))
    }
}

/// Commands are carried out.
#[derive(Debug)]
#[must_use = "the SMMU is not translating yet"]
pub struct CommandsEnabled<R, W>(Smmu<R, W>);

impl<R: Registers, W: Wait> CommandsEnabled<R, W> {
    /// Invalidate everything that the SMMU may have cached before: configuration, then translations.
    pub fn invalidate_all<S: CommandSink + ?Sized>(
        self,
        sink: &S,
        smmu: SmmuId,
    ) -> Result<Invalidated<R, W>, BringupError> {
        let run = |commands: &[Command]| -> Result<(), SinkError> {
            let proof: SyncProof = sink.run(smmu, commands)?;
            if proof.smmu() != smmu {
                return Err(SinkError::ForeignProof { want: smmu, got: proof.smmu() });
            }
            Ok(())
        };
        run(&[Command::CfgiAll])?;
        match self.0.config.el2 {
            El2::Absent => run(&[Command::TlbiNsnhAll])?,
            El2::Present | El2::PresentWithAsids => {
                run(&[Command::TlbiEl2All, Command::TlbiNsnhAll])?;
            }
        }
        Ok(Invalidated(self.0))
    }
}

/// Nothing is cached.
#[derive(Debug)]
#[must_use = "the SMMU is not translating yet"]
pub struct Invalidated<R, W>(Smmu<R, W>);

impl<R: Registers, W: Wait> Invalidated<R, W> {
    /// Turn an empty event queue on.
    ///
    /// Whoever drains it counts from 0.
    pub fn enable_events(
        mut self,
        base: PhysAddr,
        size: QueueSize,
    ) -> Result<EventsEnabled<R, W>, BringupError> {
        let value = queue(regs::EVENTQ_BASE, base, size, EventRecord::BYTES)?;
        self.0.registers.write(regs::EVENTQ_BASE, value);
        self.0.registers.write(regs::EVENTQ_PROD, 0);
        self.0.registers.write(regs::EVENTQ_CONS, 0);
        self.0.write_cr0(self.0.cr0 | cr0::EVENTQEN)?;
        Ok(EventsEnabled(self.0))
    }
}

/// Events are recorded.
#[derive(Debug)]
#[must_use = "the SMMU is not translating yet"]
pub struct EventsEnabled<R, W>(Smmu<R, W>);

impl<R: Registers, W: Wait> EventsEnabled<R, W> {
    /// Choose how the driver learns of errors and events.
    pub fn enable_interrupts(
        self,
        interrupts: Interrupts,
    ) -> Result<InterruptsSet<R, W>, BringupError> {
        self.0.write_irq_ctrl(0)?;
        for address in [regs::GERROR_IRQ_CFG0, regs::EVENTQ_IRQ_CFG0, regs::PRIQ_IRQ_CFG0] {
            self.0.registers.write(address, 0);
        }
        match interrupts {
            Interrupts::Wired => self.0.write_irq_ctrl(irq_ctrl::GERROR | irq_ctrl::EVENTQ)?,
            Interrupts::Polled => {}
        }
        Ok(InterruptsSet(self.0))
    }
}

/// Everything but translation is on.
#[derive(Debug)]
#[must_use = "the SMMU is not translating yet"]
pub struct InterruptsSet<R, W>(Smmu<R, W>);

impl<R: Registers, W: Wait> InterruptsSet<R, W> {
    /// Begin to translate. `GBPA` stays as it is.
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
/// Dropping this leaves it running.
#[derive(Debug)]
pub struct Running<R, W>(Smmu<R, W>);

impl<R: Registers, W: Wait> Running<R, W> {
    /// The registers.
    pub const fn registers(&self) -> &R {
        &self.0.registers
    }

    /// Turn the SMMU off, with all traffic set to abort first: no device reaches memory that translation
    /// had kept from it.
    pub fn disable(mut self) -> Result<Disabled<R, W>, BringupError> {
        self.0.abort_untranslated()?;
        self.0.write_cr0(0)?;
        Ok(Disabled(self.0))
    }
}
