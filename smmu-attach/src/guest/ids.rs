//! The ID registers that a guest sees.

use smmu_types::common_ids::{IdJoin, JOINED_REGISTERS, is_of_the_host};
use smmu_types::layout::{Field, FieldValue};
use smmu_types::{Capabilities, Endianness, IdRegisters, OutputSize, StallModel, fields};

/// What an emulator does, or passes through, beyond the least.
///
/// [`Emulation::new`] is an emulator that does the least: no ATS, page requests, stalls, MSIs or
/// updates of tables by hardware. The sizes are upper bounds: the guest sees the smallest of them
/// and of its hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Emulation {
    /// It shows the ATS capability of devices, and forwards `ATC_INV`.
    pub ats: bool,
    /// It has a PRI queue, and forwards `PRI_RESP`. Without `ats` it has no effect.
    pub page_requests: bool,
    /// It forwards stalled transactions, and `RESUME`.
    pub stalls: bool,
    /// It sends MSIs for the guest's queues.
    pub msi: bool,
    /// It wakes the guest's CPUs for `SIG_SEV`.
    pub sev: bool,
    /// The SMMU may update flags in the guest's tables. The host's record of dirty memory (for a
    /// migration) must then count these writes.
    pub table_update: bool,
    /// It reads two-level stream tables.
    pub two_level_stream_table: bool,
    /// Bits of a StreamID.
    pub stream_bits: u8,
    /// Bits of a SubstreamID.
    pub substream_bits: u8,
    /// log2 of the largest command queue.
    pub cmdq_log2: u8,
    /// log2 of the largest event queue.
    pub eventq_log2: u8,
    /// log2 of the largest PRI queue.
    pub priq_log2: u8,
    /// The largest intermediate address. The input of the parent's stage 2 must have as many bits.
    pub output_size: OutputSize,
}

impl Emulation {
    /// An emulator that does the least, with queues and tables as large as the architecture allows.
    #[must_use]
    pub const fn new(output_size: OutputSize) -> Self {
        Emulation {
            ats: false,
            page_requests: false,
            stalls: false,
            msi: false,
            sev: false,
            table_update: false,
            two_level_stream_table: true,
            stream_bits: 32,
            substream_bits: 20,
            cmdq_log2: 19,
            eventq_log2: 19,
            priq_log2: 19,
            output_size,
        }
    }
}

/// Why no ID registers serve a guest on these SMMUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuestIdsError {
    /// The list of SMMUs is empty.
    #[error("there is no SMMU; give the ID registers of each SMMU that the guest may run on")]
    NoHost,
    /// An SMMU lacks a stage.
    #[error("SMMU {smmu} has IDR0 = {idr0:#x}: nesting needs S1P and S2P; leave this SMMU out")]
    NoNesting {
        /// Its index in the list.
        smmu: usize,
        /// Its `IDR0`.
        idr0: u32,
    },
    /// Two SMMUs have values that exclude each other.
    #[error(
        "one SMMU has {register}.{field} = {one}, another {other}: no guest is right for both; leave one out"
    )]
    Conflict {
        /// The register.
        register: &'static str,
        /// The field.
        field: &'static str,
        /// One value.
        one: u64,
        /// The other value.
        other: u64,
    },
    /// What the SMMUs have in common is nothing that a guest can use.
    #[error("{register} = {value:#x} in common: {what}; leave an SMMU out")]
    Unusable {
        /// The register.
        register: &'static str,
        /// The common value.
        value: u32,
        /// What is missing.
        what: &'static str,
    },
    /// Faults always stall, and the emulator does not forward stalls.
    #[error(
        "an SMMU has IDR0.STALL_MODEL = 2: its faults always stall; forward stalls, or leave it out"
    )]
    ForcedStalls,
    /// A size of the emulator is too small.
    #[error(
        "the emulator and its hosts have {name} = {value} in common, at least {least} is needed"
    )]
    TooSmall {
        /// The size.
        name: &'static str,
        /// The value.
        value: u8,
        /// The least.
        least: u8,
    },
}

