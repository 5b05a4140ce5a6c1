//! What a backend's machine is to the engine: RAM, registers, devices, interrupts.

use alloc::borrow::Cow;
use alloc::sync::Arc;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use serde::{Deserialize, Serialize};
use smmu_driver::smmu_types::pool::Window;
use smmu_driver::smmu_types::regs;
#[cfg(feature = "std")]
use smmu_driver::smmu_types::seam::StdWait;
use smmu_driver::smmu_types::seam::{Registers, RegistersExt, Ticks, Wait};
use smmu_driver::smmu_types::{
    CacheTag, Capabilities, EventKind, EventRecord, IdRegisters, Irq, OutputSize, PhysAddr,
    PrgIndex, PriRecord, PriResponse, RawCommand, StreamId, SubstreamId,
};

use crate::prelude::*;
pub use crate::virtual_clock::VirtualClock;

/// Something that a scenario needs and a backend may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// `"stage1"`: stage-1 translation.
    Stage1,
    /// `"stage2"`: stage-2 translation.
    Stage2,
    /// `"several-smmus"`: more than one SMMU.
    SeveralSmmus,
    /// `"asid8"`: an SMMU with 8-bit ASIDs.
    Asid8,
    /// `"ats"`: an SMMU with ATS.
    Ats,
    /// `"msi"`: an SMMU with MSIs.
    Msi,
    /// `"sev"`: an SMMU whose `CMD_SYNC` can send an event.
    Sev,
    /// `"queue-stop"`: command queues that stop when they are told to, and go on.
    QueueStop,
    /// `"slow-queues"`: command queues that carry out few commands at a time when they are told to.
    SlowQueues,
    /// `"fetch-aborts"`: command queues that cannot fetch when they are told so.
    FetchAborts,
    /// `"atc-timeouts"`: devices that leave an `ATC_INV` unanswered when they are told to.
    AtcTimeouts,
    /// `"lost-msis"`: MSIs of `CMD_SYNC` that do not arrive when they are told so.
    LostMsis,
    /// `"second-queue"`: an SMMU with a second command queue.
    SecondQueue,
    /// `"reset"`: an SMMU that can be reset alone, or with all others of the machine.
    Reset,
    /// `"smmu-kinds"`: SMMUs that differ from each other in what they can do.
    SmmuKinds,
    /// `"dma-reads"`: devices that read memory and say what they read.
    DmaReads,
    /// `"event-overflow"`: event queues that say when they lost events.
    EventOverflow,
    /// `"stalls"`: an SMMU whose faults can stall, and devices that wait.
    Stalls,
    /// `"page-requests"`: an SMMU with PRI, and devices that send page requests.
    PageRequests,
    /// `"substreams"`: an SMMU with substreams, and devices that send SubstreamIDs.
    Substreams,
    /// `"ats-devices"`: devices with ATS, each with a cache of translations and a switch.
    AtsDevices,
    /// `"nesting"`: an SMMU with both stages, one over the other.
    Nesting,
    /// `"parallel"`: callers of the driver that run at the same time, each on a CPU of its own.
    Parallel,
    /// `"caches"`: caches that keep what they hold until a command must remove it.
    Caches,
}

impl Need {
    /// All of them.
    pub const ALL: [Need; 24] = [
        Need::Stage1,
        Need::Stage2,
        Need::SeveralSmmus,
        Need::Asid8,
        Need::Ats,
        Need::Msi,
        Need::Sev,
        Need::QueueStop,
        Need::SlowQueues,
        Need::FetchAborts,
        Need::AtcTimeouts,
        Need::LostMsis,
        Need::SecondQueue,
        Need::Reset,
        Need::SmmuKinds,
        Need::DmaReads,
        Need::EventOverflow,
        Need::Stalls,
        Need::PageRequests,
        Need::Substreams,
        Need::AtsDevices,
        Need::Nesting,
        Need::Parallel,
        Need::Caches,
    ];

