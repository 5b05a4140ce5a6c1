//! The named pages and blocks of a scenario, and which of them a DMA reached.

use alloc::borrow::Cow;
use core::sync::atomic::Ordering;

use smmu_driver::smmu_types::seam::{DmaBlock, DmaError, DmaLayout, DmaMemory};
use smmu_driver::smmu_types::{PhysAddr, SubstreamId};

use super::platform::{Block, Dma};
use crate::machine::{BackendError, DmaSource, DmaWriteOutcome, Machine};
use crate::page_tables::{LeafSize, PAGE};
use crate::prelude::*;

/// Pages and blocks of memory, each with content of its own.
pub(crate) struct Pages {
    pages: Vec<(String, Block)>,
    // The first so many are pages; blocks follow.
    blocks_from: usize,
}

/// One write of a device: where to, and the bytes.
#[derive(Clone, Debug)]
pub(crate) struct DmaWrite {
    pub(super) iova: u64,
    source: DmaSource,
    bytes: Cow<'static, [u8]>,
}

impl DmaWrite {
    /// What a device of the machine writes to `iova`.
    ///
    /// A device that writes nothing, or beyond the end of a page, cannot run the scenario.
    pub(crate) fn of(
        machine: &dyn Machine,
        device: usize,
        iova: u64,
    ) -> Result<Self, BackendError> {
        let bytes = machine.pattern(device);
        let (length, room) = (bytes.len() as u64, PAGE - iova % PAGE);
        if length == 0 || length > room {
            return Err(BackendError::Impossible(format!(
                "device {device} writes {length} bytes at once, and a DMA to {iova:#x} must be of \
                 1 to {room}, to end in its page"
            )));
        }
        Ok(DmaWrite { iova, source: DmaSource::default(), bytes })
    }

    /// The same, in transactions that are not plain ones.
    pub(crate) fn sent_as(self, source: DmaSource) -> Self {
        DmaWrite { source, ..self }
    }

    /// The SubstreamID that it is sent with.
    pub(super) const fn substream(&self) -> Option<SubstreamId> {
        self.source.substream
    }

    /// Let a device of the machine carry it out.
    pub(crate) fn carry_out(
        &self,
        machine: &dyn Machine,
        device: usize,
    ) -> Result<DmaWriteOutcome, BackendError> {
        if self.source == DmaSource::default() {
            machine.dma_write(device, self.iova)
        } else {
            machine.dma_write_from(device, self.source, self.iova)
        }
    }

    /// The address that the device writes to.
    pub(crate) const fn iova(&self) -> u64 {
        self.iova
    }

    /// Where the bytes lie in a block of so many words, and which words have some of them.
    fn place(&self, words: usize) -> (usize, core::ops::RangeInclusive<usize>) {
        let offset = (self.iova % (words as u64 * 8)) as usize;
        (offset, offset / 8..=(offset + self.bytes.len() - 1) / 8)
    }

    /// Word `index`, in which the bytes of this write from `offset` on are as `put` says.
    fn put(&self, word: u64, index: usize, offset: usize, put: impl Fn(u8) -> u8) -> u64 {
        let mut content = word.to_le_bytes();
        for (n, byte) in content.iter_mut().enumerate() {
            let at = (index * 8 + n).checked_sub(offset).and_then(|at| self.bytes.get(at));
            *byte = at.map_or(*byte, |&written| put(written));
        }
        u64::from_le_bytes(content)
    }
}

/// What a DMA did to the pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// This page or block, at the expected offset, and nothing else.
    Page(String),
    /// No page.
    Nothing,
    /// Something that no single DMA may do.
    Damage(String),
}

