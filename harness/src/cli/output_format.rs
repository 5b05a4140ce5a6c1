//! `--format`: how each command prints.

use serde_json::Value;
use smmu_engine::record::RECORD_SCHEMA;

/// A line of JSON: an object of `fields` with the `schema` version and the `type` of the line.
/// Every command makes its lines here. The objects within `fields` have a `type` already.
pub(super) fn json_line(kind: &'static str, mut fields: Value) -> Value {
    if let Some(fields) = fields.as_object_mut() {
        fields.insert("schema".to_owned(), RECORD_SCHEMA.into());
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
