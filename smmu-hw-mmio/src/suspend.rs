//! Sleep: stops an SMMU, keeps what its registers lose without power, and brings it up again over
//! the same tables.
//!
//! Each state is a type, as in the [bring-up](crate::bringup):
//!
//! | state | step | what it does |
//! |---|---|---|
//! | [`Running`] | [`quiesce`](Running::quiesce) | `GBPA.ABORT`, `CR0.SMMUEN` = 0; invalidates all |
//! | [`Quiescent`] | [`suspend`](Quiescent::suspend) | waits for the command queue, saves registers, `IRQ_CTRL` = 0, `CR0` = 0 |
//! | | [`enable_translation`](Quiescent::enable_translation) | back to [`Running`]: the sleep is called off |
//! | [`Suspended`] | [`resume`](Suspended::resume) | `GBPA.ABORT`, `CR0` = 0, `CR1`, `CR2`, `STRTAB_BASE`, `STRTAB_BASE_CFG` |
//! | [`TablesSet`] | | the bring-up: commands, [`invalidate_all`](crate::CommandsEnabled::invalidate_all), events, [`Interrupts::Saved`](crate::Interrupts::Saved), translation |
//!
//! # An unmap needs no command while the SMMU sleeps
//!
//! Between [`quiesce`](Running::quiesce) and [`resume`](Suspended::resume) a driver may count an
//! invalidation (`CFGI_*`, `TLBI_*`) as done, without a queue to send it to:
//!
//! 1. `quiesce` sets `GBPA.ABORT` and reads it back before it clears `SMMUEN`. So from the
//!    acknowledgement of `SMMUEN` = 0 on the SMMU translates no transaction, and each one aborts.
//! 2. Then it invalidates all, with the command queue still on. Its `CMD_SYNC` is complete only when
//!    every transaction that used a cached entry is complete (4.7). So from the return of `quiesce`
//!    on, no access by an old translation is under way, and the caches are empty.
//! 3. With `SMMUEN` = 0 the SMMU fetches no table (6.3.9), so the caches stay empty.
//! 4. Without power it holds nothing. With power again, its caches and registers have any contents,
//!    and [`resume`](Suspended::resume) sets `GBPA.ABORT` before anything else.
//! 5. [`TablesSet`] reaches translation only through
//!    [`invalidate_all`](crate::CommandsEnabled::invalidate_all): the types have no other way. It
//!    pays every invalidation that was owed, whatever number there is.
//! 6. A table entry that was written before the driver counts the invalidation as done, and made
//!    visible with a full barrier, is visible when the SMMU fetches again after 5.
//!
//! The argument does not hold for other commands. An `ATC_INV` reaches a device, whose cache outlives
//! the SMMU's: turn ATS off at the devices first. Stalled transactions end with 1; an answer to one
//! (`CMD_RESUME`) has no effect any more. `CMD_PRI_RESP` waits until the SMMU is up again.
//!
//! # Hazard
//!
//! Between the return of power and [`resume`](Suspended::resume) the reset value of `GBPA` decides
//! what a device reaches. Devices stay quiet until then, or firmware sets `GBPA.ABORT`.

use smmu_types::SmmuId;
use smmu_types::regs::{self, cr0, gbpa, queue_pointer, strtab};
use smmu_types::seam::{CommandSink, Registers, RegistersExt, Wait, poll};

use crate::bringup::{
    Bringup, BringupConfig, BringupError, BringupState, Running, TablesSet, kept,
};
use crate::interrupts::SavedInterrupts;

/// What the registers of an SMMU lose without power, except for the queues: those start empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedRegisters {
    gbpa: u32,
    cr1: u32,
    cr2: u32,
    strtab_base: u64,
    strtab_base_cfg: u32,
    interrupts: SavedInterrupts,
}

impl SavedRegisters {
    fn read<R: Registers>(registers: &R) -> Self {
        SavedRegisters {
            gbpa: registers.read(regs::GBPA),
            cr1: registers.read(regs::CR1),
            cr2: registers.read(regs::CR2),
            strtab_base: registers.read(regs::STRTAB_BASE),
            strtab_base_cfg: registers.read(regs::STRTAB_BASE_CFG),
            interrupts: SavedInterrupts::read(registers),
        }
    }

    /// The interrupts, for [`Interrupts::Saved`](crate::Interrupts::Saved).
    #[must_use]
    pub const fn interrupts(&self) -> SavedInterrupts {
        self.interrupts
    }
}

impl<R: Registers, W: Wait> Running<R, W> {
    /// Turns translation off and empties the caches. The queues stay on, so callers may go on using
    /// the command queue, and the event queue can be drained.
    ///
    /// Every transaction aborts from now on. Stalled transactions end.
    ///
    /// # Errors
    ///
    /// A register gets no acknowledgement or does not keep its value, or the SMMU does not confirm
    /// that its caches are empty. Begin again with [`Bringup::begin`].
    pub fn quiesce<S: CommandSink + ?Sized>(
        self,
        sink: &S,
        smmu: SmmuId,
    ) -> Result<Quiescent<R, W>, BringupError> {
        let mut state = self.0;
        state.abort_untranslated()?;
        state.write_cr0(state.cr0 & !cr0::SMMUEN)?;
        state.invalidate_all(sink, smmu)?;
        Ok(Quiescent(state))
    }
}

