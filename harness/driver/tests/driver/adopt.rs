//! Running SMMUs change hands: what is kept runs on, what is not aborts, and each doubt has its policy.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::bench::{self, Bench, GUEST_PAGE, STREAM, TestMemory, Tested, VmTables};
use rstest::rstest;
use smmu_driver::smmu_attach::adopt::{Doubt, Keep, LiveStream, Place, ReadBudget};
use smmu_driver::smmu_attach::{AttachError, Attachment, Outcome};
use smmu_driver::smmu_hw_mmio::{BringupError, Interrupts, OldCommands, TakeoverError};
use smmu_driver::smmu_tags::AsidSpace;
use smmu_driver::smmu_types::seam::{DmaBlock, DmaLayout, DmaMemory, RegistersExt};
use smmu_driver::smmu_types::{
    CacheTag, CommandErrorCode, EventKind, PhysAddr, SmmuId, StreamId, Vmid, regs,
};
use smmu_driver::{
    AdoptPlan, Driver, DriverError, NotAdopted, OldEvents, OnDoubt, Origin, Setup, SmmuOptions,
};
use smmu_model::{InjectedFault, Profile, SecondQueue};

pub(crate) const SMMU: SmmuId = SmmuId(0);
pub(crate) const OTHER: StreamId = StreamId(0x10);

pub(crate) fn options() -> SmmuOptions {
    SmmuOptions { interrupts: Interrupts::Wired, ..SmmuOptions::default() }
}

/// An SMMU that an old owner has left, with two streams on pages of their own.
pub(crate) struct Left {
    pub(crate) bench: Bench,
    pub(crate) pages: [bench::TestBlock; 2],
}

impl Left {
    pub(crate) fn new(profile: Profile) -> Self {
        Self::with(&[profile], 1)
    }

    /// SMMUs of the model, of which an old owner runs the first ones.
    fn with(profiles: &[Profile], running: usize) -> Self {
        Self::with_tables(profiles, running, VmTables::new)
    }

    /// An SMMU whose old owner chose `old`.
    pub(crate) fn of(profile: Profile, old: impl FnMut(&Bench) -> SmmuOptions) -> Self {
        Self::with_options(&[profile], 1, VmTables::new, old)
    }

    fn with_tables(
        profiles: &[Profile],
        running: usize,
        tables: fn(&TestMemory) -> VmTables,
    ) -> Self {
        Self::with_options(profiles, running, tables, |_| options())
    }

    fn with_options(
        profiles: &[Profile],
        running: usize,
        tables: fn(&TestMemory) -> VmTables,
        mut old: impl FnMut(&Bench) -> SmmuOptions,
    ) -> Self {
        let bench = Bench::new(profiles);
        let page = || bench.memory.allocate(DmaLayout::new(4096, 4096).unwrap()).unwrap();
        let pages = [page(), page()];
        let mut setup = bench.setup();
        for n in 0..running {
            setup.smmu(bench.registers(n, None), old(&bench)).unwrap();
        }
        let driver = setup.start().unwrap();
        for n in 0..running {
            for (stream, page) in [STREAM, OTHER].into_iter().zip(&pages) {
                let tables = tables(&bench.memory);
                tables.map(Some(page.address()));
                let domain = driver.domain(tables).unwrap();
                let device = driver.add_device(SmmuId(n as u16), &[stream]).unwrap();
                assert_eq!(device.attach(&domain), Ok(Outcome::Done));
                // The old owner vanishes without a word.
                std::mem::forget((device, domain));
            }
        }
        std::mem::forget(driver);
        Left { bench, pages }
    }

    fn setup(&self) -> Setup<Tested> {
        self.setup_with(options(), None)
    }

    pub(crate) fn setup_with(
        &self,
        options: SmmuOptions,
        gate: Option<Arc<bench::WriteGate>>,
    ) -> Setup<Tested> {
        let mut setup = self.bench.setup();
        let mut registers = self.bench.registers(0, None);
        registers.gate = gate;
        setup.smmu(registers, options).unwrap();
        setup
    }

