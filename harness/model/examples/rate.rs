//! How many commands and how much DMA the model carries out in a second.
//!
//!     cargo run --release -p smmu-model --example rate
//!
//! A driver in its smallest form fills half a ring, writes `CMDQ_PROD`, and reads `CMDQ_CONS` until the
//! SMMU has consumed everything. A device writes 4 bytes to the same few pages, which the SMMU has
//! cached; or to an address for which it has nothing cached, so that it fetches the STE and the CD and
//! walks the tables of both stages. Each figure is the best of five rounds on one thread.
#![expect(clippy::expect_used, reason = "an example ends at its first error")]

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use smmu_model::smmu_types::pool::{HeapWindow, Window};
use smmu_model::smmu_types::range::Span;
use smmu_model::smmu_types::seam::RegistersExt;
use smmu_model::smmu_types::{Asid, Command, Iova, Leaf, StreamId, Vmid, regs};
use smmu_model::{Model, ModelRegisters, Profile};

const RAM: u64 = 0x4000_0000;
const QUEUE: u64 = RAM + 0x1000;
const QUEUE_LOG2: u32 = 8;
const ENTRIES: u32 = 1 << QUEUE_LOG2;
const STREAM_TABLE: u64 = RAM + 0x8000;
const ROUNDS: u32 = 5;
const COMMANDS: u32 = 400_000;
const DMAS: u32 = 1_000_000;
const WALKS: u32 = 50_000;
/// The streams that use stage 1, and both stages.
const STAGE1: StreamId = StreamId(1);
const NESTED: StreamId = StreamId(2);
/// What the devices write to: pages of RAM, which both stages map to themselves.
const PAGES: u32 = 16;
const IOVA: u64 = RAM + 0x4_0000;
const CD: u64 = RAM + 0x9000;
const STAGE1_TABLES: u64 = RAM + 0x1_0000;
const STAGE2_TABLES: u64 = RAM + 0x2_0000;

struct HandDriver {
    registers: ModelRegisters,
    ram: HeapWindow,
}

impl HandDriver {
    fn bring_up(&self) {
        let r = &self.registers;
        r.write(regs::CR1, regs::cr1::COHERENT);
        r.write(regs::STRTAB_BASE, STREAM_TABLE);
        r.write(regs::STRTAB_BASE_CFG, 4); // linear, 16 STEs
        r.write(regs::CMDQ_BASE, QUEUE | u64::from(QUEUE_LOG2));
        r.write(regs::CR0, regs::cr0::CMDQEN);
        self.send(Command::CfgiAll, 1);
        self.send(Command::TlbiNsnhAll, 1);
        r.write(regs::CR0, regs::cr0::CMDQEN | regs::cr0::SMMUEN);
    }

    fn store(&self, at: u64, words: &[u64]) {
        for (n, word) in words.iter().enumerate() {
            self.ram.words()[(at - RAM) as usize / 8 + n].store(*word, Ordering::Release);
        }
    }

    /// Tables of three levels for 39 bits, which map each page of RAM to itself, a CD, and two STEs.
    fn build_tables(&self) {
        for (root, leaf) in [(STAGE1_TABLES, 0xf43), (STAGE2_TABLES, 0x7ff)] {
            self.store(root + 8, &[(root + 0x1000) | 3]);
            self.store(root + 0x1000, &[(root + 0x2000) | 3]);
            for page in 0..0x80 {
                self.store(root + 0x2000 + 8 * page, &[(RAM + 0x1000 * page) | leaf]);
            }
        }
        // T0SZ = 25, EPD1, V, IPS = 44 bits, AA64, R, A, ASET; ASID 7 and 8 by stream.
        let cd = |asid: u64| 25 | 1 << 30 | 1 << 31 | 4 << 32 | 1 << 41 | 7 << 45 | asid << 48;
        self.store(CD, &[cd(7), STAGE1_TABLES, 0, 0xff]);
        self.store(CD + 64, &[cd(8), STAGE1_TABLES, 0, 0xff]);
        let ste = |stream: StreamId| STREAM_TABLE + 64 * u64::from(stream.0);
        self.store(ste(STAGE1), &[CD | 0xb, 1 << 44]);
        // VMID 1, S2T0SZ = 25, S2SL0 = 1, S2PS = 44 bits, S2AA64, S2R.
        let stage2 = 1 | 25 << 32 | 1 << 38 | 4 << 48 | 1 << 51 | 1 << 58;
        self.store(ste(NESTED), &[(CD + 64) | 0xf, 1 << 44, stage2, STAGE2_TABLES]);
    }

