//! The target of images for boards, and of the libraries' check for bare metal.

/// Without floating point: interrupt handlers save no SIMD registers.
pub(crate) const TARGET: &str = "aarch64-unknown-none-softfloat";