    /// Where the DMA of a stream arrives.
    pub(crate) fn reaches(&self, stream: StreamId) -> Option<usize> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let value = NEXT.fetch_add(1, Ordering::Relaxed) as u32;
        self.bench.model.dma_write32(0, stream, GUEST_PAGE, value).ok()?;
        self.pages.iter().position(|page| page.words()[0].load(Ordering::Relaxed) as u32 == value)
    }

    fn word(&self, address: PhysAddr) -> &AtomicU64 {
        use smmu_driver::smmu_types::pool::Window;
        let window = self.bench.memory.pool.window();
        &window.words()[(address.0 - window.base().0) as usize / 8]
    }

    /// The address of the first level of the stream table.
    fn table(&self) -> PhysAddr {
        let registers = self.bench.registers(0, None);
        PhysAddr(registers.read(regs::STRTAB_BASE) & 0x00ff_ffff_ffff_ffc0)
    }

    /// The address of the STE of a stream, by the registers.
    fn ste(&self, stream: StreamId) -> PhysAddr {
        let descriptor = self.word(PhysAddr(self.table().0 + u64::from(stream.0 >> 8) * 8));
        let array = descriptor.load(Ordering::Relaxed) & !0x1f;
        PhysAddr(array + u64::from(stream.0 & 0xff) * 64)
    }

    pub(crate) fn quiet(&self) {
        assert_eq!(self.bench.model.take_hazards(), []);
    }
}

pub(crate) fn keep(_: SmmuId, live: &LiveStream<'_>) -> Keep {
    if live.stream == STREAM { Keep::Running } else { Keep::Abort }
}

fn adopt(left: &Left, on_doubt: OnDoubt) -> Result<Driver<Tested>, DriverError> {
    let mut keep = keep;
    left.setup().adopt(AdoptPlan::new(&left.bench.memory, &mut keep).on_doubt(on_doubt))
}

pub(crate) fn why(result: Result<Driver<Tested>, DriverError>) -> NotAdopted {
    let refused = result.err().and_then(|error| match error {
        DriverError::NotAdopted { smmu: SMMU, error } => Some(error),
        _ => None,
    });
    refused.unwrap()
}

#[test]
fn a_kept_stream_works_before_during_and_after() {
    let left = Arc::new(Left::new(Profile::default()));
    assert_eq!((left.reaches(STREAM), left.reaches(OTHER)), (Some(0), Some(1)));
    let (looks, seen) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&left));
    let count = Arc::clone(&looks);
    let during = Arc::new(AtomicBool::new(true));
    let watches = Arc::clone(&during);
    let gate: Arc<bench::WriteGate> = Arc::new(move |_, _| {
        if watches.load(Ordering::Relaxed) {
            count.fetch_add(1, Ordering::Relaxed);
            assert_eq!(seen.reaches(STREAM), Some(0));
        }
        true
    });
    let mut keep = keep;
    let plan = AdoptPlan::new(&left.bench.memory, &mut keep);
    let driver = left.setup_with(options(), Some(gate)).adopt(plan).unwrap();
    during.store(false, Ordering::Relaxed);
    assert!(looks.load(Ordering::Relaxed) > 8);
    let commands = OldCommands::default();
    assert_eq!(driver.smmu(SMMU).unwrap().origin(), Origin::Adopted { kept: 1, commands });
    assert_eq!((left.reaches(STREAM), left.reaches(OTHER)), (Some(0), None));

    // The kept stream becomes a device, whose old number is not given out.
    let attach = driver.smmu(SMMU).unwrap().attach();
    assert_eq!(attach.next_foreign_stream(None), Some(STREAM));
    let device = driver.add_device(SMMU, &[STREAM]).unwrap();
    assert!(matches!(device.attachment(), Attachment::Foreign));
    assert_eq!(left.reaches(STREAM), Some(0));
    let old = device.read_ste().unwrap();
    let tables = VmTables::new(&left.bench.memory);
    tables.map(Some(left.pages[1].address()));
    let domain = driver.domain(tables).unwrap();
    let other = driver.add_device(SMMU, &[OTHER]).unwrap();
    assert_eq!(other.attach(&domain), Ok(Outcome::Done));
    let old_vmid = CacheTag::Vmid(Vmid((old.0[2] & 0xffff) as u16));
    assert_ne!(domain.tag_on(SMMU), Some(old_vmid));
    assert_eq!((left.reaches(STREAM), left.reaches(OTHER)), (Some(0), Some(1)));

    // Replaced, the old number is flushed and free.
    assert_eq!(attach.vmids().stats().in_use, 2);
    assert_eq!(device.attach(&domain), Ok(Outcome::Freed(old_vmid)));
    assert_eq!(left.reaches(STREAM), Some(1));
    assert_eq!(attach.vmids().stats().in_use, 1);
    left.quiet();
    for device in [device, other] {
        let _ = device.block();
    }
    assert!(domain.into_tables().is_ok());
    driver.shutdown().unwrap();
    left.quiet();
}

