//! One virtual SMMU of a guest, on one SMMU of the host.

use smmu_types::common_ids::{IdJoin, JOINED_REGISTERS, is_of_the_host};
use smmu_types::fields::{self, ste as field};
use smmu_types::legal::{Rule, SmmuView};
use smmu_types::{Capabilities, IdRegisters, Ste, SteConfig, Vmid};

use super::harm::first_harm;
use super::ids::{host_value, is_of_the_emulation, register};

/// One virtual SMMU of a guest, on one SMMU of the host: what every decision follows from.
///
/// A guest with devices behind two SMMUs of the host has two of these.
#[derive(Clone, Copy, Debug)]
pub struct GuestSmmu {
    pub(super) host: SmmuView,
    pub(super) guest: SmmuView,
    pub(super) guest_caps: Capabilities,
    pub(super) parent: Ste,
    pub(super) vmid: Vmid,
}

/// Why a virtual SMMU is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuestSmmuError {
    /// The host's SMMU does not have both stages.
    #[error("IDR0 = {idr0:#x}: nesting needs stage 1 and stage 2 (S1P, S2P); use another SMMU")]
    NoNesting {
        /// `IDR0` of the host's SMMU.
        idr0: u32,
    },
    /// The parent is not an entry that stage 2 alone translates.
    #[error(
        "the parent has V = {valid} and Config = {config}, and not stage 2 of VMSAv8-64; build it with Ste::stage2"
    )]
    ParentNotStage2 {
        /// `V` of the parent.
        valid: u64,
        /// `Config` of the parent.
        config: u64,
    },
    /// The parent has VMID 0, which tags the host's own stage-1 translations.
    #[error("the parent has VMID 0, which streams of stage 1 alone use; take a VMID of its own")]
    VmidZero,
    /// The host's SMMU refuses the parent, or may.
    #[error("the parent has {field} = {value:#x}: {rule}; {}", .rule.remedy())]
    Parent {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// The rule.
        rule: Rule,
    },
    /// The guest is told of a feature that the host's SMMU has not, or that is the host's.
    #[error(
        "the guest is told {register}.{field} = {guest:#x}, the host's SMMU has {host:#x}; tell it what guest_ids returns"
    )]
    NotASubset {
        /// The register.
        register: &'static str,
        /// The field.
        field: &'static str,
        /// The value that the guest is told.
        guest: u64,
        /// The value of the host's SMMU.
        host: u64,
    },
}

impl GuestSmmu {
    /// A virtual SMMU with these ID registers, on this SMMU of the host.
    ///
    /// `parent` is the host's STE for a device of the guest without a stage 1 of the guest's:
    /// stage 2 alone, with the VMID of the virtual SMMU.
    /// [`guest_ids`](super::guest_ids) makes the ID registers.
    ///
    /// # Errors
    ///
    /// The host's SMMU cannot nest or does not take the parent, or the guest is told of more than
    /// the SMMU has.
    pub fn new(host: SmmuView, guest: IdRegisters, parent: Ste) -> Result<Self, GuestSmmuError> {
        let caps = Capabilities::decode(host.id);
        if !caps.stage1 || !caps.stage2 {
            return Err(GuestSmmuError::NoNesting { idr0: host.id.idr0 });
        }
        let SteConfig::Stage2(stage2) = parent.decode() else {
            let (valid, config) = (parent.get(field::V), parent.get(field::CONFIG));
            return Err(GuestSmmuError::ParentNotStage2 { valid, config });
        };
        if stage2.vmid == Vmid(0) {
            return Err(GuestSmmuError::VmidZero);
        }
        if let Some(finding) = first_harm(&parent, &host) {
            let (field, value, rule) = (finding.field().name(), finding.value(), finding.rule());
            return Err(GuestSmmuError::Parent { field, value, rule });
        }
        subset(&host.id, &guest)?;
        Ok(GuestSmmu {
            host,
            guest: SmmuView::new(guest),
            guest_caps: Capabilities::decode(guest),
            // Stage 1 is the guest's, and ATS too.
            parent: without_guest_fields(parent),
            vmid: stage2.vmid,
        })
    }

    /// The VMID that every command for the guest has.
    #[must_use]
    pub const fn vmid(&self) -> Vmid {
        self.vmid
    }

    /// The ID registers that the guest sees.
    #[must_use]
    pub const fn ids(&self) -> IdRegisters {
        self.guest.id
    }
}

fn without_guest_fields(mut parent: Ste) -> Ste {
    for (word, copied) in parent.0.iter_mut().zip(super::fields::COPIED) {
        *word &= !copied;
    }
    for key in [field::EATS, field::STRW, field::S1PIE, field::S1MPAM] {
        if let Some(word) = parent.0.get_mut(key.word()) {
            *word &= !key.mask();
        }
    }
    parent
}

/// Checks that software for the guest's ID registers also runs on the host's SMMU.
fn subset(host: &IdRegisters, guest: &IdRegisters) -> Result<(), GuestSmmuError> {
    for name in JOINED_REGISTERS {
        let Some((_, layout)) = fields::register_by_name(name) else { continue };
        let told = register(guest, name);
        for field in layout.fields() {
            if is_of_the_emulation(name, field.name()) {
                continue;
            }
            let guest = field.get(&[told]);
            let values = [host_value(host, name, field), Some(guest)];
            let joined = IdJoin::of(name, field.name()).join(field.max(), values.into_iter());
            let own = guest != 0 && is_of_the_host(name, field.name());
            if own || joined.conflict.is_some() || joined.value != guest {
                let host = field.get(&[register(host, name)]);
                let (register, field) = (name, field.name());
                return Err(GuestSmmuError::NotASubset { register, field, guest, host });
            }
        }
    }
    Ok(())
}
