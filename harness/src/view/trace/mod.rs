//! A run in the trace-event format of Chrome, which Perfetto opens.
//!
//! Each scenario is a process. Its threads are the steps, the queues of each SMMU, the devices, the
//! domains and the tags. A command is a slice from its queueing to its completion. An arrow leads
//! from an unmap to its commands, and on to the next DMA to that address.

mod tracks;

use serde_json::{Value, json};
use smmu_engine::record::{Detail, Queue, Row, ScenarioRecord, TagChange, TimeUnit};
use smmu_engine::transcript::LineKind;

use tracks::{Group, Slice, Tracks};

/// The trace of a run.
#[must_use]
pub fn trace(records: &[ScenarioRecord]) -> Value {
    let mut events = Vec::new();
    let mut arrows = 0;
    for (n, record) in records.iter().filter(|record| !record.rows.is_empty()).enumerate() {
        let mut tracks = Tracks::new(n + 1, record.clock);
        let name = format!("{} on {}", record.scenario, record.backend);
        steps(&mut tracks, record);
        commands(&mut tracks, record);
        accesses(&mut tracks, record);
        tags(&mut tracks, record);
        flows(&mut tracks, record, &mut arrows);
        events.extend(tracks.into_events(&name));
    }
    let unit = match records.iter().all(|record| record.clock == TimeUnit::Steps) {
        true => "a row of the record is 1 us",
        false => "nanoseconds of the machine, except on a model",
    };
    json!({
        "traceEvents": events,
        "displayTimeUnit": "ns",
        "otherData": { "time": unit, "schema": smmu_engine::record::RECORD_SCHEMA },
    })
}

/// When the run ends.
fn end_of(record: &ScenarioRecord) -> u64 {
    let consumed = |row: &Row| match row.detail {
        Some(Detail::Command { consumed, .. }) => consumed.unwrap_or(0),
        _ => 0,
    };
    record.rows.iter().map(|row| row.time.max(consumed(row))).max().unwrap_or(0) + 1
}

/// The rows of each step with its number, its first row and its end.
fn each_step(record: &ScenarioRecord) -> impl Iterator<Item = (&Row, &[Row], u64)> {
    let end = end_of(record);
    let chunks: Vec<&[Row]> = record.rows.chunk_by(|a, b| a.step == b.step).collect();
    let starts: Vec<u64> =
        chunks.iter().filter_map(|rows| rows.first()).map(|row| row.time).collect();
    let ends = starts.into_iter().skip(1).chain([end]);
    let steps: Vec<_> = chunks.into_iter().zip(ends).collect();
    steps.into_iter().filter_map(|(rows, end)| Some((rows.first()?, rows, end)))
}

fn steps(tracks: &mut Tracks, record: &ScenarioRecord) {
    for (first, _, end) in each_step(record) {
        let slice = Slice::new(&first.text, first.time, end);
        let owners = [(Group::Device, &first.device), (Group::Domain, &first.domain)];
        for (group, owner) in owners {
            // A target may be `bypass` or `blocked`: a track of its own shows who is there.
            if let Some(owner) = owner {
                tracks.slice(group, owner, slice.clone());
            }
        }
        tracks.slice(Group::Steps, "steps", slice);
    }
}

/// Which track a command is on.
fn queue_of(row: &Row) -> Option<(String, u64, usize)> {
    let Some(Detail::Command { queue, consumed, batch, .. }) = &row.detail else { return None };
    let smmu = row.smmu.as_deref().unwrap_or("?");
    let name = match queue {
        Queue::Main => format!("{smmu} queue"),
        Queue::Second => format!("{smmu} second queue"),
    };
    Some((name, consumed.unwrap_or(row.time + 1), *batch))
}

/// All commands of a batch end with its last one, so that slices of one track nest.
fn commands(tracks: &mut Tracks, record: &ScenarioRecord) {
    let mut done = vec![false; record.rows.len()];
    for at in 0..record.rows.len() {
        let Some((queue, _, batch)) = record.rows.get(at).and_then(queue_of) else { continue };
        if done.get(at).copied().unwrap_or(true) {
            continue;
        }
        let mut members: Vec<(usize, &Row, u64)> = Vec::new();
        for (n, row) in record.rows.iter().enumerate().skip(at) {
            if let Some((other, end, of)) = queue_of(row)
                && other == queue
                && of == batch
            {
                members.push((n, row, end));
                if let Some(done) = done.get_mut(n) {
                    *done = true;
                }
            }
        }
        let start = members.first().map_or(0, |(_, row, _)| row.time);
        let last = members.iter().map(|(_, row, end)| (*end).max(row.time + 1)).max();
        let end = last.unwrap_or(start + 1);
        let track = tracks.free_track(&queue, start, end);
        for (n, row, _) in members {
            let mut slice = Slice::new(&row.text, row.time, end);
            slice.row = Some(n);
            slice.about = about(row);
            tracks.slice(Group::Queue, &track, slice);
        }
    }
}

