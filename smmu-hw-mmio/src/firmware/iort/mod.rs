//! SMMUs and their devices in the ACPI table IORT (Arm DEN 0049).
//!
//! Read are: SMMUv3 nodes, root complexes, named components, RMRs and ITS groups, of every revision
//! up to E.f, and the ID mappings between them. A mapping's count is the number of IDs minus one.
//! Other nodes are stepped over.
//!
//! ```
//! use smmu_hw_mmio::firmware::iort::Iort;
//! use smmu_hw_mmio::firmware::{RequestId, Stream};
//! use smmu_hw_mmio::smmu_types::{SmmuId, StreamId};
//!
//! let iort = Iort::new(include_bytes!("../../../tests/firmware/qemu.iort"))?;
//! assert!(iort.checksum_is_right());
//! assert_eq!(iort.smmus().count(), 1);
//!
//! let function = RequestId::new(0, 2, 0).ok_or("no such function")?;
//! let stream = iort.stream_of_request(0, function)?;
//! assert_eq!(stream, Some(Stream { smmu: SmmuId(0), id: StreamId(0x10) }));
//!
//! let root_complex = iort.root_complexes(0).next().ok_or("no root complex")?;
//! let msi = iort.msi_of(&root_complex, function)?.ok_or("no ITS")?;
//! assert_eq!(msi.device_id, 0x10);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Iort::windows_of`] has the memory that firmware reserved for a stream:
//!
//! ```
//! use smmu_hw_mmio::firmware::iort::{Iort, IortError};
//! use smmu_hw_mmio::firmware::{ReservedWindow, Stream};
//! use smmu_hw_mmio::smmu_types::{SmmuId, StreamId};
//!
//! let iort = Iort::new(include_bytes!("../../../tests/firmware/qemu.iort"))?;
//! let stream = Stream { smmu: SmmuId(0), id: StreamId(0x10) };
//! let windows: Result<Vec<ReservedWindow>, IortError> = iort.windows_of(stream).collect();
//! assert_eq!(windows?, []); // QEMU reserves none
//! # Ok::<(), IortError>(())
//! ```
//!
//! # Limits
//!
//! A table of [`MAX_BYTES`] and [`MAX_NODES`] nodes. More gives an error. Mappings and memory ranges
//! must lie inside their node, as the specification says; so they cannot overlap those of another.
//!
//! # Cost
//!
//! [`Iort::new`] passes over the nodes once. Every mapping that is looked at passes over them to
//! find its target.

mod device;
mod error;
mod kind;
mod limits;
mod node;
mod rmr;
mod smmu;
mod table;

pub use device::IortDevice;
pub use error::{IortError, IortProblem};
pub use kind::NodeKind;
pub use limits::{MAX_BYTES, MAX_NODES};
pub use rmr::{ReservedMemory, ReservedRange};
pub use table::{Iort, MsiRoute};