    /// As it is written in a file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Need::Stage1 => "stage1",
            Need::Stage2 => "stage2",
            Need::SeveralSmmus => "several-smmus",
            Need::Asid8 => "asid8",
            Need::Ats => "ats",
            Need::Msi => "msi",
            Need::Sev => "sev",
            Need::QueueStop => "queue-stop",
            Need::SlowQueues => "slow-queues",
            Need::FetchAborts => "fetch-aborts",
            Need::AtcTimeouts => "atc-timeouts",
            Need::LostMsis => "lost-msis",
            Need::SecondQueue => "second-queue",
            Need::Reset => "reset",
            Need::SmmuKinds => "smmu-kinds",
            Need::DmaReads => "dma-reads",
            Need::EventOverflow => "event-overflow",
            Need::Stalls => "stalls",
            Need::PageRequests => "page-requests",
            Need::Substreams => "substreams",
            Need::AtsDevices => "ats-devices",
            Need::Nesting => "nesting",
            Need::Parallel => "parallel",
            Need::Caches => "caches",
        }
    }
}

/// What a second command queue takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SecondQueueKind {
    /// `"full"`: every command.
    Full,
    /// `"restricted"`: `TLBI_NH_ASID`, `TLBI_NH_VA`, `ATC_INV` and `CMD_SYNC`.
    Restricted,
}

/// One of the command queues of an SMMU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum QueueName {
    /// `"main"`: the one that every SMMU has.
    #[default]
    Main,
    /// `"second"`: the one of `second_queue`.
    Second,
}

/// What a device sends with a DMA beside the address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DmaSource {
    /// The SubstreamID, if it sends one.
    pub substream: Option<SubstreamId>,
    /// Whether the device translates the address itself, by ATS.
    pub translated: bool,
}

/// The own ATS switch of a device, or that of its page requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtsPower {
    /// It may ask for translations and keep them; or it may ask for pages.
    On,
    /// It asks for none, and uses no translation that it has.
    Off,
}

/// What became of one DMA write, as far as the device can tell.
///
/// To learn where the data went, the caller looks at memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaWriteOutcome {
    /// The write was carried out somewhere.
    Written,
    /// The SMMU refused it.
    Refused,
    /// It waits for the driver: [`Machine::ended_write`] says what becomes of it.
    Stalled,
}

/// The answer to a translation request of a device (IHI 0070, 3.9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtsAnswer {
    /// A translation.
    Granted {
        /// The output address of the address that the device asked for.
        address: PhysAddr,
        /// The device may read.
        read: bool,
        /// The device may write.
        write: bool,
    },
    /// There is no translation: success without permissions.
    NoAccess,
    /// Unsupported Request: ATS is off for the stream.
    Unsupported,
    /// Completer Abort: the configuration of the stream is wrong.
    Aborted,
    /// The device's own switch is off, so it asked nothing.
    SwitchedOff,
}

/// What became of one DMA read, as the device sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaReadOutcome {
    /// The device got these 4 bytes.
    Read(u32),
    /// The SMMU refused the read.
    Refused,
}

/// The answer to a group of page requests, as its device gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageAnswer {
    /// The stream.
    pub stream: StreamId,
    /// The group.
    pub group: PrgIndex,
    /// The answer.
    pub response: PriResponse,
    /// Whether the SMMU answered by itself.
    pub automatic: bool,
}

/// What a device writes, unless [`Machine::pattern`] says otherwise: 4 bytes, little-endian.
pub const DMA_PATTERN: u32 = 0x1234_5678;

const DMA_BYTES: [u8; 4] = DMA_PATTERN.to_le_bytes();

/// The machine that a scenario asks for.
#[derive(Clone, Debug, Default)]
pub struct MachineSpec {
    /// The SMMUs.
    pub smmus: Vec<MachineSmmu>,
    /// The devices that do DMA.
    pub devices: Vec<MachineDevice>,
    /// Which time the waits of the driver go by.
    pub time: Time,
    /// The memory that it must have.
    pub ram: RamSpec,
}

/// The memory of a [`MachineSpec`]. By default, what the backend has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RamSpec {
    /// The address at which it begins; `None` for any.
    pub base: Option<PhysAddr>,
    /// Bytes at least.
    pub bytes: u64,
}

