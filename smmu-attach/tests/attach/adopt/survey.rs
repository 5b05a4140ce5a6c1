//! What a survey finds, and what it refuses.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use rstest::rstest;
use smmu_attach::adopt::*;
use smmu_attach::*;
use smmu_types::legal::Rule;
use smmu_types::*;

use super::rig::*;
use crate::adopt_bytes::{bytes, survey_of};

#[test]
fn every_stream_of_our_own_tables_is_found() {
    let rig = Rig::new();
    let survey = rig.survey().unwrap();
    let found: Vec<_> =
        survey.streams().map(|live| (live.stream.0, live.tags().collect::<Vec<_>>())).collect();
    let expected = [
        (STAGE1, vec![asid(1)]),
        (TWINS[0], vec![asid(1)]),
        (TWINS[1], vec![asid(1)]),
        (STAGE2, vec![VMID1]),
        (TWO_LEVEL, vec![asid(1), asid(2)]),
        (LINEAR, vec![asid(3)]),
        (BYPASS, vec![]),
    ];
    assert_eq!(found, expected);
    for live in survey.streams() {
        assert_eq!(live.ste, rig.ste(live.stream.0));
        let is_right = match live.stream.0 {
            STAGE2 => matches!(live.kind, StreamKind::Stage2 { vmid: Vmid(1) }),
            BYPASS => live.kind == StreamKind::Bypass,
            TWO_LEVEL => {
                matches!(live.kind, StreamKind::Stage1 { table, .. } if table.format == 1)
            }
            _ => matches!(live.kind, StreamKind::Stage1 { table, .. } if table.format == 0),
        };
        assert!(is_right, "{live:?}");
    }
    // The visitor sees the streams that abort as well: two arrays of 2^8 STEs.
    let mut all = 0;
    let shape = rig.tables().visit(&rig.memory, ReadBudget::default(), &mut |_| {
        all += 1;
        Ok(())
    });
    assert_eq!(all, 512);
    let arrays: Vec<_> = shape.unwrap().arrays.iter().map(|array| array.index).collect();
    assert_eq!(arrays, [0, 1]);
}

type Breaks = fn(&mut Rig);

