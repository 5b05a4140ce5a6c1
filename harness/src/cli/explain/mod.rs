//! `explain`: explains why an SMMU would refuse a configuration, or what a name means.

mod common;
mod topic;

use std::io::Write;

use serde_json::{Value, json};
use smmu_types::legal::{Effect, El2Regime, Finding, SmmuView, StreamLookup, TranslatedTraffic};
use smmu_types::{
    Capabilities, Cd, IdRegisters, Ste, StreamId, StreamTableDescriptor, SubstreamId,
};

use crate::cli::backend_args::{BackendArgs, BackendName};
use crate::cli::exit::Exit;
use crate::cli::one_of::one_of;
use crate::cli::output_format::{OutputFormat, json_line};
use smmu_decode::explain::build::{self, BaseConfig, Setting};
use smmu_decode::explain::{Question, StructureFindings, explain_known};
use smmu_decode::structures::{decode, guess, segments};
use smmu_decode::words::tokens;
use smmu_decode::{
    FoundWords, InputPlace, KnownIds, ScanError, StructureKind, Word, WordError, ids,
};
use smmu_engine::run::{self, RigError};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ExplainArgs {
    /// A name, such as F_TRANSLATION, CERROR_ILL or TLBI_EL2_ALL; or `ste` and 8 words, `cd` and 8
    /// words, or both.
    #[arg(value_name = "NAME | KIND | WORD")]
    words: Vec<String>,
    /// Print the ID registers that a guest may be told that runs on all of these SMMUs. Each argument
    /// is one SMMU: IDR0=0x...,IDR1=0x...,IDR3=0x...,IDR5=0x...
    #[arg(long, conflicts_with_all = ["base", "set", "idr", "backend", "sid", "ssid"])]
    common: bool,
    /// Start from a legal configuration of this kind.
    #[arg(long, value_parser = one_of(&BaseConfig::ALL, BaseConfig::name, BaseConfig::text))]
    base: Option<BaseConfig>,
    /// Change a field: S1CDMax=4, CD.T0SZ=0x10. Repeat the option for more fields.
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// The ID registers of the SMMU: IDR0=0x...,IDR1=0x...,IDR3=0x...,IDR5=0x... Rules that
    /// depend on a missing one are not judged.
    #[arg(long, value_name = "REGISTERS", conflicts_with = "backend")]
    idr: Option<String>,
    /// Take the ID registers from the SMMU of this backend.
    #[arg(long, value_name = "BACKEND", value_parser = BackendName::parser())]
    backend: Option<BackendName>,
    /// The QEMU to use with --backend qemu.
    #[arg(long, value_name = "PATH", requires = "backend")]
    qemu: Option<std::path::PathBuf>,
    /// The EL2 regime has E2H (CR2.E2H = 1).
    #[arg(long)]
    e2h: bool,
    /// The SMMU checks translated traffic (CR0.ATSCHK = 1).
    #[arg(long)]
    atschk: bool,
    /// Look up this StreamID with --strtab-cfg and --l1std.
    #[arg(long, value_name = "WORD", requires = "strtab_cfg")]
    sid: Option<String>,
    /// The value of STRTAB_BASE_CFG.
    #[arg(long, value_name = "WORD", requires = "sid")]
    strtab_cfg: Option<String>,
    /// The level-1 descriptor of the StreamID, for a two-level stream table.
    #[arg(long, value_name = "WORD", requires = "sid")]
    l1std: Option<String>,
    /// The SubstreamID of a transaction, or `none` for a transaction without one.
    #[arg(long, value_name = "WORD")]
    ssid: Option<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
}

const EXAMPLES: &str = "\
Examples:
  smmu-harness explain F_TRANSLATION
  smmu-harness explain --common IDR0=0x0d44101b,IDR1=0x02730010,IDR3=0x1414,IDR5=0x74 IDR0=0x080fe6bf,...
  smmu-harness explain --backend qemu ste 0xf80000004000000b 0x54 0 0 0 0 0 0
  smmu-harness explain --backend mock --base nested --set S2T0SZ=10 --set CD.AA64=0
  smmu-harness explain --idr IDR0=0x0d44101b,IDR1=0x02730010,IDR3=0x1414,IDR5=0x74 --base stage1 --set STRW=2

Exit status: 0 legal, 1 refused, 2 wrong usage, 3 backend not available.";

