//! Files of the kernel.

use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use linux_raw_sys::general::{
    __NR_close, __NR_getdents64, __NR_openat, __NR_pread64, __NR_pwrite64, __NR_read,
    __NR_readlinkat, __NR_write, AT_FDCWD, O_CLOEXEC, O_DIRECTORY, O_RDONLY, O_RDWR, O_SYNC,
};

use super::syscall::syscall;
use crate::devmem::system_files::{Errno, SystemFiles};

const INVALID: Errno = Errno(22);
const INTERRUPTED: Errno = Errno(4);
/// No file of the kernel that this program reads is longer.
const LONGEST: usize = 8 << 20;
const CURRENT: usize = AT_FDCWD as isize as usize;

/// An open file, closed when it is dropped.
#[derive(Debug)]
pub struct File(u32);

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads.
    Read,
    /// Reads and writes.
    Write,
    /// Reads and writes; a mapping is for registers.
    Registers,
}

impl File {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn open(path: &str, access: Access) -> Result<Self, Errno> {
        let flags = match access {
            Access::Read => O_RDONLY,
            Access::Write => O_RDWR,
            Access::Registers => O_RDWR | O_SYNC,
        };
        Self::open_with(path, flags)
    }

    fn open_with(path: &str, flags: u32) -> Result<Self, Errno> {
        let path = CString::new(path).map_err(|_| INVALID)?;
        let flags = (flags | O_CLOEXEC) as usize;
        // SAFETY: the path is a string that ends with 0.
        let fd = unsafe { syscall(__NR_openat, [CURRENT, path.as_ptr().addr(), flags, 0, 0, 0]) }?;
        Ok(File(fd as u32))
    }

    /// Takes a file descriptor over.
    pub(super) const fn of(fd: u32) -> Self {
        File(fd)
    }

    /// The file descriptor.
    #[must_use]
    pub const fn fd(&self) -> u32 {
        self.0
    }

    /// Reads at an offset. Returns how many bytes.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let (to, length) = (bytes.as_mut_ptr().addr(), bytes.len());
        // SAFETY: the kernel writes `length` bytes at most, to this slice.
        unsafe { syscall(__NR_pread64, [self.0 as usize, to, length, offset as usize, 0, 0]) }
    }

    /// Writes all bytes at an offset, with one call. Allocates nothing.
    ///
    /// # Errors
    ///
    /// The kernel's error, or it wrote less.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Errno> {
        let (from, length) = (bytes.as_ptr().addr(), bytes.len());
        let arguments = [self.0 as usize, from, length, offset as usize, 0, 0];
        // SAFETY: the kernel reads this slice.
        let written = unsafe { syscall(__NR_pwrite64, arguments) }?;
        if written == length { Ok(()) } else { Err(Errno(5)) }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: nothing uses the descriptor any more.
        let _ = unsafe { syscall(__NR_close, [self.0 as usize, 0, 0, 0, 0, 0]) };
    }
}

/// A standard stream, which stays open.
#[derive(Clone, Copy, Debug)]
pub struct Stream(u32);

impl Stream {
    /// Standard input.
    pub const INPUT: Stream = Stream(0);
    /// Standard output.
    pub const OUTPUT: Stream = Stream(1);
    /// Standard error.
    pub const ERROR: Stream = Stream(2);
    /// No stream: it never has data.
    pub(super) const NONE: Stream = Stream(u32::MAX);

    /// The file descriptor.
    #[must_use]
    pub const fn fd(self) -> u32 {
        self.0
    }

    /// Reads what has come. 0 bytes: the stream is closed.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn read(self, bytes: &mut [u8]) -> Result<usize, Errno> {
        loop {
            let arguments = [self.0 as usize, bytes.as_mut_ptr().addr(), bytes.len(), 0, 0, 0];
            // SAFETY: the kernel writes to this slice.
            match unsafe { syscall(__NR_read, arguments) } {
                Err(INTERRUPTED) => {}
                other => return other,
            }
        }
    }

    /// Writes all bytes. Allocates nothing.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn write(self, bytes: &[u8]) -> Result<(), Errno> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let arguments = [self.0 as usize, rest.as_ptr().addr(), rest.len(), 0, 0, 0];
            // SAFETY: the kernel reads this slice.
            match unsafe { syscall(__NR_write, arguments) } {
                Ok(0) => return Err(Errno(5)),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(INTERRUPTED) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Text on a standard stream, in pieces of a small buffer: no allocation, few system calls.
#[derive(Debug)]
pub struct Writer {
    stream: Stream,
    buffer: [u8; 512],
    used: usize,
}

impl Writer {
    /// Nothing yet.
    #[must_use]
    pub const fn new(stream: Stream) -> Self {
        Writer { stream, buffer: [0; 512], used: 0 }
    }

    fn flush(&mut self) {
        // A closed stream is found by the next read.
        let _ = self.stream.write(self.buffer.get(..self.used).unwrap_or_default());
        self.used = 0;
    }
}

impl core::fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            if self.used == self.buffer.len() {
                self.flush();
            }
            if let Some(place) = self.buffer.get_mut(self.used) {
                *place = byte;
                self.used += 1;
            }
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Prints one line to standard output, or to standard error: `print!`'s arguments.
pub fn print(stream: Stream, line: core::fmt::Arguments<'_>) {
    use core::fmt::Write;
    let mut out = Writer::new(stream);
    let _ = out.write_fmt(line);
    let _ = out.write_str("\n");
}

/// The files of the running kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelFiles;

impl SystemFiles for KernelFiles {
    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let file = File::open(path, Access::Read)?;
        let mut content = Vec::new();
        let mut chunk = vec![0; 64 << 10];
        loop {
            match file.read_at(&mut chunk, content.len() as u64)? {
                0 => return Ok(content),
                read => content.extend_from_slice(chunk.get(..read).unwrap_or_default()),
            }
            if content.len() > LONGEST {
                return Err(Errno(27));
            }
        }
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Errno> {
        let folder = File::open_with(path, O_RDONLY | O_DIRECTORY)?;
        let mut names = Vec::new();
        let mut chunk = vec![0u8; 32 << 10];
        loop {
            let arguments = [folder.0 as usize, chunk.as_mut_ptr().addr(), chunk.len(), 0, 0, 0];
            // SAFETY: the kernel writes to this slice.
            let length = unsafe { syscall(__NR_getdents64, arguments) }?;
            let mut entries = chunk.get(..length).unwrap_or_default();
            if entries.is_empty() {
                return Ok(names);
            }
            // `linux_dirent64`: two numbers of 8 bytes, the length of the entry, the type, the name.
            while let (Some(length), Some(name)) = (entries.get(16..18), entries.get(19..)) {
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                if name != b"." && name != b".." {
                    names.push(String::from_utf8_lossy(name).into_owned());
                }
                let length: [u8; 2] = length.try_into().unwrap_or_default();
                let length = usize::from(u16::from_le_bytes(length)).max(19);
                entries = entries.get(length..).unwrap_or_default();
            }
        }
    }

    fn link(&self, path: &str) -> Result<String, Errno> {
        let path = CString::new(path).map_err(|_| INVALID)?;
        let mut to = vec![0u8; 4096];
        let arguments = [CURRENT, path.as_ptr().addr(), to.as_mut_ptr().addr(), to.len(), 0, 0];
        // SAFETY: the path ends with 0, and the kernel writes to this slice.
        let length = unsafe { syscall(__NR_readlinkat, arguments) }?;
        Ok(String::from_utf8_lossy(to.get(..length).unwrap_or_default()).into_owned())
    }
}
