//! A driver, composed from the crates of the workspace over one machine.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use slab::Slab;
use smmu_driver::smmu_attach::{AttachError, Attachment, DeferredUnmaps, Group, Outcome};
use smmu_driver::smmu_invs::{InvKey, InvKind};
use smmu_driver::smmu_tags::TagStats;
use smmu_driver::smmu_types::seam::{RegistersExt, poll};
use smmu_driver::smmu_types::{
    CacheTag, EventRecord, Irq, PhysAddr, PriRecord, RawCommand, SmmuId, StreamId, SubstreamId,
    regs,
};
use smmu_driver::{Attach, Device, Domain, DrivenSmmu, Driver, Smmu, Stalled};

use super::destination::Destination;
use super::device_write::{Ended, Seen, write_and_look};
use super::domains::{DomainNeeds, domains_by, own_memory};
#[cfg(feature = "guest")]
use super::guests::{Guest, GuestTable};
use super::held_fault::{HeldFault, Listener};
use super::options::RunOptions;
use super::pages::{DmaWrite, Pages, Reached};
use super::platform::{Block, Dma, Harness, Names, Sink};
use super::reserved::Early;
use super::smmu_taps::SmmuTaps;
use super::stop::Stop;
use super::tap::{Tap, Watch};
use crate::alloc_fault::Armed;
use crate::lock::MutexGuard;
#[cfg(feature = "record")]
use crate::machine::HazardPlace;
use crate::machine::{DmaReadOutcome, DmaSource, HazardReport, Machine, Ram};
use crate::page_tables::PageTables;
use crate::prelude::*;
use crate::row::{Detail, Facts};
use crate::scenario::{DmaDirection, Scenario, SmmuSpec, SpannedName};
use crate::transcript::{LineKind, Recorder};

/// More unmaps than this wait for no flush.
const MOST_DEFERRED: usize = 64;

/// A driver and the machine under it.
pub(crate) struct Rig<'d> {
    pub(crate) recorder: Recorder,
    pub(super) scenario: &'d Scenario,
    pub(super) options: RunOptions,
    pub(crate) driver: Arc<Driver<Harness>>,
    // A device's key is the machine's number of it: both count in the order of the file.
    devices: Slab<Device<Harness>>,
    device_keys: BTreeMap<String, usize>,
    // The machine's numbers of further streams.
    further_streams: BTreeMap<(String, StreamId), usize>,
    domains: BTreeMap<String, Domain<Harness>>,
    // Before the devices and domains that they use.
    #[cfg(feature = "guest")]
    pub(super) guests: BTreeMap<String, Guest>,
    #[cfg(feature = "guest")]
    pub(super) guest_tables: BTreeMap<String, GuestTable>,
    // Unmaps that wait for a flush. They flush when they are dropped, before the driver ends.
    deferred: BTreeMap<String, DeferredUnmaps<Attach<Harness>, String>>,
    // Faults that wait for a step, oldest first.
    faults: Vec<(SmmuId, HeldFault)>,
    // Writes that stall, oldest first, each with the name of its device.
    stalled: Vec<(String, DmaWrite)>,
    pub(super) raw_cds: BTreeMap<String, Block>,
    // Devices whose STE a step has written past the driver, or whose last change an SMMU has not
    // confirmed. An attach ends it.
    pub(super) past_driver: BTreeSet<String>,
    taps: Vec<SmmuTaps>,
    timeouts: Vec<Duration>,
    /// The line at which the last step began that was no `expect`.
    pub(crate) step_began: usize,
    pub(super) pages: Arc<Pages>,
    pub(super) ram: Ram,
    // How many events alike can be. One, where a device may record several for one write.
    most_alike: usize,
    pub(crate) machine: Arc<dyn Machine>,
}

/// What the event queues of all SMMUs held.
#[derive(Debug, Default)]
pub(crate) struct TakenEvents {
    /// The records, each with the index of its SMMU.
    pub(crate) events: Vec<(usize, EventRecord)>,
    /// The indices of the SMMUs whose event queue overflowed.
    pub(crate) overflowed: Vec<usize>,
    /// Events that the driver counted and did not report.
    pub(crate) left_out: u32,
}

