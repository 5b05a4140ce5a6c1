//! A bring-up on fake registers that prints what each step writes:
//! `cargo run -p smmu-hw-mmio --features fake --example bring_up`.

use smmu_hw_mmio::fake::{EventWriter, smmu};
use smmu_hw_mmio::smmu_types::fake::{FakeRegisters, RecordingSink, SinkCall, heap_pool};
use smmu_hw_mmio::smmu_types::queue::QueueSize;
use smmu_hw_mmio::smmu_types::regs::{self, strtab::StreamTableFormat};
use smmu_hw_mmio::smmu_types::seam::{CountingWait, DmaBlock, DmaLayout, DmaMemory};
use smmu_hw_mmio::smmu_types::{EventKind, EventRecord, SmmuId, StreamId};
use smmu_hw_mmio::{
    Bringup, BringupConfig, EventQueue, Interrupts, StreamTableBase, event_layout, probe,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // On a board: `VolatileRegisters`, a timer, memory that the SMMU reads, and a command queue.
    let (registers, clock, memory) = (smmu(), CountingWait::new(), heap_pool(0x1_0000));
    let sink = RecordingSink::new();
    let commands = memory.allocate(DmaLayout::naturally_aligned(16 << 6).ok_or("layout")?)?;
    let table = memory.allocate(DmaLayout::naturally_aligned(64 << 4).ok_or("layout")?)?;
    // Firmware left the SMMU running.
    registers.set(regs::CR0.offset(), 1);
    registers.set(regs::CR0ACK.offset(), 1);

    let probe = probe(&registers)?;
    println!("probe: IDR0 = {:#x}, quirks {:?}", probe.id.idr0, probe.quirks);
    let size = QueueSize::from_log2(probe.caps.cmdq_log2.min(6)).ok_or("queue size")?;
    let mut events = EventQueue::new(&registers, memory.allocate(event_layout(size))?, size)?;

    let off = Bringup::begin(&registers, &clock, BringupConfig::new(&probe.caps))?;
    show("begin", &registers);
    let base =
        StreamTableBase { address: table.address(), format: StreamTableFormat::Linear { log2: 4 } };
    let tables_set = off.set_tables(base)?;
    show("set_tables", &registers);
    let commands_on = tables_set.enable_commands(commands.address(), size)?;
    show("enable_commands", &registers);
    let invalidated = commands_on.invalidate_all(&sink, SmmuId(0))?;
    println!("invalidate_all:");
    for call in sink.take() {
        match call {
            SinkCall::Issue(_, sent) => sent.iter().for_each(|command| println!("    {command}")),
            SinkCall::Push(..) => {}
            SinkCall::Wait(_) => println!("    CMD_SYNC completed"),
        }
    }
    let events_on = invalidated.enable_events(events.base(), size)?;
    show("enable_events", &registers);
    let interrupts_set = events_on.enable_interrupts(Interrupts::Polled)?;
    show("enable_interrupts", &registers);
    let running = interrupts_set.enable_translation()?;
    show("enable_translation", &registers);

    let mut writer = EventWriter::new(memory.window(), events.base(), size);
    writer.write(&registers, EventRecord::new(EventKind::F_TRANSLATION, StreamId(8)));
    let drained = events.drain(|event| println!("drain: {event}"))?;
    println!("drain: {} record, overflow: {}", drained.records, drained.overflowed);
    registers.take_writes();

    let _off = running.disable()?;
    show("disable", &registers);
    Ok(())
}

/// Print the registers that a step wrote.
fn show(step: &str, registers: &FakeRegisters) {
    println!("{step}:");
    for (offset, value) in registers.take_writes() {
        println!("    {:<16} = {value:#x}", name(offset));
    }
}

fn name(offset: u32) -> &'static str {
    let names = [
        (regs::CR0.offset(), regs::CR0.name()),
        (regs::CR1.offset(), regs::CR1.name()),
        (regs::CR2.offset(), regs::CR2.name()),
        (regs::GBPA.offset(), regs::GBPA.name()),
        (regs::GERRORN.offset(), regs::GERRORN.name()),
        (regs::IRQ_CTRL.offset(), regs::IRQ_CTRL.name()),
        (regs::GERROR_IRQ_CFG0.offset(), regs::GERROR_IRQ_CFG0.name()),
        (regs::STRTAB_BASE.offset(), regs::STRTAB_BASE.name()),
        (regs::STRTAB_BASE_CFG.offset(), regs::STRTAB_BASE_CFG.name()),
        (regs::CMDQ_BASE.offset(), regs::CMDQ_BASE.name()),
        (regs::CMDQ_PROD.offset(), regs::CMDQ_PROD.name()),
        (regs::CMDQ_CONS.offset(), regs::CMDQ_CONS.name()),
        (regs::EVENTQ_BASE.offset(), regs::EVENTQ_BASE.name()),
        (regs::EVENTQ_PROD.offset(), regs::EVENTQ_PROD.name()),
        (regs::EVENTQ_CONS.offset(), regs::EVENTQ_CONS.name()),
        (regs::EVENTQ_IRQ_CFG0.offset(), regs::EVENTQ_IRQ_CFG0.name()),
        (regs::PRIQ_IRQ_CFG0.offset(), regs::PRIQ_IRQ_CFG0.name()),
    ];
    names.into_iter().find(|(at, _)| *at == offset).map_or("?", |(_, name)| name)
}