/// The old owner's table ends within one second level, whose descriptor spans more (6.3.25).
#[test]
fn a_table_within_one_second_level_ends_at_its_size() {
    let left = Left::new(Profile::default());
    let registers = left.bench.registers(0, None);
    let (on, config) = (registers.read(regs::CR0), registers.read(regs::STRTAB_BASE_CFG));
    registers.write(regs::CR0, on & !regs::cr0::SMMUEN);
    registers.write(regs::STRTAB_BASE_CFG, config & !0x3f | 4);
    registers.write(regs::CR0, on);
    let beyond = left.ste(OTHER);
    let ste = left.word(beyond).load(Ordering::Relaxed);
    assert_eq!((left.reaches(STREAM), left.reaches(OTHER)), (Some(0), None));

    let driver = adopt(&left, OnDoubt::Refuse).unwrap();
    let mut bad = Vec::new();
    driver.drain_events(SMMU, |event| bad.push((event.stream(), event.kind()))).unwrap();
    assert_eq!(bad, [(OTHER, EventKind::C_BAD_STREAMID)]);
    let commands = OldCommands::default();
    assert_eq!(driver.smmu(SMMU).unwrap().origin(), Origin::Adopted { kept: 1, commands });
    assert_eq!((left.reaches(STREAM), left.reaches(OTHER)), (Some(0), None));
    // The memory beyond is no part of the table, so nothing is written there.
    assert_eq!(left.word(beyond).load(Ordering::Relaxed), ste);
    let refused = driver.add_device(SMMU, &[OTHER]).map(|_| ());
    let range = AttachError::StreamRange { smmu: SMMU, stream: OTHER, bits: 4 };
    assert_eq!(refused, Err(DriverError::Attach(range)));
    let device = driver.add_device(SMMU, &[STREAM]).unwrap();
    assert!(matches!(device.block(), Outcome::Freed(_)));
    assert_eq!(left.reaches(STREAM), None);
    driver.shutdown().unwrap();
    left.quiet();
}

/// Each write of `CR0`, `IRQ_CTRL` or `CMDQ_PROD` is lost once, at every place where one is.
#[rstest]
fn a_write_that_is_lost_anywhere_stops_no_kept_stream(
    #[values(OnDoubt::Refuse, OnDoubt::Reset)] on_doubt: OnDoubt,
    #[values(OldEvents::Keep, OldEvents::Drop)] events: OldEvents,
) {
    // A doorbell, not the pointer of a queue that is off.
    let waited_for = |offset: u32, value: u32| {
        let enables = [regs::CR0.offset(), regs::IRQ_CTRL.offset()];
        enables.contains(&offset) || (offset == regs::CMDQ_PROD.offset() && value != 0)
    };
    let mut failures = 0;
    for lost in 1.. {
        let left = Left::new(Profile::default());
        let writes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&writes);
        let gate: Arc<bench::WriteGate> = Arc::new(move |offset, value| {
            !waited_for(offset, value) || count.fetch_add(1, Ordering::Relaxed) + 1 != lost
        });
        let mut keep = keep;
        let plan = AdoptPlan::new(&left.bench.memory, &mut keep);
        let plan = plan.on_doubt(on_doubt).events(events);
        let adopted = left.setup_with(options(), Some(gate)).adopt(plan);
        if writes.load(Ordering::Relaxed) < lost {
            assert!(adopted.is_ok());
            break;
        }
        match adopted {
            Err(error) => {
                assert_eq!(on_doubt, OnDoubt::Refuse, "write {lost}: {error}");
                assert!(matches!(error, DriverError::NotAdopted { smmu: SMMU, .. }), "{error}");
                failures += 1;
                // Nothing that was kept has stopped, and the same plan succeeds now.
                assert_eq!(left.reaches(STREAM), Some(0), "write {lost}");
                let driver = adopt(&left, OnDoubt::Refuse).unwrap();
                assert_eq!((left.reaches(STREAM), left.reaches(OTHER)), (Some(0), None));
                driver.shutdown().unwrap();
            }
            Ok(driver) => match driver.smmu(SMMU).unwrap().origin() {
                Origin::Adopted { kept: 1, .. } => {
                    assert_eq!((left.reaches(STREAM), left.reaches(OTHER)), (Some(0), None));
                    driver.shutdown().unwrap();
                }
                Origin::Reset(_) => {
                    failures += 1;
                    assert_eq!((left.reaches(STREAM), left.reaches(OTHER)), (None, None));
                    let tables = VmTables::new(&left.bench.memory);
                    tables.map(Some(left.pages[1].address()));
                    let domain = driver.domain(tables).unwrap();
                    let device = driver.add_device(SMMU, &[STREAM]).unwrap();
                    assert_eq!(device.attach(&domain), Ok(Outcome::Done), "write {lost}");
                    assert_eq!(left.reaches(STREAM), Some(1));
                    driver.shutdown().unwrap();
                }
                other => panic!("{other:?}"),
            },
        }
        left.quiet();
    }
    // IRQ_CTRL off and on, CMDQEN off and on, and each batch of `abort_others`.
    assert!(failures >= 6, "{failures}");
}

