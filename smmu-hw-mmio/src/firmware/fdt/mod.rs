//! SMMUs and their devices in a flattened device tree.
//!
//! Read are: nodes compatible with `arm,smmu-v3`, with `reg` (through the `ranges` of the buses
//! around), `interrupts` or `interrupts-extended` by name, `dma-coherent`, `msi-parent`,
//! `numa-node-id`, `status` and the quirks that only firmware tells; `iommus`, `iommu-map` and
//! `iommu-map-mask`; `ats-supported`, `dma-can-stall` and `pasid-num-bits`; `iommu-addresses` of
//! reserved memory. [`DeviceTree::nodes`] has every other node, for a program that finds the rest of
//! its machine in the same tree.
//!
//! ```
//! use smmu_hw_mmio::firmware::fdt::DeviceTree;
//! use smmu_hw_mmio::firmware::{RequestId, Stream};
//! use smmu_hw_mmio::smmu_types::{PhysAddr, SmmuId, StreamId};
//!
//! // The tree of a virtual machine with one SMMU in front of its PCIe.
//! let bytes = include_bytes!("../../../tests/firmware/qemu.dtb");
//! let tree = DeviceTree::new(bytes)?;
//!
//! let smmu = tree.smmu(SmmuId(0))?;
//! assert_eq!((smmu.base, smmu.size), (PhysAddr(0x905_0000), Some(0x2_0000)));
//!
//! let bridge = tree.devices().next().ok_or("no device behind an SMMU")?;
//! assert_eq!(bridge.path().to_string(), "/pcie@10000000");
//! let function = RequestId::new(0, 1, 0).ok_or("no such function")?;
//! let stream = tree.stream_of(&bridge, function)?;
//! assert_eq!(stream, Some(Stream { smmu: SmmuId(0), id: StreamId(8) }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Limits
//!
//! A blob of [`MAX_BYTES`], [`MAX_DEPTH`] levels of nodes, names of [`MAX_NAME`] characters,
//! [`MAX_REFERENCES`] references from reserved memory to devices, and the room for IOMMUs that the
//! caller chooses. More gives an error.
//!
//! # Cost
//!
//! [`DeviceTree::new`] passes over the tree twice. [`DeviceTree::smmu`] passes over it a few times:
//! for the nodes around the SMMU, and for its interrupt controller. A walk over all devices passes
//! once.

mod address;
mod blob;
mod device;
mod error;
mod interrupts;
mod iommus;
mod limits;
mod map;
mod node;
mod reserved;
mod smmu;
mod tree;

pub use blob::NodePath;
pub use device::FdtDevice;
pub use error::{FdtError, FdtProblem};
pub use limits::{MAX_BYTES, MAX_DEPTH, MAX_NAME, MAX_REFERENCES};
pub use map::Mappings;
pub use node::{BusRange, FdtNode};
pub use reserved::{ReservedRegion, ReservedRegions};
pub use tree::DeviceTree;
