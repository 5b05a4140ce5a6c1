//! A `virtio-blk-pci` behind an SMMU, with the driver of the crate `virtio-drivers`.
//!
//! 1. The driver's buffers are mapped by an [`IoSpace`] while the device may use them.
//! 2. The device must be told that an IOMMU translates: `VIRTIO_F_ACCESS_PLATFORM`. The drivers of
//!    the crate never accept that feature, so the transport here does.
//! 3. Memory of a request that never completes is never used again.
//!
//! The device must snoop caches (`dma-coherent`).

use alloc::alloc::{alloc_zeroed, dealloc};
use alloc::boxed::Box;
use core::alloc::Layout;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;

use smmu_types::Iova;
use smmu_types::seam::poll;
use virtio_drivers::device::blk::{BlkReq, BlkResp, RespStatus, SECTOR_SIZE, VirtIOBlk};
use virtio_drivers::transport::pci::bus::{BarInfo, MmioCam, PciRoot};
use virtio_drivers::transport::pci::{PciTransport, VirtioPciError};
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Hal, PhysAddr as BusAddress};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::io_space::IoSpace;
use super::{DmaResult, Generator};
use crate::machine::Region;
use crate::page_tables::{Access, PAGE};
use crate::pci::Function;
use crate::timer::GenericTimer;

const PATIENCE: Duration = Duration::from_millis(200);
const ACCESS_PLATFORM: u64 = 1 << 33;

type SpacePointer = &'static dyn IoSpace;

/// The crate's `Hal` has no `self`, so all disks share one IoSpace.
static SPACE: AtomicPtr<SpacePointer> = AtomicPtr::new(ptr::null_mut());

/// Buffers that the caller has mapped itself: address of the buffer, and its IOVA.
static OWN: [(AtomicUsize, AtomicU64); 8] = [const { (AtomicUsize::new(0), AtomicU64::new(0)) }; 8];

/// Why a disk cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// The device is no virtio device that this driver knows, or its BARs are odd.
    #[error("virtio over PCI: {0}")]
    Transport(VirtioPciError),
    /// The driver failed.
    #[error("virtio-blk: {0}")]
    Driver(virtio_drivers::Error),
    /// PCI addresses are not the CPU's.
    #[error("the host bridge translates addresses of BARs, which virtio-drivers does not support")]
    Translated,
    /// Too many disks.
    #[error("8 disks are in use")]
    TooMany,
}

impl From<virtio_drivers::Error> for BlockError {
    fn from(error: virtio_drivers::Error) -> Self {
        BlockError::Driver(error)
    }
}

/// Maps the buffers of all disks in `space` from now on. Call it before the first
/// [`BlockDevice::new`].
pub fn set_io_space(space: SpacePointer) {
    SPACE.store(Box::into_raw(Box::new(space)), Ordering::Release);
}

fn space() -> Option<SpacePointer> {
    // SAFETY: null, or a leaked box that `set_io_space` stored and nothing frees.
    unsafe { SPACE.load(Ordering::Acquire).as_ref() }.copied()
}

/// A disk.
pub struct BlockDevice {
    // `None` only while the device is reset.
    disk: Option<VirtIOBlk<MappedBuffers, Translated>>,
    root: PciRoot<MmioCam<'static>>,
    function: Function,
    own: &'static (AtomicUsize, AtomicU64),
    pattern: [u8; SECTOR_SIZE],
}

/// A request in memory that stays where it is until the device is done with it.
struct Request {
    header: BlkReq,
    data: [u8; SECTOR_SIZE],
    status: BlkResp,
}

impl Request {
    fn new() -> Box<Self> {
        let (header, status) = (BlkReq::default(), BlkResp::default());
        Box::new(Request { header, data: [0; SECTOR_SIZE], status })
    }
}

impl BlockDevice {
    /// Vendor and device ID.
    pub const ID: (u16, u16) = (0x1af4, 0x1042);

