//! Several queues of one SMMU.

use core::fmt;
use core::marker::PhantomData;

use smmu_types::seam::{CommandSink, Registers, SinkError, Wait};
use smmu_types::{Command, SmmuId, SyncProof};

use crate::reserve::Reserve;
use crate::ring::Slots;
use crate::{CommandQueue, CompareExchange, OfSmmu, Opcodes, Pushed, QueueError, SyncTicket};

/// Which queue a caller uses: any number, of which the rest by the number of queues counts.
///
/// The number of the CPU, so that CPUs do not meet at a queue; or something of the commands, such as the VMID. Every function
/// from commands to a number is one. It is asked once for each call that begins something.
pub trait Pick {
    /// The queue for `commands`.
    fn pick(&self, commands: &[Command]) -> usize;
}

impl<F: Fn(&[Command]) -> usize> Pick for F {
    fn pick(&self, commands: &[Command]) -> usize {
        self(commands)
    }
}

/// The command queues of one SMMU as one [`CommandSink`].
///
/// The first is the main queue, which takes every command. Of the others, [`Pick`] says which a call uses; where that does not
/// [take](crate::QueueConfig::takes) all commands of the call, they go to the main queue.
///
/// The commands of one call are in one queue, in order. What is pushed stays in one queue with what is proven with it,
/// as long as that takes the commands; if it does not, what is pushed is proven and waited for first, and the rest goes to
/// another queue. Commands of calls that are not proven together are in no order, as in no [`CommandSink`]: whoever needs
/// one waits for the first.
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
pub struct QueueGroup<Q, P, R, B, W, S = CompareExchange, const CELLS: usize = 1024> {
    smmu: SmmuId,
    queues: Q,
    pick: P,
    marker: Marker<R, B, W, S>,
}

type Marker<R, B, W, S> = PhantomData<fn() -> (R, B, W, S)>;

/// Something that is in one queue of a [`QueueGroup`].
#[derive(Debug)]
#[must_use = "nothing is known of the commands until they are waited for"]
pub struct InQueue<T> {
    queue: usize,
    what: T,
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

impl<Q, P, R, B, W, S, const CELLS: usize> QueueGroup<Q, P, R, B, W, S, CELLS>
where
    Q: AsRef<[CommandQueue<R, B, W, S, CELLS>]>,
    P: Pick,
    R: Registers,
    B: Slots,
    W: Wait,
    S: Reserve,
{
    /// The queues of one SMMU, the main queue first.
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
    pub fn queues(&self) -> &[CommandQueue<R, B, W, S, CELLS>] {
        self.queues.as_ref()
    }

    fn queue(&self, at: usize) -> Result<&CommandQueue<R, B, W, S, CELLS>, SinkError> {
        self.queues().get(at).ok_or(SinkError::UnknownSmmu { smmu: self.smmu })
    }

    /// Where commands begin.
    fn choose(&self, commands: &[Command]) -> usize {
        let others = self.queues().len().saturating_sub(1);
        match self.pick.pick(commands).checked_rem(others) {
            Some(other) if self.takes(other + 1, commands) => other + 1,
            _ => 0,
        }
    }

    fn takes(&self, at: usize, commands: &[Command]) -> bool {
        self.queues().get(at).is_some_and(|queue| queue.takes().have(commands))
    }

    /// Where commands go that must stand behind what was `pushed`, and what of it is still to be proven.
    fn behind(
        &self,
        pushed: InQueue<Pushed>,
        commands: &[Command],
    ) -> Result<(usize, Option<Pushed>), SinkError> {
        let InQueue { queue, what } = pushed;
        if self.takes(queue, commands) {
            return Ok((queue, Some(what)));
        }
        let before = self.queue(queue)?;
        let _proof = before.wait(before.prove(what, &[])?)?;
        Ok((0, None))
    }

    fn check(&self, smmu: SmmuId) -> Result<(), SinkError> {
        if smmu == self.smmu { Ok(()) } else { Err(SinkError::UnknownSmmu { smmu }) }
    }
}

impl<Q, P, R, B, W, S, const CELLS: usize> OfSmmu for QueueGroup<Q, P, R, B, W, S, CELLS> {
    fn smmu(&self) -> SmmuId {
        self.smmu
    }
}

impl<Q, P, R, B, W, S, const CELLS: usize> CommandSink for QueueGroup<Q, P, R, B, W, S, CELLS>
where
    Q: AsRef<[CommandQueue<R, B, W, S, CELLS>]>,
    P: Pick,
    R: Registers,
    B: Slots,
    W: Wait,
    S: Reserve,
{
    type Ticket = InQueue<SyncTicket>;
    type Pushed = InQueue<Pushed>;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<Self::Ticket, SinkError> {
        self.check(smmu)?;
        let queue = self.choose(commands);
        Ok(InQueue { queue, what: self.queue(queue)?.issue(commands)? })
    }

    fn push(
        &self,
        smmu: SmmuId,
        pushed: Option<Self::Pushed>,
        commands: &[Command],
    ) -> Result<Self::Pushed, SinkError> {
        self.check(smmu)?;
        let (queue, pushed) = match pushed {
            Some(pushed) => self.behind(pushed, commands)?,
            None => (self.choose(commands), None),
        };
        Ok(InQueue { queue, what: self.queue(queue)?.push(pushed, commands)? })
    }

    fn prove(&self, pushed: Self::Pushed, commands: &[Command]) -> Result<Self::Ticket, SinkError> {
        self.check(pushed.smmu())?;
        let (at, pushed) = self.behind(pushed, commands)?;
        let queue = self.queue(at)?;
        let what = match pushed {
            Some(pushed) => queue.prove(pushed, commands)?,
            None => queue.issue(commands)?,
        };
        Ok(InQueue { queue: at, what })
    }

    fn wait(&self, ticket: Self::Ticket) -> Result<SyncProof, SinkError> {
        self.check(ticket.smmu())?;
        self.queue(ticket.queue)?.wait(ticket.what)
    }
}

impl<Q: fmt::Debug, P, R, B, W, S, const CELLS: usize> fmt::Debug
    for QueueGroup<Q, P, R, B, W, S, CELLS>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueGroup")
            .field("smmu", &self.smmu)
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}
