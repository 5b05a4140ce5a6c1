//! The target of an attach, its tag, and the entries that name the tag.

use alloc::sync::Arc;

use smmu_invs::Publication;
use smmu_tags::{FreshTag, SharedTag};
use smmu_types::seam::{Notice, Observer};
use smmu_types::{AtsMode, CacheTag, Cd, Regime, ShareabilityOverride, Ste, legal};

use crate::device::ContextDescriptors;
use crate::domain::{Domain, Owned};
use crate::platform::Block;
use crate::table::{TranslationStage, single_context};
use crate::{AttachError, BrokenRule, Env, Platform};

/// What an attach makes of a device's transactions.
#[derive(Debug)]
pub enum Target<'a, P: Platform> {
    /// The domain translates them.
    Domain(&'a Arc<Domain<P>>),
    /// The SMMU passes them unchanged.
    Bypass,
    /// The SMMU aborts them.
    Blocked,
}

/// A tag that no SMMU has seen. Dropping it returns it to its space and notifies the observer.
pub(crate) struct Fresh<'a, P: Platform> {
    pub(crate) tag: Option<FreshTag>,
    env: Env<'a, P>,
}

impl<P: Platform> Drop for Fresh<'_, P> {
    fn drop(&mut self) {
        if let Some(tag) = self.tag.take() {
            let notice = Notice::TagAborted { smmu: tag.smmu(), tag: tag.tag() };
            tag.abort();
            self.env.observer.notice(notice);
        }
    }
}

/// The tag of a domain on an SMMU: found in the array (while the domain's lock is held) or new.
pub(crate) enum DomainTag<'lock, 'a, P: Platform> {
    Found(SharedTag<'lock>),
    New(CacheTag, Fresh<'a, P>),
}

pub(crate) fn find_or_allocate<'lock, 'a, P: Platform>(
    smmu: &crate::Smmu<P>,
    domain: &Domain<P>,
    owned: &'lock [Owned<P>],
    env: Env<'a, P>,
) -> Result<DomainTag<'lock, 'a, P>, AttachError> {
    let id = smmu.id();
    if let Some(found) = domain.cell().read().find(id, domain.kind())
        && let Some(tag) = found.spec.tag()
    {
        let owner = owned
            .iter()
            .find(|owned| owned.tag.smmu() == id && owned.tag.tag() == tag)
            .ok_or(AttachError::TagNotOwned { domain: domain.id(), smmu: id, tag })?;
        if !core::ptr::eq(&*owner.smmu, smmu) {
            return Err(AttachError::SameSmmuId { smmu: id });
        }
        let users = found.users;
        env.observer.notice(Notice::TagFound { domain: domain.id(), smmu: id, tag, users });
        return Ok(DomainTag::Found(owner.tag.share()));
    }
    let fresh = match domain.table().stage {
        TranslationStage::Stage1 { .. } => {
            smmu.asids().allocate(id, Regime::El1, smmu.capabilities().asid_bits)?
        }
        TranslationStage::Stage2 { .. } => smmu.vmids().allocate()?,
    };
    let tag = fresh.tag();
    env.observer.notice(Notice::TagAllocated { domain: domain.id(), smmu: id, tag });
    Ok(DomainTag::New(tag, Fresh { tag: Some(fresh), env }))
}

pub(crate) fn incoming_shareability<P: Platform>(smmu: &crate::Smmu<P>) -> ShareabilityOverride {
    // Without ATTR_TYPES_OVR the field is reserved, and the SMMU uses the incoming attribute.
    if smmu.capabilities().attribute_override {
        ShareabilityOverride::Incoming
    } else {
        ShareabilityOverride::NonShareable
    }
}

/// The STE and CD that lead a device into a domain, and the index of the CD.
///
/// The SMMU has confirmed all earlier changes of the device.
pub(crate) fn entries<P: Platform>(
    smmu: &crate::Smmu<P>,
    domain: &Domain<P>,
    tag: CacheTag,
    cds: Option<&ContextDescriptors<Block<P>>>,
) -> Result<(Ste, Option<(usize, Cd)>), AttachError> {
    let table = domain.table();
    match (table.stage, tag, cds) {
        (TranslationStage::Stage1 { mair }, CacheTag::Asid(_, asid), Some(cds)) => {
            let cd = Cd::stage1(table.stage1(mair, asid))?;
            let unchanged = cds.read(cds.current) == Some(cd);
            let place = if unchanged { cds.current } else { 1 - cds.current };
            let ste = Ste::stage1(
                single_context(smmu.capabilities(), cds.address(place)),
                AtsMode::Off,
                ShareabilityOverride::NonShareable,
            )?;
            judge(smmu, domain, &ste, Some(&cd))?;
            Ok((ste, Some((place, cd))))
        }
        (TranslationStage::Stage2 { start_level }, CacheTag::Vmid(vmid), _) => {
            let stage2 = table.stage2(start_level, vmid);
            let ste = Ste::stage2(stage2, AtsMode::Off, incoming_shareability(smmu))?;
            judge(smmu, domain, &ste, None)?;
            Ok((ste, None))
        }
        _ => Err(AttachError::TagNotOwned { domain: domain.id(), smmu: smmu.id(), tag }),
    }
}

/// Refuse entries that the SMMU would refuse, or take for others.
///
/// A field that the SMMU ignores does no harm. Neither does a reserved one: only
/// [`TableDescription`](crate::TableDescription) chooses fields, and it has no reserved value.
fn judge<P: Platform>(
    smmu: &crate::Smmu<P>,
    domain: &Domain<P>,
    ste: &Ste,
    cd: Option<&Cd>,
) -> Result<(), AttachError> {
    let mut broken = None;
    let mut report = |finding: legal::Finding| match finding.effect() {
        legal::Effect::Ignored | legal::Effect::Reserved => {}
        _ if broken.is_none() => broken = Some(BrokenRule::of(&finding)),
        _ => {}
    };
    legal::ste(ste, smmu.rules(), &mut report);
    if let Some(cd) = cd {
        legal::cd(cd, ste, smmu.rules(), &mut report);
    }
    match broken {
        None => Ok(()),
        Some(broken) => Err(AttachError::Illegal { domain: domain.id(), smmu: smmu.id(), broken }),
    }
}
