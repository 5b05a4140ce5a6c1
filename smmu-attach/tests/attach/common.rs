//! The fixture of all tests: a platform of fakes, SMMUs, devices and domains.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use smmu_attach::*;
use smmu_invs::{ArcSwapCell, EntryState, InvArray};
use smmu_types::fake::*;
use smmu_types::seam::{DmaMemory, Observer, SinkError};
use smmu_types::*;

use crate::spinning::SpinLock;

/// A platform with this DMA memory and this observer.
pub(crate) struct FakePlatform<D, O>(PhantomData<(D, O)>);

impl<D: DmaMemory, O: Observer> Platform for FakePlatform<D, O> {
    type Lock = SpinLock;
    type SleepLock = parking_lot::RawMutex;
    type Dma = D;
    type Sink = RecordingSink;
    type Cell = ArcSwapCell<InvArray>;
    type Observer = O;
    type Tables = DescribedTables;
    type Ats = ();
}

/// The platform of most tests.
pub(crate) type HeapPlatform = FakePlatform<Pool<HeapWindow>, RecordingObserver>;

/// Page tables that a test describes, and a count that falls when they are dropped.
pub(crate) struct DescribedTables(pub(crate) TableDescription, pub(crate) Arc<()>);

impl TranslationTable for DescribedTables {
    fn describe(&self) -> TableDescription {
        self.0
    }
}

pub(crate) fn tables(stage: TranslationStage, root: u64) -> DescribedTables {
    let description = TableDescription::new(stage, PhysAddr(root));
    DescribedTables(description, Arc::new(()))
}

pub(crate) const S1: TranslationStage = TranslationStage::Stage1 { mair: 0xff };
pub(crate) const S2: TranslationStage = TranslationStage::Stage2 { start_level: 1 };

/// An SMMU with ASIDs of 16 bits, range invalidation and substreams.
pub(crate) const LARGE: IdRegisters = IdRegisters {
    idr1: ID_REGISTERS.idr1 | 20 << 6,
    idr3: ID_REGISTERS.idr3 | 1 << 10,
    ..ID_REGISTERS
};

/// An SMMU with ASIDs and VMIDs of 8 bits, without range invalidation and substreams.
pub(crate) const SMALL: IdRegisters = IdRegisters {
    idr0: ID_REGISTERS.idr0 & !(1 << 12 | 1 << 18),
    idr3: ID_REGISTERS.idr3 & !(1 << 10),
    ..ID_REGISTERS
};

pub(crate) fn caps() -> Capabilities {
    Capabilities::decode(ID_REGISTERS)
}

/// The fakes of one test.
pub(crate) struct Fixture {
    pub(crate) env: Env<HeapPlatform>,
    fails: Arc<Mutex<Option<&'static str>>>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::watched(|_| {})
    }

    /// A fixture whose sink calls `watch` for each call.
    pub(crate) fn watched(watch: impl Fn(&SinkCall) + Send + Sync + 'static) -> Self {
        Self::failing(move |call| {
            watch(call);
            None
        })
    }

    /// A fixture whose sink fails as `fail` says.
    pub(crate) fn failing(
        fail: impl Fn(&SinkCall) -> Option<SinkError> + Send + Sync + 'static,
    ) -> Self {
        let fails = Arc::new(Mutex::new(None));
        let on = Arc::clone(&fails);
        let sink = RecordingSink::failing(move |call| {
            if let Some(error) = fail(call) {
                return Some(error);
            }
            let name: &str = (*on.lock().unwrap())?;
            match call {
                SinkCall::Issue(smmu, commands) | SinkCall::Push(smmu, commands)
                    if commands.iter().any(|c| c.name() == name) =>
                {
                    Some(SinkError::timeout(*smmu))
                }
                _ => None,
            }
        });
        let env = Env::new(heap_pool(4 << 20), sink, RecordingObserver::new()).unwrap();
        Fixture { env, fails }
    }

    /// From now on, every batch with a command of this name times out.
    pub(crate) fn fail_on(&self, name: &'static str) {
        *self.fails.lock().unwrap() = Some(name);
    }

    /// From now on, the SMMUs answer.
    pub(crate) fn mend(&self) {
        *self.fails.lock().unwrap() = None;
    }

    pub(crate) fn dma(&self) -> &Pool<HeapWindow> {
        self.env.dma()
    }

    pub(crate) fn sink(&self) -> &RecordingSink {
        self.env.sink()
    }

    pub(crate) fn observer(&self) -> &RecordingObserver {
        self.env.observer()
    }

    pub(crate) fn smmu(&self, id: u16) -> Smmu<HeapPlatform> {
        Smmu::new(&self.env, SmmuId(id), ID_REGISTERS, caps(), SmmuConfig::default()).unwrap()
    }

    /// An SMMU of these ID registers, with an ASID space that it shares.
    pub(crate) fn smmu_of_kind(
        &self,
        id: u16,
        registers: IdRegisters,
        asids: Option<&smmu_tags::AsidSpace>,
    ) -> Smmu<HeapPlatform> {
        let caps = Capabilities::decode(registers);
        let config = match asids {
            Some(asids) => SmmuConfig::default().with_asids(asids.clone()),
            None => SmmuConfig::default(),
        };
        Smmu::new(&self.env, SmmuId(id), registers, caps, config).unwrap()
    }

    pub(crate) fn device(&self, smmu: &Smmu<HeapPlatform>, stream: u32) -> Device<HeapPlatform> {
        let device = smmu.add_device(&[StreamId(stream)]).unwrap();
        self.sink().take();
        device
    }

    pub(crate) fn domain(&self, id: u32, stage: TranslationStage) -> Domain<HeapPlatform> {
        let tables = tables(stage, 0x8000_0000 + u64::from(id) * 0x1000);
        Domain::new(&self.env, DomainId(id), tables).unwrap()
    }

    /// Attach a device, waiting for other attaches.
    pub(crate) fn attach<P: Platform>(&self, device: &Device<P>, target: Target<'_, P>) -> Outcome {
        match target {
            Target::Domain(domain) => device.attach(domain).unwrap(),
            Target::Bypass => device.bypass().unwrap(),
            _ => device.block(),
        }
    }

    /// All commands since the last call, with each `CMD_SYNC`.
    pub(crate) fn commands(&self) -> Vec<String> {
        let mut names = Vec::new();
        for call in self.sink().take() {
            match call {
                SinkCall::Issue(smmu, commands) => {
                    names.extend(commands.iter().map(|c| format!("{smmu} {c}")));
                    names.push(format!("{smmu} SYNC"));
                }
                SinkCall::Push(smmu, commands) => {
                    names.extend(commands.iter().map(|c| format!("{smmu} {c}")));
                }
                SinkCall::Wait(_) => {}
            }
        }
        names
    }
}

/// SMMU, tag, users and state of each entry of the array.
pub(crate) fn states(domain: &Domain<HeapPlatform>) -> Vec<(u16, u32, u32, EntryState)> {
    domain.array().iter().map(|v| (v.spec.key.smmu.0, v.spec.key.id, v.users, v.state)).collect()
}

pub(crate) const ASID1: CacheTag = CacheTag::Asid(Regime::El1, Asid(1));
