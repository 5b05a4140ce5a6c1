//! What the later lines of a sender refer to.

use smmu_types::EventRecord;

use crate::advice::event::in_short;
use crate::item::{FoundWords, ScanItem, trouble};
use crate::kind::StructureKind;

/// What the later lines of a sender refer to.
#[derive(Debug, Default)]
pub(crate) struct LinuxSenders(Vec<LinuxSender>);

/// What is known of one sender.
#[derive(Debug, Default)]
pub(super) struct LinuxSender {
    name: String,
    /// The last dumped event. New kernels describe it in words as well.
    pub(super) dumped: Option<EventRecord>,
    /// The first line of its description was seen.
    pub(super) half_said: bool,
    /// An event that was described without a dump, before the second line of its description.
    pub(super) described: Option<Described>,
    /// log2 of the size of its command queue.
    pub(super) queue: Option<u64>,
}

/// An event that was described in words.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) record: EventRecord,
    pub(super) line: usize,
    pub(super) about: String,
    /// The SMMU and the device, as the log names them.
    pub(super) smmu: String,
    pub(super) device: String,
}

impl Described {
    /// The note for the first line alone.
    pub(super) fn note(self, out: &mut Vec<ScanItem>) {
        let (kind, text) = (self.record.kind(), in_short(self.record.kind()));
        let (sid, iova) = (self.record.stream(), self.record.address());
        let text = format!("event {kind} sid={sid} iova={iova}: {text}; the rest of it is missing");
        out.push(ScanItem::note(self.line, "Linux", text, trouble(&self.smmu)));
    }
}

/// The maximum number of senders. With more, the one that was silent for longest is forgotten.
const SENDERS: usize = 64;
/// After this number of lines, the second line of a description counts as missing.
const PATIENCE: usize = 200;

impl LinuxSenders {
    pub(super) fn of(&mut self, name: &str, out: &mut Vec<ScanItem>) -> &mut LinuxSender {
        let found = self.0.iter().position(|sender| sender.name == name);
        let sender = match found {
            Some(at) => self.0.remove(at),
            None => LinuxSender { name: name.to_owned(), ..LinuxSender::default() },
        };
        if self.0.len() >= SENDERS {
            self.0.remove(0).described.into_iter().for_each(|described| described.note(out));
        }
        self.0.push(sender);
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// Keeps an event of a sender that was just found.
    pub(super) fn dumped(&mut self, sender: &str, out: &mut Vec<ScanItem>) {
        let Some(ScanItem::Found(FoundWords { kind: StructureKind::Event, words, .. })) =
            out.last()
        else {
            return;
        };
        let record = EventRecord(std::array::from_fn(|n| words.get(n).copied().unwrap_or(0)));
        let mut notes = Vec::new();
        self.of(sender, &mut notes).dumped = Some(record);
        out.append(&mut notes);
    }

    pub(crate) fn give_up(&mut self, number: usize, out: &mut Vec<ScanItem>) {
        for sender in &mut self.0 {
            let old = |described: &mut Described| number > described.line + PATIENCE;
            if let Some(described) = sender.described.take_if(old) {
                described.note(out);
            }
        }
    }

    /// Ends the input.
    pub(crate) fn finish(&mut self, out: &mut Vec<ScanItem>) {
        for sender in &mut self.0 {
            sender.described.take().into_iter().for_each(|described| described.note(out));
        }
    }
}
