//! Event records (IHI 0070, 7.3): 32 bytes.

mod display;
mod kind;
mod request;
#[cfg(test)]
mod tests;

pub use kind::EventKind;
pub use request::{AtsRequest, PageHint, RequestedAccess};

use crate::fields::events::{
    any, c_bad_substreamid, f_cfg_conflict, f_permission, f_translation, f_walk_eabt,
};
use crate::layout::Key;
use crate::{EventRecord, FieldError, Iova, Ipa, PhysAddr, StreamId, SubstreamId};

/// `CLASS`: what the SMMU accessed at the fault.
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

impl EventRecord {
    /// Bytes of a record.
    pub const BYTES: usize = 32;

    /// A record with a StreamID and nothing else, for models.
    ///
    /// The `with` functions replace fields. [`with`](Self::with) replaces any field by its key.
    #[must_use]
    pub const fn new(kind: EventKind, stream: StreamId) -> Self {
        EventRecord([0; 4]).put(any::EVENTNUMBER, kind.0 as u64).put(any::STREAMID, stream.0 as u64)
    }

    /// The same record with the SubstreamID of the transaction, and `SSV` where the kind has it.
    #[must_use]
    pub const fn with_substream(self, substream: SubstreamId) -> Self {
        self.replace(any::SUBSTREAMID, substream.get() as u64)
            .replace(any::SSV, self.kind().has_ssv() as u64)
    }

    /// The same record with the input address of a transaction.
    #[must_use]
    pub const fn with_access(self, address: Iova, access_is_read: bool) -> Self {
        self.replace(f_translation::RNW, access_is_read as u64)
            .replace(f_translation::INPUTADDR, address.0)
    }

    /// The same record with the class of the access.
    #[must_use]
    pub const fn with_class(self, class: EventClass) -> Self {
        let value = match class {
            EventClass::Cd => 0,
            EventClass::Tt => 1,
            EventClass::In => 2,
            EventClass::Reserved => 3,
        };
        self.replace(f_translation::CLASS, value)
    }

    /// The same record as a fault of stage 2. The record has no room for bits 11:0 and 63:56 of the
    /// address.
    #[must_use]
    pub const fn with_stage2(mut self, ipa: Ipa) -> Self {
        self.0[f_translation::IPA.word()] = 0;
        self.replace(f_translation::S2, 1).put(f_translation::IPA, ipa.0)
    }

    /// The same record of a stalled transaction, which waits for a `CMD_RESUME` with this tag.
    ///
    /// Only [translation faults](EventKind::is_translation_fault) have `Stall`. Records of other
    /// kinds stay as they are.
    #[must_use]
    pub const fn with_stall(self, tag: u16) -> Self {
        if !self.kind().is_translation_fault() {
            return self;
        }
        self.replace(f_translation::STALL, 1).replace(f_translation::STAG, tag as u64)
    }

    /// The same record with the address of a fetch.
    ///
    /// # Errors
    ///
    /// The address is not aligned to 8 bytes or has more than 56 bits.
    pub const fn with_fetch(self, address: PhysAddr) -> Result<Self, FieldError> {
        self.with(f_walk_eabt::FETCHADDR, address.0)
    }

    /// The same record with another value in a field. The value fits.
    #[inline]
    const fn replace(mut self, key: Key<Self>, value: u64) -> Self {
        self.0[key.word()] &= !key.mask();
        self.put(key, value)
    }

