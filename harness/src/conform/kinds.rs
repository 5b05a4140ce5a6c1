//! The SMMUs that a backend with a choice is asked for.

use smmu_engine::machine::{Granules, MachineSmmu};
use smmu_types::OutputSize;

/// SMMUs of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in a few words.
    pub text: &'static str,
    pub(super) smmu: fn() -> MachineSmmu,
}

/// The kinds that there are. The first is what QEMU's SMMU is like; a backend without a choice, as
/// QEMU is, runs only that.
pub const KINDS: &[Kind] = &[
    Kind { name: "qemu-like", text: "as QEMU's SMMU", smmu: MachineSmmu::default },
    Kind {
        name: "small",
        text: "stage 1 alone, small numbers and addresses, no ranges, linear tables",
        smmu: || MachineSmmu {
            asid_bits: 8,
            vmid_bits: 8,
            output_size: OutputSize::Bits32,
            stage2: false,
            range: false,
            two_level: false,
            ..MachineSmmu::default()
        },
    },
    Kind {
        name: "stage2",
        text: "stage 2 alone",
        smmu: || MachineSmmu { stage1: false, ..MachineSmmu::default() },
    },
    Kind {
        name: "everything",
        text: "all that the model has",
        smmu: || MachineSmmu {
            output_size: OutputSize::Bits48,
            granules: Granules { k4: true, k16: true, k64: true },
            ats: true,
            msi: true,
            sev: true,
            stalls: true,
            page_requests: true,
            substream_bits: 10,
            two_level_cd: true,
            ..MachineSmmu::default()
        },
    },
];
