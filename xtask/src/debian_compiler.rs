//! Unpacks Debian's compiler and its clippy, without root and without an installation, and builds
//! `core` and `alloc` for bare metal.
//!
//! The folder is a whole toolchain: `cargo`, `rustc` and `cargo-clippy` in it are scripts that set
//! the library path. Packages that the machine has installed, such as the C library, are not unpacked again.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::apt::own_release;
use crate::aside::{Aside, Placed};
use crate::bare_target::TARGET;
use crate::debian::Architecture;
use crate::error::Error;
use crate::fetch::{Apt, installed, require_tools, write, write_script};
use crate::link_probe::probe;
use crate::process::{say, watch};
use crate::workspace::RustVersion;

/// Name of the folder in the folder of the boards.
pub(crate) const FOLDER: &str = "compiler";
pub(crate) const CARGO: &str = "cargo";
/// A program of its own: `cargo clippy` would find the one of another toolchain on `PATH`.
pub(crate) const CLIPPY: &str = "cargo-clippy";
const RUSTC: &str = "rustc";
/// Says what is in the folder. Written last.
const VERSION: &str = "VERSION";
/// First line of [`VERSION`]. A change of this file's recipe needs another number.
const RECIPE: &str = "recipe 2";

/// Who unpacked it: this run.
pub(crate) const JUST_UNPACKED: &str = "just unpacked";

/// Time limit of all downloads together.
const TOTAL_LIMIT: Duration = Duration::from_secs(900);

/// Packages that are built together.
struct Packages {
    compiler: &'static str,
    cargo: &'static str,
    source: &'static str,
    clippy: &'static str,
}

/// A release has an old `rustc`, and a newer `rustc-web` for browsers. Unreleased Debian has only
/// `rustc`.
const CANDIDATES: [Packages; 2] = [
    Packages {
        compiler: "rustc-web",
        cargo: "cargo-web",
        source: "rust-web-src",
        clippy: "rust-web-clippy",
    },
    Packages { compiler: "rustc", cargo: "cargo", source: "rust-src", clippy: "rust-clippy" },
];

/// Checks a folder that an earlier run unpacked.
pub(crate) fn check(place: &Path, oldest: RustVersion) -> Result<RustVersion, String> {
    let recipe = fs::read_to_string(place.join(VERSION)).unwrap_or_default();
    if recipe.lines().next() != Some(RECIPE) {
        return Err(format!("it is not of this version of xtask ({RECIPE})"));
    }
    probe(Command::new(place.join(RUSTC)), place, oldest)
}

/// Unpacks the compiler to `place`, and returns its version and who unpacked it.
pub(crate) fn unpack(
    place: &Path,
    oldest: RustVersion,
) -> Result<(RustVersion, &'static str), Error> {
    let none = |why: String| Error::NoBareCompiler { why };
    require_tools().map_err(|why| none(format!("this system is not Debian: {why}")))?;
    let architecture = Architecture::detect()?;
    let sources = own_release(architecture.debian)
        .ok_or_else(|| none("apt has no source of a Debian release".to_owned()))?;
    let aside = Aside::new(place)?;
    let folder = aside.path();
    let apt = Apt::new(
        folder.join("apt"),
        architecture.debian,
        &sources,
        None,
        Instant::now() + TOTAL_LIMIT,
    )?;
    let fetched = fetch(&apt, architecture, oldest)?;
    let count = apt.unpack(&folder.join("root"))?;
    apt.remove()?;
    write_scripts(folder, architecture, fetched.llvm)?;
    build_core(folder)?;
    write(
        &folder.join(VERSION),
        &format!("{RECIPE}\n{}\n{count} packages, core and alloc for {TARGET}\n", fetched.name),
    )?;
    let unsuitable = |why| Error::UnpackedCompiler { name: fetched.name.clone(), why };
    check(folder, oldest).map_err(unsuitable)?;
    let origin = match aside.put_in_place(|place| check(place, oldest).is_ok()) {
        Placed::Another => "unpacked by another run",
        Placed::Ours | Placed::Neither => JUST_UNPACKED,
    };
    let version = check(place, oldest)
        .map_err(|why| Error::UnpackedCompiler { name: fetched.name.clone(), why })?;
    Ok((version, origin))
}

/// A compiler whose packages are downloaded.
struct Fetched {
    /// Package and version.
    name: String,
    llvm: u32,
}

