//! The judge: what is cached against what memory says.

pub(crate) mod atc;
pub(crate) mod audit;
pub(crate) mod configuration;
pub(crate) mod freed;
pub(crate) mod missing_command;
pub(crate) mod translation;
pub(crate) mod update;
