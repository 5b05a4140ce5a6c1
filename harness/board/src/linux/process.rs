//! A second process, signals, and the end.

use core::ffi::{c_int, c_void};
use core::mem;
use core::ptr;

use linux_raw_sys::general::{
    __NR_clone, __NR_exit_group, __NR_getpid, __NR_getppid, __NR_kill, __NR_ppoll, __NR_prctl,
    __NR_rt_sigaction, __NR_rt_sigprocmask, __NR_rt_sigtimedwait, __NR_wait4, POLLIN, SIG_BLOCK,
    SIG_SETMASK, SIGCHLD, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, kernel_sigaction,
    kernel_sigset_t, pollfd, timespec,
};
use linux_raw_sys::prctl::PR_SET_PDEATHSIG;

use super::files::Stream;
use super::syscall::syscall;
use crate::devmem::system_files::Errno;

const SIGSET_BYTES: usize = size_of::<kernel_sigset_t>();
/// Signals by which a user or a system ends a program.
const ENDING: [u32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// The id of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pid(usize);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this exit status.
    Exit(u8),
    /// By this signal.
    Signal(u8),
}

/// Which of two processes continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The one that called, and the id of the new one.
    Parent(Pid),
    /// The new one.
    Child,
}

/// A set of signals.
#[derive(Clone, Copy, Debug)]
struct Signals(kernel_sigset_t);

impl Signals {
    fn of(signals: &[u32]) -> Self {
        let bits = signals.iter().fold(0u64, |bits, signal| bits | 1 << (signal - 1));
        Signals(kernel_sigset_t { sig: [bits] })
    }
}

/// Ends the process, with all its threads.
pub fn exit(status: u8) -> ! {
    loop {
        // SAFETY: the process ends; nothing of it runs any more.
        let _ = unsafe { syscall(__NR_exit_group, [status.into(), 0, 0, 0, 0, 0]) };
    }
}

/// Makes a second process with a copy of this one's memory. Shared mappings stay shared.
///
/// # Errors
///
/// The kernel's error.
pub fn fork() -> Result<Fork, Errno> {
    // SAFETY: without `CLONE_VM` the new process has its own memory and stack.
    match unsafe { syscall(__NR_clone, [SIGCHLD as usize, 0, 0, 0, 0, 0]) }? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(Pid(pid))),
    }
}

/// The id of this process.
#[must_use]
pub fn own_id() -> Pid {
    // SAFETY: reads a number.
    Pid(unsafe { syscall(__NR_getpid, [0; 6]) }.unwrap_or(0))
}

/// Sends this process `SIGTERM` when its parent ends. Fails if `parent` has ended already.
///
/// # Errors
///
/// The kernel's error.
pub fn end_with(parent: Pid) -> Result<(), Errno> {
    let arguments = [PR_SET_PDEATHSIG as usize, SIGTERM as usize, 0, 0, 0, 0];
    // SAFETY: changes nothing but which signal comes.
    unsafe { syscall(__NR_prctl, arguments) }?;
    // SAFETY: reads a number.
    let now = unsafe { syscall(__NR_getppid, [0; 6]) }?;
    if Pid(now) == parent { Ok(()) } else { Err(Errno(3)) }
}

/// Kills a process, which cannot prevent it.
pub fn kill(pid: Pid) {
    // SAFETY: the id is that of a child that was not waited for, so it is no other process.
    let _ = unsafe { syscall(__NR_kill, [pid.0, SIGKILL as usize, 0, 0, 0, 0]) };
}

/// From now on, signals that end a program wait until [`supervise`] takes them. Returns what a
/// second process needs to have them as before.
#[must_use]
pub fn hold_signals() -> HeldSignals {
    let held = Signals::of(&[SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGCHLD]);
    HeldSignals(mask(SIG_BLOCK, &held))
}

/// The signals that were blocked before.
#[derive(Clone, Copy, Debug)]
pub struct HeldSignals(Signals);

impl HeldSignals {
    /// Lets signals through as before.
    pub fn release(self) {
        let _ = mask(SIG_SETMASK, &self.0);
    }
}

/// Blocks all signals of this thread but those of its own faults.
pub(super) fn block_all() -> HeldSignals {
    HeldSignals(mask(SIG_SETMASK, &Signals(kernel_sigset_t { sig: [u64::MAX] })))
}

