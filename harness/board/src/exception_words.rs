//! The syndrome of an exception in words: `ESR_ELx`.

use core::fmt;

/// A value of `ESR_EL1` or `ESR_EL2`, which prints in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syndrome(pub u64);

impl Syndrome {
    /// `EC`: the class of the exception.
    #[must_use]
    pub const fn class(self) -> u8 {
        (self.0 >> 26 & 0x3f) as u8
    }

    /// `ISS`, of which the class says the meaning.
    #[must_use]
    pub const fn specific(self) -> u32 {
        (self.0 & 0x1ff_ffff) as u32
    }

    const fn class_words(self) -> Option<&'static str> {
        Some(match self.class() {
            0x00 => "unknown reason (an undefined instruction, or HLT without a debugger)",
            0x01 => "trapped WFI or WFE",
            0x07 => "trapped access to SIMD or floating point",
            0x0e => "illegal execution state",
            0x15 => "SVC",
            0x16 => "HVC",
            0x17 => "SMC",
            0x18 => "trapped MSR, MRS or system instruction",
            0x20 | 0x21 => "instruction abort",
            0x22 => "misaligned PC",
            0x24 | 0x25 => "data abort",
            0x26 => "misaligned SP",
            0x2c => "floating-point exception",
            0x2f => "SError",
            0x30..=0x35 => "debug exception",
            0x3c => "BRK",
            _ => return None,
        })
    }

    /// Whether the class is an abort, which has a fault status and perhaps an address in `FAR`.
    #[must_use]
    pub const fn is_abort(self) -> bool {
        matches!(self.class(), 0x20 | 0x21 | 0x24 | 0x25)
    }

    /// Whether `FAR_ELx` has the address of the fault.
    #[must_use]
    pub const fn has_address(self) -> bool {
        const FNV: u32 = 1 << 10;
        (self.is_abort() && self.specific() & FNV == 0) || self.class() == 0x22
    }

    const fn is_data_abort(self) -> bool {
        matches!(self.class(), 0x24 | 0x25)
    }
}

/// `DFSC` or `IFSC`, in words.
struct FaultStatus(u32);

impl fmt::Display for FaultStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = self.0 & 3;
        match self.0 {
            0x00..=0x03 => write!(f, "address size fault, level {level}"),
            0x04..=0x07 => write!(f, "translation fault, level {level}"),
            0x08..=0x0b => write!(f, "access flag fault, level {level}"),
            0x0c..=0x0f => write!(f, "permission fault, level {level}"),
            0x10 => f.write_str("external abort"),
            0x14..=0x17 => write!(f, "external abort on a table walk, level {level}"),
            0x21 => f.write_str("alignment fault"),
            0x30 => f.write_str("TLB conflict"),
            0x35 => f.write_str("unsupported exclusive or atomic access"),
            other => write!(f, "fault status {other:#x}"),
        }
    }
}

impl fmt::Display for Syndrome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WNR: u32 = 1 << 6;
        match self.class_words() {
            Some(words) => f.write_str(words)?,
            None => write!(f, "exception class {:#x}", self.class())?,
        }
        if self.is_data_abort() {
            let access = if self.specific() & WNR == 0 { "read" } else { "write" };
            write!(f, " on a {access}")?;
        }
        if self.is_abort() {
            write!(f, ": {}", FaultStatus(self.specific() & 0x3f))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::ToString;

    // Values that a CPU gave in QEMU, and of the tables in the Arm ARM (DDI 0487, D24.2.40).
    #[test]
    fn syndromes_in_words() {
        let cases = [
            (0x9600_0045, "data abort on a write: translation fault, level 1", true),
            (0x9600_0005, "data abort on a read: translation fault, level 1", true),
            (0x9600_0410, "data abort on a read: external abort", false),
            (0x8600_000e, "instruction abort: permission fault, level 2", true),
            (0x9600_0021, "data abort on a read: alignment fault", true),
            (
                0x0200_0000,
                "unknown reason (an undefined instruction, or HLT without a debugger)",
                false,
            ),
            (0xf200_0001, "BRK", false),
            (0xbe00_0000, "SError", false),
            (0xfc00_0000, "exception class 0x3f", false),
        ];
        for (esr, words, has_address) in cases {
            let syndrome = Syndrome(esr);
            assert_eq!(syndrome.to_string(), words);
            assert_eq!(syndrome.has_address(), has_address, "{words}");
        }
    }
}
