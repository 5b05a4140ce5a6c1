//! The owners of StreamIDs.

use alloc::vec::Vec;

use hashbrown::HashMap;
use smmu_types::StreamId;

use crate::Platform;
use crate::device::Device;
use crate::foreign_streams::ForeignStreams;
use crate::platform::Block;
use crate::stream_table::StreamTable;

/// The stream table of one SMMU, and the owners of its StreamIDs. [`Platform::Lock`] guards it.
pub(crate) struct StreamOwners<P: Platform> {
    pub(crate) table: StreamTable<Block<P>>,
    pub(crate) owners: HashMap<StreamId, Device<P>>,
    pub(crate) devices: Vec<Device<P>>,
    pub(crate) foreign: ForeignStreams,
}
