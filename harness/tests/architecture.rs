//! Crates, rooms and files import each other only along the arrows of `CONTRIBUTING.md`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "architecture/imports.rs"]
mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};
use imports::Imports;

/// The map of `CONTRIBUTING.md`: each package, its folder, and what it depends on inside the
/// workspace.
fn map() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../CONTRIBUTING.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with("| package |")).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [package, folder, arrows] = cells[..] else { panic!("three cells: {row}") };
            let arrows = arrows.split(", ").filter(|arrow| !arrow.is_empty());
            (package.to_owned(), (folder.to_owned(), arrows.map(str::to_owned).collect()))
        })
        .collect()
}

/// What a crate's tests may use beside that: the model plays the SMMU, the book's Rust takes crates
/// alone, and an example of `smmu-measure` compares a simulation with the real queue.
const TESTED_WITH: &[(&str, &str)] = &[
    ("smmu-driver", "smmu-model"),
    ("smmu-engine", "smmu-model"),
    ("smmu-engine", "smmu-types"),
    ("smmu-harness", "smmu-cmdq"),
    ("smmu-harness", "smmu-invs"),
    ("smmu-harness", "smmu-tags"),
    ("smmu-measure", "smmu-cmdq"),
    ("smmu-measure", "smmu-types"),
];

/// What only benchmarks use. Its library knows nothing of the others, so it ties nothing together.
const MEASURE: &str = "smmu-measure";

fn metadata() -> cargo_metadata::Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap()
}

#[test]
fn dependencies_are_those_of_the_map() {
    let (map, metadata) = (map(), metadata());
    let root = metadata.workspace_root.as_std_path();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let (folder, arrows) = map.get(name).unwrap_or_else(|| panic!("the map lacks {name}"));
        let at = package.manifest_path.parent().unwrap().as_std_path();
        assert_eq!(at, root.join(folder), "{name}");
        let mut found = BTreeSet::new();
        // Of every kind: a test that reaches across would tie the crates together as well. A
        // crate's tests may turn on its own features.
        for dependency in &package.dependencies {
            let to = dependency.name.as_str();
            let inside = map.contains_key(to) && to != name;
            let tests = dependency.kind == DependencyKind::Development;
            let tested = tests && (to == MEASURE || TESTED_WITH.contains(&(name, to)));
            if inside && !(tested || tests && arrows.contains(to)) {
                found.insert(to.to_owned());
            }
        }
        assert_eq!(&found, arrows, "left: what {name} depends on; right: the map");
    }
    assert_eq!(metadata.workspace_packages().len(), map.len());
}

#[test]
fn no_arrow_of_the_map_runs_back() {
    let map = map();
    let mut below: BTreeSet<&str> = BTreeSet::new();
    while below.len() < map.len() {
        let known = below.len();
        let ready = |arrows: &BTreeSet<String>| arrows.iter().all(|to| below.contains(to.as_str()));
        let next: Vec<&str> =
            map.iter().filter(|(_, (_, to))| ready(to)).map(|(name, _)| name.as_str()).collect();
        below.extend(next);
        assert!(below.len() > known, "a ring among all but {below:?}");
    }
}

#[test]
fn only_the_harness_and_the_tasks_use_std() {
    for package in metadata().workspace_packages() {
        let name = package.name.as_str();
        if matches!(
            name,
            "smmu-harness" | "smmu-model" | "smmu-decode" | "smmu-qemu" | "smmu-measure" | "xtask"
        ) {
            continue;
        }
        let root = package.manifest_path.parent().unwrap().join("src/lib.rs");
        let text = std::fs::read_to_string(&root).unwrap();
        assert!(text.contains("\n#![no_std]\n"), "{name} is not no_std");
        assert!(
            text.contains("#![forbid(unsafe_code)]") || text.contains("#![deny(unsafe_code)]"),
            "{name} does not restrict unsafe code"
        );
        let defaults = package.features.get("default");
        assert!(defaults.is_none_or(Vec::is_empty), "{name} has default features");
    }
}

/// The imports of every crate of the workspace, from file to file below its root.
fn all_imports() -> Vec<Imports> {
    let metadata = metadata();
    let root = metadata.workspace_root.as_std_path();
    let read = |path: &Path| std::fs::read_to_string(root.join(path)).ok();
    let mut all = Vec::new();
    for package in metadata.workspace_packages() {
        let folder = package.manifest_path.parent().unwrap().join("src");
        for target in package.targets.iter().filter(|one| one.src_path.starts_with(&folder)) {
            let file = target.src_path.strip_prefix(&metadata.workspace_root).unwrap();
            all.push(imports::imports(file.as_std_path(), &read));
        }
    }
    all
}

#[test]
fn no_files_import_each_other_in_a_ring() {
    let all = all_imports();
    // A reader that finds no import would find no ring either.
    let count: usize = all.iter().map(Imports::len).sum();
    assert!(count > 500, "only {count} imports are found");
    let of = |imports: &Imports| -> Vec<String> {
        let rings = imports::rings(imports);
        rings.iter().map(|ring| imports::told(ring, imports)).collect()
    };
    let rings: Vec<String> = all.iter().flat_map(of).collect();
    assert!(
        rings.is_empty(),
        "move what the files of a ring share to a file that imports none of them:\n{}",
        rings.join("\n")
    );
}

/// The table of rooms of `CONTRIBUTING.md`: each room, and what it imports of its package.
fn rooms() -> BTreeMap<PathBuf, BTreeSet<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../CONTRIBUTING.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with("| room |")).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [room, _, names] = cells[..] else { panic!("three cells: {row}") };
            let names = names.split(", ").filter(|name| !name.is_empty());
            let names = names.map(|name| name.trim_matches('`').to_owned()).collect();
            (PathBuf::from(room.trim_matches('`')), names)
        })
        .collect()
}

#[test]
fn rooms_import_what_their_table_says() {
    let all = all_imports();
    for (room, allowed) in rooms() {
        let src = room.ancestors().find(|folder| folder.ends_with("src")).unwrap();
        let pairs = all.iter().flat_map(|imports| imports.keys());
        let leaving = pairs.filter(|(from, to)| inside(from, &room) && !inside(to, &room));
        let names = leaving.map(|(_, to)| {
            let name = to.strip_prefix(src).unwrap().iter().next().unwrap();
            name.to_str().unwrap().trim_end_matches(".rs").to_owned()
        });
        let found: BTreeSet<String> = names.collect();
        assert_eq!(found, allowed, "left: what {} imports; right: the table", room.display());
    }
}

/// Whether a file is the room, `cache.rs`, or lies in it, `cache/tlb.rs`.
fn inside(file: &Path, room: &Path) -> bool {
    file.starts_with(room) || file.with_extension("") == *room
}
