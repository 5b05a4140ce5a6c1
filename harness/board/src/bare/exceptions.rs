//! Exceptions of this program: interrupts go to the GIC's handlers, all others end the program.

use aarch64_rt::{ExceptionHandlers, RegisterStateRef, exception_handlers};

use super::{cpu, exit, report};
use crate::exception_words::Syndrome;

exception_handlers!(Exceptions);

struct Exceptions;

const INSTRUCTION_BYTES: usize = 4;
const UNKNOWN_REASON: u8 = 0;

impl ExceptionHandlers for Exceptions {
    extern "C" fn sync_current(mut state: RegisterStateRef<'_>) {
        let syndrome = Syndrome(cpu::syndrome().0);
        if syndrome.class() == UNKNOWN_REASON && exit::is_unanswered_semihosting() {
            // SAFETY: the HLT has no effect, so the program goes on behind it.
            unsafe { state.get_mut() }.elr += INSTRUCTION_BYTES;
            return;
        }
        die("", &state)
    }

    extern "C" fn irq_current(_: RegisterStateRef<'_>) {
        super::gic::dispatch();
    }

    extern "C" fn fiq_current(state: RegisterStateRef<'_>) {
        die("FIQ, ", &state)
    }

    extern "C" fn serror_current(state: RegisterStateRef<'_>) {
        die("SError, ", &state)
    }

    extern "C" fn sync_lower(state: RegisterStateRef<'_>) {
        die("from a lower exception level, ", &state)
    }

    extern "C" fn irq_lower(state: RegisterStateRef<'_>) {
        die("IRQ from a lower exception level, ", &state)
    }

    extern "C" fn fiq_lower(state: RegisterStateRef<'_>) {
        die("FIQ from a lower exception level, ", &state)
    }

    extern "C" fn serror_lower(state: RegisterStateRef<'_>) {
        die("SError from a lower exception level, ", &state)
    }
}

fn die(what: &str, state: &RegisterStateRef<'_>) -> ! {
    let (esr, far) = cpu::syndrome();
    let (elr, el, number) = (state.elr, cpu::exception_level(), cpu::number());
    let syndrome = Syndrome(esr);
    if syndrome.has_address() {
        report::fail(
            report::EXCEPTION,
            format_args!(
                "exception: {what}{syndrome}; ESR={esr:#x} ELR={elr:#x} FAR={far:#x}; EL{el} CPU {number}"
            ),
        );
    }
    report::fail(
        report::EXCEPTION,
        format_args!("exception: {what}{syndrome}; ESR={esr:#x} ELR={elr:#x}; EL{el} CPU {number}"),
    )
}
