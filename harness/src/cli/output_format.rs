//! `--format`: how each command prints.

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum OutputFormat {
    /// Text.
    Human,
    /// One JSON object a line.
    Json,
}
