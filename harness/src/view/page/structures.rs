//! What `decode` says of the structures on a page, each once.

use std::collections::HashMap;

use serde_json::{Value, json};
use smmu_decode::{DecodeContext, FoundWords, StructureKind, reports};

/// The decoded structures of a page. An element refers to one by its number, as `data-s`.
#[derive(Debug)]
pub(in crate::view) struct Structures {
    numbers: HashMap<(&'static str, Vec<u64>, usize, String), usize>,
    decoded: Vec<Value>,
    /// Bytes that are left for more.
    room: usize,
}

impl Structures {
    /// Room for structures whose text has this many bytes.
    pub(in crate::view) fn with_room(room: usize) -> Self {
        Structures { numbers: HashMap::new(), decoded: Vec::new(), room }
    }

    /// The number of a structure; `None` if there is no room for it.
    pub(in crate::view) fn of(
        &mut self,
        found: &FoundWords,
        context: &DecodeContext<'_>,
    ) -> Option<usize> {
        let FoundWords { kind, words, known, smmu, .. } = found;
        let name = match kind {
            StructureKind::Register(layout) => layout.name(),
            _ => kind.name(),
        };
        // Two SMMUs may have two devices of a stream. The beginning of a name tells them apart.
        let smmu = smmu.chars().take(96).collect();
        let key = (name, words.clone(), *known, smmu);
        if let Some(number) = self.numbers.get(&key) {
            return Some(*number);
        }
        if self.room == 0 {
            return None;
        }
        let report = reports(found, context).into_iter().next()?;
        let digits = if report.bits <= 32 { 8 } else { 16 };
        let words: Vec<String> = words.iter().map(|word| format!("0x{word:0digits$x}")).collect();
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
        let mut next = report.findings;
        next.extend(report.advice.next);
        next.extend(report.device);
        let decoded = json!({
            "name": report.name,
            "words": words.join(" "),
            "means": report.advice.means,
            "next": next,
            "fields": fields,
        });
        // The last one may be longer than the room: no later one gets any.
        self.room = self.room.saturating_sub(decoded.to_string().len());
        self.decoded.push(decoded);
        let number = self.decoded.len() - 1;
        self.numbers.insert(key, number);
        Some(number)
    }

    /// All of them, in the order of their numbers.
    pub(super) fn into_json(self) -> Value {
        Value::Array(self.decoded)
    }
}
