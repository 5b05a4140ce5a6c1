//! The reference page of the format, made from its schema.

use core::fmt::Write;

use serde_json::{Map, Value};

use super::schema::schema;

use crate::prelude::*;

type Definitions = Map<String, Value>;

const HEAD: &str = "\
# The scenario format

A scenario is a TOML file. It says which SMMUs, devices, domains and pages there are, and then the
steps. Each step is a table with one key, the kind of the step:

```toml
step = [
    { attach = { device = \"dev0\", to = \"D\" } },
    { map = { domain = \"D\", iova = 0x10000, page = \"A\" } },
]
```

An unknown key or name is an error with line and column. `smmu-harness schema` prints the JSON
Schema of the format. A file names it for editors in its first line:
`#:schema ./scenario.schema.json`. This page is made from the same source:
`smmu-harness schema --form markdown`.
";

/// The reference page, in Markdown.
#[must_use]
pub fn reference() -> String {
    let schema = schema();
    let mut page = HEAD.to_owned();
    let none = Definitions::new();
    let definitions = schema["definitions"].as_object().unwrap_or(&none);
    section(&mut page, "The file", &schema);
    for (title, name) in [
        ("An SMMU", "SmmuSpec"),
        ("A device", "DeviceSpec"),
        ("A domain", "DomainSpec"),
        ("Reserved memory", "ReservedSpec"),
        ("A guest", "GuestSpec"),
        ("A guest's table", "GuestTableSpec"),
    ] {
        if let Some(definition) = definitions.get(name) {
            section(&mut page, title, definition);
        }
    }
    line(&mut page, "\n## Steps");
    for (kind, description, value) in variants(definitions.get("Step")) {
        line(&mut page, &format!("\n### `{kind}`\n\n{}", sentence(description)));
        if let Some(definition) = resolved(value, definitions) {
            keys(&mut page, definition);
        }
    }
    if let Some(watch) = definitions.get("AttachWatch") {
        section(&mut page, "Watch", watch);
    }
    if let Some(watch) = definitions.get("AdoptWatch") {
        section(&mut page, "Watch of adopt", watch);
    }
    line(&mut page, "\n## Commands\n\nOf `send` and `beside` of the step `command`.\n");
    line(&mut page, "| command | arguments | |\n|---|---|---|");
    for (kind, description, value) in variants(definitions.get("CommandSpec")) {
        let arguments = match resolved(value, definitions)
            .and_then(|of| of["properties"].as_object())
        {
            Some(keys) if keys.is_empty() => "`{}`".to_owned(),
            Some(keys) => keys.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "),
            None => "two 64-bit words".to_owned(),
        };
        line(&mut page, &format!("| `{kind}` | {arguments} | {} |", cell(description)));
    }
    line(&mut page, "\n## Values");
    for (name, definition) in definitions {
        let values = values(definition);
        if values.is_empty() {
            continue;
        }
        line(&mut page, &format!("\n### {name}\n\n{}\n", sentence(text_of(definition))));
        line(&mut page, "| value | |\n|---|---|");
        for (value, description) in values {
            line(&mut page, &format!("| {value} | {} |", cell(description)));
        }
    }
    page
}

fn line(page: &mut String, text: &str) {
    // A `String` takes all that is written.
    let _ = writeln!(page, "{text}");
}

fn section(page: &mut String, title: &str, definition: &Value) {
    line(page, &format!("\n## {title}\n\n{}", sentence(text_of(definition))));
    keys(page, definition);
}

/// The table of an object's keys.
fn keys(page: &mut String, definition: &Value) {
    let Some(properties) = definition["properties"].as_object() else { return };
    let required = definition["required"].as_array();
    line(page, "\n| key | value | |\n|---|---|---|");
    for (key, value) in properties {
        let must = required.is_some_and(|keys| keys.iter().any(|known| known == key));
        let must = if must { "" } else { "optional: " };
        let (kind, text) = (kind(value), cell(text_of(value)));
        line(page, &format!("| `{key}` | {must}{kind} | {text} |"));
    }
}

