//! Builds the images of the package `harness/board`, and checks their sizes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::elf;
use super::kilobytes::Kilobytes;
use crate::bare_target::TARGET;
use crate::compiler::{BareCompiler, CoreBuild, Room};
use crate::error::Error;
use crate::output::Output;
use crate::process::{capture_success, say, watch};
use crate::workspace::Workspace;

/// The package, from the workspace's root. It is a workspace of its own.
const PACKAGE: &str = "harness/board";
pub(crate) const TOUR: &str = "tour";
pub(crate) const RATES: &str = "rates";
pub(crate) const SCENARIOS: &str = "scenarios";
pub(crate) const LINUX: &str = "linux";

const QUESTION_LIMIT: Duration = Duration::from_secs(60);

/// A `core` that is built for speed may add this part to an image.
const SHARE_OF_CORE: u64 = 16;

/// What is known of a binary by its name.
struct Known {
    name: &'static str,
    /// Most bytes that are loaded, with a `core` that is built for size.
    limit: u64,
    form: Form,
    /// Cargo's profile.
    profile: &'static str,
    /// Images of one room are built one after the other, the rooms beside each other. An image
    /// whose profile or features are its own shares no dependency, so a room of its own costs
    /// nothing.
    room: Room,
    /// Compiler flags of the binary itself. Link-time optimisation makes them count for all of it.
    flags: &'static [&'static str],
}

/// Built for size.
const RELEASE: &str = "release";
/// Built for speed.
const SPEED: &str = "rates";

/// Code that occurs twice becomes a function: 5 % less of an image. A function of a few instructions
/// is copied to where it is called, which is 1 % less than what `opt-level = "z"` copies.
const SMALL: &[&str] = &[
    "-Cllvm-args=-enable-machine-outliner=always",
    "-Cllvm-args=-machine-outliner-reruns=3",
    "-Cllvm-args=-inline-threshold=15",
];
/// The same, and an address takes one instruction instead of two. The linker refuses an image above
/// 1 MiB.
const SMALL_WITHIN_ONE_MIB: &[&str] = &[
    "-Cllvm-args=-enable-machine-outliner=always",
    "-Cllvm-args=-machine-outliner-reruns=3",
    "-Cllvm-args=-inline-threshold=15",
    "-Ccode-model=tiny",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Also as the raw bytes of a Linux `Image`, for boot loaders.
    BareMetal,
    /// A static program of Linux.
    Process,
}

const KNOWN: [Known; 4] = [
    Known {
        name: TOUR,
        limit: 300_000,
        form: Form::BareMetal,
        profile: RELEASE,
        room: Room::SHARED,
        flags: SMALL_WITHIN_ONE_MIB,
    },
    Known {
        name: RATES,
        limit: 415_000,
        form: Form::BareMetal,
        profile: SPEED,
        room: Room(RATES),
        flags: &[],
    },
    Known {
        name: SCENARIOS,
        limit: 900_000,
        form: Form::BareMetal,
        profile: RELEASE,
        room: Room::SHARED,
        flags: SMALL,
    },
    Known {
        name: LINUX,
        limit: 1_050_000,
        form: Form::Process,
        profile: RELEASE,
        room: Room(LINUX),
        flags: SMALL,
    },
];

/// A program that was built.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) name: String,
    /// The ELF file.
    pub(crate) path: PathBuf,
    raw: Option<PathBuf>,
    loaded: u64,
    limit: u64,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, path, raw, loaded, limit } = self;
        let (loaded, limit) = (Kilobytes(*loaded), Kilobytes(*limit));
        write!(f, "{name}: {loaded} loaded (limit {limit})\n  ELF    {}", path.display())?;
        match raw {
            Some(raw) => write!(f, "\n  Image  {}", raw.display()),
            None => Ok(()),
        }
    }
}

/// Fails if the package is missing.
pub(crate) fn require(workspace: &Workspace) -> Result<(), Error> {
    let manifest = manifest(workspace);
    if manifest.is_file() { Ok(()) } else { Err(Error::NoBoardPackage { manifest }) }
}

