//! How many commands the model carries out in a second.
//!
//!     cargo run --release -p smmu-model --example rate
//!
//! A driver in its smallest form fills half a ring, writes `CMDQ_PROD`, and reads `CMDQ_CONS` until the
//! SMMU has consumed everything. Each figure is the best of five rounds on one thread.
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

fn main() {
    let model = Model::new(0x1_0000, &[Profile::default()]);
    let registers = model.registers(0).expect("the model has one SMMU");
    let driver = HandDriver { registers, ram: model.window() };
    driver.bring_up();
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
    assert!(model.take_hazards().is_empty(), "the driver has made no mistake");
}
