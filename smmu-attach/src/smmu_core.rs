//! What a device needs of its SMMU: number, capabilities, rules and tag spaces.

use core::sync::atomic::{AtomicBool, Ordering};

use smmu_invs::Counted;
use smmu_tags::{AsidSpace, VmidSpace};
use smmu_types::legal::SmmuView;
use smmu_types::{Capabilities, SmmuId};

use crate::adopt::ForeignTags;
use crate::platform::{Env, Platform, SmmuInstance};

/// The part of an SMMU that its devices share.
pub(crate) struct SmmuParts<P: Platform> {
    pub(crate) id: SmmuId,
    pub(crate) instance: SmmuInstance,
    pub(crate) caps: Capabilities,
    pub(crate) rules: SmmuView,
    pub(crate) asids: AsidSpace,
    pub(crate) vmids: VmidSpace,
    pub(crate) env: Env<P>,
    /// Tags of the streams that another owner attached.
    pub(crate) foreign: ForeignTags<P>,
    pub(crate) gone: AtomicBool,
}

/// A reference to the shared part.
pub(crate) type SmmuCore<P> = Counted<SmmuParts<P>>;

impl<P: Platform> SmmuParts<P> {
    pub(crate) fn new(
        id: SmmuId,
        caps: Capabilities,
        rules: SmmuView,
        asids: AsidSpace,
        vmids: VmidSpace,
        env: Env<P>,
    ) -> Self {
        let instance = env.next_smmu();
        let (foreign, gone) = (ForeignTags::NONE, AtomicBool::new(false));
        SmmuParts { id, instance, caps, rules, asids, vmids, env, foreign, gone }
    }

    /// Whether the owner has said that the SMMU is gone.
    ///
    /// A device reads this under its lock, and [`set_gone`](Self::set_gone) comes before the sweep
    /// that takes each device's lock: an attach sees it, or is swept.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }
}
