//! Attaching devices to domains behind Arm SMMUv3s as a transaction: stream tables, context descriptors, tags, invalidation arrays.
#![no_std]
#![forbid(unsafe_code)]
