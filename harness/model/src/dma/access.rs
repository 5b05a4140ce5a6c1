//! What a transaction does with its address.

use crate::hazard::Permissions;

/// Direction of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DmaAccess {
    Read,
    Write,
}

impl DmaAccess {
    /// The permission that the access needs.
    pub(crate) fn wanted(self) -> Permissions {
        Permissions { read: self == DmaAccess::Read, write: self == DmaAccess::Write }
    }

    pub(crate) fn allowed(self, permissions: Permissions) -> bool {
        match self {
            DmaAccess::Read => permissions.read,
            DmaAccess::Write => permissions.write,
        }
    }
}