fn text_of(definition: &Value) -> &str {
    definition["description"].as_str().unwrap_or_default()
}

/// A description without the words that only rustdoc needs.
fn sentence(text: &str) -> String {
    let rest = text.split_once("`: ").map(|(name, rest)| (name.rsplit('`').next(), rest));
    match rest {
        // "`attach`: a device ...", under a heading that says `attach`.
        Some((Some(name), rest)) if text.starts_with(&format!("`{name}`: ")) => capital(rest),
        _ => capital(text),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A description as a cell of a table.
fn cell(text: &str) -> String {
    sentence(text).replace('|', "\\|")
}

/// The kinds of a step or command: name, description and arguments.
fn variants(definition: Option<&Value>) -> Vec<(&str, &str, &Value)> {
    let all = definition.and_then(|of| of["oneOf"].as_array()).into_iter().flatten();
    all.filter_map(|variant| {
        let (name, value) = variant["properties"].as_object()?.iter().next()?;
        Some((name.as_str(), text_of(variant), value))
    })
    .collect()
}

/// The name that a schema refers to.
fn referred(value: &Value) -> Option<&str> {
    let direct = value["$ref"].as_str();
    let nested = || {
        let options = value["allOf"].as_array().or_else(|| value["anyOf"].as_array())?;
        options.iter().find_map(referred)
    };
    direct.map(|path| path.rsplit('/').next().unwrap_or(path)).or_else(nested)
}

/// The object that a schema refers to, or is.
fn resolved<'s>(value: &'s Value, definitions: &'s Definitions) -> Option<&'s Value> {
    let mut value = value;
    // Each definition refers to another one once at most.
    for _ in 0..=definitions.len() {
        match referred(value) {
            Some(name) => value = definitions.get(name)?,
            None => return Some(value),
        }
    }
    None
}

/// What a value can be, in words.
fn kind(value: &Value) -> String {
    if let Some(name) = referred(value) {
        return match name {
            "Step" => "[step](#steps)".to_owned(),
            "CommandSpec" => "[command](#commands)".to_owned(),
            "SmmuSpec" => "[SMMU](#an-smmu)".to_owned(),
            "DeviceSpec" => "[device](#a-device)".to_owned(),
            "DomainSpec" => "[domain](#a-domain)".to_owned(),
            "GuestSpec" => "[guest](#a-guest)".to_owned(),
            "GuestTableSpec" => "[guest's table](#a-guests-table)".to_owned(),
            "AttachWatch" => "[watch](#watch)".to_owned(),
            "AdoptWatch" => "[watch](#watch-of-adopt)".to_owned(),
            "ReservedSpec" => "[reserved memory](#reserved-memory)".to_owned(),
            _ => format!("[{name}](#{})", name.to_lowercase()),
        };
    }
    let types = &value["type"];
    let is = |name: &str| {
        types == name || types.as_array().is_some_and(|all| all.contains(&name.into()))
    };
    if is("array") {
        return format!("list of {}", kind(&value["items"]));
    }
    let known = [("string", "string"), ("integer", "number"), ("boolean", "`true` or `false`")];
    known.into_iter().find(|(name, _)| is(name)).map_or("a value", |(_, shown)| shown).to_owned()
}

/// The values of an enum, each as it is written.
fn values(definition: &Value) -> Vec<(String, &str)> {
    let all = definition["oneOf"].as_array().into_iter().flatten();
    all.flat_map(|option| {
        let name = |value: &Value| value.as_str().map(|name| format!("`\"{name}\"`"));
        let mut found: Vec<(String, &str)> =
            name(&option["const"]).into_iter().map(|name| (name, text_of(option))).collect();
        let listed = option["enum"].as_array().into_iter().flatten();
        found.extend(listed.filter_map(name).map(|name| (name, text_of(option))));
        found
    })
    .collect()
}
