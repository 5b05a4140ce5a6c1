//! Arm SMMUv3 registers over real or modelled MMIO: probe, reset, event queue.
#![no_std]
#![forbid(unsafe_code)]
