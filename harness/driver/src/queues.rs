//! The command queues of all SMMUs as one sink: of each SMMU the main queue, and virtual ones where it has them.

use alloc::vec::Vec;

use smmu_cmdq::{CommandQueue, QueueGroup, QueueSet};
use smmu_types::Command;

use crate::platform::{Block, Platform};

/// One command queue.
pub type Queue<P> = CommandQueue<<P as Platform>::Registers, Block<P>, <P as Platform>::Wait>;

/// Chooses the virtual queue for a call, by its commands: an index from 0.
pub type PickQueue = fn(&[Command]) -> usize;

/// The queues of one SMMU, the main queue first.
pub type Group<P> = QueueGroup<Vec<Queue<P>>, PickQueue, Queue<P>>;

/// The queues of all SMMUs, in the order of their numbers.
pub type Queues<P> = QueueSet<Vec<Group<P>>, Group<P>>;
