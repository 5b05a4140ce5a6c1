//! The command queue of an Arm SMMUv3: batches, CMD_SYNC, bounded waits, command errors.
#![no_std]
#![forbid(unsafe_code)]
