//! Lets callers of the driver run at the same time, and checks what devices reach meanwhile.
//!
//! How the callers' commands mix is different in each run, so the transcript has only what holds in
//! every run.

use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;

use smmu_driver::smmu_types::range::Extent;
use smmu_driver::smmu_types::seam::poll;
use smmu_driver::smmu_types::{EventKind, Granule, Iova, Leaf, PhysAddr, SmmuId, StreamId};
use smmu_driver::{Device, Domain, DriverError};

use crate::lock::Mutex;
use crate::machine::BackendError;
use crate::page_tables::{PAGE, Permission};
use crate::prelude::*;
use crate::run::destination::Destination;
use crate::run::device_write::{Ended, carry_out};
use crate::run::pages::{DmaWrite, Reached};
use crate::run::platform::Harness;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::settle::settled_beside;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::ParallelStep;
use crate::transcript::LineKind;

impl StepAction for ParallelStep {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let began = rig.recorder.len();
        let together = Together::default();
        let (unmapping, attaching) = callers(rig, self)?;
        rig.pages.restore();
        together.unmapping.store(unmapping.len(), Ordering::Relaxed);
        let mut all: Vec<Box<dyn FnOnce() + Send + '_>> = Vec::new();
        for caller in &unmapping {
            let together = &together;
            let rig = &*rig;
            all.push(Box::new(move || {
                let done = caller.run(rig, *self.rounds.get_ref(), together);
                together.end(done);
            }));
        }
        for caller in &attaching {
            let together = &together;
            all.push(Box::new(move || {
                if let Err(stop) = caller.run(together) {
                    together.fail(stop);
                }
            }));
        }
        rig.machine.together(all)?;
        if let Some(stop) = together.failed.lock().take() {
            return Err(stop);
        }
        together.hear(rig)?;
        rig.recorder.drop_from(began);
        rig.interrupts();
        let rounds = *self.rounds.get_ref();
        for caller in &unmapping {
            caller.heard(&together, rounds)?;
        }
        let used: Vec<usize> = unmapping.iter().map(|caller| caller.page).collect();
        if let Some(damage) = rig.pages.changed_beside(&used) {
            return Err(Stop::unmet("no caller's device reaches another page", damage));
        }
        settled_beside(rig)?;
        rig.recorder.note(LineKind::Check, || {
            "every write before an unmap landed, the SMMU refused every one after it".to_owned()
        });
        Ok(())
    }
}

/// An SMMU that has refused a write tells of it within this time.
const EVENT_LIMIT: Duration = Duration::from_secs(5);

/// What the callers of one step share.
#[derive(Default)]
struct Together {
    /// Callers with rounds left.
    unmapping: AtomicUsize,
    stop: AtomicBool,
    /// The first failure.
    failed: Mutex<Option<Stop>>,
    events: Mutex<Heard>,
}

/// The events that all callers have taken.
#[derive(Default)]
struct Heard {
    /// How often the SMMU refused a write, by SMMU, stream and address.
    refused: BTreeMap<(u16, StreamId, u64), u32>,
    /// The first other event, in words.
    other: Option<String>,
}

impl Together {
    fn fail(&self, stop: Stop) {
        self.stop.store(true, Ordering::Relaxed);
        self.failed.lock().get_or_insert(stop);
    }

    /// A caller of `unmaps` is done.
    fn end(&self, done: Result<(), Stop>) {
        if let Err(stop) = done {
            self.fail(stop);
        }
        self.unmapping.fetch_sub(1, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Counts the events of all SMMUs. An SMMU whose queue another caller drains is left to it.
    fn hear(&self, rig: &Rig<'_>) -> Result<(), Stop> {
        for n in 0..rig.driver.smmus().len() as u16 {
            let drained = rig.driver.drain_events(SmmuId(n), |event| {
                let mut events = self.events.lock();
                match event.address() {
                    Iova(iova) if event.kind() == EventKind::F_TRANSLATION && !event.is_read() => {
                        *events.refused.entry((n, event.stream(), iova)).or_default() += 1;
                    }
                    _ => {
                        events.other.get_or_insert_with(|| event.to_string());
                    }
                }
            });
            match drained {
                Err(DriverError::Busy { .. }) => {}
                Err(error) => return Err(error.into()),
                Ok(drained) if drained.overflowed => {
                    let name = rig.smmu_name(usize::from(n));
                    return Err(Stop::failed(format!("{name}: the event queue overflowed")));
                }
                Ok(_) => {}
            }
        }
        match &self.events.lock().other {
            None => Ok(()),
            Some(event) => Err(Stop::unmet(
                "the SMMUs report F_TRANSLATION of the refused writes only",
                format!("one reports {event}"),
            )),
        }
    }
}

/// A caller that maps and unmaps.
struct Unmapping<'r> {
    name: &'r str,
    device: usize,
    smmu: SmmuId,
    stream: StreamId,
    domain: &'r Domain<Harness>,
    page: usize,
    address: PhysAddr,
    write: DmaWrite,
}

/// A caller that attaches.
struct Attaching<'r> {
    name: &'r str,
    device: &'r Device<Harness>,
    to: Vec<Destination>,
}