    /// Sends a command `count` times, and a `CMD_SYNC` behind the last ones.
    fn send(&self, command: Command, count: u32) {
        let r = &self.registers;
        let mut prod = r.read(regs::CMDQ_PROD);
        let mut rest = count;
        while rest > 0 {
            let now = rest.min(ENTRIES / 2 - 1);
            for n in 0..=now {
                let next = if n == now { Command::SYNC } else { command };
                let slot = QUEUE + u64::from(prod & (ENTRIES - 1)) * 16;
                for (word, value) in (0..).zip(next.encode().0) {
                    let index = (slot - RAM) / 8 + word;
                    self.ram.words()[index as usize].store(value, Ordering::Release);
                }
                prod = (prod + 1) & (2 * ENTRIES - 1);
            }
            r.write(regs::CMDQ_PROD, prod);
            while r.read(regs::CMDQ_CONS) != prod {}
            rest -= now;
        }
    }
}

/// The shortest time of the rounds, in seconds.
fn best_of(work: impl Fn()) -> f64 {
    let times = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed()
    });
    times.min().unwrap_or(Duration::MAX).as_secs_f64()
}

fn start(profile: Profile) -> (Model, HandDriver) {
    let model = Model::new(0x8_0000, &[profile]);
    let registers = model.registers(0).expect("the model has one SMMU");
    let driver = HandDriver { registers, ram: model.window() };
    driver.bring_up();
    (model, driver)
}

fn main() {
    let (model, driver) = start(Profile::default());
    let span = Span::single(Iova(0x1000), Leaf::Last).expect("the address fits into a command");
    let (vmid, asid, stream) = (Vmid(0), Asid(7), StreamId(8));
    for (name, command) in [
        ("TLBI_NH_VA", Command::TlbiNhVa { vmid, asid, span }),
        ("TLBI_NH_ASID", Command::TlbiNhAsid { vmid, asid }),
        ("CFGI_STE", Command::CfgiSte { stream, leaf: Leaf::Last }),
    ] {
        let mut best = Duration::MAX;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            driver.send(command, COMMANDS);
            best = best.min(start.elapsed());
        }
        let rate = f64::from(COMMANDS) / best.as_secs_f64() / 1e6;
        println!("{name}: {rate:.1} million commands/s");
    }
    driver.build_tables();
    driver.send(Command::CfgiAll, 1);
    driver.send(Command::TlbiNsnhAll, 1);
    for (name, stream) in [("stage 1", STAGE1), ("nested", NESTED)] {
        let cached = best_of(|| {
            for n in 0..DMAS {
                let iova = IOVA + 0x1000 * u64::from(n % PAGES) + u64::from(n / PAGES % 1024 * 4);
                model.dma_write32(0, stream, iova, n).expect("the tables map the page");
            }
        });
        let rate = f64::from(DMAS) / cached / 1e6;
        println!("DMA through cached entries, {name}: {rate:.2} million DMAs/s");
    }
    assert!(model.take_hazards().is_empty(), "the driver has made no mistake");

    // Without prefetch nothing is cached after an invalidation. Its own time is subtracted.
    let (model, driver) = start(Profile { prefetch: false, ..Profile::default() });
    driver.build_tables();
    let flush = |dma: bool| {
        best_of(|| {
            for n in 0..WALKS {
                driver.send(Command::CfgiAll, 1);
                driver.send(Command::TlbiNsnhAll, 1);
                if dma {
                    model.dma_write32(0, NESTED, IOVA, n).expect("the tables map the page");
                }
            }
        })
    };
    let rate = f64::from(WALKS) / (flush(true) - flush(false)).max(1e-12);
    println!("DMA through a full nested walk: {:.0} thousand DMAs/s", rate / 1e3);
    assert!(model.take_hazards().is_empty(), "the driver has made no mistake");
}