fn fetch(apt: &Apt, architecture: Architecture, oldest: RustVersion) -> Result<Fetched, Error> {
    say(format_args!("looking for a compiler in this machine's Debian release"));
    apt.update()?;
    let mut tried = Vec::new();
    for packages in CANDIDATES {
        let name = packages.compiler;
        let Some(version) = apt.candidate(name)? else {
            tried.push(format!("no package {name}"));
            continue;
        };
        if RustVersion::parse(&version).is_none_or(|version| version < oldest) {
            tried.push(format!("{name} {version} is older than {oldest}"));
            continue;
        }
        // The linker must understand the bitcode of the compiler's own LLVM.
        let Some(llvm) = apt.numbered_dependency(name, "libllvm")? else {
            tried.push(format!("{name} {version} depends on no libllvm"));
            continue;
        };
        say(format_args!("downloading {name} {version}"));
        let linker = format!("lld-{llvm}");
        let wanted = [name, packages.cargo, packages.source, packages.clippy, &linker];
        let mut plan = apt.closure(&wanted)?;
        let present = installed(architecture.debian)?;
        // What belongs to the compiler must lie in one folder with it.
        plan.retain(|package| {
            let own = wanted.contains(&package.name.as_str())
                || package.name.starts_with("libstd-rust")
                || package.name.starts_with("libllvm");
            own || !present.contains(&package.name)
        });
        apt.download(&plan)?;
        return Ok(Fetched { name: format!("{name} {version}"), llvm });
    }
    let why = format!("{}; is the source of security updates missing?", tried.join(", "));
    Err(Error::NoBareCompiler { why })
}

/// Scripts that work from any location of the folder.
fn write_scripts(folder: &Path, architecture: Architecture, llvm: u32) -> Result<(), Error> {
    let triplet = architecture.triplet;
    for program in [CARGO, RUSTC, CLIPPY] {
        let script = format!(
            "#!/bin/sh\n\
             here=$(dirname -- \"$(readlink -f -- \"$0\")\")\n\
             lib=$here/root/usr/lib/{triplet}\n\
             export LD_LIBRARY_PATH=\"$lib${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"\n\
             export RUSTC=\"$here/root/usr/bin/rustc\"\n\
             export CARGO=\"$here/root/usr/bin/cargo\"\n\
             exec \"$here/root/usr/bin/{program}\" \"$@\"\n"
        );
        write_script(&folder.join(program), &script)?;
    }
    // The name under which rustc looks for the linker of a bare-metal target.
    let programs = folder.join("root/usr/lib/rustlib").join(architecture.rust).join("bin");
    fs::create_dir_all(&programs).map_err(Error::io("create", &programs))?;
    let script = format!(
        "#!/bin/sh\n\
         here=$(dirname -- \"$(readlink -f -- \"$0\")\")\n\
         exec \"$here/../../../llvm-{llvm}/bin/lld\" \"$@\"\n"
    );
    write_script(&programs.join("rust-lld"), &script)
}

/// The flags of `core` and `alloc`, as cargo takes them in one variable.
fn flags_of_core(folder: &Path) -> OsString {
    // Images may use link-time optimisation.
    let mut flags = OsString::from("-Cembed-bitcode=yes\x1f--remap-path-prefix=");
    // The text of a panic names a file, and each name is in the image.
    flags.push(folder.join("root/usr/lib/rustlib/src/rust/library"));
    flags.push("=");
    flags
}

/// The package whose build has `core` and `alloc` built, for size: each is in every image.
const MANIFEST: &str = "\
[package]
name = \"empty\"
edition = \"2024\"
[workspace]
[profile.release]
opt-level = \"z\"
";

/// Builds `core` and `alloc` from the unpacked source, and adds them to the unpacked compiler.
fn build_core(folder: &Path) -> Result<(), Error> {
    say(format_args!("building core and alloc for {TARGET}"));
    let package = folder.join("core");
    let output = package.join("target");
    fs::create_dir_all(package.join("src")).map_err(Error::io("create", &package))?;
    write(&package.join("Cargo.toml"), MANIFEST)?;
    write(&package.join("src/lib.rs"), "#![no_std]\n")?;
    let mut build = Command::new(folder.join(CARGO));
    build
        .args(["build", "--release", "--target", TARGET])
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", &output)
        // Building the standard library is unstable, so this one build is.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_UNSTABLE_BUILD_STD", "core,alloc")
        // Small sorts, and numbers printed without a table.
        .env("CARGO_UNSTABLE_BUILD_STD_FEATURES", "optimize_for_size")
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", flags_of_core(folder));
    let status = watch(&mut build)?;
    if !status.success() {
        return Err(Error::Failed {
            program: "cargo build of core and alloc".to_owned(),
            status,
            output: String::new(),
        });
    }
    let built = output.join(TARGET).join("release/deps");
    let libraries = folder.join("root/usr/lib/rustlib").join(TARGET).join("lib");
    fs::create_dir_all(&libraries).map_err(Error::io("create", &libraries))?;
    for file in fs::read_dir(&built).map_err(Error::io("read", &built))?.flatten() {
        let from: PathBuf = file.path();
        let of_core = ["libcore-", "liballoc-", "libcompiler_builtins-"]
            .iter()
            .any(|prefix| file.file_name().to_string_lossy().starts_with(prefix));
        if of_core && from.extension().is_some_and(|extension| extension == "rlib") {
            let to = libraries.join(file.file_name());
            fs::copy(&from, &to).map_err(Error::io("write", &to))?;
        }
    }
    fs::remove_dir_all(&package).map_err(Error::io("remove", &package))
}