impl RamSpec {
    /// Whether RAM is what is asked for. A backend calls it in [`Backend::start`], unless it makes RAM
    /// to measure.
    ///
    /// # Errors
    ///
    /// The machine is impossible: RAM begins elsewhere, or is too small.
    pub fn check(&self, ram: &Ram) -> Result<(), BackendError> {
        let (base, bytes) = (ram.base(), ram.words().len() as u64 * 8);
        match self.base {
            Some(wanted) if wanted != base => {
                Err(BackendError::Impossible(format!("its RAM begins at {base}, not at {wanted}")))
            }
            _ if bytes < self.bytes => {
                let wanted = self.bytes;
                let what = format!("it has {bytes:#x} of {wanted:#x} bytes of RAM");
                Err(BackendError::Impossible(what))
            }
            _ => Ok(()),
        }
    }
}

/// Which time the waits of a driver go by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Time {
    /// That of the clock on the wall.
    #[default]
    Real,
    /// Time that passes only while the driver waits. So each run is like the last, and a time-out
    /// takes no real time. For one thread. A backend whose SMMU runs by itself has real time only.
    Virtual,
}

/// One SMMU of a [`MachineSpec`].
#[derive(Clone, Copy, Debug)]
pub struct MachineSmmu {
    /// Bits of an ASID: 8 or 16.
    pub asid_bits: u8,
    /// Bits of a VMID: 8 or 16.
    pub vmid_bits: u8,
    /// Its output address size.
    pub output_size: OutputSize,
    /// Whether it has stage 1.
    pub stage1: bool,
    /// Whether it has stage 2.
    pub stage2: bool,
    /// The granules that its ID registers name.
    pub granules: Granules,
    /// Whether a TLBI command can name a range of pages.
    pub range: bool,
    /// Whether its stream table can have two levels.
    pub two_level: bool,
    /// Whether it has ATS.
    pub ats: bool,
    /// Whether it has MSIs.
    pub msi: bool,
    /// Whether its `CMD_SYNC` can send an event.
    pub sev: bool,
    /// Whether its faults can stall (`IDR0.STALL_MODEL` = 0).
    pub stalls: bool,
    /// Whether it has page requests (`IDR0.PRI`).
    pub page_requests: bool,
    /// Bits of a SubstreamID; 0 for an SMMU without substreams.
    pub substream_bits: u8,
    /// Whether its tables of context descriptors can have two levels (`IDR0.CD2L`).
    pub two_level_cd: bool,
    /// Its second command queue.
    pub second_queue: Option<SecondQueueKind>,
}

impl Default for MachineSmmu {
    fn default() -> Self {
        MachineSmmu {
            asid_bits: 16,
            vmid_bits: 16,
            output_size: OutputSize::Bits44,
            stage1: true,
            stage2: true,
            granules: Granules { k4: true, k16: false, k64: false },
            range: true,
            two_level: true,
            ats: false,
            msi: false,
            sev: false,
            stalls: false,
            page_requests: false,
            substream_bits: 0,
            two_level_cd: false,
            second_queue: None,
        }
    }
}

/// Granules that an SMMU can have (`IDR5.GRAN4K`, `GRAN16K`, `GRAN64K`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granules {
    /// 4 KiB.
    pub k4: bool,
    /// 16 KiB.
    pub k16: bool,
    /// 64 KiB.
    pub k64: bool,
}

/// How a command queue misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueFault {
    /// It carries out nothing.
    Stopped,
    /// It carries out so many commands at each look at its consumer.
    Slow(u32),
    /// So many fetches abort.
    Aborts(u32),
    /// ATC invalidations of a stream are not answered.
    AtcTimeout(StreamId),
    /// MSIs of `CMD_SYNC` are lost.
    MsiLost,
}

/// The time of a machine, for the waits of a driver. Clones are the same clock.
#[derive(Clone)]
pub struct Clock(Arc<dyn Wait + Send + Sync>);

impl Clock {
    /// The time that `wait` tells.
    pub fn new(wait: impl Wait + Send + Sync + 'static) -> Self {
        Clock(Arc::new(wait))
    }
}

/// The clock of the standard library.
#[cfg(feature = "std")]
impl Default for Clock {
    fn default() -> Self {
        Clock::new(StdWait::new())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({:?})", self.0.now())
    }
}

impl Wait for Clock {
    fn now(&self) -> Duration {
        self.0.now()
    }
    fn relax(&self, round: u32) {
        self.0.relax(round);
    }
    fn ticks(&self) -> Ticks {
        self.0.ticks()
    }
}

