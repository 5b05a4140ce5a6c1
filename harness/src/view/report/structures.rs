//! What `decode` says of the commands and events on a page, each once.

use std::collections::HashMap;

use serde_json::{Value, json};
use smmu_decode::{DecodeContext, FoundWords, StructureKind, reports};
use smmu_engine::record::Row;
use smmu_engine::transcript::LineKind;

/// The decoded structures of a page. A row refers to one by its number.
#[derive(Debug, Default)]
pub(super) struct Structures {
    numbers: HashMap<(LineKind, Vec<u64>), usize>,
    decoded: Vec<Value>,
}

impl Structures {
    /// The number of the structure of a row, if it has one.
    pub(super) fn of(&mut self, row: &Row) -> Option<usize> {
        let kind = match row.kind {
            LineKind::Command => StructureKind::Command,
            LineKind::Event => StructureKind::Event,
            _ => return None,
        };
        let words: Vec<u64> = row.raw.iter().flatten().map(|word| word.0).collect();
        if kind.words() != Some(words.len()) {
            return None;
        }
        let key = (row.kind, words);
        if let Some(number) = self.numbers.get(&key) {
            return Some(*number);
        }
        let found = FoundWords::plain(kind, key.1.clone());
        let report = reports(&found, &DecodeContext::default()).into_iter().next()?;
        let words: Vec<String> = key.1.iter().map(|word| format!("{word:#018x}")).collect();
        let fields: Vec<Value> = report
            .rows
            .iter()
            .filter(|field| field.counts || field.value != 0)
            .map(|field| {
                let bits = match field.hi == field.lo {
                    true => field.hi.to_string(),
                    false => format!("{}:{}", field.hi, field.lo),
                };
                json!([bits, field.name, field.shown, field.meaning])
            })
            .collect();
        self.decoded.push(json!({
            "name": report.name,
            "words": words.join(" "),
            "means": report.advice.means,
            "next": report.advice.next,
            "fields": fields,
        }));
        let number = self.decoded.len() - 1;
        self.numbers.insert(key, number);
        Some(number)
    }

    /// All of them, in the order of their numbers.
    pub(super) fn into_json(self) -> Value {
        Value::Array(self.decoded)
    }
}
