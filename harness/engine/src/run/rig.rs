//! A driver, composed from the crates of the workspace over one machine.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smmu_driver::smmu_attach::{AttachError, Committed, Device, Domain, Env, Smmu, SmmuConfig};
use smmu_driver::smmu_cmdq::QueueError;
use smmu_driver::smmu_hw_mmio::{BringupError, EventQueue, Probe, ProbeError};
use smmu_driver::smmu_invs::InvKind;
use smmu_driver::smmu_types::pool::{Pool, PoolBlock};
use smmu_driver::smmu_types::seam::{DmaError, SinkError, TimedOut};
use smmu_driver::smmu_types::{DomainId, EventRecord, Irq, PhysAddr, RawCommand, SmmuId};

use super::destination::Destination as To;
use super::options::RunOptions as Options;
use super::pages::{Pages, Reached};
use super::platform::{Dma, Harness, Names, Sink};
use super::queues::{Group, Queues};
use super::setup::{Part, bring_up, make_queues, queue_config};
use super::stop::Stop;
use super::tap::Tap;
use crate::alloc_fault::Armed;
use crate::machine::{
    Backend, BackendError, DmaWriteOutcome as DmaOutcome, Machine, MachineSmmu, MachineSpec, Ram,
};
use crate::page_tables::{PAGE, PageTables, TableError};
use crate::scenario::{Scenario, SmmuSpec};
use crate::transcript::{LineKind as Kind, Recorder};

