//! Loom checks the steps at `Bitmap` and `Numbers`: every interleaving of two or three threads, on
//! words of two bits.
//!
//!     RUSTFLAGS="--cfg loom" cargo test --release -p smmu-tags --test loom
//!
//! For each barrier one test leaves it out, and loom must find the failure.
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(unsafe_code, reason = "memory whose accesses loom checks")]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use smmu_tags::model::{Barrier, Bitmap, Numbers, TagState, without};
use smmu_tags::{AsidSpace, Choice, Listener, SpaceConfig};
use smmu_types::fake::RecordingSink;
use smmu_types::model as count;
use smmu_types::seam::{Notice, Observer};
use smmu_types::{Asid, CacheTag, FlushProof, Regime, SmmuId};

fn check(model: impl Fn() + Sync + Send + 'static) {
    check_up_to(None, model);
}

fn check_up_to(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    // A space of 8 bits takes a few branches for each number that it reserves.
    builder.max_branches = 10_000;
    builder.check(model);
}

/// Runs a model without the marks too, which are a hint: the truth of step 8 must not need them.
fn by_words(barrier: Barrier, model: impl FnOnce()) {
    without(Barrier::ByMarks, || without(barrier, model));
}

/// A bitmap of `bits` bits, all claimed but `free`.
fn bitmap(bits: usize, free: &[usize]) -> Arc<Bitmap<1>> {
    let map = Bitmap::new(bits).unwrap();
    for bit in (0..bits).filter(|bit| !free.contains(bit)) {
        assert!(map.claim_this(bit));
    }
    Arc::new(map)
}

/// Numbers below `numbers`, all taken but `free`.
fn numbers(numbers: u32, choice: Choice, free: &[u16]) -> Arc<Numbers<1>> {
    let all = Numbers::new(numbers, choice).unwrap();
    let taken: Vec<_> = (1..numbers).map(|_| all.take(numbers).unwrap()).collect();
    for number in taken.into_iter().filter(|number| free.contains(number)) {
        all.put_back(number, TagState::Fresh);
    }
    Arc::new(all)
}

// Steps 1 and 2.

#[test]
fn inv_1_no_number_is_allocated_twice() {
    for free in [&[2, 3][..], &[1, 2], &[0, 1, 2, 3]] {
        check(move || {
            let map = bitmap(4, free);
            let other = thread::spawn({
                let map = Arc::clone(&map);
                move || map.claim(0, 4).map(|claimed| claimed.bit)
            });
            let mine = map.claim(0, 4).unwrap().bit;
            assert_ne!(other.join().unwrap().unwrap(), mine);
            assert!(map.is_marked());
        });
    }
}

/// An owner writes a value and gives its number back; a thread that gets the number must see the
/// value.
fn handover(claim: fn(&Bitmap<1>) -> bool) {
    check(move || {
        let map = bitmap(2, &[]);
        let value = Arc::new(AtomicUsize::new(0));
        let owner = thread::spawn({
            let (map, value) = (Arc::clone(&map), Arc::clone(&value));
            move || {
                value.store(1, Ordering::Relaxed);
                map.give(1);
            }
        });
        if claim(&map) {
            let seen = value.load(Ordering::Relaxed);
            assert_eq!(seen, 1, "the number came before what its last owner did");
        }
        owner.join().unwrap();
    });
}

#[test]
fn steps_1_and_2_what_the_last_owner_did_comes_first() {
    handover(|map| map.claim(0, 2).is_some());
    handover(|map| map.claim_this(1));
}

#[test]
#[should_panic(expected = "the number came before what its last owner did")]
fn step_1_without_the_release_the_new_owner_may_be_early() {
    without(Barrier::GiveRelease, || handover(|map| map.claim(0, 2).is_some()));
}

#[test]
#[should_panic(expected = "the number came before what its last owner did")]
fn step_2_without_the_acquire_the_new_owner_may_be_early() {
    without(Barrier::ClaimAcquire, || handover(|map| map.claim_this(1)));
}

// Steps 3 to 6.

/// One thread takes the last bit of a word, another gives one back to it.
fn last_and_first(bits: usize) {
    check(move || {
        let map = bitmap(bits, &[1]);
        let giver = thread::spawn({
            let map = Arc::clone(&map);
            move || map.give(0)
        });
        assert!(map.claim_this(1));
        giver.join().unwrap();
        assert!(map.is_marked(), "a free number lies in a word that is not marked");
        assert_eq!(map.claim(0, bits).unwrap().bit, 0);
    });
}

#[test]
fn inv_2_a_word_with_a_free_bit_stays_marked() {
    last_and_first(4);
    last_and_first(8);
    without(Barrier::ByMarks, || last_and_first(4));
}

