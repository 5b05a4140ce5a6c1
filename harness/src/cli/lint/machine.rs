//! What a firmware table says, in one form for every format.

use smmu_hw_mmio::Coherency;
use smmu_hw_mmio::firmware::{FirmwareSmmu, IdMapping, MemoryType, Target};
use smmu_types::SmmuId;

/// More devices of a device tree are not checked: each has a path of up to 16 KiB.
pub(super) const MOST_DEVICES: usize = 4096;
/// More findings of one severity are counted, and not shown.
const MOST_FINDINGS: usize = 1000;

/// Which table it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    DeviceTree,
    Iort,
}

impl Format {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Format::DeviceTree => "device tree",
            Format::Iort => "IORT",
        }
    }
}

/// The content of one table, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) format: Format,
    pub(super) smmus: Vec<Smmu>,
    /// SMMUs whose description is broken.
    pub(super) unread_smmus: usize,
    pub(super) devices: Vec<Device>,
    pub(super) reserved: Vec<Reserved>,
    /// The first findings of each severity.
    findings: Vec<Finding>,
    /// All findings, by severity.
    counts: [usize; 3],
}

#[derive(Debug)]
pub(super) struct Smmu {
    pub(super) name: String,
    pub(super) table: FirmwareSmmu,
}

#[derive(Debug)]
pub(super) struct Device {
    pub(super) name: String,
    /// The byte of the table at which the device's description begins.
    pub(super) at: u32,
    /// Its input IDs are Requester IDs of PCIe.
    pub(super) pci: bool,
    pub(super) enabled: bool,
    pub(super) coherency: Coherency,
    pub(super) ats: bool,
    pub(super) stall: bool,
    pub(super) pasid_bits: u8,
    pub(super) mask: u32,
    pub(super) mappings: Vec<IdMapping>,
    /// A part of the mappings cannot be read, so a gap proves nothing.
    pub(super) partly_read: bool,
}

impl Device {
    pub(super) fn is_behind(&self, smmu: SmmuId) -> bool {
        self.mappings.iter().any(|mapping| mapping.target == Target::Smmu(smmu))
    }

    pub(super) fn is_behind_any(&self) -> bool {
        self.mappings.iter().any(|mapping| matches!(mapping.target, Target::Smmu(_)))
    }
}

/// Memory that a device uses from before bring-up on.
#[derive(Debug)]
pub(super) struct Reserved {
    pub(super) name: String,
    /// The device or the streams that use it.
    pub(super) user: String,
    pub(super) first: u64,
    pub(super) length: u64,
    pub(super) memory: Memory,
    /// How the device accesses it, if the table tells.
    pub(super) memory_type: Option<MemoryType>,
    pub(super) privileged: bool,
    pub(super) may_move: bool,
    pub(super) at: u32,
}

impl Reserved {
    /// The first byte of the memory behind it.
    pub(super) const fn first_byte(&self) -> Option<u64> {
        match self.memory {
            Memory::Same => Some(self.first),
            Memory::At(at) => Some(at),
            Memory::None => None,
        }
    }
}

/// The memory behind reserved IOVAs.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// At the same address as the IOVA.
    Same,
    At(u64),
    /// None: the IOVAs stay free.
    None,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// A driver cannot follow the table, or translates wrongly by it.
    Error,
    /// A driver can follow the table, but it looks mistaken.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// The name of the node or the device.
    pub(super) place: String,
    /// The byte of the table.
    pub(super) at: u32,
    pub(super) text: String,
}

impl Finding {
    pub(super) fn new(severity: Severity, place: &str, at: u32, text: String) -> Self {
        Self { severity, place: place.to_owned(), at, text }
    }
}

impl Machine {
    pub(super) fn new(format: Format) -> Self {
        let (smmus, unread_smmus, devices, reserved) = Default::default();
        Self {
            format,
            smmus,
            unread_smmus,
            devices,
            reserved,
            findings: Vec::new(),
            counts: [0; 3],
        }
    }

    pub(super) fn find(&mut self, severity: Severity, place: &str, at: u32, text: String) {
        self.add([Finding::new(severity, place, at, text)]);
    }

    pub(super) fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            let count = &mut self.counts[finding.severity as usize];
            *count += 1;
            if *count <= MOST_FINDINGS {
                self.findings.push(finding);
            }
        }
    }

    /// Errors first, then by place in the table.
    pub(super) fn sort_findings(&mut self) {
        self.findings.sort_by_key(|finding| (finding.severity, finding.at));
    }

    pub(super) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The number of findings of this severity, and how many of them are not kept.
    pub(super) fn count(&self, severity: Severity) -> (usize, usize) {
        let count = self.counts[severity as usize];
        (count, count.saturating_sub(MOST_FINDINGS))
    }
}
