//! `smmu-harness`: runs SMMUv3 driver scenarios on a software model and on real SMMUs.

use std::process::ExitCode;

fn main() -> ExitCode {
    smmu_harness::cli::main()
}