/// One device of a [`MachineSpec`].
#[derive(Clone, Copy, Debug)]
pub struct MachineDevice {
    /// Index of the SMMU that it is behind.
    pub smmu: usize,
    /// Its StreamID.
    pub stream: StreamId,
    /// Its own ATS switch at power-on.
    pub ats: AtsPower,
}

/// A backend cannot do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The backend is not there, or not fit.
    #[error("{0}")]
    Unavailable(String),
    /// The machine that the scenario asks for cannot be built.
    #[error("this backend cannot build the machine: {0}")]
    Impossible(String),
    /// It broke while it ran.
    #[error("the backend broke: {0}")]
    Broken(String),
}

/// Somewhere that scenarios can run.
pub trait Backend: Send + Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// What it is, in one line.
    fn describe(&self) -> String;

    /// Whether it can do something that a scenario may need.
    fn offers(&self, need: Need) -> bool;

    /// A machine, as at power-on.
    ///
    /// # Errors
    ///
    /// The backend is not there, or cannot build this machine.
    fn start(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>, BackendError>;
}

impl<B: Backend + ?Sized> Backend for &B {
    fn name(&self) -> &'static str {
        (**self).name()
    }
    fn describe(&self) -> String {
        (**self).describe()
    }
    fn offers(&self, need: Need) -> bool {
        (**self).offers(need)
    }
    fn start(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>, BackendError> {
        (**self).start(spec)
    }
}

/// Whether an SMMU sees what CPUs have in their caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coherency {
    /// Its accesses snoop the caches of the CPUs.
    Snoops,
    /// It sees memory alone: the driver cleans and invalidates lines.
    MemoryAlone,
}

/// One machine.
pub trait Machine: Send + Sync {
    /// Its RAM, as memory of this process.
    fn ram(&self) -> Ram;

    /// The registers of an SMMU.
    ///
    /// # Errors
    ///
    /// There is none of this index.
    fn registers(&self, smmu: usize) -> Result<Arc<dyn Registers + Send + Sync>, BackendError>;

    /// Whether an SMMU snoops the caches of the CPUs. By default as `IDR0.COHACC` says; a system may
    /// know better, for one or the other.
    fn coherency(&self, smmu: usize) -> Coherency {
        let idr0 = self.registers(smmu).map_or(u32::MAX, |found| found.read(regs::IDR0));
        let caps = Capabilities::decode(IdRegisters { idr0, ..IdRegisters::default() });
        if caps.coherent { Coherency::Snoops } else { Coherency::MemoryAlone }
    }

