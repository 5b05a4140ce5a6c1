//! Event records (IHI 0070, 7.3): 32 bytes.

mod display;
mod kind;
mod request;
#[cfg(test)]
mod tests;

pub use kind::EventKind;
pub use request::{AtsRequest, PageHint, RequestedAccess};

use crate::layout::keyed;
use crate::spec::bits::{bit, get, mask, put};
use crate::{FieldError, Iova, Ipa, PhysAddr, StreamId, SubstreamId};

/// `CLASS`: what was being accessed when the fault happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventClass {
    /// A context descriptor.
    Cd,
    /// A translation table descriptor of stage 1.
    Tt,
    /// The input address itself.
    In,
    /// The reserved value 3.
    Reserved,
}

/// An event record.
///
/// The getters that every record has, or that a walk over records of all kinds asks for, give what their bits say,
/// whatever the kind; the others give `None` for kinds without the field. All fields of a kind are in
/// [`fields::events`](crate::fields::events).
///
/// ```
/// use smmu_types::{EventKind, EventRecord, PhysAddr, StreamId, fields};
///
/// let record = EventRecord::new(EventKind::F_CD_FETCH, StreamId(8));
/// let record = record.with_fetch(PhysAddr(0x4000_0040)).unwrap();
/// assert_eq!(record.fetch_address(), Some(PhysAddr(0x4000_0040)));
/// assert_eq!(record.get(fields::events::f_cd_fetch::FETCHADDR), 0x4000_0040);
/// assert_eq!(record.to_string(), "F_CD_FETCH sid=0x8 fetch=0x40000040");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EventRecord(pub [u64; 4]);
keyed!(EventRecord);

impl EventRecord {
    /// Bytes of a record.
    pub const BYTES: usize = 32;

    /// A record with a StreamID and nothing else, for models.
    ///
    /// The `with` functions set fields, whatever was in them; [`with`](Self::with) sets any field by its key.
    #[must_use]
    pub const fn new(kind: EventKind, stream: StreamId) -> Self {
        EventRecord([kind.0 as u64 | put(stream.0 as u64, 63, 32), 0, 0, 0])
    }

    /// The same record with the SubstreamID of the transaction, and `SSV` where the kind has it.
    #[must_use]
    pub const fn with_substream(mut self, substream: SubstreamId) -> Self {
        self.0[0] = self.0[0] & !mask(31, 11)
            | put(substream.get() as u64, 31, 12)
            | put(self.kind().has_ssv() as u64, 11, 11);
        self
    }

    /// The same record with the input address of a transaction.
    #[must_use]
    pub const fn with_access(mut self, address: Iova, access_is_read: bool) -> Self {
        self.0[1] = self.0[1] & !(1 << 35) | (access_is_read as u64) << 35;
        self.0[2] = address.0;
        self
    }

    /// The same record with what was being accessed.
    #[must_use]
    pub const fn with_class(mut self, class: EventClass) -> Self {
        let value = match class {
            EventClass::Cd => 0,
            EventClass::Tt => 1,
            EventClass::In => 2,
            EventClass::Reserved => 3,
        };
        self.0[1] = self.0[1] & !mask(41, 40) | put(value, 41, 40);
        self
    }

    /// The same record as a fault of stage 2. Bits 11:0 of the address, and 63:56, are not in the record.
    #[must_use]
    pub const fn with_stage2(mut self, ipa: Ipa) -> Self {
        self.0[1] |= 1 << 39;
        self.0[3] = ipa.0 & mask(55, 12);
        self
    }

    /// The same record of a transaction that waits for a `CMD_RESUME` with this tag. A record of a kind that has no
    /// `Stall` (all but [translation faults](EventKind::is_translation_fault)) stays as it is.
    #[must_use]
    pub const fn with_stall(mut self, tag: u16) -> Self {
        if self.kind().is_translation_fault() {
            self.0[1] = self.0[1] & !mask(15, 0) | 1 << 31 | tag as u64;
        }
        self
    }

