//! Tests of event records.

extern crate std;

use super::*;
use std::string::ToString;

#[test]
fn decodes_a_stage2_translation_fault() {
    // RnW is bit 35 of the second word, S2 39, CLASS 41:40.
    let record = EventRecord([0x0000_0008_0000_0010, 1 << 39 | 2 << 40, 0x5000_0123, 0x5000_0000]);
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
