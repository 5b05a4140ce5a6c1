//! The head of a file: its SMMUs, devices, domains and pages. Each step checks itself.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::prelude::*;
use crate::scenario::spanned::Spanned;
use smmu_driver::smmu_types::StreamId;

use super::file::{
    DeviceSpec, GuestSpec, GuestTableSpec, ReservedSpec, ScenarioFile, SmmuSpec, SyncMethod,
};
use super::names::{Declared, SmmuFacts, SpannedName, Wrong, counted};
use crate::machine::Need;
use crate::page_tables::TableStage;

/// As many SMMUs as the largest machine of any backend has.
const MOST_SMMUS: usize = 8;

/// A scenario that waits for longer is taken for one that hangs.
const MOST_MILLISECONDS: u64 = 10_000;

/// More would not fit into the memory of every backend.
const MOST_BLOCKS: usize = 2;

/// As many entries as the smallest event queue of a backend has.
const MOST_EVENTS: u32 = 128;

/// As many entries as the PRI queue of the model has.
const MOST_PAGES: u32 = 32;

/// As many entries as the driver's command queue has by default.
const MOST_ENTRIES: u32 = 256;

/// Every name of the file stands for something, and every number makes sense.
pub(super) fn check(file: &ScenarioFile) -> Result<(), Wrong> {
    let names = Declared {
        needs: file.needs.clone(),
        smmus: smmus(file)?,
        devices: devices(file)?,
        streams: streams(file),
        substream_bits: substream_bits(file)?,
        ats_devices: ats_devices(file)?,
        asking_devices: asking_devices(file)?,
        domains: domains(file)?,
        guests: named_guests(file),
        guest_tables: named_guest_tables(file),
        pages: unique("page", file.pages.iter().map(|n| (n, vec![n.get_ref().clone()])))?,
        blocks: unique("block", file.blocks.iter().map(|n| (n, vec![n.get_ref().clone()])))?,
    };
    if let Some(surplus) = file.blocks.get(MOST_BLOCKS) {
        return Err((surplus.span(), format!("there can be {MOST_BLOCKS} blocks at most")));
    }
    if let Some(both) = file.blocks.iter().find(|name| names.pages.contains(name.get_ref())) {
        let message = format!("\"{}\" names a page already", both.get_ref());
        return Err((both.span(), message));
    }
    for device in &file.devices {
        names.smmu(&device.smmu)?;
    }
    guests(file, &names)?;
    reserved(file, &names)?;
    if file.steps.is_empty() {
        return Err((0..0, "a scenario needs a [[step]] at least".into()));
    }
    for step in &file.steps {
        step.get_ref().check(step.span(), &names)?;
    }
    Ok(())
}

fn smmus(file: &ScenarioFile) -> Result<BTreeMap<String, SmmuFacts>, Wrong> {
    if file.smmus.is_empty() {
        return Err((0..0, "a scenario needs an [[smmu]] at least".into()));
    }
    let needs = |need: Need| file.needs.contains(&need);
    if let Some(second) = file.smmus.get(1)
        && !needs(Need::SeveralSmmus)
    {
        let message = "a second SMMU needs \"several-smmus\" in `needs`";
        return Err((second.name.span(), message.into()));
    }
    if let Some(surplus) = file.smmus.get(MOST_SMMUS) {
        return Err((surplus.name.span(), format!("there can be {MOST_SMMUS} SMMUs at most")));
    }
    for (n, smmu) in file.smmus.iter().enumerate() {
        // Errors of the driver and hazards of the model call the n-th SMMU so.
        let number = smmu.name.get_ref().strip_prefix("smmu").and_then(|rest| rest.parse().ok());
        if number.is_some_and(|number: usize| number != n) {
            let message = format!("SMMU number {n} cannot be named \"{}\"", smmu.name.get_ref());
            return Err((smmu.name.span(), message));
        }
        if let Some(bits) = &smmu.asid_bits {
            if *bits.get_ref() != 8 {
                return Err((bits.span(), "asid_bits can only be 8; leave it out for 16".into()));
            }
            if !needs(Need::Asid8) {
                return Err((bits.span(), "asid_bits = 8 needs \"asid8\" in `needs`".into()));
            }
        }
        kind_of(smmu, needs)?;
        queues_of(smmu, needs)?;
    }
    unique("smmu", file.smmus.iter().map(|s| (&s.name, vec![s.name.get_ref().clone()])))?;
    let facts = |smmu: &SmmuSpec| SmmuFacts {
        ats: smmu.has_ats(),
        msi: smmu.completion() == SyncMethod::Msi,
        second_queue: smmu.second_queue.is_some(),
        event_entries: smmu.event_entries.as_ref().map(|entries| *entries.get_ref()),
        page_entries: smmu.page_entries.as_ref().map(|entries| *entries.get_ref()),
        event_burst: smmu.event_burst.is_some(),
    };
    Ok(file.smmus.iter().map(|smmu| (smmu.name.get_ref().clone(), facts(smmu))).collect())
}

