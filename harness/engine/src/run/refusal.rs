//! A refusal of a domain by an SMMU: why, by field, and that nothing changed.

use smmu_driver::smmu_attach::{BrokenRule, TableDescription, TranslationStage, single_context};
use smmu_driver::smmu_types::legal::{self, Effect, Finding, SmmuView};
use smmu_driver::smmu_types::{
    Asid, AtsMode, Capabilities, Cd, FieldError, ShareabilityOverride, Ste, Vmid,
};

use super::rig::{Fingerprint, Rig};
use super::stop::Stop;
use crate::prelude::*;
use crate::scenario::{Attach, AttachFailure};
use crate::transcript::LineKind;

const UNCHANGED: &str = "a refused attach changes nothing";

/// The state before an attach that the driver must refuse.
pub(super) struct Refusal {
    before: Fingerprint,
    lines: usize,
}

impl Refusal {
    /// The state now, if the step expects that the SMMU cannot use the domain.
    pub(super) fn expected(rig: &Rig, spec: &Attach) -> Result<Option<Self>, Stop> {
        match spec.fails {
            Some(AttachFailure::CannotShare | AttachFailure::Illegal) => {
                let before = rig.fingerprint(spec.device.get_ref())?;
                Ok(Some(Refusal { before, lines: rig.recorder.len() }))
            }
            _ => Ok(None),
        }
    }

    /// Nothing has changed. Records what the rules say of the entries that the driver did not write.
    pub(super) fn check(self, rig: &Rig, spec: &Attach) -> Result<(), Stop> {
        let device = spec.device.get_ref();
        if let Some(command) = rig.recorder.command_since(self.lines) {
            return Err(Stop::unmet(UNCHANGED, format!("the driver sent {command}")));
        }
        if let Some((what, was, is)) = self.before.difference(&rig.fingerprint(device)?) {
            return Err(Stop::unmet(UNCHANGED, format!("{what} was {was}, and is {is}")));
        }
        // `AttachError::Illegal` says it itself.
        if spec.fails == Some(AttachFailure::CannotShare) {
            let smmu = usize::from(rig.device(device)?.smmu().0);
            let driven = rig.driver.smmus().get(smmu);
            let probe = driven.ok_or_else(|| format!("there is no SMMU {smmu}"))?.probe();
            let table = *rig.domain(spec.to.get_ref())?.description();
            let broken = broken_rules(&table, &probe.caps, &SmmuView::new(probe.id))
                .map_err(|error: FieldError| error.to_string())?;
            for rule in broken {
                rig.recorder.about(LineKind::Error, rig.smmu_name(smmu), || rig.named(&rule));
            }
        }
        rig.recorder.note(LineKind::Check, || "refused before anything changed".into());
        Ok(())
    }
}

/// The rules that an SMMU's STE and CD for these tables would break.
fn broken_rules(
    table: &TableDescription,
    caps: &Capabilities,
    smmu: &SmmuView,
) -> Result<Vec<String>, FieldError> {
    let mut broken = Vec::new();
    let mut report = |finding: Finding| match finding.effect() {
        Effect::Ignored | Effect::Reserved => {}
        _ => {
            let (structure, field) = (finding.structure(), finding.name());
            let (value, rule) = (finding.value(), finding.rule());
            broken.push(BrokenRule { structure, field, value, rule }.to_string());
        }
    };
    let shareability = ShareabilityOverride::NonShareable;
    match table.stage {
        TranslationStage::Stage1 { mair } => {
            let cd = Cd::stage1(table.stage1(mair, Asid(1)))?;
            // Any address that fits will do: no rule of the tables depends on it.
            let ste = Ste::stage1(single_context(caps, table.root), AtsMode::Off, shareability)?;
            legal::ste(&ste, smmu, &mut report);
            legal::cd(&cd, &ste, smmu, &mut report);
        }
        TranslationStage::Stage2 { start_level } => {
            let stage2 = table.stage2(start_level, Vmid(1));
            let ste = Ste::stage2(stage2, AtsMode::Off, shareability)?;
            legal::ste(&ste, smmu, &mut report);
        }
    }
    Ok(broken)
}
