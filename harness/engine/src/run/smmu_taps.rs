//! What watches one SMMU.

use alloc::sync::Arc;

use super::doorbell::Doorbell;
use super::tap::Tap;

/// The taps of one SMMU: on its main queue, and on its second one if it has one. And the memory of its
/// MSIs.
#[derive(Clone)]
pub(super) struct SmmuTaps {
    pub(super) main: Tap,
    pub(super) second: Option<Tap>,
    pub(super) doorbell: Option<Arc<Doorbell>>,
}