/// What an SMMU says of its kind.
fn kind_of(smmu: &SmmuSpec, needs: impl Fn(Need) -> bool) -> Result<(), Wrong> {
    let given = [
        smmu.vmid_bits.as_ref().map(|given| (given.span(), "vmid_bits")),
        smmu.oas.as_ref().map(|given| (given.span(), "oas")),
        smmu.stages.as_ref().map(|given| (given.span(), "stages")),
        smmu.granules.as_ref().map(|given| (given.span(), "granules")),
        smmu.range.as_ref().map(|given| (given.span(), "range")),
        smmu.stream_table.as_ref().map(|given| (given.span(), "stream_table")),
    ];
    if let Some((span, key)) = given.into_iter().flatten().next()
        && !needs(Need::SmmuKinds)
    {
        return Err((span, format!("{key} needs \"smmu-kinds\" in `needs`")));
    }
    if let Some(bits) = &smmu.vmid_bits
        && ![8, 16].contains(bits.get_ref())
    {
        return Err((bits.span(), "vmid_bits can be 8 or 16".into()));
    }
    if let (Some(bits), None) = (&smmu.oas, smmu.output_size()) {
        return Err((bits.span(), "oas can be 32, 36, 40, 42, 44 or 48".into()));
    }
    if let Some(stages) = &smmu.stages
        && stages.get_ref().is_empty()
    {
        return Err((stages.span(), "an SMMU has a stage at least: \"s1\", \"s2\" or both".into()));
    }
    if let Some(granules) = &smmu.granules
        && granules.get_ref().is_empty()
    {
        let message = "an SMMU has one granule at least: \"4k\", \"16k\" or \"64k\"";
        return Err((granules.span(), message.into()));
    }
    Ok(())
}

