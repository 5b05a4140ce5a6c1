//! `decode`: decodes words, dumps and logs.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::PathBuf;

use serde_json::json;

use super::exit::Exit;
use super::output_format::OutputFormat;
use smmu_decode::structures::{decode, segments};
use smmu_decode::words::tokens;
use smmu_decode::{
    BitView, DecodeContext, FoundWords, InputPlace, LogLine, RowChoice, ScanError, ScanItem,
    Scanner, StructureKind, TextView, WordWidth, ids, reports,
};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DecodeArgs {
    /// A kind and its words, such as `event 0x0000000800000010 0x...`. More kinds may follow.
    /// `GERROR=0x1` is a register. Without words, the command reads standard input.
    #[arg(value_name = "KIND | WORD")]
    words: Vec<String>,
    /// Read this file instead of standard input: a log, a dump, or words.
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Check STEs and CDs against the SMMU with these ID registers:
    /// IDR0=0x...,IDR1=0x...,IDR3=0x...,IDR5=0x...
    #[arg(long, value_name = "REGISTERS")]
    idr: Option<String>,
    /// The bits of a word. Default: guessed from the words.
    #[arg(long, value_enum, value_name = "BITS")]
    word_size: Option<WordSize>,
    /// Print all fields of an STE, a CD or GERROR, not only those that are set or that count.
    #[arg(long)]
    all: bool,
    /// Print each word as bits as well, with runs of zeros folded.
    #[arg(long)]
    bits: bool,
    /// Also print the lines that are not about an SMMU, in their places.
    #[arg(long)]
    pass: bool,
    /// Print one line for each structure.
    #[arg(long, conflicts_with = "format")]
    brief: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
}

const EXAMPLES: &str = "\
Kinds: ste, cd, cmd, event, pri, idr, queue (PROD, CONS, log2 of the size), l1std, l1cd, and every register by its name.

Examples:
  dmesg | smmu-harness decode --pass
  smmu-harness decode 0x0000000800000010 0x0000020000000000 0x0000000000010000 0
  smmu-harness decode gerror 0x1 queue 0x5 0x01000004 8
  smmu-harness decode ste 0x800000000d 0 0 0 0 0 0 0 --idr IDR0=0x0d44101b,IDR1=0x02730010,IDR3=0x1414,IDR5=0x74

A KIND is for plain words and dumps; logs name their own kinds. `cd` is the kind; the number is 0xcd.

Exit status: 0 decoded (or passed on, with --pass), 1 nothing to decode, 2 nothing of it can be decoded.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum WordSize {
    #[value(name = "32")]
    Bits32,
    #[value(name = "64")]
    Bits64,
}

impl From<WordSize> for WordWidth {
    fn from(size: WordSize) -> Self {
        match size {
            WordSize::Bits32 => WordWidth::Bits32,
            WordSize::Bits64 => WordWidth::Bits64,
        }
    }
}

/// A longer line is not of a log.
const LONGEST_LINE: u64 = 1 << 20;

impl DecodeArgs {
    pub(super) fn run(&self) -> Result<(), Exit> {
        let ids = self.idr.as_deref().map(ids::parse).transpose();
        let ids = ids.map_err(|error| Exit::Usage(format!("--idr: {error}")))?;
        let colour = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
        let mut printer = Printer {
            out: io::stdout().lock(),
            colour,
            context: DecodeContext { ids, ..DecodeContext::default() },
            format: self.format,
            view: TextView {
                rows: if self.all { RowChoice::All } else { RowChoice::Counting },
                bits: if self.bits { BitView::On } else { BitView::Off },
            },
            brief: self.brief,
            pass: self.pass,
            found: 0,
            broken: 0,
            open_line: None,
        };
        let width = self.word_size.map(WordWidth::from);
        // A kind without words is the kind of the input.
        let alone = match self.words.as_slice() {
            [] => Some(None),
            [name] => StructureKind::from_name(name).map(Some),
            _ => None,
        };
        match (alone, &self.input) {
            (Some(kind), Some(path)) => {
                let file = File::open(path)
                    .map_err(|error| Exit::Usage(format!("{}: {error}", path.display())))?;
                printer.stream(BufReader::new(file), kind, width)?;
            }
            (Some(kind), None) => {
                let stdin = io::stdin();
                if stdin.is_terminal() {
                    let _ = writeln!(io::stderr(), "reading standard input until its end (Ctrl-D)");
                }
                printer.stream(stdin.lock(), kind, width)?;
            }
            (None, Some(_)) => {
                return Err(Exit::Usage("give words or --input, not both".into()));
            }
            (None, None) if self.pass => {
                return Err(Exit::Usage(
                    "--pass needs standard input or --input, not words".into(),
                ));
            }
            (None, None) => self.arguments(&mut printer, width)?,
        }
        printer.end()
    }