/// Builds all binaries, and writes them to the folder of the boards.
pub(crate) fn build(workspace: &Workspace, compiler: &BareCompiler) -> Result<Vec<Image>, Error> {
    let mut rooms: BTreeMap<Room, Vec<(&Binary, &Known)>> = BTreeMap::new();
    let binaries = binaries(workspace, compiler)?;
    for binary in &binaries {
        let known = known(binary)?;
        rooms.entry(known.room).or_default().push((binary, known));
    }
    let output = Output::current();
    let build = |room: Vec<(&Binary, &Known)>| -> Result<Vec<Image>, Error> {
        output.during(|| {
            let images = room.into_iter();
            images.map(|(binary, known)| build_known(workspace, compiler, binary, known)).collect()
        })
    };
    thread::scope(|scope| {
        let rooms: Vec<_> = rooms.into_values().map(|room| scope.spawn(|| build(room))).collect();
        let mut images = Vec::new();
        for room in rooms {
            images.extend(room.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(images)
    })
}

fn known(binary: &Binary) -> Result<&'static Known, Error> {
    KNOWN
        .iter()
        .find(|known| known.name == binary.name)
        .ok_or_else(|| Error::UnknownImage { name: binary.name.clone() })
}

/// Builds one binary.
pub(crate) fn build_one(
    workspace: &Workspace,
    compiler: &BareCompiler,
    name: &'static str,
) -> Result<Image, Error> {
    let binaries = binaries(workspace, compiler)?;
    let binary = binaries.iter().find(|binary| binary.name == name);
    let binary = binary.ok_or(Error::NoImage { name })?;
    build_known(workspace, compiler, binary, known(binary)?)
}

fn build_known(
    workspace: &Workspace,
    compiler: &BareCompiler,
    binary: &Binary,
    known: &Known,
) -> Result<Image, Error> {
    say(format_args!("building {}", binary.name));
    let mut build = compiler.cargo_in(known.room, workspace);
    // A configuration of cargo in the package's folder counts only there.
    build.current_dir(workspace.root.join(PACKAGE));
    build.args(["rustc", "--profile", known.profile, "--locked", "--target", TARGET]);
    build.args(["--bin", known.name]);
    if !binary.required_features.is_empty() {
        build.args(["--no-default-features", "--features"]);
        build.arg(binary.required_features.join(","));
    }
    build.arg("--").args(known.flags);
    let status = watch(&mut build)?;
    if !status.success() {
        let program = format!("cargo build of {}", known.name);
        return Err(Error::Failed { program, status, output: String::new() });
    }
    let built = compiler.folder_of(known.room, TARGET, known.profile).join(known.name);
    let limit = match compiler.core {
        CoreBuild::Size => known.limit,
        CoreBuild::Speed => known.limit + known.limit / SHARE_OF_CORE,
    };
    place(&built, known, limit, &workspace.board_folder())
}

/// Runs clippy over the package as it is for the bare target, once for each set of features that a
/// binary needs. Returns the number of runs.
pub(crate) fn clippy(workspace: &Workspace, compiler: &BareCompiler) -> Result<usize, Error> {
    let binaries = binaries(workspace, compiler)?;
    let sets: BTreeSet<&[String]> =
        binaries.iter().map(|binary| binary.required_features.as_slice()).collect();
    for set in &sets {
        let features = set.join(",");
        say(format_args!("clippy: harness/board {features}"));
        let mut clippy = compiler.clippy(workspace)?;
        clippy.current_dir(workspace.root.join(PACKAGE));
        clippy.args(["--quiet", "--locked", "--target", TARGET, "--lib"]);
        for binary in binaries.iter().filter(|binary| binary.required_features == *set) {
            clippy.args(["--bin", &binary.name]);
        }
        clippy.args(["--no-default-features", "--features", &features]);
        if !watch(clippy.args(["--", "-D", "warnings"]))?.success() {
            let what = format!("harness/board with features [{features}]");
            return Err(Error::Clippy { what });
        }
    }
    Ok(sets.len())
}

/// The image of this name.
pub(crate) fn find<'a>(images: &'a [Image], name: &'static str) -> Result<&'a Image, Error> {
    images.iter().find(|image| image.name == name).ok_or(Error::NoImage { name })
}

/// Writes what was built under its final names, unless it is too large.
fn place(built: &Path, known: &Known, limit: u64, folder: &Path) -> Result<Image, Error> {
    let file = fs::read(built).map_err(Error::io("read", built))?;
    let broken = |why| Error::BrokenImage { path: built.to_owned(), why };
    let loaded = elf::read(&file).map_err(broken)?;
    let write = |extension: &str, bytes: &[u8]| -> Result<PathBuf, Error> {
        let path = folder.join(format!("{}.{extension}", known.name));
        // An image that is the same stays as it is: a test may boot it meanwhile.
        if fs::read(&path).ok().as_deref() != Some(bytes) {
            fs::write(&path, bytes).map_err(Error::io("write", &path))?;
        }
        Ok(path)
    };
    let path = write("elf", &file)?;
    let raw = match known.form {
        Form::BareMetal => Some(write("Image", &loaded.raw)?),
        Form::Process => None,
    };
    let (name, bytes) = (known.name, loaded.bytes);
    if bytes > limit {
        return Err(Error::LargeImage { name, bytes, limit, path });
    }
    Ok(Image { name: name.to_owned(), path, raw, loaded: bytes, limit })
}

fn manifest(workspace: &Workspace) -> PathBuf {
    workspace.root.join(PACKAGE).join("Cargo.toml")
}

/// A binary of the package.
#[derive(Debug, PartialEq, Eq)]
struct Binary {
    name: String,
    required_features: Vec<String>,
}

fn binaries(workspace: &Workspace, compiler: &BareCompiler) -> Result<Vec<Binary>, Error> {
    let mut question: Command = compiler.cargo(workspace);
    question.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]);
    question.arg(manifest(workspace));
    let json = capture_success(&mut question, QUESTION_LIMIT)?;
    Ok(binaries_in(&serde_json::from_str(&json).unwrap_or_default()))
}

