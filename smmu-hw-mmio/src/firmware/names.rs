//! From a stream to the name of its device.

use core::fmt;

use smmu_types::{PhysAddr, SmmuId};

use super::mapping::Stream;

/// A firmware table that knows which device a stream belongs to.
///
/// A decoder of events holds one of these, and does not ask which format the table has.
pub trait StreamNames {
    /// The number of SMMUv3s in the table. Their ids are 0 and up.
    fn smmu_count(&self) -> u16;

    /// The SMMU with registers at this address.
    fn smmu_at(&self, base: PhysAddr) -> Option<SmmuId>;

    /// Writes the name of the device that has the stream, and returns `true`. Writes nothing and
    /// returns `false` if no device has it.
    ///
    /// A device that the table describes wrongly has no name here. Its error shows when a caller
    /// asks for its mappings.
    fn write_name(&self, stream: Stream, out: &mut dyn fmt::Write) -> Result<bool, fmt::Error>;
}
