//! The driver on a 32-bit CPU of QEMU's machine `virt`, beside its SMMUv3: each line that it prints is
//! checked.
//!
//! On a 32-bit CPU a 64-bit register is accessed by halves, and `usize` cannot hold a physical address.
//! One CPU runs, without an MMU and without caches, at the exception level where QEMU starts it.
#![no_std]
#![no_main]

extern crate alloc;

mod console;
mod dma_memory;
mod start;
mod timer;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use smmu_board::dma::test_device::TestDevice;
use smmu_board::dma::{DmaResult, Generator};
use smmu_board::machine::Machine;
use smmu_board::page_tables::{Access, PAGE, PageTables};
use smmu_board::pci;
use smmu_driver::smmu_attach::Outcome;
use smmu_driver::{Domain, Parts, Setup, SmmuOptions};
use smmu_hw_mmio::{Coherency, VolatileRegisters};
use smmu_types::pool::{Pool, PoolBlock};
use smmu_types::range::Extent;
use smmu_types::seam::{
    CommandSink, DmaBlock, DmaLayout, DmaMemory, Registers, RegistersExt, SinkError,
};
use smmu_types::{
    Command, CommandErrorCode, EventKind, Granule, Iova, Leaf, RawCommand, SmmuId, regs,
};

use console::say;
use dma_memory::OwnMemory;
use timer::GenericTimer;

type Memory = Pool<OwnMemory, spin::Mutex<()>>;
type Tables = PageTables<PoolBlock<OwnMemory, spin::Mutex<()>>>;
type Platform = Parts<&'static VolatileRegisters, Memory, GenericTimer, spin::Mutex<()>, Tables>;

/// What went wrong, in words.
struct Failure(String);

impl<E: fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure(format!("{error}"))
    }
}

fn ensure(holds: bool, what: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure(format!("expected: {what}"))) }
}

fn need<T>(value: Option<T>, what: &str) -> Result<T, Failure> {
    value.ok_or_else(|| Failure(format!("missing: {what}")))
}

/// Where the test device writes.
const IOVA: Iova = Iova(0x7f_1234_5000);