/// What lets an SMMU not be taken over, and the reason.
type Spoil = fn(&Left);

fn reserved_config(left: &Left) {
    // STE.Config = 0b010 is reserved.
    let ste = left.word(left.ste(OTHER));
    ste.store(ste.load(Ordering::Relaxed) & !0xe | 0b010 << 1, Ordering::Relaxed);
}

fn table_outside_of_memory(left: &Left) {
    let registers = left.bench.registers(0, None);
    let base = registers.read(regs::STRTAB_BASE) & 0x00ff_ffff_ffff_ffc0;
    left.word(PhysAddr(base)).store(0x7fff_0000 | 9, Ordering::Relaxed);
}

fn stuck_commands(left: &Left) {
    left.bench.model.inject(0, InjectedFault::CommandQueueStuck);
    let registers = left.bench.registers(0, None);
    let prod = registers.read(regs::CMDQ_PROD);
    registers.write(regs::CMDQ_PROD, prod + 1);
}

#[rstest]
#[case::reserved_config(reserved_config, |error| {
    matches!(error, NotAdopted::Tables(Doubt::Unknown { place: Place::Ste(OTHER) } | Doubt::Rule { .. }))
})]
#[case::table_outside_of_memory(table_outside_of_memory, |error| {
    matches!(error, NotAdopted::Tables(Doubt::Unreadable { .. }))
})]
#[case::stuck_commands(stuck_commands, |error| {
    matches!(error, NotAdopted::Registers(TakeoverError::CommandsLeft { .. }))
})]
fn a_doubt_has_a_reason_and_a_policy(#[case] spoil: Spoil, #[case] want: fn(NotAdopted) -> bool) {
    let left = Left::new(Profile::default());
    let at = left.ste(STREAM);
    let ste = left.word(at).load(Ordering::Relaxed);
    spoil(&left);
    let error = why(adopt(&left, OnDoubt::Refuse));
    assert!(want(error), "{error:?}");
    assert!(left.bench.translates(0));
    assert_eq!(left.word(at).load(Ordering::Relaxed), ste);
    left.bench.model.mend(0);

    // The same doubt, with leave to reset.
    spoil(&left);
    if let Err(error) = adopt(&left, OnDoubt::Reset).map(|driver| {
        let Origin::Reset(error) = driver.smmu(SMMU).unwrap().origin() else {
            panic!("not reset");
        };
        assert!(want(error), "{error:?}");
        assert_eq!((left.reaches(STREAM), left.reaches(OTHER)), (None, None));
        let tables = VmTables::new(&left.bench.memory);
        tables.map(Some(left.pages[0].address()));
        let domain = driver.domain(tables).unwrap();
        let device = driver.add_device(SMMU, &[OTHER]).unwrap();
        left.bench.model.mend(0);
        assert_eq!(device.attach(&domain), Ok(Outcome::Done));
        assert_eq!(left.reaches(OTHER), Some(0));
        driver.shutdown().unwrap();
    }) {
        // A command queue that never moves cannot be brought up either.
        assert!(matches!(error, DriverError::Bringup { error: BringupError::Invalidate(_), .. }));
        assert!(!left.bench.translates(0));
    }
}

