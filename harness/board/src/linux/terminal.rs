//! A console as a line: no echo, no editing, no signals by characters.

use core::mem::MaybeUninit;

use linux_raw_sys::general::{
    __NR_ioctl, ECHO, ECHONL, ICANON, ICRNL, IEXTEN, IGNCR, INLCR, ISIG, ISTRIP, IXON, OPOST, VMIN,
    VTIME, termios,
};
use linux_raw_sys::ioctl::{TCGETS, TCSETS};

use super::files::Stream;
use super::syscall::syscall;

/// A terminal that was made raw, and its settings before.
#[derive(Clone, Copy, Debug)]
pub struct RawTerminal {
    stream: Stream,
    before: termios,
}

impl RawTerminal {
    /// Makes a terminal raw. `None` if the stream is none.
    #[must_use]
    pub fn make(stream: Stream) -> Option<Self> {
        let mut before = MaybeUninit::<termios>::zeroed();
        let arguments =
            [stream.fd() as usize, TCGETS as usize, before.as_mut_ptr().addr(), 0, 0, 0];
        // SAFETY: the kernel writes the settings.
        unsafe { syscall(__NR_ioctl, arguments) }.ok()?;
        // SAFETY: all its fields are numbers, and the kernel has written them.
        let before = unsafe { before.assume_init() };
        let mut raw = before;
        raw.c_iflag &= !(ICRNL | IGNCR | INLCR | ISTRIP | IXON);
        raw.c_oflag &= !OPOST;
        raw.c_lflag &= !(ECHO | ECHONL | ICANON | IEXTEN | ISIG);
        for (index, value) in [(VMIN, 1), (VTIME, 0)] {
            if let Some(place) = raw.c_cc.get_mut(index as usize) {
                *place = value;
            }
        }
        let terminal = RawTerminal { stream, before };
        terminal.set(&raw);
        Some(terminal)
    }

    /// Makes the terminal as before. Allocates nothing.
    pub fn restore(&self) {
        self.set(&self.before);
    }

    fn set(&self, settings: &termios) {
        let arguments =
            [self.stream.fd() as usize, TCSETS as usize, (&raw const *settings).addr(), 0, 0, 0];
        // SAFETY: the kernel reads the settings.
        let _ = unsafe { syscall(__NR_ioctl, arguments) };
    }
}
