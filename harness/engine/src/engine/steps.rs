//! What each step does.

mod attach;
mod checks;
mod command;
mod dma;
mod queues;

use std::sync::Arc;

use smmu_driver::smmu_attach::Target;
use smmu_driver::smmu_types::range::Extent;
use smmu_driver::smmu_types::seam::{SinkError, Wait};
use smmu_driver::smmu_types::{Asid, Granule, Leaf};

use super::rig::Rig;
use super::run::{Report, Stop};
use super::transcript::Kind;
use crate::machine::HazardReport;
use crate::machine::QueueName;
use crate::page_tables::{Access, PAGE};
use crate::scenario::{Install, Step, Unmap};

/// Carry out step number `n`.
pub(crate) fn run(rig: &mut Rig, n: usize, step: &Step, report: &mut Report) -> Result<(), Stop> {
    let say = |rig: &Rig, text: String| rig.recorder.note(Kind::Step, || format!("{n} {text}"));
    match step {
        Step::Attach(spec) => {
            say(rig, format!("attach {} to {}", spec.device.get_ref(), spec.to.get_ref()));
            match attach::attach(rig, spec)? {
                attach::Confirmed::Yes => settled(rig),
                attach::Confirmed::No => unconfirmed(rig),
            }
        }
        Step::AttachEach(spec) => {
            let (devices, domains) = (spec.devices.get_ref(), spec.domains.get_ref());
            let last = spec.count.get_ref().saturating_sub(1);
            say(
                rig,
                format!("attach {devices}0 to {domains}0, ... {devices}{last} to {domains}{last}"),
            );
            attach::attach_each(rig, spec)?;
            settled(rig)
        }
        Step::FailEveryAllocation(spec) => {
            let (device, to) = (spec.device.get_ref(), spec.to.get_ref());
            say(rig, format!("prepare {device} for {to}, with each allocation failing in turn"));
            attach::fail_every_allocation(rig, spec)?;
            settled(rig)
        }
        Step::Map(spec) => {
            let (domain, page) = (spec.domain.get_ref(), spec.page.get_ref());
            say(
                rig,
                format!("map {:#x} of {domain} to page {page}{}", spec.iova, access(spec.access)),
            );
            let address = rig.page(page)?;
            rig.tables(domain)?.map(spec.iova, address, spec.access)?;
            settled(rig)
        }
        Step::Unmap(spec) => {
            let domain = spec.domain.get_ref();
            say(rig, format!("unmap {:#x} of {domain}", spec.iova));
            rig.tables(domain)?.unmap(spec.iova)?;
            invalidate_or_fail(rig, spec)
        }
        Step::Invalidate(spec) => {
            say(rig, format!("invalidate {:#x} of {} again", spec.iova, spec.domain.get_ref()));
            invalidate_or_fail(rig, spec)
        }
        Step::Remap(spec) => {
            let (domain, page) = (spec.domain.get_ref(), spec.page.get_ref());
            say(
                rig,
                format!("move {:#x} of {domain} to page {page}{}", spec.iova, access(spec.access)),
            );
            let address = rig.page(page)?;
            rig.tables(domain)?.unmap(spec.iova)?;
            invalidate(rig, domain, spec.iova)??;
            rig.tables(domain)?.map(spec.iova, address, spec.access)?;
            settled(rig)
        }
        Step::Poke(spec) => {
            let domain = spec.domain.get_ref();
            match &spec.page {
                Some(page) => {
                    let page = page.get_ref();
                    say(
                        rig,
                        format!(
                            "past the driver: {:#x} of {domain} now maps page {page}",
                            spec.iova
                        ),
                    );
                    let address = rig.page(page)?;
                    rig.tables(domain)?.overwrite(spec.iova, address, Access::ReadWrite)?;
                }
                None => {
                    say(
                        rig,
                        format!("past the driver: {:#x} of {domain} now maps nothing", spec.iova),
                    );
                    rig.tables(domain)?.unmap(spec.iova)?;
                }
            }
            Ok(())
        }
        Step::Dma(spec) => {
            let what = match (&spec.iova, &spec.at) {
                (Some(iova), _) => format!("{:#x}", iova.get_ref()),
                (None, Some(page)) => format!("the physical address of page {}", page.get_ref()),
                (None, None) => String::new(),
            };
            say(rig, format!("{} writes to {what}", spec.device.get_ref()));
            dma::dma(rig, spec)
        }
        Step::Command(spec) => {
            let name = spec.smmu.get_ref();
            let queue = match spec.queue.as_ref().map(|queue| *queue.get_ref()) {
                None | Some(QueueName::Main) => name.clone(),
                Some(QueueName::Second) => format!("the second queue of {name}"),
            };
            say(rig, format!("past the driver: commands for {queue}"));
            command::command(rig, spec)?;
            rig.interrupts();
            Ok(())
        }
        Step::Fault(spec) => {
            say(rig, queues::describe(spec));
            queues::fault(rig, spec)
        }
        Step::Mend(spec) => {
            let name = spec.smmu.get_ref();
            say(rig, format!("on {name} from now on: all is as it should be"));
            Ok(rig.machine.mend(rig.smmu_index(name)?)?)
        }
        Step::Install(spec) => {
            let (device, domain) = (spec.device.get_ref(), spec.domain.get_ref());
            say(rig, format!("past the driver: {device} gets {domain} with ASID {}", spec.asid));
            install(rig, spec)
        }
        Step::Expect(spec) => {
            say(rig, format!("expect on {}", spec.smmu.get_ref()));
            checks::expect(rig, n, spec, report)
        }
        Step::Hazard(spec) => {
            say(rig, format!("the missing command is {}", spec.missing));
            checks::hazard(rig, n, &spec.missing, report)
        }
    }
}

