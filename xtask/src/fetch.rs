//! Fetches and unpacks Debian's packages with the machine's own apt.
//!
//! apt gets its own folders, so it needs no privileges and does not change the machine's package
//! state. It uses the machine's mirror, keys and proxy.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::process::{capture_success, on_path, say};

const LISTS_LIMIT: Duration = Duration::from_secs(120);
const LOCAL_LIMIT: Duration = Duration::from_secs(60);
/// For one package; the largest takes 5 s on an idle machine.
const UNPACK_LIMIT: Duration = Duration::from_secs(300);

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
    /// The suite that wins over newer versions in others, if any.
    preferred_suite: Option<&'static str>,
    deadline: Instant,
}

/// A package that an installation would add.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PlannedPackage {
    pub(crate) name: String,
    pub(crate) version: String,
}

impl Apt {
    /// Empties `folder` and starts there, with these deb822 sources and no installed package.
    pub(crate) fn new(
        folder: PathBuf,
        architecture: &'static str,
        sources: &str,
        preferred_suite: Option<&'static str>,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let _ = fs::remove_dir_all(&folder);
        for below in ["lists/partial", "cache/archives/partial", "log"] {
            let path = folder.join(below);
            fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        }
        write(&folder.join("status"), "")?;
        write(&folder.join("apt.conf"), APT_CONF)?;
        write(&folder.join("debian.sources"), sources)?;
        Ok(Self { folder, architecture, preferred_suite, deadline })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").arg("-c").arg(self.folder.join("apt.conf"));
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
        if let Some(suite) = self.preferred_suite {
            command.args(["-o", &format!("APT::Default-Release={suite}")]);
        }
        command
    }

    /// Fetches the package lists.
    pub(crate) fn update(&self) -> Result<(), Error> {
        let limit = LISTS_LIMIT.min(self.time_left());
        capture_success(self.command("apt-get").args(["-q", "update"]), limit).map(drop)
    }

    /// The version of a package that an installation would take.
    pub(crate) fn candidate(&self, package: &str) -> Result<Option<String>, Error> {
        let policy =
            capture_success(self.command("apt-cache").args(["policy", package]), LOCAL_LIMIT)?;
        Ok(candidate(&policy).map(str::to_owned))
    }

    /// The names of the packages on which `package` itself depends.
    pub(crate) fn dependencies(&self, package: &str) -> Result<Vec<String>, Error> {
        let mut depends = self.command("apt-cache");
        depends.args(["depends", "--important", package]);
        Ok(dependencies(&capture_success(&mut depends, LOCAL_LIMIT)?))
    }

    /// A dependency of `package`, direct or not, whose name is `prefix` and a number.
    pub(crate) fn numbered_dependency(
        &self,
        package: &str,
        prefix: &str,
    ) -> Result<Option<u32>, Error> {
        let mut depends = self.command("apt-cache");
        depends.args(["depends", "--recurse", "--important", package]);
        let tree = capture_success(&mut depends, LOCAL_LIMIT)?;
        Ok(numbered(&tree, prefix))
    }

    /// All packages that an installation of `packages` on an empty machine would add.
    pub(crate) fn closure(&self, packages: &[&str]) -> Result<Vec<PlannedPackage>, Error> {
        let mut simulate = self.command("apt-get");
        simulate.args(["-q", "--simulate", "install"]).args(packages);
        Ok(planned(&capture_success(&mut simulate, LOCAL_LIMIT)?))
    }

    /// Downloads these packages and all that they depend on.
    pub(crate) fn download_with_dependencies(&self, packages: &[&str]) -> Result<(), Error> {
        let mut download = self.command("apt-get");
        download.args(["-q", "-y", "--download-only", "install"]).args(packages);
        capture_success(&mut download, self.time_left()).map(drop)
    }

    /// Downloads exactly these packages.
    pub(crate) fn download(&self, packages: &[PlannedPackage]) -> Result<(), Error> {
        let mut download = self.command("apt-get");
        download.args(["-q", "download"]).current_dir(self.archives());
        download
            .args(packages.iter().map(|package| format!("{}={}", package.name, package.version)));
        capture_success(&mut download, self.time_left()).map(drop)
    }

    /// The downloaded packages.
    pub(crate) fn packages(&self) -> Result<Vec<PathBuf>, Error> {
        let archives = self.archives();
        let files = fs::read_dir(&archives)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(Error::io("read", &archives))?;
        let paths = files.into_iter().map(|file| file.path());
        Ok(paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect())
    }

