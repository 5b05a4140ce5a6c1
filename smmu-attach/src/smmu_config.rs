//! Parameters of an SMMU.

use smmu_tags::{AsidSpace, SpaceConfig};
use smmu_types::Vmid;
use smmu_types::regs::strtab::Split;

/// Parameters of an [`Smmu`](crate::Smmu).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SmmuConfig {
    /// Number of StreamID bits that the table covers, if fewer than `IDR1.SIDSIZE` are in use. A
    /// linear table of 16 bits takes 4 MiB.
    pub stream_bits: Option<u8>,
    /// StreamID bits that the second level of a two-level table covers: arrays of 4, 16 or 64 KiB.
    /// The default is [`Split::Eight`].
    pub split: Split,
    /// An ASID space shared with other SMMUs; `None` for an own space.
    pub asids: Option<AsidSpace>,
    /// Configuration of the VMID space, such as reserved VMIDs. The default reserves none.
    pub vmids: SpaceConfig<'static, Vmid>,
}

impl Default for SmmuConfig {
    fn default() -> Self {
        let (stream_bits, asids) = (None, None);
        SmmuConfig { stream_bits, split: Split::Eight, asids, vmids: SpaceConfig::default() }
    }
}

impl SmmuConfig {
    /// A stream table of at most this many StreamID bits.
    #[must_use]
    pub fn with_stream_bits(self, bits: u8) -> Self {
        SmmuConfig { stream_bits: Some(bits), ..self }
    }

    /// Second levels of another size.
    #[must_use]
    pub fn with_split(self, split: Split) -> Self {
        SmmuConfig { split, ..self }
    }

    /// ASIDs from a space that other SMMUs use too.
    #[must_use]
    pub fn with_asids(self, asids: AsidSpace) -> Self {
        SmmuConfig { asids: Some(asids), ..self }
    }

    /// A VMID space of this configuration.
    #[must_use]
    pub fn with_vmids(self, vmids: SpaceConfig<'static, Vmid>) -> Self {
        SmmuConfig { vmids, ..self }
    }
}