impl<'d> Rig<'d> {
    /// Makes the scenario's devices, domains and pages, on SMMUs that run.
    pub(crate) fn new(
        scenario: &'d Scenario,
        machine: Arc<dyn Machine>,
        recorder: Recorder,
        options: RunOptions,
        driver: Arc<Driver<Harness>>,
        taps: Vec<SmmuTaps>,
        early: Early,
    ) -> Result<Self, Stop> {
        let file = &scenario.file;
        early.check(&recorder, &taps)?;
        let Early { pages, domains, devices, .. } = early;
        let domains = match domains {
            Some(domains) => domains,
            None => domains_of(scenario, &*machine, &driver)?,
        };
        let mut rig = Rig {
            recorder,
            scenario,
            options,
            driver,
            devices: Slab::new(),
            device_keys: BTreeMap::new(),
            further_streams: BTreeMap::new(),
            domains,
            #[cfg(feature = "guest")]
            guests: BTreeMap::new(),
            #[cfg(feature = "guest")]
            guest_tables: BTreeMap::new(),
            deferred: BTreeMap::new(),
            faults: Vec::new(),
            stalled: Vec::new(),
            raw_cds: BTreeMap::new(),
            past_driver: BTreeSet::new(),
            taps,
            step_began: 0,
            timeouts: file.smmus.iter().map(SmmuSpec::timeout).collect(),
            pages,
            ram: machine.ram(),
            most_alike: match own_memory(scenario, &*machine).as_slice() {
                [] => usize::MAX,
                _ => 1,
            },
            machine,
        };
        rig.add_devices(devices)?;
        rig.drain_events()?;
        Ok(rig)
    }

    /// Goes on with another driver, which has taken the SMMUs over. The old one, its devices, domains
    /// and faults vanish without a word. The names of the file stand for devices and domains of the
    /// new one.
    pub(super) fn change_hands(
        &mut self,
        driver: Driver<Harness>,
        taps: Vec<SmmuTaps>,
    ) -> Result<(), Stop> {
        let driver = Arc::new(driver);
        let domains = domains_of(self.scenario, &*self.machine, &driver)?;
        let domains = core::mem::replace(&mut self.domains, domains);
        let devices = core::mem::take(&mut self.devices);
        let faults = core::mem::take(&mut self.faults);
        let deferred = core::mem::take(&mut self.deferred);
        let contexts = core::mem::take(&mut self.raw_cds);
        // Dropping any of them would send a command or free memory that a kept stream uses.
        core::mem::forget((domains, devices, faults, deferred, contexts));
        #[cfg(feature = "guest")]
        core::mem::forget((
            core::mem::take(&mut self.guests),
            core::mem::take(&mut self.guest_tables),
        ));
        self.device_keys.clear();
        self.further_streams.clear();
        self.driver = driver;
        self.taps = taps;
        self.add_devices(BTreeMap::new())
    }

    /// Adds the devices of the file, except those that are there already.
    fn add_devices(&mut self, mut early: BTreeMap<String, Device<Harness>>) -> Result<(), Stop> {
        let scenario = self.scenario;
        for spec in &scenario.file.devices {
            let smmu = SmmuId(self.smmu_index(spec.smmu.get_ref())? as u16);
            for (name, stream) in spec.each() {
                let streams: Vec<_> = core::iter::once(stream).chain(spec.further()).collect();
                let config = spec.config();
                let device = match early.remove(&name) {
                    Some(device) => device,
                    None => self.driver.add_device_with(smmu, &streams, config)?,
                };
                self.device_keys.insert(name, self.devices.insert(device));
            }
        }
        // The machine has a device of its own for each further stream, after all first ones.
        let mut index = self.devices.len();
        for spec in &scenario.file.devices {
            for stream in spec.further() {
                self.further_streams.insert((spec.name.get_ref().clone(), stream), index);
                index += 1;
            }
        }
        Ok(())
    }

    /// The command sink of the driver.
    pub(crate) fn sink(&self) -> &Sink {
        self.driver.sink()
    }

    /// What hears of tags and entries.
    pub(crate) fn observer(&self) -> &Names {
        self.driver.observer()
    }

    pub(crate) fn smmu_index(&self, name: &str) -> Result<usize, Stop> {
        let found = self.observer().smmus.iter().position(|known| known == name);
        found.ok_or_else(|| missing("SMMU", name))
    }

    pub(crate) fn smmu_name(&self, index: usize) -> &str {
        self.observer().smmus.get(index).map_or("?", String::as_str)
    }