/// What an SMMU says of its command queues.
fn queues_of(smmu: &SmmuSpec, needs: impl Fn(Need) -> bool) -> Result<(), Wrong> {
    if let Some(entries) = &smmu.queue_entries {
        let count = *entries.get_ref();
        if !(2..=MOST_ENTRIES).contains(&count) || !count.is_power_of_two() {
            let message = format!("queue_entries must be a power of two from 2 to {MOST_ENTRIES}");
            return Err((entries.span(), message));
        }
    }
    if let Some(entries) = &smmu.event_entries {
        let count = *entries.get_ref();
        if !(2..=MOST_EVENTS).contains(&count) || !count.is_power_of_two() {
            let message = format!("event_entries must be a power of two from 2 to {MOST_EVENTS}");
            return Err((entries.span(), message));
        }
    }
    if let Some(entries) = &smmu.page_entries {
        let count = *entries.get_ref();
        if !(2..=MOST_PAGES).contains(&count) || !count.is_power_of_two() {
            let message = format!("page_entries must be a power of two from 2 to {MOST_PAGES}");
            return Err((entries.span(), message));
        }
        if !needs(Need::PageRequests) {
            let need = Need::PageRequests.name();
            return Err((entries.span(), format!("page_entries needs \"{need}\" in `needs`")));
        }
    }
    if let Some(stalls) = &smmu.stalls
        && *stalls.get_ref()
        && !needs(Need::Stalls)
    {
        let need = Need::Stalls.name();
        return Err((stalls.span(), format!("stalls = true needs \"{need}\" in `needs`")));
    }
    if let Some(timeout) = &smmu.timeout_ms
        && !(1..=MOST_MILLISECONDS).contains(timeout.get_ref())
    {
        let message = format!("timeout_ms must be from 1 to {MOST_MILLISECONDS}");
        return Err((timeout.span(), message));
    }
    if let Some(bits) = &smmu.substream_bits {
        substreams_of(bits, &needs)?;
    }
    if let (Some(kind), None) = (&smmu.cd_table, &smmu.substream_bits) {
        return Err((kind.span(), "cd_table goes with substream_bits".into()));
    }
    let sync = |by| smmu.sync.as_ref().filter(|_| smmu.completion() == by).map(Spanned::span);
    let by_msi = smmu.msi_interrupts.as_ref().filter(|_| smmu.interrupts_by_msi());
    let wanted = [
        (smmu.ats.as_ref().filter(|_| smmu.has_ats()).map(Spanned::span), "ats = true", Need::Ats),
        (sync(SyncMethod::Event), "sync = \"event\"", Need::Sev),
        (sync(SyncMethod::Msi), "sync = \"msi\"", Need::Msi),
        (by_msi.map(Spanned::span), "msi_interrupts = true", Need::Msi),
        (smmu.second_queue.as_ref().map(Spanned::span), "a second queue", Need::SecondQueue),
    ];
    for (span, what, need) in wanted {
        if let Some(span) = span
            && !needs(need)
        {
            return Err((span, format!("{what} needs \"{}\" in `needs`", need.name())));
        }
    }
    Ok(())
}

/// An SMMU or a device has SubstreamIDs of so many bits.
fn substreams_of(bits: &Spanned<u8>, needs: impl Fn(Need) -> bool) -> Result<(), Wrong> {
    if !(1..=20).contains(bits.get_ref()) {
        return Err((bits.span(), "substream_bits must be 1 to 20".into()));
    }
    if !needs(Need::Substreams) {
        let need = Need::Substreams.name();
        return Err((bits.span(), format!("substream_bits needs \"{need}\" in `needs`")));
    }
    Ok(())
}

/// The bits of the SubstreamIDs that each device sends and its SMMU takes.
fn substream_bits(file: &ScenarioFile) -> Result<BTreeMap<String, u8>, Wrong> {
    let mut all = BTreeMap::new();
    for device in &file.devices {
        let Some(bits) = &device.substream_bits else { continue };
        substreams_of(bits, |need| file.needs.contains(&need))?;
        let smmu = file.smmus.iter().find(|smmu| smmu.name.get_ref() == device.smmu.get_ref());
        let Some(most) = smmu.and_then(|smmu| smmu.substream_bits.as_ref()) else {
            let message = format!("{} has no `substream_bits`", device.smmu.get_ref());
            return Err((bits.span(), message));
        };
        let usable = *bits.get_ref().min(most.get_ref());
        all.extend(device.each().map(|(name, _)| (name, usable)));
    }
    Ok(all)
}

/// The devices with ATS.
fn ats_devices(file: &ScenarioFile) -> Result<BTreeSet<String>, Wrong> {
    let mut all = BTreeSet::new();
    for device in &file.devices {
        let Some(ats) = &device.ats else { continue };
        if !file.needs.contains(&Need::AtsDevices) {
            let need = Need::AtsDevices.name();
            return Err((ats.span(), format!("a device with ats needs \"{need}\" in `needs`")));
        }
        let smmu = file.smmus.iter().find(|smmu| smmu.name.get_ref() == device.smmu.get_ref());
        if !smmu.is_some_and(SmmuSpec::has_ats) {
            let message = format!("{} has no `ats = true`", device.smmu.get_ref());
            return Err((ats.span(), message));
        }
        all.extend(device.each().map(|(name, _)| name));
    }
    Ok(all)
}

