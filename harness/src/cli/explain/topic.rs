//! `explain NAME`: what an event, a command, an error, a register or a field means.

use std::io::Write;

use serde_json::json;
use smmu_decode::explain::{Topic, names, topic};

use crate::cli::exit::Exit;
use crate::cli::output_format::{OutputFormat, json_line};

/// The topic of a single name; `None` if the text is no name.
pub(super) fn named(words: &[String]) -> Result<Option<Topic>, Exit> {
    let [name] = words else { return Ok(None) };
    if let Some(found) = topic(name) {
        return Ok(Some(found));
    }
    // A kind without words, or a word, is told by the caller.
    let word = name.starts_with("0x") || name.chars().all(|c| c.is_ascii_hexdigit());
    let kind = smmu_decode::StructureKind::from_name(name).is_some();
    let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if word || kind || !letters || !name.contains('_') {
        return Ok(None);
    }
    let upper = name.to_ascii_uppercase();
    let near = names()
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(known, &upper), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= 4);
    let hint = near.map_or_else(String::new, |(_, known)| format!("; did you mean {known}?"));
    Err(Exit::Usage(format!(
        "\"{name}\" is no event, command, error, register or field of an SMMUv3{hint}"
    )))
}

/// Prints a topic.
pub(super) fn print(found: &Topic, format: OutputFormat) -> Result<(), Exit> {
    let mut out = anstream::stdout().lock();
    match format {
        OutputFormat::Human => write!(out, "{found}")?,
        OutputFormat::Json => {
            let fields = json!({
                "kind": "topic",
                "name": found.name,
                "what": found.what,
                "means": found.means,
                "causes": found.causes,
                "illegal": found.illegal,
                "look": found.look,
                "section": found.section,
            });
            writeln!(out, "{}", json_line("topic", fields))?;
        }
    }
    out.flush()?;
    Ok(())
}
