//! Entries of queues.

use smmu_types::fields;
use smmu_types::{
    Command, EventKind, EventRecord, PrgIndex, PriRecord, RawCommand, StreamId, SubstreamId,
};

use super::text_of;

/// 16 bytes decode to a command, which encodes to the same 16 bytes.
pub(crate) fn command(words: [u64; 2]) {
    let raw = RawCommand(words);
    let command = Command::decode(raw);
    assert_eq!(command.encode(), raw, "{command:?}");
    assert_eq!(Command::decode(command.encode()), command);
    assert_eq!(u64::from(raw.opcode()), words[0] & 0xff);
    let text = text_of(&command);
    assert!(text.starts_with(command.name()), "{text:?} does not begin with the name");
    text_of(&raw);

    let interpreted = Command::interpret(raw);
    if !matches!(command, Command::Unknown(_)) {
        assert_eq!(interpreted, command);
    }
    assert_eq!(Command::interpret(interpreted.encode()), interpreted);
    // `interpret` may change operands, never the opcode.
    assert_eq!(interpreted.encode().opcode(), raw.opcode());

    let layout = fields::command(raw.opcode());
    if let (false, Some(layout)) = (matches!(command, Command::Unknown(_)), layout) {
        // A typed command has no bit outside its table and no reserved value.
        assert_eq!(layout.residue(&words).next(), None, "{command:?}");
    }
    let typed = matches!(command, Command::Unknown(_)) || layout.is_some();
    assert!(typed, "{command:?} has no table");
    for field in layout.into_iter().flat_map(|layout| layout.fields()) {
        assert_eq!(field.place(field.get(&words)), Ok(words[field.word()] & field.mask()));
    }
}

/// Any 32 bytes decode as an event record, and its getters stay within bounds.
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
    if let Some(fetch) = record.fetch_address() {
        assert!(fetch.0.trailing_zeros() >= 3, "{fetch}");
    }
    if let Some(request) = record.ats_request() {
        assert!(request.span < 16 && request.address.0.trailing_zeros() >= 12, "{request:?}");
        text_of(&request.access);
    }
    if let Some(hint) = record.page_hint() {
        assert!(hint.address.0.trailing_zeros() >= 12, "{hint:?}");
        text_of(&hint.privileged);
    }
    // No getter panics.
    let _ = (record.is_read(), record.is_stalled(), record.stall_tag(), record.is_stage2());
    let _ = (record.is_instruction(), record.is_privileged(), record.is_non_secure_ipa());
    let _ = (record.is_table_read(), record.is_granule_protection_fault());
    let _ = (record.reason(), record.implementation_defined());
    assert!(fields::event(kind).bits() == 256);

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

/// Any 16 bytes decode as an entry of the PRI queue. A constructor makes a request without reserved
/// bits again.
pub(crate) fn pri(words: [u64; 2]) {
    let record = PriRecord(words);
    text_of(&record);
    text_of(&record.access());
    assert!(record.group().get() <= PrgIndex::MAX);
    assert!(record.address().0.trailing_zeros() >= 12);
    assert_eq!(record.stream(), StreamId(words[0] as u32));

    let made = PriRecord::new(record.stream(), record.group(), record.address(), record.access());
    assert!(made.is_ok(), "{record}");
    let mut made = made.unwrap_or_default();
    if let Some(substream) = record.substream() {
        made = made.with_substream(substream);
    }
    if record.is_last() {
        made = made.with_last();
    }
    if record.is_privileged() {
        made = made.with_privilege();
    }
    assert_eq!((made.substream(), made.access()), (record.substream(), record.access()));
    assert_eq!((made.is_last(), made.is_stop()), (record.is_last(), record.is_stop()));
    assert_eq!((made.group(), made.address()), (record.group(), record.address()));
}
