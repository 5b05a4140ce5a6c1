//! The steps of guests, in a build without the feature `guest`.

use crate::prelude::*;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::{GuestAttach, GuestCommand, GuestMap, GuestUnmap};

// Not reached: a scenario with guests needs `nesting`, which such a build does not offer.
macro_rules! absent {
    ($($step:ty),*) => {
        $(impl StepAction for $step {
            fn run(&self, _: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
                Err(Stop::failed("this program was built without guests".to_owned()))
            }
        })*
    };
}

absent!(GuestAttach, GuestCommand, GuestMap, GuestUnmap);
