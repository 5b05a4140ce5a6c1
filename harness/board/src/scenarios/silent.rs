//! A device that does not tell a refused write: memory tells.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use smmu_engine::machine::Ram;
use smmu_types::Iova;
use smmu_types::pool::Window;

use crate::dma::edu::Edu;
use crate::dma::{DmaResult, Generator};

/// What the device writes. No table, queue or page of a scenario has it.
const PATTERN: u32 = 0xa7c3_5e91;
const ELSEWHERE: u64 = 4096;
const HALF_BITS: u32 = 32;

/// An `edu`, with the RAM that its writes can reach.
pub struct ToldByMemory {
    edu: Edu,
    ram: Ram,
}

impl ToldByMemory {
    /// Loads the pattern into the device's buffer: while no SMMU translates, by physical addresses.
    /// `None` if the device does not reach this RAM so.
    #[must_use]
    pub fn load(edu: Edu, ram: Ram) -> Option<Self> {
        let mut edu = edu.of_one_access();
        let base = ram.base();
        put(&ram, 0, PATTERN);
        edu.read(Iova(base.0))?;
        put(&ram, 0, 0);
        let mut bytes = [0; 64];
        for (place, byte) in bytes.iter_mut().zip(PATTERN.to_le_bytes()) {
            *place = byte;
        }
        edu.expect(bytes);
        let _ = edu.write(Iova(base.0 + ELSEWHERE));
        let device = ToldByMemory { edu, ram };
        let found = device.find();
        found.iter().for_each(|at| put(&device.ram, *at, 0));
        (found == [ELSEWHERE as usize / 4]).then_some(device)
    }

    /// Where the pattern is, in units of 4 bytes.
    fn find(&self) -> Vec<usize> {
        let words = self.ram.words();
        self.ram.observe(0..words.len());
        let mut found = Vec::new();
        // A plain loop: an image for size calls each step of an iterator.
        for (at, word) in words.iter().enumerate() {
            let word = word.load(Ordering::Relaxed);
            if word as u32 == PATTERN {
                found.push(at * 2);
            }
            if (word >> HALF_BITS) as u32 == PATTERN {
                found.push(at * 2 + 1);
            }
        }
        found
    }
}

/// Stores 4 bytes. Nothing else changes the other half of the word meanwhile.
fn put(ram: &Ram, at: usize, value: u32) {
    if let Some(word) = ram.words().get(at / 2) {
        let old = word.load(Ordering::Relaxed);
        let shift = HALF_BITS * (at % 2) as u32;
        let kept = old & !(u64::from(u32::MAX) << shift);
        word.store(kept | u64::from(value) << shift, Ordering::Relaxed);
        ram.publish(at / 2..at / 2 + 1);
    }
}

impl Generator for ToldByMemory {
    fn name(&self) -> &'static str {
        self.edu.name()
    }

    fn pattern(&self) -> &[u8] {
        self.edu.pattern()
    }

    /// The pattern of earlier writes is taken away meanwhile, so the one that is found is new.
    fn write(&mut self, iova: Iova) -> DmaResult {
        let earlier = self.find();
        earlier.iter().for_each(|at| put(&self.ram, *at, 0));
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
