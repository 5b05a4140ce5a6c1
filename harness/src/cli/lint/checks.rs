//! What is wrong with a machine as a whole.

use std::collections::BTreeMap;

use smmu_hw_mmio::firmware::{
    IdMapping, Inputs, PAGE0_ONLY_SIZE, REGISTERS_SIZE, RequestId, Stream, Target, Trigger,
};
use smmu_types::StreamId;

use super::machine::{Device, Finding, Format, Machine, Severity, Smmu};
use super::reserved::reserved;

/// Page 0 of the registers is aligned to its size.
const WINDOW_ALIGNMENT: u64 = 0x1_0000;
/// The first INTID that a device can share with all CPUs.
const FIRST_SPI: u32 = 32;
/// Functions of a PCIe device: ranges begin and end at multiples of it.
const FUNCTIONS: u32 = 8;

/// Adds the findings of all checks, and sorts: errors first, then by place in the table.
pub(super) fn check(machine: &mut Machine) {
    windows(machine);
    interrupts(machine);
    inputs(machine);
    streams(machine);
    placement(machine);
    reserved(machine);
    machine.sort_findings();
}

fn windows(machine: &mut Machine) {
    let mut found = Vec::new();
    let mut say = |severity, smmu: &Smmu, text| {
        found.push(Finding::new(severity, &smmu.name, smmu.table.at, text));
    };
    let mut sorted: Vec<&Smmu> = machine.smmus.iter().collect();
    sorted.sort_by_key(|smmu| (smmu.table.base, smmu.table.id));
    let mut highest: Option<(&Smmu, u64)> = None;
    for smmu in sorted {
        let (base, size) = (smmu.table.base.0, smmu.table.registers_size());
        if !base.is_multiple_of(WINDOW_ALIGNMENT) {
            let text = format!("registers at {base:#x} are not aligned to {WINDOW_ALIGNMENT:#x}");
            say(Severity::Error, smmu, text);
        }
        let needed = match smmu.table.quirks.page0_only {
            true => PAGE0_ONLY_SIZE,
            false => REGISTERS_SIZE,
        };
        if size < needed {
            let text = format!("{size:#x} bytes of registers; an SMMUv3 has {needed:#x}");
            say(Severity::Error, smmu, text);
        }
        let Some(last) = base.checked_add(size.max(1) - 1) else {
            say(Severity::Error, smmu, format!("{size:#x} bytes of registers pass 2^64"));
            continue;
        };
        if let Some((other, _)) = highest.filter(|(_, end)| base <= *end) {
            let text = format!(
                "registers {base:#x}-{last:#x} overlap those of {} ({})",
                other.table.id, other.name
            );
            say(Severity::Error, smmu, text);
        }
        if highest.is_none_or(|(_, end)| end < last) {
            highest = Some((smmu, last));
        }
    }
    machine.add(found);
}

fn interrupts(machine: &mut Machine) {
    let mut found = Vec::new();
    let mut users: BTreeMap<u32, String> = BTreeMap::new();
    for smmu in &machine.smmus {
        let table = &smmu.table;
        let mut say =
            |severity, text| found.push(Finding::new(severity, &smmu.name, table.at, text));
        for (name, one) in table.interrupts.iter() {
            let intid = one.intid;
            if intid < FIRST_SPI {
                let text = format!("{name} is INTID {intid}, which is not an SPI");
                say(Severity::Error, text);
            }
            if one.trigger == Some(Trigger::Level) {
                let text =
                    format!("{name} (INTID {intid}) is a level; interrupts of SMMUv3 are edges");
                say(Severity::Warning, text);
            }
            let user = format!("{name} of {}", table.id);
            if let Some(other) = users.insert(intid, user) {
                let text = format!("{name} has INTID {intid}, and so has {other}");
                say(Severity::Warning, text);
            }
        }
        let wired = table.interrupts;
        if wired.combined.is_none() && table.msi_device_id.is_none() {
            for (name, there) in [("eventq", wired.eventq), ("gerror", wired.gerror)] {
                if there.is_none() {
                    let text = format!("no {name} interrupt and no MSIs: the driver must poll");
                    say(Severity::Warning, text);
                }
            }
        }
    }
    machine.add(found);
}

