//! Unpacks QEMU from Debian's packages, without root and without an installation.
//!
//! The packages include all libraries, so the result runs on any Linux of the same architecture. A
//! run prepares a temporary folder and renames it at the end. So an interrupted run leaves nothing
//! half done, and two runs do not disturb each other.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::apt::{Mirror, configured_mirrors};
use crate::aside::{Aside, Placed};
use crate::debian::Architecture;
use crate::error::Error;
use crate::fetch::{Apt, require_tools, write, write_script};
use crate::process::say;
use crate::qemu_names::{FOLDER, PROGRAM};
use crate::qemu_probe::{QemuVersion, UsableQemu, probe};

const PACKAGE: &str = "qemu-system-arm";

/// Suites to search, in this order.
const SUITES: [&[&str]; 2] = [&["trixie", "trixie-backports"], &["sid"]];

/// Time limit of all attempts together.
const TOTAL_LIMIT: Duration = Duration::from_secs(600);

/// Unpacks QEMU to `<target>/qemu` and returns it.
pub(crate) fn unpack(target: &Path) -> Result<UsableQemu, Error> {
    require_tools().map_err(|why| Error::NotDebian { why })?;
    let architecture = Architecture::detect()?;
    let mirrors = configured_mirrors();
    if mirrors.is_empty() {
        return Err(Error::NoMirror);
    }
    let place = target.join(FOLDER);
    let aside = Aside::new(&place)?;
    let package_version = fill(aside.path(), &mirrors, architecture)?;
    probe(&aside.path().join(PROGRAM), "just unpacked")
        .map_err(|why| Error::Unpacked { package_version: package_version.clone(), why })?;
    let program = place.join(PROGRAM);
    let usable = |place: &Path| probe(&place.join(PROGRAM), "").is_ok();
    let origin = match aside.put_in_place(usable) {
        Placed::Another => "unpacked by another run",
        Placed::Ours | Placed::Neither => "just unpacked",
    };
    probe(&program, origin).map_err(|why| Error::Unpacked { package_version, why })
}

/// A script that starts QEMU with its own libraries, from any location of the folder.
fn wrapper(architecture: Architecture) -> String {
    let Architecture { triplet, loader, .. } = architecture;
    format!(
        "#!/bin/sh\n\
             here=$(dirname -- \"$(readlink -f -- \"$0\")\")\n\
             lib=$here/root/usr/lib/{triplet}\n\
             export QEMU_MODULE_DIR=\"$lib/qemu\"\n\
             exec \"$lib/{loader}\" --library-path \"$lib\" \\\n    \
             \"$here/root/usr/bin/{PROGRAM}\" -L \"$here/root/usr/share/qemu\" \"$@\"\n"
    )
}

/// Fetches and unpacks from the first mirror and suite with a new enough QEMU.
fn fill(folder: &Path, mirrors: &[Mirror], architecture: Architecture) -> Result<String, Error> {
    let deadline = Instant::now() + TOTAL_LIMIT;
    let mut tried = String::new();
    for mirror in mirrors {
        for suites in SUITES {
            let from = format!("{} ({})", mirror.uri, suites.join(", "));
            say(format_args!("looking for QEMU at {from}"));
            let sources = mirror.source(suites, architecture.debian);
            let suite = suites.last().copied();
            let apt = Apt::new(folder.join("apt"), architecture.debian, &sources, suite, deadline)?;
            match fetch(&apt) {
                Ok(version) => {
                    let count = apt.unpack(&folder.join("root"))?;
                    apt.remove()?;
                    write_script(&folder.join(PROGRAM), &wrapper(architecture))?;
                    let suites = suites.join(", ");
                    let note = format!("{PACKAGE} {version}\n{count} packages of {suites}\n");
                    write(&folder.join("VERSION"), &note)?;
                    return Ok(version);
                }
                Err(why) => tried.push_str(&format!("  {from}: {why}\n")),
            }
        }
    }
    Err(Error::NothingFetched { tried })
}

/// Downloads the packages of a new enough QEMU and returns its package version.
fn fetch(apt: &Apt) -> Result<String, FetchError> {
    apt.update()?;
    let candidate = apt.candidate(PACKAGE)?.ok_or(FetchError::NoPackage)?;
    if !upstream(&candidate).is_some_and(QemuVersion::is_new_enough) {
        return Err(FetchError::TooOld(candidate));
    }
    say(format_args!("downloading {PACKAGE} {candidate}"));
    apt.download_with_dependencies(&[PACKAGE])?;
    Ok(candidate)
}

/// Why one mirror and suite has no QEMU; the next may have it.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("no package {PACKAGE}")]
    NoPackage,
    #[error("{PACKAGE} {0} is too old")]
    TooOld(String),
    #[error(transparent)]
    Other(#[from] Error),
}

/// QEMU's own version in a package version such as `1:11.1.3+ds-1`.
fn upstream(package_version: &str) -> Option<QemuVersion> {
    let behind_epoch = package_version.split_once(':').map(|(_, rest)| rest);
    QemuVersion::parse(behind_epoch.unwrap_or(package_version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upstream_part_of_a_package_version() {
        let new_enough = |version| upstream(version).is_some_and(QemuVersion::is_new_enough);
        assert!(new_enough("1:11.1.3+ds-1~bpo13+1"));
        assert!(new_enough("12.0.0-1"));
        assert!(!new_enough("1:10.0.13+ds-0+deb13u1"));
        assert!(!new_enough("unknown"));
    }
}
