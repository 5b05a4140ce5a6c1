//! Writes an STE or CD that the SMMU may read at the same time (IHI 0070, 3.21.3).
//!
//! The SMMU reads an entry in 64-bit words, each atomically, in any order. A change is *hitless* if
//! each step changes at most one word that the SMMU uses: then it sees the old entry or the new
//! one. If two or more such words must change together, the writer first makes the entry invalid.
//!
//! [`advance`] stores one step. The next step follows from the entry in memory and from the target
//! alone, so a caller can change any number of entries with one sync for each round of steps:
//!
//! 1. [`publish`](EntrySlot::publish) each slot: an SMMU that sees a new entry also sees what it
//!    leads to.
//! 2. [`advance`] each entry. If none changed, the entries are written.
//! 3. Send a `CFGI` command for each entry that changed, and one `CMD_SYNC`. Wait, and go to 2.
//!
//! [`write()`] does this for one entry.
//!
//! Invariants:
//!
//! 1. At every sync, the used bits of an entry are those of the old entry, of the new entry, or of
//!    an invalid one.
//! 2. An entry is invalid at a sync only if no hitless order exists.
//! 3. A sync follows every step, and each step changes a word.
//! 4. After a failed sync the entry is invalid.
//!
//! The invariants hold if the SMMU has confirmed every earlier change of the entry. A fetch that
//! began before an earlier failed sync may mix old and new words. Before such an entry is written
//! again, send its `CFGI` command and a `CMD_SYNC`.

use core::ops::Range;
use core::sync::atomic::Ordering;

use smmu_types::seam::DmaBlock;
use smmu_types::{Cd, Ste};

use crate::sync::{Barrier, is_kept};

const WORDS: usize = 8;

/// A table entry of eight words with its valid bit in word 0.
pub trait EntryFormat: Copy {
    /// The eight words.
    fn words(&self) -> [u64; WORDS];
    /// An entry of these words.
    fn from_words(words: [u64; WORDS]) -> Self;
    /// Bits that the SMMU uses.
    fn used(&self) -> [u64; WORDS];
    /// Used bits that may change at any time on the way from `self` to `to`.
    fn safe(&self, to: &Self) -> [u64; WORDS];
}

impl EntryFormat for Ste {
    fn words(&self) -> [u64; WORDS] {
        self.0
    }
    fn from_words(words: [u64; WORDS]) -> Self {
        Ste(words)
    }
    fn used(&self) -> [u64; WORDS] {
        Ste::used(self)
    }
    fn safe(&self, to: &Self) -> [u64; WORDS] {
        Ste::safe(self, to)
    }
}

impl EntryFormat for Cd {
    fn words(&self) -> [u64; WORDS] {
        self.0
    }
    fn from_words(words: [u64; WORDS]) -> Self {
        Cd(words)
    }
    fn used(&self) -> [u64; WORDS] {
        Cd::used(self)
    }
    fn safe(&self, _to: &Self) -> [u64; WORDS] {
        [0; WORDS]
    }
}

/// Eight words of a DMA block that hold one entry.
#[derive(Debug)]
pub struct EntrySlot<'b, B> {
    block: &'b B,
    first: usize,
}

impl<'b, B: DmaBlock> EntrySlot<'b, B> {
    /// Slot `index` of a table, or `None` if the block ends before it.
    #[must_use]
    pub fn new(block: &'b B, index: usize) -> Option<Self> {
        let first = index.checked_mul(WORDS)?;
        (first.checked_add(WORDS)? <= block.words().len()).then_some(EntrySlot { block, first })
    }

    /// The entry in memory now.
    #[must_use]
    pub fn read<E: EntryFormat>(&self) -> E {
        let mut words = [0; WORDS];
        for (word, cell) in words.iter_mut().zip(&self.block.words()[self.range()]) {
            *word = cell.load(Ordering::Relaxed);
        }
        E::from_words(words)
    }

