//! The compiler for bare metal: the one in use, if it has the target, or Debian's.
//!
//! Images use the target without floating point, because interrupt handlers save no SIMD
//! registers.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::debian_compiler;
use crate::error::Error;
use crate::process::{capture, capture_success, last_lines, say, variable};
use crate::workspace::{RustVersion, Workspace};

pub(crate) const TARGET: &str = "aarch64-unknown-none-softfloat";

const PROBE_LIMIT: Duration = Duration::from_secs(120);

/// Uses `core` and `alloc`, and is linked.
const PROBE: &str = "\
#![no_std]
#![no_main]
extern crate alloc;
use core::alloc::{GlobalAlloc, Layout};
struct NoMemory;
unsafe impl GlobalAlloc for NoMemory {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 { core::ptr::null_mut() }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
#[global_allocator]
static NO_MEMORY: NoMemory = NoMemory;
#[panic_handler]
fn halt(_: &core::panic::PanicInfo) -> ! { loop {} }
#[unsafe(no_mangle)]
extern \"C\" fn _start() -> usize { alloc::boxed::Box::new(1usize).count_ones() as usize }
";

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

/// Compiles and links an empty program in `folder`; the error says what does not work.
pub(crate) fn probe(
    mut rustc: Command,
    folder: &Path,
    oldest: RustVersion,
) -> Result<RustVersion, String> {
    let program = PathBuf::from(rustc.get_program());
    let answer = capture_success(Command::new(&program).arg("--version"), PROBE_LIMIT)
        .map_err(|error| error.to_string())?;
    let version = answer.split_whitespace().nth(1).and_then(RustVersion::parse);
    let version = version.ok_or_else(|| format!("no version in `{}`", answer.trim()))?;
    if version < oldest {
        return Err(format!("it is Rust {version}, and the workspace needs {oldest}"));
    }
    // Two runs at once probe with different files.
    let output = folder.join(format!("probe-{}", std::process::id()));
    rustc.args(["--edition=2024", "--crate-name=probe", "--crate-type=bin", "-Cpanic=abort"]);
    rustc.args(["--target", TARGET, "-o"]).arg(&output).arg("-");
    let compiled = capture(&mut rustc, PROBE, PROBE_LIMIT);
    let linked = output.is_file();
    let _ = std::fs::remove_file(&output);
    match compiled {
        Ok(compiled) if compiled.status.success() && linked => Ok(version),
        Ok(compiled) => {
            Err(format!("it builds no program for {TARGET}{}", last_lines(&compiled.stderr, 6)))
        }
        Err(error) => Err(error.to_string()),
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
