//! Storms are counted and thinned out, and known noise is left out.

use core::time::Duration;

use rstest::rstest;
use smmu_attach::faults::{EventSieve, SieveConfig, SieveCounts, Sieved, Storm, StormConfig};
use smmu_types::{EventKind, EventRecord, Iova, StreamId};

const STORM: StormConfig = StormConfig { window: Duration::from_secs(1), burst: 3 };

fn event(stream: u32) -> EventRecord {
    EventRecord::new(EventKind::F_TRANSLATION, StreamId(stream))
}

fn sieve() -> EventSieve {
    EventSieve::new(SieveConfig { storm: STORM, ..SieveConfig::default() })
}

const FIRST: Sieved = Sieved::Report { left_out: 0 };

#[test]
fn a_storm_is_counted_and_told_with_the_next_report() {
    let mut sieve = sieve();
    // 10,000 events a second, for 2.5 seconds.
    let mut reports = Vec::new();
    for n in 0..25_000_u64 {
        let now = Duration::from_micros(n * 100);
        if let Sieved::Report { left_out } = sieve.sieve(&event(8), now) {
            reports.push((n, left_out));
        }
    }
    let want = [
        (0, 0),
        (1, 0),
        (2, 0),
        (10_000, 9_997),
        (10_001, 0),
        (10_002, 0),
        (20_000, 9_997),
        (20_001, 0),
        (20_002, 0),
    ];
    assert_eq!(reports, want);
    let counts = SieveCounts { reported: 9, left_out: 24_991, spurious: 0 };
    assert_eq!(sieve.counts(), counts);
    let of = Some((StreamId(8), EventKind::F_TRANSLATION));
    let storms: Vec<_> = sieve.take_storms().collect();
    assert_eq!(storms, [Storm { of, left_out: 4_997 }]);
    assert_eq!(sieve.take_storms().count(), 0, "told once");
}

#[test]
fn a_storm_of_one_stream_hides_no_other() {
    let mut sieve = sieve();
    for n in 0..1_000 {
        sieve.sieve(&event(8), Duration::from_millis(n % 900));
    }
    let now = Duration::from_millis(901);
    assert_eq!(sieve.sieve(&event(9), now), FIRST);
    let other = EventRecord::new(EventKind::F_PERMISSION, StreamId(8));
    assert_eq!(sieve.sieve(&other, now), FIRST);
    assert_eq!(sieve.sieve(&event(8), now), Sieved::Storm);
}

/// More streams than the meter tells apart: nothing is lost from the counts, and nothing grows.
#[rstest]
fn every_event_is_counted(#[values(1, 40, 5_000)] streams: u32) {
    let mut sieve = sieve();
    let (mut reported, mut told) = (0, 0);
    for n in 0..60_000_u64 {
        let now = Duration::from_micros(n * 50);
        let stream = (n.wrapping_mul(0x9e37_79b9) >> 7) as u32 % streams;
        if let Sieved::Report { left_out } = sieve.sieve(&event(stream), now) {
            reported += 1;
            told += left_out;
        }
    }
    told += sieve.take_storms().map(|storm| storm.left_out).sum::<u64>();
    let counts = sieve.counts();
    assert_eq!((counts.reported, counts.left_out), (reported, told));
    assert_eq!(reported + told, 60_000);
    // Thinned out: 33 entries, 3 windows and 3 events each, and those that change hands.
    assert!(reported <= 33 * 3 * 4, "{reported} reports");
}

#[test]
fn time_that_stands_still_or_goes_back_reports_no_more() {
    let mut sieve = sieve();
    let seen: Vec<_> = [5, 5, 5, 5, 4, 0]
        .map(|seconds| sieve.sieve(&event(8), Duration::from_secs(seconds)))
        .into();
    assert_eq!(seen, [FIRST, FIRST, FIRST, Sieved::Storm, Sieved::Storm, Sieved::Storm]);
}

#[test]
fn known_noise_is_counted_and_not_reported() {
    let noise = |record: &EventRecord| record.address() == Iova(0) && record.is_read();
    let mut sieve = EventSieve::new(SieveConfig { storm: STORM, is_spurious: noise });
    let read = event(8).with_access(Iova(0), true);
    for _ in 0..100 {
        assert_eq!(sieve.sieve(&read, Duration::ZERO), Sieved::Spurious);
    }
    // Noise takes nothing from the burst of real events.
    let write = event(8).with_access(Iova(0), false);
    assert_eq!(sieve.sieve(&write, Duration::ZERO), FIRST);
    assert_eq!(sieve.counts(), SieveCounts { reported: 1, left_out: 0, spurious: 100 });
}
