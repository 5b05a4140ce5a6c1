//! The JSON Schema of a record, derived from its types.

use schemars::JsonSchema;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use serde_json::Value;

use super::document::RecordLine;
use crate::prelude::*;
use crate::scenario::plain_descriptions;

/// The JSON Schema of one line of `run --format json`.
#[must_use]
pub fn record_schema() -> Value {
    let mut generator = SchemaGenerator::new(SchemaSettings::draft07());
    let mut schema = RecordLine::json_schema(&mut generator);
    schema.insert("definitions".to_owned(), generator.take_definitions(true).into());
    schema.insert("$schema".to_owned(), "http://json-schema.org/draft-07/schema#".into());
    schema.insert("title".to_owned(), "A line of the record of a run".into());
    RecursiveTransform(plain_descriptions).transform(&mut schema);
    schema.into()
}
