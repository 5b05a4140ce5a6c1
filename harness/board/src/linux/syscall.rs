//! The system call instruction.

use core::arch::asm;

use crate::devmem::system_files::Errno;

const LARGEST_ERRNO: isize = 4095;

/// Calls the kernel.
///
/// # Safety
///
/// The arguments are right for this call: what they point to is valid for what the kernel reads and
/// writes, and the call does to this process only what the caller can answer for.
///
/// # Errors
///
/// The kernel's error.
pub unsafe fn syscall(number: u32, arguments: [usize; 6]) -> Result<usize, Errno> {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    // SAFETY: as the caller promises. The kernel keeps all registers but x0.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number as usize,
            inlateout("x0") a as isize => result,
            in("x1") b,
            in("x2") c,
            in("x3") d,
            in("x4") e,
            in("x5") f,
            options(nostack),
        );
    }
    if (-LARGEST_ERRNO..0).contains(&result) {
        return Err(Errno(-result as i32));
    }
    Ok(result as usize)
}
