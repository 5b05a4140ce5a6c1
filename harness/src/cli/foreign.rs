//! Backends that the program does not have by itself.

use std::sync::OnceLock;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use smmu_engine::machine::Backend;

static FOREIGN: OnceLock<Vec<Box<dyn Backend>>> = OnceLock::new();

/// The names that `--backend` has without foreign ones, with commas between.
const TAKEN: [&str; 4] = ["mock", "qemu", "board", "devmem"];

/// Makes backends known to `--backend`, once for the process.
pub(super) fn register(backends: Vec<Box<dyn Backend>>) -> Result<(), String> {
    for (n, backend) in backends.iter().enumerate() {
        let name = backend.name();
        let before = backends.iter().take(n).map(|other| other.name());
        if TAKEN.into_iter().chain(before).any(|taken| taken == name) {
            return Err(format!("two backends are called \"{name}\""));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.starts_with('-') || !name.chars().all(plain) {
            let demand = "letters, digits, \"-\" and \"_\", and no \"-\" first";
            return Err(format!("the name of a backend has {demand}: \"{name}\""));
        }
    }
    FOREIGN.set(backends).map_err(|_| "the backends of this process are known already".into())
}

/// The backends that are not built in.
pub(super) fn all() -> &'static [Box<dyn Backend>] {
    FOREIGN.get().map_or(&[], Vec::as_slice)
}

/// One of them.
pub(super) fn named(name: &str) -> Option<&'static dyn Backend> {
    all().iter().map(|backend| &**backend).find(|backend| backend.name() == name)
}

/// Parses the name of a built-in backend or of a foreign one.
pub(super) fn name_parser<T: Clone + Send + Sync + 'static>(
    built_in: &'static [(&'static str, &'static str, T)],
    foreign: fn(&'static str) -> T,
) -> impl TypedValueParser<Value = T> {
    let own = built_in.iter().map(|(name, text, _)| PossibleValue::new(*name).help(*text));
    let others = all().iter().map(|one| PossibleValue::new(one.name()).help(one.describe()));
    let parser = PossibleValuesParser::new(own.chain(others).collect::<Vec<_>>());
    parser.try_map(move |chosen| {
        let own =
            built_in.iter().find(|(name, ..)| *name == chosen).map(|(.., value)| value.clone());
        let other = || named(&chosen).map(|backend| foreign(backend.name()));
        own.or_else(other).ok_or("it is not one of the names")
    })
}
