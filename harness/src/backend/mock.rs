//! The mock backend: scenarios on the software model.

use std::boxed::Box;
use std::format;
use std::string::{String, ToString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::vec::Vec;

use smmu_types::seam::{Registers, StdWait, Wait};
use smmu_types::{
    CacheTag, EventRecord, Irq, PhysAddr, PriRecord, RawCommand, StallModel, StreamId,
};

use smmu_engine::machine::{
    AtsAnswer, AtsPower, Backend, BackendError, Clock, DMA_PATTERN, DmaReadOutcome, DmaSource,
    DmaWriteOutcome, HazardPlace, HazardReport, Insight, Machine, MachineDevice, MachineSmmu,
    MachineSpec, MemoryLead, PageAnswer, QueueFault, Ram, Time, VirtualClock,
};
use smmu_engine::machine::{Need, QueueName, SecondQueueKind};
use smmu_model::{
    AtsRequestFailure, AtsSwitch, CpuCaches, DmaProgress, Hazard, InjectedFault, Model,
    ModelDevice, Now, Permissions, Profile, SecondQueue, StallId,
};

const RAM_BYTES: usize = 8 << 20;
/// The host gives it only where it is touched.
const MOST_RAM: usize = 1 << 30;

/// The built-in model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mock;

impl Backend for Mock {
    fn name(&self) -> &'static str {
        "mock"
    }

    fn describe(&self) -> String {
        "the built-in model, which keeps everything cached until it is invalidated".into()
    }

    fn offers(&self, _need: Need) -> bool {
        true
    }

    fn start(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>, BackendError> {
        let machine = start(spec, |_, _| {});
        spec.ram.check(&machine.ram())?;
        Ok(Box::new(machine))
    }
}

/// A machine of the model, whose profiles `change` may change. It also gets the streams of the devices
/// behind that SMMU.
pub(crate) fn start(spec: &MachineSpec, change: fn(&mut Profile, &[StreamId])) -> MockMachine {
    let mut profiles: Vec<Profile> = spec.smmus.iter().map(profile).collect();
    for (smmu, profile) in profiles.iter_mut().enumerate() {
        let devices = spec.devices.iter().filter(|device| device.smmu == smmu);
        let streams: Vec<StreamId> = devices.map(|device| device.stream).collect();
        change(profile, &streams);
    }
    let asked = spec.ram.bytes.checked_next_multiple_of(1 << 20).unwrap_or(u64::MAX);
    let bytes = usize::try_from(asked).unwrap_or(usize::MAX).clamp(RAM_BYTES, MOST_RAM);
    let model = Model::new(bytes, &profiles);
    for device in spec.devices.iter().filter(|device| device.ats == AtsPower::On) {
        model.device(device.smmu, device.stream).switch_ats(AtsSwitch::On);
    }
    let clock = match spec.time {
        Time::Real => Clock::new(RealTime { model: model.clone(), clock: StdWait::new() }),
        Time::Virtual => {
            let model = model.clone();
            Clock::new(VirtualClock::new(move || model.tick()))
        }
    };
    let caches = profiles.iter().any(|profile| !profile.coherent).then(|| CpuCaches::of(&model));
    let devices = spec.devices.clone();
    let (time, stalled) = (spec.time, Mutex::default());
    MockMachine { model, caches, devices, clock, time, stalled }
}

fn profile(smmu: &MachineSmmu) -> Profile {
    Profile {
        asid_bits: smmu.asid_bits,
        vmid_bits: smmu.vmid_bits,
        output_size: smmu.output_size,
        stage1: smmu.stage1,
        stage2: smmu.stage2,
        granule_4k: smmu.granules.k4,
        granule_16k: smmu.granules.k16,
        granule_64k: smmu.granules.k64,
        range_invalidation: smmu.range,
        two_level: smmu.two_level,
        ats: smmu.ats,
        msi: smmu.msi,
        sev: smmu.sev,
        stall_model: if smmu.stalls { StallModel::Both } else { StallModel::TerminateOnly },
        pri: smmu.page_requests,
        substream_bits: smmu.substream_bits,
        two_level_cd: smmu.two_level_cd,
        second_queue: smmu.second_queue.map(|kind| match kind {
            SecondQueueKind::Full => SecondQueue::Full,
            SecondQueueKind::Restricted => SecondQueue::Restricted,
        }),
        ..Profile::default()
    }
}

/// The clock of the standard library. Each round of a wait lets the model act.
struct RealTime {
    model: Model,
    clock: StdWait,
}

impl Wait for RealTime {
    fn now(&self) -> Duration {
        self.clock.now()
    }
    fn relax(&self, round: u32) {
        self.model.tick();
        self.clock.relax(round);
    }
}

pub(crate) struct MockMachine {
    model: Model,
    /// RAM as the CPUs see it, if an SMMU does not snoop their caches.
    pub(crate) caches: Option<CpuCaches>,
    devices: Vec<MachineDevice>,
    clock: Clock,
    time: Time,
    // Writes that stalled, oldest first, each with its device.
    stalled: Mutex<Vec<(usize, StallId)>>,
}

impl MockMachine {
    fn place(&self, device: usize) -> Result<MachineDevice, BackendError> {
        let found = self.devices.get(device).copied();
        found.ok_or_else(|| BackendError::Impossible(format!("there is no device {device}")))
    }

    /// A device, in transactions with the SubstreamID of `source`.
    fn sender(&self, device: usize, source: DmaSource) -> Result<ModelDevice, BackendError> {
        let MachineDevice { smmu, stream, .. } = self.place(device)?;
        let plain = self.model.device(smmu, stream);
        Ok(source.substream.map_or(plain.clone(), |substream| plain.with_substream(substream)))
    }

    fn stalled(&self) -> MutexGuard<'_, Vec<(usize, StallId)>> {
        self.stalled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a write ended.
const fn outcome(progress: DmaProgress) -> DmaWriteOutcome {
    match progress {
        DmaProgress::Written => DmaWriteOutcome::Written,
        _ => DmaWriteOutcome::Refused,
    }
}

impl Machine for MockMachine {
    fn ram(&self) -> Ram {
        match &self.caches {
            Some(caches) => Ram::new(caches.clone()),
            None => Ram::new(self.model.window()),
        }
    }

    /// By threads also where the engine is tested without `std`.
    fn together(&self, callers: Vec<Box<dyn FnOnce() + Send + '_>>) -> Result<(), BackendError> {
        std::thread::scope(|scope| {
            for caller in callers {
                scope.spawn(caller);
            }
        });
        Ok(())
    }

    fn registers(&self, smmu: usize) -> Result<Arc<dyn Registers + Send + Sync>, BackendError> {
        match self.model.registers(smmu) {
            Some(registers) => Ok(Arc::new(registers)),
            None => Err(BackendError::Impossible(format!("there is no SMMU {smmu}"))),
        }
    }

    fn dma_write(&self, device: usize, iova: u64) -> Result<DmaWriteOutcome, BackendError> {
        self.dma_write_from(device, DmaSource::default(), iova)
    }

    fn ended_write(&self, device: usize) -> Result<Option<DmaWriteOutcome>, BackendError> {
        let smmu = self.place(device)?.smmu;
        let mut stalled = self.stalled();
        let oldest = stalled.iter().position(|(of, id)| {
            *of == device && !matches!(self.model.progress(smmu, *id), DmaProgress::Stalled(_))
        });
        Ok(oldest.map(|at| outcome(self.model.progress(smmu, stalled.remove(at).1))))
    }

    fn page_request(&self, smmu: usize, request: PriRecord) -> Result<(), BackendError> {
        self.model.page_request(smmu, request);
        Ok(())
    }

    fn take_page_answers(&self, smmu: usize) -> Result<Vec<PageAnswer>, BackendError> {
        let answers = self.model.take_page_responses(smmu).into_iter().map(|answer| PageAnswer {
            stream: answer.stream,
            group: answer.group,
            response: answer.response,
            automatic: answer.automatic,
        });
        Ok(answers.collect())
    }

    fn dma_read(&self, device: usize, iova: u64) -> Result<DmaReadOutcome, BackendError> {
        self.dma_read_from(device, DmaSource::default(), iova)
    }

    fn dma_write_from(
        &self,
        device: usize,
        source: DmaSource,
        iova: u64,
    ) -> Result<DmaWriteOutcome, BackendError> {
        let sender = self.sender(device, source)?;
        if source.translated {
            return Ok(match sender.ats_write32(iova, DMA_PATTERN) {
                Ok(()) => DmaWriteOutcome::Written,
                Err(_) => DmaWriteOutcome::Refused,
            });
        }
        Ok(match sender.start_write32(iova, DMA_PATTERN) {
            DmaProgress::Stalled(id) => {
                self.stalled().push((device, id));
                DmaWriteOutcome::Stalled
            }
            ended => outcome(ended),
        })
    }

    fn dma_read_from(
        &self,
        device: usize,
        source: DmaSource,
        iova: u64,
    ) -> Result<DmaReadOutcome, BackendError> {
        let sender = self.sender(device, source)?;
        let read = match source.translated {
            true => sender.ats_read32(iova).ok(),
            false => sender.read32(iova).ok(),
        };
        Ok(read.map_or(DmaReadOutcome::Refused, DmaReadOutcome::Read))
    }

    fn ats_request(
        &self,
        device: usize,
        source: DmaSource,
        iova: u64,
    ) -> Result<AtsAnswer, BackendError> {
        Ok(match self.sender(device, source)?.ats_request(iova) {
            Ok(given) => AtsAnswer::Granted {
                address: PhysAddr(given.address.0 | iova & given.bytes.wrapping_sub(1)),
                read: given.permissions.read,
                write: given.permissions.write,
            },
            Err(AtsRequestFailure::Unsupported) => AtsAnswer::Unsupported,
            Err(AtsRequestFailure::Aborted) => AtsAnswer::Aborted,
            Err(AtsRequestFailure::SwitchedOff) => AtsAnswer::SwitchedOff,
            Err(_) => AtsAnswer::NoAccess,
        })
    }

    fn switch_ats(&self, device: usize, to: AtsPower) -> Result<(), BackendError> {
        self.sender(device, DmaSource::default())?.switch_ats(match to {
            AtsPower::On => AtsSwitch::On,
            AtsPower::Off => AtsSwitch::Off,
        });
        Ok(())
    }

    fn switch_page_requests(&self, device: usize, to: AtsPower) -> Result<(), BackendError> {
        self.sender(device, DmaSource::default())?.switch_page_requests(match to {
            AtsPower::On => AtsSwitch::On,
            AtsPower::Off => AtsSwitch::Off,
        });
        Ok(())
    }

    fn take_interrupts(&self) -> Vec<(usize, Irq)> {
        self.model.take_interrupts()
    }

    fn check(&self) -> Result<(), BackendError> {
        Ok(())
    }

    fn second_queue(&self, smmu: usize) -> Result<Arc<dyn Registers + Send + Sync>, BackendError> {
        match self.model.second_queue(smmu) {
            Some(registers) => Ok(Arc::new(registers)),
            None => {
                Err(BackendError::Impossible(format!("SMMU {smmu} has no second command queue")))
            }
        }
    }

    fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Virtual time stands still outside of waits.
    fn tells_time(&self) -> bool {
        self.time == Time::Real
    }

    fn inject(&self, smmu: usize, queue: QueueName, fault: QueueFault) -> Result<(), BackendError> {
        let fault = match fault {
            QueueFault::Stopped => InjectedFault::CommandQueueStuck,
            QueueFault::Slow(per_look) => InjectedFault::CommandQueueSlow { per_look },
            QueueFault::Aborts(times) => InjectedFault::FetchAbort { times },
            QueueFault::AtcTimeout(stream) => InjectedFault::AtcTimeout { stream },
            QueueFault::MsiLost => InjectedFault::MsiLost,
        };
        match queue {
            QueueName::Main => self.model.inject(smmu, fault),
            QueueName::Second => self.model.inject_second(smmu, fault),
        }
        Ok(())
    }

    fn mend(&self, smmu: usize) -> Result<(), BackendError> {
        self.model.mend(smmu);
        Ok(())
    }

    fn reset(&self, smmu: usize) -> Result<(), BackendError> {
        self.model.mend(smmu);
        self.model.reset_smmu(smmu);
        Ok(())
    }

    fn insight(&self) -> Option<&dyn Insight> {
        Some(self)
    }
}

impl Insight for MockMachine {
    fn take_hazards(&self) -> Vec<HazardReport> {
        self.model.take_hazards().iter().map(report).collect()
    }

    fn audit(&self) -> Vec<HazardReport> {
        let mut found: Vec<HazardReport> = self.model.audit().iter().map(report).collect();
        for line in self.caches.iter().flat_map(CpuCaches::unpublished) {
            let text =
                format!("no SMMU can see what a CPU has stored at {line}: it is not published");
            found.push(HazardReport::new(text, None));
        }
        found
    }

    fn unanswered(&self) -> Vec<HazardReport> {
        self.model.unanswered().iter().map(report).collect()
    }

    fn in_memory(&self, smmu: usize, stream: StreamId, iova: u64) -> MemoryLead {
        match self.model.in_memory(smmu, stream, iova) {
            None => MemoryLead::Unknown,
            Some(Now::Page { address, permissions: Permissions { read, write } }) => {
                MemoryLead::To { address, read, write }
            }
            Some(Now::Abort) => MemoryLead::Aborts,
            Some(Now::Fault(kind)) => MemoryLead::Faults(kind),
        }
    }

    fn take_unrecorded(&self, smmu: usize) -> Vec<EventRecord> {
        self.model.take_unrecorded(smmu)
    }

    fn lines_with_tag(&self, smmu: usize, tag: CacheTag) -> usize {
        self.model.lines_with_tag(smmu, tag)
    }

    fn listen(&self, smmu: usize) {
        self.model.listen(smmu);
    }

    fn take_carried_out(&self, smmu: usize) -> [Vec<RawCommand>; 2] {
        self.model.take_carried_out(smmu)
    }
}

fn report(hazard: &Hazard) -> HazardReport {
    let missing = hazard.missing().map(ToString::to_string);
    let place = HazardPlace {
        smmu: Some(hazard.smmu()),
        stream: hazard.stream(),
        substream: hazard.substream(),
        iova: hazard.iova().map(|iova| iova.0),
    };
    HazardReport::new(hazard.to_string(), missing).at(place)
}
