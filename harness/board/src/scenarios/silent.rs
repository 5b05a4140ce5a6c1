//! A device that does not tell a refused write: memory tells.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use smmu_engine::machine::Ram;
use smmu_types::Iova;
use smmu_types::pool::Window;

use crate::dma::edu::Edu;
use crate::dma::{DmaResult, Generator};

/// What an `edu` writes. No table, queue or page of a scenario has it.
const PATTERN: u32 = 0xa7c3_5e91;
const ELSEWHERE: u64 = 4096;
const HALF_BITS: u32 = 32;

/// A device, with the RAM that its writes can reach.
pub struct ToldByMemory<G> {
    device: G,
    ram: Ram,
    /// What it writes, in units of 4 bytes. Never empty.
    pattern: Vec<u32>,
}

impl ToldByMemory<Edu> {
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
        Self::tried(edu, ram)
    }
}

impl<G: Generator> ToldByMemory<G> {
    /// A device that has its pattern, and is tried: while no SMMU translates, by a physical address.
    /// `None` if it does not reach this RAM so, or if the pattern does not begin like one of its own:
    /// its first 4 bytes are zero, or occur in it again.
    #[must_use]
    pub fn tried(mut device: G, ram: Ram) -> Option<Self> {
        let pattern: Vec<u32> =
            device.pattern().as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let (first, rest) = pattern.split_first()?;
        if *first == 0 || rest.contains(first) {
            return None;
        }
        let _ = device.write(Iova(ram.base().0 + ELSEWHERE));
        let device = ToldByMemory { device, ram, pattern };
        let found = device.find();
        found.iter().for_each(|at| put(&device.ram, *at, 0));
        (found == [ELSEWHERE as usize / 4]).then_some(device)
    }

    fn first(&self) -> u32 {
        self.pattern.first().copied().unwrap_or_default()
    }

    /// Where the pattern is, in units of 4 bytes.
    fn find(&self) -> Vec<usize> {
        let words = self.ram.words();
        self.ram.observe(0..words.len());
        let (mut found, first) = (Vec::new(), self.first());
        // A plain loop: an image for size calls each step of an iterator.
        for (at, word) in words.iter().enumerate() {
            let word = word.load(Ordering::Relaxed);
            if word as u32 == first && self.is_at(at * 2) {
                found.push(at * 2);
            }
            if (word >> HALF_BITS) as u32 == first && self.is_at(at * 2 + 1) {
                found.push(at * 2 + 1);
            }
        }
        found
    }

    /// Whether the whole pattern lies there.
    fn is_at(&self, at: usize) -> bool {
        let words = self.ram.words();
        self.pattern.iter().enumerate().all(|(n, part)| {
            let word = words.get((at + n) / 2).map(|word| word.load(Ordering::Relaxed));
            word.is_some_and(|word| (word >> (HALF_BITS * ((at + n) % 2) as u32)) as u32 == *part)
        })
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

impl<G: Generator> Generator for ToldByMemory<G> {
    fn name(&self) -> &'static str {
        self.device.name()
    }

    fn pattern(&self) -> &[u8] {
        self.device.pattern()
    }

    fn needs_all_memory(&self) -> bool {
        true
    }

    /// The start of the pattern of earlier writes is taken away meanwhile, so the one that is found
    /// is new.
    fn write(&mut self, iova: Iova) -> DmaResult {
        let earlier = self.find();
        earlier.iter().for_each(|at| put(&self.ram, *at, 0));
        let result = self.device.write(iova);
        let is_written = !self.find().is_empty();
        let first = self.first();
        earlier.iter().for_each(|at| put(&self.ram, *at, first));
        match result {
            DmaResult::Silent if is_written => DmaResult::Done,
            // A device whose rings are out of reach as well does not answer, and is off.
            DmaResult::Silent | DmaResult::TimedOut if !is_written => DmaResult::Refused(0),
            other => other,
        }
    }
}
