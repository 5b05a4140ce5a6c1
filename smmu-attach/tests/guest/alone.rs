//! The module needs `smmu-types`, and nothing else of this crate: an emulator can take it alone.

use std::path::Path;

#[test]
fn the_module_imports_smmu_types_alone_and_does_not_allocate() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guest");
    let mut imports = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
            if let Some(of) = line.strip_prefix("use ") {
                let root = of.split([':', ';']).next().unwrap();
                let known = ["core", "smmu_types", "super", "Treatment"];
                assert!(known.contains(&root), "{}: {line}", path.display());
                imports += 1;
            }
            for word in ["crate::", "alloc::", "Box<", "Vec<", "String"] {
                assert!(!line.contains(word), "{}: {line}", path.display());
            }
        }
    }
    assert!(imports > 20, "only {imports} imports are found");
}
