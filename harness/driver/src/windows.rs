//! Memory that firmware reserves for a device, as the integrator maps it.

use alloc::vec::Vec;

use smmu_attach::TableDescription;
use smmu_hw_mmio::firmware::{MemoryType, ReservedWindow};
use smmu_types::{Iova, PhysAddr};

use crate::error::DriverError;

/// A range of physical memory: its first and its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// The first byte.
    pub first: PhysAddr,
    /// The last byte.
    pub last: PhysAddr,
}

impl MemoryRange {
    const fn meets(&self, first: u64, last: u64) -> bool {
        self.first.0 <= last && first <= self.last.0
    }
}

/// Whole pages to map, for reads and writes, before the SMMU translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Window {
    /// The first IOVA, that of a page.
    pub iova: Iova,
    /// The memory behind it, the first byte of a page.
    pub memory: PhysAddr,
    /// The length in bytes: pages of the table's granule, at least one.
    pub length: u64,
    /// How the device accesses the memory, if firmware tells. `None` asks for the integrator's choice
    /// for memory that CPUs share with the device.
    pub memory_type: Option<MemoryType>,
    /// Whether the device accesses the memory with privilege.
    pub privileged: bool,
    /// The byte of the firmware table at which the first region of the window is described.
    pub at: u32,
}

impl Window {
    /// The last byte of a range that begins at `first`. It exists for a window that was checked.
    const fn last(first: u64, length: u64) -> u64 {
        first.saturating_add(length.saturating_sub(1))
    }

    /// IOVA less memory, and all else in which windows that meet must be alike.
    const fn manner(&self) -> (u64, Option<MemoryType>, bool) {
        (self.iova.0.wrapping_sub(self.memory.0), self.memory_type, self.privileged)
    }
}

/// Why a reserved window cannot be mapped.
///
/// `at` is the byte of the firmware table at which the window is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WindowError {
    /// A window of no bytes.
    #[error("byte {at:#x} of the table: the window at {iova} has length 0; correct the table")]
    Empty {
        /// The first IOVA.
        iova: Iova,
        /// Where the table describes it.
        at: u32,
    },
    /// A range of addresses passes 2^64.
    #[error(
        "byte {at:#x} of the table: {length:#x} bytes from {first:#x} on pass 2^64; correct the table"
    )]
    Wraps {
        /// The first IOVA or the first byte of memory.
        first: u64,
        /// The length in bytes.
        length: u64,
        /// Where the table describes it.
        at: u32,
    },
    /// IOVA and memory lie at different places of a page, so that no page leads from one to the other.
    #[error(
        "byte {at:#x} of the table: {iova} leads to {memory}, at another place of a page of {page:#x} bytes; use tables of a smaller granule"
    )]
    Misaligned {
        /// The first IOVA.
        iova: Iova,
        /// The first byte of memory.
        memory: PhysAddr,
        /// Bytes of a page.
        page: u64,
        /// Where the table describes it.
        at: u32,
    },
    /// IOVAs that the tables do not translate.
    #[error(
        "byte {at:#x} of the table: IOVA {last:#x} is beyond the {bits} bits of the domain's tables; use wider tables"
    )]
    InputSize {
        /// The last IOVA.
        last: u64,
        /// Bits of an input address.
        bits: u32,
        /// Where the table describes it.
        at: u32,
    },
    /// Memory that the tables do not reach.
    #[error(
        "byte {at:#x} of the table: memory at {last:#x} is beyond the {bits} bits of output of the domain's tables; use wider tables"
    )]
    OutputSize {
        /// The last byte of memory.
        last: u64,
        /// Bits of an output address.
        bits: u32,
        /// Where the table describes it.
        at: u32,
    },
    /// Two windows need one page, and differ in its memory or in how it is accessed.
    #[error(
        "bytes {at:#x} and {other:#x} of the table: both windows need IOVA {iova}, and differ in its memory, its memory type or its privilege; correct the table"
    )]
    Conflict {
        /// The first IOVA that both need.
        iova: Iova,
        /// Where the table describes one.
        at: u32,
        /// Where it describes the other.
        other: u32,
    },
    /// The pages of a window hold memory that is in use.
    #[error(
        "byte {at:#x} of the table: the pages from {memory} on hold memory from {} to {} that is in use; the device must not reach it", in_use.first, in_use.last
    )]
    InUse {
        /// The first byte of the window's pages.
        memory: PhysAddr,
        /// The memory in use.
        in_use: MemoryRange,
        /// Where the table describes it.
        at: u32,
    },
    /// The heap ran out.
    #[error("no memory for the list of reserved windows")]
    OutOfMemory,
}

/// Why there is no list of windows: an error of type `E` in the firmware table, or of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowsError<E> {
    /// The firmware table is wrong where it may describe a window of the device.
    #[error("a reserved window cannot be read: {0}")]
    Table(E),
    /// A window cannot be mapped.
    #[error("a reserved window cannot be mapped: {0}")]
    Window(WindowError),
}

impl<E> From<WindowError> for WindowsError<E> {
    fn from(error: WindowError) -> Self {
        WindowsError::Window(error)
    }
}

/// Why a device did not get its reserved windows.
///
/// `E` is the error of the firmware table, `M` that of the integrator's page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReservedError<E, M> {
    /// There is no list of windows. Nothing is mapped.
    #[error(transparent)]
    Windows(WindowsError<E>),
    /// The page tables refuse a window. Windows before it are mapped.
    #[error("a reserved window is not mapped: {0}")]
    Map(M),
    /// The device cannot be attached. The windows are mapped.
    #[error(transparent)]
    Driver(DriverError),
}