impl ExplainArgs {
    pub(super) fn run(&self) -> Result<(), Exit> {
        if self.common {
            return common::print(&self.words, self.format);
        }
        if let Some(found) = topic::named(&self.words)? {
            return topic::print(&found, self.format);
        }
        let ids = self.ids()?;
        let mut smmu = SmmuView::new(ids.values);
        if self.e2h {
            smmu.el2 = El2Regime::El2E2h;
        }
        if self.atschk {
            smmu.translated = TranslatedTraffic::Checked;
        }
        let question = self.question(&ids.values)?;
        let parts = explain_known(&question, &smmu, &ids);
        let mut out = anstream::stdout().lock();
        for part in &parts {
            match self.format {
                OutputFormat::Human => human(&mut out, part)?,
                OutputFormat::Json => writeln!(out, "{}", json_part(part))?,
            }
        }
        if let (OutputFormat::Human, Some(ste), None) = (self.format, question.ste, question.cd)
            && ste.0[0] >> 1 & 5 == 5
        {
            writeln!(out, "note: stage 1 also needs a CD; give `cd` and 8 words to check it")?;
        }
        if let (OutputFormat::Human, Some(_), false) =
            (self.format, question.cd, parts.iter().any(|part| part.name == "CD"))
        {
            writeln!(out, "note: the CD is not checked: the STE does not translate at stage 1")?;
        }
        out.flush()?;
        match parts.iter().find_map(StructureFindings::refused) {
            Some(_) => Err(Exit::Failed),
            None => Ok(()),
        }
    }

    fn ids(&self) -> Result<KnownIds, Exit> {
        match (&self.idr, self.backend) {
            (Some(text), _) => {
                ids::parse(text).map_err(|error| Exit::Usage(format!("--idr: {error}")))
            }
            (None, Some(backend)) => {
                let arguments = BackendArgs { backend, qemu: self.qemu.clone() };
                let backend = arguments.open()?;
                let probed = run::probe(&*backend).map_err(|error| match error {
                    RigError::Backend(error) => error.into(),
                    other => Exit::Unavailable(other.to_string()),
                })?;
                Ok(KnownIds::all(probed.id))
            }
            (None, None) => Err(Exit::Usage(
                "name the SMMU: --idr IDR0=0x...,IDR1=0x...,IDR3=0x...,IDR5=0x..., or --backend mock|qemu"
                    .into(),
            )),
        }
    }

    fn question(&self, ids: &IdRegisters) -> Result<Question, Exit> {
        let (mut ste, mut cd) = (None, None);
        for found in self.given()? {
            let words = std::array::from_fn(|n| found.words.get(n).copied().unwrap_or(0));
            let twice = match found.kind {
                StructureKind::Ste => ste.replace(Ste(words)).is_some(),
                StructureKind::Cd => cd.replace(Cd(words)).is_some(),
                kind => return Err(not_explained(kind)),
            };
            if twice {
                return Err(Exit::Usage(format!("{} is given twice", found.kind)));
            }
        }
        if let Some(base) = self.base {
            if ste.is_some() || cd.is_some() {
                return Err(Exit::Usage("give words or --base, not both".into()));
            }
            let built = build::base(base, &Capabilities::decode(*ids)).map_err(usage)?;
            (ste, cd) = (Some(built.0), built.1);
        }
        for text in &self.set {
            let setting = Setting::parse(text).map_err(usage)?;
            let mut changed = ste.unwrap_or(Ste::INVALID);
            setting.apply(&mut changed, &mut cd).map_err(usage)?;
            if ste.is_some() || !setting.is_of_cd() {
                ste = Some(changed);
            }
        }
        if ste.is_none() && cd.is_none() && self.sid.is_none() {
            return Err(Exit::Usage(
                "nothing to explain: give `ste` and 8 words, `cd` and 8 words, or --base".into(),
            ));
        }
        if self.ssid.is_some() && ste.is_none() {
            return Err(Exit::Usage("--ssid needs an STE".into()));
        }
        let substream = match self.ssid.as_deref() {
            None => None,
            Some("none") => Some(None),
            Some(text) => {
                let value = option(text, "--ssid")?;
                let found = u32::try_from(value).ok().and_then(SubstreamId::new);
                let wide = || Exit::Usage(format!("--ssid: {value:#x} has more than 20 bits"));
                Some(Some(found.ok_or_else(wide)?))
            }
        };
        Ok(Question { stream: self.stream()?, ste, substream, cd })
    }

    fn stream(&self) -> Result<Option<(StreamId, StreamLookup)>, Exit> {
        let (Some(sid), Some(config)) = (&self.sid, &self.strtab_cfg) else { return Ok(None) };
        let narrow = |text: &str, name: &str| {
            let value = option(text, name)?;
            u32::try_from(value)
                .map_err(|_| Exit::Usage(format!("{name}: {value:#x} has more than 32 bits")))
        };
        let descriptor = self.l1std.as_deref().map(|text| option(text, "--l1std")).transpose()?;
        let table = StreamLookup {
            config: narrow(config, "--strtab-cfg")?,
            descriptor: descriptor.map(|word| StreamTableDescriptor([word])),
        };
        Ok(Some((StreamId(narrow(sid, "--sid")?), table)))
    }

