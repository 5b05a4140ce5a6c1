//! Why a device tree does not describe a machine that a program can use.

use alloc::string::String;

use smmu_hw_mmio::firmware::fdt::FdtError;

/// Why a device tree does not describe a machine that a program can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// The tree is damaged, or its SMMUs are described wrongly.
    #[error("{0}")]
    Tree(#[from] FdtError),
    /// What a node says does not fit the nodes around it.
    #[error("{path}: {error}")]
    Node {
        /// The node.
        path: String,
        /// What is wrong, and where.
        error: FdtError,
    },
    /// A property cannot be used.
    #[error("{path}: `{property}` {fault}")]
    Property {
        /// The node.
        path: String,
        /// The property.
        property: &'static str,
        /// What is wrong with it.
        fault: PropertyFault,
    },
    /// The tree has no RAM.
    #[error("the device tree has no enabled node with device_type \"memory\" and RAM in its `reg`")]
    NoMemory,
}

/// What is wrong with a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PropertyFault {
    /// It has fewer entries than the binding asks for.
    #[error("has no entry {entry}, counted from 0; add it")]
    Entry {
        /// The entry.
        entry: usize,
    },
    /// A region passes 2^64.
    #[error("has an address or a length of more than 64 bits")]
    TooLarge,
    /// A value that the binding does not know.
    #[error("has a value that its binding does not know")]
    Value,
}