fn mask(how: u32, signals: &Signals) -> Signals {
    let mut before = Signals(kernel_sigset_t { sig: [0] });
    let (new, old) = ((&raw const signals.0).addr(), (&raw mut before.0).addr());
    // SAFETY: the kernel reads one set and writes another.
    let _ = unsafe { syscall(__NR_rt_sigprocmask, [how as usize, new, old, SIGSET_BYTES, 0, 0]) };
    before
}

/// Waits until a child has ended. A signal that ends a program kills the child first. Returns how
/// the child ended, and that signal.
#[must_use]
pub fn supervise(child: Pid) -> (Ending, Option<u8>) {
    let waited = Signals::of(&[SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGCHLD]);
    let mut ended_by = None;
    loop {
        let set = (&raw const waited.0).addr();
        // A bound, so that a child's end is noticed in any case.
        let limit = timespec { tv_sec: 1, tv_nsec: 0 };
        let arguments = [set, 0, (&raw const limit).addr(), SIGSET_BYTES, 0, 0];
        // SAFETY: the kernel reads a set and a time.
        let signal = unsafe { syscall(__NR_rt_sigtimedwait, arguments) }.unwrap_or(0) as u32;
        if ENDING.contains(&signal) {
            ended_by = ended_by.or(u8::try_from(signal).ok());
            kill(child);
        }
        if let Some(ending) = ended(child) {
            return (ending, ended_by);
        }
    }
}

/// How a child ended, if it has.
fn ended(child: Pid) -> Option<Ending> {
    const WITHOUT_WAITING: usize = 1;
    let mut status: c_int = 0;
    let arguments = [child.0, (&raw mut status).addr(), WITHOUT_WAITING, 0, 0, 0];
    // SAFETY: the kernel writes the status.
    match unsafe { syscall(__NR_wait4, arguments) } {
        Ok(pid) if pid == child.0 => {
            let signal = status as u8 & 0x7f;
            Some(match signal {
                0 => Ending::Exit((status >> 8) as u8),
                signal => Ending::Signal(signal),
            })
        }
        Ok(_) => None,
        // No such child: somebody else has taken its status.
        Err(_) => Some(Ending::Signal(SIGKILL as u8)),
    }
}

/// What runs when a signal comes. It allocates nothing, takes no lock, and ends the process.
pub type Handler = unsafe extern "C" fn(c_int, *mut c_void, *mut c_void);

/// Runs `handler` when this signal comes.
///
/// # Safety
///
/// The handler does nothing that the code which it interrupts does not bear.
///
/// # Errors
///
/// The kernel's error.
pub unsafe fn on_signal(signal: u32, handler: Handler) -> Result<(), Errno> {
    // SAFETY: a function pointer, as the kernel calls it; both types have the same layout.
    let handler = unsafe { mem::transmute::<Handler, unsafe extern "C" fn(c_int)>(handler) };
    let action = kernel_sigaction {
        sa_handler_kernel: Some(handler),
        sa_flags: 0,
        sa_restorer: None,
        // No other signal interrupts it.
        sa_mask: kernel_sigset_t { sig: [u64::MAX] },
    };
    let arguments = [signal as usize, (&raw const action).addr(), 0, SIGSET_BYTES, 0, 0];
    // SAFETY: the kernel reads the action; the caller answers for the handler.
    unsafe { syscall(__NR_rt_sigaction, arguments) }.map(|_| ())
}

/// Waits until a stream has data or is closed, for `milliseconds` at most.
#[must_use]
pub fn has_data(stream: Stream, milliseconds: u32) -> bool {
    let mut asked = pollfd { fd: stream.fd() as c_int, events: POLLIN as i16, revents: 0 };
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    let limit = timespec { tv_sec: seconds.into(), tv_nsec: i64::from(rest) * 1_000_000 };
    let arguments = [(&raw mut asked).addr(), 1, (&raw const limit).addr(), 0, 0, 0];
    // SAFETY: the kernel reads a time, and reads and writes one `pollfd`.
    unsafe { syscall(__NR_ppoll, arguments) }.unwrap_or(0) > 0
}

/// Waits for ever: until a signal ends the process.
pub fn wait_for_ever() -> ! {
    loop {
        let _ = has_data(Stream::NONE, 1000);
    }
}

/// Reads address 0, as a wrong pointer does.
pub fn fault() {
    // SAFETY: nothing is mapped there, so the process ends by SIGSEGV.
    let _ = unsafe { ptr::without_provenance::<u32>(4).read_volatile() };
}