/// What a slice says when it is selected.
fn about(row: &Row) -> Value {
    json!({
        "step": row.step,
        "smmu": row.smmu,
        "device": row.device,
        "domain": row.domain,
        "iova": row.iova,
        "raw": row.raw,
        "detail": row.detail,
    })
}

/// DMAs, events and hazards, on the track of their device.
fn accesses(tracks: &mut Tracks, record: &ScenarioRecord) {
    for (n, row) in record.rows.iter().enumerate() {
        let device = row.device.as_deref().or(row.smmu.as_deref()).unwrap_or("?");
        match (row.kind, &row.detail) {
            (LineKind::Dma, Some(Detail::Dma { access, .. })) => {
                let at = row.iova.unwrap_or_default();
                let name = format!("{access} {at}: {}", row.text);
                let mut slice = Slice::new(&name, row.time, row.time + 1);
                slice.row = Some(n);
                slice.about = about(row);
                tracks.slice(Group::Dma, &format!("{device} DMA"), slice);
            }
            (LineKind::Event, _) => {
                tracks.instant(&format!("{device} DMA"), &row.text, row.time, about(row));
            }
            (LineKind::Hazard, Some(Detail::Hazard { missing, .. })) => {
                let missing = missing.as_deref().unwrap_or("no command");
                let name = format!("HAZARD, missing: {missing}");
                tracks.instant(
                    &format!("{device} DMA"),
                    &name,
                    row.time,
                    json!({ "text": row.text }),
                );
            }
            _ => {}
        }
    }
}

/// The life of each tag.
fn tags(tracks: &mut Tracks, record: &ScenarioRecord) {
    let mut open: Vec<(String, &'static str, u64)> = Vec::new();
    for row in &record.rows {
        let Some(Detail::Tag { tag, change, .. }) = &row.detail else { continue };
        let track = format!("{} {tag}", row.smmu.as_deref().unwrap_or("?"));
        let next = match change {
            TagChange::Allocated | TagChange::Found => Some("in use"),
            TagChange::Retired => Some("retiring"),
            TagChange::Quarantined => Some("quarantined"),
            TagChange::Freed | TagChange::Aborted | TagChange::Forgotten => None,
        };
        let known = open.iter().position(|(name, ..)| *name == track);
        if let Some((_, state, since)) = known.map(|at| open.remove(at)) {
            tracks.slice(Group::Tag, &track, Slice::new(state, since, row.time));
        }
        if let Some(state) = next {
            open.push((track, state, row.time));
        }
    }
    for (track, state, since) in open {
        tracks.slice(Group::Tag, &track, Slice::new(state, since, end_of(record)));
    }
}

/// From an unmap to each of its commands, and on to the next DMA to that address.
fn flows(tracks: &mut Tracks, record: &ScenarioRecord, arrows: &mut usize) {
    for (first, rows, _) in each_step(record) {
        let Some(Detail::Step { verb, .. }) = &first.detail else { continue };
        if verb != "unmap" && verb != "invalidate" {
            continue;
        }
        let number = |row: &Row| record.rows.iter().position(|other| std::ptr::eq(other, row));
        let sent = rows
            .iter()
            .filter(|row| row.kind == LineKind::Command && !row.text.starts_with("SYNC"));
        let sent: Vec<usize> = sent.filter_map(number).collect();
        let is_next = |row: &&Row| {
            row.kind == LineKind::Dma && row.step > first.step && row.iova == first.iova
        };
        let dma = record.rows.iter().find(is_next).and_then(number);
        let path: Vec<usize> = sent.into_iter().chain(dma).collect();
        if !path.is_empty() {
            *arrows += 1;
            tracks.flow(*arrows, first.time, &path);
        }
    }
}