/// Fields whose value in the guest says nothing of the host's SMMU: those of tables and queues that
/// the emulator reads and writes, and the one that has no meaning without stage 2.
pub(super) fn is_of_the_emulation(register: &str, field: &str) -> bool {
    matches!(
        (register, field),
        ("IDR0", "MSI" | "SEV" | "ST_LEVEL" | "NS1ATS")
            | ("IDR1", "SIDSIZE" | "PRIQS" | "EVENTQS" | "CMDQS")
    )
}

/// The last minor version of the architecture that is known here: SMMUv3.4.
const LAST_MINOR: u64 = 4;

/// The value of a register, by its name among [`JOINED_REGISTERS`].
pub(super) fn register(ids: &IdRegisters, name: &str) -> u64 {
    let named = ids.named();
    named.iter().find(|(of, _)| *of == name).map_or(0, |(_, value)| u64::from(*value))
}

/// What a field of the host's SMMU counts as. `None`, which is no feature, for a level that is not
/// known here.
pub(super) fn host_value(host: &IdRegisters, name: &str, field: &'static Field) -> Option<u64> {
    let value = field.get(&[register(host, name)]);
    match (name, field.name()) {
        // The driver uses 48 bits where the value is reserved.
        ("IDR5", "OAS") => {
            let size = Capabilities::decode(*host).output_size.unwrap_or(OutputSize::Bits48);
            Some(size as u64)
        }
        // A later version has all that the last known one has. A choice or a set of formats is
        // judged in common.
        ("AIDR", _) | ("IDR0", "TTF" | "TTENDIAN" | "STALL_MODEL") => Some(value),
        _ if (FieldValue { field, value }).is_reserved() => None,
        _ => Some(value),
    }
}

/// The largest value of a field that a guest sees. `None` if there is no bound.
fn bound(register: &str, field: &str, emulation: &Emulation) -> Option<u64> {
    let if_set = |flag: bool| if flag { None } else { Some(0) };
    match (register, field) {
        ("IDR0", "ATS" | "ATSRECERR") => if_set(emulation.ats),
        ("IDR0", "PRI") => if_set(emulation.ats && emulation.page_requests),
        ("IDR0", "MSI") => if_set(emulation.msi),
        ("IDR0", "SEV") => if_set(emulation.sev),
        ("IDR0", "HTTU") => if_set(emulation.table_update),
        ("IDR0", "ST_LEVEL") => Some(emulation.two_level_stream_table.into()),
        ("IDR1", "SIDSIZE") => Some(emulation.stream_bits.min(32).into()),
        ("IDR1", "SSIDSIZE") => Some(emulation.substream_bits.min(20).into()),
        ("IDR1", "CMDQS") => Some(emulation.cmdq_log2.min(19).into()),
        ("IDR1", "EVENTQS") => Some(emulation.eventq_log2.min(19).into()),
        ("IDR1", "PRIQS") if emulation.ats && emulation.page_requests => {
            Some(emulation.priq_log2.min(19).into())
        }
        ("IDR1", "PRIQS") => Some(0),
        ("IDR5", "OAS") => Some(emulation.output_size as u64),
        ("IDR5", "STALL_MAX") => if_set(emulation.stalls),
        // A guest's STE cannot use them.
        ("IDR1", "ATTR_PERMS_OVR" | "ATTR_TYPES_OVR") => Some(0),
        ("IDR3", "PBHA" | "PASIDTT" | "S1PI" | "THE" | "AIE") => Some(0),
        // Without a second stage there is nothing to split ATS by.
        ("IDR0", "NS1ATS") => Some(0),
        // Tables of 128-bit descriptors, and 56 bits of input address, which come with them.
        ("IDR5", "D128") => Some(0),
        ("IDR5", "VAX") => Some(1),
        ("AIDR", "ArchMajorRev") => Some(0),
        ("AIDR", "ArchMinorRev") => Some(LAST_MINOR),
        _ => None,
    }
}

