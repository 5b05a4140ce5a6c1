//! When the faults of each device and SMMU came: counts in bins of time, and of lines.
//!
//! The bins of all lanes are of one width. It doubles when the log becomes longer, so their number
//! is bounded, and the log is read once.

use std::collections::HashMap;

use smmu_types::StreamId;

use super::class::Class;
use super::faults::Seen;
use super::sightings::Sighting;

/// How many bins a lane has.
pub(super) const BINS: usize = 128;
/// The maximum number of lanes; more devices share the last one.
const LANES: usize = 192;

/// A bin of a lane.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bin {
    /// How many faults it has.
    pub(super) count: u64,
    /// The gravest of them.
    pub(super) class: Option<Class>,
    /// The decoded structure of the first.
    pub(super) structure: Option<usize>,
}

impl Bin {
    fn and(self, later: Bin) -> Bin {
        let class = match (self.class, later.class) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Bin {
            count: self.count + later.count,
            class,
            structure: self.structure.or(later.structure),
        }
    }
}

/// Bins of one width from a first position on.
#[derive(Debug)]
struct Axis {
    first: Option<i64>,
    width: i64,
    lanes: Vec<[Bin; BINS]>,
}

impl Axis {
    fn new(width: i64) -> Self {
        Axis { first: None, width, lanes: Vec::new() }
    }

    fn add(&mut self, lane: usize, at: i64, bin: Bin) {
        let first = *self.first.get_or_insert(at);
        // A little out of order: the first bin has it.
        let after = at.saturating_sub(first).max(0);
        while after / self.width >= BINS as i64 {
            self.width = self.width.saturating_mul(2);
            for lane in &mut self.lanes {
                for n in 0..BINS {
                    let bin = |n: usize| lane.get(n).copied().unwrap_or_default();
                    lane[n] = bin(2 * n).and(bin(2 * n + 1));
                }
            }
        }
        if self.lanes.len() <= lane {
            self.lanes.resize(lane + 1, [Bin::default(); BINS]);
        }
        let place = (after / self.width) as usize;
        if let Some(old) = self.lanes.get_mut(lane).and_then(|lane| lane.get_mut(place)) {
            *old = old.and(bin);
        }
    }
}

/// Whose lane it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// A stream of an SMMU.
    Stream(String, StreamId),
    /// An SMMU.
    Smmu(String),
    /// All devices without a lane.
    Others,
}

/// The lanes of a log.
#[derive(Debug)]
pub(super) struct Lanes {
    owners: Vec<Owner>,
    places: HashMap<Owner, usize>,
    times: Axis,
    lines: Axis,
}

impl Default for Lanes {
    fn default() -> Self {
        // A bin is a millisecond, or a line, until the log is longer.
        let (times, lines) = (Axis::new(1_000), Axis::new(1));
        Lanes { owners: Vec::new(), places: HashMap::new(), times, lines }
    }
}

/// A lane as it is drawn.
#[derive(Debug)]
pub(super) struct Lane<'l> {
    pub(super) owner: Owner,
    pub(super) bins: &'l [Bin; BINS],
    pub(super) count: u64,
}

/// Lanes over an axis.
#[derive(Debug)]
pub(super) struct Drawn<'l> {
    /// The most frequent first.
    pub(super) lanes: Vec<Lane<'l>>,
    /// Microseconds or lines of a bin.
    pub(super) width: i64,
    /// Where the axis begins.
    pub(super) first: i64,
}

impl Lanes {
    /// Counts a fault.
    pub(super) fn add(&mut self, sighting: &Sighting<'_>, seen: &Seen, structure: Option<usize>) {
        let smmu = sighting.smmu.to_owned();
        let owner = match sighting.stream {
            Some(stream) => Owner::Stream(smmu, stream),
            None => Owner::Smmu(smmu),
        };
        let lane = self.lane(owner);
        let bin = Bin { count: 1, class: Some(sighting.class), structure };
        if let Some(time) = seen.time {
            self.times.add(lane, time.micros, bin);
        }
        self.lines.add(lane, i64::try_from(seen.line).unwrap_or(i64::MAX), bin);
    }

    fn lane(&mut self, owner: Owner) -> usize {
        if let Some(at) = self.places.get(&owner) {
            return *at;
        }
        let owner = if self.owners.len() + 1 < LANES { owner } else { Owner::Others };
        if let Some(at) = self.places.get(&owner) {
            return *at;
        }
        self.owners.push(owner.clone());
        self.places.insert(owner, self.owners.len() - 1);
        self.owners.len() - 1
    }

    /// The lanes over the time, or else over the lines.
    pub(super) fn drawn(&self, by_time: bool) -> Drawn<'_> {
        let axis = if by_time { &self.times } else { &self.lines };
        let lanes = self.owners.iter().zip(&axis.lanes);
        let mut lanes: Vec<Lane<'_>> = lanes
            .map(|(owner, bins)| {
                let count = bins.iter().map(|bin| bin.count).sum();
                Lane { owner: owner.clone(), bins, count }
            })
            .collect();
        lanes.sort_by_key(|lane| std::cmp::Reverse(lane.count));
        Drawn { lanes, width: axis.width, first: axis.first.unwrap_or(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_widen_and_lose_no_count() {
        let mut axis = Axis::new(1);
        let one = Bin { count: 1, class: Some(Class::Translation), structure: None };
        for at in 100..1100 {
            axis.add(usize::from(at % 2 == 0), at, one);
        }
        axis.add(0, 50, one);
        assert_eq!(axis.width, 8);
        let counts: Vec<u64> =
            axis.lanes.iter().map(|lane| lane.iter().map(|bin| bin.count).sum()).collect();
        assert_eq!(counts, [501, 500]);
        assert_eq!(axis.lanes[1][0].count, 4);
        assert_eq!(axis.lanes[1][124].count, 4);
        axis.add(0, i64::MAX, one);
        assert_eq!(axis.lanes[0].iter().map(|bin| bin.count).sum::<u64>(), 502);
    }

    #[test]
    fn the_gravest_class_of_a_bin_stays() {
        let bin = |class| Bin { count: 1, class: Some(class), structure: None };
        let both = bin(Class::Translation).and(bin(Class::Error));
        assert_eq!((both.count, both.class), (2, Some(Class::Error)));
        assert_eq!(Bin::default().and(bin(Class::Fetch)).class, Some(Class::Fetch));
    }
}