#[rstest]
#[case::base(|rig: &mut Rig| rig.base += 64, |doubt| matches!(doubt, Doubt::Misaligned { place: Place::Registers, .. }))]
#[case::far(|rig: &mut Rig| rig.base = 1 << 50, |doubt| matches!(doubt, Doubt::BeyondOutput { place: Place::Registers, bits: 44, .. }))]
#[case::absent(|rig: &mut Rig| rig.base = 0x7000_0000, |doubt| matches!(doubt, Doubt::Unreadable { place: Place::Registers, .. }))]
#[case::wide(|rig: &mut Rig| { rig.registers.idr1 |= 0x3f; rig.config = 40; }, |doubt| doubt == Doubt::StreamBits { bits: 40 })]
#[case::relative(|rig: &mut Rig| rig.registers.idr1 |= 1 << 28 | 1 << 30, |doubt| doubt == Doubt::Relative)]
#[case::format(|rig: &mut Rig| rig.config |= 3 << 16, |doubt| matches!(doubt, Doubt::Rule { place: Place::Registers, broken } if broken.field == "FMT"))]
#[case::split(|rig: &mut Rig| rig.config |= 1 << 6, |doubt| matches!(doubt, Doubt::Rule { place: Place::Registers, broken } if broken.field == "SPLIT"))]
#[case::span_of_more(|rig: &mut Rig| rig.memory.set(rig.descriptor_at(0x200), 0x4030_0000 | 10), |doubt| matches!(doubt, Doubt::Rule { place: Place::StreamDescriptor(StreamId(0x200)), broken } if broken.field == "Span"))]
#[case::size(|rig: &mut Rig| rig.config += 1, |doubt| matches!(doubt, Doubt::Rule { broken, .. } if broken.field == "LOG2SIZE"))]
#[case::span(|rig: &mut Rig| rig.memory.set(rig.descriptor_at(0x200), 12), |doubt| matches!(doubt, Doubt::Rule { place: Place::StreamDescriptor(StreamId(0x200)), broken } if broken.rule == Rule::SpanReserved))]
#[case::array_far(|rig: &mut Rig| rig.memory.set(rig.descriptor_at(0x200), 1 << 46 | 9), |doubt| matches!(doubt, Doubt::Rule { place: Place::StreamDescriptor(StreamId(0x200)), broken } if broken.field == "L2Ptr"))]
#[case::array_absent(|rig: &mut Rig| rig.memory.set(rig.descriptor_at(0x200), 0x7000_0000 | 9), |doubt| doubt == Doubt::Unreadable { place: Place::Ste(StreamId(0x200)), address: PhysAddr(0x7000_0000) })]
#[case::array_twice(|rig: &mut Rig| rig.memory.set(rig.descriptor_at(0x200), rig.memory.get(rig.descriptor_at(0))), |doubt| matches!(doubt, Doubt::Overlap { .. }))]
#[case::array_in_itself(|rig: &mut Rig| rig.memory.set(rig.descriptor_at(0x200), rig.old.stream_table().0.0 & !0x3fff | 9), |doubt| matches!(doubt, Doubt::Overlap { .. } | Doubt::Rule { .. }))]
#[case::config(|rig: &mut Rig| rig.memory.set(rig.ste_at(BYPASS), 1 | 2 << 1), |doubt| matches!(doubt, Doubt::Rule { place: Place::Ste(StreamId(BYPASS)), broken } if broken.rule == Rule::ReservedConfig))]
#[case::contexts(|rig: &mut Rig| rig.memory.set(rig.ste_at(LINEAR), rig.ste(LINEAR).0[0] | 31 << 59), |doubt| matches!(doubt, Doubt::Rule { place: Place::Ste(StreamId(LINEAR)), broken } if broken.field == "S1CDMax"))]
#[case::context_absent(|rig: &mut Rig| rig.memory.set(rig.ste_at(STAGE1), 1 | 5 << 1 | 0x7000_0000), |doubt| doubt == Doubt::Unreadable { place: Place::Cd(StreamId(STAGE1), 0), address: PhysAddr(0x7000_0000) })]
#[case::context_in_stes(|rig: &mut Rig| rig.memory.set(rig.ste_at(STAGE1), 1 | 5 << 1 | rig.ste_at(0x80)), |doubt| matches!(doubt, Doubt::Overlap { .. } | Doubt::Rule { .. }))]
#[case::leaf_absent(|rig: &mut Rig| rig.memory.set(rig.context_at(TWO_LEVEL) + 8, 0x7000_0001), |doubt| doubt == Doubt::Unreadable { place: Place::Cd(StreamId(TWO_LEVEL), 64), address: PhysAddr(0x7000_0000) })]
#[case::leaf_in_level_1(
    |rig: &mut Rig| {
        let at = rig.context_at(TWO_LEVEL);
        rig.memory.set(at + 24, at & !0xfff | 1);
    },
    |doubt| matches!(doubt, Doubt::Overlap { .. } | Doubt::Rule { .. })
)]
#[case::cd(|rig: &mut Rig| { let at = rig.context_at(STAGE1); rig.memory.set(at, rig.memory.get(at) & !0x3f | 63); }, |doubt| matches!(doubt, Doubt::Rule { place: Place::Cd(StreamId(STAGE1), 0), broken } if broken.field == "T0SZ"))]
#[case::span_of_stes(|rig: &mut Rig| rig.memory.set(rig.ste_at(STAGE2) + 8, rig.ste(STAGE2).0[1] | 1 << 13), |doubt| doubt == Doubt::Contiguous { stream: StreamId(STAGE2) })]
#[case::vmid(|rig: &mut Rig| rig.memory.set(rig.ste_at(STAGE2) + 16, rig.ste(STAGE2).0[2] & !0xffff), |doubt| doubt == Doubt::VmidZero { stream: StreamId(STAGE2) })]
fn inv_2_each_doubt_names_its_place(#[case] breaks: Breaks, #[case] expected: fn(Doubt) -> bool) {
    let mut rig = Rig::new();
    breaks(&mut rig);
    let doubt = rig.survey().unwrap_err();
    assert!(expected(doubt), "{doubt:?}: {doubt}");
    assert!(doubt.to_string().len() > 20);
}

