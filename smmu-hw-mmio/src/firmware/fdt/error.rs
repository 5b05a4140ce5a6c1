//! Why a device tree, or a part of it, cannot be used.

use super::limits::{MAX_BYTES, MAX_DEPTH, MAX_NAME, MAX_REFERENCES};

/// Why a device tree, or a part of it, cannot be used, and where.
///
/// [`DeviceTree::path_at`] names the node at [`at`](Self::at).
///
/// [`DeviceTree::path_at`]: super::DeviceTree::path_at
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at:#x} of the device tree: {problem}")]
pub struct FdtError {
    /// The byte of the blob.
    pub at: u32,
    /// What is wrong there.
    pub problem: FdtProblem,
}

/// What is wrong in a device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FdtProblem {
    /// The bytes end inside the header.
    #[error("{have} bytes are no header; a blob has at least {need}")]
    NoHeader {
        /// The bytes given.
        have: usize,
        /// The bytes of a header.
        need: usize,
    },
    /// The first word is not the magic number.
    #[error("the magic number is {got:#x}, not 0xd00dfeed; give a flattened device tree (.dtb)")]
    Magic {
        /// The first word.
        got: u32,
    },
    /// A version that this crate does not read.
    #[error("version {version}, compatible with {last_compatible}; version 16 or 17 is needed")]
    Version {
        /// The version.
        version: u32,
        /// The oldest version that this blob is compatible with.
        last_compatible: u32,
    },
    /// The blob is longer than the bytes given.
    #[error("the header says {total} bytes, but only {have} are here; read the whole blob")]
    Truncated {
        /// The length in the header.
        total: u32,
        /// The bytes given.
        have: usize,
    },
    /// The blob is longer than this crate reads.
    #[error("{total} bytes; this crate reads up to {most}", most = MAX_BYTES)]
    TooLong {
        /// The length in the header.
        total: u32,
    },
    /// A block lies outside the blob, or begins at an odd place.
    #[error("the {block} block lies outside the blob or is not aligned to 4 bytes")]
    Block {
        /// Which block.
        block: &'static str,
    },
    /// The structure block has a word that is no token, or a token at a wrong place.
    #[error("token {got:#x} is unknown or misplaced; the blob is damaged from here on")]
    Token {
        /// The word.
        got: u32,
    },
    /// The structure block ends too early.
    #[error("the structure block ends here, inside a node; the blob is cut off")]
    Unfinished,
    /// A property reaches past the structure block.
    #[error("a property of {bytes} bytes reaches past the structure block; the blob is damaged")]
    PropertyPastEnd {
        /// The length of its value.
        bytes: u32,
    },
    /// A name does not end, is too long, or has bytes that are not of a name.
    #[error(
        "a name does not end within {most} bytes, or is not of printable ASCII without `/`",
        most = MAX_NAME
    )]
    Name,
    /// Too many levels of nodes.
    #[error("nodes are nested deeper than {most} levels", most = MAX_DEPTH)]
    TooDeep,
    /// More IOMMUs than the resolver has room for.
    #[error("more than {room} IOMMUs; take DeviceTree::<N>::with_room with a greater N")]
    TooManyIommus {
        /// The room.
        room: usize,
    },
    /// Two nodes have one phandle.
    #[error("phandle {phandle:#x} is also that of the node at byte {other:#x}; give each its own")]
    SamePhandle {
        /// The phandle.
        phandle: u32,
        /// Where the other node begins.
        other: u32,
    },
    /// The tree has no such SMMU.
    #[error("there is no smmu{asked}; the tree has {count} SMMUv3s, counted from 0")]
    NoSuchSmmu {
        /// The number asked for.
        asked: u16,
        /// The number of SMMUs.
        count: u16,
    },
    /// A node lacks a property that it must have.
    #[error("the node lacks `{property}`; add it")]
    Lacks {
        /// The property.
        property: &'static str,
    },
    /// A property's length is no whole number of entries.
    #[error(
        "`{property}` has {bytes} bytes, no whole number of entries; an entry here has {entry} bytes"
    )]
    Length {
        /// The property.
        property: &'static str,
        /// Its length.
        bytes: usize,
        /// The length of the entry that the bytes should hold.
        entry: usize,
    },
    /// A `#...-cells` property has a value that cannot be used.
    #[error("`{property}` is {got}; {least} to {most} can be used here")]
    CellCount {
        /// The property.
        property: &'static str,
        /// Its value.
        got: u32,
        /// The smallest usable value.
        least: u32,
        /// The largest usable value.
        most: u32,
    },
    /// An address cannot be translated to one that the CPU uses.
    #[error("address {address:#x} is in no entry of `ranges` of the bus; complete that property")]
    NotInRanges {
        /// The address on the bus.
        address: u64,
    },
    /// A range of addresses passes 2^64.
    #[error("{length:#x} bytes from address {address:#x} on pass 2^64; shorten the entry")]
    AddressWraps {
        /// The first address.
        address: u64,
        /// The length in bytes.
        length: u64,
    },
    /// A bus has no `ranges`.
    #[error("the bus has no `ranges`, so the CPU cannot reach what is on it; add the property")]
    NoRanges,
    /// A reference leads to no node.
    #[error("`{property}` refers to phandle {phandle:#x}, which no suitable node has")]
    NoSuchPhandle {
        /// The property.
        property: &'static str,
        /// The phandle.
        phandle: u32,
    },
    /// The entries of a map have another size than the IOMMU asks for.
    #[error(
        "`{property}` is written in entries of {written} cells, but `#iommu-cells` = {cells} of \
         the IOMMU asks for {wanted}; change one of them"
    )]
    EntryCells {
        /// The property.
        property: &'static str,
        /// Cells of an entry as written.
        written: u32,
        /// `#iommu-cells`.
        cells: u32,
        /// Cells of an entry by `#iommu-cells`.
        wanted: u32,
    },
    /// An entry of a map with several output cells covers several IDs.
    #[error(
        "{length} IDs with {cells} output cells: which cell counts up is undefined; give one entry for each ID"
    )]
    SeveralOutputs {
        /// The length of the entry.
        length: u32,
        /// `#iommu-cells`.
        cells: u32,
    },
    /// An entry of a map covers no ID.
    #[error("the entry has length 0; a length is the number of IDs")]
    EmptyRange,
    /// A range of IDs passes 2^32.
    #[error("{length:#x} IDs from {first:#x} on pass 2^32; shorten the entry")]
    RangeWraps {
        /// The first ID.
        first: u32,
        /// The number of IDs.
        length: u32,
    },
    /// The number of PASID bits is above 20.
    #[error("`pasid-num-bits` is {got}; a PASID has at most 20 bits")]
    PasidBits {
        /// The value.
        got: u32,
    },
    /// Names and interrupts do not match in number.
    #[error("{names} `interrupt-names` and {interrupts} interrupts; give each interrupt one name")]
    InterruptCount {
        /// The number of names.
        names: usize,
        /// The number of interrupts.
        interrupts: usize,
    },
    /// A GIC interrupt of a type that no GIC has.
    #[error("interrupt type {got} is no type of the GIC; SPI is 0, PPI 1, ESPI 2, EPPI 3")]
    InterruptType {
        /// The type.
        got: u32,
    },
    /// IOVAs are reserved for more memory than the region has.
    #[error(
        "{length:#x} bytes of IOVAs for a region of {memory:#x} bytes; the rest is memory of others: correct one of them"
    )]
    LongerThanMemory {
        /// The length of the IOVAs in bytes.
        length: u64,
        /// The length of the region in bytes.
        memory: u64,
    },
    /// Too many references to look up.
    #[error("more than {most} references to devices in reserved memory", most = MAX_REFERENCES)]
    TooManyReferences,
}
