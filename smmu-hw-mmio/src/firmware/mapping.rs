//! From the input IDs of a device to the StreamIDs of an SMMU.

use smmu_types::{SmmuId, StreamId};

/// A StreamID of one SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    /// The SMMU.
    pub smmu: SmmuId,
    /// The StreamID there.
    pub id: StreamId,
}

/// Where a mapping leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To an SMMUv3: the outputs are StreamIDs.
    Smmu(SmmuId),
    /// To an IOMMU that is no SMMUv3, described at this byte of the table.
    OtherIommu(u32),
    /// Past every IOMMU, to an interrupt controller. The DMA is not translated.
    NoIommu,
}

/// The input IDs of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// All transactions of the device have the one output.
    Any,
    /// Input `first + n` has the `n`-th output, up to and including `last`.
    Range {
        /// The first input ID.
        first: u32,
        /// The last input ID.
        last: u32,
    },
}

/// One entry of a table: input IDs of a device, and the StreamIDs that the SMMU sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMapping {
    /// The input IDs: Requester IDs of PCIe, or numbers that a named component defines.
    pub inputs: Inputs,
    /// The output of the first input.
    pub output: u32,
    /// Where the outputs are valid.
    pub target: Target,
    /// The byte of the table at which the entry begins.
    pub at: u32,
}

impl IdMapping {
    /// The number of outputs after the first.
    #[must_use]
    pub const fn more(&self) -> u32 {
        match self.inputs {
            Inputs::Any => 0,
            Inputs::Range { first, last } => last.saturating_sub(first),
        }
    }

    /// The last output.
    #[must_use]
    pub const fn last_output(&self) -> u32 {
        self.output.saturating_add(self.more())
    }

    /// The output of this input, or `None` if the entry does not hold it.
    #[must_use]
    pub fn output_of(&self, input: u32) -> Option<u32> {
        match self.inputs {
            Inputs::Any => Some(self.output),
            Inputs::Range { first, last } => (first..=last)
                .contains(&input)
                .then(|| input.checked_sub(first))
                .flatten()
                .and_then(|n| self.output.checked_add(n)),
        }
    }

    /// The stream of this input, if the entry holds it and leads to an SMMUv3.
    #[must_use]
    pub fn stream_of(&self, input: u32) -> Option<Stream> {
        let Target::Smmu(smmu) = self.target else { return None };
        Some(Stream { smmu, id: StreamId(self.output_of(input)?) })
    }

    /// Whether the entry gives this stream to its device.
    #[must_use]
    pub fn holds(&self, stream: Stream) -> bool {
        self.target == Target::Smmu(stream.smmu)
            && (self.output..=self.last_output()).contains(&stream.id.0)
    }

    /// The input that has this output. `None` if the entry has no such output, or asks for no
    /// input.
    #[must_use]
    pub fn input_of(&self, output: u32) -> Option<u32> {
        match self.inputs {
            Inputs::Any => None,
            Inputs::Range { first, .. } => {
                let n = output.checked_sub(self.output).filter(|n| *n <= self.more())?;
                first.checked_add(n)
            }
        }
    }
}
