//! Structures in memory (IHI 0070, chapter 5), for Non-secure streams.
//!
//! Fields of Secure and Realm structures only (`S2NSW`, `S_S2TTB`, `MECID`, `MPAM_NS`, ...) are
//! RES0 here, and therefore residue. Addresses reach to bit 55, as in the newest text. Address bits
//! above `IDR5.OAS` are RES0.

pub mod cd;
mod descriptors;
pub mod ste;

pub use descriptors::{l1cd, l1std, vms};

#[cfg(feature = "fields")]
use crate::layout::Layout;

#[cfg(feature = "fields")]
pub(super) const ALL: &[&Layout] =
    &[&l1std::LAYOUT, &ste::LAYOUT, &l1cd::LAYOUT, &cd::LAYOUT, &vms::LAYOUT];
