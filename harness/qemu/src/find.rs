//! Finds a QEMU, and checks that it is suitable.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::error::{BinaryProblem, Missing, Origin, QemuError};
use super::probe::{self, Ran};

/// The name of the program.
pub const PROGRAM: &str = "qemu-system-aarch64";
/// The environment variable that names a QEMU.
pub const VARIABLE: &str = "SMMU_QEMU";
/// The first major version with `-device arm-smmuv3`, `iommu-testdev` and
/// `exit-with-parent`.
pub const OLDEST_MAJOR: u32 = 11;

const LIMIT: Duration = Duration::from_secs(10);

/// A QEMU that runs and is recent enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QemuBinary {
    path: PathBuf,
    version: String,
}

impl QemuBinary {
    /// The program, or a script that `exec`s it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version, such as `11.1.3`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Checks that the program has every feature that a machine needs. The error lists all that it
    /// lacks.
    ///
    /// The check starts the program once more (about 35 ms). [`QemuMachine::start`] makes it if
    /// QEMU refuses to start.
    ///
    /// [`QemuMachine::start`]: super::QemuMachine::start
    pub fn check_features(&self) -> Result<(), QemuError> {
        unfit(&self.path, &self.version, probe::missing(&self.path))
    }
}

/// Looks for QEMU, in this order: `explicit` (what the user gave with `--qemu`), the environment
/// variable `SMMU_QEMU`, `qemu/qemu-system-aarch64` in the target folder, `PATH`.
///
/// What `--qemu` or `SMMU_QEMU` names must be suitable; otherwise this fails. An unsuitable QEMU in
/// the target folder or on `PATH` is an error only if no other is found.
pub fn find(explicit: Option<&Path>, target_dir: Option<&Path>) -> Result<QemuBinary, QemuError> {
    Search::from_environment(explicit, target_dir).find()
}

/// Guesses the target folder of this build: `CARGO_TARGET_DIR`, else the folder above the running
/// program that cargo marked as a cache, else `target` in the current folder.
pub fn guess_target_dir() -> Option<PathBuf> {
    let named = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let above = || {
        let program = env::current_exe().ok()?;
        let marked = |dir: &&Path| dir.join("CACHEDIR.TAG").is_file();
        program.ancestors().find(marked).map(Path::to_owned)
    };
    let here = || Some(PathBuf::from("target"));
    named.filter(|dir| dir.is_dir()).or_else(above).or_else(here).filter(|dir| dir.is_dir())
}

/// The places to search.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// What the user named with `--qemu`. A name without a slash is searched on the search path.
    pub explicit: Option<PathBuf>,
    /// The value of `SMMU_QEMU`; an empty one counts as none.
    pub environment: Option<PathBuf>,
    /// The build's target folder.
    pub target_dir: Option<PathBuf>,
    /// The value of `PATH`.
    pub search_path: Option<OsString>,
}

impl Search {
    /// Takes `SMMU_QEMU` and `PATH` from this process.
    pub fn from_environment(explicit: Option<&Path>, target_dir: Option<&Path>) -> Self {
        Self {
            explicit: explicit.map(Path::to_owned),
            environment: env::var_os(VARIABLE).map(PathBuf::from),
            target_dir: target_dir.map(Path::to_owned),
            search_path: env::var_os("PATH"),
        }
    }

    /// Searches, as [`find`] does.
    pub fn find(&self) -> Result<QemuBinary, QemuError> {
        let named = |path: &Option<PathBuf>| path.clone().filter(|p| !p.as_os_str().is_empty());
        if let Some(path) = named(&self.explicit) {
            return self.named(path, Origin::Explicit);
        }
        if let Some(path) = named(&self.environment) {
            return self.named(path, Origin::Environment);
        }
        let mut looked = Vec::new();
        // The user named none of these, so an unsuitable one fails the search only without another.
        let mut unfit = None;
        if let Some(dir) = &self.target_dir {
            let path = dir.join("qemu").join(PROGRAM);
            looked.push(path.display().to_string());
            if path.exists() {
                match inspect(path, Origin::TargetDir) {
                    Ok(qemu) => return Ok(qemu),
                    Err(error) => unfit = Some(error),
                }
            }
        }
        if let Some(path) = self.on_path(Path::new(PROGRAM)) {
            match inspect(path, Origin::SearchPath) {
                Ok(qemu) => return Ok(qemu),
                Err(error) => unfit = unfit.or(Some(error)),
            }
        }
        if let Some(error) = unfit {
            return Err(error);
        }
        looked.push(format!("{PROGRAM} on PATH"));
        Err(QemuError::NotFound { looked: looked.join(", ") })
    }

