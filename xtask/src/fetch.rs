//! Fetches QEMU's packages with the machine's own apt.
//!
//! apt gets its own folders, so it needs no privileges and does not change the machine's package
//! state. It uses the machine's mirror, keys and proxy.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::apt::Mirror;
use crate::error::Error;
use crate::process::{capture_success, say};
use crate::qemu_probe::QemuVersion;

pub(crate) const PACKAGE: &str = "qemu-system-arm";

const LISTS_LIMIT: Duration = Duration::from_secs(120);
const LOCAL_LIMIT: Duration = Duration::from_secs(60);

/// Clears apt's hooks: they work on the machine's package state.
const APT_CONF: &str = "\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
";

/// apt with all its folders in one of ours.
pub(crate) struct Apt {
    folder: PathBuf,
    architecture: &'static str,
    suites: &'static [&'static str],
    deadline: Instant,
}

impl Apt {
    /// Empties `folder` and starts there.
    pub(crate) fn new(
        folder: PathBuf,
        architecture: &'static str,
        suites: &'static [&'static str],
        deadline: Instant,
    ) -> Result<Self, Error> {
        let _ = fs::remove_dir_all(&folder);
        for below in ["lists/partial", "cache/archives/partial", "log"] {
            let path = folder.join(below);
            fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        }
        write(&folder.join("status"), "")?;
        write(&folder.join("apt.conf"), APT_CONF)?;
        Ok(Self { folder, architecture, suites, deadline })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").arg("-c").arg(self.folder.join("apt.conf"));
        let suite = self.suites.last().copied().unwrap_or_default();
        let debian = self.architecture;
        for (name, path) in [
            ("Dir::Etc::sourcelist", "debian.sources"),
            ("Dir::State", ""),
            ("Dir::State::lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
            ("Dir::Log", "log"),
        ] {
            let mut option = OsString::from(format!("{name}="));
            option.push(self.folder.join(path));
            command.arg("-o").arg(option);
        }
        for option in [
            "Dir::Etc::sourceparts=-",
            "Dir::Etc::preferences=-",
            "Dir::Etc::preferencesparts=-",
            // apt's own user may lack access to the target folder.
            "APT::Sandbox::User=root",
            "APT::Update::Error-Mode=any",
            "APT::Install-Recommends=false",
            "APT::Install-Suggests=false",
            "Acquire::Retries=3",
            "Acquire::http::Timeout=30",
            "Acquire::https::Timeout=30",
            "Acquire::Languages=none",
        ] {
            command.args(["-o", option]);
        }
        command.args(["-o", &format!("APT::Architecture={debian}")]);
        command.args(["-o", &format!("APT::Architectures={debian}")]);
        command.args(["-o", &format!("APT::Default-Release={suite}")]);
        command
    }

    /// Downloads the packages of a new enough QEMU and returns its package version.
    pub(crate) fn fetch(&self, mirror: &Mirror) -> Result<String, FetchError> {
        let source = mirror.source(self.suites, self.architecture);
        write(&self.folder.join("debian.sources"), &source)?;
        capture_success(
            self.command("apt-get").args(["-q", "update"]),
            LISTS_LIMIT.min(self.time_left()),
        )?;
        let policy =
            capture_success(self.command("apt-cache").args(["policy", PACKAGE]), LOCAL_LIMIT)?;
        let candidate = candidate(&policy).ok_or(FetchError::NoPackage)?;
        if !upstream(candidate).is_some_and(QemuVersion::is_new_enough) {
            return Err(FetchError::TooOld(candidate.to_owned()));
        }
        say(format_args!("downloading {PACKAGE} {candidate}"));
        capture_success(
            self.command("apt-get").args(["-q", "-y", "--download-only", "install", PACKAGE]),
            self.time_left(),
        )?;
        Ok(candidate.to_owned())
    }

    /// The downloaded packages.
    pub(crate) fn packages(&self) -> Result<Vec<PathBuf>, Error> {
        let archives = self.folder.join("cache/archives");
        let files = fs::read_dir(&archives)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(Error::io("read", &archives))?;
        let paths = files.into_iter().map(|file| file.path());
        Ok(paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect())
    }

    /// Removes all downloads.
    pub(crate) fn remove(self) -> Result<(), Error> {
        fs::remove_dir_all(&self.folder).map_err(Error::io("remove", &self.folder))
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Why one mirror and suite has no QEMU; the next may have it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("no package {PACKAGE}")]
    NoPackage,
    #[error("{PACKAGE} {0} is too old")]
    TooOld(String),
    #[error(transparent)]
    Other(#[from] Error),
}

/// The candidate version in the output of `apt-cache policy`.
fn candidate(policy: &str) -> Option<&str> {
    policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))
        .filter(|version| *version != "(none)")
}

/// QEMU's own version in a package version such as `1:11.1.3+ds-1`.
fn upstream(package_version: &str) -> Option<QemuVersion> {
    let behind_epoch = package_version.split_once(':').map(|(_, rest)| rest);
    QemuVersion::parse(behind_epoch.unwrap_or(package_version))
}

/// Writes a small file.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "\
qemu-system-arm:
  Installed: (none)
  Candidate: 1:11.1.3+ds-1~bpo13+1
  QemuVersion table:
     1:11.1.3+ds-1~bpo13+1 990
";

    #[test]
    fn the_candidate_of_a_policy() {
        assert_eq!(candidate(POLICY), Some("1:11.1.3+ds-1~bpo13+1"));
        assert_eq!(candidate("qemu-system-arm:\n  Candidate: (none)\n"), None);
        assert_eq!(candidate(""), None);
    }

    #[test]
    fn the_upstream_part_of_a_package_version() {
        let new_enough = |version| upstream(version).is_some_and(QemuVersion::is_new_enough);
        assert!(new_enough("1:11.1.3+ds-1~bpo13+1"));
        assert!(new_enough("12.0.0-1"));
        assert!(!new_enough("1:10.0.13+ds-0+deb13u1"));
        assert!(!new_enough("unknown"));
    }
}
