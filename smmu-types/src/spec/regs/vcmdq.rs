//! The registers of one virtual command queue (VCMDQ) of Tegra241's CMDQV.
//!
//! They lie in a region of their own, two pages of 64 KiB. Offsets count from the first page. The
//! queue works as the queue of [`CMDQ_BASE`](super::CMDQ_BASE) does, with its own enable and its
//! own error bit. It has no MSIs: a `CMD_SYNC` with a `CS` other than 0 is illegal.

/// Consumer: index and wrap flag, and `ERR` in bits 30:24. 32 bits; writable only while the queue
/// is disabled.
pub const CONS: u32 = 0x0;
/// Producer: index and wrap flag. 32 bits.
pub const PROD: u32 = 0x4;
/// [`ENABLE`]. 32 bits.
pub const CONFIG: u32 = 0x8;
/// [`ENABLE`], once the queue runs. 32 bits, read-only.
pub const STATUS: u32 = 0xc;
/// [`ERROR`], toggled when the queue stops. 32 bits, read-only.
pub const GERROR: u32 = 0x10;
/// [`ERROR`]. A driver makes it equal to `GERROR` to let the queue continue. 32 bits.
pub const GERRORN: u32 = 0x14;
/// Base, bits 47:5, and log2 of the size, bits 4:0. 64 bits; writable only while the queue is
/// disabled.
pub const BASE: u32 = 0x1_0000;
/// The address of a copy of the consumer. 64 bits. The copy is unsupported: a driver writes 0.
pub const CONS_INDX_BASE: u32 = 0x1_0008;

/// The bit of [`CONFIG`] and [`STATUS`].
pub const ENABLE: u32 = 1 << 0;
/// The bit of [`GERROR`] and [`GERRORN`].
pub const ERROR: u32 = 1 << 0;
