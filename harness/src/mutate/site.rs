//! A command on its way to an SMMU.

use smmu_engine::machine::QueueName;
use smmu_types::{Command, RawCommand};

/// A command that a scenario's driver showed to an SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// The SMMU.
    pub smmu: usize,
    /// Its command queue.
    pub queue: QueueName,
    /// The command.
    pub command: RawCommand,
    /// The next command of the same write of `PROD`, if there is one.
    pub next: Option<RawCommand>,
}

/// The architecture's name of a command, without `CMD_`.
#[must_use]
pub fn name_of(command: RawCommand) -> String {
    let text = Command::decode(command).to_string();
    text.split(' ').next().unwrap_or_default().to_owned()
}
