//! The work of firmware: programs bridges, base addresses and decoding.

use super::error::QemuError;
use super::plan::MachinePlan;
use super::qtest::{Qtest, QtestCommand};

/// The configuration space of bus 0; each further bus has the next MiB.
const ECAM: u64 = 0x3f00_0000;

const COMMAND: u64 = 0x04;
/// Memory decoding and bus mastership.
const MEMORY_AND_MASTER: u32 = 6;
const BAR0: u64 = 0x10;
const BUS_NUMBERS: u64 = 0x18;
const MEMORY_WINDOW: u64 = 0x20;

fn config_space(bus: u32, slot: u32, function: u32) -> u64 {
    ECAM + (u64::from(bus) << 20) + (u64::from(slot) << 15) + (u64::from(function) << 12)
}

/// Makes every device of the plan reachable, and checks that each is at its place.
pub(super) fn program(qtest: &Qtest, plan: &MachinePlan) -> Result<(), QemuError> {
    let mut writes = Vec::new();
    for port in &plan.ports {
        let at = config_space(port.bus, port.slot, 0);
        let numbers = port.bus | port.secondary << 8 | port.secondary << 16;
        let (first, last) = port.window;
        let window = (last >> 16 & 0xfff0) << 16 | (first >> 16 & 0xfff0);
        writes.push(QtestCommand::Write32(at + BUS_NUMBERS, numbers));
        // Both halves come from addresses below 4 GiB.
        writes.push(QtestCommand::Write32(at + MEMORY_WINDOW, window as u32));
        writes.push(QtestCommand::Write32(at + COMMAND, MEMORY_AND_MASTER));
    }
    qtest.run(&writes)?;

    let places = plan.endpoints.iter().map(|endpoint| {
        let sid = endpoint.config.stream_id;
        config_space(sid >> 8, sid >> 3 & 31, sid & 7)
    });
    let reads: Vec<_> = places.clone().map(QtestCommand::Read32).collect();
    let identities = qtest.run(&reads)?;
    for (device, (endpoint, found)) in plan.endpoints.iter().zip(identities).enumerate() {
        let expected = endpoint.config.kind.identity();
        if found != u64::from(expected) {
            return Err(QemuError::DeviceAbsent {
                device,
                stream_id: endpoint.config.stream_id,
                found: found as u32,
                expected,
            });
        }
    }

    writes.clear();
    for (at, endpoint) in places.zip(&plan.endpoints) {
        // The window that the plan allocates from lies below 4 GiB.
        writes.push(QtestCommand::Write32(at + BAR0, endpoint.bar as u32));
        writes.push(QtestCommand::Write32(at + COMMAND, MEMORY_AND_MASTER));
    }
    qtest.run(&writes).map(drop)
}