    /// The bytes that a device writes with each DMA, from the address that it is given.
    ///
    /// The engine looks for exactly these. It skips a scenario that lets a device write beyond the
    /// end of a page.
    fn pattern(&self, device: usize) -> Cow<'static, [u8]> {
        let _ = device;
        Cow::Borrowed(&DMA_BYTES)
    }

    /// The memory of a device's own rings, if the device reads them by the stream of its DMA: the
    /// physical addresses of whole pages. By default none.
    ///
    /// The engine maps it in each domain, at IOVAs that are the addresses. Such a device needs several
    /// transactions for one write, and each that is refused may be an event. So the engine takes no
    /// more events of one kind and stream than there were writes.
    fn own_memory(&self, device: usize) -> Option<Range<u64>> {
        let _ = device;
        None
    }

    /// A device writes its [`pattern`](Self::pattern).
    ///
    /// # Errors
    ///
    /// The machine is gone.
    fn dma_write(&self, device: usize, iova: u64) -> Result<DmaWriteOutcome, BackendError>;

    /// A device reads 4 bytes.
    ///
    /// # Errors
    ///
    /// The machine's devices cannot read, or the machine is gone.
    fn dma_read(&self, device: usize, iova: u64) -> Result<DmaReadOutcome, BackendError> {
        let _ = (device, iova);
        Err(BackendError::Impossible("its devices cannot say what they read".into()))
    }

    /// As [`dma_write`](Self::dma_write), in a transaction that is not a plain one.
    ///
    /// # Errors
    ///
    /// The machine's devices cannot send it, or the machine is gone.
    fn dma_write_from(
        &self,
        device: usize,
        source: DmaSource,
        iova: u64,
    ) -> Result<DmaWriteOutcome, BackendError> {
        let _ = (device, source, iova);
        Err(BackendError::Impossible("its devices send plain transactions only".into()))
    }

    /// As [`dma_read`](Self::dma_read), in a transaction that is not a plain one.
    ///
    /// # Errors
    ///
    /// As of [`dma_write_from`](Self::dma_write_from).
    fn dma_read_from(
        &self,
        device: usize,
        source: DmaSource,
        iova: u64,
    ) -> Result<DmaReadOutcome, BackendError> {
        let _ = (device, source, iova);
        Err(BackendError::Impossible("its devices send plain transactions only".into()))
    }

    /// A device asks for a translation for reading and writing, and keeps the answer.
    ///
    /// # Errors
    ///
    /// The machine's devices have no ATS, or the machine is gone.
    fn ats_request(
        &self,
        device: usize,
        source: DmaSource,
        iova: u64,
    ) -> Result<AtsAnswer, BackendError> {
        let _ = (device, source, iova);
        Err(BackendError::Impossible("its devices have no ATS".into()))
    }

    /// Turns the ATS switch of a device.
    ///
    /// # Errors
    ///
    /// The machine's devices have none, or the machine is gone.
    fn switch_ats(&self, device: usize, to: AtsPower) -> Result<(), BackendError> {
        let _ = (device, to);
        Err(BackendError::Impossible("its devices have no ATS".into()))
    }

    /// Turns the page requests (PRI) of a device on or off.
    ///
    /// # Errors
    ///
    /// The machine's devices have no PRI, or the machine is gone.
    fn switch_page_requests(&self, device: usize, to: AtsPower) -> Result<(), BackendError> {
        let _ = (device, to);
        Err(BackendError::Impossible("its devices have no PRI".into()))
    }

    /// Takes the oldest write of a device that stalled, if it has ended.
    ///
    /// # Errors
    ///
    /// The machine's devices do not wait, or the machine is gone.
    fn ended_write(&self, device: usize) -> Result<Option<DmaWriteOutcome>, BackendError> {
        let _ = device;
        Err(BackendError::Impossible("its devices do not wait for a stall".into()))
    }

    /// A device behind an SMMU sends a page request.
    ///
    /// # Errors
    ///
    /// The machine's devices have no PRI, or the machine is gone.
    fn page_request(&self, smmu: usize, request: PriRecord) -> Result<(), BackendError> {
        let _ = (smmu, request);
        Err(BackendError::Impossible("its devices send no page requests".into()))
    }

    /// The answers to page requests that devices behind an SMMU got since the last call.
    ///
    /// # Errors
    ///
    /// The machine is gone.
    fn take_page_answers(&self, smmu: usize) -> Result<Vec<PageAnswer>, BackendError> {
        let _ = smmu;
        Ok(Vec::new())
    }

    /// Whether [`take_interrupts`](Self::take_interrupts) tells of every interrupt. A run on a
    /// machine that sees none leaves their lines out, and says so in
    /// [`RunReport::unrecorded`](crate::run::RunReport::unrecorded).
    fn sees_interrupts(&self) -> bool {
        true
    }

    /// Interrupts since the last call, each with the index of its SMMU.
    ///
    /// A handler of the machine may only count them: it takes none of the engine's locks.
    fn take_interrupts(&self) -> Vec<(usize, Irq)>;

    /// Whether it still works.
    ///
    /// # Errors
    ///
    /// It does not.
    fn check(&self) -> Result<(), BackendError>;

    /// A step of the scenario begins: its number, 0 for the set-up, and its text. A machine without a
    /// screen prints it, so that the last step is known if the CPU stops.
    fn step_begins(&self, number: usize, text: &str) {
        let _ = (number, text);
    }

    /// The registers of the second command queue of an SMMU;
    /// [`second`](smmu_driver::smmu_types::regs::vcmdq) has the offsets.
    ///
    /// # Errors
    ///
    /// It has none.
    fn second_queue(&self, smmu: usize) -> Result<Arc<dyn Registers + Send + Sync>, BackendError> {
        Err(BackendError::Impossible(format!("SMMU {smmu} has no second command queue")))
    }

    /// The time that the driver waits by. All calls give the same clock, or clocks that agree.
    fn clock(&self) -> Clock;

    /// The function that tells the number of the CPU that calls it, from 0. Without `std` a reader
    /// of an invalidation array takes a slot of its CPU. Wrong numbers cost time, never safety. The
    /// first machine of a program tells it for all.
    fn cpu_number(&self) -> fn() -> usize {
        || 0
    }

    /// Whether [`clock`](Self::clock) tells how long something took. A record of a machine whose
    /// clock does not counts rows instead of nanoseconds.
    fn tells_time(&self) -> bool {
        true
    }

    /// Runs callers of the driver at the same time, each on a CPU of its own as far as there are so
    /// many, and returns when all have. Without `std` the machine brings its own CPUs.
    ///
    /// # Errors
    ///
    /// The machine has one CPU.
    fn together(&self, callers: Vec<Box<dyn FnOnce() + Send + '_>>) -> Result<(), BackendError> {
        #[cfg(feature = "std")]
        {
            std::thread::scope(|scope| {
                for caller in callers {
                    scope.spawn(caller);
                }
            });
            Ok(())
        }
        #[cfg(not(feature = "std"))]
        {
            drop(callers);
            Err(BackendError::Impossible("it runs callers on one CPU".into()))
        }
    }

    /// Let a command queue misbehave from now on.
    ///
    /// # Errors
    ///
    /// The machine cannot.
    fn inject(&self, smmu: usize, queue: QueueName, fault: QueueFault) -> Result<(), BackendError> {
        let _ = (smmu, queue, fault);
        Err(BackendError::Impossible("its command queues cannot be made to misbehave".into()))
    }

    /// Take back every fault of an SMMU. A machine without faults has nothing to do.
    ///
    /// # Errors
    ///
    /// There is no such SMMU.
    fn mend(&self, smmu: usize) -> Result<(), BackendError> {
        let _ = smmu;
        Ok(())
    }

    /// Reset an SMMU: it loses its registers and its caches, and every fault of it is taken back.
    /// RAM keeps its content.
    ///
    /// # Errors
    ///
    /// The machine cannot, or broke.
    fn reset(&self, smmu: usize) -> Result<(), BackendError> {
        Err(BackendError::Impossible(format!("SMMU {smmu} cannot be reset")))
    }

    /// Sees into the caches, where the machine allows that.
    fn insight(&self) -> Option<&dyn Insight> {
        None
    }
}

