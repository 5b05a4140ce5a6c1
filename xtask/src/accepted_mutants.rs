//! The mutants of a crate that change nothing anyone can see, each with its reason.
//!
//! A line names a mutant as cargo-mutants prints it, without line and column: a mutant keeps its
//! name when code above it moves. Lines that begin with `#` give the reason for the mutants below
//! them, up to the next blank line.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::error::Error;

/// The list, from the folder of a crate.
const FILE: &str = "tests/accepted_mutants.txt";

/// All accepted mutants.
#[derive(Debug, Default)]
pub(crate) struct Accepted(BTreeSet<String>);

impl Accepted {
    /// Reads the lists of these crates. A crate without one accepts none.
    pub(crate) fn read(root: &Path, crates: &[&str]) -> Result<Self, Error> {
        let mut all = Accepted::default();
        for name in crates {
            let path = root.join(name).join(FILE);
            match fs::read_to_string(&path) {
                Ok(text) => all.0.extend(Self::parse(&format!("{name}/{FILE}"), &text)?.0),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("read", &path)(error)),
            }
        }
        Ok(all)
    }

    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, Error> {
        let mut accepted = Accepted::default();
        let mut has_reason = false;
        for (number, line) in text.lines().enumerate() {
            let wrong =
                |why| Error::AcceptedMutant { file: file.to_owned(), line: number + 1, why };
            let line = line.trim();
            if line.is_empty() {
                has_reason = false;
            } else if let Some(reason) = line.strip_prefix('#') {
                has_reason |= !reason.trim().is_empty();
            } else if !has_reason {
                return Err(wrong("no reason stands above this mutant; write one behind a `#`"));
            } else if !line.contains(".rs: ") {
                return Err(wrong("name a mutant as `FILE.rs: CHANGE`, without line and column"));
            } else if !accepted.0.insert(line.to_owned()) {
                return Err(wrong("this mutant is listed twice; remove one"));
            }
        }
        Ok(accepted)
    }

    /// Whether a mutant of this name is accepted.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains(&place_of(name))
    }
}

/// A name without line and column: `a.rs:12:5: replace x` is `a.rs: replace x`.
pub(crate) fn place_of(name: &str) -> String {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = name.splitn(4, ':').collect();
    match parts.as_slice() {
        [file, line, column, change] if is_number(line) && is_number(column) => {
            format!("{file}:{change}")
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_line_and_column() {
        let with = "smmu-tags/src/a.rs:12:5: replace A::b -> bool with true";
        assert_eq!(place_of(with), "smmu-tags/src/a.rs: replace A::b -> bool with true");
        assert_eq!(place_of("a.rs: replace A::b"), "a.rs: replace A::b");
    }

    #[test]
    fn every_mutant_has_a_reason() {
        let text = "# First reason,\n# in two lines.\na.rs: x\na.rs: y\n\n# Second.\nb.rs: x\n";
        let accepted = Accepted::parse("list", text).unwrap();
        assert!(accepted.has("a.rs:1:2: y") && accepted.has("b.rs: x") && !accepted.has("b.rs: y"));
        let wrong = [
            ("a.rs: x\n", 1, "no reason"),
            ("# reason\na.rs: x\n\na.rs: y\n", 4, "no reason"),
            ("#\na.rs: x\n", 2, "no reason"),
            ("# reason\na.rs: x\na.rs: x\n", 3, "twice"),
            ("# reason\na.rs:1:2: x\n", 2, "without line and column"),
        ];
        for (text, line, why) in wrong {
            let error = Accepted::parse("list", text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("list, line {line}:")), "{error}");
            assert!(error.contains(why), "{error}");
        }
    }
}
