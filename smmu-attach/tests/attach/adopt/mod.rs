//! An SMMU that another owner left running is surveyed and taken over.

mod failures;
mod rig;
mod streams;
mod survey;
mod tables;
mod tags;
