//! The crates depend on each other only along the arrows of the design.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// What each crate may depend on inside the workspace.
const ARROWS: &[(&str, &[&str])] = &[
    ("smmu-types", &[]),
    ("smmu-tags", &["smmu-types"]),
    ("smmu-invs", &["smmu-types"]),
    ("smmu-cmdq", &["smmu-types"]),
    ("smmu-hw-mmio", &["smmu-types"]),
    ("smmu-attach", &["smmu-types", "smmu-tags", "smmu-invs"]),
    (
        "smmu-driver",
        &["smmu-types", "smmu-tags", "smmu-invs", "smmu-cmdq", "smmu-hw-mmio", "smmu-attach"],
    ),
    ("smmu-engine", &["smmu-driver"]),
    ("smmu-model", &["smmu-types"]),
    ("smmu-decode", &["smmu-types"]),
    ("smmu-qemu", &[]),
    (
        "smmu-harness",
        &[
            "smmu-types",
            "smmu-tags",
            "smmu-invs",
            "smmu-cmdq",
            "smmu-hw-mmio",
            "smmu-attach",
            "smmu-driver",
            "smmu-engine",
            "smmu-model",
            "smmu-decode",
            "smmu-qemu",
        ],
    ),
    ("smmu-measure", &[]),
    ("xtask", &[]),
];

/// What a crate's tests may use beside that: the model plays the SMMU.
const TESTED_WITH: &[(&str, &str)] =
    &[("smmu-engine", "smmu-model"), ("smmu-engine", "smmu-types")];

/// What only benchmarks use. It knows nothing of the others, so it ties nothing together.
const MEASURE: &str = "smmu-measure";

fn metadata() -> cargo_metadata::Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap()
}

#[test]
fn dependencies_follow_the_arrows() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.iter().map(|(name, to)| (*name, to.iter().copied().collect())).collect();
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let arrows = allowed.get(name).unwrap_or_else(|| panic!("{name} has no arrows yet"));
        // Of every kind: a test that reaches across would tie the crates together as well. A crate's tests
        // may turn on its own features.
        for dependency in &package.dependencies {
            let to = dependency.name.as_str();
            let inside = allowed.contains_key(to) && to != name;
            let measures = to == MEASURE && dependency.kind == DependencyKind::Development;
            let tested =
                TESTED_WITH.contains(&(name, to)) && dependency.kind == DependencyKind::Development;
            let fine = !inside || measures || tested || arrows.contains(to);
            assert!(fine, "{name} may not depend on {to}");
        }
    }
    assert_eq!(metadata.workspace_packages().len(), ARROWS.len());
}

#[test]
fn only_the_harness_and_the_tasks_use_std() {
    for package in metadata().workspace_packages() {
        let name = package.name.as_str();
        if matches!(
            name,
            "smmu-harness"
                | "smmu-engine"
                | "smmu-model"
                | "smmu-decode"
                | "smmu-qemu"
                | "smmu-measure"
                | "xtask"
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