    pub(crate) fn smmu(&self, index: usize) -> Result<&Smmu<Harness>, Stop> {
        let found = self.driver.smmus().get(index).map(DrivenSmmu::attach);
        found.ok_or_else(|| missing("SMMU", index))
    }

    /// The registers of an SMMU, as the driver reaches them.
    pub(crate) fn registers(&self, index: usize) -> Result<&Tap, Stop> {
        let found = self.driver.smmus().get(index).map(DrivenSmmu::registers);
        found.ok_or_else(|| missing("SMMU", index))
    }

    /// How long the driver waits for an SMMU's command queue.
    pub(crate) fn timeout(&self, name: &str) -> Result<Duration, Stop> {
        let index = self.smmu_index(name)?;
        self.timeouts.get(index).copied().ok_or_else(|| missing("SMMU", index))
    }

    /// How often the consumer of an SMMU's command queue was read since the last call.
    pub(crate) fn take_consumer_reads(&self, smmu: usize) -> u64 {
        self.taps.get(smmu).map_or(0, |taps| taps.main.take_reads())
    }

    /// The commands that an SMMU was shown since the last call in its main queue, and in its second
    /// queue if it has one. Empty if the run does not keep them.
    pub(crate) fn take_shown(&self, smmu: usize) -> (Vec<RawCommand>, Option<Vec<RawCommand>>) {
        let Some(SmmuTaps { main, second, .. }) = self.taps.get(smmu) else {
            return Default::default();
        };
        (main.take_shown(), second.as_ref().map(Tap::take_shown))
    }

    pub(crate) fn device(&self, name: &str) -> Result<&Device<Harness>, Stop> {
        let found = self.devices.get(self.device_index(name)?);
        found.ok_or_else(|| missing("device", name))
    }

    /// Every device of the driver, with its name.
    pub(super) fn each_device(&self) -> impl Iterator<Item = (&str, &Device<Harness>)> {
        let named = self.device_keys.iter();
        named.filter_map(|(name, key)| Some((name.as_str(), self.devices.get(*key)?)))
    }

    pub(super) fn device_index(&self, name: &str) -> Result<usize, Stop> {
        let found = self.device_keys.get(name).copied();
        found.ok_or_else(|| missing("device", name))
    }

    pub(crate) fn domain(&self, name: &str) -> Result<&Domain<Harness>, Stop> {
        let found = self.domains.get(name);
        found.ok_or_else(|| missing("domain", name))
    }

    /// The unmaps of a domain that wait for a flush.
    pub(crate) fn deferred(
        &mut self,
        name: &str,
    ) -> Result<&mut DeferredUnmaps<Attach<Harness>, String>, Stop> {
        if !self.deferred.contains_key(name) {
            let unmaps = DeferredUnmaps::with_capacity(self.domain(name)?, MOST_DEFERRED)
                .map_err(|error| Stop::failed(error.to_string()))?;
            self.deferred.insert(name.to_owned(), unmaps);
        }
        self.deferred.get_mut(name).ok_or_else(|| missing("domain", name))
    }

    /// The name of the device with this StreamID.
    pub(crate) fn device_name(&self, smmu: SmmuId, stream: Option<StreamId>) -> Option<String> {
        let is_it = |key: usize| {
            let device = self.devices.get(key);
            device.is_some_and(|d| d.smmu() == smmu && d.streams().next() == stream)
        };
        self.device_keys.iter().find(|(_, key)| is_it(**key)).map(|(name, _)| name.clone())
    }

    #[cfg(feature = "guest")]
    pub(super) fn guest(&self, name: &str) -> Result<&Guest, Stop> {
        self.guests.get(name).ok_or_else(|| missing("guest", name))
    }

    #[cfg(feature = "guest")]
    pub(crate) fn guest_table(&mut self, name: &str) -> Result<&mut GuestTable, Stop> {
        self.guest_tables.get_mut(name).ok_or_else(|| missing("guest table", name))
    }

