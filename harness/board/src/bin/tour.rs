//! A tour of the driver on a CPU beside an SMMU: each line that it prints is checked.
//!
//! It needs an `iommu-testdev` and a `virtio-blk-pci` behind an SMMU. It also looks for an `edu` and
//! an NVMe controller, and names what is not there.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use smmu_board::bare::composition::{self, BoardPlatform, Memory, MemoryBlock};
use smmu_board::bare::failure::Failure;
use smmu_board::bare::gic::Gic;
use smmu_board::bare::irq_mutex::IrqMutex;
use smmu_board::bare::report::step;
use smmu_board::bare::smmu_interrupts::{self, InterruptLog};
use smmu_board::bare::{Board, cpu, cpus, loaded_bytes};
use smmu_board::dma::edu::Edu;
use smmu_board::dma::io_space::DomainSpace;
use smmu_board::dma::nvme::Nvme;
use smmu_board::dma::test_device::TestDevice;
use smmu_board::dma::virtio_blk::{self, BlockDevice};
use smmu_board::dma::{DmaResult, Generator};
use smmu_board::machine::Machine;
use smmu_board::page_tables::{Access, PAGE, PageTables};
use smmu_board::pci::{self, Function};
use smmu_board::timer::GenericTimer;
use smmu_board::{bare_main, say};
use smmu_driver::smmu_attach::Outcome;
use smmu_driver::{Device, Domain, Driver};
use smmu_hw_mmio::Gerror;
use smmu_hw_mmio::firmware::Trigger;
use smmu_types::range::Extent;
use smmu_types::seam::{CommandSink, DmaBlock, DmaLayout, DmaMemory, SinkError, Ticks, Wait, poll};
use smmu_types::{
    Command, CommandErrorCode, EventKind, Granule, Iova, Leaf, RawCommand, SmmuId, StreamId,
};
use virtio_drivers::transport::pci::bus::{MmioCam, PciRoot};

bare_main!(tour);

/// The value, or a failure that names what is missing.
fn need<T>(value: Option<T>, what: &'static str) -> Result<T, Failure> {
    value.ok_or_else(|| Failure::of(what))
}

/// How long an interrupt may take.
const PATIENCE: Duration = Duration::from_millis(500);
/// Where the tour maps pages itself, and where drivers of devices map their buffers. An `edu` has
/// IOVAs of 28 bits.
const PAGES: Iova = Iova(0x0100_0000);
const BUFFERS: Iova = Iova(0x0200_0000);
const OTHER_CPUS: u64 = 0x0400_0000;
const TABLES: usize = 64;
const UNMAPS_PER_CPU: u32 = 1000;

static LOG: InterruptLog = InterruptLog::new();

/// What all parts of the tour use.
struct Tour {
    machine: Machine<'static>,
    memory: Memory,
    driver: Arc<Driver<BoardPlatform>>,
    domain: Domain<BoardPlatform>,
    space: &'static DomainSpace<BoardPlatform, IrqMutex>,
}

