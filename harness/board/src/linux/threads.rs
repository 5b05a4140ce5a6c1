//! Callers that run at the same time, each in a thread of its own.
//!
//! A thread is made for a caller and ends after it. Its number is in `TPIDR_EL0`, which the kernel
//! gives to each thread and which this program uses for nothing else.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::asm;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, Ordering};

use linux_raw_sys::general::__NR_clone;
use linux_raw_sys::general::{
    __NR_exit, __NR_futex, __NR_mmap, __NR_munmap, __NR_sched_getaffinity, CLONE_CHILD_CLEARTID,
    CLONE_FILES, CLONE_FS, CLONE_SETTLS, CLONE_SIGHAND, CLONE_SYSVSEM, CLONE_THREAD, CLONE_VM,
    FUTEX_WAIT, MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE,
};

use super::process;
use super::syscall::syscall;
use crate::scenarios::backend::Together;

const STACK_BYTES: usize = 1 << 20;
/// More CPUs bring nothing to a scenario.
const MOST_CPUS: usize = 8;
const FLAGS: u32 = CLONE_VM
    | CLONE_FS
    | CLONE_FILES
    | CLONE_SIGHAND
    | CLONE_THREAD
    | CLONE_SYSVSEM
    | CLONE_SETTLS
    | CLONE_CHILD_CLEARTID;

type Caller<'c> = Box<dyn FnOnce() + Send + 'c>;

/// The number of the thread that calls: 0 for the first.
#[must_use]
pub fn number() -> usize {
    let number: usize;
    // SAFETY: reads a register of this thread.
    unsafe { asm!("mrs {}, tpidr_el0", out(reg) number, options(nomem, nostack, preserves_flags)) };
    number
}

/// CPUs on which this process may run.
#[must_use]
pub fn cpus() -> usize {
    let mut mask = [0u64; 16];
    let arguments = [0, size_of_val(&mask), mask.as_mut_ptr().addr(), 0, 0, 0];
    // SAFETY: the kernel writes to the mask.
    let known = unsafe { syscall(__NR_sched_getaffinity, arguments) }.is_ok();
    let count: u32 = mask.iter().map(|word| word.count_ones()).sum();
    if known { (count as usize).clamp(1, MOST_CPUS) } else { 1 }
}

/// The threads of a process, as many as it has CPUs.
#[derive(Clone, Copy, Debug)]
pub struct Threads(pub usize);

impl Together for Threads {
    fn cpus(&self) -> usize {
        self.0
    }

    /// A caller that gets no thread runs on this one, in the order of the list, after the first.
    fn run<'c>(&self, mut callers: Vec<Caller<'c>>) {
        let mut running = Vec::new();
        // Signals are for the first thread, which no caller must disturb.
        let mask = process::block_all();
        for number in 1..self.0 {
            if callers.len() < 2 {
                break;
            }
            let Some(caller) = callers.pop() else { break };
            match Thread::start(number, caller) {
                Ok(thread) => running.push(thread),
                Err(caller) => {
                    callers.push(caller);
                    break;
                }
            }
        }
        mask.release();
        for caller in callers {
            caller();
        }
        // The drop of each waits until it has ended.
        drop(running);
    }
}

/// A thread that runs. What its caller borrows must outlive this value, whose drop waits.
struct Thread<'c> {
    stack: NonNull<u8>,
    /// The kernel clears it and wakes the waiter when the thread has ended.
    alive: Box<AtomicU32>,
    _caller: core::marker::PhantomData<Caller<'c>>,
}

impl<'c> Thread<'c> {
    /// Starts a thread. Returns the caller if there is none.
    fn start(number: usize, caller: Caller<'c>) -> Result<Self, Caller<'c>> {
        let protection = (PROT_READ | PROT_WRITE) as usize;
        let flags = (MAP_PRIVATE | MAP_ANONYMOUS) as usize;
        // SAFETY: a new mapping changes no other one.
        let stack =
            unsafe { syscall(__NR_mmap, [0, STACK_BYTES, protection, flags, usize::MAX, 0]) };
        let Some(stack) = stack.ok().and_then(|at| NonNull::new(at as *mut u8)) else {
            return Err(caller);
        };
        let alive = Box::new(AtomicU32::new(1));
        let thread = Thread { stack, alive, _caller: core::marker::PhantomData };
        let packed = Box::into_raw(Box::new(caller));
        let top = stack.as_ptr().wrapping_add(STACK_BYTES);
        // SAFETY: the stack is new, 16-byte aligned at its top, and stays until `drop` has seen
        // the thread's end; so does `alive`. The new thread takes `packed` over.
        let made = unsafe { clone(top, thread.alive.as_ptr(), number, packed.cast()) };
        if made > 0 {
            return Ok(thread);
        }
        // Nothing will clear it.
        thread.alive.store(0, Ordering::Relaxed);
        // SAFETY: no thread was made, so the box is still this one's.
        Err(*unsafe { Box::from_raw(packed) })
    }
}

impl Drop for Thread<'_> {
    fn drop(&mut self) {
        while self.alive.load(Ordering::Acquire) != 0 {
            let arguments = [self.alive.as_ptr().addr(), FUTEX_WAIT as usize, 1, 0, 0, 0];
            // SAFETY: the kernel reads the word, and sleeps while it is 1.
            let _ = unsafe { syscall(__NR_futex, arguments) };
        }
        // SAFETY: the thread has ended, so nothing uses its stack.
        let _ =
            unsafe { syscall(__NR_munmap, [self.stack.as_ptr().addr(), STACK_BYTES, 0, 0, 0, 0]) };
    }
}

/// Makes a thread that calls [`begin`] with `packed`. Returns its id, or a negative error.
///
/// # Safety
///
/// `top` is the end of a stack of its own. `alive` and the stack stay until the kernel has cleared
/// `alive`. `packed` is a box of a caller.
unsafe fn clone(top: *mut u8, alive: *mut u32, number: usize, packed: *mut u8) -> isize {
    let result: isize;
    // SAFETY: as the caller promises. The new thread starts behind `svc` with x0 = 0 and its own
    // stack, calls `begin`, and never comes back. Here, the kernel changes x0 only.
    unsafe {
        asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, #0",
            "mov x30, #0",
            "mov x0, {packed}",
            "br {begin}",
            "2:",
            packed = in(reg) packed,
            begin = in(reg) begin as extern "C" fn(*mut Caller<'static>) -> !,
            in("x8") __NR_clone as usize,
            inlateout("x0") FLAGS as usize as isize => result,
            in("x1") top,
            in("x2") ptr::null_mut::<u32>(),
            in("x3") number,
            in("x4") alive,
        );
    }
    result
}

extern "C" fn begin(packed: *mut Caller<'static>) -> ! {
    // SAFETY: `start` has made this box for this thread. The lifetime is that of `Thread`, which
    // waits.
    let caller = unsafe { Box::from_raw(packed) };
    caller();
    loop {
        // SAFETY: ends this thread only.
        let _ = unsafe { syscall(__NR_exit, [0; 6]) };
    }
}
