//! What must hold for any input of a guest. The fuzz targets use these checks too.
//!
//! Bit positions here are typed from IHI 0070, not taken from the crate's keys.

mod batch;
pub(crate) mod bytes;
mod entry;
mod event;
mod ids;
mod world;

pub(crate) use batch::{Mapped, batch};
pub(crate) use entry::{WHERE_S1, entry};
pub(crate) use event::event;
pub(crate) use ids::ids;
pub(crate) use world::{PLAIN, RICH, World, parent};