fn tour(board: Board) -> Result<(), Failure> {
    let begin = GenericTimer.ticks();
    step(&"find the machine");
    print_machine(&board);
    // SAFETY: called once.
    let memory = unsafe { composition::memory(&board) };
    let Board { machine, .. } = board;

    step(&"start the SMMUs");
    // SAFETY: called once.
    let driver = Arc::new(unsafe { composition::start(&machine, memory.clone()) }?);
    for smmu in driver.smmus() {
        let caps = &smmu.probe().caps;
        say!(
            "{}: on, every stream blocked; stage 1: {}, stage 2: {}, {}-bit StreamIDs, {}-bit ASIDs",
            smmu.attach().id(),
            yes(caps.stage1),
            yes(caps.stage2),
            caps.sid_bits,
            caps.asid_bits
        );
    }
    say!("{} us from the tour's first line", micros(begin));
    // SAFETY: the memory map has the GIC's registers, and only this value uses them.
    let mut gic = unsafe { Gic::new(machine.gic, machine.cpus.len()) }?;
    smmu_interrupts::connect(&mut gic, &machine, &driver, &LOG)?;

    step(&"enumerate PCI");
    let bridge = need(machine.host_bridges.first(), "no PCIe host bridge")?;
    // SAFETY: the memory map has the ECAM, and no driver uses a function yet.
    let functions = unsafe { pci::enumerate(&machine, bridge) }?;
    // SAFETY: the functions' configuration is not used by two drivers at once.
    let root = unsafe { pci::root(bridge) }?;
    for function in &functions {
        match function.stream {
            Some(stream) => say!("{function}: StreamID {} of {}", stream.id, stream.smmu),
            None => say!("{function}: not behind an SMMU"),
        }
    }

    let coherency = memory.window().coherency();
    let domain = driver.domain(PageTables::new(&memory, TABLES, coherency)?)?;
    let space = Box::leak(Box::new(DomainSpace::new(domain.clone(), BUFFERS)));
    let tour = Tour { machine, memory, driver, domain, space };
    let mut devices = Vec::new();

    let function = need(find(&functions, TestDevice::ID), "no iommu-testdev")?;
    devices.push(test_device(&tour, function)?);
    bad_command(&tour)?;
    let function = need(find(&functions, BlockDevice::ID), "no virtio-blk-pci")?;
    devices.push(disk(&tour, function, root)?);
    match find(&functions, Edu::ID) {
        Some(function) => devices.push(edu(&tour, function)?),
        None => say!("edu: not in this machine"),
    }
    let is_nvme = |function: &&Function| {
        function.class == Nvme::<MemoryBlock>::CLASS && function.stream.is_some()
    };
    match functions.iter().find(is_nvme) {
        Some(function) => devices.push(nvme(&tour, function)?),
        None => say!("nvme: not in this machine"),
    }
    other_cpus(&tour)?;

    step(&"stop");
    let last = devices.len() - 1;
    for (n, device) in devices.iter().enumerate() {
        let stream = need(device.streams().next(), "a stream")?;
        let name = tour.machine.name_of(device.smmu(), stream);
        match (n == last, device.block()) {
            (false, Outcome::Done) => say!("detached: {name}"),
            (true, Outcome::Freed(tag)) => say!("detached: {name}; {tag} is flushed and free"),
            (_, outcome) => {
                outcome.settled()?;
                return Err(Failure(format!("expected: another outcome: {name}")));
            }
        }
    }
    let stats = need(tour.driver.smmus().first(), "no SMMU")?.attach().asids().stats();
    ensure(stats.free == stats.capacity, "every ASID is free")?;
    say!("ASIDs: {} of {} are free", stats.free, stats.capacity);
    if let Some((smmu, event)) = LOG.take_event() {
        say!("  event: {event}, from {}", tour.machine.name_of(smmu, event.stream()));
        return Err(Failure::expected("no event is left"));
    }
    ensure(LOG.lost() == 0, "no event is lost")?;
    gic.disconnect_all();
    let driver = need(Arc::into_inner(tour.driver), "a handler still has the driver")?;
    driver.shutdown()?;
    let (events, gerrors) = LOG.interrupts();
    say!(
        "off; {events} event interrupts, {gerrors} GERROR interrupts, {} us in all",
        micros(begin)
    );
    Ok(())
}

fn print_machine(board: &Board) {
    let Board { machine, dma_memory } = board;
    say!(
        "EL{}, {} CPUs, image of {} bytes, {dma_memory} for DMA",
        cpu::exception_level(),
        machine.cpus.len(),
        loaded_bytes()
    );
    for memory in &machine.memory {
        say!("RAM {memory}");
    }
    for (what, registers) in machine.registers() {
        say!("{what} {registers}");
    }
    for smmu in &machine.smmus {
        for (name, line) in smmu.interrupts.iter() {
            let trigger = match line.trigger {
                Some(Trigger::Edge) => "by edge",
                Some(Trigger::Level) => "by level",
                None => "its trigger is not told",
            };
            say!("{} {name}: INTID {}, {trigger}", smmu.id, line.intid);
        }
    }
}

