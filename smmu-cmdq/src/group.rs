//! The command queues of one SMMU as one sink.

use core::fmt;
use core::marker::PhantomData;

use smmu_types::seam::{CommandSink, EncodedBatch, Registers, SinkError, Wait};
use smmu_types::{Command, SmmuId, SyncProof};

use crate::ring::Slots;
use crate::{CommandQueue, OfSmmu, Opcodes, QueueError};

/// Which queue a call uses: any number, which the group takes modulo the number of queues.
///
/// The number of the CPU keeps CPUs apart from each other. A number made of the commands, such as
/// the VMID, works as well. Every function from commands to a number implements this. The group
/// asks once for each call that begins something new.
pub trait Pick {
    /// The number for `commands`.
    fn pick(&self, commands: &[Command]) -> usize;

    /// The number for encoded commands. By default it is that of the decoded ones.
    fn pick_encoded(&self, commands: EncodedBatch<'_>) -> usize {
        commands.decoded(|commands| self.pick(commands))
    }
}

impl<F: Fn(&[Command]) -> usize> Pick for F {
    fn pick(&self, commands: &[Command]) -> usize {
        self(commands)
    }
}

/// A queue that a [`QueueGroup`] can hold: a sink of one SMMU that says which opcodes it takes.
pub trait GroupQueue: OfSmmu + CommandSink<Ticket: OfSmmu, Pushed: OfSmmu> {
    /// Opcodes that this queue takes; the group routes by them.
    fn takes(&self) -> Opcodes;
}

impl<R, B, W, const CELLS: usize> GroupQueue for CommandQueue<R, B, W, CELLS>
where
    R: Registers,
    B: Slots,
    W: Wait,
{
    fn takes(&self) -> Opcodes {
        CommandQueue::takes(self)
    }
}

/// The command queues of one SMMU as one [`CommandSink`].
///
/// `Q` holds the queues: an array, a slice by reference, or a `Vec`. `P` is the [`Pick`], and `E`
/// the type of each queue.
///
/// The first queue is the main queue, which takes every command. [`Pick`] chooses among the others.
/// If the chosen queue does not [take](crate::QueueConfig::takes) all commands of a call, the main
/// queue gets them.
///
/// - The commands of one call go to one queue, in order.
/// - Commands that are pushed and proven together stay in one queue, as long as it takes them. At
///   the first call with a command that it does not take, the group proves and waits for what was
///   pushed, and continues in the main queue.
/// - Commands of other calls have no order among each other, as in every [`CommandSink`]. A caller
///   that needs an order waits for the first call.
///
/// ```
/// # use smmu_cmdq::fake::{Consumer, Pace};
/// use smmu_cmdq::{CommandQueue, Opcodes, QueueConfig, QueueGroup, SyncBy};
/// # use smmu_types::fake::heap_pool;
/// # use smmu_types::queue::QueueSize;
/// # use smmu_types::seam::{CommandSink, CountingWait, DmaMemory};
/// # use smmu_types::{Asid, Command, SmmuId, Vmid};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = heap_pool(0x1_0000);
/// # let [main, second] = [(); 2].map(|()| Consumer::new(pool.window(), Pace::PerRead(1)));
/// # let size = QueueSize::from_log2(4).ok_or("no such size")?;
/// # let queue = |device, config| -> Result<_, Box<dyn std::error::Error>> {
/// #     let block = pool.allocate(smmu_cmdq::layout(size, SyncBy::Polling))?;
/// #     Ok(CommandQueue::new(SmmuId(0), device, block, size, CountingWait::new(), config)?)
/// # };
/// let others = QueueConfig { takes: Opcodes::VCMDQ_GUEST, ..QueueConfig::default() };
/// let queues = [queue(&main, QueueConfig::default())?, queue(&second, others)?];
/// # main.enable(queues[0].base(), size);
/// # second.enable(queues[1].base(), size);
/// let sink = QueueGroup::new(queues, |_: &[Command]| 0 /* the number of this CPU */)?;
///
/// let flush = Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(5) };
/// let _proof = sink.run(SmmuId(0), &[flush])?;
/// let _proof = sink.run(SmmuId(0), &[Command::CfgiAll])?;
/// assert_eq!(second.executed(), [flush, Command::SYNC]);
/// assert_eq!(main.executed(), [Command::CfgiAll, Command::SYNC]);
/// # Ok(())
/// # }
/// ```
pub struct QueueGroup<Q, P, E> {
    smmu: SmmuId,
    queues: Q,
    pick: P,
    marker: PhantomData<fn() -> E>,
}