#[test]
fn a_refusal_before_the_first_write_writes_nothing() {
    let left = Left::new(Profile::default());
    reserved_config(&left);
    let writes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&writes);
    let gate: Arc<bench::WriteGate> = Arc::new(move |offset, value| {
        seen.lock().unwrap().push((offset, value));
        true
    });
    let free = left.bench.free();
    let mut keep = keep;
    let plan = AdoptPlan::new(&left.bench.memory, &mut keep);
    let _why = why(left.setup_with(options(), Some(gate)).adopt(plan));
    assert_eq!(*writes.lock().unwrap(), []);
    // The memory of the new queues is back.
    assert_eq!(left.bench.free(), free);
}

#[test]
fn tables_beyond_the_budget_are_refused() {
    let left = Left::new(Profile::default());
    let mut keep = keep;
    let plan = AdoptPlan::new(&left.bench.memory, &mut keep).budget(ReadBudget::new(100));
    let error = why(left.setup().adopt(plan));
    assert!(matches!(error, NotAdopted::Tables(Doubt::TooLarge { words: 100, .. })));
}

#[rstest]
#[case::second_level(|left: &Left| left.ste(StreamId(0x80)))]
#[case::first_level(Left::table)]
fn an_event_queue_over_the_stream_table_is_refused(#[case] place: fn(&Left) -> PhysAddr) {
    let left = Left::new(Profile::default());
    let registers = left.bench.registers(0, None);
    let on = registers.read(regs::CR0);
    // The old owner was confused: its events overwrite STEs.
    registers.write(regs::CR0, on & !regs::cr0::EVENTQEN);
    let queue = place(&left);
    registers.write(regs::EVENTQ_BASE, queue.0 | 4);
    registers.write(regs::CR0, on);
    assert_eq!(why(adopt(&left, OnDoubt::Refuse)), NotAdopted::QueueOverTable { queue });
}

#[test]
fn an_old_command_that_the_smmu_refuses_is_reported() {
    let left = Left::new(Profile::default());
    // Two commands wait behind one that is refused.
    left.bench.model.inject(0, InjectedFault::RefuseCommand { after: 0 });
    let registers = left.bench.registers(0, None);
    let prod = registers.read(regs::CMDQ_PROD);
    registers.write(regs::CMDQ_PROD, prod + 3);
    let driver = adopt(&left, OnDoubt::Refuse).unwrap();
    let commands = OldCommands { cut_off: 3, error: Some(CommandErrorCode(1)) };
    assert_eq!(driver.smmu(SMMU).unwrap().origin(), Origin::Adopted { kept: 1, commands });
    assert_eq!((left.reaches(STREAM), left.reaches(OTHER)), (Some(0), None));
    driver.shutdown().unwrap();
}

#[rstest]
#[case::kept(OldEvents::Keep, 1)]
#[case::dropped(OldEvents::Drop, 0)]
fn events_that_wait(#[case] events: OldEvents, #[case] want: usize) {
    let left = Left::new(Profile::default());
    let fault = || left.bench.model.dma_write32(0, STREAM, GUEST_PAGE + 0x1000, 7);
    assert!(fault().is_err());
    let mut keep = keep;
    let plan = AdoptPlan::new(&left.bench.memory, &mut keep).events(events);
    let driver = left.setup().adopt(plan).unwrap();
    let drained = |driver: &Driver<Tested>| {
        let mut seen = Vec::new();
        driver.drain_events(SMMU, |event| seen.push((event.stream(), event.kind()))).unwrap();
        seen
    };
    let bad = (STREAM, EventKind::F_TRANSLATION);
    assert_eq!(drained(&driver), vec![bad; want]);
    // The queue works, whichever it is, for more than a lap.
    for _ in 0..600 {
        assert!(fault().is_err());
        assert_eq!(drained(&driver), [bad]);
    }
    left.quiet();
    // A restart replaces the queue.
    driver.restart(SMMU).unwrap();
    assert_eq!((left.reaches(STREAM), left.reaches(OTHER)), (Some(0), None));
    driver.shutdown().unwrap();
}

