//! Takes over an SMMU that runs: after a crash, from firmware, or from the predecessor of a live update.
//!
//! ```text
//! Survey::new         read the tables in memory, and list each live stream     or a Doubt
//! Smmu::adopt         map the stream table, reserve the tags of kept streams   or an AdoptError
//! abort_others        abort every other stream, and flush                      may be repeated
//! add_device          a kept stream gets a device: Attachment::Foreign
//! attach, block       replace its entry; after the last use, flush its tag and free it
//! ```
//!
//! Up to `abort_others` nothing is written. After any error before that, the SMMU runs as it did, and
//! the caller may turn it off and make an [`Smmu::new`](crate::Smmu::new) instead.
//!
//! # Why the table stays where it is
//!
//! `STRTAB_BASE` (6.3.24) and `STRTAB_BASE_CFG` (6.3.25) may be written only while `CR0.SMMUEN` and its
//! acknowledgement are 0 (6.3.9). While `SMMUEN` is 0, `GBPA` decides about every transaction: it aborts
//! DMA or lets it pass untranslated. So an SMMU that is given another table interrupts each stream, and
//! a copy of the table is of no use to a stream that is to run on. This module instead writes to the
//! table that the SMMU uses. A platform gives a block over that memory by [`AdoptMemory`]. Tables that
//! are added later, second levels and CDs, come from [`DmaMemory`](smmu_types::seam::DmaMemory).
//!
//! # Invariants
//!
//! 1. The reader writes nothing, and returns for every content of the memory. Each word is read twice,
//!    and [`ReadBudget`] bounds the sum. Every address is checked against `IDR5.OAS` first.
//! 2. A survey without a [`Doubt`] has no two tables that overlap, except whole tables of CDs that
//!    streams share. Each STE, CD and descriptor on the way keeps the rules of
//!    [`legal`](smmu_types::legal).
//! 3. The STE of a kept stream is not written before an attach, bypass or block of its device. Its CDs
//!    and page tables are never written.
//! 4. No number of a kept stream's tag is given out before its last stream has left, on each SMMU that
//!    shares the space, and a flush is proven. The flush includes global entries.
//! 5. The numbers of aborted streams are free, because the SMMU has confirmed `CFGI_ALL` and then
//!    `TLBI_NSNH_ALL` before the [`Smmu`](crate::Smmu) exists.
//! 6. An SMMU that does not confirm keeps all: the tags stay reserved, the tables mapped, the kept streams
//!    run. [`AbortUnconfirmed::into_adopting`] tries again.
//!
//! # The old owner
//!
//! It must not write the tables or the queues any more. Two reads of a word show an owner that still
//! does, but not one that begins later. The owner's CDs and page tables stay in use, so their memory must
//! not be given to another use before the last kept stream is replaced, and its outcome is
//! [`settled`](crate::Outcome::settled). The caller knows where they are from [`LiveStream::ste`].
//!
//! # The queues
//!
//! The SMMU may change its queues while it translates: `CMDQ_BASE` and `EVENTQ_BASE` depend on `CMDQEN`
//! and `EVENTQEN`, not on `SMMUEN`. This order loses no command and no event:
//!
//! 1. Clear `IRQ_CTRL` and wait for its acknowledgement: an interrupt would go to the old owner's handler
//!    or MSI address.
//! 2. Wait, for a bounded time, until `CMDQ_CONS.RD` = `CMDQ_PROD.WR`: the SMMU has carried out the old
//!    owner's commands. `GERROR.CMDQ_ERR` ends the wait, because the SMMU stands still.
//! 3. Clear `CR0.CMDQEN` and wait for the acknowledgement. `SMMUEN`, `EVENTQEN`, `PRIQEN` and `ATSCHK` stay.
//! 4. Acknowledge `CMDQ_ERR` in `GERRORN`. Write `CMDQ_BASE`, `CMDQ_PROD` and `CMDQ_CONS` for a queue of
//!    one's own, set `CMDQEN`, and wait.
//! 5. Nothing depends on a command that step 3 has cut off: no owner changes tables between 2 and 4, and
//!    [`Adopting::abort_others`] sends `CFGI_ALL` and `TLBI_NSNH_ALL`. The exceptions are answers (`RESUME`,
//!    `PRI_RESP`) and `ATC_INV`: send those again for each kept stream that has stalls, PRI or ATS.
//! 6. Map the old event queue by [`AdoptMemory`], and read it from `EVENTQ_CONS` to `EVENTQ_PROD` while it
//!    stays on. To lose no event, keep this queue: events that occur while `EVENTQEN` is 0 are not recorded.
//!    Its size and pointers are those of the registers.
//! 7. A queue of one's own instead: read the old one until it is empty; clear `EVENTQEN` and wait; read it
//!    once more; write the registers; set `EVENTQEN`. Events between the two waits are lost, so do this
//!    after `abort_others` and only where no kept stream stalls.
//! 8. The PRI queue as the event queue. While `PRIQEN` is 0 the SMMU answers a page request with
//!    `Response Failure` (8.2), so none waits for ever.
//! 9. Set the interrupts up, and set `IRQ_CTRL`.
//!
//! This crate has no registers. `smmu_hw_mmio::takeover` has these steps as types.
//!
//! # Limits
//!
//! - A second level with fewer STEs than `STRTAB_BASE_CFG.SPLIT` allows stays so short. A device with a
//!   stream beyond it is refused ([`AttachError::ShortArray`](crate::AttachError::ShortArray)).
//! - The CDs of nested streams are in a guest's memory, and are not read.
//! - Substreams of a foreign device cannot be attached beside it: replace or block the device first.
//! - Whether a replacement is hitless depends on the old STE: [`entry`](mod@crate::entry) changes two used
//!   words through an invalid entry.
//!
//! # Cost
//!
//! A survey reads each STE of the table and each CD twice. `abort_others` looks at each STE once more than
//! it has rounds, at most four times. Both are linear in the size of the table.

mod adopting;
mod doubt;
mod memory;
mod read;
mod survey;
mod tags;

pub use adopting::{AbortUnconfirmed, Adopting, Adoption, Keep};
pub use doubt::{AdoptError, Doubt, Place};
pub use memory::{AdoptMemory, PhysicalMemory, Unreadable};
pub use read::{LiveStream, ReadBudget, RunningTables, SteArray, StreamKind, StreamTableShape};
pub use survey::Survey;

pub(crate) use tags::ForeignTags;