/// The callers of a step, with everything that its names stand for.
fn callers<'r>(
    rig: &'r Rig<'_>,
    step: &'r ParallelStep,
) -> Result<(Vec<Unmapping<'r>>, Vec<Attaching<'r>>), Stop> {
    let unmapping = step.unmaps.get_ref().iter().map(|caller| {
        let name = caller.device.get_ref();
        let (index, device) = (rig.device_index(name)?, rig.device(name)?);
        Ok(Unmapping {
            name,
            device: index,
            smmu: device.smmu(),
            stream: device.streams().next().unwrap_or_default(),
            domain: rig.domain(caller.domain.get_ref())?,
            page: rig.pages.index(caller.page.get_ref()).unwrap_or_default(),
            address: rig.page(caller.page.get_ref())?,
            write: DmaWrite::of(&*rig.machine, index, *caller.iova.get_ref())?,
        })
    });
    let attaching = step.attaches.iter().map(|caller| {
        let name = caller.device.get_ref();
        let to = caller.to.get_ref().iter().map(|to| rig.target(to.get_ref()));
        Ok(Attaching { name, device: rig.device(name)?, to: to.collect::<Result<_, Stop>>()? })
    });
    Ok((unmapping.collect::<Result<_, Stop>>()?, attaching.collect::<Result<_, Stop>>()?))
}

impl Unmapping<'_> {
    fn run(&self, rig: &Rig<'_>, rounds: u32, together: &Together) -> Result<(), Stop> {
        let (iova, name) = (self.write.iova(), self.name);
        let extent = Extent::range(iova, PAGE, Granule::K4, Leaf::Last).with_page_hint();
        for round in 1..=rounds {
            if !together.goes_on() {
                break;
            }
            let at = |what: &str| format!("{name}, round {round}: {what}");
            self.domain.tables().lock().map(iova, self.address, Permission::ReadWrite)?;
            let mapped = self.write(rig)?;
            if !matches!(&mapped, (Ended::CarriedOut, Reached::Page(_))) {
                let expected = at("the write to the mapped page lands there");
                return Err(Stop::unmet(expected, said(&mapped)));
            }
            self.domain.tables().lock().unmap(iova)?;
            self.domain.invalidate(extent).map_err(|error| error.first)?;
            let unmapped = self.write(rig)?;
            if unmapped != (Ended::Refused, Reached::Nothing) {
                let expected = at("the SMMU refuses the write after the unmap");
                return Err(Stop::unmet(expected, said(&unmapped)));
            }
            self.hear(rig, together, round)?;
        }
        Ok(())
    }

    /// Waits for the event of the refused write. So an event queue never has more records than
    /// there are callers.
    fn hear(&self, rig: &Rig<'_>, together: &Together, round: u32) -> Result<(), Stop> {
        let heard = poll(&rig.machine.clock(), EVENT_LIMIT, || match together.hear(rig) {
            Ok(()) => (self.events(together) >= round).then_some(Ok(())),
            Err(stop) => Some(Err(stop)),
        });
        heard.unwrap_or_else(|_| self.heard(together, round))
    }

    /// How many of its refused writes the SMMU has told of.
    fn events(&self, together: &Together) -> u32 {
        let key = (self.smmu.0, self.stream, self.write.iova());
        together.events.lock().refused.get(&key).copied().unwrap_or_default()
    }

    fn write(&self, rig: &Rig<'_>) -> Result<(Ended, Reached), BackendError> {
        rig.pages.expect_in(self.page, &self.write);
        let ended = carry_out(&*rig.machine, self.device, &self.write)?;
        Ok((ended, rig.pages.reached_in(self.page, &self.write)))
    }

    /// The SMMU has told of each refused write.
    fn heard(&self, together: &Together, rounds: u32) -> Result<(), Stop> {
        let heard = self.events(together);
        if heard == rounds {
            return Ok(());
        }
        let expected = format!("one F_TRANSLATION for each of {rounds} refused writes");
        Err(Stop::unmet(expected, format!("{}: {heard} of them", self.name)))
    }
}

impl Attaching<'_> {
    fn run(&self, together: &Together) -> Result<(), Stop> {
        loop {
            for to in &self.to {
                to.attach(self.device, None)?.settled().map_err(|error| {
                    Stop::failed(format!("{}: an attach is not settled: {error}", self.name))
                })?;
            }
            if together.unmapping.load(Ordering::Relaxed) == 0 || !together.goes_on() {
                return Ok(());
            }
        }
    }
}

/// What a write did, in words.
fn said((ended, reached): &(Ended, Reached)) -> String {
    match (ended, reached) {
        (_, Reached::Page(name)) => format!("it reached page {name}"),
        (_, Reached::Damage(what)) => what.clone(),
        (Ended::CarriedOut, Reached::Nothing) => "it reached no page".to_owned(),
        (Ended::Refused, Reached::Nothing) => "the SMMU refused it".to_owned(),
        (Ended::Stalled, Reached::Nothing) => "it stalls".to_owned(),
    }
}
