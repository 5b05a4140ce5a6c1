//! Entries of the PRI queue (IHI 0070, chapter 8): 16 bytes.

use core::fmt;

use crate::fields::page_request as field;
use crate::layout::attempt;
use crate::{FieldError, Iova, PriRecord, RequestedAccess, StreamId, SubstreamId};

/// The number of a page request group: 9 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrgIndex(u16);

impl PrgIndex {
    /// The largest number.
    pub const MAX: u16 = (1 << 9) - 1;

    /// A number, or `None` when `value` does not fit into 9 bits.
    #[must_use]
    pub const fn new(value: u16) -> Option<Self> {
        if value <= Self::MAX { Some(Self(value)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for PrgIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl PriRecord {
    /// Bytes of an entry.
    pub const BYTES: usize = 16;

    /// A request without a PASID that is not the last of its group, for models.
    ///
    /// A request for neither reading nor writing has the bits of the [`stop`](Self::stop) marker
    /// once it is the last of its group and has a PASID. [`is_stop`](Self::is_stop) then returns
    /// true.
    ///
    /// # Errors
    ///
    /// The address is not aligned to 4 KiB.
    pub const fn new(
        stream: StreamId,
        group: PrgIndex,
        page: Iova,
        access: RequestedAccess,
    ) -> Result<Self, FieldError> {
        let record = attempt!(PriRecord([0; 2]).fit(field::PAGEADDRESS, page.0));
        Ok(record
            .put(field::STREAMID, stream.0 as u64)
            .put(field::R, access.read as u64)
            .put(field::W, access.write as u64)
            .put(field::X, access.execute as u64)
            .put(field::PRGINDEX, group.get() as u64))
    }

    /// The marker that a device has stopped using a PASID, for models.
    #[must_use]
    pub const fn stop(stream: StreamId, substream: SubstreamId) -> Self {
        PriRecord([0; 2])
            .put(field::STREAMID, stream.0 as u64)
            .put(field::LAST, 1)
            .with_substream(substream)
    }

    /// The same entry with a PASID.
    #[must_use]
    pub const fn with_substream(mut self, substream: SubstreamId) -> Self {
        self.0[field::SUBSTREAMID.word()] &= !field::SUBSTREAMID.mask();
        self.put(field::SUBSTREAMID, substream.get() as u64).put(field::SSV, 1)
    }

    /// The same request as the last of its group.
    #[must_use]
    pub const fn with_last(self) -> Self {
        self.put(field::LAST, 1)
    }

    /// The same request for privileged access.
    #[must_use]
    pub const fn with_privilege(self) -> Self {
        self.put(field::PRIV, 1)
    }

    /// The StreamID.
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        StreamId(self.get(field::STREAMID) as u32)
    }

    /// The SubstreamID (the PASID), where the entry has one (`SSV`).
    #[must_use]
    pub const fn substream(&self) -> Option<SubstreamId> {
        match self.is_set(field::SSV) {
            true => SubstreamId::new(self.get(field::SUBSTREAMID) as u32),
            false => None,
        }
    }

    /// The page.
    #[must_use]
    pub const fn address(&self) -> Iova {
        Iova(self.get(field::PAGEADDRESS))
    }

    /// The group, which an answer names.
    #[must_use]
    pub const fn group(&self) -> PrgIndex {
        PrgIndex(self.get(field::PRGINDEX) as u16)
    }

    /// The requested access.
    #[must_use]
    pub const fn access(&self) -> RequestedAccess {
        RequestedAccess {
            read: self.is_set(field::R),
            write: self.is_set(field::W),
            execute: self.is_set(field::X),
        }
    }

    /// Whether the device requests privileged access.
    #[must_use]
    pub const fn is_privileged(&self) -> bool {
        self.is_set(field::PRIV)
    }

    /// Whether the request is the last of its group, so that software must answer.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.is_set(field::LAST)
    }

    /// Whether the entry is the marker that the device has stopped using the PASID: last, neither
    /// read nor write, and with a PASID.
    #[must_use]
    pub const fn is_stop(&self) -> bool {
        self.is_set(field::LAST)
            && self.is_set(field::SSV)
            && !self.is_set(field::R)
            && !self.is_set(field::W)
    }
}

impl fmt::Display for PriRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_stop() { "stop marker" } else { "page request" })?;
        write!(f, " sid={}", self.stream())?;
        if let Some(substream) = self.substream() {
            write!(f, " ssid={substream}")?;
        }
        if self.is_stop() {
            return Ok(());
        }
        write!(f, " iova={} access={}", self.address(), self.access())?;
        if self.is_privileged() {
            f.write_str(" priv=1")?;
        }
        write!(f, " group={}", self.group())?;
        if self.is_last() {
            f.write_str(" last")?;
        }
        Ok(())
    }
}
