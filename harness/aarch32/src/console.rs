//! The console and the end of the program: QEMU's semihosting.

use core::arch::asm;
use core::ffi::CStr;

const SYS_WRITE0: usize = 0x04;
const SYS_EXIT: usize = 0x18;
/// `ADP_Stopped_ApplicationExit`. QEMU ends with status 0 for it, and with 1 for any other reason.
const APPLICATION_EXIT: usize = 0x2_0026;
const RUN_TIME_ERROR: usize = 0x2_0023;

/// Asks QEMU for something.
///
/// # Safety
///
/// `argument` is what the call needs.
unsafe fn semihost(call: usize, argument: usize) {
    // SAFETY: as the caller promises. The call changes r0 only.
    unsafe {
        asm!("svc #0x123456", inout("r0") call => _, in("r1") argument, options(nostack));
    }
}

/// Prints a text.
pub(crate) fn write(text: &CStr) {
    // SAFETY: a string that ends with 0.
    unsafe { semihost(SYS_WRITE0, text.as_ptr().addr()) };
}

/// Ends QEMU.
pub(crate) fn exit(passed: bool) -> ! {
    let reason = if passed { APPLICATION_EXIT } else { RUN_TIME_ERROR };
    // SAFETY: the argument is a reason.
    unsafe { semihost(SYS_EXIT, reason) };
    loop {
        core::hint::spin_loop();
    }
}

/// Prints a line.
macro_rules! say {
    ($($text:tt)*) => {{
        let line = alloc::format!("{}\n", format_args!($($text)*));
        $crate::console::write(&alloc::ffi::CString::new(line).unwrap_or_default());
    }};
}
pub(crate) use say;
