//! The seam to firmware tables: from an SMMU and a StreamID to the device.

use std::fmt;

use smmu_types::StreamId;

/// Names the device behind a StreamID, from a device tree or from the IORT.
pub trait StreamResolver: fmt::Debug {
    /// The device in a few words, such as "0000:44:00.2 (IORT)".
    ///
    /// `smmu` is the SMMU as the log names it, such as "arm-smmu-v3.4.auto", and empty if the log
    /// does not say. `None` if the resolver has nothing to say; the report then takes the StreamID
    /// as a PCI requester ID. A resolver may also say that no device has the stream.
    fn device(&self, smmu: &str, stream: StreamId) -> Option<String>;
}

/// Knows no firmware tables.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoResolver;

impl StreamResolver for NoResolver {
    fn device(&self, _: &str, _: StreamId) -> Option<String> {
        None
    }
}

/// The device of a stream: as the firmware tables name it, or else as a PCI requester ID.
pub(crate) fn device(resolver: &dyn StreamResolver, smmu: &str, stream: StreamId) -> String {
    if let Some(device) = resolver.device(smmu, stream) {
        return device;
    }
    let bits = if stream.0 > 0xffff { "bits 15:0 " } else { "" };
    let requester = requester(stream);
    format!(
        "StreamID {stream}: {bits}as a PCI requester ID {requester}, if it is one; IORT or iommu-map may shift or map it"
    )
}

/// The low 16 bits of a StreamID as a PCI requester ID: `44:00.2`.
#[must_use]
pub fn requester(stream: StreamId) -> String {
    let (bus, slot, function) = (stream.0 >> 8 & 0xff, stream.0 >> 3 & 31, stream.0 & 7);
    format!("{bus:02x}:{slot:02x}.{function}")
}
