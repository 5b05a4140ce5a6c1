//! Whether a QEMU is suitable: its version, and a start with all that the scenarios need.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::capture;
use crate::qemu_names::OLDEST_MAJOR;

const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// A QEMU that passed the probe.
#[derive(Debug)]
pub(crate) struct UsableQemu {
    pub(crate) path: PathBuf,
    pub(crate) version: QemuVersion,
    pub(crate) origin: &'static str,
}

impl fmt::Display for UsableQemu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "QEMU {} ({}): {path}", self.version, self.origin)
    }
}

/// Starts QEMU to check that it is suitable; the error lists what it lacks.
pub(crate) fn probe(path: &Path, origin: &'static str) -> Result<UsableQemu, String> {
    let run = |args: &[&str], input: &str| {
        capture(Command::new(path).args(args), input, PROBE_LIMIT)
            .map_err(|error| error.to_string())
    };
    let version = run(&["--version"], "")?;
    let device = run(&["-device", "iommu-testdev,help"], "")?;
    // `-accel help` does not list qtest, so only a start shows whether it works.
    let start = "-accel qtest -machine none -nodefaults -display none -monitor stdio";
    let start: Vec<&str> = start.split(' ').collect();
    let accel = run(&start, "quit\n")?;
    let accel = if accel.status.success() { Ok(()) } else { Err(accel.stderr.as_str()) };
    let version = judge(&version.stdout, accel, &device.stdout)?;
    Ok(UsableQemu { path: path.to_owned(), version, origin })
}

/// The numbers of a QEMU release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QemuVersion([u32; 3]);

impl QemuVersion {
    /// Parses `11.1.3` at the start of `text`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| c != '.' && !c.is_ascii_digit());
        let mut parts = text[..end.unwrap_or(text.len())].split('.');
        let major = parts.next()?.parse().ok()?;
        let mut next = || parts.next().and_then(|part| part.parse().ok());
        Some(Self([major, next()?, next().unwrap_or(0)]))
    }

    pub(crate) fn is_new_enough(self) -> bool {
        self.0[0] >= OLDEST_MAJOR
    }
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, micro] = self.0;
        write!(f, "{major}.{minor}.{micro}")
    }
}

/// Judges QEMU's outputs: returns its version, or all that it lacks.
fn judge(version: &str, accel: Result<(), &str>, device: &str) -> Result<QemuVersion, String> {
    let Some(version) =
        version.split_once("QEMU emulator version ").and_then(|(_, rest)| QemuVersion::parse(rest))
    else {
        return Err("its answer to `--version` is not QEMU's".to_owned());
    };
    let mut lacks = Vec::new();
    if !version.is_new_enough() {
        lacks.push(format!("it is older than {OLDEST_MAJOR}.0"));
    }
    if let Err(message) = accel {
        let message = message.trim().lines().last().unwrap_or("no message");
        lacks.push(format!("it does not start with `-accel qtest` ({message})"));
    }
    if !device.contains("iommu-testdev options") {
        lacks.push("it has no device `iommu-testdev`".to_owned());
    }
    if lacks.is_empty() {
        Ok(version)
    } else {
        Err(format!("version {version}: {}", lacks.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str = "QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1)\n\
                       Copyright (c) 2003-2026 Fabrice Bellard and the QEMU Project developers\n";
    const OLD: &str = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2~bpo12+1)\n";
    const TESTDEV: &str = "iommu-testdev options:\n  acpi-index=<uint32>    -  (default: 0)\n";
    const NO_QTEST: &str = "qemu-system-aarch64: -accel qtest: invalid accelerator qtest\n";

    #[test]
    fn a_suitable_one() {
        assert_eq!(judge(NEW, Ok(()), TESTDEV), Ok(QemuVersion([11, 1, 3])));
    }

    #[test]
    fn all_that_is_missing_is_named() {
        let why = judge(OLD, Err(NO_QTEST), "").unwrap_err();
        assert_eq!(
            why,
            "version 10.0.2: it is older than 11.0; it does not start with `-accel qtest` \
             (qemu-system-aarch64: -accel qtest: invalid accelerator qtest); it has no device \
             `iommu-testdev`"
        );
    }

    #[test]
    fn each_lack_alone_is_enough() {
        assert!(judge(OLD, Ok(()), TESTDEV).is_err());
        assert!(judge(NEW, Err(""), TESTDEV).is_err());
        assert!(judge(NEW, Ok(()), "").is_err());
        assert!(judge("GNU coreutils 9.1", Ok(()), TESTDEV).is_err());
    }

    #[test]
    fn versions() {
        assert_eq!(QemuVersion::parse("11.0.50-rc1"), Some(QemuVersion([11, 0, 50])));
        assert_eq!(QemuVersion::parse("11.2 (x)"), Some(QemuVersion([11, 2, 0])));
        assert_eq!(QemuVersion::parse("11"), None);
        assert_eq!(QemuVersion::parse(""), None);
        assert_eq!(QemuVersion::parse("99999999999.1.1"), None);
        assert!(!QemuVersion([10, 9, 9]).is_new_enough());
    }

    #[test]
    fn a_missing_file_is_unsuitable() {
        let why = probe(Path::new("/no/such/qemu"), "in a test").unwrap_err();
        assert!(why.contains("cannot start `/no/such/qemu`"), "{why}");
    }
}
