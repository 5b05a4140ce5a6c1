//! The engine: runs one scenario on one machine, over the seams.

mod pages;
mod platform;
mod queues;
mod raw;
mod rig;
mod run;
mod sabotage;
mod setup;
mod steps;
mod tap;
mod transcript;

pub use platform::{Cell, Dma, Harness, Names, Sink};
pub use rig::{RigError, probe};
pub use run::{Failure, Options, Outcome, Report, run};
pub use sabotage::Sabotage;
pub use tap::Tap;
pub use transcript::{Kind, Line, Recorder};
