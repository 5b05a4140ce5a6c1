//! Prints a machine and its findings.

use std::io::{self, Write};

use serde_json::json;
use smmu_hw_mmio::Coherency;
use smmu_hw_mmio::firmware::{FirmwareSmmu, IdMapping, Inputs, Target, Trigger};
use smmu_types::SmmuId;

use super::checks::ids;
use super::machine::{Device, Machine, Memory, Reserved, Severity, Smmu};
use crate::cli::output_format::json_line;

pub(super) fn human(out: &mut dyn Write, file: &str, machine: &Machine) -> io::Result<()> {
    let unread = match machine.unread_smmus {
        0 => String::new(),
        unread => format!(" ({unread} cannot be read)"),
    };
    let smmus = count(machine.smmus.len() + machine.unread_smmus, "SMMUv3") + &unread;
    let behind = machine.devices.iter().filter(|device| device.is_behind_any()).count();
    let devices = count(behind, "device");
    writeln!(out, "{file}: {}, {smmus}, {devices} behind an SMMUv3", machine.format.name())?;
    for smmu in &machine.smmus {
        human_smmu(out, machine, smmu)?;
    }
    let past = machine.devices.iter();
    let past = past.filter(|device| !device.is_behind_any() && !device.partly_read);
    let past: Vec<&str> = past.map(|device| device.name.as_str()).collect();
    if !past.is_empty() {
        writeln!(out, "\nbehind no SMMUv3: DMA is untranslated, or another IOMMU translates it")?;
        // Trees have dozens of devices of one kind.
        for alike in past.chunk_by(|one, next| kind(one) == kind(next)) {
            match alike {
                [first, .., last] if alike.len() > 2 => {
                    let (_, last) = last.rsplit_once('@').unwrap_or(("", last));
                    writeln!(out, "  {first} to @{last}: {} devices", alike.len())?;
                }
                names => names.iter().try_for_each(|name| writeln!(out, "  {name}"))?,
            }
        }
    }
    if !machine.reserved.is_empty() {
        writeln!(out, "\nreserved memory")?;
        for region in &machine.reserved {
            let Reserved { name, user, first, length, .. } = region;
            let range = match length.checked_sub(1) {
                Some(more) => format!("{first:#x}-{:#x}", first.saturating_add(more)),
                None => format!("{first:#x}, 0 bytes,"),
            };
            let behind = match region.memory {
                Memory::Same => "the same memory".to_owned(),
                Memory::At(at) => format!("memory at {at:#x}"),
                Memory::None => "no memory".to_owned(),
            };
            let user = if user.is_empty() { "no stream" } else { user };
            writeln!(out, "  {range} of {user}: {behind}{} ({name})", access(region))?;
        }
    }
    if !machine.findings().is_empty() {
        writeln!(out)?;
    }
    for finding in machine.findings() {
        let (severity, place) = (finding.severity.name(), &finding.place);
        let at = format!("byte {:#x}", finding.at);
        // A node of IORT has no better name than its place.
        let place = if place.ends_with(&at) { place.clone() } else { format!("{place}, {at}") };
        writeln!(out, "{severity}: {place}: {}", finding.text)?;
    }
    let counts = [Severity::Error, Severity::Warning, Severity::Note].map(|severity| {
        let (all, hidden) = machine.count(severity);
        let hidden = if hidden > 0 { format!(" ({hidden} not shown)") } else { String::new() };
        count(all, severity.name()) + &hidden
    });
    writeln!(out, "\n{}", counts.join(", "))
}

/// How the device accesses reserved memory.
fn access(region: &Reserved) -> String {
    let kind = region.memory_type.map(|kind| format!(", {kind}"));
    let privileged = if region.privileged { ", privileged" } else { "" };
    let may_move = if region.may_move { ", may move" } else { "" };
    kind.unwrap_or_default() + privileged + may_move
}

/// A path without the unit address of its last node.
fn kind(name: &str) -> &str {
    name.rsplit_once('@').map_or(name, |(kind, _)| kind)
}

fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

fn human_smmu(out: &mut dyn Write, machine: &Machine, smmu: &Smmu) -> io::Result<()> {
    let table = &smmu.table;
    let disabled = if table.enabled { "" } else { ", disabled" };
    writeln!(out, "\n{}  {}{disabled}", table.id, smmu.name)?;
    let size = table.registers_size();
    writeln!(out, "  registers   {}, {size:#x} bytes{}", table.base, told(table))?;
    writeln!(out, "  coherency   {}", coherency(table.coherency))?;
    let wired = table.interrupts.iter().map(|(name, one)| match one.trigger {
        Some(Trigger::Edge) => format!("{name} {} edge", one.intid),
        Some(Trigger::Level) => format!("{name} {} level", one.intid),
        None => format!("{name} {}", one.intid),
    });
    let msi = table.msi_device_id.map(|id| format!("MSIs with DeviceID {id:#x}"));
    let all: Vec<String> = wired.chain(msi).collect();
    let interrupts = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
    writeln!(out, "  interrupts  {interrupts}")?;
    if table.quirks != Default::default() {
        writeln!(out, "  quirks      {}", table.quirks)?;
    }
    if let Some(node) = table.numa_node {
        writeln!(out, "  NUMA node   {node}")?;
    }
    let behind = machine.devices.iter().filter(|device| device.is_behind(table.id));
    let mut label = "devices     ";
    for device in behind {
        writeln!(out, "  {label}{}{}", device.name, abilities(device))?;
        label = "            ";
        for mapping in streams(device, table.id) {
            writeln!(out, "                {}", entry(device, mapping))?;
        }
    }
    if label.starts_with('d') {
        writeln!(out, "  {label}(none)")?;
    }
    Ok(())
}