    /// Clear word 0 and publish it. The other words stay.
    pub fn invalidate(&self) {
        self.block.words()[self.first].store(0, Ordering::Relaxed);
        if is_kept(Barrier::InvalidBeforeCommand) {
            self.publish();
        }
    }

    fn range(&self) -> Range<usize> {
        self.first..self.first + WORDS
    }

    /// Publish the entry: the SMMU sees every earlier store of this thread before a later one.
    pub fn publish(&self) {
        self.block.publish(self.range());
    }

    /// Store the words that differ from `live`, and publish them.
    fn store(&self, live: &[u64; WORDS], words: &[u64; WORDS]) {
        for (n, (was, is)) in live.iter().zip(words).enumerate() {
            if was != is {
                self.block.words()[self.first + n].store(*is, Ordering::Relaxed);
            }
        }
        if is_kept(Barrier::StepBeforeCommand) {
            self.publish();
        }
    }
}

/// Store and publish the next step of the way from the entry in `slot` to `target`.
///
/// Returns whether a step was left. After `true` the caller invalidates the SMMU's cached copy of
/// the entry, and waits for its `CMD_SYNC`, before it calls this again for the entry.
///
/// Only the caller writes the slot meanwhile.
#[must_use = "after `true` the SMMU must confirm the step"]
pub fn advance<B: DmaBlock, E: EntryFormat>(slot: &EntrySlot<'_, B>, target: &E) -> bool {
    let live: E = slot.read();
    match next_step(&live, target) {
        Some(words) => {
            slot.store(&live.words(), &words);
            true
        }
        None => false,
    }
}

/// Change the entry in `slot` to `target`, and return the number of syncs.
///
/// `sync` invalidates the SMMU's cached copy of the entry and returns once the SMMU has confirmed.
///
/// The caller has stored all that the new entry leads to, such as a table or a CD. This function
/// publishes the slot once before its first store, as a barrier between those stores and its own.
///
/// # Errors
///
/// The error of `sync`. The entry is then invalid in memory, and the SMMU may still use a cached
/// copy.
pub fn write<B: DmaBlock, E: EntryFormat, X>(
    slot: &EntrySlot<'_, B>,
    target: &E,
    mut sync: impl FnMut() -> Result<(), X>,
) -> Result<u32, X> {
    // Barrier: an SMMU that sees the new entry also sees the tables behind it.
    if is_kept(Barrier::TablesBeforeWrite) {
        slot.publish();
    }
    let mut syncs = 0;
    while advance(slot, target) {
        syncs += 1;
        if let Err(error) = sync() {
            // The SMMU may hold any step, so it must not fetch a valid entry from memory.
            slot.invalidate();
            return Err(error);
        }
    }
    Ok(syncs)
}