#[test]
fn an_owner_that_still_writes_shows() {
    let rig = Rig::new();
    let (memory, at) = (rig.memory.clone(), rig.ste_at(STAGE1) + 3 * 8);
    let reads = AtomicU64::new(0);
    let changing = |address: PhysAddr, words: &mut [u64]| {
        memory.set(at, reads.fetch_add(1, Ordering::Relaxed));
        memory.read(address, words)
    };
    let place = Place::Ste(StreamId(STAGE1));
    assert_eq!(
        Survey::new(rig.tables(), &changing, ReadBudget::default()).map(|_| ()),
        Err(Doubt::Changing { place, address: PhysAddr(at) })
    );
}

#[test]
fn inv_1_the_budget_bounds_the_reads() {
    let rig = Rig::new();
    let read = AtomicU64::new(0);
    let counting = |address: PhysAddr, words: &mut [u64]| {
        read.fetch_add(words.len() as u64, Ordering::Relaxed);
        rig.memory.read(address, words)
    };
    assert!(Survey::new(rig.tables(), &counting, ReadBudget::default()).is_ok());
    let read_in_all = read.swap(0, Ordering::Relaxed);
    // An ASID of a stream counts as a word, also where streams share a table that is read once.
    let enough = read_in_all + 6;
    assert!(Survey::new(rig.tables(), &counting, ReadBudget::new(enough)).is_ok());
    read.store(0, Ordering::Relaxed);
    for words in [0, 1, enough / 2, enough - 1] {
        let short = Survey::new(rig.tables(), &counting, ReadBudget::new(words));
        assert!(matches!(short, Err(Doubt::TooLarge { words: w, .. }) if w == words));
        assert!(read.swap(0, Ordering::Relaxed) <= words);
    }
}

proptest! {
    /// Words that lead anywhere, also to themselves.
    #[test]
    fn inv_1_any_memory_is_read_to_an_end(
        words in proptest::collection::vec(
            prop_oneof![
                any::<u64>(),
                (0u64..64, 0u64..64).prop_map(|(at, low)| at << 6 | low),
                (0u64..16, any::<u64>()).prop_map(|(at, high)| {
                    at << 6 | 1 | (4 + high % 4) << 1 | (high >> 8 & 3) << 4 | (high >> 60) << 59
                }),
                Just(0x8000_0000_0000_0001 | 1 << 41 | 1 << 31),
            ],
            64..1024,
        ),
        base in 0u64..64,
        config in prop_oneof![any::<u32>(), 0u32..12, (6u32..14).prop_map(|n| 1 << 16 | 8 << 6 | n)],
        idr in any::<[u32; 3]>(),
        real in any::<bool>(),
    ) {
        let registers = if real { REGISTERS } else {
            IdRegisters { idr0: idr[0], idr1: idr[1], idr5: idr[2], ..REGISTERS }
        };
        survey_of(registers, base << 6, config, &words);
    }
}

#[test]
fn the_seeds_of_the_fuzzer_are_read_to_an_end() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/adopt");
    let mut live = 0;
    for seed in std::fs::read_dir(folder).unwrap() {
        live += usize::from(bytes(&std::fs::read(seed.unwrap().path()).unwrap()) > 0);
    }
    assert!(live > 0, "no seed has a live stream");
}
