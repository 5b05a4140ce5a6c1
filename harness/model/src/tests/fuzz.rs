//! No register access, memory content, command or DMA makes the model panic or hang.

use smmu_types::seam::Registers;
use smmu_types::{EnhancedQueues, StreamId, SubstreamId};

use super::model_rig::{BYTES, CMDQ, ModelRig, RAM};
use crate::{AtsSwitch, InjectedFault, Model, Profile, SecondQueue};

/// Marsaglia's xorshift: the same numbers on every run.
struct RandomWords(u64);

impl RandomWords {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Mostly a word that is almost valid: an address, a descriptor or one bit.
    fn word(&mut self) -> u64 {
        let word = self.next();
        match self.below(6) {
            0 => word,
            1 => word & 0xff,
            2 => 1 << (word & 63),
            3 => RAM + (word & 0x1f_ffff),
            4 => (RAM + (word & 0x1f_f000)) | self.below(4) | 0x7c0,
            _ => (RAM + (word & 0x1f_f000)) | (self.below(16) << 1) | 1,
        }
    }
}

fn profile(numbers: &mut RandomWords) -> Profile {
    let mut bit = || numbers.next() & 16 != 0;
    Profile {
        stage1: bit(),
        stage2: bit(),
        hyp: bit(),
        asid_bits: if bit() { 8 } else { 16 },
        range_invalidation: bit(),
        two_level: bit(),
        prefetch: bit(),
        ats: bit(),
        ats_errors: bit(),
        substream_bits: if bit() { 12 } else { 0 },
        two_level_cd: bit(),
        word_by_word: bit(),
        until_sync: bit(),
        ahead: if bit() { vec![StreamId(0), StreamId(8)] } else { Vec::new() },
        msi: bit(),
        second_queue: [None, Some(SecondQueue::Full), Some(SecondQueue::Restricted)]
            [usize::from(bit()) + usize::from(bit())],
        enhanced_queues: bit().then_some(EnhancedQueues { pages_log2: 1, queues_log2: 1 }),
        ..Profile::default()
    }
}

fn fault(numbers: &mut RandomWords) -> InjectedFault {
    let n = numbers.below(3) as u32;
    match numbers.below(7) {
        0 => InjectedFault::CommandQueueStuck,
        1 => InjectedFault::CommandQueueSlow { per_look: n },
        2 => InjectedFault::RefuseCommand { after: n },
        3 => InjectedFault::FetchAbort { times: n },
        4 => InjectedFault::AtcTimeout { stream: StreamId(n) },
        5 => InjectedFault::MsiLost,
        _ => InjectedFault::EventQueueAbort,
    }
}

/// A device with a SubstreamID, or with ATS.
fn device_acts(rig: &ModelRig, numbers: &mut RandomWords) {
    let device = rig.model.device(0, StreamId(numbers.below(256) as u32));
    let device = match SubstreamId::new(numbers.below(32) as u32) {
        Some(substream) if numbers.below(2) == 0 => device.with_substream(substream),
        _ => device,
    };
    let iova = numbers.word();
    match numbers.below(6) {
        0 => device.switch_ats(AtsSwitch::On),
        1 => device.switch_ats(AtsSwitch::Off),
        2 => drop(device.ats_request(iova)),
        3 => drop(device.ats_write32(iova, 1)),
        4 => drop(device.ats_read32(iova)),
        _ => drop(device.write32(iova, 1)),
    }
}

