//! ASID and VMID spaces for Arm SMMUv3 drivers, with the life of a tag as types.
#![no_std]
#![forbid(unsafe_code)]