impl<E, M> From<WindowsError<E>> for ReservedError<E, M> {
    fn from(error: WindowsError<E>) -> Self {
        ReservedError::Windows(error)
    }
}

impl<E, M> From<DriverError> for ReservedError<E, M> {
    fn from(error: DriverError) -> Self {
        ReservedError::Driver(error)
    }
}

/// The windows of one device, checked against the tables that map them: sorted by IOVA, of whole
/// pages, and none meets or adjoins another of its kind.
#[derive(Debug, Default)]
pub struct Windows {
    mapped: Vec<Window>,
    holes: Vec<(Iova, u64)>,
}

impl Windows {
    /// The windows of a device in the order of a firmware table, such as
    /// [`Iort::windows_of`](smmu_hw_mmio::firmware) gives for each of its streams.
    ///
    /// - A window grows to whole pages of the tables. IOVA and memory must lie at the same place of a
    ///   page. What the growth adds is memory that the device can reach: `in_use` guards it.
    /// - Windows that overlap or adjoin become one, if IOVAs lead to the same memory in the same manner.
    /// - IOVAs without memory are not mapped: [`holes`](Self::holes). A window inside of a hole is.
    /// - No window reaches `in_use`: memory of the kernel, of this driver, registers of SMMUs.
    ///
    /// # Errors
    ///
    /// The first window that cannot be mapped, or an error of the firmware table.
    pub fn new<E>(
        tables: &TableDescription,
        windows: impl IntoIterator<Item = Result<ReservedWindow, E>>,
        in_use: &[MemoryRange],
    ) -> Result<Self, WindowsError<E>> {
        let mut all = Windows::default();
        for window in windows {
            let window = window.map_err(WindowsError::Table)?;
            match whole_pages(tables, &window)? {
                Some(pages) => push(&mut all.mapped, pages)?,
                None => push(&mut all.holes, (window.iova, window.length))?,
            }
        }
        all.merge()?;
        for window in &all.mapped {
            let (first, at) = (window.memory, window.at);
            let last = Window::last(first.0, window.length);
            if let Some(&in_use) = in_use.iter().find(|range| range.meets(first.0, last)) {
                return Err(WindowError::InUse { memory: first, in_use, at }.into());
            }
        }
        Ok(all)
    }

    /// The windows to map.
    #[must_use]
    pub fn mapped(&self) -> &[Window] {
        &self.mapped
    }

    /// IOVAs that stay free, in the order of the table: first IOVA and length in bytes. An allocator
    /// of IOVAs for this device gives out neither these nor those of [`mapped`](Self::mapped).
    #[must_use]
    pub fn holes(&self) -> &[(Iova, u64)] {
        &self.holes
    }

    /// Sorts, and joins what overlaps or adjoins.
    fn merge(&mut self) -> Result<(), WindowError> {
        self.mapped.sort_unstable_by_key(|one| (one.iova.0, one.at));
        let mut kept = 0_usize;
        for n in 0..self.mapped.len() {
            let Some(&next) = self.mapped.get(n) else { break };
            let before = kept.checked_sub(1);
            if let Some(last) = before.and_then(|n| self.mapped.get_mut(n)) {
                let end = Window::last(last.iova.0, last.length);
                let same = last.manner() == next.manner();
                if next.iova.0 <= end && !same {
                    let (iova, at, other) = (next.iova, last.at, next.at);
                    return Err(WindowError::Conflict { iova, at, other });
                }
                // A window that adjoins begins behind the end, which is not the last address then.
                if same && next.iova.0 <= end.saturating_add(1) {
                    let end = end.max(Window::last(next.iova.0, next.length));
                    last.length = end - last.iova.0 + 1;
                    continue;
                }
            }
            if let Some(place) = self.mapped.get_mut(kept) {
                *place = next;
            }
            kept += 1;
        }
        self.mapped.truncate(kept);
        Ok(())
    }
}

fn push<T>(all: &mut Vec<T>, one: T) -> Result<(), WindowError> {
    all.try_reserve(1).map_err(|_| WindowError::OutOfMemory)?;
    all.push(one);
    Ok(())
}

/// The pages of a window, or `None` if it is a hole.
fn whole_pages(
    tables: &TableDescription,
    window: &ReservedWindow,
) -> Result<Option<Window>, WindowError> {
    let &ReservedWindow { iova, length, memory_type, privileged, at, .. } = window;
    let more = length.checked_sub(1).ok_or(WindowError::Empty { iova, at })?;
    let last_of =
        |first: u64| first.checked_add(more).ok_or(WindowError::Wraps { first, length, at });
    let last = last_of(iova.0)?;
    let Some(memory) = window.memory else { return Ok(None) };
    let last_byte = last_of(memory.0)?;
    let page = tables.granule.bytes();
    let inside = page - 1;
    if iova.0 & inside != memory.0 & inside {
        return Err(WindowError::Misaligned { iova, memory, page, at });
    }
    // The sizes are those of whole pages: a window inside of them grows to no address outside.
    let bits = 64_u32.saturating_sub(tables.t0sz.into());
    if last.checked_shr(bits).unwrap_or(0) != 0 {
        return Err(WindowError::InputSize { last, bits, at });
    }
    let bits = tables.output_size.bits();
    if last_byte.checked_shr(bits).unwrap_or(0) != 0 {
        return Err(WindowError::OutputSize { last: last_byte, bits, at });
    }
    let first = iova.0 & !inside;
    // Neither sum wraps: an output has 52 bits at most, and IOVA and memory have the same length.
    let length = (last | inside) - first + 1;
    let (iova, memory) = (Iova(first), PhysAddr(memory.0 & !inside));
    Ok(Some(Window { iova, memory, length, memory_type, privileged, at }))
}
