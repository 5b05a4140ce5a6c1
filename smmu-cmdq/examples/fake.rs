//! The results that callers get from a queue, on the fake SMMU.
//!
//!     cargo run -p smmu-cmdq --features fake --example fake

use smmu_cmdq::fake::{Consumer, Pace};
use smmu_cmdq::{CommandQueue, QueueConfig, SyncBy, layout};
use smmu_types::fake::heap_pool;
use smmu_types::queue::QueueSize;
use smmu_types::seam::{CountingWait, DmaMemory, SinkError};
use smmu_types::{Asid, Command, RawCommand, SmmuId, SyncProof, Vmid};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let memory = heap_pool(0x1_0000);
    let device = Consumer::new(memory.window(), Pace::PerRead(1));
    let size = QueueSize::from_log2(2).ok_or("no queue of this size")?;
    let block = memory.allocate(layout(size, SyncBy::Polling))?;
    let (wait, config) = (CountingWait::new(), QueueConfig::default());
    let queue: CommandQueue<_, _, _> =
        CommandQueue::new(SmmuId(0), &device, block, size, wait, config)?;
    device.enable(queue.base(), size);

    let flush = |asid| Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(asid) };
    let unknown = Command::Unknown(RawCommand([0xff, 0]));
    // Two callers at once. The SMMU refuses a command of the second, and only the second fails.
    let (first, second) = (queue.issue(&[flush(1)])?, queue.issue(&[unknown])?);
    print_result("first", queue.wait(first));
    print_result("second", queue.wait(second));
    // A batch longer than the ring.
    print_result("third", queue.run(&[1, 2, 3, 4, 5].map(flush)));
    // The SMMU stops.
    device.set_pace(Pace::Dead);
    print_result("fourth", queue.run(&[flush(6)]));
    Ok(())
}

fn print_result(caller: &str, result: Result<SyncProof, SinkError>) {
    match result {
        Ok(proof) => println!("{caller}: flushed on {}", proof.smmu()),
        Err(error) => println!("{caller}: {error}"),
    }
}
