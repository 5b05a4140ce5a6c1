//! How a program says that it ends by a panic or an exception, in one line that a host recognises.
//!
//! ```text
//! !! panic: index out of bounds at src/bin/tour.rs:10:5; step "unmap"
//! !! exception: data abort on a write: translation fault, level 1; ESR=0x96000045 ELR=0x40201000 FAR=0x9050000; EL1 CPU 0; step "probe"
//! ```
//!
//! Both begin with `!! `, and end with the step that the program has named last.

use core::fmt;
use core::panic::PanicInfo;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::{console, exit};

/// The status after a panic.
pub const PANICKED: u8 = 101;
/// The status after an exception.
pub const EXCEPTION: u8 = 102;

static STEP: AtomicPtr<&'static str> = AtomicPtr::new(ptr::null_mut());

/// Names what the program does from now on, on any CPU: `step(&"probe")`.
pub fn step(name: &'static &'static str) {
    STEP.store(ptr::from_ref(name).cast_mut(), Ordering::Relaxed);
}

/// The step that was named last.
#[must_use]
pub fn last_step() -> &'static str {
    let step = STEP.load(Ordering::Relaxed);
    // SAFETY: null, or what `step` stored: a reference that lives for ever and is never written.
    unsafe { step.as_ref() }.copied().unwrap_or("start")
}

/// Prints the last line of the program, and ends it.
pub(super) fn fail(status: u8, line: fmt::Arguments<'_>) -> ! {
    console::print_last(format_args!("!! {line}; step \"{}\"", last_step()));
    exit::exit(status)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(at) => fail(PANICKED, format_args!("panic: {} at {at}", info.message())),
        None => fail(PANICKED, format_args!("panic: {}", info.message())),
    }
}
