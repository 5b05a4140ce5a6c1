//! A publication that a test watches: each read, and each store that follows without a barrier.

use std::cell::{Cell as ThreadCell, RefCell};

use smmu_attach::*;
use smmu_invs::{ArcSwapCell, InvArray, OutOfMemory, Publication};
use smmu_types::fake::*;
use smmu_types::seam::SinkError;
use smmu_types::*;

use crate::common::*;

type ReadHook = Box<dyn Fn(&InvArray)>;

thread_local! {
    static ON_READ: RefCell<Option<ReadHook>> = const { RefCell::new(None) };
    static UNORDERED: ThreadCell<bool> = const { ThreadCell::new(false) };
}

/// Whether this thread has published an array since [`ordered`] was called last.
pub(crate) fn is_unordered() -> bool {
    UNORDERED.get()
}

/// A barrier orders this thread's arrays before its later stores.
pub(crate) fn ordered() {
    UNORDERED.set(false);
}

/// [`ArcSwapCell`], and what this thread watches.
pub(crate) struct WatchedCell(ArcSwapCell<InvArray>);

impl Publication<InvArray> for WatchedCell {
    type Node = <ArcSwapCell<InvArray> as Publication<InvArray>>::Node;
    type Guard<'a> = <ArcSwapCell<InvArray> as Publication<InvArray>>::Guard<'a>;

    fn node(value: InvArray) -> Result<Self::Node, OutOfMemory> {
        ArcSwapCell::node(value)
    }
    fn new(node: Self::Node) -> Self {
        WatchedCell(ArcSwapCell::new(node))
    }
    fn read(&self) -> Self::Guard<'_> {
        let array = self.0.read();
        ON_READ.with_borrow(|hook| {
            if let Some(hook) = hook {
                hook(&array);
            }
        });
        array
    }
    fn publish(&self, node: Self::Node) {
        UNORDERED.set(true);
        self.0.publish(node);
    }
}

struct Watched;
impl Platform for Watched {
    type Lock = parking_lot::RawMutex;
    type SleepLock = parking_lot::RawMutex;
    type Dma = Pool<HeapWindow>;
    type Sink = RecordingSink;
    type Cell = WatchedCell;
    type Observer = ();
    type Tables = DescribedTables;
    type Ats = ();
}

/// Each read of the only domain's array finds no entry whose number is free. So no reader flushes a
/// number that has a new owner.
#[test]
fn inv_4_no_reader_sees_the_entry_of_a_free_number() {
    for stage in [S1, S2] {
        let fails = std::sync::Arc::new(std::sync::Mutex::new(None));
        let on = fails.clone();
        let sink = RecordingSink::failing(move |call| match call {
            SinkCall::Issue(smmu, commands) => {
                let name: &str = (*on.lock().unwrap())?;
                commands[0].name().starts_with(name).then(|| SinkError::timeout(*smmu))
            }
            _ => None,
        });
        let env = Env::<Watched>::new(heap_pool(4 << 20), sink, ()).unwrap();
        let config = SmmuConfig::default();
        let smmu = Smmu::new(&env, SmmuId(0), ID_REGISTERS, caps(), config).unwrap();
        let devices = [8, 9].map(|n| smmu.add_device(&[StreamId(n)]).unwrap());
        let domain = Domain::new(&env, DomainId(1), tables(stage, 0x8000_0000)).unwrap();
        let watched = smmu.clone();
        ON_READ.set(Some(Box::new(move |array| {
            let visible = array.iter().filter(|v| v.state != smmu_invs::EntryState::Trash).count();
            let stats = [watched.asids().stats(), watched.vmids().stats()];
            let taken: u32 = stats.iter().map(|s| s.capacity - s.free).sum();
            assert!(visible as u32 <= taken, "a reader sees the entry of a free number");
        })));
        // A whole life, the last detach, and a transaction that is dropped half way.
        assert_eq!(devices[0].attach(&domain), Ok(Outcome::Done));
        assert_eq!(devices[1].attach(&domain), Ok(Outcome::Done));
        assert_eq!(devices[0].block(), Outcome::Done);
        assert!(devices[1].block().freed().is_some());
        drop(devices[0].prepare(Target::Domain(&domain)).unwrap().publish());
        // A flush, and then an entry, that the SMMU does not confirm at first.
        for name in ["TLBI", "CFGI"] {
            assert_eq!(devices[0].attach(&domain), Ok(Outcome::Done));
            *fails.lock().unwrap() = Some(name);
            assert!(devices[0].block().settled().is_err());
            *fails.lock().unwrap() = None;
            assert_eq!(smmu.settle(), Ok(()));
            assert!(domain.array().is_empty());
        }
        // An SMMU that goes away.
        assert_eq!(devices[0].block(), Outcome::Done);
        assert_eq!(devices[0].attach(&domain), Ok(Outcome::Done));
        assert_eq!(smmu.gone(&GoneProof::vouch(SmmuId(0))), Ok(()));
        assert!(domain.array().is_empty());
        ON_READ.set(None);
    }
}
