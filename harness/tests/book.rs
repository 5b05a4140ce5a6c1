//! The commands in `docs/` run as they stand, its Rust is tested with the library, and its tables
//! name what there is.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the paragraph before a block says that is not compiled, or not run.
const EXCUSE: &str = "Not run in a test: ";

/// A file of the repository.
fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The pages of the book: their names and texts.
fn pages() -> Vec<(String, String)> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let files = docs.read_dir().unwrap().map(|file| file.unwrap().path());
    let pages = files.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut pages: Vec<_> =
        pages.map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect();
    pages.sort();
    pages
}

/// The fenced blocks of a page: their languages and texts.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, text))) => *text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block has no end");
    blocks
}

#[test]
fn the_summary_names_every_page() {
    let pages = pages();
    let (_, summary) = pages.iter().find(|(name, _)| name == "SUMMARY.md").unwrap();
    let named: BTreeSet<&str> =
        summary.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    let there: BTreeSet<&str> =
        pages.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "SUMMARY.md").collect();
    assert_eq!(named, there);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for (name, page) in pages() {
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            assert!(file.is_empty() || docs.join(file).exists(), "{name}: {link}");
        }
    }
}

#[test]
fn every_command_runs() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("book");
    // What an earlier run wrote is in the way of `new`.
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_smmu-harness")).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(program.to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    )
    .unwrap();
    let mut run = 0;
    for (name, page) in pages() {
        for (language, text) in blocks(&page) {
            match language.as_str() {
                "sh" => {}
                // What a command prints; what other tests look at.
                "text" | "toml" => continue,
                rust if is_rust(rust) => continue,
                other => panic!(
                    "{name}: a block of {other:?} is not tested; use `sh`, `rust`, `toml` or `text`"
                ),
            }
            // A line that begins with `!` must fail, and `-e` does not see the others of those.
            for line in text.lines() {
                let (line, fails) =
                    line.strip_prefix("! ").map_or((line, false), |line| (line, true));
                let status = Command::new("sh")
                    .args(["-c", line])
                    .current_dir(&folder)
                    .env("PATH", &path)
                    .stdout(Stdio::null())
                    .status()
                    .unwrap();
                assert_eq!(status.code(), Some(i32::from(fails)), "{name}: {line}");
                run += 1;
            }
        }
    }
    assert!(run >= 10, "{run}");
}

/// What `read-a-hazard.md` shows is what the run says.
#[test]
fn the_hazard_of_the_page_is_that_of_the_run() {
    let out = Command::new(env!("CARGO_BIN_EXE_smmu-harness"))
        .args(["run", "first-light", "--sabotage", "unmap-without-tlbi"])
        .output()
        .unwrap();
    let out = String::from_utf8(out.stdout).unwrap();
    let (_, page) = pages().into_iter().find(|(name, _)| name == "read-a-hazard.md").unwrap();
    let shown = blocks(&page).into_iter().find(|(language, _)| language == "text").unwrap().1;
    for line in shown.lines() {
        assert!(out.contains(line), "{line}\n{out}");
    }
}

/// Whether rustdoc takes a block of this language for Rust.
fn is_rust(language: &str) -> bool {
    language == "rust" || language.starts_with("rust,")
}

/// The pages with Rust, of which `library` has no doc test.
fn untested(pages: &[(String, String)], library: &str) -> Vec<String> {
    let tested = |name: &str| {
        let item = format!("#[cfg(doctest)]\n#[doc = include_str!(\"../../docs/{name}\")]\nmod ");
        library.contains(&item)
    };
    let has_rust = |page: &str| blocks(page).iter().any(|(language, _)| is_rust(language.as_str()));
    let left = pages.iter().filter(|(name, page)| has_rust(page) && !tested(name));
    left.map(|(name, _)| name.clone()).collect()
}

#[test]
fn every_page_with_rust_is_a_doc_test() {
    assert_eq!(untested(&pages(), &read("harness/src/lib.rs")), Vec::<String>::new());
}

/// The test above sees a page that is left out, also one whose Rust says how it is run.
#[test]
fn a_page_without_a_doc_test_is_found() {
    let page = |language: &str| format!("# A page\n\n```{language}\nfn main() {{}}\n```\n");
    let of = |name: &str, language: &str| (name.to_owned(), page(language));
    let pages = [of("a.md", "rust"), of("b.md", "text"), of("c.md", "rust,no_run")];
    assert_eq!(untested(&pages, ""), ["a.md", "c.md"]);
    let library = "#[cfg(doctest)]\n#[doc = include_str!(\"../../docs/a.md\")]\nmod a {}\n";
    assert_eq!(untested(&pages, library), ["c.md"]);
}

