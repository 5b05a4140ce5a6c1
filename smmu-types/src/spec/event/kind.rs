//! Event numbers.

use core::fmt;

/// The event number. An open set: numbers without a name are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventKind(pub u8);

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl EventKind {
            $($(#[$doc])* pub const $name: EventKind = EventKind($value);)*

            /// The architecture's name, or `None` for a number that it does not define.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// The event with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// Unsupported upstream transaction.
    F_UUT = 0x01;
    /// The StreamID is beyond the stream table.
    C_BAD_STREAMID = 0x02;
    /// The STE could not be fetched.
    F_STE_FETCH = 0x03;
    /// The STE is invalid or illegal.
    C_BAD_STE = 0x04;
    /// The STE does not allow the ATS request.
    F_BAD_ATS_TREQ = 0x05;
    /// The STE does not allow a transaction without a substream, or with substream 0.
    F_STREAM_DISABLED = 0x06;
    /// The STE does not allow the translated transaction.
    F_TRANSL_FORBIDDEN = 0x07;
    /// The SubstreamID has no CD.
    C_BAD_SUBSTREAMID = 0x08;
    /// The CD could not be fetched.
    F_CD_FETCH = 0x09;
    /// The CD is invalid or illegal.
    C_BAD_CD = 0x0a;
    /// A table walk met an external abort.
    F_WALK_EABT = 0x0b;
    /// No translation.
    F_TRANSLATION = 0x10;
    /// An address is too large.
    F_ADDR_SIZE = 0x11;
    /// The access flag is clear.
    F_ACCESS = 0x12;
    /// The access is not permitted.
    F_PERMISSION = 0x13;
    /// Conflicting TLB entries.
    F_TLB_CONFLICT = 0x20;
    /// Conflicting configuration.
    F_CFG_CONFLICT = 0x21;
    /// A page request hint.
    E_PAGE_REQUEST = 0x24;
    /// The VMS could not be fetched.
    F_VMS_FETCH = 0x25;
}

impl EventKind {
    /// Whether the record has the class and the access of a translation fault (numbers 0x10 to
    /// 0x13).
    #[must_use]
    pub const fn is_translation_fault(self) -> bool {
        matches!(self.0, 0x10..=0x13)
    }

    /// Whether the implementation defines the number, as one of `IMPDEF_EVENTn` (7.3.21).
    #[must_use]
    pub const fn is_implementation_defined(self) -> bool {
        matches!(self.0, 0xe0..=0xef)
    }

    /// Whether records have `SubstreamID` with `SSV`.
    pub(super) const fn has_ssv(self) -> bool {
        !matches!(
            self,
            EventKind::F_STREAM_DISABLED
                | EventKind::F_TRANSL_FORBIDDEN
                | EventKind::C_BAD_SUBSTREAMID
        )
    }

    /// Whether records have `FetchAddr` and `GPCF`.
    pub(super) const fn has_fetch(self) -> bool {
        matches!(
            self,
            EventKind::F_STE_FETCH
                | EventKind::F_CD_FETCH
                | EventKind::F_VMS_FETCH
                | EventKind::F_WALK_EABT
        )
    }

    /// Bits of `Reason`, 0 where records have none.
    pub(super) const fn reason_bits(self) -> u32 {
        match self {
            EventKind::F_TLB_CONFLICT | EventKind::F_CFG_CONFLICT => 32,
            EventKind::F_UUT => 16,
            _ if self.has_fetch() => 16,
            _ => 0,
        }
    }

    /// Whether records have `RnW` and the whole `InputAddr`.
    pub(super) const fn has_access(self) -> bool {
        self.is_translation_fault()
            || matches!(
                self,
                EventKind::F_UUT
                    | EventKind::F_TRANSL_FORBIDDEN
                    | EventKind::F_WALK_EABT
                    | EventKind::F_TLB_CONFLICT
            )
    }

    /// Whether records have `CLASS`.
    pub(super) const fn has_class(self) -> bool {
        self.is_translation_fault() || matches!(self, EventKind::F_WALK_EABT)
    }

    /// Whether records have `S2` and, except `F_WALK_EABT`, `IPA`.
    pub(super) const fn has_stage(self) -> bool {
        self.has_class() || matches!(self, EventKind::F_TLB_CONFLICT)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "event {:#04x}", self.0),
        }
    }
}
