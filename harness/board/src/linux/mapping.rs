//! Memory of this process that is a device's registers, or a huge page.

use alloc::vec;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use linux_raw_sys::general::{
    __NR_mmap, __NR_pipe2, __NR_vmsplice, MAP_ANONYMOUS, MAP_HUGE_SHIFT, MAP_HUGETLB, MAP_POPULATE,
    MAP_SHARED, PROT_READ, PROT_WRITE, iovec,
};

use super::files::{Access, File, KernelFiles};
use super::start::page_bytes;
use super::syscall::syscall;
use crate::devmem::huge_page::{HugePageError, address, free_size};
use crate::devmem::system_files::Errno;
use crate::machine::Region;

const NO_FILE: usize = usize::MAX;

/// Why there is no memory that the SMMU can share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// No huge page serves.
    #[error("{0}")]
    HugePage(#[from] HugePageError),
    /// A system call failed.
    #[error("{what}: {error}")]
    System {
        /// Which.
        what: &'static str,
        /// The kernel's error.
        error: Errno,
    },
}

fn failed(what: &'static str) -> impl FnOnce(Errno) -> MemoryError {
    move |error| MemoryError::System { what, error }
}

/// Maps a part of a file until the end of the process.
///
/// # Safety
///
/// The caller answers for what accesses to the mapping do.
///
/// # Errors
///
/// The kernel's error.
pub unsafe fn map(file: &File, offset: u64, bytes: u64) -> Result<NonNull<u8>, Errno> {
    let protection = (PROT_READ | PROT_WRITE) as usize;
    let (flags, fd) = (MAP_SHARED as usize, file.fd() as usize);
    let arguments = [0, bytes as usize, protection, flags, fd, offset as usize];
    // SAFETY: a new mapping at a place that the kernel chooses changes no other one.
    let at = unsafe { syscall(__NR_mmap, arguments) }?;
    NonNull::new(at as *mut u8).ok_or(Errno(14))
}

/// A huge page, which the process keeps until its end.
///
/// The mapping is shared, so a second process has the same page and not a copy. A pipe holds a
/// reference to the page, so the kernel does not move it.
#[derive(Debug)]
pub struct HugePage {
    /// Where it is in physical memory.
    pub region: Region,
    /// Where the process has it.
    pub at: NonNull<u8>,
    /// The pipe that holds it.
    _held: (File, File),
}

impl HugePage {
    /// Takes the smallest free huge page with at least `need` bytes.
    ///
    /// # Errors
    ///
    /// There is none, or the kernel does not tell where it is.
    pub fn take(need: u64) -> Result<Self, MemoryError> {
        let bytes = free_size(need, &KernelFiles)?;
        let log2 = bytes.ilog2();
        let kind = MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE | log2 << MAP_HUGE_SHIFT;
        let protection = (PROT_READ | PROT_WRITE) as usize;
        let arguments = [0, bytes as usize, protection, kind as usize, NO_FILE, 0];
        // SAFETY: a new mapping at a place that the kernel chooses changes no other one.
        let at = unsafe { syscall(__NR_mmap, arguments) }.map_err(failed("map a huge page"))?;
        let at = NonNull::new(at as *mut u8).ok_or(HugePageError::Hidden)?;
        // SAFETY: the mapping is at least 8 bytes, aligned, and this process's own.
        unsafe { at.cast::<AtomicU64>().as_ref() }.store(0, Ordering::Relaxed);
        let held = hold(at)?;
        let base = physical(at, bytes)?;
        let region = Region { base, bytes };
        Ok(HugePage { region, at, _held: held })
    }

    /// Whether the page is still where it was.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        physical(self.at, self.region.bytes) == Ok(self.region.base)
    }
}

/// Puts the first bytes of a page into a pipe, which holds the whole page from then on.
fn hold(at: NonNull<u8>) -> Result<(File, File), MemoryError> {
    let mut ends = [0u32; 2];
    let arguments = [ends.as_mut_ptr().addr(), 0, 0, 0, 0, 0];
    // SAFETY: the kernel writes two numbers of 32 bits.
    unsafe { syscall(__NR_pipe2, arguments) }.map_err(failed("make a pipe"))?;
    let ends = (File::of(ends[0]), File::of(ends[1]));
    let part = iovec { iov_base: at.as_ptr().cast(), iov_len: 8 };
    let arguments = [ends.1.fd() as usize, (&raw const part).addr(), 1, 0, 0, 0];
    // SAFETY: the kernel reads one `iovec`, which names memory of this process.
    unsafe { syscall(__NR_vmsplice, arguments) }.map_err(failed("hold a huge page"))?;
    Ok(ends)
}

/// The physical address of a mapping, by `/proc/self/pagemap`.
fn physical(at: NonNull<u8>, bytes: u64) -> Result<u64, MemoryError> {
    const PATH: &str = "/proc/self/pagemap";
    let file = File::open(PATH, Access::Read).map_err(failed(PATH))?;
    let page = page_bytes();
    let mut raw = vec![0u8; (bytes / page * 8) as usize];
    let offset = at.as_ptr().addr() as u64 / page * 8;
    let read = file.read_at(&mut raw, offset).map_err(failed(PATH))?;
    if read < raw.len() {
        return Err(HugePageError::Hidden.into());
    }
    let (entries, _) = raw.as_chunks::<8>();
    let entries: Vec<u64> = entries.iter().map(|entry| u64::from_le_bytes(*entry)).collect();
    Ok(address(&entries, page)?)
}
