//! Event records (IHI 0070, 7.3): 32 bytes.

use core::fmt;

use crate::bits::{bit, get, mask, put};
use crate::{Iova, Ipa, StreamId, SubstreamId};

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
    /// An ATS request that is not allowed.
    F_BAD_ATS_TREQ = 0x05;
    /// Substreams are off for this stream.
    F_STREAM_DISABLED = 0x06;
    /// An untranslated or translated transaction that is not allowed.
    F_TRANSL_FORBIDDEN = 0x07;
    /// The SubstreamID is beyond the CD table.
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
    /// Whether the record says what was accessed, and how (numbers 0x10 to 0x13).
    #[must_use]
    pub const fn is_translation_fault(self) -> bool {
        matches!(self.0, 0x10..=0x13)
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

/// `CLASS`: what was being fetched when stage 2 faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventClass {
    /// A context descriptor.
    Cd,
    /// A translation table descriptor.
    Tt,
    /// The input address itself.
    In,
    /// The reserved value 3.
    Reserved,
}

/// An event record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EventRecord(pub [u64; 4]);

impl EventRecord {
    /// Bytes of a record.
    pub const BYTES: usize = 32;

    /// A record with a StreamID and nothing else, for models.
    #[must_use]
    pub const fn new(kind: EventKind, stream: StreamId) -> Self {
        EventRecord([kind.0 as u64 | put(stream.0 as u64, 63, 32), 0, 0, 0])
    }

    /// The same record with the input address of a transaction.
    #[must_use]
    pub const fn with_access(mut self, address: Iova, access_is_read: bool) -> Self {
        self.0[1] |= (access_is_read as u64) << 35;
        self.0[2] = address.0;
        self
    }

    /// The same record with what was being fetched.
    #[must_use]
    pub const fn with_class(mut self, class: EventClass) -> Self {
        let value = match class {
            EventClass::Cd => 0,
            EventClass::Tt => 1,
            EventClass::In => 2,
            EventClass::Reserved => 3,
        };
        self.0[1] |= put(value, 41, 40);
        self
    }

    /// The same record as a fault of stage 2.
    #[must_use]
    pub const fn with_stage2(mut self, ipa: Ipa) -> Self {
        self.0[1] |= 1 << 39;
        self.0[3] = ipa.0 & mask(51, 12);
        self
    }

    /// The event number.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        EventKind(get(self.0[0], 7, 0) as u8)
    }

    /// The StreamID.
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        StreamId(get(self.0[0], 63, 32) as u32)
    }

    /// The SubstreamID, where the record has one (`SSV`).
    #[must_use]
    pub const fn substream(&self) -> Option<SubstreamId> {
        if bit(self.0[0], 11) { SubstreamId::new(get(self.0[0], 31, 12) as u32) } else { None }
    }

    /// `RnW`: the access was a read.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        bit(self.0[1], 35)
    }

    /// `Stall`: the transaction waits for a `CMD_RESUME` with [`stall_tag`](Self::stall_tag).
    #[must_use]
    pub const fn is_stalled(&self) -> bool {
        bit(self.0[1], 31)
    }

    /// `STAG`.
    #[must_use]
    pub const fn stall_tag(&self) -> u16 {
        get(self.0[1], 15, 0) as u16
    }

    /// `S2`: the fault is of stage 2.
    #[must_use]
    pub const fn is_stage2(&self) -> bool {
        bit(self.0[1], 39)
    }

    /// `CLASS`.
    #[must_use]
    pub const fn class(&self) -> EventClass {
        match get(self.0[1], 41, 40) {
            0 => EventClass::Cd,
            1 => EventClass::Tt,
            2 => EventClass::In,
            _ => EventClass::Reserved,
        }
    }

    /// The input address.
    #[must_use]
    pub const fn address(&self) -> Iova {
        Iova(self.0[2])
    }

    /// The intermediate address, of a stage-2 fault.
    #[must_use]
    pub const fn ipa(&self) -> Ipa {
        Ipa(self.0[3] & mask(51, 12))
    }
}

impl fmt::Display for EventRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sid={}", self.kind(), self.stream())?;
        if let Some(substream) = self.substream() {
            write!(f, " ssid={substream}")?;
        }
        if self.kind().is_translation_fault() {
            let access = if self.is_read() { "read" } else { "write" };
            let class = match self.class() {
                EventClass::Cd => "CD",
                EventClass::Tt => "TT",
                EventClass::In => "IN",
                EventClass::Reserved => "reserved",
            };
            write!(f, " {access} iova={} class={class}", self.address())?;
            if self.is_stage2() {
                write!(f, " stage=2 ipa={}", self.ipa())?;
            } else {
                f.write_str(" stage=1")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::ToString;

    #[test]
    fn decodes_a_stage2_translation_fault() {
        // RnW is bit 35 of the second word, S2 39, CLASS 41:40.
        let record =
            EventRecord([0x0000_0008_0000_0010, 1 << 39 | 2 << 40, 0x5000_0123, 0x5000_0000]);
        assert_eq!(record.kind(), EventKind::F_TRANSLATION);
        assert_eq!(record.stream(), StreamId(8));
        assert!(record.is_stage2() && !record.is_read());
        assert_eq!(record.class(), EventClass::In);
        assert_eq!(record.ipa(), Ipa(0x5000_0000));
        assert_eq!(
            record.to_string(),
            "F_TRANSLATION sid=0x8 write iova=0x50000123 class=IN stage=2 ipa=0x50000000"
        );
        let made = EventRecord::new(EventKind::F_TRANSLATION, StreamId(8))
            .with_access(Iova(0x5000_0123), false)
            .with_class(EventClass::In)
            .with_stage2(Ipa(0x5000_0000));
        assert_eq!(made, record);
    }

    #[test]
    fn unknown_numbers_are_kept_and_printed() {
        let record = EventRecord([0x0000_0008_0000_00e3, 0, 0, 0]);
        assert_eq!(record.kind().name(), None);
        assert_eq!(record.to_string(), "event 0xe3 sid=0x8");
    }

    #[test]
    fn names_lead_back_to_numbers() {
        for number in 0..=u8::MAX {
            if let Some(name) = EventKind(number).name() {
                assert_eq!(EventKind::from_name(name), Some(EventKind(number)));
            }
        }
        assert_eq!(EventKind::from_name("F_NOTHING"), None);
    }
}