    pub(crate) fn tables(&self, name: &str) -> Result<MutexGuard<'_, PageTables<Dma>>, Stop> {
        Ok(self.domain(name)?.tables().lock())
    }

    pub(crate) fn page(&self, name: &str) -> Result<PhysAddr, Stop> {
        let found = self.pages.address(name);
        found.ok_or_else(|| missing("page", name))
    }

    /// What the name of a page or block stands for, in words.
    pub(crate) fn described(&self, name: &str) -> String {
        self.pages.described(name)
    }

    /// A text in which the addresses of pages and root tables are replaced by their names.
    pub(crate) fn named(&self, text: &str) -> String {
        let pages = self.pages.all().map(|(name, at)| (at, name));
        let roots =
            self.domains.iter().map(|(name, d)| (d.description().root, format!("{name}'s root")));
        pages
            .chain(roots)
            .fold(text.to_owned(), |text, (at, name)| text.replace(&at.to_string(), &name))
    }

    /// A text in which the driver's numbers of domains are replaced by their names.
    pub(crate) fn named_domains(&self, text: &str) -> String {
        let named = self.observer().domains.iter().enumerate().rev();
        named.fold(self.named(text), |text, (number, name)| {
            text.replace(&format!("domain{number}"), name)
        })
    }

    pub(super) fn target(&self, name: &str) -> Result<Destination, Stop> {
        Ok(match name {
            "bypass" => Destination::Bypass,
            "blocked" => Destination::Blocked,
            _ => Destination::Domain(self.domain(name)?.clone()),
        })
    }

    /// Attach a device or one of its substreams, from the first step to the last.
    pub(crate) fn attach(
        &mut self,
        device: &str,
        substream: Option<SubstreamId>,
        to: &str,
    ) -> Result<Result<Outcome, AttachError>, Stop> {
        let attached = self.target(to)?.attach(self.device(device)?, substream);
        self.writes_anew(&attached, &[device.to_owned()]);
        Ok(attached)
    }

    /// A confirmed attach has written the whole STE of each device.
    fn writes_anew(&mut self, attached: &Result<Outcome, AttachError>, devices: &[String]) {
        if matches!(attached, Ok(outcome) if !matches!(outcome, Outcome::Unconfirmed(_))) {
            self.past_driver.retain(|name| !devices.contains(name));
        }
    }

    /// Attach devices in one transaction, from the first step to the last.
    pub(crate) fn attach_group(
        &mut self,
        devices: &[SpannedName],
        substream: Option<SubstreamId>,
        to: &str,
    ) -> Result<Result<Outcome, AttachError>, Stop> {
        let names: Vec<String> = devices.iter().map(|name| name.get_ref().clone()).collect();
        let devices = devices.iter().map(|name| self.device(name.get_ref()).cloned());
        let devices: Vec<_> = devices.collect::<Result<_, Stop>>()?;
        let target = self.target(to)?;
        let attached =
            Group::new(&devices).and_then(|group| target.attach_group(&group, substream));
        self.writes_anew(&attached, &names);
        Ok(attached)
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
        let device = self.device(device)?;
        let armed = Armed::nth(n);
        let prepared = device.prepare(target.target());
        let fired = armed.fired();
        drop(armed);
        Ok((fired, prepared.map(drop).err()))
    }

    /// Run something while `device` writes to `iova` after every completed sync.
    pub(crate) fn watched<T>(
        &mut self,
        device: &str,
        source: DmaSource,
        iova: u64,
        run: impl FnOnce(&mut Self) -> Result<T, Stop>,
    ) -> Result<(T, Vec<Reached>), Stop> {
        let (look, seen) = self.look_from(device, source, iova)?;
        self.sink().set_watch(Some(look));
        let result = run(self);
        self.sink().set_watch(None);
        let result = result?;
        let seen = seen.lock().clone();
        // As many as there were writes.
        let refused = seen.iter().filter(|reached| **reached == Reached::Nothing).count();
        let most_alike = self.most_alike.max(refused);
        let most_alike = core::mem::replace(&mut self.most_alike, most_alike);
        let drained = self.drain_events();
        self.most_alike = most_alike;
        drained?;
        Ok((result, seen))
    }

    /// Something to call after each completed sync: `device` writes to `iova`. And where its writes
    /// arrived.
    pub(super) fn look(&self, device: &str, iova: u64) -> Result<(Arc<Watch>, Seen), Stop> {
        self.look_from(device, DmaSource::default(), iova)
    }

    fn look_from(
        &self,
        device: &str,
        source: DmaSource,
        iova: u64,
    ) -> Result<(Arc<Watch>, Seen), Stop> {
        let index = self.device_index(device)?;
        let seen = Seen::default();
        let (machine, pages) = (Arc::clone(&self.machine), Arc::clone(&self.pages));
        let write = DmaWrite::of(&*machine, index, iova)?.sent_as(source);
        let log = Arc::clone(&seen);
        let look = move || {
            let reached = write_and_look(&*machine, &pages, index, &write)
                .map_or_else(|error| Reached::Damage(error.to_string()), |(_, reached)| reached);
            // On the way the device may use what it has cached. The caller judges what it reaches.
            if source.translated
                && let Some(insight) = machine.insight()
            {
                let _expected = insight.take_hazards();
            }
            log.lock().push(reached);
        };
        Ok((Arc::new(look), seen))
    }

    /// Let a device write or read, and say what it reached.
    pub(crate) fn dma(
        &mut self,
        device: &str,
        stream: Option<StreamId>,
        source: DmaSource,
        iova: u64,
        direction: DmaDirection,
    ) -> Result<(Ended, Reached), Stop> {
        let further = stream.and_then(|s| self.further_streams.get(&(device.to_owned(), s)));
        let index = further.copied().map_or_else(|| self.device_index(device), Ok)?;
        match direction {
            DmaDirection::Write => {
                let write = DmaWrite::of(&*self.machine, index, iova)?.sent_as(source);
                let looked = write_and_look(&*self.machine, &self.pages, index, &write)?;
                if looked.0 == Ended::Stalled {
                    self.stalled.push((device.to_owned(), write));
                }
                Ok(looked)
            }
            DmaDirection::Read => {
                self.pages.mark_all(iova);
                let read = match source == DmaSource::default() {
                    true => self.machine.dma_read(index, iova)?,
                    false => self.machine.dma_read_from(index, source, iova)?,
                };
                Ok(match read {
                    DmaReadOutcome::Read(value) => {
                        (Ended::CarriedOut, self.pages.read(iova, Some(value)))
                    }
                    DmaReadOutcome::Refused => (Ended::Refused, self.pages.read(iova, None)),
                })
            }
        }
    }

    /// Take all event records, with the index of their SMMU.
    pub(crate) fn drain_events(&mut self) -> Result<Vec<(usize, EventRecord)>, Stop> {
        let taken = self.take_events()?;
        match taken.overflowed.first() {
            None => Ok(taken.events),
            Some(&n) => {
                let name = self.smmu_name(n);
                Err(Stop::failed(format!("{name}: the event queue overflowed")))
            }
        }
    }

    /// Take all event records, also where a queue overflowed. Keeps the faults that wait.
    pub(crate) fn take_events(&mut self) -> Result<TakenEvents, Stop> {
        let mut taken = TakenEvents::default();
        for n in 0..self.driver.smmus().len() {
            if self.driver.smmus().get(n).is_some_and(DrivenSmmu::is_asleep) {
                continue;
            }
            let smmu = SmmuId(n as u16);
            let mut listener = Listener::new(&self.recorder, self.smmu_name(n), smmu);
            listener.most_alike = self.most_alike;
            let found = self.driver.handle_events(smmu, &mut listener);
            let Listener { events, held, .. } = listener;
            taken.events.extend(events.into_iter().map(|event| (n, event)));
            self.faults.extend(held);
            let found = found?;
            taken.left_out += found.left_out;
            if found.overflowed {
                taken.overflowed.push(n);
            }
        }
        Ok(taken)
    }

    /// Take the page requests of an SMMU. Keeps the groups that wait.
    pub(crate) fn take_requests(&mut self, smmu: usize) -> Result<Vec<PriRecord>, Stop> {
        let id = SmmuId(smmu as u16);
        let mut listener = Listener::new(&self.recorder, self.smmu_name(smmu), id);
        let found = self.driver.handle_page_requests(id, &mut listener);
        let Listener { requests, held, .. } = listener;
        self.faults.extend(held);
        found?;
        Ok(requests)
    }

    /// Answer what a blocked device waits for, or one of its substreams. Says how many faults that
    /// were.
    pub(crate) fn withdraw(
        &mut self,
        device: &str,
        substream: Option<SubstreamId>,
    ) -> Result<u32, Stop> {
        let device = self.device(device)?.clone();
        let smmu = device.smmu();
        let name = self.smmu_name(usize::from(smmu.0));
        let mut listener = Listener::new(&self.recorder, name, smmu);
        let withdrawn = match substream {
            None => self.driver.withdraw_faults(&device, &mut listener),
            Some(id) => {
                self.driver.withdraw_substream_faults(&device.substream(id)?, &mut listener)
            }
        };
        let held = listener.held;
        self.faults.extend(held);
        Ok(withdrawn?.answered)
    }

    /// The oldest fault of a device that waits, or of one of its substreams.
    pub(crate) fn take_fault(
        &mut self,
        device: &str,
        substream: Option<SubstreamId>,
    ) -> Result<Option<HeldFault>, Stop> {
        let device = self.device(device)?;
        let streams: Vec<StreamId> = device.streams().collect();
        let smmu = device.smmu();
        let is_its = |(at, fault): &(SmmuId, HeldFault)| {
            let of_substream = substream.is_none() || fault.substream() == substream;
            *at == smmu && of_substream && streams.contains(&fault.smmu_stream())
        };
        let at = self.faults.iter().position(is_its);
        Ok(at.map(|at| self.faults.remove(at).1))
    }

    /// The write of a device that a fault holds up.
    pub(crate) fn take_stalled_write(
        &mut self,
        device: &str,
        fault: &Stalled<Harness>,
    ) -> Result<Option<DmaWrite>, Stop> {
        let iova = fault.record().address();
        let is_it = |(name, write): &(String, DmaWrite)| {
            name == device && write.iova() == iova.0 && write.substream() == fault.substream()
        };
        let at = self.stalled.iter().position(is_it);
        Ok(at.map(|at| self.stalled.remove(at).1))
    }

    /// All stalled writes of a device, or those of one of its substreams.
    pub(crate) fn take_stalled_writes(
        &mut self,
        device: &str,
        substream: Option<SubstreamId>,
    ) -> Vec<DmaWrite> {
        let all = core::mem::take(&mut self.stalled);
        let (its, others) = all.into_iter().partition(|(name, write)| {
            name == device && (substream.is_none() || write.substream() == substream)
        });
        self.stalled = others;
        let its: Vec<(String, DmaWrite)> = its;
        its.into_iter().map(|(_, write)| write).collect()
    }

    /// A write that stalls again.
    pub(crate) fn hold_stalled_write(&mut self, device: &str, write: DmaWrite) {
        self.stalled.push((device.to_owned(), write));
    }

    /// Let an SMMU consume the commands that nobody waits for.
    pub(crate) fn consume(&self, smmu: usize) -> Result<(), Stop> {
        let registers = self.registers(smmu)?;
        let pointer = |value: u32| value & 0x000f_ffff;
        let consumed = || {
            let cons = registers.read(regs::CMDQ_CONS);
            (pointer(cons) == pointer(registers.read(regs::CMDQ_PROD))).then_some(())
        };
        let timeout = self.timeouts.get(smmu).copied().unwrap_or_default();
        poll(&self.machine.clock(), timeout, consumed)
            .map_err(|error| Stop::timed_out(format!("commands are not consumed: {error}")))
    }

    /// Record which interrupts came, by wire or by MSI. A backend may raise one for each event or one
    /// for all, so each is recorded once.
    pub(crate) fn interrupts(&self) {
        if !self.machine.sees_interrupts() {
            return;
        }
        let wired = self.machine.take_interrupts().into_iter();
        let mut came: Vec<(usize, Irq, String)> =
            wired.map(|(smmu, irq)| (smmu, irq, irq.to_string())).collect();
        for (smmu, SmmuTaps { doorbell, .. }) in self.taps.iter().enumerate() {
            let rung = doorbell.iter().flat_map(|doorbell| doorbell.rung());
            came.extend(rung.map(|(irq, how)| (smmu, irq, format!("{irq} {how}"))));
        }
        came.sort_unstable();
        came.dedup();
        for (smmu, _, text) in came {
            self.recorder.about(LineKind::Interrupt, self.smmu_name(smmu), || text);
        }
    }

    /// Record the arrays of all domains that have entries.
    pub(crate) fn record_arrays(&self) {
        for (name, domain) in &self.domains {
            for view in domain.array().iter() {
                let smmu = self.smmu_name(usize::from(view.spec.key.smmu.0));
                let key = view.spec.key;
                let (kind, id) = (key.kind, key.id);
                let ssid = (kind.is_ats() && key.ssid != InvKey::NO_SSID).then_some(key.ssid);
                let (users, state) = (view.users, view.state);
                let facts = || Facts {
                    smmu: Some(smmu.to_owned()),
                    domain: Some(name.clone()),
                    stream: kind.is_ats().then_some(StreamId(id)),
                    substream: ssid.and_then(SubstreamId::new),
                    detail: Some(Detail::Array {
                        entry: kind.to_string(),
                        id,
                        users,
                        state: format!("{state:?}"),
                    }),
                    ..Facts::default()
                };
                self.recorder.typed(LineKind::Array, None, &[], facts, || {
                    let of = match (kind.is_ats(), ssid) {
                        (false, _) => id.to_string(),
                        (true, None) => format!("sid={id:#x}"),
                        (true, Some(ssid)) => format!("sid={id:#x} ssid={ssid:#x}"),
                    };
                    format!("{name}: {smmu} {kind} {of} users={users} {state:?}")
                });
            }
        }
    }

    /// Puts a hazard that a step expects into the record.
    pub(crate) fn record_hazard(&self, hazard: &HazardReport) {
        #[cfg(feature = "record")]
        {
            let text = self.named(&hazard.text);
            let HazardPlace { smmu, stream, substream, iova } = hazard.place.clone();
            let facts = || Facts {
                stream,
                substream,
                iova,
                detail: Some(Detail::Hazard { missing: hazard.missing.clone(), expected: true }),
                ..Facts::default()
            };
            let name = smmu.map(|smmu| self.smmu_name(smmu));
            self.recorder.typed(LineKind::Hazard, name, &[], facts, || text);
        }
        #[cfg(not(feature = "record"))]
        let _ = hazard;
    }

    /// Whether a domain has this tag on an SMMU.
    pub(super) fn uses_tag(&self, smmu: SmmuId, tag: CacheTag) -> bool {
        self.domains.values().any(|domain| domain.tag_on(smmu) == Some(tag))
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
        for smmu in self.driver.smmus().iter().map(DrivenSmmu::attach) {
            let id = smmu.id();
            facts.push((format!("the ASIDs of {id}"), counts(smmu.asids().stats())));
            facts.push((format!("the VMIDs of {id}"), counts(smmu.vmids().stats())));
        }
        for (name, domain) in &self.domains {
            facts.push((format!("the array of {name}"), domain.array().to_string()));
        }
        let device = self.device(device)?;
        let (ste, cd) = (device.read_ste().map(|ste| ste.0), device.read_cd().map(|cd| cd.0));
        facts.push(("the device's STE".into(), words(ste.as_ref())));
        facts.push(("the device's CD".into(), words(cd.as_ref())));
        facts.push(("the attachment".into(), attachment(&device.attachment())));
        facts.push(("free DMA memory".into(), self.driver.dma().0.free_bytes().to_string()));
        Ok(Fingerprint(facts))
    }
}