/// The devices whose page requests the driver switches.
fn asking_devices(file: &ScenarioFile) -> Result<BTreeSet<String>, Wrong> {
    let mut all = BTreeSet::new();
    for device in file.devices.iter().filter(|device| device.has_page_requests()) {
        let span = || device.page_requests.as_ref().map_or(0..0, Spanned::span);
        if device.ats.is_none() {
            return Err((span(), "page_requests goes with `ats`: PRI needs ATS".into()));
        }
        let smmu = file.smmus.iter().find(|smmu| smmu.name.get_ref() == device.smmu.get_ref());
        if smmu.is_none_or(|smmu| smmu.page_entries.is_none()) {
            return Err((span(), format!("{} has no `page_entries`", device.smmu.get_ref())));
        }
        all.extend(device.each().map(|(name, _)| name));
    }
    Ok(all)
}

fn devices(file: &ScenarioFile) -> Result<BTreeMap<String, String>, Wrong> {
    let mut taken: BTreeMap<(&str, u32), &str> = BTreeMap::new();
    for device in &file.devices {
        let count = device.count.as_ref().map_or(Ok(1), counted)?;
        for n in 0..count {
            let stream = device.stream.get_ref().checked_add(n);
            let stream = stream.filter(|s| *s <= 0xffff).ok_or_else(|| {
                (device.stream.span(), "StreamIDs go up to 0xffff on every backend".to_owned())
            })?;
            let name = device.name.get_ref().as_str();
            if let Some(other) = taken.insert((device.smmu.get_ref(), stream), name) {
                let message = format!("StreamID {stream:#x} belongs to device \"{other}\" already");
                return Err((device.stream.span(), message));
            }
        }
    }
    for device in &file.devices {
        if let (Some(count), [_, ..]) = (&device.count, &device.more_streams[..]) {
            let message = "`more_streams` is for one device; leave `count` out".to_owned();
            return Err((count.span(), message));
        }
        for stream in &device.more_streams {
            let (value, name) = (*stream.get_ref(), device.name.get_ref().as_str());
            if value > 0xffff {
                let message = "StreamIDs go up to 0xffff on every backend".to_owned();
                return Err((stream.span(), message));
            }
            if let Some(other) = taken.insert((device.smmu.get_ref(), value), name) {
                let message = format!("StreamID {value:#x} belongs to device \"{other}\" already");
                return Err((stream.span(), message));
            }
        }
    }
    let each = |device: &DeviceSpec| device.each().map(|(name, _)| name).collect::<Vec<_>>();
    unique("device", file.devices.iter().map(|d| (&d.name, each(d))))?;
    let behind = |device: &DeviceSpec| device.smmu.get_ref().clone();
    Ok(file
        .devices
        .iter()
        .flat_map(|d| each(d).into_iter().map(move |name| (name, behind(d))))
        .collect())
}

/// The StreamIDs of each device.
fn streams(file: &ScenarioFile) -> BTreeMap<String, Vec<StreamId>> {
    let all = |device: &DeviceSpec| {
        let further: Vec<_> = device.further().collect();
        device
            .each()
            .map(move |(name, first)| {
                (name, core::iter::once(first).chain(further.iter().copied()).collect())
            })
            .collect::<Vec<_>>()
    };
    file.devices.iter().flat_map(all).collect()
}