/// Refused, attached, mapped, unmapped but not invalidated, invalidated.
fn test_device(tour: &Tour, function: &Function) -> Result<Device<BoardPlatform>, Failure> {
    step(&"iommu-testdev: refused before it is attached");
    let page = tour.page()?;
    // SAFETY: the memory map has the BAR, and only this value uses it. It writes `page` only.
    let mut generator = unsafe { TestDevice::new(function, page.address()) }?;
    let (smmu, stream) = tour.stream(function)?;
    let device = tour.driver.add_device(smmu, &[stream])?;
    ensure(matches!(generator.write(PAGES), DmaResult::Refused(_)), "a blocked write is refused")?;
    // QEMU's STE for a blocked stream has Config = abort, which records no event.
    ensure(tour.no_event(), "an abort records no event")?;
    say!("iommu-testdev: blocked, and its write refused");

    step(&"iommu-testdev: attach");
    let attached = device.attach(&tour.domain)?;
    ensure(attached == Outcome::Done, "attach confirmed")?;
    let tag = need(tour.domain.tag_on(smmu), "no tag")?;
    say!("iommu-testdev: attached, with {tag}");

    step(&"iommu-testdev: a forgotten mapping");
    ensure(matches!(generator.write(PAGES), DmaResult::Refused(_)), "an unmapped write is refused")?;
    tour.expect_fault(stream, PAGES)?;

    step(&"iommu-testdev: mapped");
    tour.domain.tables().map(PAGES, page.address(), Access::ReadWrite)?;
    ensure(generator.write(PAGES) == DmaResult::Done, "a mapped page is written")?;
    ensure(holds(&page, generator.pattern()), "the write lands")?;
    say!("iommu-testdev: mapped, and its write landed");

    step(&"iommu-testdev: unmapped, not invalidated");
    ensure(tour.domain.tables().unmap(PAGES) == Some(page.address()), "the page was mapped")?;
    fill(&page, 0);
    ensure(generator.write(PAGES) == DmaResult::Done, "a stale hit")?;
    ensure(holds(&page, generator.pattern()), "the write lands")?;
    say!("iommu-testdev: unmapped, and before the invalidation a stale hit");

    step(&"iommu-testdev: invalidated");
    tour.invalidate(PAGES)?;
    fill(&page, 0);
    ensure(matches!(generator.write(PAGES), DmaResult::Refused(_)), "nothing is stale")?;
    ensure(holds(&page, &[0; 4]), "the page is not written")?;
    tour.expect_fault(stream, PAGES)?;
    Ok(device)
}

/// A command that the SMMU does not know: its caller is told, and the queue goes on.
fn bad_command(tour: &Tour) -> Result<(), Failure> {
    step(&"a bad command");
    let smmu = SmmuId(0);
    let bad = RawCommand([0xff, 0]);
    match tour.driver.sink().run(smmu, &[Command::CfgiAll, Command::decode(bad)]) {
        Err(error @ SinkError::Command { command, code, .. })
            if command == bad && code == CommandErrorCode::ILL =>
        {
            say!("bad command: {error}");
        }
        Err(error) => return Err(error.into()),
        Ok(_) => return Err(Failure::expected("opcode 0xff is refused")),
    }
    let _proof = tour.driver.sink().run(smmu, &[Command::CfgiAll])?;
    let (at, _) = poll(&GenericTimer, PATIENCE, || LOG.take_gerror())?;
    ensure(at == smmu, "GERROR of this SMMU")?;
    ensure(LOG.interrupts().1 >= 1, "a GERROR interrupt")?;
    let active = Gerror::read(tour.driver.smmu(smmu)?.registers());
    ensure(active.is_empty(), "GERROR is acknowledged")?;
    say!("bad command: GERROR interrupt seen; the queue goes on");
    Ok(())
}

const fn yes(there: bool) -> &'static str {
    if there { "yes" } else { "no" }
}

/// A disk read through the SMMU: each buffer is mapped, read, unmapped, invalidated.
fn disk(
    tour: &Tour,
    function: &Function,
    root: PciRoot<MmioCam<'static>>,
) -> Result<Device<BoardPlatform>, Failure> {
    step(&"virtio-blk: attach");
    virtio_blk::set_io_space(tour.space);
    let device = tour.attach(function)?;
    let stream = tour.stream(function)?.1;
    step(&"virtio-blk: read");
    // SAFETY: the memory map has the BARs and the ECAM, and only this value uses them.
    let mut disk = unsafe { BlockDevice::new(root, function.clone()) }?;
    let sector = disk.read_sector(0)?;
    ensure(sector == *disk.pattern(), "two reads agree")?;
    // The first line, without Unicode's tables, which nothing else in the image needs.
    let line = sector.split(|byte| matches!(byte, 0 | b'\n' | b'\r')).next().unwrap_or_default();
    let line = line.trim_ascii_end().escape_ascii();
    say!("virtio-blk: {} sectors, sector 0 read through the SMMU: \"{line}\"", disk.sectors());

    // QEMU's device says that a refused request is done; another one may stop.
    through(tour, &mut disk, stream, &[DmaResult::Silent, DmaResult::TimedOut])?;
    ensure(disk.read_sector(0)? == sector, "it reads again")?;
    say!("virtio-blk: reads again");
    Ok(device)
}