/// Translation is off, every transaction aborts, and the caches are empty. The queues are on.
#[derive(Debug)]
#[must_use = "the SMMU translates nothing"]
pub struct Quiescent<R, W>(BringupState<R, W>);

impl<R: Registers, W: Wait> Quiescent<R, W> {
    /// Turns the queues off and saves what the registers lose. Power may go after `Ok`.
    ///
    /// Before the call, the caller
    ///
    /// - lets no more thread use the command queue;
    /// - drains the event queue and the PRI queue: records that are left are lost.
    ///
    /// # Errors
    ///
    /// - [`BringupError::CommandsLeft`]: the command queue does not become empty.
    /// - A register gets no acknowledgement.
    pub fn suspend(self) -> Result<Suspended<R, W>, BringupError> {
        let mut state = self.0;
        let (timeout, registers) = (state.config.timeout, &state.registers);
        let (mut producer, mut consumer) = (0, 0);
        let empty = || {
            (producer, consumer) =
                (registers.read(regs::CMDQ_PROD), registers.read(regs::CMDQ_CONS));
            // CMDQ_CONS has an error code beside the pointer, which belongs to no command now.
            ((producer ^ consumer) & queue_pointer::POINTER == 0).then_some(())
        };
        poll(&state.wait, timeout, empty).map_err(|_| BringupError::CommandsLeft {
            producer,
            consumer,
            timeout,
        })?;
        let saved = SavedRegisters::read(&state.registers);
        state.write_irq_ctrl(0)?;
        state.write_cr0(0)?;
        Ok(Suspended { state, saved })
    }

    /// Calls the sleep off. The caches are empty, and the queues are as before.
    ///
    /// # Errors
    ///
    /// The SMMU does not acknowledge. Begin again with [`Bringup::begin`].
    pub fn enable_translation(self) -> Result<Running<R, W>, BringupError> {
        let mut state = self.0;
        state.write_cr0(state.cr0 | cr0::SMMUEN)?;
        Ok(Running(state))
    }
}

/// The SMMU is off, and may lose its power.
#[derive(Debug)]
#[must_use = "the SMMU sleeps until it is resumed"]
pub struct Suspended<R, W> {
    state: BringupState<R, W>,
    saved: SavedRegisters,
}

impl<R: Registers, W: Wait> Suspended<R, W> {
    /// What the registers have lost, for another attempt after a resume that failed.
    #[must_use]
    pub const fn saved(&self) -> SavedRegisters {
        self.saved
    }

    /// Begins a bring-up over the same tables: [`Bringup::resume`].
    ///
    /// # Errors
    ///
    /// As of [`Bringup::resume`].
    pub fn resume(self) -> Result<TablesSet<R, W>, BringupError> {
        let BringupState { registers, wait, config, .. } = self.state;
        Bringup::resume(registers, wait, config, self.saved)
    }
}

impl Bringup {
    /// Begins a bring-up over the tables from before a sleep, from any state.
    ///
    /// Sets `GBPA.ABORT` before anything else, also if translation is off: power-on may have chosen
    /// bypass. The other fields of `GBPA`, `CR1`, `CR2` and the stream table become as they were. The
    /// next steps are those of every bring-up. The queues start empty, in the old memory or in new,
    /// and [`Interrupts::Saved`](crate::Interrupts::Saved) brings the MSIs back.
    ///
    /// # Errors
    ///
    /// A register gets no acknowledgement or does not keep its value. Call it again, or begin with
    /// [`Bringup::begin`].
    pub fn resume<R: Registers, W: Wait>(
        registers: R,
        wait: W,
        config: BringupConfig,
        saved: SavedRegisters,
    ) -> Result<TablesSet<R, W>, BringupError> {
        let first = BringupState { registers, wait, config, cr0: 0 };
        first.update_gbpa(|_| saved.gbpa | gbpa::ABORT)?;
        let BringupState { registers, wait, config, .. } = first;
        let state = Bringup::begin(registers, wait, config)?.0;
        state.registers.write(regs::CR1, saved.cr1);
        state.registers.write(regs::CR2, saved.cr2);
        let SavedRegisters { strtab_base: base, strtab_base_cfg: size, .. } = saved;
        state.registers.write(regs::STRTAB_BASE, base);
        state.registers.write(regs::STRTAB_BASE_CFG, size);
        let address = |base: u64| strtab::DecodedBase::decode(base).address.0;
        let read = state.registers.read(regs::STRTAB_BASE);
        kept(regs::STRTAB_BASE.name(), address(base), address(read))?;
        let read = state.registers.read(regs::STRTAB_BASE_CFG);
        kept(regs::STRTAB_BASE_CFG.name(), size.into(), read.into())?;
        Ok(TablesSet(state))
    }
}
