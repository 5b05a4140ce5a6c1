//! A run as a record.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "common/program.rs"]
mod program;

use std::collections::BTreeMap;

use program::{SABOTAGE, harness, json, text};
use serde_json::Value;
use smmu_engine::record::{Detail, RecordLine, Row, ScenarioRecord, TagChange, TimeUnit};
use smmu_engine::transcript::LineKind;

fn record(arguments: &[&str]) -> ScenarioRecord {
    let out = json(arguments);
    match serde_json::from_str(out.lines().next().unwrap()).unwrap() {
        RecordLine::Scenario(scenario) => *scenario,
        RecordLine::Summary(_) => unreachable!("the summary comes last"),
    }
}

#[test]
fn the_published_schema_is_up_to_date() {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/record.schema.json");
    let now = text(&harness(&["schema", "--form", "record"]));
    let kept = std::fs::read_to_string(kept).unwrap();
    assert!(now == kept, "write what `schema --form record` prints to docs/record.schema.json");
}

/// Every key that a line has is a property of the schema, and every required one is there.
fn conforms(value: &Value, schema: &Value, root: &Value, place: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        conforms(value, &root["definitions"][name], root, place);
    }
    for list in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[list].as_array() {
            let fits = choices.iter().filter(|choice| matches(value, choice, root)).count();
            assert!(fits >= 1, "{place}: {value} fits no choice");
            for choice in choices.iter().filter(|choice| matches(value, choice, root)) {
                conforms(value, choice, root, place);
            }
        }
    }
    if let (Some(fields), Some(known)) = (value.as_object(), schema["properties"].as_object()) {
        for required in schema["required"].as_array().into_iter().flatten() {
            assert!(fields.contains_key(required.as_str().unwrap()), "{place} lacks {required}");
        }
        for (key, value) in fields {
            // The tag of an enum stands beside the fields of its variant.
            let Some(schema) = known.get(key) else {
                assert!(schema["$ref"].is_string() || key == "type", "{place}.{key} is unknown");
                continue;
            };
            conforms(value, schema, root, &format!("{place}.{key}"));
        }
    }
    if let (Some(items), Some(_)) = (value.as_array(), schema["items"].as_object()) {
        for item in items {
            conforms(item, &schema["items"], root, place);
        }
    }
}

/// Whether a value can be of this choice: by its type, its constants and its tag.
fn matches(value: &Value, schema: &Value, root: &Value) -> bool {
    let tag = &schema["properties"]["type"]["const"];
    if !tag.is_null() {
        return value["type"] == *tag;
    }
    if let Some(name) = schema["$ref"].as_str() {
        return matches(value, &root["definitions"][name.rsplit('/').next().unwrap()], root);
    }
    if let Some(constant) = schema.get("const") {
        return value == constant;
    }
    if schema["type"] == "null" || value.is_null() {
        return value.is_null() && schema["type"] == "null";
    }
    true
}

#[test]
fn every_line_of_every_scenario_is_what_the_schema_says() {
    let schema: Value =
        serde_json::from_str(&text(&harness(&["schema", "--form", "record"]))).unwrap();
    let mut lines = 0;
    for out in [json(&[]), json(&SABOTAGE)] {
        for line in out.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            conforms(&value, &schema, &schema, "line");
            // And nothing is lost on the way through the types.
            let typed: RecordLine = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_value(&typed).unwrap(), value);
            lines += 1;
        }
    }
    assert_eq!(lines, 118);
}

fn rows(record: &ScenarioRecord, kind: LineKind) -> Vec<&Row> {
    record.rows.iter().filter(|row| row.kind == kind).collect()
}

