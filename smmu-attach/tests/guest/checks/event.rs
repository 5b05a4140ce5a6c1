//! A host's event record, whatever its bits.

use smmu_attach::guest::{EventOwner, HostReason, StreamMap};
use smmu_types::{EventKind, EventRecord, StreamId, fields};

use super::batch::Mapped;
use super::world::World;

/// The guest's record for any four words.
pub(crate) fn event(world: &World, words: [u64; 4]) {
    let record = EventRecord(words);
    let host = StreamId((words[0] >> 32) as u32);
    let guest = match world.smmu.event(&record, &Mapped) {
        EventOwner::Host(reason) => {
            assert!(!reason.to_string().is_empty());
            assert_eq!(reason == HostReason::UnknownStream, Mapped.guest(host).is_none());
            return;
        }
        EventOwner::Guest(guest) => guest,
    };
    assert_eq!(guest.kind(), record.kind());
    assert_eq!(Some(guest.stream()), Mapped.guest(host).map(|device| device.stream));
    // inv_6: word 3 has the intermediate or the fetched address.
    assert_eq!(guest.0[3], 0);
    // Each bit is the host's or 0, apart from the StreamID.
    assert_eq!(guest.0[0] & 0xffff_ffff & !words[0], 0);
    for (told, host) in guest.0.iter().zip(words).skip(1) {
        assert_eq!(told & !host, 0);
    }
    assert_eq!(fields::event(guest.kind()).residue(&guest.0).next(), None);
    assert!(!guest.is_stage2() || !guest.kind().is_translation_fault());
    assert_eq!(guest.implementation_defined().unwrap_or(0), 0);
    assert_eq!(guest.reason().unwrap_or(0), 0);
    assert_eq!(guest.is_stalled(), record.is_stalled());
    if guest.is_stalled() {
        assert_eq!(guest.stall_tag(), record.stall_tag());
        assert_ne!(world.ids.idr0 >> 24 & 3, 1, "the guest sees no stalls");
    }
    if matches!(guest.kind(), EventKind::F_BAD_ATS_TREQ | EventKind::F_TRANSL_FORBIDDEN) {
        assert_eq!(world.ids.idr0 >> 10 & 1, 1, "the guest sees no ATS");
    }
}