    /// The structures among the arguments.
    fn given(&self) -> Result<Vec<FoundWords>, Exit> {
        let places = self.words.iter().enumerate().flat_map(|(n, argument)| {
            let place = move |column| InputPlace::Argument { number: n + 1, column: column + 1 };
            tokens(argument).map(move |(column, token)| (place(column), token))
        });
        let tokens: Vec<(InputPlace, &str)> = places.collect();
        let mut found = Vec::new();
        for (kind, words) in segments(&tokens).map_err(ScanError::from)? {
            let kind = match kind {
                Some(kind @ (StructureKind::Ste | StructureKind::Cd)) => kind,
                Some(kind) => return Err(not_explained(kind)),
                None => {
                    guess(&words, None, &[StructureKind::Ste, StructureKind::Cd])
                        .map_err(ScanError::from)?
                        .0
                }
            };
            if words.is_empty() {
                return Err(Exit::Usage(format!(
                    "no words follow {kind}; give them after its name"
                )));
            }
            found.extend(decode(Some(kind), None, &words).map_err(ScanError::from)?);
        }
        Ok(found)
    }
}

fn not_explained(kind: StructureKind) -> Exit {
    Exit::Usage(format!("cannot explain {kind}; give an STE or a CD"))
}

fn usage(error: build::BuildError) -> Exit {
    Exit::Usage(error.to_string())
}

fn option(text: &str, name: &str) -> Result<u64, Exit> {
    let place = InputPlace::Argument { number: 1, column: 1 };
    let word = Word::parse(text, place);
    word.map(|word| word.value).map_err(|error| {
        let meant = match error {
            WordError::Binary { value, .. } => format!("; give a binary number as {value:#x}"),
            _ => String::new(),
        };
        Exit::Usage(format!("{name}: \"{text}\" is not a hexadecimal word of 64 bits{meant}"))
    })
}

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const GREEN: &str = "\x1b[32m";
const PLAIN: &str = "\x1b[0m";

fn human(out: &mut impl Write, part: &StructureFindings) -> std::io::Result<()> {
    match part.refused() {
        Some(event) => writeln!(out, "{BOLD}{}{PLAIN}  {RED}refused{PLAIN}: {event}", part.name)?,
        None if part.findings.is_empty() && !part.not_judged.is_empty() => {
            writeln!(
                out,
                "{BOLD}{}{PLAIN}  {YELLOW}legal as far as it can be judged{PLAIN}",
                part.name
            )?;
        }
        None if part.findings.is_empty() => {
            writeln!(out, "{BOLD}{}{PLAIN}  {GREEN}legal{PLAIN}", part.name)?;
        }
        None => writeln!(out, "{BOLD}{}{PLAIN}  {YELLOW}legal, but see below{PLAIN}", part.name)?,
    }
    for finding in &part.findings {
        let colour = match finding.effect() {
            Effect::Illegal(_) => RED,
            _ => YELLOW,
        };
        writeln!(out, "  {colour}{finding}{PLAIN}")?;
        writeln!(out, "    effect  {}", finding.effect())?;
        writeln!(out, "    remedy  {}", finding.rule().remedy())?;
        writeln!(out, "    source  IHI 0070, {}", finding.rule().section())?;
    }
    for missing in &part.not_judged {
        writeln!(out, "  {YELLOW}not judged: {missing}{PLAIN}")?;
    }
    Ok(())
}

fn json_part(part: &StructureFindings) -> Value {
    let one = |finding: &Finding| {
        json!({
            "type": "finding",
            "field": finding.field().name(),
            "hi": finding.field().hi(), "lo": finding.field().lo(),
            "value": format!("{:#x}", finding.value()),
            "rule": finding.rule().to_string(),
            "illegal": matches!(finding.effect(), Effect::Illegal(_)),
            "effect": finding.effect().to_string(),
            "remedy": finding.rule().remedy(),
            "section": finding.rule().section(),
        })
    };
    let fields = json!({
        "structure": part.name,
        "refused": part.refused().map(|event| event.to_string()),
        "findings": part.findings.iter().map(one).collect::<Vec<_>>(),
        "not_judged": part.not_judged.iter().map(|missing| {
            json!({
                "type": "missing register",
                "register": missing.register,
                "fields": missing.fields,
            })
        }).collect::<Vec<_>>(),
    });
    json_line("explanation", fields)
}