    fn arguments(&self, printer: &mut Printer, width: Option<WordWidth>) -> Result<(), Exit> {
        let mut items = Vec::new();
        let mut scanner = Scanner::new(None, width);
        let mut words: Vec<(InputPlace, &str)> = Vec::new();
        for (n, argument) in self.words.iter().enumerate() {
            let place = |column| InputPlace::Argument { number: n + 1, column: column + 1 };
            let more: Vec<(InputPlace, &str)> =
                tokens(argument).map(|(column, token)| (place(column), token)).collect();
            match segments(&more) {
                Ok(_) => words.extend(more),
                // The argument is a log line in quotes.
                Err(_) if more.len() > 1 => {
                    items.extend(decoded(&std::mem::take(&mut words), width)?);
                    items
                        .extend(argument.lines().flat_map(|line| scanner.line(0, line.as_bytes())));
                }
                Err(error) => return Err(ScanError::from(error).into()),
            }
        }
        items.extend(decoded(&words, width)?);
        items.extend(scanner.finish());
        if items.iter().all(|item| matches!(item, ScanItem::Other(_))) {
            return Err(Exit::Usage("the arguments have nothing of an SMMU to decode".into()));
        }
        // An STE behind an event may explain it.
        for item in &items {
            if let ScanItem::Found(found) = item {
                printer.context.remember(found);
            }
        }
        items.into_iter().try_for_each(|item| printer.item(item))
    }
}

/// Decodes the words among the arguments.
fn decoded(tokens: &[(InputPlace, &str)], width: Option<WordWidth>) -> Result<Vec<ScanItem>, Exit> {
    let mut items = Vec::new();
    for (kind, words) in segments(tokens).map_err(ScanError::from)? {
        if let (Some(kind), true) = (kind, words.is_empty()) {
            return Err(Exit::Usage(format!("no words follow {kind}; give them after its name")));
        }
        let found = decode(kind, width, &words).map_err(ScanError::from)?;
        items.extend(found.into_iter().map(ScanItem::Found));
    }
    Ok(items)
}

impl From<ScanError> for Exit {
    fn from(error: ScanError) -> Self {
        Exit::Usage(error.to_string())
    }
}

struct Printer {
    out: io::StdoutLock<'static>,
    colour: bool,
    context: DecodeContext<'static>,
    view: TextView,
    format: OutputFormat,
    brief: bool,
    pass: bool,
    found: usize,
    broken: usize,
    /// The number of the last passed line, if it has no end yet.
    open_line: Option<usize>,
}

