//! System registers of the CPU that runs.

use core::arch::asm;

macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: reads a register that every exception level above EL0 may read, or that the
        // caller's exception level has. The read changes nothing.
        unsafe {
            asm!(concat!("mrs {}, ", $register), out(reg) value, options(nomem, nostack, preserves_flags));
        }
        value
    }};
}

/// The exception level: 1 or 2.
#[must_use]
pub fn exception_level() -> u8 {
    (read!("CurrentEL") >> 2 & 3) as u8
}

/// `MPIDR_EL1`, its affinity bits only.
#[must_use]
pub fn affinity() -> u64 {
    read!("mpidr_el1") & 0xff_00ff_ffff
}

/// The number that [`set_number`] gave to this CPU; 0 before.
#[must_use]
pub fn number() -> usize {
    let at_el2 = exception_level() == 2;
    (if at_el2 { read!("tpidr_el2") } else { read!("tpidr_el1") }) as usize
}

/// Gives this CPU a number, which [`number`] returns from then on.
pub fn set_number(number: usize) {
    let number = number as u64;
    if exception_level() == 2 {
        // SAFETY: a scratch register of this exception level, which nothing else here uses.
        unsafe {
            asm!("msr tpidr_el2, {}", in(reg) number, options(nomem, nostack, preserves_flags));
        }
    } else {
        // SAFETY: as above.
        unsafe {
            asm!("msr tpidr_el1, {}", in(reg) number, options(nomem, nostack, preserves_flags));
        }
    }
}

/// Makes EL2 able to run this program: interrupts come to EL2, and nothing traps SIMD or `CNTVCT`.
/// No effect at EL1. Each CPU calls it once.
pub fn prepare_exception_level() {
    if exception_level() != 2 {
        return;
    }
    // HCR_EL2.{AMO, IMO, FMO}: SError, IRQ and FIQ are taken at EL2.
    const ROUTE_TO_EL2: u64 = 0b111 << 3;
    // CPTR_EL2 without TFP, TCPAC and TTA: its bits that are RES1 without VHE.
    const NO_TRAPS: u64 = 0x33ff & !(1 << 10);
    // SAFETY: EL2 has these registers. The program runs at EL2 only, so no other exception level
    // sees the change.
    unsafe {
        asm!(
            "mrs {value}, hcr_el2",
            "orr {value}, {value}, {route}",
            "msr hcr_el2, {value}",
            "msr cptr_el2, {traps}",
            "isb",
            value = out(reg) _,
            route = in(reg) ROUTE_TO_EL2,
            traps = in(reg) NO_TRAPS,
            options(nostack, preserves_flags),
        );
    }
}

/// `ESR_ELx` and `FAR_ELx` of the exception that was taken last.
#[must_use]
pub fn syndrome() -> (u64, u64) {
    if exception_level() == 2 {
        (read!("esr_el2"), read!("far_el2"))
    } else {
        (read!("esr_el1"), read!("far_el1"))
    }
}

/// Masks interrupts on this CPU. Returns whether they were masked before.
#[must_use]
pub fn mask_interrupts() -> bool {
    const I: u64 = 1 << 7;
    let was = read!("daif") & I != 0;
    // SAFETY: masking an interrupt only delays it. Without `nomem` no access moves out of the
    // masked part.
    unsafe { asm!("msr daifset, #2", options(nostack, preserves_flags)) };
    was
}

/// Unmasks interrupts on this CPU.
pub fn unmask_interrupts() {
    // SAFETY: handlers are in place from the start of the program on. Without `nomem` no access
    // moves out of the masked part.
    unsafe { asm!("msr daifclr, #2", options(nostack, preserves_flags)) };
}

/// Stops this CPU for ever.
pub fn halt() -> ! {
    let _ = mask_interrupts();
    loop {
        // SAFETY: waits; changes nothing.
        unsafe { asm!("wfi", options(nomem, nostack, preserves_flags)) };
    }
}
