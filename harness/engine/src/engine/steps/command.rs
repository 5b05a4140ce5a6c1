//! Commands past the driver.

use std::time::Duration;

use smmu_driver::smmu_types::range::{Span, SpanAddress};
use smmu_driver::smmu_types::seam::{SinkError, Wait};
use smmu_driver::smmu_types::{
    Asid, AtcScope, AtcSpan, Command, CommandErrorCode, FieldError, Iova, Ipa, Leaf, RawCommand,
    SmmuId, SubstreamId, Vmid,
};

use crate::engine::rig::Rig;
use crate::engine::run::Stop;
use crate::engine::transcript::Kind;
use crate::machine::QueueName;
use crate::scenario::{CommandFailure, CommandSpec, CommandStep};

pub(super) fn command(rig: &mut Rig, spec: &CommandStep) -> Result<(), Stop> {
    let smmu = rig.smmu_index(spec.smmu.get_ref())?;
    let all = |specs: &[CommandSpec]| -> Result<Vec<Command>, Stop> {
        specs.iter().map(|spec| typed(rig, spec)).collect()
    };
    let (commands, beside) = (all(&spec.send)?, all(&spec.beside)?);
    // Past the driver, and so past a driver that is broken on purpose.
    let id = SmmuId(smmu as u16);
    let name = spec.queue.as_ref().map_or(QueueName::Main, |queue| *queue.get_ref());
    let queue = rig.sink.queue_named(id, name).ok_or_else(|| format!("{id} has no such queue"))?;
    let clock = rig.machine.clock();
    let start = clock.now();
    let outcome = match beside.as_slice() {
        [] => queue.run(&commands),
        beside => {
            let (ticket, other) = (queue.issue(&commands)?, queue.issue(beside)?);
            // Whoever looks first learns of errors that are not its own.
            let _proof = queue.wait(other)?;
            rig.recorder.about(Kind::Check, spec.smmu.get_ref(), || {
                "the other caller's commands are complete".into()
            });
            queue.wait(ticket)
        }
    };
    let outcome = outcome.map(|_proof| ());
    let waited = clock.now() - start;
    expect_failure(rig, spec.smmu.get_ref(), outcome, spec.fails, waited)
}

/// Whether commands ended as the scenario says, and a line of the transcript where they failed as they were to.
pub(super) fn expect_failure(
    rig: &Rig,
    smmu: &str,
    outcome: Result<(), SinkError>,
    wanted: Option<CommandFailure>,
    waited: Duration,
) -> Result<(), Stop> {
    let code = match wanted {
        None | Some(CommandFailure::Timeout) => None,
        Some(CommandFailure::Ill) => Some(CommandErrorCode::ILL),
        Some(CommandFailure::Abt) => Some(CommandErrorCode::ABT),
        Some(CommandFailure::AtcInvSync) => Some(CommandErrorCode::ATC_INV_SYNC),
    };
    match (outcome, wanted) {
        (Ok(()), None) => Ok(()),
        (Err(SinkError::Command { command, code: got, .. }), Some(_)) if Some(got) == code => {
            rig.recorder
                .about(Kind::Error, smmu, || format!("{got} on {}", Command::decode(command)));
            Ok(())
        }
        (Err(SinkError::Timeout { stall, .. }), Some(CommandFailure::Timeout)) => {
            let timeout = rig.timeout(smmu)?;
            if waited < timeout {
                return Err(format!("it gave up after {waited:?}, before {timeout:?}").into());
            }
            let Some(stall) = stall else {
                return Err("the time-out does not say where the queue stands".to_owned().into());
            };
            rig.recorder.about(Kind::Error, smmu, || format!("no answer in {timeout:?}: {stall}"));
            Ok(())
        }
        (Ok(()), Some(_)) => {
            let want = code.map_or("a time-out".into(), |code| code.to_string());
            Err(format!("{want} was to be reported, but all went well").into())
        }
        (Err(error), _) => Err(error.into()),
    }
}

fn typed(rig: &Rig, spec: &CommandSpec) -> Result<Command, Stop> {
    let stream = |device: &str| -> Result<_, Stop> {
        Ok(rig.device(device)?.streams().first().copied().unwrap_or_default())
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
            Command::TlbiNhAsid { vmid: Vmid(of.vmid), asid: Asid(of.asid) }
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