/// Rust that is not compiled or not run has its reason before it.
#[test]
fn rust_that_does_not_run_says_why() {
    for (name, page) in pages() {
        let mut before = "";
        let mut inside = false;
        for paragraph in page.split("\n\n") {
            let fences = paragraph.lines().filter(|line| line.starts_with("```")).count();
            let first = paragraph.strip_prefix("```").and_then(|rest| rest.lines().next());
            if let Some(language) = first.filter(|language| !inside && *language != "rust")
                && is_rust(language)
            {
                assert!(before.starts_with(EXCUSE), "{name}: a block of {language} has no reason");
            }
            inside ^= fences % 2 == 1;
            before = paragraph;
        }
    }
}

/// The folders that `toml` blocks name are there, below the name of a clone.
#[test]
fn manifests_of_the_pages_name_folders() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut seen = 0;
    for (name, page) in pages() {
        for (_, text) in blocks(&page).iter().filter(|(language, _)| language == "toml") {
            for line in text.lines().filter(|line| line.contains("path = ")) {
                let path = line.split_once("path = \"smmu/").and_then(|(_, p)| p.split('"').next());
                let folder = root.join(path.unwrap_or_else(|| panic!("{name}: {line}")));
                let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
                let package = line.split(" = ").next().unwrap();
                assert!(manifest.contains(&format!("name = \"{package}\"")), "{name}: {line}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 4, "{seen}");
}

/// The rows of the tables of a page whose header begins with this cell.
fn rows(page: &str, header: &str) -> Vec<Vec<String>> {
    let head = format!("| {header} |");
    let mut rows = Vec::new();
    let mut lines = page.lines();
    while lines.by_ref().any(|line| line.starts_with(&head)) {
        for row in lines.by_ref().skip(1).take_while(|line| line.starts_with('|')) {
            let row = row.strip_prefix("| ").and_then(|row| row.strip_suffix(" |")).unwrap();
            rows.push(row.split(" | ").map(str::to_owned).collect());
        }
    }
    rows
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Whether a source defines an item: a function, a type, a constant, or a line that begins with the
/// name of a variant or of a table's key.
fn defines(source: &str, item: &str) -> bool {
    const KINDS: [&str; 8] =
        ["const fn ", "fn ", "struct ", "enum ", "trait ", "const ", "static ", "type "];
    let name = item.rsplit("::").next().unwrap();
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let listed = |rest: &str| {
        let upper = name.starts_with(|c: char| c.is_ascii_uppercase());
        upper && (rest.is_empty() || rest.starts_with([',', '(', ' ', ':']))
    };
    source.lines().map(str::trim_start).any(|line| {
        let shown = ["pub ", "pub(crate) ", "pub(super) "];
        let line = shown.iter().find_map(|word| line.strip_prefix(word)).unwrap_or(line);
        let item = |kind: &&str| line.strip_prefix(kind)?.strip_prefix(name);
        KINDS.iter().filter_map(item).any(ends) || line.strip_prefix(name).is_some_and(listed)
    })
}

/// Whether a source has a test function of this name.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let Some(at) = lines.iter().position(|line| line.starts_with(&format!("fn {name}("))) else {
        return false;
    };
    let above = lines[..at].iter().rev().take_while(|line| !line.is_empty() && **line != "}");
    above.into_iter().any(|line| matches!(*line, "#[test]" | "#[rstest]"))
}

/// Each row of `clauses.md` names a file with the item, and a test function.
#[test]
fn clauses_name_code_and_tests() {
    let rows = rows(&read("docs/clauses.md"), "clause");
    assert!(rows.len() >= 40, "{}", rows.len());
    for row in rows {
        let [clause, demand, code, test] = &row[..] else { panic!("four cells: {row:?}") };
        assert!(clause.starts_with(|c: char| c.is_ascii_digit()), "{row:?}");
        assert!(!demand.is_empty(), "{row:?}");
        let [file, item] = quoted(code)[..] else { panic!("a file and an item: {row:?}") };
        assert!(defines(&read(file), item), "{file} does not define {item}");
        let [test] = quoted(test)[..] else { panic!("a test: {row:?}") };
        let (file, name) = test.split_once(".rs::").unwrap_or_else(|| panic!("{row:?}"));
        assert!(has_test(&read(&format!("{file}.rs")), name), "no test {name} in {file}.rs");
    }
}

/// What the page about published suites names is there: checks of `conform`, tests, scenarios.
#[test]
fn published_suites_name_checks_and_tests() {
    let page = read("docs/published-suites.md");
    let checks: BTreeSet<String> =
        smmu_harness::conform::checks().map(|check| check.name.to_owned()).collect();
    let groups: BTreeSet<&str> = checks.iter().filter_map(|name| name.split('/').next()).collect();
    let mut counts = [0; 3];
    for name in quoted(&page) {
        if let Some((file, test)) = name.split_once(".rs::") {
            // A test of the model, or a path from the root.
            let model = format!("harness/model/src/tests/{file}.rs");
            let path = if file.contains('/') { format!("{file}.rs") } else { model };
            assert!(has_test(&read(&path), test), "no test {test} in {path}");
            counts[0] += 1;
        } else if name.split_once('/').is_some_and(|(group, _)| groups.contains(group)) {
            assert!(checks.contains(name), "no check {name}");
            counts[1] += 1;
        }
    }
    for scenarios in page.split("scenario ").chain(page.split("scenarios ")).skip(1) {
        // `one`, `two` and `three`, as far as they go.
        if let Some(name) = scenarios.strip_prefix('`').and_then(|rest| rest.split('`').next()) {
            let _text = read(&format!("harness/scenarios/{name}.toml"));
            counts[2] += 1;
        }
    }
    assert!(counts.iter().all(|count| *count >= 10), "{counts:?}");
}

#[test]
fn items_and_tests_are_told_apart() {
    let source = "/// bind\nfn unbind() {}\n    Bound,\n#[test]\nfn bind() {}\n\nfn helper() {}\n";
    for item in ["unbind", "Kind::Bound", "helper"] {
        assert!(defines(source, item), "{item}");
    }
    assert!(!defines(source, "Boun") && !defines(source, "bound"));
    assert!(has_test(source, "bind"));
    assert!(!has_test(source, "unbind") && !has_test(source, "helper"));
}

/// The list of README.md, and the page that says what a caller sees, have the same items.
#[test]
fn what_is_not_supported_is_what_the_readme_says() {
    let readme = read("README.md");
    let (_, list) = readme.split_once("\n## Not supported yet\n").unwrap();
    let list = list.split("\n## ").next().unwrap().replace("\n  ", " ");
    let item = |line: &str| {
        let text = line.strip_prefix("- ")?;
        Some(text.split([':', '.']).next()?.to_owned())
    };
    let items: Vec<String> = list.lines().filter_map(item).collect();
    assert!(!items.is_empty());
    let rows = rows(&read("docs/not-supported.md"), "not supported");
    let named: Vec<String> = rows.into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(named, items, "left: docs/not-supported.md; right: README.md");
}

/// The source of the crates, without tests of their own.
fn library_source() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let crates = "smmu-types smmu-tags smmu-invs smmu-cmdq smmu-hw-mmio smmu-attach harness/driver";
    let mut folders: Vec<PathBuf> =
        crates.split(' ').map(|name| root.join(name).join("src")).collect();
    let mut source = String::new();
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                source += &fs::read_to_string(path).unwrap();
            }
        }
    }
    source
}

/// The pages that name calls name those that there are, and scenarios too.
#[test]
fn tables_name_calls_and_scenarios() {
    let source = library_source();
    let linux = rows(&read("docs/from-linux-to-here.md"), "Linux");
    let attaches = rows(&read("docs/every-kind-of-attach.md"), "you want");
    assert!(linux.len() >= 30 && attaches.len() >= 10, "{} {}", linux.len(), attaches.len());
    for row in linux.iter().chain(&attaches) {
        for call in quoted(&row[1]) {
            for item in call.split("?.").map(|part| part.split('(').next().unwrap()) {
                assert!(defines(&source, item), "{item} of {row:?}");
            }
        }
    }
    for scenario in attaches.iter().flat_map(|row| quoted(&row[2])) {
        read(&format!("harness/scenarios/{scenario}.toml"));
    }
}