/// The words after the next step, or `None` if the entry is `target`.
///
/// The way is at most three steps long. Hitless: the bits that the SMMU does not use, then the one
/// word that it does, then what the old entry used alone. Else: no valid bit, all other words, the
/// first word; the last two are the hitless way from an invalid entry.
fn next_step<E: EntryFormat>(live: &E, target: &E) -> Option<[u64; WORDS]> {
    let (old, new) = (live.words(), target.words());
    if old == new {
        return None;
    }
    let (used_old, used_new, safe) = (live.used(), target.used(), live.safe(target));

    // Bits that the old entry does not use can take their new value at once.
    let mut unused_set = [0; WORDS];
    let mut critical = None;
    let mut differing = 0;
    for n in 0..WORDS {
        let pinned = used_old[n] & !(safe[n] & used_old[n] & used_new[n]);
        unused_set[n] = old[n] & pinned | new[n] & !pinned;
        if unused_set[n] & used_new[n] != new[n] {
            differing += 1;
            critical = Some(n);
        }
    }
    Some(match (differing, critical) {
        (0, _) | (_, None) => new,
        (1, Some(k)) => {
            unused_set[k] = old[k];
            if unused_set == old {
                unused_set[k] = new[k];
            }
            unused_set
        }
        _ => {
            let mut invalid = old;
            invalid[0] = 0;
            invalid
        }
    })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use rstest::rstest;
    use smmu_types::fake::heap_pool;
    use smmu_types::seam::{DmaLayout, DmaMemory};
    use smmu_types::*;
    use std::vec::Vec;

    // The entries of the transitions that Linux's driver tests.
    fn cd_table(default: SubstreamDefault, ats: AtsMode, context: u64) -> Ste {
        let table = TableConfig {
            format: 2,
            context: PhysAddr(context),
            cd_max: 0x1f,
            substream_default: default,
            inner: Cacheability::WriteBack,
            outer: Cacheability::WriteBack,
            shareability: Shareability::Inner,
            stall_disable: true,
            world: StreamWorld::El1,
        };
        let shareability = match default {
            SubstreamDefault::Bypass => ShareabilityOverride::Incoming,
            _ => ShareabilityOverride::NonShareable,
        };
        Ste::stage1(table, ats, shareability).unwrap()
    }

    const CONTEXT: u64 = 0xf0f0_f0f0_f0c0;

    fn ssid0() -> Ste {
        cd_table(SubstreamDefault::Substream0, AtsMode::Full, CONTEXT)
    }

    fn s1dss_bypass() -> Ste {
        cd_table(SubstreamDefault::Bypass, AtsMode::Full, CONTEXT)
    }

    fn bypass() -> Ste {
        Ste::bypass(ShareabilityOverride::Incoming)
    }

    fn s2(ats: AtsMode, stall: bool) -> Ste {
        let config = Stage2Config {
            vmid: Vmid(0),
            t0sz: 4,
            start_level: 3,
            inner: Cacheability::WriteThrough,
            outer: Cacheability::WriteBack,
            shareability: Shareability::Inner,
            granule: Granule::K16,
            output_size: OutputSize::Bits36,
            table: PhysAddr(0x000d_beef_dead_bee0),
            forced_write_back: false,
            protected_walk: true,
            stall,
            record: true,
        };
        Ste::stage2(config, ats, ShareabilityOverride::Incoming).unwrap()
    }

    // With stalls on, S1STALLD is clear and ATS is off.
    fn s1_stall() -> Ste {
        let mut ste = cd_table(SubstreamDefault::Substream0, AtsMode::Off, CONTEXT);
        ste.0[1] &= !(1 << 27);
        ste
    }

    fn cd(asid: u16) -> Cd {
        Cd::stage1(Stage1Config {
            asid: Asid(asid),
            t0sz: 4,
            granule: Granule::K16,
            inner: Cacheability::WriteThrough,
            outer: Cacheability::WriteBack,
            shareability: Shareability::Inner,
            output_size: OutputSize::Bits36,
            table: PhysAddr(0x000d_beef_dead_bee0),
            mair: 0x0abc_def0_1234_5678,
            stall: false,
        })
        .unwrap()
    }

    fn masked<E: EntryFormat>(entry: &E, pattern: &E, safe: [u64; WORDS]) -> [u64; WORDS] {
        let (words, used) = (entry.words(), pattern.used());
        std::array::from_fn(|n| words[n] & used[n] & !safe[n])
    }

    /// Write `new` over `old`; return the number of syncs, and whether one saw an invalid entry.
    fn transition<E: EntryFormat + PartialEq + std::fmt::Debug>(old: E, new: E) -> (u32, bool) {
        let pool = heap_pool(1 << 16);
        let block = pool.allocate(DmaLayout::new(128, 64).unwrap()).unwrap();
        let slot = EntrySlot::new(&block, 1).unwrap();
        for (cell, word) in block.words()[8..].iter().zip(old.words()) {
            cell.store(word, Ordering::Relaxed);
        }
        let safe = old.safe(&new);
        let mut seen: Vec<[u64; WORDS]> = Vec::new();
        let syncs = write(&slot, &new, || {
            let now: E = slot.read();
            // inv_1: the used bits are those of the old entry or of the new one.
            let invalid = now.words()[0] & 1 == 0 && now.words()[0] == 0;
            // A safe bit may decide whether another is used (S2S beside EATS). That other is then
            // zero.
            let (was, is) = (old.used(), now.used());
            let zero = (0..WORDS).all(|n| now.words()[n] & (is[n] ^ was[n]) == 0);
            let is_old = masked(&now, &old, safe) == masked(&old, &old, safe) && zero;
            let is_new = masked(&now, &new, safe) == masked(&new, &new, safe);
            assert!(invalid || is_old || is_new, "a mix: {now:?}");
            seen.push(now.words());
            Ok::<_, ()>(())
        })
        .unwrap();
        // inv_3: each sync follows a change.
        assert_eq!(syncs as usize, seen.len());
        let mut before = old.words();
        for words in &seen {
            assert_ne!(*words, before, "a sync without a change");
            before = *words;
        }
        assert_eq!(slot.read::<E>(), new);
        assert!(
            block.words()[..8].iter().all(|w| w.load(Ordering::Relaxed) == 0),
            "wrote elsewhere"
        );
        (syncs, seen.iter().any(|words| words[0] == 0))
    }

    // Expected syncs and hitlessness come from the tests of Linux's driver.
    #[rstest]
    #[case::bypass_to_abort(bypass(), Ste::ABORT, 2)]
    #[case::abort_to_bypass(Ste::ABORT, bypass(), 2)]
    #[case::cdtable_to_abort(ssid0(), Ste::ABORT, 2)]
    #[case::abort_to_cdtable(Ste::ABORT, ssid0(), 2)]
    #[case::cdtable_to_bypass(ssid0(), bypass(), 3)]
    #[case::bypass_to_cdtable(bypass(), ssid0(), 3)]
    #[case::s1dss_ssid0_to_bypass(ssid0(), s1dss_bypass(), 1)]
    #[case::s1dss_bypass_to_ssid0(s1dss_bypass(), ssid0(), 1)]
    #[case::s1dssbypass_to_stebypass(s1dss_bypass(), bypass(), 2)]
    #[case::stebypass_to_s1dssbypass(bypass(), s1dss_bypass(), 2)]
    #[case::s2_to_abort(s2(AtsMode::Full, false), Ste::ABORT, 2)]
    #[case::abort_to_s2(Ste::ABORT, s2(AtsMode::Full, false), 2)]
    #[case::s2_to_bypass(s2(AtsMode::Full, false), bypass(), 2)]
    #[case::bypass_to_s2(bypass(), s2(AtsMode::Full, false), 2)]
    #[case::s1_to_s2(ssid0(), s2(AtsMode::Full, false), 3)]
    #[case::s2_to_s1(s2(AtsMode::Full, false), ssid0(), 3)]
    #[case::s1_to_s2_stall(s1_stall(), s2(AtsMode::Off, true), 3)]
    #[case::s2_to_s1_stall(s2(AtsMode::Off, true), s1_stall(), 3)]
    fn inv_1_to_3_hitless_ste(#[case] old: Ste, #[case] new: Ste, #[case] syncs: u32) {
        assert_eq!(transition(old, new), (syncs, false));
    }

    #[test]
    fn inv_2_two_words_at_once_go_through_invalid() {
        let new = cd_table(SubstreamDefault::Bypass, AtsMode::Full, 0x4b4b_4b4b_4b40);
        assert_eq!(transition(ssid0(), new), (3, true));
    }

    /// `EATS` may change at any time, so it does not count as a second word.
    #[test]
    fn inv_2_ats_goes_off_beside_another_word() {
        let old = cd_table(SubstreamDefault::Substream0, AtsMode::Full, CONTEXT);
        let new = cd_table(SubstreamDefault::Substream0, AtsMode::Off, 0x4b4b_4b4b_4b40);
        for (from, to) in [(old, new), (new, old)] {
            let (syncs, invalid) = transition(from, to);
            assert!(!invalid && syncs <= 3, "{syncs}");
        }
        // With `EATS` of split stages it counts.
        let split = cd_table(SubstreamDefault::Substream0, AtsMode::Split, CONTEXT);
        assert!(transition(split, new).1);
    }

    /// No bit of a CD may change at any time.
    #[test]
    fn inv_2_two_words_of_a_cd_go_through_invalid() {
        let old = cd(778);
        for (word, bit) in [(1, 1 << 12), (3, 1)] {
            let mut new = old;
            // `T0SZ`, and one bit of another word.
            new.0[0] ^= 1;
            new.0[word] ^= bit;
            assert!(transition(old, new).1, "word {word}");
        }
    }

    // From invalid to a CD, every sync except the last sees an invalid entry.
    #[rstest]
    #[case::set(Cd::INVALID, cd(1997), 2, true)]
    #[case::clear(cd(1997), Cd::INVALID, 2, true)]
    #[case::change_asid(cd(778), cd(1997), 1, false)]
    #[case::change_asid_back(cd(1997), cd(778), 1, false)]
    fn cd_transitions(#[case] old: Cd, #[case] new: Cd, #[case] syncs: u32, #[case] invalid: bool) {
        assert_eq!(transition(old, new), (syncs, invalid));
    }

    #[test]
    fn every_pair_of_entries_is_old_new_or_invalid() {
        let entries = [
            Ste::INVALID,
            Ste::ABORT,
            bypass(),
            ssid0(),
            s1dss_bypass(),
            s1_stall(),
            cd_table(SubstreamDefault::Terminate, AtsMode::Split, 0x1000),
            s2(AtsMode::Full, false),
            s2(AtsMode::Off, true),
            s2(AtsMode::Split, true),
        ];
        for old in entries {
            for new in entries {
                let (syncs, _) = transition(old, new);
                assert!(syncs <= 3);
                assert_eq!(syncs == 0, old == new);
            }
        }
    }

    /// Many entries, of each kind that an STE can be.
    fn generated_stes() -> Vec<Ste> {
        let mut all = std::vec![Ste::INVALID, Ste::ABORT];
        for shareability in [ShareabilityOverride::Incoming, ShareabilityOverride::NonShareable] {
            all.push(Ste::bypass(shareability));
        }
        let modes = [AtsMode::Off, AtsMode::Full, AtsMode::Split];
        for ats in modes {
            for default in [
                SubstreamDefault::Terminate,
                SubstreamDefault::Bypass,
                SubstreamDefault::Substream0,
            ] {
                for context in [CONTEXT, 0x4b4b_4b4b_4b40] {
                    all.push(cd_table(default, ats, context));
                }
            }
            all.push(s2(ats, false));
        }
        all.push(s1_stall());
        all.push(s2(AtsMode::Off, true));
        // Another VMID and another table: two words.
        let mut other = s2(AtsMode::Full, false);
        other.0[2] ^= 0x3;
        all.push(other);
        other.0[3] ^= 0x1000;
        all.push(other);
        all
    }

    fn generated_cds() -> Vec<Cd> {
        let mut all = std::vec![Cd::INVALID, cd(778), cd(1997)];
        for word in 1..=3 {
            let mut other = cd(778);
            other.0[word] ^= 0x1_0000;
            all.push(other);
            other.0[0] ^= 0x1;
            all.push(other);
        }
        all
    }

    /// Every mixture of words that a fetch can see between two syncs is old, new or invalid.
    fn every_fetch<E: EntryFormat + PartialEq + std::fmt::Debug>(old: E, new: E) -> u32 {
        let (safe, mut live, mut steps) = (old.safe(&new), old, 0);
        while let Some(next) = next_step(&live, &new) {
            steps += 1;
            assert!(steps <= 3, "{old:?} to {new:?} does not end");
            let now = live.words();
            let changed: Vec<usize> = (0..WORDS).filter(|&n| now[n] != next[n]).collect();
            assert!(!changed.is_empty(), "a step that stores nothing");
            for mixture in 0..1u32 << changed.len() {
                let mut words = now;
                for (bit, &n) in changed.iter().enumerate() {
                    if mixture >> bit & 1 != 0 {
                        words[n] = next[n];
                    }
                }
                let view = E::from_words(words);
                let is =
                    |pattern: &E| masked(&view, pattern, safe) == masked(pattern, pattern, safe);
                assert!(
                    words[0] & 1 == 0 || is(&old) || is(&new),
                    "a fetch sees {view:?} on the way from {old:?} to {new:?}"
                );
            }
            live = E::from_words(next);
        }
        assert_eq!(live, new);
        steps
    }

    #[test]
    fn every_fetch_on_every_way_sees_old_new_or_invalid() {
        let (stes, cds) = (generated_stes(), generated_cds());
        let mut ways = [0; 4];
        for &old in &stes {
            for &new in &stes {
                ways[every_fetch(old, new) as usize] += 1;
            }
        }
        for &old in &cds {
            for &new in &cds {
                ways[every_fetch(old, new) as usize] += 1;
            }
        }
        assert!(ways[1..].iter().all(|&count| count > 20), "{ways:?}");
    }

    /// Three entries that become one, in rounds: as many rounds as the longest way has steps.
    #[test]
    fn entries_step_together() {
        let stes = generated_stes();
        let pool = heap_pool(1 << 16);
        let block = pool.allocate(DmaLayout::new(3 * 64, 64).unwrap()).unwrap();
        for (n, &new) in stes.iter().enumerate() {
            for shift in 1..stes.len() {
                let olds = [0, 1, 2].map(|k| stes[(n + k * shift + 1) % stes.len()]);
                for (cell, word) in block.words().iter().zip(olds.iter().flat_map(|old| old.0)) {
                    cell.store(word, Ordering::Relaxed);
                }
                let slots = [0, 1, 2].map(|k| EntrySlot::new(&block, k).unwrap());
                let mut rounds = 0;
                while slots.iter().fold(false, |any, slot| advance(slot, &new) | any) {
                    rounds += 1;
                }
                let longest = olds.iter().map(|&old| every_fetch(old, new)).max();
                assert_eq!(Some(rounds), longest);
                assert!(slots.iter().all(|slot| slot.read::<Ste>() == new));
            }
        }
    }

    #[rstest]
    fn inv_4_a_failed_sync_leaves_an_invalid_entry(#[values(1, 2, 3)] failing: u32) {
        let pool = heap_pool(1 << 16);
        let block = pool.allocate(DmaLayout::new(64, 64).unwrap()).unwrap();
        let slot = EntrySlot::new(&block, 0).unwrap();
        for (cell, word) in block.words().iter().zip(ssid0().words()) {
            cell.store(word, Ordering::Relaxed);
        }
        let mut count = 0;
        let failed = write(&slot, &bypass(), || {
            count += 1;
            if count == failing { Err("no answer") } else { Ok(()) }
        });
        assert_eq!(failed, Err("no answer"));
        assert_eq!(count, failing);
        assert_eq!(slot.read::<Ste>().decode(), SteConfig::Invalid);
    }

    #[test]
    fn a_slot_ends_with_its_block() {
        let pool = heap_pool(1 << 16);
        let block = pool.allocate(DmaLayout::new(128, 64).unwrap()).unwrap();
        assert!(EntrySlot::new(&block, 1).is_some());
        assert!(EntrySlot::new(&block, 2).is_none());
        assert!(EntrySlot::new(&block, usize::MAX).is_none());
    }
}
