//! Lets a new driver take over the SMMUs of the one before.

use smmu_driver::smmu_attach::adopt::{Keep, LiveStream};
use smmu_driver::smmu_types::{SmmuId, StreamId};
use smmu_driver::{AdoptPlan, DrivenSmmu, Driver, DriverError, NotAdopted, OnDoubt, Origin};

use crate::prelude::*;
use crate::run::pages::Reached;
use crate::run::platform::{Harness, Sink};
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::settle::{settled, unconfirmed};
use crate::run::setup::compose;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::{AdoptDoubt, AdoptStep};
use crate::transcript::LineKind;

impl StepAction for AdoptStep {
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let mut kept: Vec<(SmmuId, StreamId)> = Vec::new();
        for name in &self.keep {
            let device = rig.device(name.get_ref())?;
            kept.extend(device.streams().map(|stream| (device.smmu(), stream)));
        }
        let mut keep = |smmu, live: &LiveStream<'_>| {
            if kept.contains(&(smmu, live.stream)) { Keep::Running } else { Keep::Abort }
        };
        let (setup, taps) =
            compose(rig.scenario, &rig.machine, &rig.recorder, rig.driver.dma().clone())?;
        let memory = rig.driver.dma().clone();
        let policy = if self.reset.is_some() { OnDoubt::Reset } else { OnDoubt::Refuse };
        let plan = AdoptPlan::new(&memory, &mut keep).on_doubt(policy);
        let (look, seen) = match &self.watch {
            Some(watch) => {
                let look = rig.look(watch.device.get_ref(), *watch.iova.get_ref())?;
                (Some(look.0), Some(look.1))
            }
            None => (None, None),
        };
        let sabotage = rig.options.sabotage;
        let adopted = setup.adopt_through(plan, |queues| {
            let sink = Sink::new(queues, sabotage);
            sink.set_watch(look);
            sink
        });
        match (adopted, &self.refused) {
            (Ok(driver), None) => {
                driver.sink().set_watch(None);
                rig.change_hands(driver, taps)?;
                self.check_origins(rig)?;
                if let (Some(seen), Some(watch)) = (seen, &self.watch) {
                    let (seen, page) = (seen.lock(), watch.reaches.get_ref());
                    check_watch(&seen, page)?;
                    rig.recorder.note(LineKind::Check, || {
                        let device = watch.device.get_ref();
                        format!("after each of {} syncs {device} reached page {page}", seen.len())
                    });
                }
                settled(rig)
            }
            (Ok(driver), Some(want)) => {
                // Its shutdown would hide what it did.
                drop::<Driver<Harness>>(driver);
                let expected = format!("refused because of the {}", want.get_ref().text());
                Err(Stop::unmet(expected, "the new driver took the SMMUs over"))
            }
            (Err(DriverError::NotAdopted { smmu, error }), Some(want))
                if doubt(&error) == Some(*want.get_ref()) =>
            {
                let name = rig.smmu_name(usize::from(smmu.0)).to_owned();
                rig.recorder.about(LineKind::Error, &name, || error.to_string());
                rig.recorder.note(LineKind::Check, || "refused; the old driver goes on".into());
                unconfirmed(rig)
            }
            (Err(error), Some(want)) => {
                let expected = format!("refused because of the {}", want.get_ref().text());
                Err(Stop::unmet(expected, format!("it failed otherwise: {error}")))
            }
            (Err(error), None) => Err(error.into()),
        }
    }
}

impl AdoptStep {
    /// Each SMMU came to the new driver as the step says.
    fn check_origins(&self, rig: &Rig) -> Result<(), Stop> {
        let mut reset = false;
        for (n, smmu) in rig.driver.smmus().iter().map(DrivenSmmu::origin).enumerate() {
            let name = rig.smmu_name(n);
            match (smmu, &self.reset) {
                (Origin::Adopted { kept, commands }, _) => {
                    rig.recorder.about(LineKind::Check, name, || {
                        let plural = if kept == 1 { "" } else { "s" };
                        let cut_off = commands.cut_off;
                        format!(
                            "taken over: {kept} stream{plural} kept, {cut_off} commands cut off"
                        )
                    });
                }
                (Origin::Reset(error), Some(want)) if doubt(&error) == Some(*want.get_ref()) => {
                    reset = true;
                    rig.recorder.about(LineKind::Error, name, || error.to_string());
                    rig.recorder.about(LineKind::Check, name, || "reset".into());
                }
                (Origin::Reset(error), _) => {
                    return Err(Stop::failed(format!("{name} was reset: {error}")));
                }
                (other, _) => {
                    return Err(Stop::failed(format!("{name} did not run: {other:?}")));
                }
            }
        }
        match &self.reset {
            Some(want) if !reset => {
                let expected = format!("a reset because of the {}", want.get_ref().text());
                Err(Stop::unmet(expected, "every SMMU was taken over"))
            }
            _ => Ok(()),
        }
    }
}

/// What an error is about, if a step can name it.
const fn doubt(error: &NotAdopted) -> Option<AdoptDoubt> {
    match error {
        NotAdopted::Registers(_) => Some(AdoptDoubt::Registers),
        NotAdopted::Tables(_) => Some(AdoptDoubt::Tables),
        _ => None,
    }
}

/// Each write on the way has reached the page.
fn check_watch(seen: &[Reached], page: &str) -> Result<(), Stop> {
    let want = Reached::Page(page.to_owned());
    if seen.is_empty() {
        return Err(Stop::failed("the new driver sent no CMD_SYNC"));
    }
    match seen.iter().find(|reached| **reached != want) {
        None => Ok(()),
        Some(other) => {
            let expected = format!("each write on the way reaches page {page}");
            Err(Stop::unmet(expected, format!("one reached {other:?}")))
        }
    }
}
