//! The classes of faults, by what is to blame.

use smmu_types::EventKind;

/// What is to blame, the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// The SMMU has stopped, or lost something.
    Error,
    /// A table entry is wrong, or none is there for the device.
    Configuration,
    /// The SMMU could not read a table.
    Fetch,
    /// A device used an address that it may not use.
    Translation,
    /// The device asks for a page.
    Request,
}

impl Class {
    pub(super) const ALL: [Class; 5] =
        [Class::Error, Class::Configuration, Class::Fetch, Class::Translation, Class::Request];

    /// Its name, for a style.
    pub(super) const fn style(self) -> &'static str {
        match self {
            Class::Error => "error",
            Class::Configuration => "configuration",
            Class::Fetch => "fetch",
            Class::Translation => "translation",
            Class::Request => "request",
        }
    }

    /// Its name, for a reader.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Class::Error => "error of an SMMU or its driver",
            Class::Configuration => "wrong configuration",
            Class::Fetch => "a table that cannot be read",
            Class::Translation => "an address that is not allowed",
            Class::Request => "page request",
        }
    }

    /// The class of an event.
    pub(super) const fn of(kind: EventKind) -> Self {
        match kind {
            EventKind::F_STE_FETCH
            | EventKind::F_CD_FETCH
            | EventKind::F_VMS_FETCH
            | EventKind::F_WALK_EABT => Class::Fetch,
            EventKind::F_TRANSLATION
            | EventKind::F_ADDR_SIZE
            | EventKind::F_ACCESS
            | EventKind::F_PERMISSION => Class::Translation,
            EventKind::E_PAGE_REQUEST => Class::Request,
            _ => Class::Configuration,
        }
    }
}
