//! The tracks of a process, and the events on them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use smmu_engine::record::TimeUnit;

/// The kinds of tracks, in the order in which they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    Steps,
    Domain,
    Queue,
    Device,
    Dma,
    Tag,
}

/// Something that lasts.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    name: String,
    start: u64,
    end: u64,
    /// The row of the record that an arrow names.
    pub(super) row: Option<usize>,
    /// What it says when it is selected.
    pub(super) about: Value,
}

impl Slice {
    pub(super) fn new(name: &str, start: u64, end: u64) -> Self {
        let about = Value::Object(serde_json::Map::new());
        Slice { name: name.to_owned(), start, end: end.max(start), row: None, about }
    }
}

pub(super) struct Tracks {
    process: usize,
    unit: TimeUnit,
    /// The number of each track.
    threads: BTreeMap<(Group, String), usize>,
    /// When the last batch of a track ends.
    busy: BTreeMap<String, u64>,
    /// Where each row has its slice.
    rows: BTreeMap<usize, (usize, u64)>,
    events: Vec<Value>,
}

impl Tracks {
    pub(super) fn new(process: usize, unit: TimeUnit) -> Self {
        let (threads, busy, rows) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Tracks { process, unit, threads, busy, rows, events: Vec::new() }
    }

    /// A time in microseconds, as the format counts.
    fn time(&self, time: u64) -> Value {
        match self.unit {
            TimeUnit::Steps => time.into(),
            TimeUnit::Nanoseconds => (time as f64 / 1000.0).into(),
        }
    }

    fn thread(&mut self, group: Group, name: &str) -> usize {
        let next = self.threads.len() + 1;
        *self.threads.entry((group, name.to_owned())).or_insert(next)
    }

    /// The first track of this name whose last slice has ended: slices of a track must nest.
    pub(super) fn free_track(&mut self, name: &str, start: u64, end: u64) -> String {
        let mut number = 1;
        loop {
            let track = match number {
                1 => name.to_owned(),
                number => format!("{name}, overlap {number}"),
            };
            if self.busy.get(&track).is_none_or(|busy| *busy <= start) {
                self.busy.insert(track.clone(), end);
                return track;
            }
            number += 1;
        }
    }

    pub(super) fn slice(&mut self, group: Group, track: &str, slice: Slice) {
        let thread = self.thread(group, track);
        if let Some(row) = slice.row {
            self.rows.insert(row, (thread, slice.start));
        }
        let (start, lasts) = (self.time(slice.start), self.time(slice.end - slice.start));
        self.events.push(json!({
            "ph": "X",
            "name": slice.name,
            "cat": format!("{group:?}").to_lowercase(),
            "pid": self.process,
            "tid": thread,
            "ts": start,
            "dur": lasts,
            "args": slice.about,
        }));
    }

    /// Something that takes no time, on the track of a device's DMAs.
    pub(super) fn instant(&mut self, track: &str, name: &str, time: u64, about: Value) {
        let thread = self.thread(Group::Dma, track);
        let time = self.time(time);
        self.events.push(json!({
            "ph": "i",
            "s": "t",
            "name": name,
            "cat": "event",
            "pid": self.process,
            "tid": thread,
            "ts": time,
            "args": about,
        }));
    }

    /// An arrow from the step that begins at `start` along these rows.
    pub(super) fn flow(&mut self, id: usize, start: u64, path: &[usize]) {
        let first = (self.thread(Group::Steps, "steps"), start);
        let places: Vec<(usize, u64)> =
            path.iter().filter_map(|row| self.rows.get(row).copied()).collect();
        let last = places.len();
        for (n, (thread, time)) in std::iter::once(first).chain(places).enumerate() {
            let phase = match n {
                0 => "s",
                n if n == last => "f",
                _ => "t",
            };
            let time = self.time(time);
            let mut event = json!({
                "ph": phase,
                "id": id,
                "name": "invalidation",
                "cat": "flow",
                "pid": self.process,
                "tid": thread,
                "ts": time,
            });
            // The arrow ends at the slice around its time, not at the next one.
            if let (Some(event), true) = (event.as_object_mut(), phase == "f") {
                event.insert("bp".to_owned(), "e".into());
            }
            self.events.push(event);
        }
    }

    /// All events, with the names of the process and of its tracks.
    pub(super) fn into_events(self, name: &str) -> Vec<Value> {
        let process = self.process;
        let mut events = vec![json!({
            "ph": "M", "name": "process_name", "pid": process, "tid": 0,
            "args": { "name": name },
        })];
        for (place, ((_, name), thread)) in self.threads.into_iter().enumerate() {
            events.push(json!({
                "ph": "M", "name": "thread_name", "pid": process, "tid": thread,
                "args": { "name": name },
            }));
            events.push(json!({
                "ph": "M", "name": "thread_sort_index", "pid": process, "tid": thread,
                "args": { "sort_index": place },
            }));
        }
        events.extend(self.events);
        events
    }
}