fn edu(tour: &Tour, function: &Function) -> Result<Device<BoardPlatform>, Failure> {
    step(&"edu: attach");
    let device = tour.attach(function)?;
    let stream = tour.stream(function)?.1;
    // SAFETY: the memory map has the BAR, and only this value uses it.
    let mut edu = unsafe { Edu::new(function) }?;
    step(&"edu: read");
    let page = tour.page()?;
    let bytes = core::array::from_fn(|n| n as u8 ^ 0x5a);
    for (word, chunk) in page.words().iter().zip(bytes.as_chunks::<8>().0) {
        word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
    }
    page.publish(0..page.words().len());
    tour.domain.tables().map(PAGES, page.address(), Access::ReadOnly)?;
    edu.expect(bytes);
    ensure(edu.read(PAGES) == Some(DmaResult::Silent), "ready again")?;
    ensure(edu.write(PAGES) == DmaResult::Silent, "ready again")?;
    tour.expect_event(EventKind::F_PERMISSION, stream, PAGES)?;
    tour.drop_further_events();
    tour.unmap(PAGES)?;
    say!("edu: read a page that it may only read; its write to it is refused");
    through(tour, &mut edu, stream, &[DmaResult::Silent])?;
    Ok(device)
}

fn nvme(tour: &Tour, function: &Function) -> Result<Device<BoardPlatform>, Failure> {
    step(&"nvme: attach");
    let device = tour.attach(function)?;
    let stream = tour.stream(function)?.1;
    step(&"nvme: bring-up");
    // SAFETY: the memory map has the BAR, and only this value uses it.
    let mut nvme = unsafe { Nvme::new(function, &tour.memory, tour.space) }?;
    // A controller may tell a Data Transfer Error. QEMU's does not.
    through(tour, &mut nvme, stream, &[DmaResult::Silent, DmaResult::Refused(0x4)])?;
    Ok(device)
}

/// A page mapped, written by a device, unmapped, invalidated; then the same write without a mapping.
fn through(
    tour: &Tour,
    generator: &mut dyn Generator,
    stream: StreamId,
    refused: &[DmaResult],
) -> Result<(), Failure> {
    let name = generator.name();
    step(&"a device writes a mapped page");
    let page = tour.page()?;
    fill(&page, !0);
    tour.domain.tables().map(PAGES, page.address(), Access::ReadWrite)?;
    let done = generator.write(PAGES);
    ensure(matches!(done, DmaResult::Done | DmaResult::Silent), "a mapped page is written")?;
    ensure(holds(&page, generator.pattern()), "the write lands")?;
    tour.unmap(PAGES)?;
    ensure(tour.no_event(), "no event")?;
    say!(
        "{name}: {} bytes landed in a mapped page, which is unmapped and invalidated",
        generator.pattern().len()
    );

    step(&"a device writes without a mapping");
    fill(&page, !0);
    let result = generator.write(PAGES);
    if !refused.iter().any(|wanted| matches_refusal(result, *wanted)) {
        return Err(Failure(format!("{name}: unexpected: {result}")));
    }
    tour.expect_fault(stream, PAGES)?;
    ensure(holds(&page, &[0xff; 64]), "the page is not written")?;
    tour.drop_further_events();
    Ok(())
}

fn matches_refusal(result: DmaResult, wanted: DmaResult) -> bool {
    match (result, wanted) {
        // The upper bits say whether a retry makes sense.
        (DmaResult::Refused(status), DmaResult::Refused(wanted)) => status & 0x7ff == wanted,
        (result, wanted) => result == wanted,
    }
}