    /// The disk, whose stream is attached to the domain of the [`IoSpace`]. Reads sector 0.
    ///
    /// # Safety
    ///
    /// The BARs of the function and the ECAM of `root` are mapped as Device memory for ever, and
    /// only this value uses them.
    ///
    /// # Errors
    ///
    /// The function is no virtio-blk device, or it does not work.
    pub unsafe fn new(
        mut root: PciRoot<MmioCam<'static>>,
        function: Function,
    ) -> Result<Self, BlockError> {
        for (n, bar) in (0u8..).zip(function.bars).filter_map(|(n, bar)| Some((n, bar?))) {
            match root.bar_info(function.at, n) {
                Ok(Some(BarInfo::Memory { address, .. })) if address == bar.address => {}
                _ => return Err(BlockError::Translated),
            }
        }
        let free = |slot: &&(AtomicUsize, AtomicU64)| {
            slot.0.compare_exchange(0, usize::MAX, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        let own = OWN.iter().find(free).ok_or(BlockError::TooMany)?;
        let disk = Some(start(&mut root, &function)?);
        let mut device = BlockDevice { disk, root, function, own, pattern: [0; SECTOR_SIZE] };
        device.pattern = device.read_sector(0)?;
        Ok(device)
    }

    /// Sectors of 512 bytes.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.disk.as_ref().map_or(0, VirtIOBlk::capacity)
    }

    /// Reads one sector, through a buffer that is mapped for this request only.
    ///
    /// # Errors
    ///
    /// The device refuses the request, or does not answer in time and was reset.
    pub fn read_sector(&mut self, sector: usize) -> Result<[u8; SECTOR_SIZE], BlockError> {
        match self.request(sector, None) {
            (DmaResult::Done, data) => Ok(data),
            (DmaResult::TimedOut, _) => Err(virtio_drivers::Error::NotReady.into()),
            _ => Err(virtio_drivers::Error::IoError.into()),
        }
    }

    /// Reads a sector. `at`: where the device writes it; by default into a buffer that is mapped for
    /// it, and returned.
    fn request(&mut self, sector: usize, at: Option<Iova>) -> (DmaResult, [u8; SECTOR_SIZE]) {
        let nothing = [0; SECTOR_SIZE];
        let Some(disk) = self.disk.as_mut() else { return (DmaResult::TimedOut, nothing) };
        let request = Box::leak(Request::new());
        let Request { header, data, status } = &mut *request;
        if let Some(iova) = at {
            // The device gets this IOVA for the data, whatever it leads to.
            self.own.1.store(iova.0, Ordering::Relaxed);
            self.own.0.store(data.as_ptr().addr(), Ordering::Relaxed);
        }
        // SAFETY: the request is leaked, and not accessed before the device is done with it.
        let Ok(token) = (unsafe { disk.read_blocks_nb(sector, header, data, status) }) else {
            return (DmaResult::TimedOut, nothing);
        };
        let done = || (disk.peek_used() == Some(token)).then_some(());
        if poll(&GenericTimer, PATIENCE, done).is_err() {
            // The request stays leaked: its IOVAs stay mapped.
            self.own.0.store(usize::MAX, Ordering::Relaxed);
            self.reset();
            return (DmaResult::TimedOut, nothing);
        }
        // SAFETY: the same buffers as above, and the device is done with them.
        let completed = unsafe { disk.complete_read_blocks(token, header, data, status) };
        self.own.0.store(usize::MAX, Ordering::Relaxed);
        let (answer, data) = (status.status(), *data);
        // SAFETY: made by `Box::leak` above. The device is done, and all is unmapped.
        drop(unsafe { Box::from_raw(ptr::from_mut(request)) });
        match (completed, answer) {
            (Ok(()), RespStatus::OK) => (DmaResult::Done, data),
            (_, RespStatus::UNSUPPORTED) => (DmaResult::Refused(2), data),
            _ => (DmaResult::Refused(1), data),
        }
    }

    /// Resets the device, after which it does no DMA of earlier requests, and starts it again.
    fn reset(&mut self) {
        // Dropping the transport resets the device and waits for it; then the rings are unmapped.
        self.disk = None;
        self.disk = start(&mut self.root, &self.function).ok();
    }
}

fn start(
    root: &mut PciRoot<MmioCam<'static>>,
    function: &Function,
) -> Result<VirtIOBlk<MappedBuffers, Translated>, BlockError> {
    let transport = PciTransport::new::<MappedBuffers, _>(root, function.at);
    Ok(VirtIOBlk::new(Translated(transport.map_err(BlockError::Transport)?))?)
}

impl Drop for BlockDevice {
    fn drop(&mut self) {
        self.disk = None;
        self.own.0.store(0, Ordering::Relaxed);
    }
}

impl Generator for BlockDevice {
    fn name(&self) -> &'static str {
        "virtio-blk"
    }

    fn pattern(&self) -> &[u8] {
        &self.pattern
    }

    fn write(&mut self, iova: Iova) -> DmaResult {
        match self.request(0, Some(iova)).0 {
            // The device says so also if the data went nowhere.
            DmaResult::Done => DmaResult::Silent,
            result => result,
        }
    }
}

/// Buffers of the crate's drivers, mapped by [`SPACE`].
struct MappedBuffers;

fn layout(pages: usize) -> Option<Layout> {
    Layout::from_size_align(pages.checked_mul(PAGE as usize)?, PAGE as usize).ok()
}

fn region(buffer: NonNull<[u8]>) -> Region {
    Region { base: buffer.cast::<u8>().addr().get() as u64, bytes: buffer.len() as u64 }
}

/// The IOVA of a buffer that the caller has mapped itself.
fn own_iova(buffer: NonNull<[u8]>) -> Option<BusAddress> {
    let at = buffer.cast::<u8>().addr().get();
    OWN.iter()
        .find(|slot| slot.0.load(Ordering::Relaxed) == at)
        .map(|slot| slot.1.load(Ordering::Relaxed))
}