fn access(access: Access) -> &'static str {
    match access {
        Access::ReadWrite => "",
        Access::ReadOnly => ", read-only",
    }
}

/// No event came that no DMA explains.
fn no_event(rig: &mut Rig) -> Result<(), Stop> {
    let events = rig.drain_events()?;
    rig.interrupts();
    if let Some((smmu, event)) = events.first() {
        return Err(format!(
            "{} recorded an event that no DMA explains: {event}",
            rig.smmu_name(*smmu)
        )
        .into());
    }
    Ok(())
}

/// After a step of the driver: no event came, and nothing is reachable that should not be.
fn settled(rig: &mut Rig) -> Result<(), Stop> {
    no_event(rig)?;
    let freed = rig.observer.take_freed();
    let Some(insight) = rig.machine.insight() else { return Ok(()) };
    let mut hazards = insight.take_hazards();
    hazards.extend(insight.audit());
    if let Some(HazardReport { text, .. }) = hazards.first() {
        return Err(format!("the model reports a hazard: {}", rig.named(text)).into());
    }
    for (smmu, tag) in freed {
        let lines = insight.lines_with_tag(usize::from(smmu.0), tag);
        if lines > 0 {
            return Err(format!(
                "{tag} of {} was freed, but {lines} cached lines carry it; missing: {}",
                rig.smmu_name(usize::from(smmu.0)),
                tag.flush_command()
            )
            .into());
        }
    }
    Ok(())
}

/// After a step of the driver that an SMMU has not confirmed: what was taken away may still be reached, so nothing of
/// it may be given away.
fn unconfirmed(rig: &mut Rig) -> Result<(), Stop> {
    no_event(rig)?;
    if let Some((smmu, tag)) = rig.observer.take_freed().first() {
        let name = rig.smmu_name(usize::from(smmu.0));
        return Err(format!("{tag} of {name} was freed, but nothing was confirmed").into());
    }
    // No DMA came in between, so this is about registers.
    match rig.machine.insight().map(|insight| insight.take_hazards()).unwrap_or_default().first() {
        Some(hazard) => {
            Err(format!("the model reports a hazard: {}", rig.named(&hazard.text)).into())
        }
        None => Ok(()),
    }
}

/// At the end nothing may be left that nobody asked about.
pub(crate) fn finish(rig: &Rig) -> Result<(), Stop> {
    let Some(insight) = rig.machine.insight() else { return Ok(()) };
    match insight.take_hazards().first() {
        Some(hazard) => {
            Err(format!("a hazard that no step expects: {}", rig.named(&hazard.text)).into())
        }
        None => Ok(()),
    }
}

fn invalidate(rig: &Rig, domain: &str, iova: u64) -> Result<Result<(), SinkError>, Stop> {
    let extent = Extent::range(iova, PAGE, Granule::K4, Leaf::Last).with_page_hint();
    Ok(rig.domain(domain)?.invalidate(extent, &rig.sink).map_err(|error| error.first))
}

fn invalidate_or_fail(rig: &mut Rig, spec: &Unmap) -> Result<(), Stop> {
    let clock = rig.machine.clock();
    let start = clock.now();
    let outcome = invalidate(rig, spec.domain.get_ref(), spec.iova)?;
    let waited = clock.now() - start;
    let smmu = outcome.map_or_else(|error| usize::from(error.smmu().0), |()| 0);
    let name = rig.smmu_name(smmu).to_owned();
    command::expect_failure(rig, &name, outcome, spec.fails, waited)?;
    match spec.fails {
        None => settled(rig),
        Some(_) => unconfirmed(rig),
    }
}

fn install(rig: &mut Rig, spec: &Install) -> Result<(), Stop> {
    rig.install_raw(spec.device.get_ref(), spec.domain.get_ref(), Asid(spec.asid))
}

/// The target that a name stands for.
pub(crate) enum To {
    Bypass,
    Blocked,
    Domain(Arc<smmu_driver::smmu_attach::Domain<super::platform::Harness>>),
}

impl To {
    pub(crate) fn target(&self) -> Target<'_, super::platform::Harness> {
        match self {
            To::Bypass => Target::Bypass,
            To::Blocked => Target::Blocked,
            To::Domain(domain) => Target::Domain(domain),
        }
    }
}
