//! The compiler for bare metal: the one in use, if it has the target, or Debian's.
//!
//! Images use the target without floating point, because interrupt handlers save no SIMD
//! registers.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bare_target::TARGET;
use crate::debian_compiler;
use crate::error::Error;
use crate::link_probe::{PROBE_LIMIT, probe};
use crate::process::{capture_success, say, variable};
use crate::workspace::{RustVersion, Workspace};

/// A compiler that links programs for [`TARGET`].
#[derive(Debug)]
pub(crate) struct BareCompiler {
    cargo: PathBuf,
    version: RustVersion,
    origin: &'static str,
    /// Where it builds.
    output: PathBuf,
}

impl BareCompiler {
    /// A cargo command in the workspace's root that builds with this compiler.
    ///
    /// The host's compiler flags do not suit the target, so they do not pass.
    pub(crate) fn cargo(&self, workspace: &Workspace) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(&workspace.root).env("CARGO_TARGET_DIR", &self.output);
        for flags in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
            command.env_remove(flags);
        }
        command
    }

    /// Where programs of the profile `release` appear.
    pub(crate) fn release_folder(&self) -> PathBuf {
        self.output.join(TARGET).join("release")
    }
}

impl fmt::Display for BareCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, origin, .. } = self;
        write!(f, "rustc {version} for {TARGET} ({origin}): {}", self.cargo.display())
    }
}

/// Finds a compiler, or unpacks Debian's into the target folder.
pub(crate) fn provide(workspace: &Workspace) -> Result<BareCompiler, Error> {
    let board = workspace.board_folder();
    let output = board.join("build");
    std::fs::create_dir_all(&board).map_err(Error::io("create", &board))?;
    let found = |cargo, version, origin| BareCompiler { cargo, version, origin, output };

    let rustc: OsString = variable("RUSTC").unwrap_or_else(|| "rustc".into());
    if has_target(&rustc) {
        match probe(Command::new(&rustc), &board, workspace.rust_version) {
            Ok(version) => return Ok(found(workspace.cargo_path(), version, "installed")),
            Err(why) => report_unsuitable(Path::new(&rustc), &why),
        }
    }
    let place = board.join(debian_compiler::FOLDER);
    if place.exists() {
        match debian_compiler::check(&place, workspace.rust_version) {
            Ok(version) => {
                let cargo = place.join(debian_compiler::CARGO);
                return Ok(found(cargo, version, "unpacked earlier"));
            }
            Err(why) => report_unsuitable(&place, &why),
        }
    }
    let (version, origin) = debian_compiler::unpack(&place, workspace.rust_version)?;
    Ok(found(place.join(debian_compiler::CARGO), version, origin))
}

/// Whether `core` for the target is installed beside the compiler.
fn has_target(rustc: &OsString) -> bool {
    let mut question = Command::new(rustc);
    question.args(["--print", "target-libdir", "--target", TARGET]);
    capture_success(&mut question, PROBE_LIMIT)
        .is_ok_and(|folder| Path::new(folder.trim()).is_dir())
}

fn report_unsuitable(path: &Path, why: &str) {
    say(format_args!("not suitable: {}: {why}", path.display()));
}
