//! How to run a scenario.

use super::sabotage::Sabotage;

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// Break the driver.
    pub sabotage: Option<Sabotage>,
}