    /// The same record with the address of a fetch.
    ///
    /// # Errors
    ///
    /// The address is not aligned to 8 bytes or has more than 56 bits.
    pub const fn with_fetch(mut self, address: PhysAddr) -> Result<Self, FieldError> {
        match crate::spec::bits::address("FetchAddr", address.0, 55, 3) {
            Ok(address) => {
                self.0[3] = self.0[3] & !mask(55, 3) | address;
                Ok(self)
            }
            Err(error) => Err(error),
        }
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

    /// The SubstreamID, where the record has one (`SSV`); always for `C_BAD_SUBSTREAMID`.
    #[must_use]
    pub const fn substream(&self) -> Option<SubstreamId> {
        let valid = match self.kind() {
            EventKind::C_BAD_SUBSTREAMID => true,
            kind => kind.has_ssv() && bit(self.0[0], 11),
        };
        if valid { SubstreamId::new(get(self.0[0], 31, 12) as u32) } else { None }
    }

    /// `RnW`: the access was a read.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        bit(self.0[1], 35)
    }

    /// `InD`: the access was an instruction fetch.
    #[must_use]
    pub const fn is_instruction(&self) -> bool {
        bit(self.0[1], 34)
    }

    /// `PnU`: the access was privileged.
    #[must_use]
    pub const fn is_privileged(&self) -> bool {
        bit(self.0[1], 33)
    }

    /// `Stall`: the transaction waits for a `CMD_RESUME` with [`stall_tag`](Self::stall_tag).
    #[must_use]
    pub const fn is_stalled(&self) -> bool {
        self.kind().is_translation_fault() && bit(self.0[1], 31)
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

    /// `NSIPA`: the intermediate address is a Non-secure one of a Secure stream.
    #[must_use]
    pub const fn is_non_secure_ipa(&self) -> bool {
        self.kind().has_stage() && bit(self.0[1], 38)
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

    /// `TTRnW`: whether the table access that was not permitted was a read; `None` where no table access faulted.
    #[must_use]
    pub const fn is_table_read(&self) -> Option<bool> {
        match (self.kind(), self.class()) {
            (EventKind::F_PERMISSION, EventClass::Tt) => Some(bit(self.0[1], 44)),
            _ => None,
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
        Ipa(self.0[3] & mask(55, 12))
    }

    /// `FetchAddr`: where a fetch failed.
    #[must_use]
    pub const fn fetch_address(&self) -> Option<PhysAddr> {
        match self.kind().has_fetch() {
            true => Some(PhysAddr(self.0[3] & mask(55, 3))),
            false => None,
        }
    }

    /// `GPCF`: whether a fetch failed because of a granule protection check.
    #[must_use]
    pub const fn is_granule_protection_fault(&self) -> bool {
        self.kind().has_fetch() && bit(self.0[1], 16)
    }

    /// `Reason`: the cause, as the implementation numbers it.
    #[must_use]
    pub const fn reason(&self) -> Option<u32> {
        match self.kind().reason_bits() {
            32 => Some(get(self.0[1], 31, 0) as u32),
            16 => Some(get(self.0[1], 15, 0) as u32),
            _ => None,
        }
    }

    /// `ImpDef`: what the implementation adds to a translation fault.
    #[must_use]
    pub const fn implementation_defined(&self) -> Option<u16> {
        match self.kind().is_translation_fault() {
            true => Some(get(self.0[1], 63, 48) as u16),
            false => None,
        }
    }

    /// What an `F_BAD_ATS_TREQ` asked for.
    #[must_use]
    pub const fn ats_request(&self) -> Option<AtsRequest> {
        match self.kind() {
            EventKind::F_BAD_ATS_TREQ => Some(AtsRequest::decode(self.0[1], self.0[2])),
            _ => None,
        }
    }

    /// What an `E_PAGE_REQUEST` announces.
    #[must_use]
    pub const fn page_hint(&self) -> Option<PageHint> {
        match self.kind() {
            EventKind::E_PAGE_REQUEST => Some(PageHint::decode(self.0[1], self.0[2])),
            _ => None,
        }
    }
}