/// A driver could not be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RigError {
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The SMMU is not one that the driver can use.
    #[error("{0}: {1}")]
    Probe(String, ProbeError),
    /// The second command queue of an SMMU does not start.
    #[error("{0}: its second command queue is enabled and does not say so: {1}")]
    SecondQueue(String, TimedOut),
    /// The SMMU did not come up.
    #[error("{0}: {1}")]
    Bringup(String, BringupError),
    /// A command queue could not be made.
    #[error("{0}: {1}")]
    Queue(String, QueueError),
    /// An event queue could not be made or read.
    #[error("{0}: {1}")]
    Events(String, smmu_driver::smmu_hw_mmio::EventQueueError),
    /// A command failed.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// Attach refused.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// No memory.
    #[error(transparent)]
    Dma(#[from] DmaError),
    /// No memory for page tables.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// The event queue of one SMMU.
pub(super) type Events = EventQueue<Tap, PoolBlock<Ram>>;

/// A driver and the machine under it.
pub(crate) struct Rig {
    pub(crate) recorder: Recorder,
    pub(crate) observer: Names,
    pub(crate) sink: Sink,
    devices: BTreeMap<String, (usize, Device<Harness>)>,
    domains: BTreeMap<String, Arc<Domain<Harness>>>,
    tables: BTreeMap<String, PageTables<Dma>>,
    pub(super) raw_cds: BTreeMap<String, PoolBlock<Ram>>,
    smmus: Vec<Arc<Smmu<Harness>>>,
    /// Of the main queue of each SMMU, and of its second one.
    taps: Vec<(Tap, Option<Tap>)>,
    timeouts: Vec<Duration>,
    events: Vec<Events>,
    pages: Arc<Pages>,
    pub(super) dma: Dma,
    pub(super) ram: Ram,
    pub(crate) machine: Arc<dyn Machine>,
}

impl Rig {
    /// Bring the SMMUs up and make the scenario's devices, domains and pages.
    pub(crate) fn new(
        scenario: &Scenario,
        machine: Arc<dyn Machine>,
        recorder: Recorder,
        options: Options,
    ) -> Result<Self, Stop> {
        let file = &scenario.file;
        let ram = machine.ram();
        let dma = Dma(Pool::new(ram.clone()));

        let mut parts = Vec::new();
        for (n, spec) in file.smmus.iter().enumerate() {
            let name = spec.name.get_ref().clone();
            let tap = Tap::new(machine.registers(n)?, ram.clone(), recorder.clone(), &name);
            let probed = smmu_driver::smmu_hw_mmio::probe(&tap)
                .map_err(|e| RigError::Probe(name.clone(), e))?;
            let caps = probed.caps;
            let smmu = Smmu::new(SmmuId(n as u16), caps, SmmuConfig::default(), &dma)?;
            let (smmu, clock) = (Arc::new(smmu), machine.clock());
            let entries = spec.queue_entries.as_ref().map(|entries| *entries.get_ref());
            let queue_log2 = entries.map(|entries| entries.max(1).ilog2() as u8);
            let config = queue_config(spec, &probed);
            let second = match &spec.second_queue {
                None => None,
                Some(kind) => {
                    let (registers, name) = (machine.second_queue(n)?, format!("{name}/second"));
                    let tap = Tap::on_second(registers, ram.clone(), recorder.clone(), &name);
                    Some((tap, *kind.get_ref()))
                }
            };
            parts.push(Part { name, tap, caps, smmu, clock, queue_log2, config, second });
        }
        if scenario.checks_commands()
            && let Some(insight) = machine.insight()
        {
            for (n, part) in parts.iter().enumerate() {
                part.tap.keep();
                part.second.iter().for_each(|(tap, _)| tap.keep());
                insight.listen(n);
            }
        }
        let groups: Vec<Group> =
            parts.iter().map(|part| make_queues(part, &dma)).collect::<Result<_, _>>()?;
        let queues =
            Queues::new(groups).map_err(|error| RigError::Queue("the queues".into(), error))?;
        let sink = Sink::new(queues, options.sabotage);
        let events = parts
            .iter()
            .map(|part| bring_up(part, &sink, &dma))
            .collect::<Result<Vec<Events>, RigError>>()?;

        let (mut domains, mut tables, mut names) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for spec in &file.domains {
            for name in spec.names() {
                let table = PageTables::new(spec.stage, dma.clone())?;
                let domain = Domain::new(DomainId(names.len() as u32), &table)?;
                domains.insert(name.clone(), Arc::new(domain));
                tables.insert(name.clone(), table);
                names.push(name);
            }
        }
        let observer = Names {
            recorder: recorder.clone(),
            smmus: parts.iter().map(|part| part.name.clone()).collect(),
            domains: names,
            freed: Mutex::default(),
        };
        let second_tap = |part: &Part| part.second.as_ref().map(|(tap, _)| tap.clone());
        let taps = parts.iter().map(|part| (part.tap.clone(), second_tap(part))).collect();
        let smmus: Vec<_> = parts.into_iter().map(|part| part.smmu).collect();
        let pages = Pages::new(file.pages.iter().map(|name| name.get_ref().as_str()), &dma)?;
        let mut rig = Rig {
            recorder,
            observer,
            sink,
            devices: BTreeMap::new(),
            domains,
            tables,
            raw_cds: BTreeMap::new(),
            smmus,
            taps,
            timeouts: file.smmus.iter().map(SmmuSpec::timeout).collect(),
            events,
            pages: Arc::new(pages),
            dma,
            ram,
            machine,
        };
        rig.add_devices(scenario)?;
        rig.drain_events()?;
        Ok(rig)
    }

    fn add_devices(&mut self, scenario: &Scenario) -> Result<(), Stop> {
        // Machines number devices in the order of the file.
        for spec in &scenario.file.devices {
            let smmu = Arc::clone(self.smmu(self.smmu_index(spec.smmu.get_ref())?)?);
            for (name, stream) in spec.each() {
                let env = Env { dma: &self.dma, sink: &self.sink, observer: &self.observer };
                let device = Smmu::add_device(&smmu, &[stream], &env)?;
                self.devices.insert(name, (self.devices.len(), device));
            }
        }
        Ok(())
    }

    pub(crate) fn smmu_index(&self, name: &str) -> Result<usize, Stop> {
        let found = self.observer.smmus.iter().position(|known| known == name);
        found.ok_or_else(|| missing("SMMU", name))
    }

    pub(crate) fn smmu_name(&self, index: usize) -> &str {
        self.observer.smmus.get(index).map_or("?", String::as_str)
    }

    pub(crate) fn smmu(&self, index: usize) -> Result<&Arc<Smmu<Harness>>, Stop> {
        self.smmus.get(index).ok_or_else(|| missing("SMMU", index))
    }

    /// How long the driver waits for an SMMU's command queue.
    pub(crate) fn timeout(&self, name: &str) -> Result<Duration, Stop> {
        let index = self.smmu_index(name)?;
        self.timeouts.get(index).copied().ok_or_else(|| missing("SMMU", index))
    }

    /// How often the consumer of an SMMU's command queue was read since the last call.
    pub(crate) fn take_consumer_reads(&self, smmu: usize) -> u64 {
        self.taps.get(smmu).map_or(0, |(tap, _)| tap.take_reads())
    }

    /// The commands that an SMMU was shown since the last call in its main queue, and in its second one if it has one;
    /// where they are kept.
    pub(crate) fn take_shown(&self, smmu: usize) -> (Vec<RawCommand>, Option<Vec<RawCommand>>) {
        let Some((main, second)) = self.taps.get(smmu) else { return Default::default() };
        (main.take_shown(), second.as_ref().map(Tap::take_shown))
    }

    pub(crate) fn device(&self, name: &str) -> Result<&Device<Harness>, Stop> {
        let found = self.devices.get(name).map(|(_, device)| device);
        found.ok_or_else(|| missing("device", name))
    }

    fn device_index(&self, name: &str) -> Result<usize, Stop> {
        let found = self.devices.get(name).map(|(index, _)| *index);
        found.ok_or_else(|| missing("device", name))
    }

    pub(crate) fn domain(&self, name: &str) -> Result<&Arc<Domain<Harness>>, Stop> {
        let found = self.domains.get(name);
        found.ok_or_else(|| missing("domain", name))
    }

    pub(crate) fn tables(&mut self, name: &str) -> Result<&mut PageTables<Dma>, Stop> {
        let found = self.tables.get_mut(name);
        found.ok_or_else(|| missing("domain", name))
    }

    pub(crate) fn page(&self, name: &str) -> Result<PhysAddr, Stop> {
        let found = self.pages.address(name);
        found.ok_or_else(|| missing("page", name))
    }

    /// A text in which the addresses of pages and root tables are replaced by their names.
    pub(crate) fn named(&self, text: &str) -> String {
        let pages = self.pages.all().map(|(name, at)| (at, format!("page {name}")));
        let roots = self.domains.iter().map(|(name, d)| (d.table().root, format!("{name}'s root")));
        pages
            .chain(roots)
            .fold(text.to_owned(), |text, (at, name)| text.replace(&at.to_string(), &name))
    }

    fn target(&self, name: &str) -> Result<To, Stop> {
        Ok(match name {
            "bypass" => To::Bypass,
            "blocked" => To::Blocked,
            _ => To::Domain(Arc::clone(self.domain(name)?)),
        })
    }

    /// Attach a device, from the first step to the last.
    pub(crate) fn attach(
        &mut self,
        device: &str,
        to: &str,
    ) -> Result<Result<Committed, AttachError>, Stop> {
        let target = self.target(to)?;
        let env = Env { dma: &self.dma, sink: &self.sink, observer: &self.observer };
        let (_, device) = self.devices.get_mut(device).ok_or_else(|| missing("device", device))?;
        let prepared = device.prepare(target.target(), &env);
        Ok(prepared.map(|prepared| prepared.publish().install().commit()))
    }

    /// Prepare an attach while the `n`-th allocation fails, and drop it. Says whether the failure
    /// happened, and what the prepare said.
    pub(crate) fn prepare_failing(
        &mut self,
        device: &str,
        to: &str,
        n: u64,
    ) -> Result<(bool, Option<AttachError>), Stop> {
        let target = self.target(to)?;
        let env = Env { dma: &self.dma, sink: &self.sink, observer: &self.observer };
        let (_, device) = self.devices.get_mut(device).ok_or_else(|| missing("device", device))?;
        let armed = Armed::nth(n);
        let prepared = device.prepare(target.target(), &env);
        let fired = armed.fired();
        drop(armed);
        Ok((fired, prepared.map(drop).err()))
    }

    /// Run something while `device` writes to `iova` after every completed sync.
    pub(crate) fn watched<T>(
        &mut self,
        device: &str,
        iova: u64,
        run: impl FnOnce(&mut Self) -> Result<T, Stop>,
    ) -> Result<(T, Vec<Reached>), Stop> {
        let index = self.device_index(device)?;
        let seen: Arc<Mutex<Vec<Reached>>> = Arc::default();
        let (machine, pages) = (Arc::clone(&self.machine), Arc::clone(&self.pages));
        let log = Arc::clone(&seen);
        self.sink.set_watch(Some(Arc::new(move || {
            let reached = write_and_look(&*machine, &pages, index, iova)
                .map_or_else(|error| Reached::Damage(error.to_string()), |(_, reached)| reached);
            log.lock().unwrap_or_else(PoisonError::into_inner).push(reached);
        })));
        let result = run(self);
        self.sink.set_watch(None);
        let result = result?;
        self.drain_events()?;
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok((result, seen))
    }

    /// Let a device write, and say what it reached.
    pub(crate) fn dma(&self, device: &str, iova: u64) -> Result<(DmaOutcome, Reached), Stop> {
        let index = self.device_index(device)?;
        Ok(write_and_look(&*self.machine, &self.pages, index, iova)?)
    }

    /// Take all event records, with the index of their SMMU.
    pub(crate) fn drain_events(&mut self) -> Result<Vec<(usize, EventRecord)>, Stop> {
        let mut all = Vec::new();
        for (n, queue) in self.events.iter_mut().enumerate() {
            let name = self.observer.smmus.get(n).map_or("?", String::as_str);
            let recorder = &self.recorder;
            let drained = queue
                .drain(|event| {
                    recorder.raw(Kind::Event, name, &event.0, || event.to_string());
                    all.push((n, event));
                })
                .map_err(|error| RigError::Events(name.to_owned(), error))?;
            if drained.overflowed {
                return Err(Stop::Failed(format!("{name}: the event queue overflowed")));
            }
        }
        Ok(all)
    }

    /// Record which interrupts came. A backend may raise one for each event or one for all, so each is
    /// recorded once.
    pub(crate) fn interrupts(&self) {
        let mut irqs: Vec<(usize, Irq)> = self.machine.take_interrupts();
        irqs.sort_unstable();
        irqs.dedup();
        for (smmu, irq) in irqs {
            self.recorder.about(Kind::Interrupt, self.smmu_name(smmu), || irq.to_string());
        }
    }

    /// Record the arrays of all domains that have entries.
    pub(crate) fn record_arrays(&self) {
        for (name, domain) in &self.domains {
            for view in domain.array().iter() {
                let smmu = self.smmu_name(usize::from(view.spec.key.smmu.0));
                self.recorder.note(Kind::Array, || {
                    let kind = match view.spec.key.kind {
                        InvKind::S1Asid => "S1_ASID",
                        InvKind::S2Vmid => "S2_VMID",
                        _ => "other",
                    };
                    let (id, users, state) = (view.spec.key.id, view.users, view.state);
                    format!("{name}: {smmu} {kind} {id} users={users} {state:?}")
                });
            }
        }
    }

    pub(crate) fn users(&self, domain: &Domain<Harness>, smmu: SmmuId) -> u32 {
        let array = domain.array();
        [InvKind::S1Asid, InvKind::S2Vmid]
            .into_iter()
            .find_map(|kind| array.find(smmu, kind))
            .map_or(0, |found| found.users)
    }

    /// Everything that a prepare must leave alone.
    pub(crate) fn fingerprint(&self, device: &str) -> Result<Fingerprint, Stop> {
        let mut facts = Vec::new();
        for smmu in &self.smmus {
            let id = smmu.id();
            facts.push((format!("the ASIDs of {id}"), format!("{:?}", smmu.asids().stats())));
            facts.push((format!("the VMIDs of {id}"), format!("{:?}", smmu.vmids().stats())));
        }
        for (name, domain) in &self.domains {
            facts.push((format!("the array of {name}"), domain.array().to_string()));
        }
        let device = self.device(device)?;
        facts.push(("the device's STE".into(), format!("{:?}", device.read_ste())));
        facts.push(("the device's CD".into(), format!("{:?}", device.read_cd())));
        facts.push(("the attachment".into(), format!("{:?}", device.attachment())));
        facts.push(("free DMA memory".into(), self.dma.0.free_bytes().to_string()));
        Ok(Fingerprint(facts))
    }
}

fn missing(kind: &str, name: impl fmt::Display) -> Stop {
    Stop::Failed(format!("there is no {kind} {name}"))
}

/// Let a device write to pages that have their own content, and say what it reached.
fn write_and_look(
    machine: &dyn Machine,
    pages: &Pages,
    device: usize,
    iova: u64,
) -> Result<(DmaOutcome, Reached), BackendError> {
    pages.restore();
    let outcome = machine.dma_write(device, iova)?;
    Ok((outcome, pages.reached(iova % PAGE)))
}

/// Facts that must be the same before and after.
pub(crate) struct Fingerprint(Vec<(String, String)>);

impl Fingerprint {
    /// The first fact that differs: what, what it was, what it is.
    pub(crate) fn difference(&self, after: &Fingerprint) -> Option<(String, String, String)> {
        let pairs = self.0.iter().zip(&after.0);
        let mut changed = pairs.filter(|((_, was), (_, is))| was != is);
        changed.next().map(|((what, was), (_, is))| (what.clone(), was.clone(), is.clone()))
    }
}

/// What a backend's SMMU says of itself.
///
/// # Errors
///
/// The backend is not there, or its SMMU is none.
pub fn probe(backend: &dyn Backend) -> Result<Probe, RigError> {
    let spec = MachineSpec { smmus: vec![MachineSmmu::default()], ..MachineSpec::default() };
    let machine = backend.start(&spec)?;
    let registers = machine.registers(0)?;
    let probed = smmu_driver::smmu_hw_mmio::probe(&registers);
    machine.check()?;
    probed.map_err(|error| RigError::Probe("the SMMU".into(), error))
}

#[cfg(test)]
mod tests;
