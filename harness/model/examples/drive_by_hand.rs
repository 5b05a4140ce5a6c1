//! Programs one modelled SMMU by hand, forgets the TLBI after an unmap, and prints the hazard.
#![expect(clippy::expect_used, reason = "an example ends at its first error")]

use std::sync::atomic::Ordering;

use smmu_model::smmu_types::pool::{HeapWindow, Window};
use smmu_model::smmu_types::range::Span;
use smmu_model::smmu_types::seam::RegistersExt;
use smmu_model::smmu_types::{Command, Ipa, Leaf, StreamId, Vmid, regs};
use smmu_model::{DmaRefused, Model, ModelRegisters, Profile};

const RAM: u64 = 0x4000_0000;
const QUEUE: u64 = RAM + 0x1000;
const QUEUE_LOG2: u32 = 4;
const STREAM_TABLE: u64 = RAM + 0x2000;
const LEVEL_1: u64 = RAM + 0x3000;
const LEVEL_2: u64 = RAM + 0x4000;
const LEVEL_3: u64 = RAM + 0x5000;
const DATA: u64 = RAM + 0x8000;

const DEVICE: StreamId = StreamId(8);
const VMID: u64 = 3;
const IOVA: u64 = 0x5000_0000;

/// A driver in its smallest form: registers, memory, and a command queue.
struct HandDriver {
    registers: ModelRegisters,
    ram: HeapWindow,
}

impl HandDriver {
    /// Store a word of memory. Release publishes it before a later write of a register.
    fn store(&self, address: u64, word: u64) {
        let index = (address - RAM) / 8;
        self.ram.words()[index as usize].store(word, Ordering::Release);
    }

    fn bring_up(&self) {
        let r = &self.registers;
        r.write(regs::CR1, regs::cr1::COHERENT);
        r.write(regs::STRTAB_BASE, STREAM_TABLE);
        r.write(regs::STRTAB_BASE_CFG, 4); // linear, 16 STEs
        r.write(regs::CMDQ_BASE, QUEUE | u64::from(QUEUE_LOG2));
        r.write(regs::CR0, regs::cr0::CMDQEN);
        self.run(&[Command::CfgiAll, Command::TlbiNsnhAll]);
        r.write(regs::CR0, regs::cr0::CMDQEN | regs::cr0::SMMUEN);
    }

    /// Send commands and a `CMD_SYNC`, and poll until the SMMU has consumed them.
    fn run(&self, commands: &[Command]) {
        let r = &self.registers;
        for command in commands.iter().chain(&[Command::SYNC]) {
            let prod = r.read(regs::CMDQ_PROD);
            let slot = QUEUE + u64::from(prod & ((1 << QUEUE_LOG2) - 1)) * 16;
            let [low, high] = command.encode().0;
            self.store(slot, low);
            self.store(slot + 8, high);
            r.write(regs::CMDQ_PROD, (prod + 1) & ((2 << QUEUE_LOG2) - 1));
        }
        while r.read(regs::CMDQ_CONS) != r.read(regs::CMDQ_PROD) {}
    }

    /// A stage-2 STE: `Config` = 6, 39 bits of IPA, walks from level 1.
    fn attach(&self) {
        let ste = STREAM_TABLE + u64::from(DEVICE.0) * 64;
        // S2T0SZ 25, S2SL0 1, S2PS 44 bits, S2AA64, S2AFFD, S2R.
        let stage2 = VMID | 25 << 32 | 1 << 38 | 4 << 48 | 1 << 51 | 1 << 53 | 1 << 58;
        self.store(ste + 16, stage2);
        self.store(ste + 24, LEVEL_1);
        self.store(ste, 1 | 6 << 1);
        self.run(&[Command::CfgiSte { stream: DEVICE, leaf: Leaf::Last }]);
    }

    fn leaf(&self) -> u64 {
        LEVEL_3 + (IOVA >> 12 & 0x1ff) * 8
    }

    fn map(&self) {
        self.store(LEVEL_1 + (IOVA >> 30 & 0x1ff) * 8, LEVEL_2 | 3);
        self.store(LEVEL_2 + (IOVA >> 21 & 0x1ff) * 8, LEVEL_3 | 3);
        // MemAttr, S2AP read-write, shareable, access flag.
        self.store(self.leaf(), DATA | 3 | 0xf << 2 | 3 << 6 | 3 << 8 | 1 << 10);
    }

    fn unmap_without_tlbi(&self) {
        self.store(self.leaf(), 0);
    }
}

fn main() {
    let model = Model::new(0x1_0000, &[Profile::default()]);
    let registers = model.registers(0).expect("the model has one SMMU");
    let driver = HandDriver { registers, ram: model.window() };
    driver.bring_up();
    driver.attach();
    driver.map();

    println!("mapped:        {:?}", model.dma_write32(0, DEVICE, IOVA, 7));
    assert!(model.take_hazards().is_empty(), "the driver has made no mistake so far");

    driver.unmap_without_tlbi();
    println!("without TLBI:  {:?}", model.dma_write32(0, DEVICE, IOVA, 8));
    let hazards = model.take_hazards();
    for hazard in &hazards {
        println!("hazard:        {hazard}");
    }

    let span = Span::single(Ipa(IOVA), Leaf::Last).expect("the address fits into a command");
    let tlbi = Command::TlbiS2Ipa { vmid: Vmid(VMID as u16), span };
    assert_eq!(hazards.first().and_then(|hazard| hazard.missing()), Some(&tlbi));
    driver.run(&[tlbi]);
    let refused = model.dma_write32(0, DEVICE, IOVA, 9);
    println!("with TLBI:     {refused:?}");
    assert_eq!(refused, Err(DmaRefused));
    assert!(model.audit().is_empty(), "no stale entry is left");
}
