//! Storms: the same fault of the same stream, thousands of times a second.
//!
//! 1. In each window of time, the first events of a stream and kind are reported, and the others
//!    are counted.
//! 2. The first event of a later window says how many were left out before it.
//! 3. The state is bounded: a fixed number of streams have an entry of their own. If all of them
//!    are in use within the window, the others share one.

use core::time::Duration;

use smmu_types::{EventKind, EventRecord, StreamId};

/// How many streams and kinds a [`StormMeter`] tells apart within a window.
const ENTRIES: usize = 32;

/// When events become a storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StormConfig {
    /// The window. 1 s by default.
    pub window: Duration,
    /// How many events of a stream and kind are reported in a window; 8 by default.
    pub burst: u32,
}

impl Default for StormConfig {
    fn default() -> Self {
        StormConfig { window: Duration::from_secs(1), burst: 8 }
    }
}

/// Whether an event is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Report it. `left_out` like it came before, and were not reported.
    Report {
        /// Events of the same stream and kind that were left out since the last report.
        left_out: u64,
    },
    /// Leave it out: it is counted.
    LeaveOut,
}

/// Events that were left out, and that no later report has told of yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storm {
    /// Stream and kind; `None` for those that shared an entry.
    pub of: Option<(StreamId, EventKind)>,
    /// How many.
    pub left_out: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    of: Option<(StreamId, EventKind)>,
    began: Duration,
    reported: u32,
    left_out: u64,
}

impl Entry {
    fn admit(&mut self, now: Duration, config: &StormConfig) -> Admission {
        if self.is_over(now, config) {
            (self.began, self.reported) = (now, 0);
        }
        if self.reported < config.burst {
            self.reported += 1;
            return Admission::Report { left_out: core::mem::take(&mut self.left_out) };
        }
        self.left_out = self.left_out.saturating_add(1);
        Admission::LeaveOut
    }

    fn is_over(&self, now: Duration, config: &StormConfig) -> bool {
        now.saturating_sub(self.began) >= config.window
    }
}

/// Counts events by stream and kind, and says which to report. It allocates nothing.
#[derive(Clone, Debug)]
pub struct StormMeter {
    config: StormConfig,
    entries: [Entry; ENTRIES],
    others: Entry,
}

impl StormMeter {
    /// A meter that has seen nothing.
    #[must_use]
    pub fn new(config: StormConfig) -> Self {
        StormMeter { config, entries: [Entry::default(); ENTRIES], others: Entry::default() }
    }

    /// Counts an event at a time that does not go back.
    pub fn admit(&mut self, record: &EventRecord, now: Duration) -> Admission {
        let of = Some((record.stream(), record.kind()));
        let config = self.config;
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.of == of) {
            return entry.admit(now, &config);
        }
        let free = self.entries.iter_mut().find(|e| e.of.is_none() || e.is_over(now, &config));
        match free {
            Some(entry) => {
                // What the old entry left out is told with the others.
                let untold = if entry.of.is_some() { entry.left_out } else { 0 };
                *entry = Entry { of, began: now, ..Entry::default() };
                self.others.left_out = self.others.left_out.saturating_add(untold);
                entry.admit(now, &config)
            }
            None => self.others.admit(now, &config),
        }
    }

    /// The storms that no report has told of yet. The next report of each then begins from 0.
    pub fn take_storms(&mut self) -> impl Iterator<Item = Storm> + '_ {
        self.entries.iter_mut().chain(core::iter::once(&mut self.others)).filter_map(|entry| {
            let left_out = core::mem::take(&mut entry.left_out);
            (left_out > 0).then_some(Storm { of: entry.of, left_out })
        })
    }
}