fn binaries_in(metadata: &Value) -> Vec<Binary> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let packages = list(&metadata["packages"]);
    packages
        .iter()
        .flat_map(|package| list(&package["targets"]))
        .filter(|target| list(&target["kind"]).contains(&"bin".into()))
        .filter_map(|target| {
            let features = list(&target["required-features"]);
            let required_features = features.iter().filter_map(text).collect();
            Some(Binary { name: text(&target["name"])?, required_features })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_found_with_the_features_that_they_need() {
        let metadata = serde_json::json!({"packages": [{"targets": [
            {"name": "smmu_board", "kind": ["lib"]},
            {"name": "tour", "kind": ["bin"]},
            {"name": "linux", "kind": ["bin"], "required-features": ["devmem", "cli"]},
        ]}]});
        let binary = |name: &str, features: &[&str]| Binary {
            name: name.into(),
            required_features: features.iter().map(|&feature| feature.to_owned()).collect(),
        };
        assert_eq!(
            binaries_in(&metadata),
            [binary("tour", &[]), binary("linux", &["devmem", "cli"])]
        );
        assert_eq!(binaries_in(&Value::Null), []);
    }

    #[test]
    fn a_missing_package_and_a_missing_image_are_named() {
        let workspace = Workspace {
            root: "/no/such/folder".into(),
            target: "/no/such/folder/target".into(),
            rust_version: Default::default(),
            crates: Vec::new(),
        };
        let error = require(&workspace).unwrap_err().to_string();
        assert!(error.contains("/no/such/folder/harness/board/Cargo.toml"), "{error}");
        let error = find(&[], TOUR).unwrap_err().to_string();
        assert!(error.contains("`tour`"), "{error}");
    }
}
