//! The harness's scenarios on this CPU, as a host sends them over a line of text.
//!
//! | module | what it is |
//! |---|---|
//! | [`backend`] | the machine of the engine: registers, RAM, devices, interrupts of this board |
//! | [`further_smmus`] | SMMUs that the command line names, and the device tree does not |
//! | [`receiver`] | the host's messages, byte by byte |
//! | [`serve`](mod@serve) | the conversation |
//! | [`silent`] | an `edu` of which memory tells whether its write was refused |
//!
//! Nothing here needs a GIC or PSCI: a process of Linux uses it too. README.md has the protocol.

#[cfg(target_arch = "aarch64")]
pub mod backend;
pub mod further_smmus;
pub mod receiver;
pub mod serve;
#[cfg(target_arch = "aarch64")]
pub mod silent;
