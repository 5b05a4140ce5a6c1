//! What records of refused and of announced requests say.

use core::fmt;

use crate::Iova;
use crate::spec::bits::{bit, get, mask};

/// Kinds of access that a request is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestedAccess {
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// Execution.
    pub execute: bool,
}

/// The letters of what is asked for, `-` for the others.
impl fmt::Display for RequestedAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.read { "r" } else { "-" })?;
        f.write_str(if self.write { "w" } else { "-" })?;
        f.write_str(if self.execute { "x" } else { "-" })
    }
}

/// An ATS translation request that was refused (`F_BAD_ATS_TREQ`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AtsRequest {
    /// The page.
    pub address: Iova,
    /// Number of translation units that were asked for, 4 bits.
    pub span: u8,
    /// What access was asked for.
    pub access: RequestedAccess,
    /// Whether privileged access was asked for.
    pub privileged: bool,
}

impl AtsRequest {
    pub(super) const fn decode(w1: u64, w2: u64) -> Self {
        AtsRequest {
            address: Iova(w2 & mask(63, 12)),
            span: get(w1, 3, 0) as u8,
            access: RequestedAccess { read: bit(w1, 31), write: bit(w1, 30), execute: bit(w1, 29) },
            privileged: bit(w1, 28),
        }
    }
}

/// A hint of accesses to come (`E_PAGE_REQUEST`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageHint {
    /// The first page.
    pub address: Iova,
    /// Number of 4 KiB pages.
    pub span: u8,
    /// Unprivileged accesses to come (`uR`, `uW`, `uX`).
    pub unprivileged: RequestedAccess,
    /// Privileged accesses to come (`pR`, `pW`, `pX`).
    pub privileged: RequestedAccess,
}

impl PageHint {
    pub(super) const fn decode(w1: u64, w2: u64) -> Self {
        PageHint {
            address: Iova(w2 & mask(63, 12)),
            span: get(w1, 51, 44) as u8,
            unprivileged: RequestedAccess {
                read: bit(w1, 35),
                write: bit(w1, 34),
                execute: bit(w1, 33),
            },
            privileged: RequestedAccess {
                read: bit(w1, 39),
                write: bit(w1, 38),
                execute: bit(w1, 37),
            },
        }
    }
}
