//! Which events a handler hears of: no known noise, and storms thinned out.

use core::fmt;
use core::time::Duration;

use smmu_types::EventRecord;

use super::storm::{Admission, Storm, StormConfig, StormMeter};

/// Parameters of an [`EventSieve`].
#[derive(Clone, Copy)]
pub struct SieveConfig {
    /// When events become a storm.
    pub storm: StormConfig,
    /// Whether an event is a known spurious one of this SoC: it is counted and not reported. None by
    /// default.
    ///
    /// It never sees the event of a stalled transaction, which waits for an answer. It may run in an
    /// interrupt handler.
    pub is_spurious: fn(&EventRecord) -> bool,
}

impl Default for SieveConfig {
    fn default() -> Self {
        SieveConfig { storm: StormConfig::default(), is_spurious: |_| false }
    }
}

impl fmt::Debug for SieveConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SieveConfig").field("storm", &self.storm).finish_non_exhaustive()
    }
}

/// What a sieve says of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sieved {
    /// Report it.
    Report {
        /// Events of the same stream and kind that were left out since the last report.
        left_out: u64,
    },
    /// One of a storm: it is counted.
    Storm,
    /// Known noise: it is counted.
    Spurious,
}

/// Events so far. Each event is in one of the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SieveCounts {
    /// Reported.
    pub reported: u64,
    /// Left out of a storm.
    pub left_out: u64,
    /// Known noise.
    pub spurious: u64,
}

/// Decides which events are reported. The reader of the event queue has one; it allocates nothing and
/// never asks for the queue to be turned off.
#[derive(Clone, Debug)]
pub struct EventSieve {
    config: SieveConfig,
    meter: StormMeter,
    counts: SieveCounts,
}

impl EventSieve {
    /// A sieve that has seen nothing.
    #[must_use]
    pub fn new(config: SieveConfig) -> Self {
        let (meter, counts) = (StormMeter::new(config.storm), SieveCounts::default());
        EventSieve { config, meter, counts }
    }

    /// Decides about the event of a transaction that is not stalled.
    pub fn sieve(&mut self, record: &EventRecord, now: Duration) -> Sieved {
        if (self.config.is_spurious)(record) {
            self.counts.spurious += 1;
            return Sieved::Spurious;
        }
        match self.meter.admit(record, now) {
            Admission::Report { left_out } => {
                self.counts.reported += 1;
                Sieved::Report { left_out }
            }
            Admission::LeaveOut => {
                self.counts.left_out += 1;
                Sieved::Storm
            }
        }
    }

    /// Events so far.
    #[must_use]
    pub const fn counts(&self) -> SieveCounts {
        self.counts
    }

    /// The storms that no report has told of yet.
    pub fn take_storms(&mut self) -> impl Iterator<Item = Storm> + '_ {
        self.meter.take_storms()
    }
}
