//! The sorted, counted invalidation array of an Arm SMMUv3 domain, and its lock-free publication.
#![no_std]
#![forbid(unsafe_code)]
