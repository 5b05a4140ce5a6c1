//! Arm SMMUv3 types: register map, capabilities, commands, STEs, CDs, events, and the seams between the smmu crates.
#![no_std]
#![forbid(unsafe_code)]
