//! Records of any content, as hostile devices can cause them: each fault is answered once, and none is
//! left at the end. The fuzz target `faults` uses it too.
//!
//! The first byte chooses the capacity of the table. Then each operation is a byte, with a record behind
//! it if it is one.

use std::time::Duration;

use smmu_attach::faults::{Answered, EventSieve, FaultTable, SieveConfig, StormConfig, Taken};
use smmu_types::{EventRecord, PriRecord, SmmuId, StreamId};

use crate::hardware::{Hardware, Token, Waits};

const SMMU: SmmuId = SmmuId(2);

/// `N` little-endian words, and the rest; bytes that are not there are zero.
fn words<const N: usize>(data: &[u8]) -> ([u64; N], &[u8]) {
    let words = std::array::from_fn(|at| {
        let bytes = data.iter().skip(8 * at).take(8);
        bytes.enumerate().fold(0, |word, (n, byte)| word | u64::from(*byte) << (8 * n))
    });
    (words, &data[data.len().min(8 * N)..])
}

/// The table and its hardware.
struct World<'h> {
    hardware: &'h Hardware,
    faults: FaultTable<&'h Hardware>,
    tokens: Vec<Token<'h>>,
    sieve: EventSieve,
    /// Events that the sieve has seen.
    sieved: u64,
    /// Faults that waited, each once.
    waited: usize,
}

impl World<'_> {
    fn waits(&mut self, what: Waits) {
        if !self.hardware.waits(what) {
            match what {
                Waits::Stall(stream, tag) => self.hardware.stalls(stream, tag),
                Waits::Group(stream, substream, group) => {
                    self.hardware.asks(stream, substream, group);
                }
            }
            self.waited += 1;
        }
    }

    /// A record stays in its queue if the table cannot take it. Then the queue of commands is mended.
    fn event(&mut self, record: EventRecord) {
        let stalled = record.is_stalled();
        if stalled {
            self.waits(Waits::Stall(record.stream().0, record.stall_tag()));
        } else {
            let _ = self.sieve.sieve(&record, Duration::from_micros(self.sieved));
            self.sieved += 1;
        }
        let taken = self.faults.take_event(record).or_else(|_| {
            self.hardware.mend();
            self.faults.take_event(record)
        });
        match taken {
            Ok(Taken::Fault(fault)) => {
                assert!(stalled, "{record}");
                self.tokens.push(Token::Stall(fault));
            }
            Ok(Taken::NoAnswer) => assert!(!stalled, "{record}"),
            Ok(Taken::Repeated | Taken::NoRoom) => assert!(stalled, "{record}"),
            Err(error) => panic!("{record}: {error}"),
        }
    }

    fn request(&mut self, record: PriRecord) {
        let asks = record.is_last() && !record.is_stop();
        if asks {
            let substream = record.substream().map(|substream| substream.get());
            self.waits(Waits::Group(record.stream().0, substream, record.group().get()));
        }
        let taken = self.faults.take_request(record).or_else(|_| {
            self.hardware.mend();
            self.faults.take_request(record)
        });
        match taken {
            Ok(Taken::Fault(group)) => {
                assert!(asks, "{record}");
                self.tokens.push(Token::Group(group));
            }
            Ok(Taken::NoAnswer) => assert!(!asks, "{record}"),
            Ok(Taken::Repeated | Taken::NoRoom) => assert!(asks, "{record}"),
            Err(error) => panic!("{record}: {error}"),
        }
    }

    fn answer(&mut self, which: u8) {
        if self.tokens.is_empty() {
            return;
        }
        let token = self.tokens.swap_remove(usize::from(which >> 2) % self.tokens.len());
        token.end(which & 3);
    }
}

/// Runs the operations. Returns how many faults waited.
pub(crate) fn bytes(data: &[u8]) -> usize {
    let (&first, mut data) = data.split_first().unwrap_or((&0, &[]));
    let capacity = 1 + usize::from(first % 8);
    let hardware = Hardware::new(SMMU);
    let storm = StormConfig { window: Duration::from_micros(50), burst: u32::from(first >> 4) };
    let is_spurious = |record: &EventRecord| record.stream() == StreamId(9);
    let mut world = World {
        hardware: &hardware,
        faults: FaultTable::new(&hardware, SMMU, capacity).unwrap(),
        tokens: Vec::new(),
        sieve: EventSieve::new(SieveConfig { storm, is_spurious }),
        sieved: 0,
        waited: 0,
    };
    while let Some((&operation, rest)) = data.split_first() {
        data = rest;
        match operation {
            0..=0x5f => {
                let (record, rest) = words(data);
                data = rest;
                world.event(EventRecord(record));
            }
            0x60..=0xbf => {
                let (record, rest) = words(data);
                data = rest;
                world.request(PriRecord(record));
            }
            0xc0..=0xdf => world.answer(operation & 0x1f),
            0xe0..=0xef => {
                let stream = StreamId(u32::from(operation & 0xf));
                let withdrawn = world.faults.withdraw(|id| id.stream == stream);
                assert_eq!(withdrawn.left.waiting, 0);
                assert_eq!(withdrawn.error.is_none(), withdrawn.left.is_none());
            }
            0xf0..=0xf7 => hardware.fail_after(u32::from(operation & 3), 2),
            _ => {
                let _ = world.faults.send_kept();
            }
        }
        hardware.check_so_far();
        let outstanding = world.faults.outstanding();
        assert!((outstanding.waiting + outstanding.kept) as usize <= capacity);
    }
    hardware.mend();
    let withdrawn = world.faults.withdraw(|_| true);
    assert!(withdrawn.left.is_none() && withdrawn.error.is_none(), "{withdrawn:?}");
    assert_eq!(hardware.take().len(), world.waited, "one answer for each fault");
    for token in world.tokens {
        let late = match token {
            Token::Stall(fault) => fault.retry(),
            Token::Group(group) => group.success(),
        };
        assert_eq!(late, Answered::Withdrawn);
    }
    hardware.check();
    let counts = world.sieve.counts();
    assert_eq!(counts.reported + counts.left_out + counts.spurious, world.sieved);
    world.waited
}
