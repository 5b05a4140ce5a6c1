//! Random work: every fault is answered once, and none is left at the end.

use rstest::rstest;
use smmu_attach::faults::{Answered, Taken};
use smmu_types::StreamId;

use crate::hardware::{Hardware, Token, Waits};
use crate::{SMMU, request, stall, table};

struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn index(&mut self, len: usize) -> usize {
        self.next(len as u64) as usize
    }
}

#[rstest]
fn every_fault_is_answered_once(
    #[values(1, 2, 3, 4)] seed: u64,
    #[values(1, 3, 16)] capacity: usize,
    #[values(0, 5)] failures_in_100: u64,
) {
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let hardware = Hardware::new(SMMU);
    let faults = table(&hardware, capacity);
    let mut tokens: Vec<Token<'_>> = Vec::new();
    let mut faulted = 0_u32;
    // Records that the reader could not take, as they stay in its queue.
    let (mut events, mut requests) = (Vec::new(), Vec::new());
    for _ in 0..5_000 {
        if numbers.next(100) < failures_in_100 {
            hardware.fail_after(numbers.next(3) as u32, 1 + numbers.next(4) as u32);
        }
        let stream = 8 + numbers.next(3) as u32;
        match numbers.next(12) {
            0..=3 => {
                let tag = numbers.next(6) as u16;
                if !hardware.waits(Waits::Stall(stream, tag)) {
                    hardware.stalls(stream, tag);
                    faulted += 1;
                    events.push(stall(stream, tag));
                }
            }
            4..=5 => {
                let group = numbers.next(4) as u16;
                let substream = [None, Some(1)][numbers.index(2)];
                if !hardware.waits(Waits::Group(stream, substream, group)) {
                    hardware.asks(stream, substream, group);
                    faulted += 1;
                    requests.push(request(stream, substream, group));
                    requests.push(request(stream, substream, group).with_last());
                }
            }
            6..=9 if !tokens.is_empty() => {
                let token = tokens.swap_remove(numbers.index(tokens.len()));
                token.end(numbers.next(4) as u8);
            }
            10 => {
                let withdrawn = faults.withdraw(|id| id.stream == StreamId(stream));
                assert_eq!(withdrawn.left.waiting, 0);
                assert_eq!(withdrawn.error.is_none(), withdrawn.left.is_none());
            }
            _ => {
                let _ = faults.send_kept();
            }
        }
        while let Some(record) = events.first() {
            match faults.take_event(*record) {
                Ok(Taken::Fault(fault)) => tokens.push(Token::Stall(fault)),
                Ok(Taken::NoRoom) => {}
                Ok(other) => panic!("{record}: {other:?}"),
                Err(_) => break,
            }
            events.remove(0);
        }
        while let Some(record) = requests.first() {
            match faults.take_request(*record) {
                Ok(Taken::Fault(group)) => tokens.push(Token::Group(group)),
                Ok(Taken::NoRoom | Taken::NoAnswer) => {}
                Ok(other) => panic!("{record}: {other:?}"),
                Err(_) => break,
            }
            requests.remove(0);
        }
        hardware.check_so_far();
        let outstanding = faults.outstanding();
        assert!((outstanding.waiting + outstanding.kept) as usize <= capacity);
    }
    hardware.mend();
    for record in events {
        drop(faults.take_event(record).unwrap());
    }
    for record in requests {
        drop(faults.take_request(record).unwrap());
    }
    let withdrawn = faults.withdraw(|_| true);
    assert!(withdrawn.left.is_none() && withdrawn.error.is_none());
    let sent = hardware.take().len();
    assert_eq!(sent, faulted as usize, "one answer for each fault");
    assert!(tokens.into_iter().all(|token| match token {
        Token::Stall(fault) => fault.retry() == Answered::Withdrawn,
        Token::Group(group) => group.success() == Answered::Withdrawn,
    }));
    assert_eq!(hardware.take(), []);
    hardware.check();
}