/// A look into the caches of a machine's SMMUs.
pub trait Insight {
    /// What went wrong since the last call, in plain sentences that begin with the SMMU's name.
    /// If a command was missing, the sentence names it.
    fn take_hazards(&self) -> Vec<HazardReport>;

    /// What could be reached right now through something cached that should be gone.
    fn audit(&self) -> Vec<HazardReport>;

    /// Each fault that waits, that the driver was told of, and that it has not answered.
    fn unanswered(&self) -> Vec<HazardReport> {
        Vec::new()
    }

    /// Where memory leads a DMA of a stream to an address now, past all caches.
    fn in_memory(&self, _smmu: usize, _stream: StreamId, _iova: u64) -> MemoryLead {
        MemoryLead::Unknown
    }

    /// The events of an SMMU that no event queue has, since the last call: because the queue takes
    /// none, or because such a fault is not recorded.
    fn take_unrecorded(&self, _smmu: usize) -> Vec<EventRecord> {
        Vec::new()
    }

    /// How many cached lines carry a tag.
    fn lines_with_tag(&self, smmu: usize, tag: CacheTag) -> usize;

    /// Keep from now on what the queues of an SMMU carry out.
    fn listen(&self, smmu: usize);

    /// The commands that an SMMU's main queue and its second queue have carried out since the last
    /// call, in order and as they lay in the queue. None unless the caller listens.
    fn take_carried_out(&self, smmu: usize) -> [Vec<RawCommand>; 2];
}

/// Where the tables in memory lead a DMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLead {
    /// The SMMU does not translate, or the machine cannot tell.
    Unknown,
    /// Nowhere, without an event: the STE aborts it.
    Aborts,
    /// Nowhere: it ends in this fault.
    Faults(EventKind),
    /// To an address.
    To {
        /// The address.
        address: PhysAddr,
        /// The device may read there.
        read: bool,
        /// It may write there.
        write: bool,
    },
}