/// The ID registers for a guest that may run on each of these SMMUs: what all have, without what is
/// the host's and what the emulator does not do.
///
/// The result is what [`GuestSmmu::new`](super::GuestSmmu::new) takes with each of the SMMUs.
/// `IIDR` is 0: the guest's SMMU is of no implementation, and has the errata of none.
///
/// # Errors
///
/// An SMMU cannot nest, two SMMUs exclude each other, or what they have in common is too little.
pub fn guest_ids(
    hosts: &[IdRegisters],
    emulation: &Emulation,
) -> Result<IdRegisters, GuestIdsError> {
    if hosts.is_empty() {
        return Err(GuestIdsError::NoHost);
    }
    if let Some((smmu, host)) = hosts.iter().enumerate().find(|(_, id)| id.idr0 & 3 != 3) {
        return Err(GuestIdsError::NoNesting { smmu, idr0: host.idr0 });
    }
    let mut ids = IdRegisters::default();
    for name in JOINED_REGISTERS {
        let Some((_, layout)) = fields::register_by_name(name) else { continue };
        let mut word = 0;
        for field in layout.fields() {
            if is_of_the_host(name, field.name()) {
                continue;
            }
            let values = hosts.iter().map(|host| host_value(host, name, field));
            let joined = IdJoin::of(name, field.name()).join(field.max(), values);
            if let Some([one, other]) = joined.conflict {
                let (register, field) = (name, field.name());
                return Err(GuestIdsError::Conflict { register, field, one, other });
            }
            let most = bound(name, field.name(), emulation).unwrap_or(u64::MAX);
            word |= field.place(joined.value.min(most)).unwrap_or(0);
        }
        let word = word as u32;
        match name {
            "IDR0" => ids.idr0 = word,
            "IDR1" => ids.idr1 = word,
            "IDR3" => ids.idr3 = word,
            "IDR5" => ids.idr5 = word,
            _ => ids.aidr = word,
        }
    }
    finish(ids, emulation)
}

const VMSAV8_64: u32 = 2 << 2;
const STALL_MODEL: u32 = 3 << 24;
const TERMINATE_ONLY: u32 = 1 << 24;
const GRANULES: u32 = 7 << 4;
const OAS: u32 = 7;
const OAS_48: u32 = 5;
const OAS_52: u32 = 6;
const LEAST_CMDQ_LOG2: u8 = 1;

/// Checks the common registers, and settles the fields that depend on others.
fn finish(mut ids: IdRegisters, emulation: &Emulation) -> Result<IdRegisters, GuestIdsError> {
    let unusable = |register, value, what| Err(GuestIdsError::Unusable { register, value, what });
    match Capabilities::decode(ids).stall_model {
        StallModel::Reserved => return unusable("IDR0", ids.idr0, "STALL_MODEL is reserved"),
        StallModel::Forced if !emulation.stalls => return Err(GuestIdsError::ForcedStalls),
        StallModel::Both if !emulation.stalls => {
            ids.idr0 = ids.idr0 & !STALL_MODEL | TERMINATE_ONLY;
        }
        _ => {}
    }
    // Sizes that are reserved in the common version, or without 128-bit descriptors: the next
    // smaller one that is not.
    for smaller in [OAS_52, OAS_48] {
        if Capabilities::decode(ids).output_size.is_none() {
            ids.idr5 = ids.idr5 & !OAS | smaller;
        }
    }
    let caps = Capabilities::decode(ids);
    if ids.idr0 & VMSAV8_64 == 0 {
        return unusable("IDR0", ids.idr0, "no VMSAv8-64 tables (TTF)");
    }
    if !matches!(caps.endianness, Endianness::Little | Endianness::Mixed) {
        return unusable("IDR0", ids.idr0, "no little-endian tables (TTENDIAN)");
    }
    if ids.idr5 & GRANULES == 0 {
        return unusable("IDR5", ids.idr5, "no granule (GRAN4K, GRAN16K, GRAN64K)");
    }
    if caps.cmdq_log2 < LEAST_CMDQ_LOG2 {
        let (name, value) = ("IDR1.CMDQS", caps.cmdq_log2);
        return Err(GuestIdsError::TooSmall { name, value, least: LEAST_CMDQ_LOG2 });
    }
    Ok(ids)
}