impl Printer {
    fn stream(
        &mut self,
        mut input: impl BufRead,
        kind: Option<StructureKind>,
        width: Option<WordWidth>,
    ) -> Result<(), Exit> {
        let mut scanner = Scanner::new(kind, width);
        let mut bytes = Vec::new();
        let (mut number, mut too_long) = (0, false);
        loop {
            bytes.clear();
            match input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(Exit::Usage(format!("cannot read the input: {error}"))),
            }
            number += usize::from(!too_long);
            let ended = bytes.last() == Some(&b'\n');
            // Such a line is not of a log: it passes in pieces.
            if too_long || !ended && bytes.len() as u64 == LONGEST_LINE {
                too_long = !ended;
                self.item(ScanItem::Other(LogLine { number, raw: bytes.clone() }))?;
                continue;
            }
            for item in scanner.line(number, &bytes) {
                self.item(item)?;
            }
        }
        for item in scanner.finish() {
            self.item(item)?;
        }
        if self.found + self.broken == 0 && !self.pass {
            let lines = if number == 1 { "1 line".into() } else { format!("{number} lines") };
            let _ = writeln!(io::stderr(), "nothing of an SMMU in {lines}");
        }
        Ok(())
    }

    fn item(&mut self, item: ScanItem) -> Result<(), Exit> {
        match (item, self.format) {
            (ScanItem::Found(found), _) => self.found(&found)?,
            (ScanItem::Note { line, source, text }, OutputFormat::Human) => {
                self.found += 1;
                let note = format!("note {text}  \x1b[2m({})\x1b[0m\n", origin(line, source, ""));
                self.write(note.as_bytes())?;
            }
            (ScanItem::Note { line, source, text }, OutputFormat::Json) => {
                self.found += 1;
                let note = json!({ "kind": "note", "line": line, "source": source, "note": text });
                self.write(format!("{note}\n").as_bytes())?;
            }
            (ScanItem::Other(line), OutputFormat::Human) if self.pass => {
                // The next piece continues its line.
                if self.open_line != Some(line.number) {
                    self.end_line()?;
                }
                self.out.write_all(&line.raw)?;
                self.open_line = (line.raw.last() != Some(&b'\n')).then_some(line.number);
            }
            (ScanItem::Other(line), OutputFormat::Json) if self.pass => {
                let other = json!({ "kind": "other", "line": line.number, "text": line.text() });
                self.write(format!("{other}\n").as_bytes())?;
            }
            (ScanItem::Other(_) | ScanItem::Again { .. }, _) => {}
            (ScanItem::Broken(error), _) => {
                self.broken += 1;
                self.out.flush()?;
                let _ = writeln!(io::stderr(), "error: {error}");
            }
        }
        Ok(())
    }

    fn found(&mut self, found: &FoundWords) -> Result<(), Exit> {
        self.found += 1;
        let origin = origin(found.line, found.source, &found.about);
        for report in reports(found, &self.context) {
            let mut text = Vec::new();
            match self.format {
                OutputFormat::Human if self.brief => report.brief(&mut text, &origin)?,
                OutputFormat::Human => report.human(&mut text, &origin, self.view)?,
                OutputFormat::Json => {
                    let mut object = report.json();
                    if let Some(object) = object.as_object_mut() {
                        object.insert("line".into(), json!(found.line));
                        object.insert("source".into(), json!(found.source));
                        object.insert("about".into(), json!(found.about));
                    }
                    writeln!(text, "{object}")?;
                }
            }
            self.write(&text)?;
        }
        Ok(())
    }

    /// Writes decoded text, without its colours if the output takes none.
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.end_line()?;
        match self.colour {
            true => self.out.write_all(text),
            false => self.out.write_all(&anstream::adapter::strip_bytes(text).into_vec()),
        }
    }

    fn end_line(&mut self) -> io::Result<()> {
        if self.open_line.take().is_some() { self.out.write_all(b"\n") } else { Ok(()) }
    }

    fn end(mut self) -> Result<(), Exit> {
        self.out.flush()?;
        match (self.broken, self.found) {
            (1.., 0) => Err(Exit::Complained),
            (0, 0) if !self.pass => Err(Exit::Failed),
            _ => Ok(()),
        }
    }
}

/// The line, the source and the sender of a structure, as text.
fn origin(line: usize, source: &str, about: &str) -> String {
    let line = if line == 0 { String::new() } else { format!("line {line}") };
    let parts = [line.as_str(), source, about.trim()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}
