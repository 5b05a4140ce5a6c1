//! The fixture of all tests: a platform of fakes, SMMUs, devices and domains.

use std::marker::PhantomData;
use std::sync::Arc;

use smmu_attach::*;
use smmu_invs::{ArcSwapCell, EntryState, InvArray};
use smmu_types::fake::*;
use smmu_types::seam::{DmaMemory, Observer, SinkError};
use smmu_types::*;

/// A platform with this DMA memory and this observer.
pub(crate) struct FakePlatform<D, O>(PhantomData<(D, O)>);

impl<D: DmaMemory, O: Observer> Platform for FakePlatform<D, O> {
    type Lock = parking_lot::RawMutex;
    type DomainLock = parking_lot::RawMutex;
    type Dma = D;
    type Sink = RecordingSink;
    type Cell = ArcSwapCell<InvArray>;
    type Observer = O;
}

/// The platform of most tests.
pub(crate) type HeapPlatform = FakePlatform<Pool<HeapWindow>, RecordingObserver>;

/// Page tables that a test describes.
pub(crate) struct DescribedTables(pub(crate) TableDescription);

impl TranslationTable for DescribedTables {
    fn describe(&self) -> TableDescription {
        self.0
    }
}

pub(crate) fn tables(stage: TranslationStage, root: u64) -> DescribedTables {
    DescribedTables(TableDescription {
        stage,
        root: PhysAddr(root),
        t0sz: 25,
        granule: Granule::K4,
        output_size: OutputSize::Bits40,
        walk: WalkAttributes::COHERENT,
        forced_write_back: ForcedWriteBack::Off,
    })
}

pub(crate) const S1: TranslationStage = TranslationStage::Stage1 { mair: 0xff };
pub(crate) const S2: TranslationStage = TranslationStage::Stage2 { start_level: 1 };

pub(crate) fn domain<P: Platform>(id: u32, stage: TranslationStage) -> Arc<Domain<P>> {
    let tables = tables(stage, 0x8000_0000 + u64::from(id) * 0x1000);
    Arc::new(Domain::new(DomainId(id), &tables).unwrap())
}

pub(crate) fn caps() -> Capabilities {
    Capabilities::decode(ID_REGISTERS)
}

/// A sink on which every batch with a command of this name times out.
pub(crate) fn fails_on(name: &'static str) -> RecordingSink {
    RecordingSink::failing(move |call| match call {
        SinkCall::Issue(smmu, commands) if commands.iter().any(|c| c.name() == name) => {
            Some(SinkError::timeout(*smmu))
        }
        _ => None,
    })
}

/// The fakes of one test.
pub(crate) struct Fixture {
    pub(crate) dma: Pool<HeapWindow>,
    pub(crate) sink: RecordingSink,
    pub(crate) observer: RecordingObserver,
}

impl Fixture {
    pub(crate) fn new(sink: RecordingSink) -> Self {
        Fixture { dma: heap_pool(4 << 20), sink, observer: RecordingObserver::new() }
    }

    pub(crate) fn env(&self) -> Env<'_, HeapPlatform> {
        Env { dma: &self.dma, sink: &self.sink, observer: &self.observer }
    }

    pub(crate) fn smmu(&self, id: u16) -> Arc<Smmu<HeapPlatform>> {
        Arc::new(
            Smmu::new(SmmuId(id), ID_REGISTERS, caps(), SmmuConfig::default(), &self.dma).unwrap(),
        )
    }

    pub(crate) fn device(
        &self,
        smmu: &Arc<Smmu<HeapPlatform>>,
        stream: u32,
    ) -> Device<HeapPlatform> {
        let device = Smmu::add_device(smmu, &[StreamId(stream)], &self.env()).unwrap();
        self.sink.take();
        device
    }

    pub(crate) fn attach(
        &self,
        device: &mut Device<HeapPlatform>,
        target: Target<'_, HeapPlatform>,
    ) -> Committed {
        device.prepare(target, &self.env()).unwrap().publish().install().commit()
    }

    /// All commands since the last call, with each `CMD_SYNC`.
    pub(crate) fn commands(&self) -> Vec<String> {
        let mut names = Vec::new();
        for call in self.sink.take() {
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
pub(crate) const DONE: Committed = Committed { freed: None, quarantined: None, config: Ok(()) };