fn main(device_tree: &'static [u8], at: u64) -> Result<(), Failure> {
    let machine = Machine::read(device_tree, at)?;
    let found = need(machine.smmus.first(), "an SMMU in the device tree")?;
    say!("SMMU at {}, pointers of {} bits", found.base, usize::BITS);
    let base = need(NonNull::new(found.base.0 as *mut u8), "an SMMU above address 0")?;
    // SAFETY: the device tree says that an SMMU is here, nothing else uses it, and without an MMU it
    // is Device memory at its own address.
    let registers: &'static VolatileRegisters =
        Box::leak(Box::new(unsafe { VolatileRegisters::new(base) }));

    // By halves: the upper one must arrive, and must not be written over the lower one.
    let table = 1 << 62 | 0x0009_8765_4321_0fc0;
    registers.write(regs::STRTAB_BASE, table);
    ensure(registers.read(regs::STRTAB_BASE) == table, "STRTAB_BASE keeps both halves")?;
    let low = registers.read32(regs::STRTAB_BASE.offset());
    let high = registers.read32(regs::STRTAB_BASE.offset() + 4);
    ensure((low, high) == (0x4321_0fc0, 0x4009_8765), "each half is in its place")?;
    say!("a 64-bit register keeps both halves");

    let memory: Memory = Pool::with_lock(need(OwnMemory::take(), "memory that nobody has taken")?);
    let mut setup = Setup::<Platform>::new(memory.clone(), GenericTimer, ());
    let options = SmmuOptions { coherency: Some(Coherency::Coherent), ..SmmuOptions::default() };
    setup.smmu(registers, options)?;
    let driver = setup.start()?;
    say!("the driver has started it; every stream is blocked");

    let bridge = need(machine.host_bridges.first(), "a PCIe host bridge")?;
    // SAFETY: without an MMU the configuration space is Device memory, and nothing else uses it.
    let functions = unsafe { pci::enumerate(&machine, bridge) }?;
    let is_it = |one: &&pci::Function| (one.vendor, one.device) == TestDevice::ID;
    let function = need(functions.iter().find(is_it), "an iommu-testdev")?;
    let stream = need(function.stream, "a StreamID of the iommu-testdev")?;
    let page = memory.allocate(need(DmaLayout::new(PAGE, PAGE), "a layout")?)?;
    // SAFETY: as above. It reads the page back, and writes only where the SMMU lets it.
    let mut generator = unsafe { TestDevice::new(function, page.address()) }?;
    let device = driver.add_device(SmmuId(0), &[stream.id])?;
    ensure(is_refused(generator.write(IOVA)), "a blocked device is refused")?;

    let domain = driver.domain(Tables::new(&memory, 8, Coherency::Coherent)?)?;
    ensure(device.attach(&domain)? == Outcome::Done, "the SMMU confirms the attach")?;
    say!("StreamID {} attached, with {}", stream.id, need(domain.tag_on(SmmuId(0)), "a tag")?);
    ensure(is_refused(generator.write(IOVA)), "an address that is not mapped faults")?;
    expect_fault(&driver, IOVA)?;

    domain.tables().map(IOVA, page.address(), Access::ReadWrite)?;
    page.words()[0].store(0, Ordering::Relaxed);
    ensure(generator.write(IOVA) == DmaResult::Done, "a mapped page is written")?;
    ensure(holds(&page, generator.pattern()), "the write lands in the page")?;
    say!("{IOVA} leads to {}: the write landed", page.address());

    domain.tables().unmap(IOVA);
    invalidate(&domain)?;
    page.words()[0].store(0, Ordering::Relaxed);
    ensure(is_refused(generator.write(IOVA)), "after the invalidation nothing is stale")?;
    ensure(page.words()[0].load(Ordering::Relaxed) == 0, "the page is not written")?;
    expect_fault(&driver, IOVA)?;
    say!("unmapped and invalidated: the write is refused");

    let bad = RawCommand([0xff, 0]);
    match driver.sink().run(SmmuId(0), &[Command::decode(bad)]) {
        Err(SinkError::Command { command, code: CommandErrorCode::ILL, .. }) if command == bad => {}
        Err(error) => return Err(error.into()),
        Ok(_) => return Err(Failure("expected: opcode 0xff is refused".into())),
    }
    let _proof = driver.sink().run(SmmuId(0), &[Command::CfgiAll])?;
    say!("a bad command is told to its caller, and the queue goes on");

    match device.block() {
        Outcome::Freed(tag) => say!("detached; {tag} is flushed and free"),
        outcome => {
            outcome.settled()?;
            return Err(Failure("expected: the tag of the domain is freed".into()));
        }
    }
    drop((device, domain));
    driver.shutdown()?;
    Ok(())
}

fn is_refused(result: DmaResult) -> bool {
    matches!(result, DmaResult::Refused(_))
}

fn holds(page: &PoolBlock<OwnMemory, spin::Mutex<()>>, pattern: &[u8]) -> bool {
    page.observe(0..1);
    page.words()[0].load(Ordering::Relaxed).to_le_bytes().starts_with(pattern)
}

fn invalidate(domain: &Domain<Platform>) -> Result<(), Failure> {
    Ok(domain.invalidate(Extent::range(IOVA.0, PAGE, Granule::K4, Leaf::Last))?)
}

/// One fault of the device is in the event queue.
fn expect_fault(driver: &smmu_driver::Driver<Platform>, iova: Iova) -> Result<(), Failure> {
    let mut first = None;
    driver.drain_events(SmmuId(0), |event| {
        first.get_or_insert(event);
    })?;
    let event = need(first, "an event")?;
    ensure(event.kind() == EventKind::F_TRANSLATION, "a translation fault")?;
    ensure(event.address() == iova, "the whole address in the event")
}