fn told(table: &FirmwareSmmu) -> &'static str {
    if table.size.is_none() { " by the architecture" } else { "" }
}

fn coherency(one: Coherency) -> &'static str {
    match one {
        Coherency::Coherent => "snoops caches",
        Coherency::NonCoherent => "does not snoop caches",
    }
}

fn abilities(device: &Device) -> String {
    let mut all = Vec::new();
    if !device.enabled {
        all.push("disabled".to_owned());
    }
    if device.coherency == Coherency::NonCoherent {
        all.push("does not snoop caches".to_owned());
    }
    if device.ats {
        all.push("ATS".to_owned());
    }
    if device.stall {
        all.push("can stall".to_owned());
    }
    if device.pasid_bits > 0 {
        all.push(format!("PASIDs of {} bits", device.pasid_bits));
    }
    if device.mask != u32::MAX {
        all.push(format!("IDs masked with {:#x}", device.mask));
    }
    if all.is_empty() { String::new() } else { format!(" ({})", all.join(", ")) }
}

fn streams(device: &Device, smmu: SmmuId) -> impl Iterator<Item = &IdMapping> {
    let here = move |mapping: &&IdMapping| mapping.target == Target::Smmu(smmu);
    device.mappings.iter().filter(here)
}

fn entry(device: &Device, mapping: &IdMapping) -> String {
    let (first, last) = (mapping.output, mapping.last_output());
    match mapping.inputs {
        Inputs::Any => format!("stream {first:#x}"),
        Inputs::Range { first: from, last: to } if first == last => {
            format!("{} -> stream {first:#x}", ids(device.pci, from, to))
        }
        Inputs::Range { first: from, last: to } => {
            format!("{} -> streams {first:#x}-{last:#x}", ids(device.pci, from, to))
        }
    }
}

/// One object a line: each SMMU, device, reserved region and finding, and a summary.
pub(super) fn json(out: &mut dyn Write, file: &str, machine: &Machine) -> io::Result<()> {
    for smmu in &machine.smmus {
        let table = &smmu.table;
        let interrupts: serde_json::Map<String, serde_json::Value> = table
            .interrupts
            .iter()
            .map(|(name, one)| (name.to_owned(), json!(one.intid)))
            .chain([("type".to_owned(), json!("interrupts"))])
            .collect();
        let fields = json!({
            "kind": "smmu", "file": file, "smmu": table.id.to_string(), "name": smmu.name,
            "base": table.base.0, "size": table.registers_size(),
            "coherent": table.coherency == Coherency::Coherent, "enabled": table.enabled,
            "interrupts": interrupts, "msi_device_id": table.msi_device_id,
            "broken_prefetch": table.quirks.broken_prefetch,
            "page0_only": table.quirks.page0_only,
            "repeat_invalidations": table.quirks.repeat_invalidations,
            "numa_node": table.numa_node, "at": table.at,
        });
        writeln!(out, "{}", json_line("smmu", fields))?;
    }
    for device in &machine.devices {
        let mappings: Vec<_> = device.mappings.iter().map(json_mapping).collect();
        let fields = json!({
            "kind": "device", "file": file, "name": device.name, "pci": device.pci,
            "enabled": device.enabled, "coherent": device.coherency == Coherency::Coherent,
            "ats": device.ats, "stall": device.stall, "pasid_bits": device.pasid_bits,
            "mask": device.mask, "mappings": mappings, "at": device.at,
        });
        writeln!(out, "{}", json_line("device", fields))?;
    }
    for region in &machine.reserved {
        let fields = json!({
            "kind": "reserved", "file": file, "name": region.name, "user": region.user,
            "iova": region.first, "length": region.length, "memory": region.first_byte(),
            "memory_type": region.memory_type.map(|kind| kind.to_string()),
            "privileged": region.privileged, "may_move": region.may_move, "at": region.at,
        });
        writeln!(out, "{}", json_line("reserved", fields))?;
    }
    for finding in machine.findings() {
        let fields = json!({
            "kind": "finding", "file": file, "severity": finding.severity.name(),
            "place": finding.place, "at": finding.at, "text": finding.text,
        });
        writeln!(out, "{}", json_line("finding", fields))?;
    }
    let of = |severity| machine.count(severity).0;
    let fields = json!({
        "kind": "summary", "file": file, "format": machine.format.name(),
        "smmus": machine.smmus.len(), "unread_smmus": machine.unread_smmus, "devices": machine.devices.len(),
        "errors": of(Severity::Error), "warnings": of(Severity::Warning),
        "notes": of(Severity::Note),
    });
    writeln!(out, "{}", json_line("summary", fields))
}

fn json_mapping(mapping: &IdMapping) -> serde_json::Value {
    let smmu = match mapping.target {
        Target::Smmu(smmu) => Some(smmu.to_string()),
        Target::OtherIommu(_) | Target::NoIommu => None,
    };
    let inputs = match mapping.inputs {
        Inputs::Any => None,
        Inputs::Range { first, last } => Some([first, last]),
    };
    json!({
        "type": "mapping", "smmu": smmu, "inputs": inputs, "outputs": [mapping.output, mapping.last_output()],
        "at": mapping.at,
    })
}
