//! What is wrong with reserved memory.

use super::machine::{Device, Finding, Format, Machine, Reserved, Severity};

/// The smallest granule of translation.
const PAGE: u64 = 0x1000;

pub(super) fn reserved(machine: &mut Machine) {
    let mut found = Vec::new();
    let mut by_user: Vec<&Reserved> = machine.reserved.iter().collect();
    by_user.sort_by_key(|region| (region.user.clone(), region.first, region.length));
    let mut highest: Option<(&Reserved, u64)> = None;
    for region in by_user {
        let mut say =
            |severity, text| found.push(Finding::new(severity, &region.name, region.at, text));
        let (first, length) = (region.first, region.length);
        let Some(more) = length.checked_sub(1) else {
            say(Severity::Error, format!("the region at {first:#x} has length 0"));
            continue;
        };
        let Some(last) = first.checked_add(more) else {
            say(Severity::Error, format!("{length:#x} bytes from {first:#x} on pass 2^64"));
            continue;
        };
        if !first.is_multiple_of(PAGE) || !length.is_multiple_of(PAGE) {
            let text =
                format!("{first:#x}-{last:#x} is not made of whole pages of {PAGE:#x} bytes");
            say(Severity::Warning, text);
        }
        if let Some(memory) = region.first_byte() {
            if memory % PAGE != first % PAGE {
                let text = format!(
                    "{first:#x} leads to memory at {memory:#x}, at another place of a page: no driver \
                     can map it"
                );
                say(Severity::Error, text);
            }
            let Some(end) = memory.checked_add(more) else {
                say(
                    Severity::Error,
                    format!("{length:#x} bytes of memory from {memory:#x} on pass 2^64"),
                );
                continue;
            };
            for smmu in &machine.smmus {
                let (base, size) = (smmu.table.base.0, smmu.table.registers_size());
                if memory <= base.saturating_add(size.max(1) - 1) && base <= end {
                    let text = format!(
                        "the device reaches the registers of {} at {base:#x}; reserve other memory",
                        smmu.table.id
                    );
                    say(Severity::Error, text);
                }
            }
        }
        let behind = |device: &Device| device.name == region.user && device.is_behind_any();
        if machine.format == Format::DeviceTree && !machine.devices.iter().any(behind) {
            say(Severity::Warning, format!("{} is not behind an SMMU", region.user));
        }
        let before = highest.filter(|(other, _)| other.user == region.user);
        if let Some((other, _)) = before.filter(|(_, end)| first <= *end) {
            let text = format!("{first:#x}-{last:#x} overlaps the region of {}", other.name);
            match region.first_byte().zip(other.first_byte()) {
                Some((memory, before))
                    if memory.wrapping_sub(first) != before.wrapping_sub(other.first) =>
                {
                    say(Severity::Error, text + ", and leads to other memory");
                }
                _ => say(Severity::Warning, text),
            }
        }
        if before.is_none_or(|(_, end)| end < last) {
            highest = Some((region, last));
        }
    }
    machine.add(found);
}