/// A ticket, or pushed commands, of one queue of a [`QueueGroup`].
#[derive(Debug)]
#[must_use = "the commands are not known to be carried out until they are waited for"]
pub struct InQueue<T> {
    queue: usize,
    what: T,
}

/// The commands of a call.
#[derive(Clone, Copy)]
enum Commands<'a> {
    Typed(&'a [Command]),
    Encoded(EncodedBatch<'a>),
}

impl Commands<'_> {
    fn issue<E: CommandSink>(self, queue: &E, smmu: SmmuId) -> Result<E::Ticket, SinkError> {
        match self {
            Commands::Typed(commands) => queue.issue(smmu, commands),
            Commands::Encoded(commands) => queue.issue_encoded(smmu, commands),
        }
    }
}

impl<T> InQueue<T> {
    /// The index of the queue.
    #[must_use]
    pub const fn queue(&self) -> usize {
        self.queue
    }
}

impl<T: OfSmmu> OfSmmu for InQueue<T> {
    fn smmu(&self) -> SmmuId {
        self.what.smmu()
    }
}

impl<Q, P, E> QueueGroup<Q, P, E>
where
    Q: AsRef<[E]>,
    P: Pick,
    E: GroupQueue,
{
    /// A group of the queues of one SMMU, the main queue first.
    ///
    /// # Errors
    ///
    /// [`QueueError::NoQueue`], [`QueueError::OtherSmmu`], or [`QueueError::MainRefuses`].
    pub fn new(queues: Q, pick: P) -> Result<Self, QueueError> {
        let all = queues.as_ref();
        let main = all.first().ok_or(QueueError::NoQueue)?;
        let smmu = main.smmu();
        if let Some(other) = all.iter().find(|queue| queue.smmu() != smmu) {
            return Err(QueueError::OtherSmmu { smmu, other: other.smmu() });
        }
        if main.takes() != Opcodes::ALL {
            return Err(QueueError::MainRefuses { smmu });
        }
        Ok(QueueGroup { smmu, queues, pick, marker: PhantomData })
    }

    /// All queues.
    pub fn queues(&self) -> &[E] {
        self.queues.as_ref()
    }

    fn queue(&self, at: usize) -> Result<&E, SinkError> {
        self.queues().get(at).ok_or(SinkError::UnknownSmmu { smmu: self.smmu })
    }

    /// The queue for a call that begins something new.
    fn choose(&self, commands: Commands<'_>) -> usize {
        let others = self.queues().len().saturating_sub(1);
        if others == 0 {
            return 0;
        }
        let number = match commands {
            Commands::Typed(commands) => self.pick.pick(commands),
            Commands::Encoded(commands) => self.pick.pick_encoded(commands),
        };
        match number % others {
            other if self.takes(other + 1, commands) => other + 1,
            _ => 0,
        }
    }

    fn takes(&self, at: usize, commands: Commands<'_>) -> bool {
        self.queues().get(at).is_some_and(|queue| match commands {
            Commands::Typed(commands) => queue.takes().has_all(commands),
            Commands::Encoded(commands) => queue.takes().has_all_encoded(&commands),
        })
    }

    /// The queue for commands that must follow what was `pushed`, and what of that is still to be
    /// proven.
    fn behind(
        &self,
        pushed: InQueue<E::Pushed>,
        commands: Commands<'_>,
    ) -> Result<(usize, Option<E::Pushed>), SinkError> {
        let InQueue { queue, what } = pushed;
        if self.takes(queue, commands) {
            return Ok((queue, Some(what)));
        }
        let before = self.queue(queue)?;
        let _proof = before.wait(before.prove(what, &[])?)?;
        Ok((0, None))
    }

    fn issue_any(
        &self,
        smmu: SmmuId,
        commands: Commands<'_>,
    ) -> Result<InQueue<E::Ticket>, SinkError> {
        self.check(smmu)?;
        let at = self.choose(commands);
        Ok(InQueue { queue: at, what: commands.issue(self.queue(at)?, smmu)? })
    }

    fn push_any(
        &self,
        smmu: SmmuId,
        pushed: Option<InQueue<E::Pushed>>,
        commands: Commands<'_>,
    ) -> Result<InQueue<E::Pushed>, SinkError> {
        self.check(smmu)?;
        let (at, pushed) = match pushed {
            Some(pushed) => self.behind(pushed, commands)?,
            None => (self.choose(commands), None),
        };
        let queue = self.queue(at)?;
        let what = match commands {
            Commands::Typed(commands) => queue.push(smmu, pushed, commands)?,
            Commands::Encoded(commands) => queue.push_encoded(smmu, pushed, commands)?,
        };
        Ok(InQueue { queue: at, what })
    }

    fn prove_any(
        &self,
        pushed: InQueue<E::Pushed>,
        commands: Commands<'_>,
    ) -> Result<InQueue<E::Ticket>, SinkError> {
        self.check(pushed.smmu())?;
        let (at, pushed) = self.behind(pushed, commands)?;
        let queue = self.queue(at)?;
        let what = match (pushed, commands) {
            (Some(pushed), Commands::Typed(commands)) => queue.prove(pushed, commands)?,
            (Some(pushed), Commands::Encoded(commands)) => queue.prove_encoded(pushed, commands)?,
            (None, commands) => commands.issue(queue, self.smmu)?,
        };
        Ok(InQueue { queue: at, what })
    }

    fn check(&self, smmu: SmmuId) -> Result<(), SinkError> {
        if smmu == self.smmu { Ok(()) } else { Err(SinkError::UnknownSmmu { smmu }) }
    }
}

