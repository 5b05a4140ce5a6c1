//! The target of an attach, its tag, and the entry that names the tag.

use smmu_invs::Publication;
use smmu_tags::{FreshTag, SharedTag};
use smmu_types::seam::{Notice, Observer};
use smmu_types::{AtsMode, CacheTag, Cd, Regime, Stage1Config, Stage2Config, Ste, legal};

use crate::domain::{Domain, Owned};
use crate::domain_config::TagNumber;
use crate::fault_model::FaultModel;
#[cfg(feature = "guest")]
use crate::guest::HostEntry;
use crate::image::incoming_shareability;
use crate::membership::Leads;
use crate::smmu_core::SmmuParts;
use crate::table::TranslationStage;
#[cfg(feature = "guest")]
use crate::virtual_smmu::VirtualSmmu;
use crate::{AttachError, BrokenRule, Env, Platform};

/// What an attach makes of a device's transactions.
#[derive(Debug)]
#[non_exhaustive]
pub enum Target<'a, P: Platform> {
    /// The domain translates them.
    Domain(&'a Domain<P>),
    #[cfg(feature = "guest")]
    /// A guest's stage 1 translates them, then the parent of the virtual SMMU. The entry is one that
    /// its policy made.
    Nested(&'a VirtualSmmu<P>, HostEntry),
    /// The SMMU passes them unchanged.
    Bypass,
    /// The SMMU aborts them.
    Blocked,
}

/// Return a tag that no SMMU has seen to its space.
pub(crate) fn abort<P: Platform>(tag: FreshTag, env: &Env<P>) {
    let notice = Notice::TagAborted { smmu: tag.smmu(), tag: tag.tag() };
    tag.abort();
    env.observer().notice(notice);
}

/// A tag that no SMMU has seen. Dropping it [aborts](abort) it.
pub(crate) struct Fresh<'e, P: Platform> {
    tag: Option<FreshTag>,
    env: &'e Env<P>,
}

impl<P: Platform> Fresh<'_, P> {
    /// The tag, which the caller then aborts or installs.
    pub(crate) fn keep(mut self) -> Option<FreshTag> {
        self.tag.take()
    }
}

impl<P: Platform> Drop for Fresh<'_, P> {
    fn drop(&mut self) {
        if let Some(tag) = self.tag.take() {
            abort(tag, self.env);
        }
    }
}

/// The tag of a domain on an SMMU: found in the array (while the domain's lock is held) or new.
pub(crate) enum DomainTag<'lock, 'e, P: Platform> {
    Found(SharedTag<'lock>),
    New(CacheTag, Fresh<'e, P>),
}

pub(crate) fn find_or_allocate<'lock, 'e, P: Platform>(
    smmu: &SmmuParts<P>,
    domain: &'e Domain<P>,
    owned: &'lock [Owned],
) -> Result<DomainTag<'lock, 'e, P>, AttachError> {
    let (id, env) = (smmu.id, domain.env());
    if let Some(found) = domain.cell().read().find(id, domain.kind())
        && let Some(tag) = found.spec.tag()
    {
        let owner = owned
            .iter()
            .find(|owned| owned.tag.smmu() == id && owned.tag.tag() == tag)
            .ok_or(AttachError::TagNotOwned { domain: domain.id(), smmu: id, tag })?;
        if owner.smmu != smmu.instance {
            return Err(AttachError::SameSmmuId { smmu: id });
        }
        let users = found.users;
        env.observer().notice(Notice::TagFound { domain: domain.id(), smmu: id, tag, users });
        return Ok(DomainTag::Found(owner.tag.share()));
    }
    let (asids, vmids, bits) = (&smmu.asids, &smmu.vmids, smmu.caps.asid_bits);
    let fresh = match (domain.tag_number(), domain.description().stage) {
        (Some(TagNumber::Asid(asid)), _) => asids.claim(id, Regime::El1, bits, asid),
        (Some(TagNumber::Vmid(vmid)), _) => vmids.claim(vmid),
        (None, TranslationStage::Stage1 { .. }) => asids.allocate(id, Regime::El1, bits),
        (None, TranslationStage::Stage2 { .. }) => vmids.allocate(),
    }?;
    let tag = fresh.tag();
    env.observer().notice(Notice::TagAllocated { domain: domain.id(), smmu: id, tag });
    Ok(DomainTag::New(tag, Fresh { tag: Some(fresh), env }))
}

/// The entry that leads into a domain: a CD, or for stage 2 an STE.
pub(crate) fn entry_of<P: Platform>(
    smmu: &SmmuParts<P>,
    domain: &Domain<P>,
    tag: CacheTag,
    ats: AtsMode,
    faults: FaultModel,
) -> Result<Leads, AttachError> {
    let table = domain.description();
    match (table.stage, tag) {
        (TranslationStage::Stage1 { mair }, CacheTag::Asid(_, asid)) => {
            let stall = faults == FaultModel::Stall;
            let config = Stage1Config { stall, ..table.stage1(mair, asid) };
            Ok(Leads::Context(Cd::stage1(config)?))
        }
        (TranslationStage::Stage2 { start_level }, CacheTag::Vmid(vmid)) => {
            let stall = faults == FaultModel::Stall;
            let stage2 = Stage2Config { stall, ..table.stage2(start_level, vmid) };
            Ok(Leads::Stage2(Ste::stage2(stage2, ats, incoming_shareability(smmu))?))
        }
        _ => Err(AttachError::TagNotOwned { domain: domain.id(), smmu: smmu.id, tag }),
    }
}

/// Refuse entries that the SMMU would refuse, or take for others.
///
/// A field that the SMMU ignores does no harm. Neither does a reserved one: only
/// [`TableDescription`](crate::TableDescription) chooses fields, and it has no reserved value.
pub(crate) fn judge<P: Platform>(
    smmu: &SmmuParts<P>,
    domain: &Domain<P>,
    ste: &Ste,
    cd: Option<&Cd>,
) -> Result<(), AttachError> {
    let mut broken = None;
    let mut report = |finding: legal::Finding| {
        broken.get_or_insert(BrokenRule::of(&finding));
    };
    legal::ste_effects(ste, &smmu.rules, &mut report);
    if let Some(cd) = cd {
        legal::cd_effects(cd, ste, &smmu.rules, &mut report);
    }
    match broken {
        None => Ok(()),
        Some(broken) => Err(AttachError::Illegal { domain: domain.id(), smmu: smmu.id, broken }),
    }
}
