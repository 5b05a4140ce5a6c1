//! Unpacks QEMU from Debian's packages, without root and without an installation.
//!
//! The packages include all libraries, so the result runs on any Linux of the same architecture. A
//! run prepares a temporary folder and renames it at the end. So an interrupted run leaves nothing
//! half done, and two runs do not disturb each other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::apt::{Mirror, configured_mirrors};
use crate::error::Error;
use crate::fetch::{Apt, PACKAGE, write};
use crate::process::{capture_success, on_path, say};
use crate::qemu_names::{FOLDER, PROGRAM};
use crate::qemu_probe::{UsableQemu, probe};

/// Suites to search, in this order.
const SUITES: [&[&str]; 2] = [&["trixie", "trixie-backports"], &["sid"]];

/// Time limit of all attempts together.
const TOTAL_LIMIT: Duration = Duration::from_secs(600);
const LOCAL_LIMIT: Duration = Duration::from_secs(60);
/// Prefix of temporary folders.
const ASIDE: &str = "qemu.new-";
/// An interrupted run left a temporary folder that is older than this.
const STALE: Duration = Duration::from_secs(3600);

/// Unpacks QEMU to `<target>/qemu` and returns it.
pub(crate) fn unpack(target: &Path) -> Result<UsableQemu, Error> {
    for tool in ["apt-get", "apt-cache", "dpkg", "dpkg-deb"] {
        if on_path(tool).is_empty() {
            return Err(Error::NotDebian { why: format!("it has no `{tool}`") });
        }
    }
    let architecture = Architecture::detect()?;
    let mirrors = configured_mirrors();
    if mirrors.is_empty() {
        return Err(Error::NoMirror);
    }
    fs::create_dir_all(target).map_err(Error::io("create", target))?;
    remove_stale(target);
    let aside = Aside(target.join(format!("{ASIDE}{}-{}", std::process::id(), nanoseconds())));
    let package_version = fill(&aside.0, &mirrors, architecture)?;
    probe(&aside.0.join(PROGRAM), "just unpacked")
        .map_err(|why| Error::Unpacked { package_version, why })?;
    put_in_place(&aside.0, &target.join(FOLDER))
}

/// A temporary folder. Dropping removes it, unless it has its final name.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Clone, Copy)]
struct Architecture {
    debian: &'static str,
    triplet: &'static str,
    loader: &'static str,
}

impl Architecture {
    const KNOWN: [Self; 2] = [
        Self { debian: "amd64", triplet: "x86_64-linux-gnu", loader: "ld-linux-x86-64.so.2" },
        Self { debian: "arm64", triplet: "aarch64-linux-gnu", loader: "ld-linux-aarch64.so.1" },
    ];

    fn detect() -> Result<Self, Error> {
        let answer =
            capture_success(Command::new("dpkg").arg("--print-architecture"), LOCAL_LIMIT)?;
        let name = answer.trim();
        Self::KNOWN.into_iter().find(|known| known.debian == name).ok_or_else(|| Error::NotDebian {
            why: format!("its architecture is {name}; only amd64 and arm64 are known"),
        })
    }

    /// A script that starts QEMU with its own libraries, from any location of the folder.
    fn wrapper(self) -> String {
        let Self { triplet, loader, .. } = self;
        format!(
            "#!/bin/sh\n\
             here=$(dirname -- \"$(readlink -f -- \"$0\")\")\n\
             lib=$here/root/usr/lib/{triplet}\n\
             export QEMU_MODULE_DIR=\"$lib/qemu\"\n\
             exec \"$lib/{loader}\" --library-path \"$lib\" \\\n    \
             \"$here/root/usr/bin/{PROGRAM}\" -L \"$here/root/usr/share/qemu\" \"$@\"\n"
        )
    }
}

