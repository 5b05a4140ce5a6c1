//! Entries of queues.

use smmu_types::{Command, EventKind, EventRecord, RawCommand, StreamId, SubstreamId};

use super::text_of;

/// 16 bytes mean a command, and the command is these 16 bytes.
pub(crate) fn command(words: [u64; 2]) {
    let raw = RawCommand(words);
    let command = Command::decode(raw);
    assert_eq!(command.encode(), raw, "{command:?}");
    assert_eq!(Command::decode(command.encode()), command);
    assert_eq!(u64::from(raw.opcode()), words[0] & 0xff);
    let text = text_of(&command);
    assert!(text.starts_with(command.name()), "{text:?} does not begin with the name");
    text_of(&raw);
}

/// Any 32 bytes are an event record whose getters stay within bounds.
pub(crate) fn event(words: [u64; 4]) {
    let record = EventRecord(words);
    let kind = record.kind();
    assert_eq!(u64::from(kind.0), words[0] & 0xff);
    if let Some(name) = kind.name() {
        assert_eq!(EventKind::from_name(name), Some(kind));
    }
    let text = text_of(&record);
    assert!(text.starts_with(&text_of(&kind)), "{text:?} does not begin with the kind");

    assert_eq!(record.stream(), StreamId((words[0] >> 32) as u32));
    if let Some(substream) = record.substream() {
        assert!(substream.get() <= SubstreamId::MAX);
    }
    assert!(record.ipa().0.trailing_zeros() >= 12, "{}", record.ipa());
    // Whatever they say, they say it.
    let _ = (record.is_read(), record.is_stalled(), record.stall_tag(), record.is_stage2());

    let made = EventRecord::new(kind, record.stream())
        .with_access(record.address(), record.is_read())
        .with_class(record.class());
    assert_eq!(made.kind(), kind);
    assert_eq!(made.stream(), record.stream());
    assert_eq!(made.address(), record.address());
    assert_eq!((made.is_read(), made.class()), (record.is_read(), record.class()));
    let made = made.with_stage2(record.ipa());
    assert!(made.is_stage2());
    assert_eq!(made.ipa(), record.ipa());
}