/// Other CPUs unmap in the same domain, through the same command queue.
fn other_cpus(tour: &Tour) -> Result<(), Failure> {
    static DONE: AtomicU32 = AtomicU32::new(0);
    static FAILED: AtomicU32 = AtomicU32::new(0);
    step(&"other CPUs");
    let own = cpu::affinity();
    let others = tour.machine.cpus.iter().enumerate().filter(|(_, cpu)| **cpu != own);
    let begin = GenericTimer.ticks();
    let mut count = 0;
    for (number, affinity) in others {
        let (domain, page) = (tour.domain.clone(), tour.page()?);
        cpus::start(*affinity, number, move || {
            let iova = Iova(OTHER_CPUS + number as u64 * PAGE);
            for _ in 0..UNMAPS_PER_CPU {
                let mapped = domain.tables().map(iova, page.address(), Access::ReadWrite);
                let unmapped = domain.tables().unmap(iova) == Some(page.address());
                if mapped.is_err() || !unmapped || invalidate(&domain, iova).is_err() {
                    FAILED.fetch_add(1, Ordering::Relaxed);
                }
            }
            drop((domain, page));
            DONE.fetch_add(1, Ordering::Release);
        })?;
        count += 1;
    }
    let all = || (DONE.load(Ordering::Acquire) == count).then_some(());
    poll(&GenericTimer, Duration::from_secs(20), all)?;
    ensure(FAILED.load(Ordering::Relaxed) == 0, "unmaps confirmed")?;
    say!("{count} other CPUs: {UNMAPS_PER_CPU} unmaps each, all confirmed, {} us", micros(begin));
    Ok(())
}

impl Tour {
    fn page(&self) -> Result<MemoryBlock, Failure> {
        let layout = need(DmaLayout::new(PAGE, PAGE), "no such layout")?;
        Ok(self.memory.allocate(layout)?)
    }

    /// The SMMU of a function, by its number in the driver, and the StreamID there.
    fn stream(&self, function: &Function) -> Result<(SmmuId, StreamId), Failure> {
        let stream = need(function.stream, "not behind an SMMU")?;
        let smmu = need(self.machine.number_of(stream.smmu), "SMMU not in use")?;
        Ok((smmu, stream.id))
    }

    fn attach(&self, function: &Function) -> Result<Device<BoardPlatform>, Failure> {
        let (smmu, stream) = self.stream(function)?;
        let device = self.driver.add_device(smmu, &[stream])?;
        ensure(device.attach(&self.domain)? == Outcome::Done, "attach confirmed")?;
        Ok(device)
    }

    fn invalidate(&self, iova: Iova) -> Result<(), Failure> {
        Ok(invalidate(&self.domain, iova)?)
    }

    fn unmap(&self, iova: Iova) -> Result<(), Failure> {
        ensure(self.domain.tables().unmap(iova).is_some(), "the page was mapped")?;
        self.invalidate(iova)
    }

    /// Whether no event comes for a while.
    fn no_event(&self) -> bool {
        LOG.wait_for_event(Duration::from_millis(2)).is_none()
    }

    /// Drops the events of one command's further accesses, each of which may fault.
    fn drop_further_events(&self) {
        const MOST: u32 = 1000;
        (0..MOST).any(|_| self.no_event());
        LOG.clear();
    }

    fn expect_fault(&self, stream: StreamId, iova: Iova) -> Result<(), Failure> {
        self.expect_event(EventKind::F_TRANSLATION, stream, iova)
    }

    /// Prints the next event, and checks it. It must come by an interrupt.
    fn expect_event(&self, kind: EventKind, stream: StreamId, iova: Iova) -> Result<(), Failure> {
        let event = LOG.wait_for_event(PATIENCE);
        let (smmu, event) = need(event, "no event interrupt came")?;
        say!("  event: {event}, from {}", self.machine.name_of(smmu, event.stream()));
        let is_it = event.kind() == kind && event.stream() == stream;
        ensure(is_it && event.address().0 & !(PAGE - 1) == iova.0, "the event is of this access")
    }
}

fn invalidate(
    domain: &Domain<BoardPlatform>,
    iova: Iova,
) -> Result<(), smmu_driver::smmu_invs::InvalidateError> {
    domain.invalidate(Extent::range(iova.0, PAGE, Granule::K4, Leaf::Last))
}

/// The function with this vendor and device ID, if it is behind an SMMU.
fn find(functions: &[Function], id: (u16, u16)) -> Option<&Function> {
    functions.iter().find(|one| (one.vendor, one.device) == id && one.stream.is_some())
}

fn fill(page: &MemoryBlock, word: u64) {
    page.words().iter().for_each(|at| at.store(word, Ordering::Relaxed));
    page.publish(0..page.words().len());
}

/// Whether the page begins with these bytes.
fn holds(page: &MemoryBlock, bytes: &[u8]) -> bool {
    page.observe(0..page.words().len());
    let there = page.words().iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes());
    there.take(bytes.len()).eq(bytes.iter().copied())
}

fn ensure(holds: bool, what: &'static str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::expected(what)) }
}

fn micros(since: Ticks) -> u64 {
    GenericTimer::since(since).as_micros() as u64
}