#[test]
#[should_panic(expected = "a free number lies in a word that is not marked")]
fn step_3_without_the_mark_a_free_bit_is_unmarked() {
    without(Barrier::Mark, || last_and_first(4));
}

#[test]
#[should_panic(expected = "a free number lies in a word that is not marked")]
fn step_3_without_the_release_a_free_bit_is_unmarked() {
    without(Barrier::MarkRelease, || last_and_first(4));
}

#[test]
#[should_panic(expected = "a free number lies in a word that is not marked")]
fn step_4_without_the_acquire_a_free_bit_is_unmarked() {
    without(Barrier::UnmarkAcquire, || last_and_first(4));
}

#[test]
#[should_panic(expected = "a free number lies in a word that is not marked")]
fn step_5_without_the_recheck_a_free_bit_is_unmarked() {
    without(Barrier::Recheck, || last_and_first(4));
}

#[test]
#[should_panic(expected = "a free number lies in a word that is not marked")]
fn step_5_without_the_recheck_a_free_bit_is_unmarked_two_levels_up() {
    without(Barrier::Recheck, || last_and_first(8));
}

#[test]
fn inv_2_three_threads_across_the_summary() {
    check(|| {
        let map = bitmap(8, &[1]);
        let givers = [0, 2].map(|bit| {
            let map = Arc::clone(&map);
            thread::spawn(move || map.give(bit))
        });
        let mine = map.claim(0, 8).unwrap().bit;
        givers.into_iter().for_each(|giver| giver.join().unwrap());
        assert!(map.is_marked());
        let rest = [map.claim(0, 8).unwrap().bit, map.claim(0, 8).unwrap().bit];
        let mut all = [mine, rest[0], rest[1]];
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
        assert_eq!(map.claim(0, 8), None);
    });
}

#[test]
fn inv_2_two_frees_in_one_word_and_in_two() {
    for bits in [[0, 1], [1, 2], [3, 4]] {
        check(move || {
            let map = bitmap(8, &[]);
            let giver = thread::spawn({
                let map = Arc::clone(&map);
                move || map.give(bits[0])
            });
            map.give(bits[1]);
            giver.join().unwrap();
            assert!(map.is_marked());
            assert_eq!(bits.map(|_| map.claim(0, 8).unwrap().bit), bits);
        });
    }
}

#[test]
fn inv_3_a_thread_finds_what_it_gave_back() {
    // The other thread may have filled the word, and not marked it yet.
    check(|| {
        let map = bitmap(4, &[]);
        let giver = thread::spawn({
            let map = Arc::clone(&map);
            move || map.give(0)
        });
        map.give(1);
        assert!(map.claim(0, 4).is_some());
        giver.join().unwrap();
        assert!(map.is_marked());
    });
}

// Steps 7 to 9.

/// Some number is free at every moment, but not always the same one.
fn moving_hole() {
    moving_hole_taken_by(|all, number| all.reserve(number));
}

/// [`moving_hole`], whose second number is taken by `take`.
fn moving_hole_taken_by(take: fn(&Numbers<1>, u16) -> bool) {
    check(move || {
        let all = numbers(4, Choice::Lowest, &[3]);
        let mover = thread::spawn({
            let all = Arc::clone(&all);
            move || {
                all.put_back(1, TagState::Fresh);
                take(&all, 3);
            }
        });
        assert!(all.take(4).is_some(), "exhausted, though a number was free at every moment");
        mover.join().unwrap();
    });
}

#[test]
fn step_9_exhausted_is_true_of_one_moment() {
    moving_hole();
    without(Barrier::ByMarks, moving_hole);
}

#[test]
#[should_panic(expected = "exhausted, though a number was free at every moment")]
fn step_9_without_the_recount_exhausted_is_false() {
    by_words(Barrier::Recount, moving_hole);
}

#[test]
#[should_panic(expected = "exhausted, though a number was free at every moment")]
fn step_8_without_the_acquire_exhausted_is_false() {
    by_words(Barrier::ScanAcquire, moving_hole);
}

#[test]
#[should_panic(expected = "exhausted, though a number was free at every moment")]
fn step_2_without_the_release_exhausted_is_false() {
    by_words(Barrier::ClaimRelease, moving_hole);
}

#[test]
#[should_panic(expected = "exhausted, though a number was free at every moment")]
fn step_7_without_the_release_exhausted_is_false() {
    by_words(Barrier::CountRelease, moving_hole);
}

