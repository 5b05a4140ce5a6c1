//! The structures that the SMMU reads and writes, as words; `fields` has their fields.

use crate::layout::{encoded, keyed};

/// A stream table entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ste(pub [u64; 8]);

keyed!(Ste);
encoded!(Ste: put, fit);

/// A context descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cd(pub [u64; 8]);

keyed!(Cd);
encoded!(Cd: put, fit);

/// A level-1 stream table descriptor: 8 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StreamTableDescriptor(pub [u64; 1]);

keyed!(StreamTableDescriptor);
encoded!(StreamTableDescriptor: put, fit);

/// A level-1 context descriptor: 8 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContextTableDescriptor(pub [u64; 1]);

keyed!(ContextTableDescriptor);
encoded!(ContextTableDescriptor: put, fit);

/// The defined part of a Virtual Machine Structure: its first 64 bytes, the PARTID map. The rest of
/// its 4 KiB is RES0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Vms(pub [u64; 8]);

keyed!(Vms);

/// A command as it lies in the queue: two little-endian 64-bit words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RawCommand(pub [u64; 2]);
keyed!(RawCommand);
encoded!(RawCommand: put);

/// An event record.
///
/// A getter that returns an `Option` returns `None` for kinds without its field. `is_stalled`,
/// `is_non_secure_ipa` and `is_granule_protection_fault` return false for them. The others return
/// the value of their bits, whatever the kind. All fields of a kind are in
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
encoded!(EventRecord: put);

/// An entry of the PRI queue: a page request, or the marker that a device has stopped using a
/// PASID.
///
/// ```
/// use smmu_types::{Iova, PrgIndex, PriRecord, RequestedAccess, StreamId, SubstreamId};
///
/// let access = RequestedAccess { read: true, ..RequestedAccess::default() };
/// let record = PriRecord::new(StreamId(8), PrgIndex::new(3).unwrap(), Iova(0x8000), access)
///     .unwrap()
///     .with_substream(SubstreamId::new(7).unwrap())
///     .with_last();
/// let text = "page request sid=0x8 ssid=0x7 iova=0x8000 access=r-- group=3 last";
/// assert_eq!(record.to_string(), text);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PriRecord(pub [u64; 2]);
keyed!(PriRecord);

encoded!(PriRecord: put, fit);
