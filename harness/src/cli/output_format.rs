//! `--format`: how each command prints.

/// The version of the JSON that `list`, `run` and `probe` print. It grows when a field changes its
/// meaning or goes away; new fields leave it alone.
pub(super) const JSON_SCHEMA: u32 = 1;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum OutputFormat {
    /// Text.
    Human,
    /// One JSON object a line.
    Json,
}
