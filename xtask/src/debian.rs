//! The architectures of Debian for which packages are unpacked.

use std::process::Command;
use std::time::Duration;

use crate::error::Error;
use crate::process::capture_success;

const QUESTION_LIMIT: Duration = Duration::from_secs(60);

/// One architecture, by its name in each place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Architecture {
    pub(crate) debian: &'static str,
    /// Name of the folder of libraries.
    pub(crate) triplet: &'static str,
    pub(crate) loader: &'static str,
    /// Name of Rust's target.
    pub(crate) rust: &'static str,
}

impl Architecture {
    const KNOWN: [Self; 2] = [
        Self {
            debian: "amd64",
            triplet: "x86_64-linux-gnu",
            loader: "ld-linux-x86-64.so.2",
            rust: "x86_64-unknown-linux-gnu",
        },
        Self {
            debian: "arm64",
            triplet: "aarch64-linux-gnu",
            loader: "ld-linux-aarch64.so.1",
            rust: "aarch64-unknown-linux-gnu",
        },
    ];

    /// The architecture of the machine.
    pub(crate) fn detect() -> Result<Self, Error> {
        let answer =
            capture_success(Command::new("dpkg").arg("--print-architecture"), QUESTION_LIMIT)?;
        let name = answer.trim();
        Self::KNOWN.into_iter().find(|known| known.debian == name).ok_or_else(|| Error::NotDebian {
            why: format!("its architecture is {name}; only amd64 and arm64 are known"),
        })
    }
}
