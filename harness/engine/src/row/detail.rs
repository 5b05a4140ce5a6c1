//! One row of a record: what happened, with every value under its name.

use smmu_driver::smmu_types::{StreamId, SubstreamId};

use super::hex::Hex;
use crate::prelude::*;

/// What a line of a transcript is about, as values.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The SMMU, if the line does not begin with its name.
    pub smmu: Option<String>,
    /// The device, by its name in the scenario.
    pub device: Option<String>,
    /// The StreamID.
    pub stream: Option<StreamId>,
    /// The SubstreamID.
    pub substream: Option<SubstreamId>,
    /// The domain, by its name in the scenario.
    pub domain: Option<String>,
    /// The input address.
    pub iova: Option<u64>,
    /// What only rows of this kind have.
    pub detail: Option<Detail>,
}

impl Facts {
    /// Nothing but what rows of one kind have.
    #[must_use]
    pub fn of(detail: Detail) -> Self {
        Facts { detail: Some(detail), ..Facts::default() }
    }
}

/// Which of the two queues of an SMMU has a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(all(feature = "record", feature = "schema"), derive(schemars::JsonSchema))]
#[cfg_attr(feature = "record", serde(rename_all = "kebab-case"))]
pub enum Queue {
    /// The main command queue.
    Main,
    /// The second one.
    Second,
}

/// A field of a structure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(all(feature = "record", feature = "schema"), derive(schemars::JsonSchema))]
#[cfg_attr(feature = "record", serde(tag = "type", rename = "field"))]
pub struct Field {
    /// Its name in the architecture's words.
    pub name: String,
    /// The highest bit of it.
    pub hi: u16,
    /// The lowest bit.
    pub lo: u16,
    /// Its value.
    pub value: Hex,
    /// What the value means, if it has a name.
    #[cfg_attr(feature = "record", serde(default, skip_serializing_if = "Option::is_none"))]
    pub meaning: Option<String>,
}

/// What became of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(all(feature = "record", feature = "schema"), derive(schemars::JsonSchema))]
#[cfg_attr(feature = "record", serde(rename_all = "kebab-case"))]
pub enum TagChange {
    /// It was allocated: fresh, and not yet in an array that readers see.
    Allocated,
    /// A further device of its domain uses it.
    Found,
    /// It was given back before an SMMU saw it, so it is free.
    Aborted,
    /// It has lost its last user. The flush follows.
    Retired,
    /// Its flush is proven, so it is free.
    Freed,
    /// The SMMU is gone, so it is free.
    Forgotten,
    /// Its flush is not proven, so it stays out of use.
    Quarantined,
}

/// What a row has that no other kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(all(feature = "record", feature = "schema"), derive(schemars::JsonSchema))]
#[cfg_attr(feature = "record", serde(tag = "type", rename_all = "kebab-case"))]
pub enum Detail {
    /// A step of the scenario begins.
    Step {
        /// What it does, such as `unmap` or `attach`; empty for the set-up.
        verb: String,
        /// The line of the scenario's file; 1 for the set-up.
        line: usize,
    },
    /// An SMMU was shown a command: `CMDQ_PROD` has passed it.
    Command {
        /// The queue.
        queue: Queue,
        /// The index of its slot with the wrap bit, as `CMDQ_PROD` counts.
        position: u32,
        /// The time at which the driver read from `CMDQ_CONS` that the SMMU has consumed it. Absent
        /// if the driver did not read that within the run.
        #[cfg_attr(feature = "record", serde(default, skip_serializing_if = "Option::is_none"))]
        consumed: Option<u64>,
        /// The number of its batch within the run: one write of `CMDQ_PROD`.
        batch: usize,
        /// Its fields.
        fields: Vec<Field>,
    },
    /// A table entry has other words than at the last invalidation of it.
    Store {
        /// `STE` or `CD`.
        entry: String,
        /// Its words at the last invalidation; zeros at the first.
        before: Vec<Hex>,
        /// Its words at this one.
        after: Vec<Hex>,
    },
    /// The driver has finished the change of a table entry.
    Entry {
        /// `STE`, `CD`, or `ATS` and `PRI` for the switches of a device.
        entry: String,
        /// Number of `CMD_SYNC`s that it took.
        #[cfg_attr(feature = "record", serde(default, skip_serializing_if = "Option::is_none"))]
        syncs: Option<u32>,
    },
    /// What became of a tag.
    Tag {
        /// The tag, such as `ASID 1`.
        tag: String,
        /// What became of it.
        change: TagChange,
        /// Number of users before this one, if it was found.
        #[cfg_attr(feature = "record", serde(default, skip_serializing_if = "Option::is_none"))]
        users: Option<u32>,
    },
    /// An entry of an invalidation array after a change.
    Array {
        /// What it flushes, such as `S1_ASID`.
        entry: String,
        /// Its tag, or its StreamID.
        id: u32,
        /// Number of users.
        users: u32,
        /// Its state, such as `Live`.
        state: String,
    },
    /// A device wrote or read.
    Dma {
        /// `write` or `read`.
        access: String,
        /// `page`, `refused`, `stalled`, `unknown` or `damage`.
        outcome: String,
        /// The page that it reached.
        #[cfg_attr(feature = "record", serde(default, skip_serializing_if = "Option::is_none"))]
        page: Option<String>,
    },
    /// An event record.
    Event {
        /// Its name in the architecture's words.
        name: String,
        /// Its fields.
        fields: Vec<Field>,
    },
    /// What the model found wrong.
    Hazard {
        /// The command that was missing, if one was.
        #[cfg_attr(feature = "record", serde(default, skip_serializing_if = "Option::is_none"))]
        missing: Option<String>,
        /// Whether a step of the scenario expects it.
        expected: bool,
    },
}

/// What the times of a record count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(all(feature = "record", feature = "schema"), derive(schemars::JsonSchema))]
#[cfg_attr(feature = "record", serde(rename_all = "kebab-case"))]
pub enum TimeUnit {
    /// Rows: on a model whose time stands still between two waits, each row is one step of time.
    #[default]
    Steps,
    /// Nanoseconds since the set-up began.
    Nanoseconds,
}