/// Fetches and unpacks from the first mirror and suite with a new enough QEMU.
fn fill(folder: &Path, mirrors: &[Mirror], architecture: Architecture) -> Result<String, Error> {
    let deadline = Instant::now() + TOTAL_LIMIT;
    let mut tried = String::new();
    for mirror in mirrors {
        for suites in SUITES {
            let from = format!("{} ({})", mirror.uri, suites.join(", "));
            say(format_args!("looking for QEMU at {from}"));
            let apt = Apt::new(folder.join("apt"), architecture.debian, suites, deadline)?;
            match apt.fetch(mirror) {
                Ok(version) => {
                    let packages = apt.packages()?;
                    unpack_packages(&packages, folder, architecture)?;
                    apt.remove()?;
                    let note = format!(
                        "{PACKAGE} {version}\n{} packages of {}\n",
                        packages.len(),
                        suites.join(", ")
                    );
                    write(&folder.join("VERSION"), &note)?;
                    return Ok(version);
                }
                Err(why) => tried.push_str(&format!("  {from}: {why}\n")),
            }
        }
    }
    Err(Error::NothingFetched { tried })
}

fn unpack_packages(
    packages: &[PathBuf],
    folder: &Path,
    architecture: Architecture,
) -> Result<(), Error> {
    say(format_args!("unpacking {} packages", packages.len()));
    let root = folder.join("root");
    for package in packages {
        let mut command = Command::new("dpkg-deb");
        command.arg("-x").arg(package).arg(&root);
        capture_success(&mut command, LOCAL_LIMIT)?;
    }
    let wrapper = folder.join(PROGRAM);
    write(&wrapper, &architecture.wrapper())?;
    make_executable(&wrapper)
}

/// Gives the prepared folder its final name, unless another run was faster.
fn put_in_place(aside: &Path, place: &Path) -> Result<UsableQemu, Error> {
    let program = place.join(PROGRAM);
    for _ in 0..3 {
        // Succeeds only if the final name is free or an empty folder.
        if fs::rename(aside, place).is_ok() {
            break;
        }
        if let Ok(qemu) = probe(&program, "unpacked by another run") {
            return Ok(qemu);
        }
        let mut old = aside.as_os_str().to_owned();
        old.push("-old");
        let old = Aside(old.into());
        let _ = fs::rename(place, &old.0);
    }
    probe(&program, "just unpacked")
        .map_err(|why| Error::Unpacked { package_version: place.display().to_string(), why })
}

fn remove_stale(target: &Path) {
    let entries = fs::read_dir(target).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let is_aside = name.to_string_lossy().starts_with(ASIDE);
        let age = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if is_aside && age.is_some_and(|age| age > STALE) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Distinguishes runs with the same process number, as in two containers.
fn nanoseconds() -> u32 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_epoch.unwrap_or_default().subsec_nanos()
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(Error::io("make executable", path))
}

#[cfg(not(unix))]
fn make_executable(_path: &Path) -> Result<(), Error> {
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    const SUITABLE: &str = "#!/bin/sh
case \"$1\" in
    --version) echo 'QEMU emulator version 11.1.3' ;;
    -device) echo 'iommu-testdev options:' ;;
esac
";

    fn folder_with(path: PathBuf, script: &str) -> Aside {
        fs::create_dir_all(&path).unwrap();
        write(&path.join(PROGRAM), script).unwrap();
        make_executable(&path.join(PROGRAM)).unwrap();
        Aside(path)
    }

    fn placed_over(earlier: Option<&str>) -> &'static str {
        let name = format!("place-{}-{}", std::process::id(), nanoseconds());
        let top = Aside(std::env::temp_dir().join(name));
        let place = top.0.join(FOLDER);
        let _earlier = earlier.map(|script| folder_with(place.clone(), script));
        let aside = folder_with(top.0.join("qemu.new-1"), SUITABLE);
        let qemu = put_in_place(&aside.0, &place).unwrap();
        assert_eq!(qemu.path, place.join(PROGRAM));
        drop(aside);
        let left = fs::read_dir(&top.0).unwrap().count();
        assert_eq!(left, 1, "only the final folder remains");
        qemu.origin
    }

    #[test]
    fn the_final_name_is_taken_when_free() {
        assert_eq!(placed_over(None), "just unpacked");
    }

    #[test]
    fn another_run_that_was_first_is_respected() {
        assert_eq!(placed_over(Some(SUITABLE)), "unpacked by another run");
    }

    #[test]
    fn a_broken_one_is_replaced() {
        assert_eq!(placed_over(Some("#!/bin/sh\nexit 1\n")), "just unpacked");
    }
}
