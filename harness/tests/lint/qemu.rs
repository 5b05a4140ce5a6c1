//! Tables that QEMU makes while the test runs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;

use libtest_mimic::Trial;
use smmu_hw_mmio::firmware::iort::Iort;
use smmu_hw_mmio::firmware::{RequestId, Stream, StreamNames};
use smmu_qemu::{DeviceConfig, DeviceKind, MachineConfig, QemuBinary, QemuMachine, QemuSmmuConfig};
use smmu_types::{PhysAddr, SmmuId, StreamId};

use crate::{KEPT, common, folder, lint};

pub(crate) fn trials() -> impl Iterator<Item = Trial> {
    [
        common::trial("qemu_makes_the_kept_tree", qemu_makes_the_kept_tree),
        common::trial("qemu_makes_the_kept_table", qemu_makes_the_kept_table),
        common::trial("streams_are_those_of_the_machine", streams_are_those_of_the_machine),
    ]
    .into_iter()
}

fn qemu() -> QemuBinary {
    match smmu_qemu::find(None, smmu_qemu::guess_target_dir().as_deref()) {
        Ok(qemu) => qemu,
        Err(error) => panic!("{error}; SMMU_NO_QEMU=1 leaves out what needs it"),
    }
}

/// The tree of this QEMU, as the README of the kept files says.
fn qemu_makes_the_kept_tree() {
    let here = folder("qemu-tree");
    let machine = "virt,highmem=off,gic-version=3,iommu=smmuv3,dtb-randomness=off";
    let output = Command::new(qemu().path())
        .current_dir(&here)
        .args(["-accel", "qtest", "-display", "none", "-nodefaults", "-cpu", "cortex-a57"])
        .args(["-m", "64M", "-machine", &format!("{machine},dumpdtb=qemu.dtb")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Other versions may add nodes. Which device is behind which SMMU stays.
    let told = |folder: &Path| {
        let (out, err, code) = lint(folder, &["qemu.dtb"]);
        assert_eq!((err.as_str(), code), ("", 0));
        out.split("\n\nbehind no SMMUv3").next().unwrap().to_owned()
    };
    assert_eq!(told(&here), told(Path::new(KEPT)));
}

const FW_CFG_DMA: u64 = 0x0902_0010;
const FW_CFG_FILES: u32 = 0x19;
const SELECT: u32 = 8;
const READ: u32 = 2;

/// Reads a file that QEMU hands to firmware, by the DMA interface of fw_cfg. The first MiB of RAM
/// is free.
fn fw_cfg(machine: &QemuMachine, name: &str) -> Vec<u8> {
    let list = fw_cfg_item(machine, FW_CFG_FILES, 4 + 64 * 128);
    // Each entry: size, selector, a reserved half word, 56 bytes of name.
    let entries = list[4..].chunks_exact(64);
    let entry = entries.into_iter().find(|entry| entry[8..].starts_with(name.as_bytes())).unwrap();
    let size = u32::from_be_bytes(entry[..4].try_into().unwrap());
    let selector = u16::from_be_bytes(entry[4..6].try_into().unwrap());
    fw_cfg_item(machine, selector.into(), size)
}

fn fw_cfg_item(machine: &QemuMachine, selector: u32, size: u32) -> Vec<u8> {
    let ram = machine.ram();
    let (control, data) = (ram.base(), ram.base() + 0x1000);
    let set = |at: u64, bytes: [u8; 8]| {
        ram.word(at).unwrap().store(u64::from_le_bytes(bytes), Ordering::Relaxed);
    };
    let command = u64::from(selector << 16 | SELECT | READ) << 32 | u64::from(size);
    set(control, command.to_be_bytes());
    set(control + 8, data.to_be_bytes());
    machine.qtest().writeq(FW_CFG_DMA, control.swap_bytes()).unwrap();
    let status = ram.word(control).unwrap().load(Ordering::Relaxed) as u32;
    assert_eq!(status, 0, "fw_cfg refuses");
    let words = (data..).step_by(8).take(size.div_ceil(8) as usize);
    let bytes = words.flat_map(|at| ram.word(at).unwrap().load(Ordering::Relaxed).to_le_bytes());
    bytes.take(size as usize).collect()
}

/// The IORT among QEMU's ACPI tables, with the checksum that firmware would set.
fn iort_of(machine: &QemuMachine) -> Vec<u8> {
    let tables = fw_cfg(machine, "etc/acpi/tables");
    let mut at = 0;
    loop {
        let table = &tables[at..];
        let length = u32::from_le_bytes(table[4..8].try_into().unwrap()) as usize;
        if table.starts_with(b"IORT") {
            let mut table = table[..length].to_vec();
            let sum = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
            table[9] = table[9].wrapping_sub(sum);
            return table;
        }
        at += length;
    }
}

/// The kept table is of `iommu=smmuv3`, with the SMMU at another address than `-device` puts it.
fn qemu_makes_the_kept_table() {
    let machine = QemuMachine::start(&qemu(), &MachineConfig::default()).unwrap();
    let here = folder("qemu-table");
    fs::write(here.join("qemu.iort"), iort_of(&machine)).unwrap();
    fs::write(here.join("tables"), fw_cfg(&machine, "etc/acpi/tables")).unwrap();
    let told = |folder: &Path| {
        let (out, err, code) = lint(folder, &["qemu.iort"]);
        assert_eq!((err.as_str(), code), ("", 0));
        let lines = out.lines().filter(|line| !line.starts_with("  registers"));
        lines.filter(|line| !line.starts_with("  interrupts")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(told(&here), told(Path::new(KEPT)));
    let (out, _, code) = lint(&here, &["tables"]);
    assert!(out.contains("IORT, 1 SMMUv3, 1 device behind an SMMUv3"), "{out}");
    // The checksum is still to be set by firmware.
    assert!(out.contains("0 errors, 1 warning"), "{out}");
    assert_eq!(code, 0);
}

/// What IORT says of each device of a machine with three SMMUs is what the machine does.
fn streams_are_those_of_the_machine() {
    let device = |smmu, stream_id| DeviceConfig { smmu, stream_id, kind: DeviceKind::TestDev };
    let devices = vec![device(0, 0x8), device(0, 0x10), device(1, 0x900), device(2, 0xb00)];
    let config = MachineConfig {
        smmus: vec![QemuSmmuConfig::default(); 3],
        devices: devices.clone(),
        ..MachineConfig::default()
    };
    let machine = QemuMachine::start(&qemu(), &config).unwrap();
    let table = iort_of(&machine);
    let iort = Iort::new(&table).unwrap();
    assert!(iort.checksum_is_right());
    for smmu in 0..3_u16 {
        let base = PhysAddr(machine.smmu_base(smmu.into()));
        assert_eq!(iort.smmu_at(base), Some(SmmuId(smmu)));
        let smmu = iort.smmu(SmmuId(smmu)).unwrap();
        // The four interrupts of an SMMU follow each other.
        let first = 112 + 32 + 4 * u32::from(smmu.id.0);
        let wired = smmu.interrupts;
        let intids = [wired.eventq, wired.priq, wired.cmdq_sync, wired.gerror];
        assert_eq!(intids.map(|one| one.unwrap().intid - first), [0, 1, 2, 3]);
    }
    for DeviceConfig { smmu, stream_id, .. } in devices {
        let smmu = SmmuId(u16::try_from(smmu).unwrap());
        let stream = Stream { smmu, id: StreamId(stream_id) };
        let function = RequestId(u16::try_from(stream_id).unwrap());
        assert_eq!(iort.stream_of_request(0, function), Ok(Some(stream)), "{function}");
        let mut name = String::new();
        assert!(iort.write_name(stream, &mut name).unwrap());
        assert_eq!(name, format!("0000:{function}"));
    }
}
