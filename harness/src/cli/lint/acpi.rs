//! From an IORT to a machine.

use smmu_hw_mmio::firmware::iort::{Iort, IortError, NodeKind};
use smmu_hw_mmio::firmware::{IdMapping, Target};

use super::machine::{Device, Format, Machine, Memory, Reserved, Severity, Smmu};

/// A line of the report names no more streams.
const MOST_STREAMS: usize = 8;

pub(super) fn read(bytes: &[u8]) -> Result<Machine, IortError> {
    let iort = Iort::new(bytes)?;
    let mut machine = Machine::new(Format::Iort);
    let fail = |machine: &mut Machine, place: &str, error: IortError| {
        machine.find(Severity::Error, place, error.at, error.problem.to_string());
    };
    if !iort.checksum_is_right() {
        let text = "the bytes of the table do not add up to 0: the checksum is wrong, or the \
                    table was taken before firmware set it";
        machine.find(Severity::Warning, "IORT", 9, text.to_owned());
    }
    for smmu in iort.smmus() {
        match smmu {
            Ok(table) => {
                let name = format!("SMMUv3 at byte {:#x}", table.at);
                machine.smmus.push(Smmu { name, table });
            }
            Err(error) => {
                machine.unread_smmus += 1;
                fail(&mut machine, "SMMUv3", error);
            }
        }
    }
    for device in iort.devices() {
        let name = device.to_string();
        let mut mappings = Vec::new();
        let mut partly_read = false;
        for mapping in iort.mappings(&device) {
            match mapping {
                Ok(mapping) => mappings.push(mapping),
                Err(error) => {
                    partly_read = true;
                    fail(&mut machine, &name, error);
                }
            }
        }
        if let Err(error) = device.name() {
            fail(&mut machine, &name, error);
        }
        machine.devices.push(Device {
            name,
            at: device.at(),
            pci: device.kind() == NodeKind::RootComplex,
            enabled: true,
            coherency: device.coherency(),
            ats: device.has_ats(),
            stall: device.can_stall(),
            pasid_bits: device.pasid_bits(),
            mask: u32::MAX,
            mappings,
            partly_read,
        });
    }
    for memory in iort.reserved_memory() {
        let name = format!("RMR at byte {:#x}", memory.at());
        let mut streams: Vec<IdMapping> = Vec::new();
        for stream in iort.reserved_streams(&memory) {
            match stream {
                Ok(stream) => streams.push(stream),
                Err(error) => fail(&mut machine, &name, error),
            }
        }
        unused_streams(&mut machine, &name, &streams);
        if memory.ranges().next().is_none() || streams.is_empty() {
            let text = "the RMR has no memory or no stream, so it reserves nothing";
            machine.find(Severity::Warning, &name, memory.at(), text.to_owned());
        }
        let mut user: Vec<String> = streams.iter().take(MOST_STREAMS).map(user).collect();
        if let Some(more) = streams.len().checked_sub(MOST_STREAMS).filter(|more| *more > 0) {
            user.push(format!("and {more} more entries"));
        }
        let memory_type = memory.memory_type().unwrap_or_else(|error| {
            fail(&mut machine, &name, error);
            None
        });
        for range in memory.ranges() {
            machine.reserved.push(Reserved {
                name: name.clone(),
                user: user.join(", "),
                first: range.base.0,
                length: range.length,
                memory: Memory::Same,
                memory_type,
                privileged: memory.is_privileged(),
                may_move: memory.may_be_remapped(),
                at: range.at,
            });
        }
    }
    Ok(machine)
}

/// A stream of reserved memory that no device has.
fn unused_streams(machine: &mut Machine, name: &str, streams: &[IdMapping]) {
    for stream in streams.iter().filter(|stream| matches!(stream.target, Target::Smmu(_))) {
        let meets = |other: &IdMapping| {
            other.target == stream.target
                && other.output <= stream.last_output()
                && stream.output <= other.last_output()
        };
        let mut devices = machine.devices.iter().flat_map(|device| &device.mappings);
        if !devices.any(meets) {
            let text = format!("no device has {}; correct the mapping of the RMR", user(stream));
            machine.find(Severity::Warning, name, stream.at, text);
        }
    }
}

fn user(mapping: &IdMapping) -> String {
    let smmu = match mapping.target {
        Target::Smmu(smmu) => smmu.to_string(),
        Target::OtherIommu(at) => format!("IOMMU at byte {at:#x}"),
        Target::NoIommu => "no IOMMU".to_owned(),
    };
    match (mapping.output, mapping.last_output()) {
        (first, last) if first == last => format!("stream {first:#x} of {smmu}"),
        (first, last) => format!("streams {first:#x}-{last:#x} of {smmu}"),
    }
}
