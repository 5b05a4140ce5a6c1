//! A device that firmware left running reaches its reserved memory before, while and after
//! translation begins.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use super::bench::{Bench, STREAM, TestBlock, Tested, VmTables, WriteGate};
use smmu_driver::smmu_attach::{AttachError, Attachment, DeviceConfig, Outcome};
use smmu_driver::smmu_types::seam::{DmaBlock, DmaLayout, DmaMemory};
use smmu_driver::smmu_types::{EventKind, SmmuId, StreamId};
use smmu_driver::{Boot, Domain, DriverError, Setup, SmmuOptions};
use smmu_model::Profile;

const SMMU: SmmuId = SmmuId(0);

struct Firmware {
    bench: Bench,
    page: TestBlock,
}

impl Firmware {
    fn new() -> Self {
        let bench = Bench::new(&[Profile::default()]);
        let page = bench.memory.allocate(DmaLayout::new(4096, 4096).unwrap()).unwrap();
        Firmware { bench, page }
    }

    /// The device of the firmware writes to its own memory.
    fn works(&self) -> bool {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let value = NEXT.fetch_add(1, Ordering::Relaxed);
        let written = self.bench.model.dma_write32(0, STREAM, self.page.address().0, value);
        written.is_ok() && self.page.words()[0].load(Ordering::Relaxed) as u32 == value
    }

    fn setup(&self, gate: Option<Arc<WriteGate>>) -> Setup<Tested> {
        let mut setup = self.bench.setup();
        let mut registers = self.bench.registers(0, None);
        registers.gate = gate;
        setup.smmu(registers, SmmuOptions::default()).unwrap();
        setup
    }

    fn window(&self, boot: &Boot<'_, Tested>) -> Result<Domain<Tested>, DriverError> {
        let tables = VmTables::new(&self.bench.memory);
        tables.map_identity(self.page.address());
        let domain = boot.domain(tables)?;
        let device = boot.add_device(&[STREAM], DeviceConfig::default())?;
        assert_eq!(device.attach(&domain)?, Outcome::Done);
        Ok(domain)
    }
}

#[test]
fn a_reserved_window_never_faults() {
    let firmware = Arc::new(Firmware::new());
    assert!(firmware.works());
    let (looks, seen) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&firmware));
    let count = Arc::clone(&looks);
    let during = Arc::new(AtomicBool::new(true));
    let watches = Arc::clone(&during);
    let gate: Arc<WriteGate> = Arc::new(move |_, _| {
        if watches.load(Ordering::Relaxed) {
            count.fetch_add(1, Ordering::Relaxed);
            assert!(seen.works());
        }
        true
    });
    let mut windows = Vec::new();
    let setup = firmware.setup(Some(gate));
    let driver = setup.start_with(
        |queues| queues,
        |boot| {
            assert_eq!((boot.smmu(), firmware.bench.translates(0)), (SMMU, false));
            windows.push(firmware.window(boot)?);
            Ok(())
        },
    );
    let driver = driver.unwrap();
    assert!(looks.load(Ordering::Relaxed) > 15);
    assert!(firmware.bench.translates(0) && firmware.works());
    let mut events = Vec::new();
    driver.drain_events(SMMU, |event| events.push(event.kind())).unwrap();
    assert_eq!(events, []);

    // The device reaches nothing else, and the driver has it.
    let outside = firmware.page.address().0 + 0x1000;
    assert!(firmware.bench.model.dma_write32(0, STREAM, outside, 7).is_err());
    driver.drain_events(SMMU, |event| events.push(event.kind())).unwrap();
    assert_eq!(events, [EventKind::F_TRANSLATION]);
    let device = driver.device_of(SMMU, STREAM).unwrap().unwrap();
    assert!(matches!(device.attachment(), Attachment::Domain(_)));
    // Numbers of domains go on behind those of the windows.
    let next = driver.domain(VmTables::new(&firmware.bench.memory)).unwrap();
    assert_eq!((windows[0].id().0, next.id().0), (0, 1));
    // A restart over the same tables keeps the window. On the way every stream aborts.
    during.store(false, Ordering::Relaxed);
    driver.restart(SMMU).unwrap();
    assert!(firmware.works());
    assert_eq!(firmware.bench.model.take_hazards(), []);
    driver.shutdown().unwrap();
}

#[test]
fn without_its_window_the_device_is_blocked() {
    let firmware = Firmware::new();
    let driver = firmware.setup(None).start().unwrap();
    assert!(!firmware.works());
    driver.shutdown().unwrap();
}

#[test]
fn a_window_that_cannot_be_made_leaves_the_smmu_off_and_returns_the_memory() {
    let firmware = Firmware::new();
    let free = firmware.bench.free();
    let beyond = StreamId(u32::MAX);
    let error = firmware
        .setup(None)
        .start_with(
            |queues| queues,
            |boot| boot.add_device(&[beyond], DeviceConfig::default()).map(drop),
        )
        .unwrap_err();
    assert!(matches!(error, DriverError::Attach(AttachError::StreamRange { .. })), "{error}");
    assert!(!firmware.bench.translates(0));
    assert_eq!(firmware.bench.free(), free);
    // Nothing translated, so the device passes as before.
    assert!(firmware.works());
}
