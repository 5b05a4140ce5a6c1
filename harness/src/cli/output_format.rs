//! `--format`: how each command prints.

use serde_json::Value;

/// The version of the JSON that all commands print. It grows when a field changes its meaning or
/// goes away; new fields leave it alone.
const JSON_SCHEMA: u32 = 1;

/// A line of JSON: an object of `fields` with the `schema` version and the `type` of the line.
/// Every command makes its lines here. The objects within `fields` have a `type` already.
pub(super) fn json_line(kind: &'static str, mut fields: Value) -> Value {
    if let Some(fields) = fields.as_object_mut() {
        fields.insert("schema".to_owned(), JSON_SCHEMA.into());
        fields.insert("type".to_owned(), kind.into());
    }
    fields
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum OutputFormat {
    /// Text.
    Human,
    /// One JSON object a line.
    Json,
}