/// The domains of a scenario, each over blank tables.
fn domains_of(
    scenario: &Scenario,
    machine: &dyn Machine,
    driver: &Driver<Harness>,
) -> Result<BTreeMap<String, Domain<Harness>>, Stop> {
    let needs = DomainNeeds::of(scenario, machine);
    Ok(domains_by(scenario, &needs, driver.dma(), |tables| driver.domain(tables))?)
}

/// The counts of a tag space.
fn counts(stats: TagStats) -> String {
    let TagStats { in_use, fresh, retiring, quarantined, .. } = stats;
    format!("{in_use} in use, {fresh} fresh, {retiring} retiring, {quarantined} quarantined")
}

/// The words of an entry.
fn words(entry: Option<&[u64; 8]>) -> String {
    entry
        .map_or_else(|| "none".to_owned(), |words| words.map(|word| format!("{word:#x}")).join(" "))
}

fn attachment(attachment: &Attachment<smmu_driver::Attach<Harness>>) -> String {
    match attachment {
        Attachment::Blocked => "blocked".into(),
        Attachment::Bypass => "bypass".into(),
        Attachment::Domain(domain) => domain.id().to_string(),
        _ => "another one".into(),
    }
}

fn missing(kind: &str, name: impl fmt::Display) -> Stop {
    Stop::failed(format!("there is no {kind} {name}"))
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

#[cfg(test)]
mod tests;
