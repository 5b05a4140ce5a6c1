//! Scenario files: TOML that says which machine, and what to do with it.
//!
//! ```toml
//! title = "A page is moved with the driver's invalidation"
//! needs = ["stage1"]
//!
//! [[smmu]]
//! name = "smmu0"
//!
//! [[device]]
//! name = "dev0"
//! smmu = "smmu0"
//! stream = 0x08
//!
//! [[domain]]
//! name = "D"
//! stage = "s1"
//!
//! [[step]]
//! attach = { device = "dev0", to = "D" }
//! ```
//!
//! The parser refuses unknown keys. An error gives the line and the column. The steps are the
//! variants of [`Step`].

mod check;
mod file;
mod names;
mod nearest;
#[cfg(feature = "schema")]
mod reference;
#[cfg(feature = "schema")]
mod schema;
mod source;
mod spanned;
mod step_spec;
mod steps;

pub use file::{
    DeviceAts, DeviceSpec, DomainSpec, GranuleName, GuestSpec, GuestTableSpec, ReservedSpec,
    ScenarioFile, SmmuSpec, StreamTableKind, SyncMethod,
};
pub use names::SpannedName;
pub use nearest::nearest;
#[cfg(feature = "schema")]
pub use reference::reference;
#[cfg(all(feature = "record", feature = "schema"))]
pub(crate) use schema::plain_descriptions;
#[cfg(feature = "schema")]
pub use schema::schema;
pub use source::{Scenario, ScenarioError};
pub use spanned::Spanned;
pub use steps::{
    AdoptDoubt, AdoptStep, AdoptWatch, AnswerStep, AnswerWith, AsidArgument, AtcArguments, Attach,
    AttachCaller, AttachEach, AttachFailure, AttachGroup, AttachWatch, CommandSpec, CommandStep,
    CommandsExpected, Defer, DetachStep, DmaDirection, DmaStep, Expect, FailEveryAllocation,
    FaultStep, FindUnanswering, FloodStep, Flush, GoneStep, GroupAnswer, GuestAttach, GuestCommand,
    GuestMap, GuestUnmap, HazardStep, Install, Invalidate, IpaArguments, Map, MapFailure, MendStep,
    MsiFault, NoArguments, PageRequestStep, ParallelStep, Poke, QuarantineStep, QueueBehaviour,
    ReadsExpected, Remap, ResetStep, RestartStep, ResumeStep, SettleFailure, SettleStep, SpoilStep,
    SpoiltSte, Step, StormStep, StreamArgument, SuspendStep, Unmap, UnmapCaller, VaArguments,
    VmidArgument, WantedFailure, WantedFault,
};
