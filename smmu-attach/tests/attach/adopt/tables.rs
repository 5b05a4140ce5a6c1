//! Forms of stream tables: what is taken over, and where it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rstest::rstest;
use smmu_attach::adopt::*;
use smmu_attach::*;
use smmu_types::fake::*;
use smmu_types::legal::SmmuView;
use smmu_types::regs::strtab::Split;
use smmu_types::*;

use super::rig::*;
use crate::common::*;
use crate::substreams::Reached;
use crate::watched_memory::{Look, WatchedMemory};

#[test]
fn a_linear_table_is_surveyed_and_taken_over() {
    let registers = IdRegisters { idr0: REGISTERS.idr0 & !(3 << 27), ..REGISTERS };
    let windows = HeapWindow::new(PhysAddr(OLD), BYTES);
    let (base, bits) = (OLD, 4);
    let memory = Memory(windows.share(), Arc::new([]));
    let bypass = Ste::bypass(ShareabilityOverride::NonShareable);
    memory.set(base + 5 * 64, bypass.0[0]);
    let tables = RunningTables::new(base, bits, SmmuView::new(registers));
    let survey = Survey::new(tables, &memory, ReadBudget::default()).unwrap();
    assert_eq!(survey.streams().map(|live| live.stream).collect::<Vec<_>>(), [StreamId(5)]);
    let dma = AdoptivePool {
        pool: WatchedMemory(Pool::new(HeapWindow::new(PhysAddr(NEW), BYTES)), Look::default()),
        old: Arc::clone(&memory.0),
        refuses: Arc::default(),
        rounds_up: Arc::default(),
    };
    let env = Env::<Adoptive>::new(dma, RecordingSink::new(), RecordingObserver::new()).unwrap();
    let caps = Capabilities::decode(registers);
    let (config, adoption) = (SmmuConfig::default(), Adoption::new(&survey));
    let adopting = Smmu::adopt(&env, SMMU, caps, config, adoption, |_| Keep::Running).unwrap();
    let smmu = adopting.abort_others().unwrap();
    for stream in 0..16 {
        let expected = if stream == 5 { bypass } else { Ste::ABORT };
        assert_eq!(Ste(memory.entry(base + stream * 64)), expected, "{stream}");
    }
    // The table covers four bits.
    let beyond = smmu.add_device(&[StreamId(16)]);
    assert!(matches!(beyond, Err(AttachError::StreamRange { bits: 4, .. })));
}

/// `BYPASS` is behind another second-level table than the rest, unless one has 2^10 STEs.
#[rstest]
#[case::some(&KEPT, 3)]
#[case::other_second_level(&[BYPASS], 1)]
#[case::all(&LIVE, 4)]
fn inv_3_kept_streams_stay_bit_for_bit_and_others_abort(
    #[case] kept: &[u32],
    #[case] first_free: u16,
    #[values(Split::Six, Split::Eight, Split::Ten)] split: Split,
) {
    let rig = Rig::with(REGISTERS, split);
    assert_eq!(rig.survey().unwrap().shape().split, Some(split));
    let before = rig.stes();
    let smmu = rig.adopt(kept);
    for (stream, old) in LIVE.into_iter().zip(before) {
        let expected = if kept.contains(&stream) { old } else { Ste::ABORT };
        assert_eq!(rig.ste(stream), expected, "{stream:#x}");
    }
    assert_eq!(smmu.stream_table(), rig.old.stream_table());
    let commands = rig.commands();
    let (flush, rounds) = commands.split_last().unwrap();
    assert_eq!(flush, "TLBI_NSNH_ALL");
    assert!(
        (usize::from(kept.len() < LIVE.len())..=3).contains(&rounds.len())
            && rounds.iter().all(|c| c == "CFGI_ALL"),
        "{rounds:?}"
    );
    let mut left = Vec::new();
    while let Some(stream) = smmu.next_foreign_stream(left.last().copied()) {
        left.push(stream);
    }
    assert_eq!(left, kept.iter().copied().map(StreamId).collect::<Vec<_>>());
    // Streams that nobody had, the first and the last of a second level that does not exist yet.
    let (first, last) = (StreamId(0xc00), StreamId(0xc00 + (1 << split.bits()) - 1));
    let device = smmu.add_device(&[first, last]).unwrap();
    assert_eq!(rig.commands().iter().filter(|c| c.starts_with("CFGI_STE")).count(), 1);
    assert!(matches!(device.attachment(), Attachment::Blocked));
    assert_eq!(device.attach(&rig.domain(9, S1)), Ok(Outcome::Done));
    for stream in [first, last] {
        assert_eq!(rig.reached(stream.0), Reached::Stage1(Asid(first_free)));
    }
    // A survey, and so the SMMU, finds the new second level whole.
    let all = rig.survey().unwrap();
    assert!(all.streams().map(|live| live.stream).filter(|s| *s >= first).eq([first, last]));
    let arrays = &all.shape().arrays;
    assert!(arrays.iter().all(|array| array.descriptor.array().unwrap().1 == split.bits()));
}

