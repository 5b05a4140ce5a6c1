//! Answers beside a withdrawal: each fault gets one, and it names that fault.
//!
//! The sink synchronises no threads, as the model checker sees it. So a thread that reads a slot
//! without the order of its words reads those of the fault before.

use std::sync::{Arc, Mutex, PoisonError};

use loom::thread;
use smmu_attach::faults::{AnswerSink, Answered, FaultTable};
use smmu_types::seam::SinkError;
use smmu_types::{Command, EventKind, EventRecord, SmmuId, StreamId};

use crate::world::model;

const SMMU: SmmuId = SmmuId(0);
/// The streams of the fault before, and of the fault of the model.
const OLD: u32 = 8;
const NEW: u32 = 9;

/// A command queue that loom does not see. It fails the first so many pushes.
#[derive(Clone)]
struct Port(Arc<Mutex<PortState>>);

#[derive(Default)]
struct PortState {
    fails: u32,
    sent: Vec<u32>,
}

impl Port {
    fn with<T>(&self, act: impl FnOnce(&mut PortState) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn sent(&self) -> Vec<u32> {
        self.with(|state| state.sent.clone())
    }
}

impl AnswerSink for Port {
    fn answer(&self, smmu: SmmuId, command: Command) -> Result<(), SinkError> {
        let Command::Resume { stream, .. } = command else { panic!("{command}") };
        self.with(|state| {
            if state.fails > 0 {
                state.fails -= 1;
                return Err(SinkError::timeout(smmu));
            }
            state.sent.push(stream.0);
            Ok(())
        })
    }
}

fn stall(stream: u32) -> EventRecord {
    EventRecord::new(EventKind::F_TRANSLATION, StreamId(stream)).with_stall(1)
}

/// A table of one slot that has held a fault of stream [`OLD`].
fn used_table() -> (FaultTable<Port>, Port) {
    let port = Port(Arc::default());
    let faults = FaultTable::new(port.clone(), SMMU, 1).unwrap();
    assert!(faults.take_event(stall(OLD)).unwrap().fault().unwrap().abort().is_sent());
    assert_eq!(port.with(|state| std::mem::take(&mut state.sent)), [OLD]);
    (faults, port)
}

/// A handler answers, or drops its token, while a device is withdrawn.
pub(crate) fn answer_beside_withdraw(drops: bool, preemptions: usize) {
    model(preemptions, move || {
        let (faults, port) = used_table();
        let token = faults.take_event(stall(NEW)).unwrap().fault().unwrap();
        let handler = thread::spawn(move || {
            if drops {
                drop(token);
                return None;
            }
            Some(token.retry())
        });
        let withdrawn = faults.withdraw(|id| id.stream == StreamId(NEW));
        let ended = handler.join().unwrap();
        assert_eq!(port.sent(), [NEW], "one answer");
        match ended {
            Some(Answered::Sent) => assert_eq!(withdrawn.answered, 0),
            Some(Answered::Withdrawn) => assert_eq!(withdrawn.answered, 1),
            Some(Answered::Kept(error)) => panic!("{error}"),
            None => {}
        }
        assert!(faults.outstanding().is_none());
    });
}

/// The reader of the event queue takes a new fault while everything is withdrawn.
///
/// The thread that only looks comes second: loom remembers one access of an atomic, and would take the
/// reader's own look for the last one before its store.
pub(crate) fn fault_beside_withdraw(preemptions: usize) {
    model(preemptions, move || {
        let (faults, port) = used_table();
        let detach = thread::spawn({
            let faults = faults.clone();
            move || faults.withdraw(|_| true).answered
        });
        let ended = faults.take_event(stall(NEW)).unwrap().fault().unwrap().retry();
        let withdrawn = detach.join().unwrap();
        assert_eq!(port.sent(), [NEW], "one answer, to the new fault");
        assert_eq!(ended == Answered::Withdrawn, withdrawn == 1);
    });
}

/// An answer is kept by one thread, and sent by another, or by both in turn.
pub(crate) fn kept_beside_send(preemptions: usize) {
    model(preemptions, move || {
        let (faults, port) = used_table();
        port.with(|state| state.fails = 1);
        let other = thread::spawn({
            let faults = faults.clone();
            move || {
                let _ = faults.send_kept();
            }
        });
        let _ = faults.take_event(stall(NEW)).unwrap().fault().unwrap().retry();
        let _ = faults.send_kept();
        other.join().unwrap();
        let _ = faults.send_kept();
        assert_eq!(port.sent(), [NEW], "one answer, to the new fault");
        assert!(faults.outstanding().is_none());
    });
}

/// A reset forgets the stalled transaction while its handler answers.
pub(crate) fn answer_beside_reset(preemptions: usize) {
    model(preemptions, move || {
        let (faults, port) = used_table();
        let token = faults.take_event(stall(NEW)).unwrap().fault().unwrap();
        let handler = thread::spawn(move || token.retry());
        let forgotten = faults.forget_stalls();
        match handler.join().unwrap() {
            Answered::Withdrawn => {
                assert_eq!((forgotten, port.sent()), (1, vec![]));
            }
            _ => assert_eq!((forgotten, port.sent()), (0, vec![NEW])),
        }
        assert!(faults.outstanding().is_none());
    });
}
