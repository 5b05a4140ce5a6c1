//! The commands of `board/BRINGUP.md` run as they stand. Its Rust code is tested with the package
//! `smmu-board`.
#![expect(clippy::unwrap_used, reason = "tests")]
#![cfg_attr(not(unix), expect(dead_code, reason = "the commands are those of a shell"))]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use libtest_mimic::{Arguments, Trial};

/// Names the image that the tests of the board boot. Without it, nothing has built the images.
const BOARD_IMAGE: &str = "SMMU_BOARD_IMAGE";
/// What the paragraph before a block says that does not run.
const EXCUSE: &str = "Not run in a test: ";

fn main() {
    let arguments = Arguments::from_args();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("board/BRINGUP.md");
    let blocks = blocks(&fs::read_to_string(page).unwrap());
    let left_out = common::qemu_is_left_out() || env::var_os(BOARD_IMAGE).is_none();
    let commands = blocks.iter().filter(|block| block.language == "sh").map(|block| {
        let (text, line) = (block.text.clone(), block.line);
        Trial::test(format!("commands::line_{line}"), move || {
            run(&text);
            Ok(())
        })
        .with_ignored_flag(left_out || cfg!(not(unix)))
    });
    let mut trials: Vec<Trial> = commands.collect();
    trials.push(common::trial("blocks_are_told_apart", blocks_are_told_apart));
    trials.push(Trial::test("every_block_runs_or_says_why", move || {
        assert!(blocks.iter().filter(|block| block.language == "sh").count() >= 4);
        match blocks.iter().find(|block| !block.is_accounted_for()) {
            None => Ok(()),
            Some(Block { line, language, .. }) => Err(format!(
                "line {line}: a block of `{language}`; use `sh` or `rust`, which run, or `text` \
                 after a paragraph that begins with `{EXCUSE}`"
            )
            .into()),
        }
    }));
    libtest_mimic::run(&arguments, trials).exit();
}

#[derive(Debug, PartialEq, Eq)]
struct Block {
    /// The line of its fence, from 1.
    line: usize,
    language: String,
    text: String,
    /// The paragraph before it.
    before: String,
}

impl Block {
    fn is_accounted_for(&self) -> bool {
        match self.language.as_str() {
            "sh" | "rust" => true,
            "text" => self.before.strip_prefix(EXCUSE).is_some_and(|why| !why.is_empty()),
            _ => false,
        }
    }
}

fn blocks(page: &str) -> Vec<Block> {
    let (mut blocks, mut before) = (Vec::new(), String::new());
    let mut lines = page.lines().enumerate();
    let mut after_blank = true;
    while let Some((number, line)) = lines.next() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            let inside: Vec<&str> = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| line.trim_start() != "```")
                .collect();
            let (text, language) = (inside.join("\n"), language.to_owned());
            blocks.push(Block { line: number + 1, language, text, before: before.clone() });
        } else if line.is_empty() {
            after_blank = true;
        } else {
            if after_blank {
                before.clear();
            }
            after_blank = false;
            before.push_str(line);
        }
    }
    blocks
}

/// Runs a block in the root of the repository. `smmu-harness` and QEMU are those of this test run.
fn run(commands: &str) {
    let programs = programs();
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([programs].into_iter().chain(env::split_paths(&path))).unwrap();
    let output = Command::new("sh")
        .args(["-eu", "-c", commands])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&said));
}

/// A folder with the two programs that the page takes for installed.
fn programs() -> PathBuf {
    let qemu = smmu_qemu::find(None, smmu_qemu::guess_target_dir().as_deref()).unwrap();
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bringup-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let harness = Path::new(env!("CARGO_BIN_EXE_smmu-harness"));
    for (name, program) in [("smmu-harness", harness), ("qemu-system-aarch64", qemu.path())] {
        let script = format!("#!/bin/sh\nexec '{}' \"$@\"\n", program.display());
        let place = folder.join(name);
        fs::write(&place, script).unwrap();
        executable(&place);
    }
    folder
}

#[cfg(unix)]
fn executable(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

#[cfg(not(unix))]
fn executable(_: &Path) {}

fn blocks_are_told_apart() {
    let page = "Text\nof two lines.\n\n```sh\na \\\n  b\n```\nNot run in a test: no board.\n\n```text\nc\n```\n\n\
                Prints:\n```text\nd\n```\n```\ne\n```\n";
    let found = blocks(page);
    let lines: Vec<_> = found.iter().map(|block| (block.line, block.is_accounted_for())).collect();
    assert_eq!(lines, [(4, true), (10, true), (15, false), (18, false)]);
    assert_eq!(found[0].text, "a \\\n  b");
    assert_eq!(found[0].before, "Textof two lines.");
}
