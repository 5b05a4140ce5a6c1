//! The contents of `F_BAD_ATS_TREQ` and `E_PAGE_REQUEST`.

use core::fmt;

use super::EventRecord;
use crate::Iova;
use crate::fields::events::{e_page_request, f_bad_ats_treq};

/// The kinds of access of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestedAccess {
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// Execution.
    pub execute: bool,
}

/// `rwx`, with `-` for each kind that the request does not have.
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
    /// Number of requested translation units, 4 bits.
    pub span: u8,
    /// The requested access.
    pub access: RequestedAccess,
    /// Whether the device requested privileged access.
    pub privileged: bool,
}

impl AtsRequest {
    pub(super) const fn decode(record: &EventRecord) -> Self {
        use f_bad_ats_treq::{INPUTADDR, PRIV, R, SPAN, W, X};
        AtsRequest {
            address: Iova(record.get(INPUTADDR)),
            span: record.get(SPAN) as u8,
            access: RequestedAccess {
                read: record.is_set(R),
                write: record.is_set(W),
                execute: record.is_set(X),
            },
            privileged: record.is_set(PRIV),
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
    pub(super) const fn decode(record: &EventRecord) -> Self {
        use e_page_request::{INPUTADDR, PR, PW, PX, SPAN, UR, UW, UX};
        PageHint {
            address: Iova(record.get(INPUTADDR)),
            span: record.get(SPAN) as u8,
            unprivileged: RequestedAccess {
                read: record.is_set(UR),
                write: record.is_set(UW),
                execute: record.is_set(UX),
            },
            privileged: RequestedAccess {
                read: record.is_set(PR),
                write: record.is_set(PW),
                execute: record.is_set(PX),
            },
        }
    }
}