#[test]
fn a_row_says_whose_it_is() {
    let record = record(&["first-light"]);
    assert_eq!((record.schema, record.clock), (1, TimeUnit::Steps));
    // Step 4 unmaps 0x10000 of D.
    let in_unmap = record.rows.iter().filter(|row| row.step == 4);
    let tlbi: Vec<&Row> = in_unmap.filter(|row| row.text.starts_with("TLBI")).collect();
    let [tlbi] = tlbi[..] else { panic!("one TLBI: {tlbi:?}") };
    assert_eq!((tlbi.smmu.as_deref(), tlbi.domain.as_deref()), (Some("smmu0"), Some("D")));
    assert_eq!(tlbi.iova.unwrap().to_string(), "0x10000");
    let Some(Detail::Command { position, consumed, fields, .. }) = &tlbi.detail else {
        panic!("{tlbi:?}")
    };
    // Six commands of the set-up and four of the attach came before.
    assert_eq!(*position, 10);
    assert!(consumed.unwrap() > tlbi.time);
    let asid = fields.iter().find(|field| field.name == "ASID").unwrap();
    assert_eq!(asid.value.0, 1);
    // The device's CFGI and DMA name it.
    let cfgi = rows(&record, LineKind::Command).into_iter().find(|row| row.stream == Some(8));
    assert_eq!(cfgi.unwrap().device.as_deref(), Some("dev0"));
    let outcomes: Vec<String> = rows(&record, LineKind::Dma)
        .into_iter()
        .map(|row| match &row.detail {
            Some(Detail::Dma { access, outcome, .. }) => format!("{access} {outcome}"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(outcomes, ["write page", "write refused"]);
    // The last user of the tag goes, and the tag is free.
    let changes: Vec<TagChange> = rows(&record, LineKind::Tag)
        .into_iter()
        .filter_map(|row| match &row.detail {
            Some(Detail::Tag { change, .. }) => Some(*change),
            _ => None,
        })
        .collect();
    assert_eq!(changes, [TagChange::Allocated, TagChange::Retired, TagChange::Freed]);
}

#[test]
fn a_record_has_the_words_of_each_entry_between_two_invalidations() {
    let record = record(&["first-light"]);
    let stores: Vec<(&str, usize, u64, u64)> = rows(&record, LineKind::Store)
        .into_iter()
        .map(|row| match &row.detail {
            Some(Detail::Store { entry, before, after }) => {
                (entry.as_str(), row.step, before[0].0, after[0].0)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    // The set-up makes the STE valid, and it aborts (5.2: V, Config = 0).
    assert_eq!(stores[0], ("STE", 0, 0, 1));
    // The attach ends with stage 1 (Config = 5), and with a valid CD (5.4: V is bit 31).
    let (_, _, before, after) = stores.iter().rfind(|s| s.0 == "STE" && s.1 == 1).unwrap();
    assert_eq!((before & 0xf, after & 0xf), (1, 0b1011));
    let (_, _, _, cd) = stores.iter().find(|s| s.0 == "CD").unwrap();
    assert_eq!(cd >> 31 & 1, 1);
    // The words of two stores to one entry are the same in between.
    let mut last: BTreeMap<(&str, Option<u32>), &Vec<_>> = BTreeMap::new();
    for row in rows(&record, LineKind::Store) {
        let Some(Detail::Store { entry, before, after }) = &row.detail else { panic!("{row:?}") };
        if let Some(was) = last.insert((entry, row.stream), after) {
            assert_eq!(was, before);
        }
    }
}

#[test]
fn the_hazards_of_a_failure_are_its_last_rows() {
    let record = record(&[&["first-light"][..], &SABOTAGE].concat());
    let last = record.rows.last().unwrap();
    assert_eq!((last.kind, last.step, last.stream), (LineKind::Hazard, 4, Some(8)));
    assert_eq!((last.device.as_deref(), last.smmu.as_deref()), (Some("dev0"), Some("smmu0")));
    let Some(Detail::Hazard { missing, expected: false }) = &last.detail else {
        panic!("{last:?}")
    };
    assert!(missing.as_ref().unwrap().starts_with("TLBI_NH_VA vmid=0 asid=1"));
    // A transcript does not have them: snapshots stay as they are.
    assert!(record.transcript.iter().all(|line| line.kind.is_in_transcripts()));
}