#[test]
fn the_last_number_goes_to_one_of_two() {
    for choice in [Choice::Lowest, Choice::NextFit] {
        check(move || {
            let all = numbers(4, choice, &[2]);
            let other = thread::spawn({
                let all = Arc::clone(&all);
                move || all.take(4)
            });
            let mine = all.take(4);
            let both = [mine, other.join().unwrap()];
            assert!(both.contains(&Some(2)) && both.contains(&None));
            assert_eq!((all.stats().free, all.stats().fresh), (0, 3));
            all.put_back(2, TagState::Fresh);
            assert_eq!(all.take(4), Some(2));
        });
    }
}

#[test]
fn inv_1_a_claim_beside_an_allocation_and_a_claim() {
    for other_claims in [false, true] {
        check(move || {
            let all = numbers(4, Choice::Lowest, &[2]);
            let other = thread::spawn({
                let all = Arc::clone(&all);
                move || if other_claims { all.take_this(2) } else { all.take(4).is_some() }
            });
            let mine = all.take_this(2);
            assert_ne!(other.join().unwrap(), mine, "one of the two gets it");
            assert!(all.is_marked());
            assert_eq!((all.stats().free, all.take(4)), (0, None));
            all.put_back(2, TagState::Fresh);
            assert!(all.take_this(2));
        });
    }
}

/// A thread claims a number and another allocates; a number that is given back meanwhile is found.
#[test]
fn step_9_a_claim_makes_no_exhausted_false() {
    moving_hole_taken_by(|all, number| all.take_this(number));
}

#[test]
fn next_fit_gives_two_threads_two_numbers() {
    // Without the bound this test takes minutes.
    check_up_to(Some(3), || {
        let all = Arc::new(Numbers::<1>::new(8, Choice::NextFit).unwrap());
        let other = thread::spawn({
            let all = Arc::clone(&all);
            move || {
                let number = all.take(8).unwrap();
                all.put_back(number, TagState::Fresh);
                all.take(8).unwrap()
            }
        });
        let mine = all.take(8).unwrap();
        assert_ne!(other.join().unwrap(), mine);
        let stats = all.stats();
        assert_eq!((stats.fresh, stats.free), (2, 5));
        assert!(all.is_marked());
    });
}

// The states, through the public API.

#[test]
fn two_tags_live_and_end_side_by_side() {
    check(|| {
        let reserved: Vec<_> = (1..254).map(Asid).collect();
        let config = SpaceConfig { reserved: &reserved, ..SpaceConfig::default() };
        let space = AsidSpace::with_config(8, config).unwrap();
        let allocate = |space: &AsidSpace| space.allocate(SmmuId(0), Regime::El1, 8);
        let other = thread::spawn({
            let space = space.clone();
            move || {
                let retiring = allocate(&space).unwrap().install().retire();
                let sink = RecordingSink::new();
                let proof = FlushProof::obtain(&sink, SmmuId(0), retiring.tag()).unwrap();
                retiring.free(proof).unwrap()
            }
        });
        let mine = allocate(&space).unwrap();
        assert!(mine.tag() >= CacheTag::Asid(Regime::El1, Asid(254)));
        other.join().unwrap();
        let both = [mine.tag(), allocate(&space).unwrap().tag()];
        assert_ne!(both[0], both[1]);
        drop(mine.install());
        let stats = space.stats();
        assert_eq!((stats.capacity, stats.free, stats.quarantined), (2, 1, 1));
    });
}

/// A listener whose calls read, and whose drop writes, memory that loom checks.
struct Mortal(UnsafeCell<u32>);

// SAFETY: loom checks all accesses.
unsafe impl Sync for Mortal {}
// SAFETY: as above.
unsafe impl Send for Mortal {}

impl Observer for Mortal {
    fn notice(&self, _: Notice) {
        // SAFETY: loom checks the access.
        assert_eq!(self.0.with(|value| unsafe { *value }), 7);
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        // SAFETY: loom checks the access.
        self.0.with_mut(|value| unsafe { *value = 0 });
    }
}

/// A tag that its thread drops in use is read by the listener, while another thread drops the last
/// handle. The later of the two frees the space and the listener.
fn last_user_race() {
    check_up_to(Some(2), || {
        let listener: Listener = std::sync::Arc::new(Mortal(UnsafeCell::new(7)));
        let config = SpaceConfig { listener: Some(listener), ..SpaceConfig::default() };
        let space = AsidSpace::with_config(8, config).unwrap();
        let tag = space.allocate(SmmuId(0), Regime::El1, 8).unwrap().install();
        let dropper = thread::spawn(move || drop(tag));
        drop(space);
        dropper.join().unwrap();
    });
}

#[test]
fn a_space_is_not_freed_under_a_tag() {
    last_user_race();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_the_release_of_the_count_a_space_is_freed_under_a_tag() {
    count::without(count::Barrier::CountRelease, last_user_race);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_the_acquire_of_the_count_a_space_is_freed_under_a_tag() {
    count::without(count::Barrier::CountAcquire, last_user_race);
}
