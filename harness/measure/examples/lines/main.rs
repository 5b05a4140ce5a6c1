//! Cache lines that move per push: the accesses of the real queue's code, in the caches of several
//! cores.
//!
//!     cargo run --release -p smmu-measure --example lines
//!
//! 1. The program runs itself under valgrind's `lackey`, which writes down each access to memory.
//!    There it makes a queue on an SMMU that consumes each command at once, and calls it.
//! 2. Of these accesses, those to the queue and to its ring count, call by call. The stack, the code
//!    and the commands are each core's own, and registers of a device have no line.
//! 3. The calls go to the cores in turn. Each core has a cache without a limit, and the caches keep
//!    to MESI: a load of a line that the core does not hold moves it, and so does a store to one that
//!    it does not hold alone.
//!
//! So a figure is the number of moves when each call finds the lines where the call before it, of
//! another core, has left them. Calls that overlap may move a line more often: `contention` simulates
//! those.

mod caches;
#[path = "../../../../smmu-cmdq/benches/instant/mod.rs"]
#[expect(dead_code, reason = "the benchmarks use more of it")]
mod instant;
mod trace;

use std::error::Error;
use std::fs;
use std::process::Command as Process;
use std::sync::atomic::{AtomicU64, Ordering};

use instant::{BenchQueue, BenchRing, InstantSmmu, SIZE};
use smmu_cmdq::QueueConfig;
use smmu_types::seam::StdWait;
use smmu_types::{Asid, Command, RawCommand, SmmuId, Vmid};

use caches::Caches;
use trace::{Places, calls};

/// The argument of the run under valgrind.
const TRACED: &str = "--traced";
/// Calls of each kind in a trace. The first ones put the lines into the caches: a lap of the ring, and
/// what each core only reads.
const CALLS: usize = 1280;
const WARM: usize = 1024;

/// A store to it begins a call.
static MARK: AtomicU64 = AtomicU64::new(0);

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Push(usize),
    Run,
}

const KINDS: [Call; 4] = [Call::Push(1), Call::Push(16), Call::Push(64), Call::Run];

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some(TRACED) {
        return traced();
    }
    let log = std::env::temp_dir().join(format!("smmu-lines-{}", std::process::id()));
    let mut valgrind = Process::new("valgrind");
    valgrind.args(["--tool=lackey", "--trace-mem=yes"]);
    valgrind.arg(format!("--log-file={}", log.display()));
    let ran = valgrind.arg(std::env::current_exe()?).arg(TRACED).output();
    let output = ran.map_err(|error| format!("cannot run valgrind ({error}); install it"))?;
    let text = fs::read_to_string(&log).unwrap_or_default();
    // It may not have been written.
    let _ = fs::remove_file(&log);
    if !output.status.success() {
        return Err(format!("valgrind: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let places = Places::read(&String::from_utf8(output.stdout)?)?;
    let all = calls(&text, &places);
    if all.len() != KINDS.len() * CALLS {
        return Err(
            format!("{} calls are in the trace of {}", all.len(), KINDS.len() * CALLS).into()
        );
    }
    println!("lines moved per call, of the queue and of the ring");
    println!("  {:<12} {:>6} {:>12} {:>12} {:>12}", "call", "cores", "loads", "stores", "together");
    for (kind, calls) in KINDS.iter().zip(all.chunks(CALLS)) {
        // Odd numbers: in each lap of the ring, a core fills other slots than before.
        for cores in [1, 3, 7, 63] {
            let mut caches = Caches::new(cores);
            for (n, call) in calls.iter().enumerate() {
                if n == WARM {
                    caches.forget_counts();
                }
                call.iter().for_each(|access| caches.access(n % cores, *access));
            }
            let each = |moves: usize| moves as f64 / (CALLS - WARM) as f64;
            let (loads, stores) = (each(caches.loads), each(caches.stores));
            println!(
                "  {:<12} {cores:>6} {loads:>12.2} {stores:>12.2} {:>12.2}",
                format!("{kind:?}"),
                loads + stores
            );
        }
    }
    Ok(())
}

/// The run under valgrind: says where the queue lies, and calls it.
fn traced() -> Result<(), Box<dyn Error>> {
    let command = Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(7) }.encode();
    let words: [RawCommand; 64] = [command; 64];
    let ring = BenchRing::new();
    let config = QueueConfig::default();
    let registers = InstantSmmu::default();
    let made = BenchQueue::new(SmmuId(0), registers, ring, SIZE, StdWait::new(), config)?;
    let queue = Box::leak(Box::new(made));
    let registers = queue.with_registers(|registers| std::ptr::from_ref(registers) as usize);
    let places = Places {
        queue: (std::ptr::from_ref(queue) as usize, size_of::<BenchQueue>()),
        ring: (std::ptr::from_ref(ring) as usize, size_of::<BenchRing>()),
        registers: (registers.ok_or("the queue handles an error")?, size_of::<InstantSmmu>()),
        mark: (&raw const MARK as usize, size_of::<AtomicU64>()),
    };
    print!("{}", places.text());
    for kind in KINDS {
        for _ in 0..CALLS {
            MARK.store(1, Ordering::SeqCst);
            match kind {
                Call::Push(count) => drop(queue.push_encoded(None, &words[..count])?),
                Call::Run => drop(queue.wait(queue.issue_encoded(&words[..1])?)?),
            }
            MARK.store(0, Ordering::SeqCst);
        }
    }
    Ok(())
}
