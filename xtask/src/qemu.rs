//! Finds a QEMU that the scenarios support.
//!
//! Takes the first suitable one: from `SMMU_QEMU`, unpacked earlier, or on `PATH`. If none is
//! suitable, it unpacks one.

use std::path::Path;

use crate::error::Error;
use crate::process::{on_path, say, variable};
use crate::qemu_names::{FOLDER, PROGRAM, VARIABLE};
use crate::qemu_probe::{UsableQemu, probe};
use crate::unpack;
use crate::workspace::Workspace;

/// Finds a suitable QEMU, or unpacks one.
pub(crate) fn provide(workspace: &Workspace) -> Result<UsableQemu, Error> {
    if let Some(named) = variable(VARIABLE) {
        // Tests run in other folders, so the path must be absolute.
        let path = std::path::absolute(&named).unwrap_or_else(|_| named.into());
        return probe(&path, "from SMMU_QEMU").map_err(|why| Error::NamedQemu { path, why });
    }
    let unpacked = workspace.target.join(FOLDER).join(PROGRAM);
    if unpacked.exists() {
        match probe(&unpacked, "unpacked earlier") {
            Ok(qemu) => return Ok(qemu),
            Err(why) => report_unsuitable(&unpacked, &why),
        }
    }
    for path in on_path(PROGRAM) {
        match probe(&path, "on PATH") {
            Ok(qemu) => return Ok(qemu),
            Err(why) => report_unsuitable(&path, &why),
        }
    }
    unpack::unpack(&workspace.target)
}

fn report_unsuitable(path: &Path, why: &str) {
    say(format_args!("not suitable: {}: {why}", path.display()));
}
