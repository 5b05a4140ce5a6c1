//! Stream tables of two levels, and queues that change while the SMMU runs.

use super::{Generator, cfgi_all};
use crate::explore::memory::{
    COMMANDS_LOG2, DEVICES, EVENTS_LOG2, NOWHERE, SMMUS, SPLITS, STREAM_TABLE_LOG2, stream_l1_word,
    stream_table_l1,
};
use crate::explore::raw_op::{Kind, RawOp};

impl Generator {
    /// Another stream table for an SMMU.
    pub(super) fn stream_table(&mut self) {
        let smmu = self.random.below(SMMUS);
        // QEMU does not go back to a linear table.
        let linear = self.kind == Kind::Full && self.random.once_in(4);
        let split = if linear { None } else { self.random.pick(&SPLITS) };
        if let Some(split) = split {
            let leaves = 1 << (STREAM_TABLE_LOG2 - split);
            let words = (0..leaves).map(|n| stream_l1_word(smmu, split, n)).collect();
            self.queued.push_back(RawOp::Store { at: stream_table_l1(smmu), words });
        }
        if let Some(to) = self.splits.get_mut(smmu) {
            *to = split;
        }
        self.queued.push_back(RawOp::StreamTable { smmu, split });
    }

    /// A change of the first level of a stream table, and the commands that make it known. `None`
    /// without such a table.
    pub(super) fn first_level(&mut self) -> Option<(RawOp, Vec<[u64; 2]>)> {
        let (smmu, stream) = self.random.pick(&DEVICES)?;
        let split = self.splits.get(smmu).copied().flatten()?;
        let index = u64::from(stream) >> split;
        let whole = stream_l1_word(smmu, split, index);
        // Span: fewer STEs, none, more than SPLIT allows, reserved; and a leaf beyond all memory.
        let word = match self.random.below(16) {
            0..=10 => whole,
            11 => whole - 1,
            12 => whole & !0x1f | (1 + self.random.below(split as usize) as u64),
            13 => whole & !0x1f,
            14 => whole & !0x1f | self.one_of(&[u64::from(split) + 2, 12, 31], 12),
            _ => NOWHERE | whole & 0x1f,
        };
        let store = RawOp::Store { at: stream_table_l1(smmu) + 8 * index, words: vec![word] };
        // The stream's descriptor with Leaf = 0, or all.
        let wide = self.random.once_in(2);
        let each = DEVICES.map(|(_, stream)| [0x3 | u64::from(stream) << 32, 0]);
        Some((store, if wide { vec![cfgi_all()] } else { each.to_vec() }))
    }

    /// A queue changes, or the driver leaves what comes in it for a while.
    pub(super) fn queue(&mut self) {
        let smmu = self.random.below(SMMUS);
        match self.random.below(4) {
            0 => {
                let log2 = self.random.below(1 + COMMANDS_LOG2 as usize) as u32;
                self.queued.push_back(RawOp::CommandQueue { smmu, log2 });
            }
            1 => {
                let log2 = Some(self.random.below(1 + EVENTS_LOG2 as usize) as u32);
                self.queued.push_back(RawOp::EventQueue { smmu, log2 });
            }
            2 => {
                self.queued.push_back(RawOp::EventQueue { smmu, log2: None });
                self.dma();
                self.dma();
                self.queued.push_back(RawOp::EventQueue { smmu, log2: Some(EVENTS_LOG2) });
            }
            _ if self.kind == Kind::Full => {
                let log2 = Some(self.random.below(3) as u32);
                self.queued.push_back(RawOp::EventQueue { smmu, log2 });
                self.queued.push_back(RawOp::Hold { smmu, on: true });
                for _ in 0..4 + self.random.below(12) {
                    if self.random.once_in(3) { self.page_request() } else { self.dma() }
                }
                self.queued.push_back(RawOp::Hold { smmu, on: false });
                self.queued.push_back(RawOp::EventQueue { smmu, log2: Some(EVENTS_LOG2) });
            }
            _ => {
                let log2 = self.random.below(3) as u32;
                self.queued.push_back(RawOp::CommandQueue { smmu, log2 });
                let commands = (0..20).map(|_| self.command()).collect();
                self.queued.push_back(RawOp::Send { smmu, commands });
            }
        }
    }
}