#[test]
fn random_registers_memory_commands_and_accesses() {
    for seed in 1..=24u64 {
        let mut numbers = RandomWords(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let rig = ModelRig::of(Model::new(BYTES, &[profile(&mut numbers)]), 0);
        if seed % 3 != 0 {
            rig.bring_up();
        }
        for _ in 0..0x1000 {
            rig.put(RAM + (numbers.below(BYTES as u64) & !7), numbers.word());
        }
        for _ in 0..2000 {
            match numbers.below(14) {
                11 | 12 => device_acts(&rig, &mut numbers),
                13 => {
                    let queue = (numbers.below(5) << 15) as u32;
                    let offset = 0x2_0000 + queue + 4 * numbers.below(5) as u32;
                    match numbers.below(4) {
                        0 => drop(rig.regs.read32(offset)),
                        1 => rig.write64(offset, numbers.word()),
                        2 => rig.regs.write32(offset, numbers.word() as u32 & 0x8080_001f),
                        _ => rig.regs.write32(offset, numbers.word() as u32),
                    }
                }
                8 => match numbers.below(4) {
                    0 => rig.model.inject(0, fault(&mut numbers)),
                    1 => rig.model.inject_second(0, fault(&mut numbers)),
                    2 => {
                        let queue = numbers.below(5) as usize;
                        rig.model.inject_enhanced(0, queue, fault(&mut numbers));
                    }
                    _ => rig.model.mend(0),
                },
                9 => rig.model.tick(),
                10 => {
                    let Some(second) = rig.model.second_queue(0) else { continue };
                    let at = (numbers.below(0x20) | numbers.below(2) << 16) as u32;
                    match numbers.below(4) {
                        0 => drop(second.read64(at)),
                        1 => second.write64(at, numbers.word()),
                        2 => second.write32(at, numbers.word() as u32 & 0x1f),
                        _ => drop(second.read32(at)),
                    }
                }
                0 => {
                    let offset = (numbers.below(0x100) | numbers.below(2) << 16) as u32;
                    rig.regs.write32(offset & !3, numbers.word() as u32);
                }
                1 => rig.write64(numbers.below(0x100) as u32, numbers.word()),
                2 => {
                    rig.regs.read32(numbers.next() as u32);
                    rig.regs.read64(numbers.below(0x2_0000) as u32);
                }
                3 => rig.put(RAM + (numbers.below(BYTES as u64) & !7), numbers.word()),
                4 => {
                    // A command with a random body, in the usual place of the queue.
                    let opcode = numbers.below(0x50);
                    let slot = CMDQ + numbers.below(16) * 16;
                    rig.put_all(slot, &[numbers.word() & !0xff | opcode, numbers.word()]);
                }
                5 => rig.model.settle(0),
                6 => drop(rig.model.dma_read32(0, StreamId(numbers.next() as u32), numbers.word())),
                _ => {
                    let stream = StreamId(numbers.below(256) as u32);
                    let iova = numbers.word();
                    let _ = rig.model.dma_write32(0, stream, iova, 1);
                }
            }
        }
        for hazard in rig.model.audit().iter().chain(&rig.model.take_hazards()) {
            assert!(!hazard.to_string().is_empty());
        }
    }
}

#[test]
fn random_streams_over_random_tables() {
    for seed in 1..=16u64 {
        let mut numbers = RandomWords(seed.wrapping_mul(0xd134_2543_de82_ef95));
        let rig = ModelRig::new();
        for sid in 0..256u32 {
            let config = numbers.below(8);
            let valid = u64::from(numbers.below(16) != 0);
            let words = [
                valid | config << 1 | rig.cd(StreamId(sid & 0x7f)),
                numbers.word() & numbers.next() & 0xff,
                numbers.word() & 0x0fff_0000_ffff | 1 << 51 | 1 << 58 | 25 << 32 | 1 << 38,
                RAM + (numbers.next() & 0x1f_f000),
            ];
            rig.put_all(rig.ste(StreamId(sid)), &words);
            if sid < 0x80 {
                let asid = numbers.below(4) as u16;
                rig.write_cd(StreamId(sid), asid, RAM + 0x10_0000 + (numbers.next() & 0xf_f000));
            }
        }
        for at in (0x10_0000..BYTES as u64).step_by(8) {
            let target = RAM + 0x10_0000 + (numbers.next() & 0xf_f000);
            rig.put(RAM + at, target | numbers.next() & 0xfff | 1);
        }
        for _ in 0..2000 {
            let stream = StreamId(numbers.below(300) as u32);
            let iova = numbers.next() & 0x7f_ffff_ffff;
            let _ = rig.model.dma_write32(0, stream, iova, 0);
            if numbers.below(16) == 0 {
                rig.events();
            }
        }
        assert!(rig.model.audit().iter().all(|hazard| !hazard.to_string().is_empty()));
    }
}
