//! Whether a compiler links a program for bare metal.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::bare_target::TARGET;
use crate::process::{capture, capture_success, last_lines};
use crate::workspace::RustVersion;

pub(crate) const PROBE_LIMIT: Duration = Duration::from_secs(120);

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
