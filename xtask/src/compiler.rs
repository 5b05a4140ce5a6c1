//! The compiler for bare metal: the one in use, if it has the target, or Debian's.
//!
//! Images use the target without floating point, because interrupt handlers save no SIMD
//! registers.

use std::ffi::OsString;
use std::fmt;
use std::io::ErrorKind;
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
    clippy: PathBuf,
    version: RustVersion,
    origin: &'static str,
    /// How its `core` was built.
    pub(crate) core: CoreBuild,
    /// Where it builds: a folder of cargo's for each [`Room`].
    output: PathBuf,
}

/// A folder for what cargo builds. Two builds at once need one each, because cargo locks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Room(pub(crate) &'static str);

impl Room {
    /// For everything that shares its dependencies.
    pub(crate) const SHARED: Self = Self("shared");
}

/// For what a `core` was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CoreBuild {
    /// As xtask builds it.
    Size,
    /// As rustup has it.
    Speed,
}

impl BareCompiler {
    /// A cargo command in the workspace's root that builds with this compiler.
    ///
    /// The host's compiler flags do not suit the target, so they do not pass.
    pub(crate) fn cargo(&self, workspace: &Workspace) -> Command {
        self.cargo_in(Room::SHARED, workspace)
    }

    /// The same, and it builds in `room`.
    pub(crate) fn cargo_in(&self, room: Room, workspace: &Workspace) -> Command {
        self.command(workspace, &self.cargo, room)
    }

    /// A `cargo clippy` of this toolchain.
    ///
    /// # Errors
    ///
    /// The toolchain has no clippy.
    pub(crate) fn clippy(&self, workspace: &Workspace) -> Result<Command, Error> {
        self.clippy_in(Room::SHARED, workspace)
    }

    /// The same, and it builds in `room`.
    pub(crate) fn clippy_in(&self, room: Room, workspace: &Workspace) -> Result<Command, Error> {
        let command = || {
            let mut command = self.command(workspace, &self.clippy, room);
            command.arg("clippy");
            command
        };
        match capture_success(command().arg("--version"), PROBE_LIMIT) {
            Ok(_) => Ok(command()),
            Err(error) => Err(Error::NoBareClippy { why: error.to_string() }),
        }
    }

    fn command(&self, workspace: &Workspace, program: &Path, room: Room) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&workspace.root).env("CARGO_TARGET_DIR", self.output.join(room.0));
        command.env_remove("RUSTFLAGS");
        command.env("CARGO_ENCODED_RUSTFLAGS", short_paths(&workspace.root, &registry_sources()));
        command
    }

    /// Where programs of a target and a profile appear.
    pub(crate) fn folder_of(&self, room: Room, target: &str, profile: &str) -> PathBuf {
        self.output.join(room.0).join(target).join(profile)
    }
}

impl fmt::Display for BareCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, origin, .. } = self;
        write!(f, "rustc {version} for {TARGET} ({origin}): {}", self.cargo.display())
    }
}

/// Flags that leave folders of this machine out of a program: a panic names a file from its
/// package. The size of an image is then the same in each folder, and smaller.
fn short_paths(root: &Path, registries: &[PathBuf]) -> OsString {
    let mut flags = OsString::new();
    for folder in registries.iter().map(PathBuf::as_path).chain([root]) {
        if !flags.is_empty() {
            // Between two flags, as cargo has it.
            flags.push("\x1f");
        }
        flags.push("--remap-path-prefix=");
        flags.push(folder);
        // With its slash, so that nothing is left of it.
        flags.push("/=");
    }
    flags
}

/// The folders in which cargo keeps the sources of packages, one for each registry.
fn registry_sources() -> Vec<PathBuf> {
    let home = variable("CARGO_HOME").map(PathBuf::from).or_else(|| {
        let home = variable("HOME")?;
        Some(Path::new(&home).join(".cargo"))
    });
    let folders = home.and_then(|home| std::fs::read_dir(home.join("registry/src")).ok());
    let mut folders: Vec<PathBuf> =
        folders.into_iter().flatten().flatten().map(|folder| folder.path()).collect();
    // The flags decide what cargo builds anew, so their order stays.
    folders.sort();
    folders
}

/// Finds a compiler, or unpacks Debian's into the target folder.
pub(crate) fn provide(workspace: &Workspace) -> Result<BareCompiler, Error> {
    let board = workspace.board_folder();
    std::fs::create_dir_all(&board).map_err(Error::io("create", &board))?;
    let found = |[cargo, clippy]: [PathBuf; 2], version, origin, core| BareCompiler {
        cargo,
        clippy,
        version,
        origin,
        core,
        output: board.join("build"),
    };

    let rustc: OsString = variable("RUSTC").unwrap_or_else(|| "rustc".into());
    if has_target(&rustc) {
        match probe(Command::new(&rustc), &board, workspace.rust_version) {
            Ok(version) => {
                let cargo = workspace.cargo_path();
                let programs = [cargo.clone(), cargo];
                return Ok(found(programs, version, "installed", CoreBuild::Speed));
            }
            Err(why) => report_unsuitable(Path::new(&rustc), &why),
        }
    }
    let place = board.join(debian_compiler::FOLDER);
    let programs =
        || [debian_compiler::CARGO, debian_compiler::CLIPPY].map(|name| place.join(name));
    if place.exists() {
        match debian_compiler::check(&place, workspace.rust_version) {
            Ok(version) => {
                return Ok(found(programs(), version, "unpacked earlier", CoreBuild::Size));
            }
            Err(why) => report_unsuitable(&place, &why),
        }
    }
    let (version, origin) = debian_compiler::unpack(&place, workspace.rust_version)?;
    if origin == debian_compiler::JUST_UNPACKED {
        // What was built with another `core` does not fit, and cargo cannot tell.
        remove(&board.join("build"))?;
    }
    Ok(found(programs(), version, origin, CoreBuild::Size))
}

/// Removes a folder, if it is there.
fn remove(folder: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::io("remove", folder)(error))
        }
        _ => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_names_no_folder_of_this_machine() {
        let flags = short_paths(Path::new("/work/tree"), &["/home/a b/registry/src/one".into()]);
        let flags = flags.into_string().unwrap();
        let flags: Vec<&str> = flags.split('\x1f').collect();
        assert_eq!(
            flags,
            [
                "--remap-path-prefix=/home/a b/registry/src/one/=",
                "--remap-path-prefix=/work/tree/=",
            ]
        );
    }
}
