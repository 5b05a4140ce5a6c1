//! Each kind of fault, explained once.

use std::fmt::{self, Write};

use smmu_decode::explain::{Topic, topic};

use super::faults::Faults;
use crate::view::page::{Text, anchor};

/// Writes what each kind means, its causes and what to look at, with its section of IHI 0070. A kind
/// that only a sentence tells of explains itself, and is left out.
pub(super) fn kinds(out: &mut String, faults: &Faults) -> fmt::Result {
    let kinds = faults.kinds();
    let mut topics: Vec<Topic> = Vec::new();
    for topic in kinds.iter().filter_map(|(_, kind)| explained(&kind.name)) {
        if topics.iter().all(|known| known.name != topic.name) {
            topics.push(topic);
        }
    }
    if topics.is_empty() {
        return Ok(());
    }
    write!(out, "<section><h2>What each kind means</h2>")?;
    for topic in topics {
        let Topic { name, what, means, causes, look, section, .. } = &topic;
        write!(
            out,
            "<section class=kind id=\"kind-{}\"><h3>{} <small>{}; IHI 0070, {}</small></h3><p>{}</p>",
            anchor(name),
            Text(name),
            Text(what),
            Text(section),
            Text(means)
        )?;
        for (title, rows) in
            [("Causes, the most frequent first", causes), ("What to look at", look)]
        {
            if !rows.is_empty() {
                write!(out, "<h4>{title}</h4><ul>")?;
                rows.iter().try_for_each(|row| write!(out, "<li>{}", Text(row)))?;
                write!(out, "</ul>")?;
            }
        }
        write!(out, "</section>")?;
    }
    write!(out, "</section>")
}

/// What is told of a kind by its name in [`Faults`].
pub(super) fn explained(kind: &str) -> Option<Topic> {
    let name = match kind {
        "CMD_SYNC timeout" => "CMD_SYNC",
        kind => kind.strip_prefix("refused ").unwrap_or(kind),
    };
    topic(name)
}
