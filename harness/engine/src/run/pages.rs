//! The named pages of a scenario, and which of them a DMA reached.

use core::sync::atomic::Ordering;

use smmu_driver::smmu_types::PhysAddr;
use smmu_driver::smmu_types::pool::PoolBlock;
use smmu_driver::smmu_types::seam::{DmaBlock, DmaError, DmaLayout, DmaMemory};

use super::platform::Dma;
use crate::machine::{DMA_PATTERN, Ram};
use crate::page_tables::PAGE;

/// Pages of memory, each with content of its own.
pub(crate) struct Pages {
    pages: Vec<(String, PoolBlock<Ram>)>,
}

/// What a DMA did to the pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// This page, at the expected offset, and nothing else.
    Page(String),
    /// No page.
    Nothing,
    /// Something that no single DMA may do.
    Damage(String),
}

impl Pages {
    pub(crate) fn new<'a>(
        names: impl Iterator<Item = &'a str>,
        dma: &Dma,
    ) -> Result<Self, DmaError> {
        let layout = DmaLayout::new(PAGE, PAGE).ok_or(DmaError { bytes: PAGE, align: PAGE })?;
        let pages = names
            .map(|name| Ok((name.to_owned(), dma.allocate(layout)?)))
            .collect::<Result<_, _>>()?;
        let pages = Pages { pages };
        pages.restore();
        Ok(pages)
    }

    pub(crate) fn address(&self, name: &str) -> Option<PhysAddr> {
        let (_, block) = self.pages.iter().find(|(known, _)| known == name)?;
        Some(block.address())
    }

    /// All pages and where they are.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, PhysAddr)> {
        self.pages.iter().map(|(name, block)| (name.as_str(), block.address()))
    }

    /// The content of word `index` of page number `page`: never zero, never the pattern,
    /// and different for each word.
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

    /// What a write of the pattern at `offset` into a page has done since the last
    /// [`restore`](Self::restore).
    pub(crate) fn reached(&self, offset: u64) -> Reached {
        let mut reached = Reached::Nothing;
        for (page, (name, block)) in self.pages.iter().enumerate() {
            block.observe(0..block.words().len());
            for (index, word) in block.words().iter().enumerate() {
                let (now, filler) = (word.load(Ordering::Relaxed), Self::filler(page, index));
                if now == filler {
                    continue;
                }
                let shift = (offset % 8) * 8;
                let mask = u64::from(u32::MAX) << shift;
                let want = filler & !mask | u64::from(DMA_PATTERN) << shift;
                let here = index as u64 == offset / 8 && now == want;
                reached = match reached {
                    Reached::Nothing if here => Reached::Page(name.clone()),
                    _ => Reached::Damage(format!("page {name} changed at {:#x}", index * 8)),
                };
                if let Reached::Damage(_) = reached {
                    return reached;
                }
            }
        }
        reached
    }
}