impl Pages {
    pub(crate) fn new<'a>(
        pages: impl Iterator<Item = &'a str>,
        blocks: impl Iterator<Item = &'a str>,
        dma: &Dma,
    ) -> Result<Self, DmaError> {
        let allocate = |name: &str, size: LeafSize| {
            let bytes = size.bytes();
            let layout = DmaLayout::new(bytes, bytes).ok_or(DmaError { bytes, align: bytes })?;
            Ok((name.to_owned(), dma.allocate(layout)?))
        };
        let mut all: Vec<_> =
            pages.map(|name| allocate(name, LeafSize::Page)).collect::<Result<_, DmaError>>()?;
        let blocks_from = all.len();
        for name in blocks {
            all.push(allocate(name, LeafSize::Block)?);
        }
        let pages = Pages { pages: all, blocks_from };
        pages.restore();
        Ok(pages)
    }

    pub(crate) fn address(&self, name: &str) -> Option<PhysAddr> {
        let (_, block) = self.pages.iter().find(|(known, _)| known == name)?;
        Some(block.address())
    }

    /// All pages and blocks, in words, and where they are.
    pub(crate) fn all(&self) -> impl Iterator<Item = (String, PhysAddr)> {
        let each = self.pages.iter().enumerate();
        each.map(|(n, (name, block))| (self.kind(n, name), block.address()))
    }

    fn kind(&self, n: usize, name: &str) -> String {
        let kind = if n < self.blocks_from { "page" } else { "block" };
        format!("{kind} {name}")
    }

    /// What a name stands for, in words.
    pub(crate) fn described(&self, name: &str) -> String {
        let found = self.pages.iter().position(|(known, _)| known == name);
        self.kind(found.unwrap_or_default(), name)
    }

    /// The content of word `index` of page number `page`: never zero, and different for each word.
    fn filler(page: usize, index: usize) -> u64 {
        0xa5a5_0000_5a5a_0000 | (page as u64) << 32 | index as u64
    }

    /// Give every page its content back.
    pub(crate) fn restore(&self) {
        for (page, (_, block)) in self.pages.iter().enumerate() {
            for (index, word) in block.words().iter().enumerate() {
                word.store(Self::filler(page, index), Ordering::Relaxed);
            }
            block.publish(0..block.words().len());
        }
    }

    /// The 4 bytes that a read of a page gets: different for each, and nowhere else.
    const fn mark(page: usize) -> u32 {
        0xd0d0_0000 | page as u32
    }

    /// Word `index` of page number `page` after [`mark_all`](Self::mark_all).
    fn marked(page: usize, index: usize, offset: u64) -> u64 {
        let filler = Self::filler(page, index);
        if index as u64 != offset / 8 {
            return filler;
        }
        let shift = (offset % 8) * 8;
        filler & !(u64::from(u32::MAX) << shift) | u64::from(Self::mark(page)) << shift
    }

    /// Give every page its content, with a mark of its own where a read of `iova` would find it.
    pub(crate) fn mark_all(&self, iova: u64) {
        self.restore();
        for (page, (_, block)) in self.pages.iter().enumerate() {
            let offset = iova % (block.words().len() as u64 * 8);
            let index = (offset / 8) as usize;
            block.words()[index].store(Self::marked(page, index, offset), Ordering::Relaxed);
            block.publish(index..index + 1);
        }
    }

    /// Which page a read got its 4 bytes from, after [`mark_all`](Self::mark_all). A read changes no
    /// page.
    pub(crate) fn read(&self, iova: u64, value: Option<u32>) -> Reached {
        let mut reached = match value {
            None => Reached::Nothing,
            Some(value) => Reached::Damage(format!("it read {value:#x}, which no page holds")),
        };
        for (page, (name, block)) in self.pages.iter().enumerate() {
            block.observe(0..block.words().len());
            let offset = iova % (block.words().len() as u64 * 8);
            for (index, word) in block.words().iter().enumerate() {
                if word.load(Ordering::Relaxed) != Self::marked(page, index, offset) {
                    let what = self.kind(page, name);
                    return Reached::Damage(format!("{what} changed at {:#x}", index * 8));
                }
            }
            if value == Some(Self::mark(page)) {
                reached = Reached::Page(name.clone());
            }
        }
        reached
    }

    /// Gives every page its content. Where the write would go, it is the complement of the bytes, so
    /// that each of them makes a difference.
    pub(crate) fn expect(&self, write: &DmaWrite) {
        self.restore();
        for page in 0..self.pages.len() {
            self.expect_in(page, write);
        }
    }

    /// As [`expect`](Self::expect), of one page with its own content. Other callers use the others.
    pub(crate) fn expect_in(&self, page: usize, write: &DmaWrite) {
        let block = &self.pages[page].1;
        let (offset, window) = write.place(block.words().len());
        for index in window.clone() {
            let before = write.put(Self::filler(page, index), index, offset, |byte| !byte);
            block.words()[index].store(before, Ordering::Relaxed);
        }
        block.publish(*window.start()..window.end() + 1);
    }

    /// What a write has done since [`expect`](Self::expect).
    pub(crate) fn reached(&self, write: &DmaWrite) -> Reached {
        let mut reached = Reached::Nothing;
        for page in 0..self.pages.len() {
            reached = match (self.reached_in(page, write), reached) {
                (Reached::Nothing, before) => before,
                (now, Reached::Nothing) => now,
                (damage @ Reached::Damage(_), _) => return damage,
                (Reached::Page(_), _) => {
                    let first = *write.place(self.pages[page].1.words().len()).1.start();
                    return self.damage(page, first);
                }
            };
            if let Reached::Damage(_) = reached {
                return reached;
            }
        }
        reached
    }

    /// As [`reached`](Self::reached), of one page since [`expect_in`](Self::expect_in).
    pub(crate) fn reached_in(&self, page: usize, write: &DmaWrite) -> Reached {
        let (name, block) = &self.pages[page];
        block.observe(0..block.words().len());
        let (offset, window) = write.place(block.words().len());
        let mut written = 0;
        for (index, word) in block.words().iter().enumerate() {
            let (now, filler) = (word.load(Ordering::Relaxed), Self::filler(page, index));
            if !window.contains(&index) {
                if now != filler {
                    return self.damage(page, index);
                }
            } else if now == write.put(filler, index, offset, |byte| byte) {
                written += 1;
            } else if now != write.put(filler, index, offset, |byte| !byte) {
                return self.damage(page, index);
            }
        }
        match written {
            0 => Reached::Nothing,
            all if all == window.count() => Reached::Page(name.clone()),
            _ => Reached::Damage(format!("{} got a part of the write only", self.kind(page, name))),
        }
    }

    fn damage(&self, page: usize, index: usize) -> Reached {
        let what = self.kind(page, &self.pages[page].0);
        Reached::Damage(format!("{what} changed at {:#x}", index * 8))
    }

    /// The place of a page, for the calls about one page.
    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.pages.iter().position(|(known, _)| known == name)
    }

    /// The first page beside `used` that has not its own content, in words.
    pub(crate) fn changed_beside(&self, used: &[usize]) -> Option<String> {
        let others = self.pages.iter().enumerate().filter(|(page, _)| !used.contains(page));
        for (page, (name, block)) in others {
            block.observe(0..block.words().len());
            let own = |(index, word): (usize, &core::sync::atomic::AtomicU64)| {
                word.load(Ordering::Relaxed) == Self::filler(page, index)
            };
            if !block.words().iter().enumerate().all(own) {
                return Some(format!("{} changed", self.kind(page, name)));
            }
        }
        None
    }
}
