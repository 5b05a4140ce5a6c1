//! The commands in `docs/` run as they stand, and its summary names every page.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The pages of the book: their names and texts.
fn pages() -> Vec<(String, String)> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let files = docs.read_dir().unwrap().map(|file| file.unwrap().path());
    let pages = files.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut pages: Vec<_> =
        pages.map(|path| (name(&path), std::fs::read_to_string(&path).unwrap())).collect();
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
    std::fs::create_dir_all(&folder).unwrap();
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
                // What a command prints.
                "text" => continue,
                other => panic!("{name}: a block of {other:?} is not tested; use `sh` or `text`"),
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
