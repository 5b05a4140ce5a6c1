//! Descriptors of the trees of 16 and 64 KiB.

use smmu_types::Granule;

use super::{Generator, TOO_HIGH, table_limit};
use crate::explore::memory::{
    ACCESS_FLAG, BASE, BLOCK, BYTES, LANDING, LOW, NOWHERE, PAGE, S1_RW, S2_RW, Stage, TABLE, Tree,
};

/// Input addresses that have a descriptor of their own.
const INPUTS: [u64; 5] =
    [LOW + 0x1_0000, LOW + 0x1f_f000, LOW + 0x20_0000, LANDING[0], LANDING[16]];

impl Generator {
    /// A descriptor of a tree: where it lies, the first address that it maps, its level, and a word.
    pub(super) fn coarse_descriptor(&mut self, tree: Tree) -> (u64, u64, u32, u64) {
        let bytes = tree.granule().bytes();
        let rw = if tree.stage == Stage::One { S1_RW } else { S2_RW };
        match self.random.below(6) {
            0 => (tree.coarse2(), BASE, 2, self.coarse_table(tree, tree.coarse3(), rw)),
            1 if tree.granule() == Granule::K16 => {
                let word = self.coarse_table(tree, tree.root() + 0x4000, rw);
                (tree.root(), BASE, 1, word)
            }
            _ => {
                let input = if tree.stage == Stage::Two && self.random.once_in(4) {
                    // What the SMMU itself reads behind stage 2.
                    BASE + (self.random.below((BYTES / bytes) as usize) as u64) * bytes
                } else {
                    self.one_of(&INPUTS, LOW) & !(bytes - 1)
                };
                let at = tree.coarse3() + 8 * ((input - BASE) / bytes);
                (at, input, 3, self.coarse_page(tree, input, rw))
            }
        }
    }

    fn coarse_page(&mut self, tree: Tree, input: u64, rw: u64) -> u64 {
        let bytes = tree.granule().bytes();
        // A page of tables must not become a page of data, or devices write over it.
        let data = LANDING[0]..LANDING[0] + 0x1000 * LANDING.len() as u64;
        let is_table = tree.stage == Stage::Two && input < BASE + BYTES && !data.contains(&input);
        let to = self.one_of(&[LANDING[0], LANDING[4], LANDING[16]], BASE) & !(bytes - 1);
        let to = if is_table { input } else { to };
        match self.random.below(14) {
            0..=6 => to | PAGE | rw,
            7 | 8 => to | PAGE | self.less_than(tree),
            9 => 0,
            10 => to | PAGE | rw & !ACCESS_FLAG,
            // Reserved at this level.
            11 => to | BLOCK | rw,
            12 => TOO_HIGH | PAGE | rw,
            _ => NOWHERE | PAGE | rw,
        }
    }

    fn coarse_table(&mut self, tree: Tree, next: u64, rw: u64) -> u64 {
        match self.random.below(12) {
            0..=5 => next | TABLE,
            // Blocks stay where they are, so no table becomes a page of data.
            6 | 7 => BASE | BLOCK | rw,
            8 => BASE | BLOCK | self.less_than(tree),
            9 => self.one_of(&[0, 2], 0),
            10 if tree.stage == Stage::One => next | TABLE | table_limit(tree),
            _ => self.one_of(&[TOO_HIGH | TABLE, NOWHERE | TABLE], 0),
        }
    }
}
