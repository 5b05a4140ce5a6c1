//! Real threads on one space: no number is held twice, and none is lost.

use std::cell::Cell;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use rstest::rstest;
use smmu_tags::{AsidSpace, Choice, FreshTag, SpaceConfig, TagError, VmidSpace};
use smmu_types::fake::RecordingSink;
use smmu_types::{Asid, CacheTag, FlushProof, Regime, SmmuId, Vmid};

const THREADS: usize = 4;
const SMMU: SmmuId = SmmuId(0);

thread_local!(static CPU: Cell<usize> = const { Cell::new(0) });

fn number(tag: CacheTag) -> usize {
    match tag {
        CacheTag::Asid(_, asid) => asid.0.into(),
        CacheTag::Vmid(vmid) => vmid.0.into(),
    }
}

/// A pseudo-random number; the same sequence in each run.
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    (*state >> 33) as usize
}

/// Each thread holds some tags and checks that no other thread holds them. Only a few numbers are
/// not reserved, so the space is exhausted often and words run empty all the time.
#[rstest]
#[case(Choice::Lowest, 8, 40)]
#[case(Choice::Lowest, 16, 300)]
#[case(Choice::NextFit, 8, 40)]
#[case(Choice::NextFitByCpu(|| CPU.get()), 16, 300)]
fn inv_1_no_number_is_held_twice(#[case] choice: Choice, #[case] bits: u8, #[case] numbers: u16) {
    // Three of each word of 64 are free.
    let last = u16::MAX >> (16 - bits);
    let free = |n: &u16| n % 64 < 3 && n / 64 < numbers / 3;
    let reserved: Vec<_> = (1..=last).filter(|n| !free(n)).map(Asid).collect();
    let config = SpaceConfig { reserved: &reserved, choice, ..SpaceConfig::default() };
    let space = AsidSpace::with_config(bits, config).unwrap();
    let capacity = space.stats().capacity;
    let held: Vec<_> = (0..=u16::MAX).map(|_| AtomicBool::new(false)).collect();
    let (quarantined, barrier) = (AtomicU32::new(0), Barrier::new(THREADS));

    thread::scope(|scope| {
        for cpu in 0..THREADS {
            let (space, held, quarantined, barrier) = (&space, &held, &quarantined, &barrier);
            scope.spawn(move || {
                CPU.set(cpu);
                let sink = RecordingSink::new();
                let mut mine: Vec<FreshTag> = Vec::new();
                let mut state = cpu as u64;
                barrier.wait();
                for step in 0..200_000 {
                    if random(&mut state) & 1 == 0 && mine.len() < numbers as usize / 3 {
                        match space.allocate(SMMU, Regime::El1, 16) {
                            Ok(tag) => {
                                let before = held[number(tag.tag())].swap(true, Ordering::Relaxed);
                                assert!(!before, "{} is held twice", tag.tag());
                                mine.push(tag);
                            }
                            Err(TagError::Exhausted { .. }) => {}
                            Err(other) => panic!("{other}"),
                        }
                    } else if !mine.is_empty() {
                        let at = random(&mut state) % mine.len();
                        let tag = mine.swap_remove(at);
                        if step % 10_000 == 9_999 {
                            quarantined.fetch_add(1, Ordering::Relaxed);
                            drop(tag.install());
                            continue;
                        }
                        held[number(tag.tag())].store(false, Ordering::Relaxed);
                        if step % 2 == 0 {
                            let retiring = tag.install().retire();
                            let proof = FlushProof::obtain(&sink, SMMU, retiring.tag()).unwrap();
                            retiring.free(proof).unwrap();
                        }
                    }
                }
                for tag in mine {
                    held[number(tag.tag())].store(false, Ordering::Relaxed);
                }
            });
        }
    });
    let quarantined = quarantined.into_inner();
    let stats = space.stats();
    assert_eq!((stats.free, stats.quarantined), (capacity - quarantined, quarantined));
    assert_eq!((stats.fresh, stats.in_use, stats.retiring), (0, 0, 0));
    let rest: Vec<_> = std::iter::from_fn(|| space.allocate(SMMU, Regime::El1, 16).ok()).collect();
    assert_eq!(rest.len() as u32, capacity - quarantined, "a number is lost");
}

/// Two threads claim the same numbers, two others allocate them: each has one owner, and at the end
/// all are free.
#[test]
fn inv_1_no_claimed_number_is_held_twice() {
    // Two numbers of each word of 64, so that the last claim of a word clears its mark.
    let reserved: Vec<_> = (1..=255).filter(|n| n % 64 > 1).map(Vmid).collect();
    let config = SpaceConfig { reserved: &reserved, ..SpaceConfig::default() };
    let space = VmidSpace::with_config(SMMU, 8, config).unwrap();
    let capacity = space.stats().capacity;
    assert_eq!(capacity, 7);
    let held: Vec<_> = (0..=255).map(|_| AtomicBool::new(false)).collect();
    let (claimed, barrier) = (AtomicU32::new(0), Barrier::new(THREADS));
    thread::scope(|scope| {
        for cpu in 0..THREADS {
            let (space, held, claimed, barrier) = (&space, &held, &claimed, &barrier);
            scope.spawn(move || {
                let mut state = cpu as u64;
                barrier.wait();
                for _ in 0..200_000 {
                    let tag = if cpu < 2 {
                        let number = random(&mut state) % 8;
                        let vmid = Vmid((number / 2 * 64 + number % 2) as u16);
                        match space.claim(vmid) {
                            Ok(tag) => {
                                claimed.fetch_add(1, Ordering::Relaxed);
                                assert_eq!(tag.tag(), CacheTag::Vmid(vmid));
                                Some(tag)
                            }
                            Err(TagError::NotFree { .. }) => None,
                            Err(TagError::Zero { .. }) if vmid.0 == 0 => None,
                            Err(other) => panic!("{other}"),
                        }
                    } else {
                        space.allocate().ok()
                    };
                    let Some(tag) = tag else { continue };
                    let before = held[number(tag.tag())].swap(true, Ordering::Relaxed);
                    assert!(!before, "{} is held twice", tag.tag());
                    held[number(tag.tag())].store(false, Ordering::Relaxed);
                }
            });
        }
    });
    assert!(claimed.into_inner() > 1000);
    assert_eq!(space.stats().free, capacity);
    let rest: Vec<_> = std::iter::from_fn(|| space.allocate().ok()).collect();
    assert_eq!(rest.len() as u32, capacity, "a number is lost");
}

/// Three threads hold at most two of seven numbers each, so no allocation may fail.
#[test]
fn no_allocation_fails_while_a_number_is_free() {
    let reserved: Vec<_> = (1..=255).filter(|n| n % 32 != 0).map(Asid).collect();
    let config = SpaceConfig { reserved: &reserved, ..SpaceConfig::default() };
    let space = AsidSpace::with_config(8, config).unwrap();
    assert_eq!(space.stats().capacity, 7);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..200_000 {
                    let one = space.allocate(SMMU, Regime::El1, 8).unwrap();
                    let two = space.allocate(SMMU, Regime::El1, 8).unwrap();
                    drop(one);
                    drop(two);
                }
            });
        }
    });
}