#[test]
fn smmus_that_run_are_taken_over_and_others_are_started() {
    let left = Left::with(&[Profile::default(), Profile::default()], 1);
    let mut setup = left.bench.setup();
    for n in 0..2 {
        setup.smmu(left.bench.registers(n, None), options()).unwrap();
    }
    let mut asked = Vec::new();
    let mut keep = |smmu, live: &LiveStream<'_>| {
        asked.push((smmu, live.stream));
        Keep::Running
    };
    let driver = setup.adopt(AdoptPlan::new(&left.bench.memory, &mut keep)).unwrap();
    assert_eq!(asked, [(SMMU, STREAM), (SMMU, OTHER)]);
    let origins = driver.smmus().iter().map(|smmu| smmu.origin()).collect::<Vec<_>>();
    let commands = OldCommands::default();
    assert_eq!(origins, [Origin::Adopted { kept: 2, commands }, Origin::Started]);
    assert_eq!((left.reaches(STREAM), left.reaches(OTHER)), (Some(0), Some(1)));
    assert!(left.bench.translates(1));
    driver.shutdown().unwrap();
    left.quiet();
}

/// Both SMMUs ran with ASIDs 1 and 2, and the new driver gives them one space.
#[test]
fn an_asid_that_two_smmus_run_with_is_reserved_until_both_have_left() {
    let profiles = [Profile::default(), Profile::default()];
    let left = Left::with_tables(&profiles, 2, VmTables::stage1);
    let asids = AsidSpace::new(16).unwrap();
    let mut setup = left.bench.setup();
    for n in 0..2 {
        let mut options = options();
        options.attach = options.attach.with_asids(asids.clone());
        setup.smmu(left.bench.registers(n, None), options).unwrap();
    }
    let mut keep = |_, _: &LiveStream<'_>| Keep::Running;
    let driver = setup.adopt(AdoptPlan::new(&left.bench.memory, &mut keep)).unwrap();
    assert_eq!(asids.stats().in_use, 2);
    for smmu in [SMMU, SmmuId(1)] {
        let device = driver.add_device(smmu, &[STREAM]).unwrap();
        let tables = VmTables::stage1(&left.bench.memory);
        tables.map(Some(left.pages[1].address()));
        let domain = driver.domain(tables).unwrap();
        let outcome = device.attach(&domain).unwrap();
        // The domain's own ASID is none of those that the old owner used.
        assert_eq!(asids.stats().in_use, if smmu == SMMU { 3 } else { 2 }, "{smmu}");
        assert_eq!(matches!(outcome, Outcome::Freed(_)), smmu != SMMU, "{smmu}: {outcome:?}");
        assert!(device.block().settled().is_ok());
        std::mem::forget((device, domain));
    }
    assert_eq!(asids.stats().in_use, 1, "that of OTHER");
    driver.shutdown().unwrap();
    left.quiet();
}

/// A second SMMU that does not come up does not stop a kept stream of the first.
#[test]
fn an_smmu_that_does_not_start_leaves_what_was_taken_over_running() {
    let left = Left::with(&[Profile::default(), Profile::default()], 1);
    let mut setup = left.bench.setup();
    setup.smmu(left.bench.registers(0, None), options()).unwrap();
    let dead = left.bench.registers(1, Some(regs::CR0ACK.offset()));
    left.bench.dead.store(true, Ordering::Relaxed);
    setup.smmu(dead, options()).unwrap();
    let mut keep = keep;
    let error = setup.adopt(AdoptPlan::new(&left.bench.memory, &mut keep)).unwrap_err();
    assert!(matches!(error, DriverError::Bringup { smmu: SmmuId(1), .. }), "{error}");
    assert_eq!((left.reaches(STREAM), left.reaches(OTHER)), (Some(0), None));
}

#[test]
fn a_virtual_queue_changes_hands_too() {
    let profile = Profile { second_queue: Some(SecondQueue::Full), ..Profile::default() };
    let left = Left::new(profile);
    let mut setup = left.setup();
    let second = left.bench.model.second_queue(0).unwrap();
    let second = bench::TestRegisters::of(second);
    setup.virtual_queue(SMMU, second, smmu_driver::smmu_cmdq::Opcodes::ALL).unwrap();
    let mut keep = keep;
    let driver = setup.adopt(AdoptPlan::new(&left.bench.memory, &mut keep)).unwrap();
    assert_eq!((left.reaches(STREAM), left.reaches(OTHER)), (Some(0), None));
    driver.shutdown().unwrap();
    left.quiet();
}