fn domains(file: &ScenarioFile) -> Result<BTreeMap<String, TableStage>, Wrong> {
    for domain in &file.domains {
        domain.count.as_ref().map_or(Ok(1), counted)?;
        let need = match domain.stage {
            TableStage::Stage1 => Need::Stage1,
            TableStage::Stage2 => Need::Stage2,
        };
        if !file.needs.contains(&need) {
            let message = format!("a domain of this stage needs \"{}\" in `needs`", need.name());
            return Err((domain.name.span(), message));
        }
        if let Some(level) = &domain.start_level {
            if domain.stage != TableStage::Stage2 {
                return Err((level.span(), "start_level goes with stage = \"s2\"".into()));
            }
            if *level.get_ref() > 3 {
                return Err((level.span(), "start_level can be 0 to 3".into()));
            }
        }
        if ["bypass", "blocked"].contains(&domain.name.get_ref().as_str()) {
            let message = "\"bypass\" and \"blocked\" are not names for a domain".into();
            return Err((domain.name.span(), message));
        }
    }
    unique("domain", file.domains.iter().map(|d| (&d.name, d.names())))?;
    Ok(file
        .domains
        .iter()
        .flat_map(|d| d.names().into_iter().map(|name| (name, d.stage)))
        .collect())
}

fn named_guests(file: &ScenarioFile) -> BTreeMap<String, Vec<String>> {
    let devices = |guest: &GuestSpec| guest.devices.iter().map(|d| d.get_ref().clone()).collect();
    file.guests.iter().map(|guest| (guest.name.get_ref().clone(), devices(guest))).collect()
}

fn named_guest_tables(file: &ScenarioFile) -> BTreeMap<String, String> {
    let guest = |table: &GuestTableSpec| table.guest.get_ref().clone();
    file.guest_tables.iter().map(|table| (table.name.get_ref().clone(), guest(table))).collect()
}

fn guests(file: &ScenarioFile, names: &Declared) -> Result<(), Wrong> {
    unique("guest", file.guests.iter().map(|g| (&g.name, vec![g.name.get_ref().clone()])))?;
    let tables = file.guest_tables.iter();
    unique("guest table", tables.map(|t| (&t.name, vec![t.name.get_ref().clone()])))?;
    let mut taken = BTreeSet::new();
    for guest in &file.guests {
        if !file.needs.contains(&Need::Nesting) {
            let message = format!("a guest needs \"{}\" in `needs`", Need::Nesting.name());
            return Err((guest.name.span(), message));
        }
        names.smmu(&guest.smmu)?;
        names.domain(&guest.parent)?;
        if names.domains.get(guest.parent.get_ref()) != Some(&TableStage::Stage2) {
            return Err((guest.parent.span(), "the parent of a guest has stage = \"s2\"".into()));
        }
        for device in &guest.devices {
            names.device(device)?;
            if names.devices.get(device.get_ref()) != Some(guest.smmu.get_ref()) {
                let message = format!("it is not behind {}", guest.smmu.get_ref());
                return Err((device.span(), message));
            }
            if !taken.insert(device.get_ref()) {
                return Err((device.span(), "a device belongs to one guest".into()));
            }
        }
    }
    for table in &file.guest_tables {
        names.guest(&table.guest)?;
        let name = table.name.get_ref().as_str();
        if ["bypass", "blocked"].contains(&name) || names.domains.contains_key(name) {
            let message = format!("\"{name}\" stands for something else already");
            return Err((table.name.span(), message));
        }
    }
    Ok(())
}

fn reserved(file: &ScenarioFile, names: &Declared) -> Result<(), Wrong> {
    let mut taken = BTreeSet::new();
    for ReservedSpec { device, domain, pages } in &file.reserved {
        names.device(device)?;
        names.domain(domain)?;
        if pages.is_empty() {
            return Err((device.span(), "reserved memory has one page at least".into()));
        }
        for page in pages {
            names.page(page)?;
        }
        if !taken.insert(device.get_ref()) {
            return Err((device.span(), "a device has one domain of reserved memory".into()));
        }
    }
    Ok(())
}

fn unique<'a>(
    kind: &str,
    names: impl Iterator<Item = (&'a SpannedName, Vec<String>)>,
) -> Result<BTreeSet<String>, Wrong> {
    let mut seen = BTreeSet::new();
    for (name, each) in names {
        for one in each {
            if one.is_empty() {
                return Err((name.span(), format!("a {kind} needs a name")));
            }
            if !seen.insert(one.clone()) {
                return Err((name.span(), format!("there are two {kind}s named \"{one}\"")));
            }
        }
    }
    Ok(seen)
}
