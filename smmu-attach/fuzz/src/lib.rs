//! From the bytes of a fuzzer to the checks that the tests use too: one function for each fuzz
//! target.

#[path = "../../tests/guest/checks/mod.rs"]
#[expect(unused_imports, reason = "the tests use more of the checks than the fuzz targets do")]
mod checks;

#[path = "../../tests/attach/adopt_bytes.rs"]
mod adopt_bytes;

#[path = "../../tests/faults/hardware.rs"]
#[expect(dead_code, reason = "the tests use more of the hardware than the fuzz target does")]
mod hardware;

#[path = "../../tests/faults/bytes.rs"]
mod fault_bytes;

/// Events and page requests of hostile devices: each fault is answered once.
pub fn faults(data: &[u8]) {
    fault_bytes::bytes(data);
}

/// Registers and memory of a running SMMU: a survey ends, in bounded time, with streams or a doubt.
pub fn adopt(data: &[u8]) {
    adopt_bytes::bytes(data);
}

/// A guest's STE: the host's entry has its stage 2, and no more of the guest's than it may have.
pub fn entry(data: &[u8]) {
    checks::bytes::entry(data);
}

/// A guest's commands: VMID forced, StreamIDs mapped, progress exact.
pub fn batch(data: &[u8]) {
    checks::bytes::batch(data);
}

/// A host's event record: the guest gets its own fields alone.
pub fn event(data: &[u8]) {
    checks::bytes::event(data);
}

/// The ID registers of hosts: the guest's are what each has, or less.
pub fn ids(data: &[u8]) {
    checks::bytes::ids(data);
}
