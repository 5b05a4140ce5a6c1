//! Lines of text on the PL011.

use core::fmt::{self, Write};
use core::ptr::NonNull;

use arm_pl011_uart::{PL011Registers, Uart, UniqueMmioPointer};
use lock_api::Mutex;

use super::irq_mutex::IrqMutex;

static CONSOLE: Mutex<IrqMutex, Option<Uart<'static>>> = Mutex::new(None);

/// Prints to this PL011 from now on. Firmware has set its speed.
///
/// # Safety
///
/// `base` is the address of a PL011, mapped as Device memory for as long as the program runs, and
/// nothing else uses it. The program calls this once.
pub unsafe fn init(base: NonNull<PL011Registers>) {
    // SAFETY: as the caller promises.
    let registers = unsafe { UniqueMmioPointer::new(base) };
    *CONSOLE.lock() = Some(Uart::new(registers));
}

/// Whether there is a console.
#[must_use]
pub fn is_ready() -> bool {
    CONSOLE.lock().is_some()
}

/// A byte that has come, if one has.
///
/// # Errors
///
/// A byte is lost: the FIFO was full, or the line was disturbed.
pub fn read() -> Result<Option<u8>, LostByte> {
    match &mut *CONSOLE.lock() {
        Some(uart) => uart.read_word().map_err(LostByte),
        None => Ok(None),
    }
}

/// A byte on the console's line is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a byte is lost: {0}")]
pub struct LostByte(arm_pl011_uart::Error);

/// Prints one line. The lines of several CPUs do not mix.
pub fn print(line: fmt::Arguments<'_>) {
    if let Some(uart) = &mut *CONSOLE.lock() {
        put(uart, line);
    }
}

/// Prints one line where the lock may be held by what this CPU has interrupted: by a panic, or in
/// an exception.
pub(super) fn print_last(line: fmt::Arguments<'_>) {
    // Another CPU may be within a line. It gets time to finish, then this line matters more.
    for _ in 0..1_000_000 {
        if let Some(mut console) = CONSOLE.try_lock() {
            if let Some(uart) = &mut *console {
                put(uart, line);
            }
            return;
        }
    }
    // SAFETY: the program ends after this line, and a PL011 accepts accesses of two CPUs: at worst
    // their characters mix.
    let console = unsafe { &mut *CONSOLE.data_ptr() };
    if let Some(uart) = console {
        let _ = uart.write_str("\n");
        put(uart, line);
    }
}

fn put(uart: &mut Uart<'_>, line: fmt::Arguments<'_>) {
    // A PL011 reports no error of sending.
    let _ = uart.write_fmt(line);
    let _ = uart.write_str("\n");
}

/// Prints one line, with the arguments of `format!`.
#[macro_export]
macro_rules! say {
    ($($line:tt)*) => { $crate::bare::console::print(format_args!($($line)*)) };
}
