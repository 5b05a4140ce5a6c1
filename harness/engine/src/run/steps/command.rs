//! Puts commands into a queue, past the driver.

use smmu_driver::smmu_types::range::{Span, SpanAddress};
use smmu_driver::smmu_types::seam::{CommandSink, Wait};
use smmu_driver::smmu_types::{
    Asid, AtcScope, AtcSpan, CacheTag, Command, FieldError, Iova, Ipa, Leaf, RawCommand, SmmuId,
    SubstreamId, Vmid,
};

use crate::prelude::*;
use crate::run::command_failure::check_failure;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::{CommandSpec, CommandStep};
use crate::transcript::LineKind;

impl StepAction for CommandStep {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let smmu = rig.smmu_index(self.smmu.get_ref())?;
        let id = SmmuId(smmu as u16);
        let all = |specs: &[CommandSpec]| -> Result<Vec<Command>, Stop> {
            specs.iter().map(|spec| typed(rig, id, spec)).collect()
        };
        let (commands, beside) = (all(&self.send)?, all(&self.beside)?);
        // Straight to the queue: sabotage changes only what the driver sends.
        let queue = rig
            .sink()
            .queue_named(id, self.queue())
            .ok_or_else(|| format!("{id} has no such queue"))?;
        let clock = rig.machine.clock();
        let start = clock.now();
        let outcome = match beside.as_slice() {
            [] => queue.run(id, &commands),
            beside => {
                let (ticket, other) = (queue.issue(id, &commands)?, queue.issue(id, beside)?);
                // The first waiter sees all callers' errors, and must not take them for its own.
                let _proof = queue.wait(other)?;
                rig.recorder.about(LineKind::Check, self.smmu.get_ref(), || {
                    "the other caller's commands are complete".into()
                });
                queue.wait(ticket)
            }
        };
        let outcome = outcome.map(|_proof| ());
        let waited = clock.now() - start;
        check_failure(rig, self.smmu.get_ref(), outcome, self.fails, waited)?;
        rig.interrupts();
        Ok(())
    }
}

/// The ASID that a domain has on an SMMU.
fn asid_of(rig: &Rig, smmu: SmmuId, domain: &str) -> Result<Asid, Stop> {
    match rig.domain(domain)?.tag_on(smmu) {
        Some(CacheTag::Asid(_, asid)) => Ok(asid),
        _ => Err(Stop::unmet(format!("{domain} has an ASID on {smmu}"), "it has none")),
    }
}

pub(super) fn typed(rig: &Rig, smmu: SmmuId, spec: &CommandSpec) -> Result<Command, Stop> {
    let stream = |device: &str| -> Result<_, Stop> {
        Ok(rig.device(device)?.streams().next().unwrap_or_default())
    };
    Ok(match spec {
        CommandSpec::CfgiSte(of) => {
            Command::CfgiSte { stream: stream(of.device.get_ref())?, leaf: Leaf::Last }
        }
        CommandSpec::CfgiCd(of) => Command::CfgiCd {
            stream: stream(of.device.get_ref())?,
            substream: SubstreamId::default(),
            leaf: Leaf::Last,
        },
        CommandSpec::CfgiAll(_) => Command::CfgiAll,
        CommandSpec::TlbiNhAsid(of) => {
            let asid = match (&of.asid, &of.domain) {
                (Some(asid), _) => Asid(*asid.get_ref()),
                (None, Some(domain)) => asid_of(rig, smmu, domain.get_ref())?,
                (None, None) => return Err("a TLBI_NH_ASID without an ASID".to_owned().into()),
            };
            Command::TlbiNhAsid { vmid: Vmid(of.vmid), asid }
        }
        CommandSpec::TlbiNhVa(of) => Command::TlbiNhVa {
            vmid: Vmid(of.vmid),
            asid: Asid(of.asid),
            span: single(Iova(of.va))?,
        },
        CommandSpec::TlbiNhAll(of) => Command::TlbiNhAll { vmid: Vmid(of.vmid) },
        CommandSpec::TlbiS12Vmall(of) => Command::TlbiS12Vmall { vmid: Vmid(of.vmid) },
        CommandSpec::TlbiS2Ipa(of) => {
            Command::TlbiS2Ipa { vmid: Vmid(of.vmid), span: single(Ipa(of.ipa))? }
        }
        CommandSpec::TlbiNsnhAll(_) => Command::TlbiNsnhAll,
        CommandSpec::AtcInv(of) => {
            let span = match &of.iova {
                None => AtcSpan::EVERYTHING,
                Some(iova) => AtcSpan::new(Iova(*iova.get_ref()), 0)
                    .map_err(|error: FieldError| error.to_string())?,
            };
            let (stream, scope) = (stream(of.device.get_ref())?, AtcScope::Substream);
            Command::AtcInv { stream, substream: None, scope, span }
        }
        CommandSpec::Raw(words) => Command::decode(RawCommand(*words)),
    })
}

fn single<A: SpanAddress>(address: A) -> Result<Span<A>, Stop> {
    Ok(Span::single(address, Leaf::Last).map_err(|error| error.to_string())?)
}
