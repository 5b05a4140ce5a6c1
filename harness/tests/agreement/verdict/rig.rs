//! One SMMU, one device, and the question.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smmu_driver::smmu_cmdq::{CommandQueue, QueueConfig, QueueError, SyncBy};
use smmu_driver::smmu_hw_mmio::{
    Bringup, BringupConfig, BringupError, EventQueue, EventQueueError, Interrupts, ProbeError,
    StreamTableBase,
};
use smmu_types::pool::{Pool, PoolBlock};
use smmu_types::queue::QueueSize;
use smmu_types::regs::{self, strtab};
use smmu_types::seam::{
    DmaBlock, DmaError, DmaLayout, DmaMemory, Registers, RegistersExt, SinkError, StdWait,
};
use smmu_types::{Command, IdRegisters, Leaf, PhysAddr, SmmuId, StreamId, SubstreamId};

use super::{Configuration, STREAM_TABLE, TARGET, Verdict, place};
use smmu_engine::machine::{
    AtsPower, Backend, BackendError, DMA_PATTERN, DmaWriteOutcome, Machine, MachineDevice,
    MachineSmmu, MachineSpec, Ram,
};

const SMMU: SmmuId = SmmuId(0);
const QUEUE_LOG2: u8 = 6;

/// The question could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AskError {
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The SMMU is not one that the driver can use.
    #[error("the SMMU: {0}")]
    Probe(#[from] ProbeError),
    /// The SMMU did not come up.
    #[error("the SMMU: {0}")]
    Bringup(#[from] BringupError),
    /// The command queue could not be made.
    #[error("the command queue: {0}")]
    Queue(#[from] QueueError),
    /// The event queue could not be made or read.
    #[error("the event queue: {0}")]
    Events(#[from] EventQueueError),
    /// A command failed.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// No memory.
    #[error(transparent)]
    Dma(#[from] DmaError),
    /// RAM is not where configurations expect it.
    #[error("the tables are at {got}, but configurations have them at {wanted}", wanted = STREAM_TABLE)]
    Place {
        /// Where they are.
        got: PhysAddr,
    },
    /// One write made several events.
    #[error("one write of 4 bytes made {events} events")]
    SeveralEvents {
        /// How many.
        events: usize,
    },
    /// The write was carried out where it should not have gone.
    #[error("the write was carried out, but {TARGET} holds {found:#x}")]
    Elsewhere {
        /// What is there.
        found: u64,
    },
}

type Regs = Arc<dyn Registers + Send + Sync>;
type Block = PoolBlock<Ram>;
type Commands = CommandQueue<Regs, Block, StdWait>;

/// Settings that must not change while an SMMU runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FixedSetup {
    stream: StreamId,
    strtab: u32,
    cr2: u32,
}

/// Asks the SMMU of one backend.
///
/// The machine runs on from one question to the next. The rig starts another one if it has ended,
/// or for another stream table or StreamID.
pub(crate) struct VerdictRig<'a> {
    backend: &'a dyn Backend,
    up: Option<Up>,
    starts: usize,
}

impl<'a> VerdictRig<'a> {
    /// Nothing is started before the first question.
    pub(crate) fn new(backend: &'a dyn Backend) -> Self {
        VerdictRig { backend, up: None, starts: 0 }
    }

    /// How many machines were started so far.
    pub(crate) const fn starts(&self) -> usize {
        self.starts
    }

    /// The ID registers of the SMMU.
    ///
    /// # Errors
    ///
    /// The backend is not there, or its SMMU is none.
    pub(crate) fn id_registers(&mut self) -> Result<IdRegisters, AskError> {
        let spec = MachineSpec { smmus: vec![MachineSmmu::default()], ..MachineSpec::default() };
        let machine = self.backend.start(&spec)?;
        let probed = smmu_driver::smmu_hw_mmio::probe(&machine.registers(0)?)?;
        machine.check()?;
        Ok(probed.id)
    }

    /// What the SMMU says to a configuration.
    ///
    /// A machine that ends because of it is a [`Verdict::Died`], and no error.
    ///
    /// # Errors
    ///
    /// The backend failed, or did what no SMMU may do.
    pub(crate) fn ask(&mut self, c: &Configuration) -> Result<Verdict, AskError> {
        let setup = FixedSetup { stream: c.stream, strtab: c.strtab, cr2: c.cr2 };
        let mut up = match self.up.take() {
            Some(up) if up.setup == setup => up,
            _ => {
                self.starts += 1;
                Up::start(self.backend, setup)?
            }
        };
        match up.ask(c) {
            Ok(verdict) => {
                self.up = Some(up);
                Ok(verdict)
            }
            Err(error) => match up.machine.check() {
                Err(gone) => Ok(Verdict::Died(gone.to_string())),
                Ok(()) => Err(error),
            },
        }
    }
}

/// A machine whose SMMU translates.
struct Up {
    setup: FixedSetup,
    machine: Box<dyn Machine>,
    commands: Commands,
    events: EventQueue<Regs, Block>,
    arena: Block,
}

impl Up {
    fn start(backend: &dyn Backend, setup: FixedSetup) -> Result<Up, AskError> {
        let spec = MachineSpec {
            smmus: vec![MachineSmmu::default()],
            devices: vec![MachineDevice { smmu: 0, stream: setup.stream, ats: AtsPower::Off }],
            ..MachineSpec::default()
        };
        let machine = backend.start(&spec)?;
        let registers: Regs = machine.registers(0)?;
        let caps = smmu_driver::smmu_hw_mmio::probe(&registers)?.caps;

        let pool = Pool::new(machine.ram());
        let refused = DmaError { bytes: place::BYTES, align: 64 };
        let arena = pool.allocate(DmaLayout::new(place::BYTES, 64).ok_or(refused)?)?;
        if arena.address() != STREAM_TABLE {
            return Err(AskError::Place { got: arena.address() });
        }
        let size = |largest: u8| {
            let size = QueueSize::from_log2(QUEUE_LOG2.min(largest));
            size.ok_or(refused)
        };
        let (commands_size, events_size) = (size(caps.cmdq_log2)?, size(caps.eventq_log2)?);
        let block = pool.allocate(Commands::layout(commands_size, SyncBy::Polling))?;
        let commands = Commands::new(
            SMMU,
            Arc::clone(&registers),
            block,
            commands_size,
            StdWait::new(),
            QueueConfig::default(),
        )?;
        let block = pool.allocate(EventQueue::<Regs, Block>::layout(events_size))?;
        let events = EventQueue::new(Arc::clone(&registers), block, events_size)?;

        // The steps of the bring-up refuse impossible tables. They get a possible one, and the
        // registers get their values again before translation begins.
        let table = StreamTableBase {
            address: STREAM_TABLE,
            format: strtab::StreamTableFormat::Linear { log2: 8 },
        };
        let wait = StdWait::new();
        let config = BringupConfig::new(&caps);
        let tables = Bringup::begin(&registers, &wait, config)?.set_tables(table)?;
        registers.write(regs::CR2, setup.cr2);
        registers.write(regs::STRTAB_BASE_CFG, setup.strtab);
        tables
            .enable_commands(commands.base(), commands_size)?
            .invalidate_all(&commands, SMMU)?
            .enable_events(events.base(), events_size)?
            .enable_interrupts(Interrupts::Polled)?
            .enable_translation()?;
        Ok(Up { setup, machine, commands, events, arena })
    }

    fn ask(&mut self, c: &Configuration) -> Result<Verdict, AskError> {
        place::write(c, &self.arena);
        let (stream, substream) = (c.stream, SubstreamId::default());
        let forget = [
            Command::CfgiSte { stream, leaf: Leaf::All },
            Command::CfgiCd { stream, substream, leaf: Leaf::All },
            Command::TlbiNsnhAll,
        ];
        let _proof = self.commands.run(&forget)?;
        let outcome = self.machine.dma_write(0, TARGET.0)?;
        let mut seen = Vec::new();
        self.events.drain(|event| seen.push(event))?;
        // What a machine with caches has to say of this is not asked here.
        if let Some(insight) = self.machine.insight() {
            insight.take_hazards();
        }
        match (seen.as_slice(), outcome) {
            ([], DmaWriteOutcome::Written) => self.landed(),
            ([], DmaWriteOutcome::Refused | DmaWriteOutcome::Stalled) => Ok(Verdict::Aborted),
            ([event], _) => Ok(Verdict::of(*event)),
            (events, _) => Err(AskError::SeveralEvents { events: events.len() }),
        }
    }

    /// Every table here that translates at all leads to the target.
    fn landed(&self) -> Result<Verdict, AskError> {
        self.arena.observe(0..0);
        let at = ((TARGET.0 - STREAM_TABLE.0) / 8) as usize;
        let found = self.arena.words().get(at).map_or(0, |word| word.load(Ordering::Relaxed));
        if found != u64::from(DMA_PATTERN) {
            return Err(AskError::Elsewhere { found });
        }
        Ok(Verdict::Accepted)
    }
}
