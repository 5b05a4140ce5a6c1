//! 256 unmapped pages: invalidated one by one, gathered into ranges, and by one flush.
//!
//!     cargo run --release -p smmu-driver --example gather
//!
//! The queues are real, the SMMUs consume each command at once. So the times are the CPU's alone: on
//! a device each `CMD_SYNC` adds its own time.

#[path = "../../../smmu-cmdq/benches/instant/mod.rs"]
#[expect(dead_code, reason = "the benchmarks use more of it")]
mod instant;

use std::cell::Cell;
use std::error::Error;

use instant::{BenchQueue, BenchRing, InstantSmmu, SIZE};
use smmu_driver::smmu_cmdq::{Pushed, QueueConfig, QueueSet, SyncTicket};
use smmu_driver::smmu_invs::{InvArray, InvSpec};
use smmu_driver::smmu_types::range::{Extent, RangeSupport};
use smmu_driver::smmu_types::seam::{CommandSink, EncodedBatch, SinkError, StdWait};
use smmu_driver::smmu_types::{
    Asid, CacheTag, Command, Granule, Leaf, Regime, SmmuId, StreamId, SyncProof,
};
use smmu_measure::nanoseconds;

const PAGES: u64 = 256;
const PAGE: u64 = 4096;

/// The queues, and what went into them.
struct Counting {
    queues: QueueSet<Vec<BenchQueue>, BenchQueue>,
    commands: Cell<usize>,
    syncs: Cell<usize>,
}

impl Counting {
    fn new(smmus: u16) -> Result<Self, Box<dyn Error>> {
        let queue = |n| {
            let (registers, memory) = (InstantSmmu::default(), BenchRing::new());
            let (wait, config) = (StdWait::new(), QueueConfig::default());
            BenchQueue::new(SmmuId(n), registers, memory, SIZE, wait, config)
        };
        let queues = (0..smmus).map(queue).collect::<Result<_, _>>()?;
        let (commands, syncs) = (Cell::new(0), Cell::new(0));
        Ok(Counting { queues: QueueSet::new(queues)?, commands, syncs })
    }

    #[inline]
    fn count(&self, commands: usize, syncs: usize) {
        self.commands.set(self.commands.get() + commands);
        self.syncs.set(self.syncs.get() + syncs);
    }
}

impl CommandSink for Counting {
    type Ticket = SyncTicket;
    type Pushed = Pushed;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<SyncTicket, SinkError> {
        self.count(commands.len(), 1);
        self.queues.issue(smmu, commands)
    }
    fn push(
        &self,
        smmu: SmmuId,
        pushed: Option<Pushed>,
        commands: &[Command],
    ) -> Result<Pushed, SinkError> {
        self.count(commands.len(), 0);
        self.queues.push(smmu, pushed, commands)
    }
    fn prove(&self, pushed: Pushed, commands: &[Command]) -> Result<SyncTicket, SinkError> {
        self.count(commands.len(), 1);
        self.queues.prove(pushed, commands)
    }
    fn wait(&self, ticket: SyncTicket) -> Result<SyncProof, SinkError> {
        self.queues.wait(ticket)
    }
    fn issue_encoded(
        &self,
        smmu: SmmuId,
        commands: EncodedBatch<'_>,
    ) -> Result<SyncTicket, SinkError> {
        self.count(commands.len(), 1);
        self.queues.issue_encoded(smmu, commands)
    }
    fn push_encoded(
        &self,
        smmu: SmmuId,
        pushed: Option<Pushed>,
        commands: EncodedBatch<'_>,
    ) -> Result<Pushed, SinkError> {
        self.count(commands.len(), 0);
        self.queues.push_encoded(smmu, pushed, commands)
    }
    fn prove_encoded(
        &self,
        pushed: Pushed,
        commands: EncodedBatch<'_>,
    ) -> Result<SyncTicket, SinkError> {
        self.count(commands.len(), 1);
        self.queues.prove_encoded(pushed, commands)
    }
}

/// A domain's tag on each SMMU, and with `ats` a device with ATS behind each.
fn array(smmus: u16, ats: bool) -> Result<InvArray, Box<dyn Error>> {
    let tag = CacheTag::Asid(Regime::El1, Asid(7));
    let mut request = Vec::new();
    for smmu in (0..smmus).map(SmmuId) {
        request.push(InvSpec::tagged(smmu, tag, RangeSupport::Ril));
        if ats {
            request.push(InvSpec::ats(smmu, StreamId(8), None));
        }
    }
    Ok(InvArray::empty().merge(&request)?)
}

/// `ranges` ranges, which together have all pages, with as much room between them.
fn extents(ranges: u64) -> Vec<Extent> {
    let size = PAGES / ranges * PAGE;
    let range = |n| Extent::range(n * 2 * size, size, Granule::K4, Leaf::Last);
    (0..ranges).map(range).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("{PAGES} pages of 4 KiB unmapped, by tags with range commands");
    println!("  {:<26} {:<21} {:>9} {:>6} {:>10}", "SMMUs", "how", "commands", "SYNCs", "ns");
    for (smmus, ats) in [(1, false), (2, false), (4, false), (16, false), (1, true), (4, true)] {
        let (array, sink) = (array(smmus, ats)?, Counting::new(smmus)?);
        let who = format!("{smmus}{}", if ats { ", a device with ATS each" } else { "" });
        for (how, extents) in [
            ("strict, page by page", extents(PAGES)),
            ("gathered, 16 ranges", extents(16)),
            ("gathered, 1 range", extents(1)),
            ("deferred, one flush", vec![Extent::everything(Granule::K4)]),
        ] {
            let all = || extents.iter().try_for_each(|&extent| array.invalidate(extent, &sink));
            sink.commands.set(0);
            sink.syncs.set(0);
            all()?;
            let (commands, syncs) = (sink.commands.take(), sink.syncs.take());
            let time = nanoseconds(1, || {
                // It has just succeeded, and these SMMUs cannot fail.
                let _ = all();
            });
            println!("  {who:<26} {how:<21} {commands:>9} {syncs:>6} {time:>10.0}");
        }
    }
    Ok(())
}
