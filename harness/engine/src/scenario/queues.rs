//! Command queues as a scenario wants them: how they complete, how they misbehave.
//!
//! ```toml
//! needs = ["queue-stop", "queue-faults", "ats", "msi"]
//!
//! [[smmu]]
//! name = "smmu0"
//! ats = true
//! sync = "msi"
//! queue_entries = 4
//! timeout_ms = 20
//!
//! [[step]]
//! fault = { smmu = "smmu0", cmdq = "stopped" }
//!
//! [[step]]
//! fault = { smmu = "smmu0", cmdq = { slow = 1 } }
//!
//! [[step]]
//! fault = { smmu = "smmu0", cmdq = { aborts = 2 } }
//!
//! [[step]]
//! fault = { smmu = "smmu0", atc_timeout = "dev0" }
//!
//! [[step]]
//! fault = { smmu = "smmu0", msi = "lost" }
//!
//! [[step]]
//! mend = { smmu = "smmu0" }
//! ```

use serde::Deserialize;
use toml::Spanned;

use super::Name;
use crate::machine::QueueName;

/// How the driver learns that a `CMD_SYNC` is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Completion {
    /// `"polling"`: it reads `CMDQ_CONS`.
    #[default]
    Polling,
    /// `"event"`: the SMMU sends an event, and it reads `CMDQ_CONS` then.
    Event,
    /// `"msi"`: the SMMU writes to memory, and it reads that.
    Msi,
}

/// See [`Step::Fault`](super::Step::Fault): one of `cmdq`, `atc_timeout` and `msi`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultStep {
    /// The SMMU.
    pub smmu: Name,
    /// Which of its queues; `"main"` when it is left out.
    pub queue: Option<Spanned<QueueName>>,
    /// What the queue does with commands.
    pub cmdq: Option<Spanned<Speed>>,
    /// A device that answers no ATC invalidation: the next `CMD_SYNC` stops with `CERROR_ATC_INV_SYNC`.
    pub atc_timeout: Option<Name>,
    /// What becomes of the MSI of a `CMD_SYNC`.
    pub msi: Option<Spanned<MsiFault>>,
}

/// What a command queue does with its commands.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speed {
    /// `"stopped"`: it takes none.
    Stopped,
    /// `{ slow = 1 }`: it takes so many at each look at its consumer.
    Slow(Spanned<u32>),
    /// `{ aborts = 2 }`: so many fetches abort, with `CERROR_ABT`.
    Aborts(Spanned<u32>),
}

/// What becomes of an MSI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MsiFault {
    /// `"lost"`: it never arrives.
    Lost,
}

/// One fault, as a step asks for it.
#[derive(Clone, Copy, Debug)]
pub enum Fault<'a> {
    /// [`FaultStep::cmdq`].
    Queue(&'a Speed),
    /// [`FaultStep::atc_timeout`].
    AtcTimeout(&'a Name),
    /// [`FaultStep::msi`].
    Msi(MsiFault),
}

impl FaultStep {
    /// The fault, if the step asks for one and no more.
    #[must_use]
    pub fn fault(&self) -> Option<Fault<'_>> {
        match (&self.cmdq, &self.atc_timeout, &self.msi) {
            (Some(speed), None, None) => Some(Fault::Queue(speed.get_ref())),
            (None, Some(device), None) => Some(Fault::AtcTimeout(device)),
            (None, None, Some(msi)) => Some(Fault::Msi(*msi.get_ref())),
            _ => None,
        }
    }

    /// The queue.
    #[must_use]
    pub fn queue(&self) -> QueueName {
        self.queue.as_ref().map_or(QueueName::Main, |queue| *queue.get_ref())
    }
}

/// See [`Step::Mend`](super::Step::Mend).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MendStep {
    /// The SMMU.
    pub smmu: Name,
}
