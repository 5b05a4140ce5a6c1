//! A device that does not tell a refused write: memory tells.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use smmu_engine::machine::Ram;
use smmu_types::Iova;
use smmu_types::pool::Window;

use crate::dma::edu::Edu;
use crate::dma::{DmaResult, Generator};

const WORDS: usize = 8;
/// What the device writes. Nothing else puts it into memory.
const PATTERN: [u64; WORDS] = [
    0x8d3f_65a1_7c20_94eb,
    0x21b6_0fd8_43a9_7e5c,
    0xe7c4_9812_5d0b_36af,
    0x5a90_d7e3_b81f_642d,
    0x0c7b_a35e_f916_d284,
    0xb4e2_163c_80d5_9f7a,
    0x6f18_c94d_2e73_a0b5,
    0x93d5_7a06_e4bc_1f28,
];
const ELSEWHERE: u64 = 4096;

/// An `edu`, with the RAM that its writes can reach.
pub struct ToldByMemory {
    edu: Edu,
    ram: Ram,
    bytes: [u8; WORDS * 8],
}

impl ToldByMemory {
    /// Loads the pattern into the device's buffer: while no SMMU translates, by physical addresses.
    /// `None` if the device does not reach this RAM so.
    #[must_use]
    pub fn load(mut edu: Edu, ram: Ram) -> Option<Self> {
        let mut bytes = [0; WORDS * 8];
        for (place, byte) in bytes.iter_mut().zip(PATTERN.into_iter().flat_map(u64::to_le_bytes)) {
            *place = byte;
        }
        let base = ram.base();
        put(&ram, 0, PATTERN);
        edu.read(Iova(base.0))?;
        put(&ram, 0, [0; WORDS]);
        edu.expect(bytes);
        let _ = edu.write(Iova(base.0 + ELSEWHERE));
        let device = ToldByMemory { edu, ram, bytes };
        let found = device.find();
        found.iter().for_each(|at| put(&device.ram, *at, [0; WORDS]));
        (found == [ELSEWHERE as usize / 8]).then_some(device)
    }

    /// Where the pattern begins.
    fn find(&self) -> Vec<usize> {
        let words = self.ram.words();
        self.ram.observe(0..words.len());
        let read = |at: usize| words.get(at).map(|word| word.load(Ordering::Relaxed));
        let is_there = |at: &usize| (0..WORDS).all(|n| read(at + n) == PATTERN.get(n).copied());
        let first = words.iter().enumerate();
        let first = first.filter(|(_, word)| word.load(Ordering::Relaxed) == PATTERN[0]);
        first.map(|(at, _)| at).filter(is_there).collect()
    }
}

fn put(ram: &Ram, at: usize, values: [u64; WORDS]) {
    for (word, value) in ram.words().iter().skip(at).zip(values) {
        word.store(value, Ordering::Relaxed);
    }
    ram.publish(at..at + WORDS);
}

impl Generator for ToldByMemory {
    fn name(&self) -> &'static str {
        self.edu.name()
    }

    fn pattern(&self) -> &[u8] {
        &self.bytes
    }

    /// The pattern of earlier writes is taken away meanwhile, so the one that is found is new.
    fn write(&mut self, iova: Iova) -> DmaResult {
        let earlier = self.find();
        earlier.iter().for_each(|at| put(&self.ram, *at, [0; WORDS]));
        let result = self.edu.write(iova);
        let is_written = !self.find().is_empty();
        earlier.iter().for_each(|at| put(&self.ram, *at, PATTERN));
        match result {
            DmaResult::Silent if is_written => DmaResult::Done,
            DmaResult::Silent => DmaResult::Refused(0),
            other => other,
        }
    }
}