impl<Q, P, E> OfSmmu for QueueGroup<Q, P, E> {
    fn smmu(&self) -> SmmuId {
        self.smmu
    }
}

impl<Q, P, E> CommandSink for QueueGroup<Q, P, E>
where
    Q: AsRef<[E]>,
    P: Pick,
    E: GroupQueue,
{
    type Ticket = InQueue<E::Ticket>;
    type Pushed = InQueue<E::Pushed>;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<Self::Ticket, SinkError> {
        self.issue_any(smmu, Commands::Typed(commands))
    }

    fn push(
        &self,
        smmu: SmmuId,
        pushed: Option<Self::Pushed>,
        commands: &[Command],
    ) -> Result<Self::Pushed, SinkError> {
        self.push_any(smmu, pushed, Commands::Typed(commands))
    }

    fn prove(&self, pushed: Self::Pushed, commands: &[Command]) -> Result<Self::Ticket, SinkError> {
        self.prove_any(pushed, Commands::Typed(commands))
    }

    fn wait(&self, ticket: Self::Ticket) -> Result<SyncProof, SinkError> {
        self.check(ticket.smmu())?;
        self.queue(ticket.queue)?.wait(ticket.what)
    }

    fn issue_encoded(
        &self,
        smmu: SmmuId,
        commands: EncodedBatch<'_>,
    ) -> Result<Self::Ticket, SinkError> {
        self.issue_any(smmu, Commands::Encoded(commands))
    }

    fn push_encoded(
        &self,
        smmu: SmmuId,
        pushed: Option<Self::Pushed>,
        commands: EncodedBatch<'_>,
    ) -> Result<Self::Pushed, SinkError> {
        self.push_any(smmu, pushed, Commands::Encoded(commands))
    }

    fn prove_encoded(
        &self,
        pushed: Self::Pushed,
        commands: EncodedBatch<'_>,
    ) -> Result<Self::Ticket, SinkError> {
        self.prove_any(pushed, Commands::Encoded(commands))
    }
}

impl<Q: fmt::Debug, P, E> fmt::Debug for QueueGroup<Q, P, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueGroup")
            .field("smmu", &self.smmu)
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}
