//! RAM that this process and QEMU share.

use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

use super::error::QemuError;

/// The address of the machine's RAM.
pub const RAM_BASE: u64 = 0x4000_0000;
/// The first MiB of RAM, into which QEMU writes the machine's device tree at every reset.
const DEVICE_TREE_SIZE: usize = 1 << 20;

/// The whole RAM of a machine, as this process sees it.
///
/// This process and QEMU share the same bytes: the device model reads what this process stores,
/// without a message. The handle is counted. The memory lives as long as any clone of it, also
/// after the machine.
///
/// RAM is zero at the start of a machine, and a reset does not change it.
///
/// The words are in this host's byte order. QEMU reads guest memory as little-endian, so on a
/// big-endian host convert with [`u64::to_le`].
#[derive(Clone, Debug)]
pub struct SharedRam(Arc<Mapping>);

impl SharedRam {
    /// `size` must be a multiple of the page size (see [`MachineConfig`]).
    ///
    /// [`MachineConfig`]: super::MachineConfig
    pub(super) fn new(size: u64) -> Result<Self, QemuError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create("guest-ram", flags)
            .map_err(|e| QemuError::system("create the machine's RAM")(e.into()))?;
        // The child's standard input, output and error are 0 to 2.
        let fd = rustix::io::fcntl_dupfd_cloexec(&fd, 3)
            .map_err(|e| QemuError::system("place the machine's RAM")(e.into()))?;
        rustix::fs::ftruncate(&fd, size)
            .map_err(|e| QemuError::system("size the machine's RAM")(e.into()))?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(|e| QemuError::system("seal the machine's RAM")(e.into()))?;
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        Mapping::new(fd, length).map(|mapping| Self(Arc::new(mapping)))
    }

    /// The physical address of the first word.
    pub fn base(&self) -> u64 {
        RAM_BASE
    }

    /// Bytes of RAM.
    pub fn size(&self) -> u64 {
        (self.0.words as u64) * 8
    }

    /// The whole RAM; word `i` is at physical address `base() + 8 * i`.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: `words` counts the whole 8-byte words of the mapping that `new` made
        // readable and writable and that only `Mapping::drop` removes, which the borrow
        // of `self` excludes. A mapping is page-aligned, hence aligned for AtomicU64, and
        // any bytes are a valid AtomicU64. The file is sealed against shrinking, so no
        // page of it can vanish under the slice. No `&mut` and no plain reference to
        // these bytes exists: this process reaches them only through this slice of
        // atomics. QEMU changes them from another process, by ordinary host accesses
        // that act on memory like relaxed atomics; the channel's request and reply order
        // them against ours.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.words) }
    }

    /// The word at a physical address, if it is aligned and within RAM.
    pub fn word(&self, address: u64) -> Option<&AtomicU64> {
        let offset = address.checked_sub(RAM_BASE)?;
        if !offset.is_multiple_of(8) {
            return None;
        }
        self.words().get(usize::try_from(offset / 8).ok()?)
    }

    /// The part that QEMU fills with a device tree. This process does not read it.
    fn device_tree(&self) -> &[AtomicU64] {
        let words = self.words();
        &words[..words.len().min(DEVICE_TREE_SIZE / 8)]
    }

    /// Clears the device tree that QEMU wrote at its start.
    pub(super) fn clear_device_tree(&self) {
        for word in self.device_tree() {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Runs `reset`, and restores what it overwrote.
    pub(super) fn keep_over<T>(&self, reset: impl FnOnce() -> T) -> T {
        let words = self.device_tree();
        let kept: Vec<u64> = words.iter().map(|w| w.load(Ordering::Relaxed)).collect();
        let result = reset();
        for (word, value) in words.iter().zip(kept) {
            word.store(value, Ordering::Relaxed);
        }
        result
    }

    /// A handle to the file, which keeps it open until the child has it.
    pub(super) fn file(&self) -> Arc<Mapping> {
        Arc::clone(&self.0)
    }
}

#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<AtomicU64>,
    words: usize,
    fd: OwnedFd,
}

impl Mapping {
    fn new(fd: OwnedFd, length: usize) -> Result<Self, QemuError> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the address is the kernel's choice, so no existing mapping is touched;
        // the result is owned by the `Mapping` made below, which alone unmaps it.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), length, access, MapFlags::SHARED, &fd, 0)
        };
        let start = start.map_err(|e| QemuError::system("map the machine's RAM")(e.into()))?;
        let start = NonNull::new(start.cast()).ok_or_else(|| {
            QemuError::system("map the machine's RAM")(std::io::ErrorKind::OutOfMemory.into())
        })?;
        Ok(Self { start, words: length / 8, fd })
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and the length are those of the one mapping made in `new` (a
        // multiple of the page size, so no bytes are lost in `words`), and no slice of it
        // is left, because each borrows a `SharedRam` that owns a share of `self`. A
        // failure leaves the memory mapped, which is harmless.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.words * 8) };
    }
}

// SAFETY: the pointer is to memory that is bound to no thread, and is only read (`&self`)
// after construction; what it points to is reached through atomics alone.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`; `words()` hands out `&[AtomicU64]`, which is `Sync`.
unsafe impl Sync for Mapping {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_meet_words() {
        let ram = SharedRam::new(1 << 20).unwrap();
        assert_eq!(ram.size(), 1 << 20);
        assert_eq!(ram.words().len(), (1 << 20) / 8);
        ram.words()[2].store(7, Ordering::Relaxed);
        let word = ram.word(RAM_BASE + 16).unwrap();
        assert_eq!(word.load(Ordering::Relaxed), 7);
        assert!(ram.word(RAM_BASE + 12).is_none());
        assert!(ram.word(RAM_BASE - 8).is_none());
        assert!(ram.word(RAM_BASE + (1 << 20)).is_none());
    }

    #[test]
    fn the_file_cannot_shrink() {
        let ram = SharedRam::new(1 << 20).unwrap();
        assert!(rustix::fs::ftruncate(ram.file().fd(), 4096).is_err());
    }
}
