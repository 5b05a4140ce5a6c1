//! The JSON Schema of the format, derived from its types, for editors and for the reference page.

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::file::ScenarioFile;

use crate::prelude::*;

/// The JSON Schema of a scenario file.
#[must_use]
pub fn schema() -> Value {
    let mut generator = SchemaGenerator::new(SchemaSettings::draft07());
    let mut schema = ScenarioFile::json_schema(&mut generator);
    schema.insert("definitions".to_owned(), generator.take_definitions(true).into());
    schema.insert("$schema".to_owned(), "http://json-schema.org/draft-07/schema#".into());
    schema.insert("title".to_owned(), "An SMMU scenario".into());
    RecursiveTransform(plain_descriptions).transform(&mut schema);
    schema.into()
}

/// Descriptions come from doc comments. Outside of rustdoc their links lead nowhere.
pub(crate) fn plain_descriptions(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = without_links(&text.replace('\n', " "));
    }
}

/// `[text](target)` becomes `text`.
fn without_links(text: &str) -> String {
    let (mut plain, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('[') {
        plain.push_str(before);
        let link = after.split_once("](").and_then(|(shown, behind)| {
            let (_, behind) = behind.split_once(')')?;
            (!shown.contains(']')).then_some((shown, behind))
        });
        match link {
            Some((shown, behind)) => {
                plain.push_str(shown);
                rest = behind;
            }
            None => {
                plain.push('[');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lose_their_targets_and_brackets_stay() {
        assert_eq!(without_links("See [`Step::Map`](crate::Step::Map): x"), "See `Step::Map`: x");
        assert_eq!(without_links("`[\"s1\"]` or [[smmu]]"), "`[\"s1\"]` or [[smmu]]");
        assert_eq!(without_links("none"), "none");
    }

    #[test]
    fn every_key_of_the_format_is_in_the_schema_with_a_description() {
        let schema = schema();
        let definitions = schema["definitions"].as_object().unwrap();
        let mut keys = 0;
        for (name, definition) in definitions.iter().chain([(&"file".to_owned(), &schema)]) {
            for (key, value) in definition["properties"].as_object().into_iter().flatten() {
                assert!(value["description"].is_string(), "{name}.{key}: {value}");
                keys += 1;
            }
        }
        assert!(keys > 60, "{keys}");
        assert!(!schema.to_string().contains("](crate"));
        assert_eq!(schema["additionalProperties"], false);
    }
}