    fn named(&self, path: PathBuf, origin: Origin) -> Result<QemuBinary, QemuError> {
        let bare = path.components().count() == 1 && path.is_relative();
        let path = match bare {
            true => self.on_path(&path).unwrap_or_else(|| Path::new(".").join(path)),
            false => path,
        };
        inspect(path, origin)
    }

    fn on_path(&self, name: &Path) -> Option<PathBuf> {
        env::split_paths(self.search_path.as_ref()?)
            .filter(|dir| !dir.as_os_str().is_empty())
            .map(|dir| dir.join(name))
            .find(|path| path.is_file() && executable(path))
    }
}

fn executable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

fn inspect(path: PathBuf, origin: Origin) -> Result<QemuBinary, QemuError> {
    match look(&path) {
        Ok(banner) => {
            let version = banner.version;
            if banner.major < OLDEST_MAJOR {
                let mut missing = vec![Missing::Version { needed: OLDEST_MAJOR }];
                missing.extend(probe::missing(&path));
                unfit(&path, &version, missing)?;
            }
            Ok(QemuBinary { path, version })
        }
        Err(problem) => Err(QemuError::BadBinary { origin, path, problem }),
    }
}

fn unfit(path: &Path, version: &str, missing: Vec<Missing>) -> Result<(), QemuError> {
    if missing.is_empty() {
        return Ok(());
    }
    Err(QemuError::Unfit { path: path.to_owned(), version: version.to_owned(), missing })
}

struct Banner {
    version: String,
    major: u32,
}

fn look(path: &Path) -> Result<Banner, BinaryProblem> {
    let kind = path.metadata().map_err(|_| BinaryProblem::Absent)?;
    if !kind.is_file() {
        return Err(BinaryProblem::NotAFile);
    }
    if !executable(path) {
        return Err(BinaryProblem::NotExecutable);
    }
    let mut command = Command::new(path);
    command.arg("--version");
    match probe::run(command, &[], LIMIT) {
        Ok(Ran::Ended { stdout, .. }) => {
            let first = stdout.lines().next().unwrap_or_default();
            parse(first)
                .ok_or_else(|| BinaryProblem::NotQemu { said: first.chars().take(80).collect() })
        }
        Ok(Ran::Overran) => Err(BinaryProblem::Silent(LIMIT)),
        Err(error) => Err(BinaryProblem::CannotRun(Arc::new(error))),
    }
}

fn parse(line: &str) -> Option<Banner> {
    let rest = line.strip_prefix("QEMU emulator version ")?;
    let version = rest.split_whitespace().next()?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    Some(Banner { version: version.to_owned(), major: digits.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let major = |line| parse(line).map(|b| (b.major, b.version));
        let debian = "QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1)";
        assert_eq!(major(debian), Some((11, "11.1.3".to_owned())));
        let candidate = "QEMU emulator version 12.0.0-rc1";
        assert_eq!(major(candidate), Some((12, "12.0.0-rc1".to_owned())));
        assert_eq!(major("QEMU emulator version "), None);
        assert_eq!(major("QEMU emulator version x"), None);
        assert_eq!(major("cat (GNU coreutils) 9.1"), None);
        assert_eq!(major(""), None);
    }

    #[test]
    fn the_target_folder_of_this_test_is_found() {
        let dir = guess_target_dir().unwrap();
        assert!(env::current_exe().unwrap().starts_with(&dir) || dir.ends_with("target"));
    }
}
