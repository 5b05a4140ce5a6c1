//! Command queues that misbehave.

use smmu_driver::smmu_types::{Command, RawCommand};

use crate::engine::rig::Rig;
use crate::engine::run::{Report, Stop};
use crate::engine::transcript::Kind;
use crate::machine::QueueFault;
use crate::machine::QueueName;
use crate::scenario::{Fault, FaultStep, MsiFault, ReadsExpected, Speed};

/// What a fault step does, in words.
pub(super) fn describe(spec: &FaultStep) -> String {
    let queue = match spec.queue() {
        QueueName::Main => "the command queue",
        QueueName::Second => "the second command queue",
    };
    let what = match spec.fault() {
        None => "nothing changes".into(),
        Some(Fault::Queue(Speed::Stopped)) => format!("{queue} stops"),
        Some(Fault::Queue(Speed::Slow(count))) => {
            format!("{queue} takes {} at each look", plural(*count.get_ref(), "command"))
        }
        Some(Fault::Queue(Speed::Aborts(count))) => {
            format!("{queue} aborts {}", plural(*count.get_ref(), "fetch"))
        }
        Some(Fault::AtcTimeout(device)) => {
            format!("{} answers no ATC_INV of {queue}", device.get_ref())
        }
        Some(Fault::Msi(MsiFault::Lost)) => "the MSIs of CMD_SYNC are lost".into(),
    };
    format!("on {} from now on: {what}", spec.smmu.get_ref())
}

fn plural(count: u32, what: &str) -> String {
    match (count, what) {
        (1, _) => format!("1 {what}"),
        (_, "fetch") => format!("{count} fetches"),
        _ => format!("{count} {what}s"),
    }
}

pub(super) fn fault(rig: &Rig, spec: &FaultStep) -> Result<(), Stop> {
    let smmu = rig.smmu_index(spec.smmu.get_ref())?;
    let fault = match spec.fault() {
        None => return Err("a fault that is none".to_owned().into()),
        Some(Fault::Queue(Speed::Stopped)) => QueueFault::Stopped,
        Some(Fault::Queue(Speed::Slow(count))) => QueueFault::Slow(*count.get_ref()),
        Some(Fault::Queue(Speed::Aborts(count))) => QueueFault::Aborts(*count.get_ref()),
        Some(Fault::AtcTimeout(device)) => {
            let device = rig.device(device.get_ref())?;
            QueueFault::AtcTimeout(device.streams().first().copied().unwrap_or_default())
        }
        Some(Fault::Msi(MsiFault::Lost)) => QueueFault::MsiLost,
    };
    Ok(rig.machine.inject(smmu, spec.queue(), fault)?)
}

/// Whether each command that the SMMU was shown was carried out once, as it was shown and in that order.
pub(super) fn in_order(rig: &Rig, n: usize, name: &str, report: &mut Report) -> Result<(), Stop> {
    let Some(insight) = rig.machine.insight() else {
        report
            .unchecked
            .push(format!("step {n}: whether {name} carried out all commands in order"));
        return Ok(());
    };
    let smmu = rig.smmu_index(name)?;
    let ((main, second), [main_done, second_done]) =
        (rig.take_shown(smmu), insight.take_carried_out(smmu));
    compare(n, name, &main, &main_done, report)?;
    match second {
        None => Ok(()),
        Some(second) => compare(n, &format!("{name}/second"), &second, &second_done, report),
    }
}

fn compare(
    n: usize,
    queue: &str,
    shown: &[RawCommand],
    carried_out: &[RawCommand],
    report: &mut Report,
) -> Result<(), Stop> {
    if shown == carried_out {
        let count = shown.len();
        report.notes.push(format!("step {n}: {queue} carried out {count} commands in order"));
        return Ok(());
    }
    let at = shown.iter().zip(carried_out).take_while(|(shown, done)| shown == done).count();
    let command = |commands: &[RawCommand]| {
        let command = commands.get(at).map(|raw| Command::decode(*raw).to_string());
        command.unwrap_or_else(|| "nothing".into())
    };
    let (shown, carried_out) = (command(shown), command(carried_out));
    Err(format!("command {at} was {shown}, but {queue} carried out {carried_out}").into())
}

/// How often the driver has looked at the registers to learn what its queue has left.
pub(super) fn consumer_reads(rig: &Rig, name: &str, want: ReadsExpected) -> Result<(), Stop> {
    let reads = rig.take_consumer_reads(rig.smmu_index(name)?);
    let text = match (want, reads) {
        (ReadsExpected::None, 0) => "CMDQ_CONS was not read",
        (ReadsExpected::Some, 1..) => "CMDQ_CONS was read",
        (ReadsExpected::None, _) => {
            return Err(
                format!("CMDQ_CONS of {name} was read {reads} times, and needed not").into()
            );
        }
        (ReadsExpected::Some, _) => {
            return Err(format!("CMDQ_CONS of {name} was to be read, but was not").into());
        }
    };
    rig.recorder.about(Kind::Check, name, || text.into());
    Ok(())
}
