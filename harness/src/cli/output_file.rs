//! A file that a command writes beside what it prints.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::exit::Exit;

/// A file that is opened before the work begins, and written when it is done. Until then it keeps
/// what it had.
#[derive(Debug)]
pub(super) struct OutputFile {
    path: PathBuf,
    file: File,
}

impl OutputFile {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub(super) fn open(path: &Path) -> Result<Self, Exit> {
        let file = File::options().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| refused(path, &error))?;
        Ok(OutputFile { path: path.to_owned(), file })
    }

    /// Whether this is the file at a path.
    pub(super) fn is(&self, path: &Path) -> bool {
        let whole = |path: &Path| path.canonicalize().ok();
        whole(&self.path).is_some_and(|this| Some(this) == whole(path))
    }

    /// Writes the content in the place of what the file had.
    ///
    /// # Errors
    ///
    /// It cannot be written whole.
    pub(super) fn write(mut self, content: &str) -> Result<(), Exit> {
        self.replace(content).map_err(|error| refused(&self.path, &error))
    }

    fn replace(&mut self, content: &str) -> io::Result<()> {
        // A terminal or a pipe has no length.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.file.write_all(content.as_bytes())?;
        self.file.flush()
    }
}

fn refused(path: &Path, error: &io::Error) -> Exit {
    Exit::Usage(format!("cannot write {}: {error}", path.display()))
}