/// One hazard, in words.
#[derive(Clone, Debug, Eq, serde::Deserialize, serde::Serialize)]
#[cfg_attr(all(feature = "record", feature = "schema"), derive(schemars::JsonSchema))]
#[serde(tag = "type", rename = "hazard")]
pub struct HazardReport {
    /// A plain sentence.
    pub text: String,
    /// The command that was missing, if any.
    pub missing: Option<String>,
    /// Whose hazard it is, for a record.
    #[serde(skip)]
    #[cfg(feature = "record")]
    pub(crate) place: HazardPlace,
}

/// Two hazards with the same words are the same: the text says where it is. The place is for a record
/// alone, and no line of JSON carries it.
impl PartialEq for HazardReport {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, &self.missing) == (&other.text, &other.missing)
    }
}

/// Whose hazard it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HazardPlace {
    /// Index of the SMMU.
    pub smmu: Option<usize>,
    /// The stream.
    pub stream: Option<StreamId>,
    /// The substream.
    pub substream: Option<SubstreamId>,
    /// The input address.
    pub iova: Option<u64>,
}

impl HazardReport {
    /// A hazard in words, with the command that was missing.
    #[must_use]
    pub const fn new(text: String, missing: Option<String>) -> Self {
        HazardReport {
            text,
            missing,
            #[cfg(feature = "record")]
            place: HazardPlace { smmu: None, stream: None, substream: None, iova: None },
        }
    }

    /// The same hazard, whose place is known. A run without the feature `record` drops it.
    #[must_use]
    pub fn at(self, place: HazardPlace) -> Self {
        #[cfg(feature = "record")]
        return HazardReport { place, ..self };
        #[cfg(not(feature = "record"))]
        {
            let _ = place;
            self
        }
    }
}

/// RAM of a machine. Clones are the same memory.
#[derive(Clone)]
pub struct Ram(Arc<dyn Window>);

impl Ram {
    /// RAM of a backend.
    pub fn new(window: impl Window + 'static) -> Self {
        Ram(Arc::new(window))
    }

    fn index(&self, address: PhysAddr) -> Option<usize> {
        usize::try_from(address.0.checked_sub(self.0.base().0)? / 8).ok()
    }

    /// The 64-bit word at a physical address; `None` outside of RAM.
    #[must_use]
    pub fn word(&self, address: PhysAddr) -> Option<&AtomicU64> {
        self.0.words().get(self.index(address)?)
    }

    /// Stores a 64-bit word at a physical address, and shows it to the SMMUs. `None` outside of RAM.
    #[must_use]
    pub(crate) fn store(&self, address: PhysAddr, value: u64) -> Option<()> {
        let index = self.index(address)?;
        self.0.words().get(index)?.store(value, Ordering::SeqCst);
        self.0.publish(index..index + 1);
        Some(())
    }
}

impl fmt::Debug for Ram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ram({} bytes at {})", self.0.words().len() * 8, self.0.base())
    }
}

#[expect(unsafe_code, reason = "passes the window's promise on")]
// SAFETY: the window behind is the one that its implementor vouched for; this adds nothing to it.
unsafe impl Window for Ram {
    fn words(&self) -> &[AtomicU64] {
        self.0.words()
    }
    fn base(&self) -> PhysAddr {
        self.0.base()
    }
    fn line_bytes(&self) -> u64 {
        self.0.line_bytes()
    }
    fn publish(&self, words: Range<usize>) {
        self.0.publish(words);
    }
    fn observe(&self, words: Range<usize>) {
        self.0.observe(words);
    }
    fn full_barrier(&self) {
        self.0.full_barrier();
    }
}

#[cfg(all(test, feature = "schema"))]
mod tests {
    use super::*;

    #[test]
    fn all_needs_are_in_the_list() {
        let schema = serde_json::to_value(schemars::schema_for!(Need)).unwrap();
        let kinds = schema["oneOf"].as_array().unwrap();
        let names: Vec<_> = kinds.iter().map(|kind| kind["const"].as_str().unwrap()).collect();
        assert_eq!(names, Need::ALL.map(Need::name));
    }
}
