//! The files by which a Linux kernel tells of its machine.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// The files of a system: those of the kernel, or those of a test. Paths are absolute.
pub trait SystemFiles {
    /// The content of a file.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn read(&self, path: &str) -> Result<Vec<u8>, Errno>;

    /// The names in a directory, without `.` and `..`.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn list(&self, path: &str) -> Result<Vec<String>, Errno>;

    /// Where a symbolic link leads, as the link has it.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn link(&self, path: &str) -> Result<String, Errno>;

    /// The content of a text file; empty if it cannot be read.
    fn text(&self, path: &str) -> String {
        String::from_utf8_lossy(&self.read(path).unwrap_or_default()).into_owned()
    }

    /// The last part of where a symbolic link leads; `None` without a link.
    fn link_name(&self, path: &str) -> Option<String> {
        self.link(path).ok()?.rsplit('/').next().map(String::from)
    }
}

/// An error number of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// No such file or directory.
    pub const NOENT: Errno = Errno(2);

    const NAMES: [(i32, &str); 13] = [
        (1, "EPERM: not permitted"),
        (2, "ENOENT: no such file"),
        (5, "EIO: input or output error"),
        (6, "ENXIO: no such device"),
        (12, "ENOMEM: no memory"),
        (13, "EACCES: access denied"),
        (14, "EFAULT: bad address"),
        (16, "EBUSY: busy"),
        (19, "ENODEV: no such device"),
        (20, "ENOTDIR: no directory"),
        (22, "EINVAL: invalid argument"),
        (32, "EPIPE: closed by the reader"),
        (38, "ENOSYS: the kernel lacks this system call"),
    ];
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl core::error::Error for Errno {}
