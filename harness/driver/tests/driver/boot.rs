//! A device that firmware left running reaches its reserved memory before, while and after
//! translation begins.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use super::bench::{Bench, STREAM, TestBlock, Tested, VmTables, WriteGate};
use super::iort_builder::{SINGLE, rmr};
use super::iort_more::add_node;
use rstest::rstest;
use smmu_driver::smmu_attach::{AttachError, Attachment, DeviceConfig};
use smmu_driver::smmu_hw_mmio::firmware::iort::{Iort, IortError, IortProblem};
use smmu_driver::smmu_hw_mmio::firmware::{MemoryType, Stream};
use smmu_driver::smmu_types::seam::{DmaBlock, DmaLayout, DmaMemory};
use smmu_driver::smmu_types::{EventKind, PhysAddr, SmmuId, StreamId};
use smmu_driver::windows::{MemoryRange, ReservedError, Window, WindowError, WindowsError};
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

    /// QEMU's table, in which an RMR reserves `length` bytes of the page for the stream.
    fn table(&self, length: u64) -> Vec<u8> {
        let mut table =
            include_bytes!("../../../../smmu-hw-mmio/tests/firmware/qemu.iort").to_vec();
        let smmu = Iort::new(&table).unwrap().smmu(SMMU).unwrap().at;
        let write_back = 5 << 2;
        let memory = rmr(write_back, &[(self.page.address().0 + 0x100, length)]);
        add_node(&mut table, &memory.map([0, 0, STREAM.0, smmu, SINGLE]));
        table
    }

    /// Attaches the device to a domain of its own, with the windows of `table`.
    fn seed(
        &self,
        boot: &Boot<'_, Tested>,
        table: &[u8],
        in_use: &[MemoryRange],
        map: impl FnMut(&VmTables, &Window) -> Result<(), Full>,
    ) -> Result<Domain<Tested>, Refused> {
        let stream = Stream { smmu: boot.smmu(), id: STREAM };
        let iort = Iort::new(table).unwrap();
        let domain = boot.domain(VmTables::new(&self.bench.memory))?;
        let (device, windows) = boot.attach_reserved(
            &[STREAM],
            DeviceConfig::default(),
            &domain,
            iort.windows_of(stream),
            in_use,
            map,
        )?;
        assert!(matches!(device.attachment(), Attachment::Domain(_)));
        assert_eq!((windows.mapped().len(), windows.holes()), (1, &[][..]));
        Ok(domain)
    }
}

/// The page tables of a test refuse a window.
#[derive(Debug, PartialEq, Eq)]
struct Full;

type Refused = ReservedError<IortError, Full>;

fn map_identity(tables: &VmTables, window: &Window) -> Result<(), Full> {
    assert_eq!((window.iova.0, window.length), (window.memory.0, 0x1000));
    assert_eq!(window.memory_type, Some(MemoryType::NormalWriteBack));
    tables.map_identity(window.memory);
    Ok(())
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
            let table = firmware.table(0x200);
            windows.push(firmware.seed(boot, &table, &[], map_identity)?);
            Ok::<_, Refused>(())
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

/// Whatever is wrong, the SMMU stays off, the memory comes back, and the device goes on.
#[rstest]
#[case::window_in_use(0x200, true, Ok(()))]
#[case::empty_window(0, false, Ok(()))]
#[case::tables_refuse(0x200, false, Err(Full))]
fn a_window_that_is_refused_leaves_the_device_as_firmware_did(
    #[case] length: u64,
    #[case] taken: bool,
    #[case] mapped: Result<(), Full>,
) {
    let firmware = Firmware::new();
    let (free, page) = (firmware.bench.free(), firmware.page.address());
    let table = firmware.table(length);
    // The last byte of the page, which the window does not have and its page does.
    let last = PhysAddr(page.0 + 0xfff);
    let range = MemoryRange { first: last, last };
    let in_use = if taken { vec![range] } else { Vec::new() };
    let before = |boot: &Boot<'_, Tested>| {
        let map = |_: &VmTables, _: &Window| match mapped {
            Ok(()) => Ok(()),
            Err(Full) => Err(Full),
        };
        firmware.seed(boot, &table, &in_use, map).map(drop)
    };
    let error = firmware.setup(None).start_with(|queues| queues, before).map(drop).unwrap_err();
    match error {
        ReservedError::Map(Full) => assert!(mapped.is_err()),
        ReservedError::Windows(WindowsError::Window(error)) => {
            let at = match error {
                WindowError::InUse { memory, in_use, at } if taken => {
                    assert_eq!((memory, in_use), (page, range));
                    at
                }
                WindowError::Empty { iova, at } if length == 0 => {
                    assert_eq!(iova.0, page.0 + 0x100);
                    at
                }
                other => panic!("{other}"),
            };
            // Where the address of the range lies in the table.
            assert_eq!(table[at as usize..][..8], (page.0 + 0x100).to_le_bytes());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((firmware.bench.translates(0), firmware.bench.free()), (false, free));
    assert!(firmware.works());
}

#[test]
fn a_wrong_table_is_told() {
    let firmware = Firmware::new();
    let mut table = firmware.table(0x200);
    // The flags of the RMR, which is the last node: access attributes 7.
    let at = table.len() - 20 - 20 - 12;
    table[at] = 7 << 2;
    let before = |boot: &Boot<'_, Tested>| firmware.seed(boot, &table, &[], map_identity).map(drop);
    let error = firmware.setup(None).start_with(|queues| queues, before).map(drop).unwrap_err();
    let problem = IortProblem::AccessAttributes { got: 7 };
    let want = IortError { at: at as u32, problem };
    assert_eq!(error, ReservedError::Windows(WindowsError::Table(want)));
    assert!(firmware.works() && !firmware.bench.translates(0));
}
