//! `fault`: let a command queue misbehave from now on.
//!
//! ```toml
//! needs = ["queue-stop", "slow-queues", "fetch-aborts", "atc-timeouts", "lost-msis", "ats", "msi"]
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

use core::ops::Range;

use crate::prelude::*;
use crate::scenario::spanned::Spanned;
use serde::{Deserialize, Serialize};

use crate::machine::{Need, QueueName};
use crate::scenario::names::{Declared, SmmuFacts, SpannedName, Wrong};
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Fault`](crate::scenario::Step::Fault): one of `cmdq`, `atc_timeout` and `msi`.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FaultStep {
    /// The SMMU.
    pub smmu: SpannedName,
    /// Which of its queues; `"main"` by default.
    pub queue: Option<Spanned<QueueName>>,
    /// What the queue does with commands.
    pub cmdq: Option<Spanned<QueueBehaviour>>,
    /// A device that answers no ATC invalidation: the next `CMD_SYNC` stops with
    /// `CERROR_ATC_INV_SYNC`.
    pub atc_timeout: Option<SpannedName>,
    /// What becomes of the MSI of a `CMD_SYNC`.
    pub msi: Option<Spanned<MsiFault>>,
}

/// What a faulty command queue does with its commands.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum QueueBehaviour {
    /// `"stopped"`: the SMMU fetches none.
    Stopped,
    /// `{ slow = 1 }`: the SMMU carries out this many each time the driver reads `CMDQ_CONS`.
    Slow(Spanned<u32>),
    /// `{ aborts = 2 }`: this many fetches abort, with `CERROR_ABT`.
    Aborts(Spanned<u32>),
}

/// What becomes of an MSI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MsiFault {
    /// `"lost"`: it never arrives.
    Lost,
}

/// One fault, as a step asks for it.
#[derive(Clone, Copy, Debug)]
pub enum WantedFault<'a> {
    /// [`FaultStep::cmdq`].
    Queue(&'a QueueBehaviour),
    /// [`FaultStep::atc_timeout`].
    AtcTimeout(&'a SpannedName),
    /// [`FaultStep::msi`].
    Msi(MsiFault),
}

impl FaultStep {
    /// The fault, if the step asks for one and no more.
    #[must_use]
    pub fn fault(&self) -> Option<WantedFault<'_>> {
        match (&self.cmdq, &self.atc_timeout, &self.msi) {
            (Some(behaviour), None, None) => Some(WantedFault::Queue(behaviour.get_ref())),
            (None, Some(device), None) => Some(WantedFault::AtcTimeout(device)),
            (None, None, Some(msi)) => Some(WantedFault::Msi(*msi.get_ref())),
            _ => None,
        }
    }

    /// The queue.
    #[must_use]
    pub fn queue(&self) -> QueueName {
        self.queue.as_ref().map_or(QueueName::Main, |queue| *queue.get_ref())
    }
}

impl StepSpec for FaultStep {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        let smmu = self.smmu.get_ref();
        names.smmu(&self.smmu)?;
        let facts = names.smmus.get(smmu);
        let (need, what) = match self.fault() {
            None => {
                let message = "a fault is one of `cmdq`, `atc_timeout` and `msi`, and no more";
                return Err((span, message.into()));
            }
            Some(WantedFault::Queue(QueueBehaviour::Stopped)) => {
                (Need::QueueStop, "cmdq = \"stopped\"")
            }
            Some(WantedFault::Queue(QueueBehaviour::Slow(_))) => (Need::SlowQueues, "this fault"),
            Some(WantedFault::Queue(QueueBehaviour::Aborts(_))) => {
                (Need::FetchAborts, "this fault")
            }
            Some(WantedFault::AtcTimeout(_)) => (Need::AtcTimeouts, "this fault"),
            Some(WantedFault::Msi(_)) => (Need::LostMsis, "this fault"),
        };
        if !names.needs.contains(&need) {
            return Err((span, format!("{what} needs \"{}\" in `needs`", need.name())));
        }
        names.queue(smmu, &self.queue)?;
        match (self.fault(), &self.msi) {
            (
                Some(WantedFault::Queue(
                    QueueBehaviour::Slow(count) | QueueBehaviour::Aborts(count),
                )),
                _,
            ) if *count.get_ref() == 0 => {
                Err((count.span(), "this must be 1 at least; a queue can be \"stopped\"".into()))
            }
            (Some(WantedFault::AtcTimeout(device)), _) => {
                names.device(device)?;
                if names.devices.get(device.get_ref()).is_some_and(|behind| behind != smmu) {
                    let message = format!("device \"{}\" is not behind {smmu}", device.get_ref());
                    return Err((device.span(), message));
                }
                match facts {
                    Some(SmmuFacts { ats: false, .. }) => Err((
                        device.span(),
                        format!("{smmu} needs `ats = true` for an ATC invalidation"),
                    )),
                    _ => Ok(()),
                }
            }
            (Some(WantedFault::Msi(_)), Some(msi)) if facts.is_some_and(|facts| !facts.msi) => {
                Err((msi.span(), format!("{smmu} needs `sync = \"msi\"` to lose one")))
            }
            _ => Ok(()),
        }
    }

    fn text(&self) -> String {
        let queue = match self.queue() {
            QueueName::Main => "the command queue",
            QueueName::Second => "the second command queue",
        };
        let what = match self.fault() {
            None => "nothing changes".into(),
            Some(WantedFault::Queue(QueueBehaviour::Stopped)) => format!("{queue} stops"),
            Some(WantedFault::Queue(QueueBehaviour::Slow(count))) => {
                format!("{queue} takes {} at each look", plural(*count.get_ref(), "command"))
            }
            Some(WantedFault::Queue(QueueBehaviour::Aborts(count))) => {
                format!("{queue} aborts {}", plural(*count.get_ref(), "fetch"))
            }
            Some(WantedFault::AtcTimeout(device)) => {
                format!("{} answers no ATC_INV of {queue}", device.get_ref())
            }
            Some(WantedFault::Msi(MsiFault::Lost)) => "the MSIs of CMD_SYNC are lost".into(),
        };
        format!("on {} from now on: {what}", self.smmu.get_ref())
    }
}

fn plural(count: u32, what: &str) -> String {
    match (count, what) {
        (1, _) => format!("1 {what}"),
        (_, "fetch") => format!("{count} fetches"),
        _ => format!("{count} {what}s"),
    }
}