    /// Unpacks all downloaded packages below `root`, and returns their number.
    pub(crate) fn unpack(&self, root: &Path) -> Result<usize, Error> {
        let packages = self.packages()?;
        say(format_args!("unpacking {} packages", packages.len()));
        for package in &packages {
            let mut command = Command::new("dpkg-deb");
            command.arg("-x").arg(package).arg(root);
            capture_success(&mut command, UNPACK_LIMIT)?;
        }
        Ok(packages.len())
    }

    /// Removes all downloads.
    pub(crate) fn remove(self) -> Result<(), Error> {
        fs::remove_dir_all(&self.folder).map_err(Error::io("remove", &self.folder))
    }

    fn archives(&self) -> PathBuf {
        self.folder.join("cache/archives")
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Fails where Debian's package tools are missing, and says which.
pub(crate) fn require_tools() -> Result<(), String> {
    let missing = ["apt-get", "apt-cache", "dpkg", "dpkg-deb", "dpkg-query"]
        .into_iter()
        .find(|tool| on_path(tool).is_empty());
    missing.map_or(Ok(()), |tool| Err(format!("it has no `{tool}`")))
}

/// The names of the packages that the machine has installed for an architecture.
pub(crate) fn installed(architecture: &str) -> Result<Vec<String>, Error> {
    let format = "${db:Status-Status} ${Architecture} ${Package}\n";
    let list = capture_success(Command::new("dpkg-query").args(["-W", "-f", format]), LOCAL_LIMIT)?;
    let name = |line: &str| {
        let (of, name) = line.strip_prefix("installed ")?.split_once(' ')?;
        (of == architecture || of == "all").then(|| name.to_owned())
    };
    Ok(list.lines().filter_map(name).collect())
}

/// The candidate version in the output of `apt-cache policy`.
fn candidate(policy: &str) -> Option<&str> {
    policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))
        .filter(|version| *version != "(none)")
}

/// The number of the first package `prefix` + number in the output of `apt-cache depends`.
fn numbered(tree: &str, prefix: &str) -> Option<u32> {
    tree.lines().find_map(|line| line.trim().strip_prefix(prefix)?.parse().ok())
}

/// The names behind `Depends:` in the output of `apt-cache depends`.
fn dependencies(tree: &str) -> Vec<String> {
    let name = |line: &str| line.trim().strip_prefix("Depends: ").map(str::to_owned);
    tree.lines().filter_map(name).collect()
}

/// The lines `Inst NAME (VERSION ...` of a simulated installation.
fn planned(simulation: &str) -> Vec<PlannedPackage> {
    let package = |line: &str| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
        let version = rest.split_whitespace().next()?;
        Some(PlannedPackage { name: name.to_owned(), version: version.to_owned() })
    };
    simulation.lines().filter_map(package).collect()
}

/// Writes a small file.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::io("write", path))
}

/// Writes an executable script.
pub(crate) fn write_script(path: &Path, text: &str) -> Result<(), Error> {
    write(path, text)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .map_err(Error::io("make executable", path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "\
qemu-system-arm:
  Installed: (none)
  Candidate: 1:11.1.3+ds-1~bpo13+1
  Version table:
     1:11.1.3+ds-1~bpo13+1 990
";

    #[test]
    fn the_candidate_of_a_policy() {
        assert_eq!(candidate(POLICY), Some("1:11.1.3+ds-1~bpo13+1"));
        assert_eq!(candidate("qemu-system-arm:\n  Candidate: (none)\n"), None);
        assert_eq!(candidate(""), None);
    }

    #[test]
    fn the_plan_of_a_simulated_installation() {
        let simulation = "\
NOTE: This is only a simulation!
Reading package lists...
The following NEW packages will be installed:
  libllvm22 rustc-web
Inst libllvm22 (1:22.1.8-1~deb12u1 Debian-Security:12/oldstable-security [amd64])
Inst gcc-12-base [12.1] (12.2.0-14+deb12u1 Debian:12.15/oldstable [amd64]) []
Inst broken
Conf libllvm22 (1:22.1.8-1~deb12u1 Debian-Security:12/oldstable-security [amd64])
";
        let plan = planned(simulation);
        assert_eq!(plan.len(), 2);
        assert_eq!(plan[0].name, "libllvm22");
        assert_eq!(plan[0].version, "1:22.1.8-1~deb12u1");
        assert_eq!(planned(""), []);
    }

    #[test]
    fn the_number_of_a_dependency() {
        let tree = "\
rustc-web
  Depends: libc6
  Depends: libstd-rust-web-dev
libllvm-dev
libllvm22
libllvm9
";
        assert_eq!(numbered(tree, "libllvm"), Some(22));
        assert_eq!(numbered(tree, "libclang"), None);
        assert_eq!(dependencies(tree), ["libc6", "libstd-rust-web-dev"]);
    }
}