    /// The event number.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        EventKind(self.get(any::EVENTNUMBER) as u8)
    }

    /// The StreamID.
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        StreamId(self.get(any::STREAMID) as u32)
    }

    /// The SubstreamID, if the record has one (`SSV`); always for `C_BAD_SUBSTREAMID`.
    #[must_use]
    pub const fn substream(&self) -> Option<SubstreamId> {
        let valid = match self.kind() {
            EventKind::C_BAD_SUBSTREAMID => true,
            kind => kind.has_ssv() && self.is_set(any::SSV),
        };
        if valid { SubstreamId::new(self.get(c_bad_substreamid::SUBSTREAMID) as u32) } else { None }
    }

    /// `RnW`: the access was a read.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        self.is_set(f_translation::RNW)
    }

    /// `InD`: the access was an instruction fetch.
    #[must_use]
    pub const fn is_instruction(&self) -> bool {
        self.is_set(f_translation::IND)
    }

    /// `PnU`: the access was privileged.
    #[must_use]
    pub const fn is_privileged(&self) -> bool {
        self.is_set(f_translation::PNU)
    }

    /// `Stall`: the transaction waits for a `CMD_RESUME` with [`stall_tag`](Self::stall_tag).
    #[must_use]
    pub const fn is_stalled(&self) -> bool {
        self.kind().is_translation_fault() && self.is_set(f_translation::STALL)
    }

    /// `STAG`.
    #[must_use]
    pub const fn stall_tag(&self) -> u16 {
        self.get(f_translation::STAG) as u16
    }

    /// `S2`: the fault is of stage 2.
    #[must_use]
    pub const fn is_stage2(&self) -> bool {
        self.is_set(f_translation::S2)
    }

    /// `NSIPA`: the intermediate address is a Non-secure one of a Secure stream.
    #[must_use]
    pub const fn is_non_secure_ipa(&self) -> bool {
        self.kind().has_stage() && self.is_set(f_translation::NSIPA)
    }

    /// `CLASS`.
    #[must_use]
    pub const fn class(&self) -> EventClass {
        match self.get(f_translation::CLASS) {
            0 => EventClass::Cd,
            1 => EventClass::Tt,
            2 => EventClass::In,
            _ => EventClass::Reserved,
        }
    }

    /// `TTRnW`: whether the faulting table access was a read. `None` if no table access faulted.
    #[must_use]
    pub const fn is_table_read(&self) -> Option<bool> {
        match (self.kind(), self.class()) {
            (EventKind::F_PERMISSION, EventClass::Tt) => Some(self.is_set(f_permission::TTRNW)),
            _ => None,
        }
    }

    /// The input address.
    #[must_use]
    pub const fn address(&self) -> Iova {
        Iova(self.get(f_translation::INPUTADDR))
    }

    /// The intermediate address, of a stage-2 fault.
    #[must_use]
    pub const fn ipa(&self) -> Ipa {
        Ipa(self.get(f_translation::IPA))
    }

    /// `FetchAddr`: the address of a failed fetch.
    #[must_use]
    pub const fn fetch_address(&self) -> Option<PhysAddr> {
        match self.kind().has_fetch() {
            true => Some(PhysAddr(self.get(f_walk_eabt::FETCHADDR))),
            false => None,
        }
    }

    /// `GPCF`: whether a fetch failed because of a granule protection check.
    #[must_use]
    pub const fn is_granule_protection_fault(&self) -> bool {
        self.kind().has_fetch() && self.is_set(f_walk_eabt::GPCF)
    }

    /// `Reason`: the cause, as an implementation defined number.
    #[must_use]
    pub const fn reason(&self) -> Option<u32> {
        match self.kind().reason_bits() {
            32 => Some(self.get(f_cfg_conflict::REASON) as u32),
            16 => Some(self.get(f_walk_eabt::REASON) as u32),
            _ => None,
        }
    }

    /// `ImpDef`: what the implementation adds to a translation fault.
    #[must_use]
    pub const fn implementation_defined(&self) -> Option<u16> {
        match self.kind().is_translation_fault() {
            true => Some(self.get(f_translation::IMPDEF) as u16),
            false => None,
        }
    }

    /// The refused request of an `F_BAD_ATS_TREQ`.
    #[must_use]
    pub const fn ats_request(&self) -> Option<AtsRequest> {
        match self.kind() {
            EventKind::F_BAD_ATS_TREQ => Some(AtsRequest::decode(self)),
            _ => None,
        }
    }

    /// The hint of an `E_PAGE_REQUEST`.
    #[must_use]
    pub const fn page_hint(&self) -> Option<PageHint> {
        match self.kind() {
            EventKind::E_PAGE_REQUEST => Some(PageHint::decode(self)),
            _ => None,
        }
    }
}