fn range_of(mapping: &IdMapping) -> Option<(u32, u32)> {
    match mapping.inputs {
        Inputs::Any => None,
        Inputs::Range { first, last } => Some((first, last)),
    }
}

/// The input IDs of each device.
fn inputs(machine: &mut Machine) {
    let format = machine.format;
    let mut found = Vec::new();
    for device in &machine.devices {
        let mut say =
            |severity, at, text| found.push(Finding::new(severity, &device.name, at, text));
        let ranges = device.mappings.iter().filter_map(|one| Some((range_of(one)?, one)));
        let mut ranges: Vec<((u32, u32), &IdMapping)> = ranges.collect();
        ranges.sort_by_key(|((first, last), mapping)| (*first, *last, mapping.at));
        let mut highest: Option<(u32, &IdMapping)> = None;
        let mut next = Some(0_u32);
        let mut gaps = Vec::new();
        for ((first, last), mapping) in &ranges {
            let (first, last) = (*first, *last);
            if let Some((end, other)) = highest.filter(|(end, _)| first <= *end) {
                let end = end.min(last);
                let same = other.target == mapping.target
                    && other.output_of(first) == mapping.output_of(first);
                let severity = if same { Severity::Warning } else { Severity::Error };
                let text = format!(
                    "{} also in the entry at byte {:#x}{}{}",
                    ids_are(device.pci, first, end),
                    other.at,
                    if same {
                        ", with the same streams"
                    } else {
                        "; the first of the two counts: shorten one"
                    },
                    off_by_one(format, first == end),
                );
                say(severity, mapping.at, text);
            }
            if let Some(begin) = next.filter(|begin| *begin < first) {
                gaps.push((begin, first - 1));
            }
            if highest.is_none_or(|(end, _)| end < last) {
                highest = Some((last, mapping));
                next = last.checked_add(1);
            }
            let pci_last = u32::from(u16::MAX);
            if device.pci && last > pci_last {
                let severity = if first > pci_last { Severity::Error } else { Severity::Warning };
                let text = format!(
                    "IDs {first:#x}-{last:#x} go above {pci_last:#x}, the last Requester ID{}",
                    off_by_one(format, last == pci_last + 1)
                );
                say(severity, mapping.at, text);
            } else if let Some(text) = looks_off_by_one(format, first, last) {
                say(Severity::Warning, mapping.at, text);
            }
            if device.is_behind_any() && !matches!(mapping.target, Target::Smmu(_)) {
                let text =
                    format!("{} not translated by an SMMUv3", ids_are(device.pci, first, last));
                say(Severity::Note, mapping.at, text);
            }
            if first & !device.mask != 0 {
                let text = format!(
                    "IDs from {first:#x} on have bits outside of `iommu-map-mask` {:#x}: no \
                     transaction has them",
                    device.mask
                );
                say(Severity::Warning, mapping.at, text);
            }
        }
        let all = device.mappings.iter().any(|mapping| mapping.inputs == Inputs::Any);
        if device.pci && !ranges.is_empty() && !all && !device.partly_read {
            let last = u32::from(u16::MAX) & device.mask;
            if let Some(begin) = next.filter(|begin| *begin <= last) {
                gaps.push((begin, last));
            }
            // Buses that no entry names are usually buses that are not there. A hole inside of a
            // bus loses a function.
            for (begin, end) in gaps {
                let bus = begin.is_multiple_of(0x100) && (end + 1).is_multiple_of(0x100);
                let severity = if bus { Severity::Note } else { Severity::Warning };
                say(severity, device.at, format!("{} in no entry", ids_are(true, begin, end)));
            }
        }
    }
    machine.add(found);
}

/// A range whose end is one more or one less than a reader of the format expects.
fn looks_off_by_one(format: Format, first: u32, last: u32) -> Option<String> {
    let more = last - first;
    match format {
        Format::Iort if more >= FUNCTIONS && more.is_multiple_of(FUNCTIONS) => Some(format!(
            "IDs {first:#x}-{last:#x} are {:#x}, one more than {more:#x}; the field is the number \
             of IDs minus one",
            u64::from(more) + 1
        )),
        Format::DeviceTree if more > FUNCTIONS && (more + 2).is_multiple_of(FUNCTIONS) => {
            Some(format!(
                "IDs {first:#x}-{last:#x} are {:#x}, one less than {:#x}; the last cell is the \
                 number of IDs",
                more + 1,
                more + 2
            ))
        }
        _ => None,
    }
}