/// Stops this CPU: the trait cannot report the failure, and the caller would reuse memory that a
/// device may still reach.
#[expect(clippy::panic, reason = "going on would break the promise of every unmap")]
fn give_up(what: &str) -> ! {
    panic!("virtio-blk: {what}")
}

// SAFETY: `dma_alloc` returns zeroed pages of the global allocator, which belong to the caller. An
// address is given only for what is mapped, and `unshare` returns after the invalidation only. BARs
// are at their own addresses (`BlockDevice::new` checks that).
unsafe impl Hal for MappedBuffers {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (BusAddress, NonNull<u8>) {
        // The crate takes address 0 for a failure, and then does not use the pointer.
        let failed = (0, NonNull::dangling());
        let (Some(space), Some(layout)) = (space(), layout(pages)) else { return failed };
        // SAFETY: the layout is not empty; a driver asks for at least one page.
        let Some(memory) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { return failed };
        let region = Region { base: memory.addr().get() as u64, bytes: layout.size() as u64 };
        match space.share(region, Access::ReadWrite) {
            Ok(iova) => (iova.0, memory),
            Err(_) => failed,
        }
    }

    unsafe fn dma_dealloc(iova: BusAddress, memory: NonNull<u8>, pages: usize) -> i32 {
        let (Some(space), Some(layout)) = (space(), layout(pages)) else { return -1 };
        if let Err(error) = space.unshare(Iova(iova), layout.size() as u64) {
            // The crate asserts on a failure; leaking the memory is as safe.
            let _ = error;
            return 0;
        }
        // SAFETY: allocated by `dma_alloc` with this layout, and no device reaches it.
        unsafe { dealloc(memory.as_ptr(), layout) };
        0
    }

    unsafe fn mmio_phys_to_virt(address: BusAddress, _: usize) -> NonNull<u8> {
        NonNull::new(address as *mut u8).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> BusAddress {
        if let Some(iova) = own_iova(buffer) {
            return iova;
        }
        let access = match direction {
            BufferDirection::DriverToDevice => Access::ReadOnly,
            _ => Access::ReadWrite,
        };
        match space().map(|space| space.share(region(buffer), access)) {
            Some(Ok(iova)) => iova.0,
            Some(Err(_)) => give_up("a buffer cannot be mapped"),
            None => give_up("no IoSpace; call set_io_space first"),
        }
    }

    unsafe fn unshare(iova: BusAddress, buffer: NonNull<[u8]>, _: BufferDirection) {
        if own_iova(buffer).is_some() {
            return;
        }
        let bytes = buffer.len() as u64;
        if !matches!(space().map(|space| space.unshare(Iova(iova), bytes)), Some(Ok(()))) {
            give_up("the SMMU does not confirm an unmap");
        }
    }
}

/// A transport that accepts `VIRTIO_F_ACCESS_PLATFORM` for the driver.
struct Translated(PciTransport);

impl Transport for Translated {
    fn write_driver_features(&mut self, features: u64) {
        let offered = self.0.read_device_features();
        self.0.write_driver_features(features | offered & ACCESS_PLATFORM);
    }
    fn device_type(&self) -> DeviceType {
        self.0.device_type()
    }
    fn read_device_features(&mut self) -> u64 {
        self.0.read_device_features()
    }
    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.0.max_queue_size(queue)
    }
    fn notify(&mut self, queue: u16) {
        // The crate's barrier before the doorbell is `dmb ish`; a device needs more.
        smmu_types::seam::dma_barrier::full_barrier();
        self.0.notify(queue);
    }
    fn get_status(&self) -> DeviceStatus {
        self.0.get_status()
    }
    fn set_status(&mut self, status: DeviceStatus) {
        self.0.set_status(status);
    }
    fn set_guest_page_size(&mut self, size: u32) {
        self.0.set_guest_page_size(size);
    }
    fn requires_legacy_layout(&self) -> bool {
        self.0.requires_legacy_layout()
    }
    fn queue_set(&mut self, queue: u16, size: u32, a: BusAddress, b: BusAddress, c: BusAddress) {
        self.0.queue_set(queue, size, a, b, c);
    }
    fn queue_unset(&mut self, queue: u16) {
        self.0.queue_unset(queue);
    }
    fn queue_used(&mut self, queue: u16) -> bool {
        self.0.queue_used(queue)
    }
    fn ack_interrupt(&mut self) -> InterruptStatus {
        self.0.ack_interrupt()
    }
    fn read_config_generation(&self) -> u32 {
        self.0.read_config_generation()
    }
    fn read_config_space<T: FromBytes + IntoBytes>(
        &self,
        offset: usize,
    ) -> virtio_drivers::Result<T> {
        self.0.read_config_space(offset)
    }
    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: T,
    ) -> virtio_drivers::Result<()> {
        self.0.write_config_space(offset, value)
    }
}