/// The second level of stream 0x200 has 2^`log2` STEs, and its split allows 2^8.
#[rstest]
fn a_short_second_level_is_taken_over_as_it_is(#[values(0, 3, 7, 8)] log2: u8) {
    let rig = Rig::new();
    let array = OLD + (BYTES as u64 - 0x8000);
    let bypass = Ste::bypass(ShareabilityOverride::NonShareable);
    let reach = 0x200 + (1 << log2) - 1;
    // Behind the array is other memory of the old owner, which looks like STEs.
    for n in 0..512 {
        rig.memory.set(array + n * 64, bypass.0[0]);
    }
    rig.memory.set(rig.descriptor_at(0x200), array | (u64::from(log2) + 1));
    let smmu = rig.adopt(&[reach]);
    for stream in 0x200..0x200 + 512 {
        let expected = if stream < reach { Ste::ABORT } else { bypass };
        let at = array + u64::from(stream - 0x200) * 64;
        assert_eq!(Ste(rig.memory.entry(at)), expected, "{stream:#x}");
    }
    let device = smmu.add_device(&[StreamId(reach)]).unwrap();
    assert_eq!(device.attach(&rig.domain(9, S1)), Ok(Outcome::Done));
    assert!(matches!(rig.reached(reach), Reached::Stage1(_)));
    let beyond = smmu.add_device(&[StreamId(reach + 1)]).map(|_| ());
    let stes = 1 << log2;
    let short = AttachError::ShortArray { smmu: SMMU, stream: StreamId(reach + 1), stes };
    assert_eq!(beyond, if log2 == 8 { Ok(()) } else { Err(short) });
    let at = array + u64::from(stes as u32) * 64;
    assert_eq!(Ste(rig.memory.entry(at)), bypass, "memory behind the array was written");
}

/// A block over whole pages instead of the table would let its neighbours be written.
#[rstest]
#[case::linear(true)]
#[case::two_levels(false)]
fn a_block_of_another_size_is_refused(#[case] linear: bool) {
    let mut rig = Rig::new();
    if linear {
        (rig.base, rig.config) = (OLD + (BYTES as u64 - 0x1000), 4);
    }
    let survey = rig.survey().unwrap();
    let address = survey.shape().base;
    rig.rounds_up.store(true, Ordering::Relaxed);
    let refused = rig.adopting(SMMU, &[]).map(|_| ());
    assert!(
        matches!(refused, Err(AdoptError::Map { address: at, .. }) if at == address),
        "{refused:?}"
    );
}

/// `LOG2SIZE` is below `SPLIT`: one descriptor, whose `Span` reaches beyond the table (6.3.25).
#[rstest]
fn a_table_within_one_second_level_ends_at_its_size(
    #[values(Split::Six, Split::Eight, Split::Ten)] split: Split,
    #[values(0, 3, 5)] log2: u8,
    #[values(true, false)] spans_more: bool,
) {
    let mut rig = Rig::new();
    let (array, reach) = (OLD + (BYTES as u64 - 0x1_0000), (1 << log2) - 1);
    let bypass = Ste::bypass(ShareabilityOverride::NonShareable);
    for n in 0..1u64 << split.bits() {
        rig.memory.set(array + n * 64, bypass.0[0]);
    }
    rig.base = array - 64;
    let span = if spans_more { split.bits() } else { log2 };
    rig.memory.set(rig.base, array | u64::from(span + 1));
    rig.config = 1 << 16 | u32::from(split.bits()) << 6 | u32::from(log2);

    let survey = rig.survey().unwrap();
    assert!(survey.streams().map(|live| live.stream.0).eq(0..=reach));
    let smmu = rig.adopt(&[reach]);
    let ste = |stream: u32| Ste(rig.memory.entry(array + u64::from(stream) * 64));
    for stream in 0..1 << split.bits() {
        let expected = if stream < reach { Ste::ABORT } else { bypass };
        assert_eq!(ste(stream), expected, "{stream:#x}: beyond the table nothing is written");
    }
    let device = smmu.add_device(&[StreamId(reach)]).unwrap();
    assert_eq!(device.attach(&rig.domain(9, S1)), Ok(Outcome::Done));
    assert!(matches!(reached(&rig.memory, ste(reach)), Reached::Stage1(_)));
    let stream = StreamId(reach + 1);
    let refused = smmu.add_device(&[stream]).map(|_| ());
    assert_eq!(refused, Err(AttachError::StreamRange { smmu: SMMU, stream, bits: log2 }));
}

/// The only descriptor is empty: the new owner links an array.
#[rstest]
fn a_table_within_one_second_level_grows_to_its_size(#[values(-1, 0)] beside: i8) {
    let mut rig = Rig::new();
    rig.base = OLD + (BYTES as u64 - 0x2000);
    let bits = Split::Eight.bits().wrapping_add_signed(beside);
    rig.config = 1 << 16 | 8 << 6 | u32::from(bits);
    let smmu = rig.adopt(&[]);
    let (last, stream) = (StreamId((1 << bits) - 1), StreamId(1 << bits));
    let device = smmu.add_device(&[last]).unwrap();
    assert_eq!(device.bypass(), Ok(Outcome::Done));
    assert!(rig.survey().unwrap().streams().map(|live| live.stream).eq([last]));
    let refused = smmu.add_device(&[stream]).map(|_| ());
    assert_eq!(refused, Err(AttachError::StreamRange { smmu: SMMU, stream, bits }));
}
