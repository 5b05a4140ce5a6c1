//! What firmware tables tell: where each SMMU is, and which StreamIDs the devices behind it have.
//!
//! - [`fdt`] (feature `fdt`) reads a flattened device tree;
//! - [`iort`] (feature `iort`) reads the ACPI table IORT;
//! - [`ReservedWindow`] is memory that firmware reserved for a stream, whichever table told it;
//! - [`StreamNames`] names the device of a stream, whichever table told it.
//!
//! Both readers borrow the bytes and allocate nothing. They accept any bytes: a wrong table gives a
//! typed error with the byte where it lies, never a panic. Work is bounded by the size of the
//! table and the limits that each module lists.
//!
//! ```
//! # #[cfg(feature = "iort")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use smmu_hw_mmio::firmware::{RequestId, Stream, StreamNames, iort::Iort};
//! use smmu_hw_mmio::smmu_types::{PhysAddr, SmmuId, StreamId};
//!
//! // IORT of a virtual machine with one SMMU at 0x905_0000.
//! let bytes = include_bytes!("../../tests/firmware/qemu.iort");
//! let iort = Iort::new(bytes)?;
//!
//! // Bring-up asks for the SMMU ...
//! let smmu = iort.smmu(SmmuId(0))?;
//! assert_eq!(smmu.base, PhysAddr(0x905_0000));
//! assert_eq!(smmu.interrupts.gerror.map(|one| one.intid), Some(0x6d));
//!
//! // ... attach for the stream of a PCIe function ...
//! let function = RequestId::new(0, 1, 0).ok_or("no such function")?;
//! let stream = iort.stream_of_request(0, function)?.ok_or("not behind an SMMU")?;
//! assert_eq!(stream, Stream { smmu: SmmuId(0), id: StreamId(8) });
//!
//! // ... and a fault handler for the function of the stream.
//! let mut name = String::new();
//! assert!(iort.write_name(stream, &mut name)?);
//! assert_eq!(name, "0000:00:01.0");
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "iort"))]
//! # fn main() {}
//! ```

#[cfg(feature = "fdt")]
pub mod fdt;
#[cfg(feature = "iort")]
pub mod iort;
mod mapping;
mod names;
mod request_id;
mod smmu;
mod window;

pub use mapping::{IdMapping, Inputs, Stream, Target};
pub use names::StreamNames;
pub use request_id::RequestId;
pub use smmu::{
    FirmwareQuirks, FirmwareSmmu, Interrupt, PAGE0_ONLY_SIZE, REGISTERS_SIZE, SmmuInterrupts,
    Trigger,
};
pub use window::{MemoryType, ReservedWindow};
