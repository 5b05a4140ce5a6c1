//! `--watch`: runs again when a file changes.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::inputs::{is_path, paths};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// The files of the arguments, each with the time of its last change and its size.
fn look(names: &[String]) -> Vec<(PathBuf, Option<(SystemTime, u64)>)> {
    let named = names.iter().filter(|name| is_path(name));
    // A directory that cannot be read stands for no file until it can be.
    named
        .flat_map(|name| paths(Path::new(name)).unwrap_or_default())
        .map(|path| {
            let state = path.metadata().and_then(|found| Ok((found.modified()?, found.len())));
            (path, state.ok())
        })
        .collect()
}

/// Calls `run` now and after each change of a file, for ever or until it returns an error.
pub(super) fn watch<E>(names: &[String], mut run: impl FnMut() -> Result<(), E>) -> Result<(), E> {
    loop {
        // Before the run: a change during it is seen.
        let before = look(names);
        run()?;
        while look(names) == before {
            std::thread::sleep(LOOK);
        }
    }
}
