//! `explain --common A B C`: what a guest may be told that runs on all of these SMMUs.

use std::io::Write;

use serde_json::{Map, Value, json};
use smmu_decode::explain::common::{Common, common};
use smmu_decode::{KnownIds, ids};
use smmu_types::Capabilities;

use crate::cli::exit::Exit;
use crate::cli::output_format::{OutputFormat, json_line};

/// Prints the common part of the SMMUs whose ID registers are given, one SMMU for each argument.
pub(super) fn print(arguments: &[String], format: OutputFormat) -> Result<(), Exit> {
    if arguments.len() < 2 {
        return Err(Exit::Usage(
            "--common needs two SMMUs or more, each as one argument: IDR0=0x...,IDR1=0x...,IDR3=0x...,IDR5=0x..."
                .into(),
        ));
    }
    let mut smmus: Vec<KnownIds> = Vec::new();
    for (n, text) in arguments.iter().enumerate() {
        let parsed = ids::parse(text);
        smmus.push(parsed.map_err(|error| Exit::Usage(format!("SMMU {}: {error}", n + 1)))?);
    }
    let common = common(&smmus);
    let mut out = anstream::stdout().lock();
    match format {
        OutputFormat::Human => human(&mut out, &common)?,
        OutputFormat::Json => writeln!(out, "{}", object(&common))?,
    }
    out.flush()?;
    match common.conflicts.is_empty() {
        true => Ok(()),
        false => Err(Exit::Failed),
    }
}

/// The registers that a guest is told.
fn told(common: &Common) -> Vec<(&'static str, u32)> {
    let wanted = |name: &str| matches!(name, "IDR0" | "IDR1" | "IDR3" | "IDR5" | "AIDR");
    common.ids.named().into_iter().filter(|(name, _)| wanted(name)).collect()
}

fn human(out: &mut impl Write, common: &Common) -> std::io::Result<()> {
    for conflict in &common.conflicts {
        writeln!(out, "no guest can run on all of them: {conflict}")?;
    }
    let raw: Vec<String> =
        told(common).iter().map(|(name, value)| format!("{name}={value:#010x}")).collect();
    writeln!(out, "tell the guest   {}", raw.join(","))?;
    writeln!(out, "{}", Capabilities::decode(common.ids))?;
    for (smmu, register) in &common.missing {
        writeln!(out, "not given: {register} of SMMU {}; its features are left out", smmu + 1)?;
    }
    if !common.of_the_host.is_empty() {
        writeln!(out, "left to the host, though all have it: {}", common.of_the_host.join(", "))?;
    }
    if common.limits.is_empty() {
        return writeln!(out, "the SMMUs do not differ");
    }
    writeln!(out, "where they differ:")?;
    for limit in &common.limits {
        let values: Vec<String> = limit
            .values
            .iter()
            .map(|value| value.map_or_else(|| "not given".into(), |value| value.to_string()))
            .collect();
        let (name, value) = (limit.field.name(), limit.common.to_string());
        let text = Some(limit.text(limit.common)).filter(|text| *text != value);
        let text = text.map_or_else(String::new, |text| format!(" ({text})"));
        let values = values.join(", ");
        writeln!(out, "  {}.{name} = {value}{text}: the SMMUs have {values}", limit.register)?;
    }
    Ok(())
}

fn object(common: &Common) -> Value {
    let registers: Map<String, Value> = told(common)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), format!("{value:#010x}").into()))
        .chain([("type".to_owned(), "registers".into())])
        .collect();
    let limits: Vec<Value> = common
        .limits
        .iter()
        .map(|limit| {
            json!({
                "type": "limit",
                "register": limit.register,
                "field": limit.field.name(),
                "common": limit.common,
                "meaning": limit.text(limit.common),
                "values": limit.values,
            })
        })
        .collect();
    let missing: Vec<Value> = common
        .missing
        .iter()
        .map(|(smmu, register)| {
            json!({ "type": "missing register", "smmu": smmu + 1, "register": register })
        })
        .collect();
    let fields = json!({
        "kind": "common",
        "registers": registers,
        "limits": limits,
        "of_the_host": common.of_the_host,
        "missing": missing,
        "conflicts": common.conflicts,
    });
    json_line("common", fields)
}