fn off_by_one(format: Format, one: bool) -> &'static str {
    match (one, format) {
        (false, _) => "",
        (true, Format::Iort) => "; one ID too many: the field is the number of IDs minus one",
        (true, Format::DeviceTree) => "; one ID too many: the last cell is the number of IDs",
    }
}

/// The same, as the subject of a sentence.
fn ids_are(pci: bool, first: u32, last: u32) -> String {
    format!("{} {}", ids(pci, first, last), if first == last { "is" } else { "are" })
}

pub(super) fn ids(pci: bool, first: u32, last: u32) -> String {
    let one = |id: u32| match u16::try_from(id) {
        Ok(id) if pci => RequestId(id).to_string(),
        _ => format!("{id:#x}"),
    };
    let kind = if pci { "functions" } else { "IDs" };
    match first == last {
        true => format!("{} {}", kind.trim_end_matches('s'), one(first)),
        false => format!("{kind} {}-{}", one(first), one(last)),
    }
}

/// Streams that two devices have.
fn streams(machine: &mut Machine) {
    let mut all: Vec<(Stream, u32, &Device, &IdMapping)> = Vec::new();
    for device in &machine.devices {
        for mapping in &device.mappings {
            if let Target::Smmu(smmu) = mapping.target {
                let first = Stream { smmu, id: StreamId(mapping.output) };
                all.push((first, mapping.last_output(), device, mapping));
            }
        }
    }
    all.sort_by_key(|(first, last, _, mapping)| (*first, *last, mapping.at));
    let mut found = Vec::new();
    let mut highest: Option<(Stream, u32, &Device, &IdMapping)> = None;
    for (stream, last, device, mapping) in all {
        let before = highest.filter(|(other, ..)| other.smmu == stream.smmu);
        if let Some((_, end, other, entry)) = before.filter(|(_, end, ..)| stream.id.0 <= *end) {
            let first = stream.id.0;
            let shared = match first == end.min(last) {
                true => format!("stream {first:#x} of {} also belongs", stream.smmu),
                false => {
                    let last = end.min(last);
                    format!("streams {first:#x}-{last:#x} of {} also belong", stream.smmu)
                }
            };
            let whose = match other.at == device.at {
                true => format!("the entry at byte {:#x}", entry.at),
                false => other.name.clone(),
            };
            let text = format!(
                "{shared} to {whose}; the SMMU cannot tell them apart{}",
                off_by_one(
                    machine.format,
                    first == end.min(last) && last > first && end > entry.output
                ),
            );
            found.push(Finding::new(Severity::Warning, &device.name, mapping.at, text));
        }
        if before.is_none_or(|(_, end, ..)| end < last) {
            highest = Some((stream, last, device, mapping));
        }
    }
    machine.add(found);
}

/// SMMUs without a device, and devices that lead elsewhere.
fn placement(machine: &mut Machine) {
    let mut found = Vec::new();
    for smmu in &machine.smmus {
        let table = &smmu.table;
        let mut behind = machine.devices.iter().filter(|device| device.is_behind(table.id));
        if machine.devices.iter().all(|device| !device.is_behind(table.id)) {
            let text = format!("no device is behind {}", table.id);
            found.push(Finding::new(Severity::Warning, &smmu.name, table.at, text));
        }
        if !table.enabled && behind.any(|device| device.enabled) {
            let text = format!("{} is disabled, but devices behind it are not", table.id);
            found.push(Finding::new(Severity::Error, &smmu.name, table.at, text));
        }
    }
    for device in machine.devices.iter().filter(|device| !device.partly_read) {
        if !device.mappings.is_empty() && !device.is_behind_any() {
            let text = "no entry leads to an SMMUv3".to_owned();
            found.push(Finding::new(Severity::Note, &device.name, device.at, text));
        }
    }
    machine.add(found);
}
