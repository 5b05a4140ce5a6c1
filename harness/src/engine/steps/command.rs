//! Commands past the driver.

use smmu_types::range::{Span, SpanAddress};
use smmu_types::seam::SinkError;
use smmu_types::{
    Asid, Command, CommandErrorCode, Iova, Ipa, Leaf, RawCommand, SmmuId, SubstreamId, Vmid,
};

use crate::engine::rig::Rig;
use crate::engine::run::Stop;
use crate::engine::transcript::Kind;
use crate::scenario::{CommandFailure, CommandSpec, CommandStep};

pub(super) fn command(rig: &mut Rig, spec: &CommandStep) -> Result<(), Stop> {
    let smmu = rig.smmu_index(spec.smmu.get_ref())?;
    let mut commands = Vec::new();
    for command in &spec.send {
        commands.push(typed(rig, command)?);
    }
    // Past the driver, and so past a driver that is broken on purpose.
    let id = SmmuId(smmu as u16);
    let queue = rig.sink.queue(id).ok_or_else(|| format!("{id} has no queue"))?;
    let wanted = spec.fails.map(|fails| match fails {
        CommandFailure::Ill => CommandErrorCode::ILL,
        CommandFailure::Abt => CommandErrorCode::ABT,
        CommandFailure::AtcInvSync => CommandErrorCode::ATC_INV_SYNC,
    });
    match (queue.run(&commands), wanted) {
        (Ok(_proof), None) => Ok(()),
        (Err(SinkError::Command { command, code, .. }), Some(want)) if code == want => {
            rig.recorder.about(Kind::Error, spec.smmu.get_ref(), || {
                format!("{code} on {}", Command::decode(command))
            });
            Ok(())
        }
        (Ok(_proof), Some(want)) => {
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
        CommandSpec::Raw(words) => Command::decode(RawCommand(*words)),
    })
}

fn single<A: SpanAddress>(address: A) -> Result<Span<A>, Stop> {
    Ok(Span::single(address, Leaf::Last).map_err(|error| error.to_string())?)
}
