//! Transactions that used cached entries alone, and met nothing stale: while nothing changes, the same
//! transaction ends the same.
//!
//! What such a transaction gives depends on the SMMU and on the words of memory that its judge read. So
//! a memo is for a run of DMA without any other act of the SMMU, and each use compares the words.

use smmu_types::PhysAddr;

use crate::dma::access::DmaAccess;
use crate::model_ram::{ModelRam, Word};
use crate::requester::Requester;

/// Transactions that a memo keeps.
const KEPT: usize = 256;
/// Transactions in a row before a memo pays: most come alone.
const PAYS_AFTER: u32 = 4;
/// The smallest piece that tables map: within it each address has the same words.
const PAGE_SHIFT: u32 = 12;

/// A transaction to any address of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    source: Requester,
    page: u64,
    access: DmaAccess,
}

#[derive(Debug)]
struct Known {
    asked: Asked,
    /// First address of the page that the transaction reached.
    output: u64,
    /// The words that its judge read, as they were.
    words: Vec<Word>,
}

#[derive(Debug, Default)]
pub(crate) struct Memo {
    known: Vec<Option<Known>>,
    /// Transactions since the last other act.
    run: u32,
    /// A transaction begins, and nothing else happens. A retry comes between commands.
    begins: bool,
    #[cfg(test)]
    pub(crate) found: u64,
}

impl Memo {
    /// The SMMU does something else than a transaction, or its caches change.
    pub(crate) fn forget(&mut self) {
        if self.run > 0 {
            self.run = 0;
            self.known.clear();
        }
    }

    /// A transaction begins: the memo serves until [`close`](Self::close).
    pub(crate) fn open(&mut self) {
        self.begins = true;
    }

    /// The transaction has begun.
    pub(crate) fn close(&mut self) {
        self.begins = false;
        self.run = self.run.saturating_add(1);
    }

    /// Whether it pays to note what this transaction reads.
    pub(crate) fn pays(&self) -> bool {
        self.begins && self.run >= PAYS_AFTER
    }

    /// Where a transaction goes, if it went there before and memory is unchanged.
    pub(crate) fn find(
        &mut self,
        ram: &ModelRam,
        source: Requester,
        iova: u64,
        access: DmaAccess,
    ) -> Option<PhysAddr> {
        let asked = Asked::of(source, iova, access);
        let known = self.known.get(asked.place())?.as_ref()?;
        if !self.begins || known.asked != asked || !ram.still_has(&known.words) {
            return None;
        }
        #[cfg(test)]
        {
            self.found += 1;
        }
        Some(PhysAddr(known.output | iova & ((1 << PAGE_SHIFT) - 1)))
    }

    /// A transaction went to `output`, and read `words`.
    pub(crate) fn keep(
        &mut self,
        source: Requester,
        iova: u64,
        access: DmaAccess,
        output: PhysAddr,
        words: Vec<Word>,
    ) {
        let asked = Asked::of(source, iova, access);
        let output = output.0 >> PAGE_SHIFT << PAGE_SHIFT;
        self.known.resize_with(KEPT, || None);
        if let Some(place) = self.known.get_mut(asked.place()) {
            *place = Some(Known { asked, output, words });
        }
    }
}

impl Asked {
    fn of(source: Requester, iova: u64, access: DmaAccess) -> Self {
        Asked { source, page: iova >> PAGE_SHIFT, access }
    }

    fn place(&self) -> usize {
        let substream = self.source.substream.map_or(0, |substream| substream.get());
        (self.page as u32 ^ self.source.stream.0 << 4 ^ substream << 6) as usize % KEPT
    }
}
