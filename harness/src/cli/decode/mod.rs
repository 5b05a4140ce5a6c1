//! `decode`: decodes words, dumps and logs.

mod device_names;
mod input;
mod printer;

use std::io::{self, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::exit::Exit;
use super::output_file::OutputFile;
use super::output_format::OutputFormat;
use crate::view::log::LogReport;
use smmu_decode::structures::{decode, segments};
use smmu_decode::words::tokens;
use smmu_decode::{
    BitView, DecodeContext, InputPlace, RowChoice, ScanError, ScanItem, Scanner, StructureKind,
    TextView, WordWidth, ids,
};

use device_names::DeviceNames;
use input::Input;
use printer::{Detail, Printer};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DecodeArgs {
    /// A kind and its words, such as `event 0x0000000800000010 0x...`. More kinds may follow.
    /// `GERROR=0x1` is a register. Without words, the command reads standard input.
    #[arg(value_name = "KIND | WORD")]
    words: Vec<String>,
    /// Read this file instead of standard input: a log (also compressed with gzip), a dump, or
    /// words. With a KIND also a ring or a table as it is in memory: `decode cmd -i ring.bin`.
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Check STEs and CDs against the SMMU with these ID registers:
    /// IDR0=0x...,IDR1=0x...,IDR3=0x...,IDR5=0x...
    #[arg(long, value_name = "REGISTERS")]
    idr: Option<String>,
    /// Name the device of each StreamID by this flattened device tree, such as /sys/firmware/fdt.
    /// The name of the SMMU in the log gives its address (fd800000.iommu, smmuv3@a0000000); without
    /// one, every SMMU with that stream is named.
    #[arg(long, value_name = "FILE")]
    dtb: Option<PathBuf>,
    /// Name the device of each StreamID by this IORT, or by the one in a folder such as
    /// /sys/firmware/acpi/tables.
    #[arg(long, value_name = "FILE")]
    iort: Option<PathBuf>,
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
    /// Print only a table of the events: one row for each SMMU, event and stream, with count,
    /// addresses, first and last time.
    #[arg(long, conflicts_with_all = ["brief", "pass"])]
    summary: bool,
    /// Also write what is wrong as one page of HTML: causes in words, storms, a timeline, and each
    /// kind of fault explained.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
}

const EXAMPLES: &str = "\
Kinds: ste, cd, cmd, event, pri, idr, queue (PROD, CONS, log2 of the size), l1std, l1cd, and every register by its name.

Examples:
  dmesg | smmu-harness decode --pass
  smmu-harness decode --summary -i kern.log.1.gz
  dmesg | smmu-harness decode --summary --report faults.html
  dmesg | smmu-harness decode --iort /sys/firmware/acpi/tables
  smmu-harness decode cmd -i ring.bin
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

impl DecodeArgs {
    pub(super) fn run(&self) -> Result<(), Exit> {
        let ids = self.idr.as_deref().map(ids::parse).transpose();
        let ids = ids.map_err(|error| Exit::Usage(format!("--idr: {error}")))?;
        let tables = device_names::tables(self.dtb.as_deref(), self.iort.as_deref())?;
        let names = DeviceNames::new(&tables)?;
        let mut context = DecodeContext { ids, ..DecodeContext::default() };
        if !tables.is_empty() {
            context.resolver = &names;
        }
        let mut printer = Printer::new(context, self.format);
        printer.view = TextView {
            rows: if self.all { RowChoice::All } else { RowChoice::Counting },
            bits: if self.bits { BitView::On } else { BitView::Off },
        };
        printer.detail = match (self.brief, self.summary) {
            (true, _) => Detail::Brief,
            (_, true) => Detail::Summary,
            _ => Detail::Report,
        };
        printer.pass = self.pass;
        let width = self.word_size.map(WordWidth::from);
        // A kind without words is the kind of the input.
        let alone = match self.words.as_slice() {
            [] => Some(None),
            [name] => StructureKind::from_name(name).map(Some),
            _ => None,
        };
        // A file that cannot be written is told before anything is read.
        let report = self.report.as_deref().map(OutputFile::open).transpose()?;
        if let (Some(report), Some(input)) = (&report, &self.input)
            && report.is(input)
        {
            let shown = input.display();
            return Err(Exit::Usage(format!("{shown} is the input; give --report another file")));
        }
        printer.report =
            report.is_some().then(|| LogReport::new(&self.input_name(alone.is_some())));
        let read = match (alone, &self.input) {
            (Some(kind), Some(path)) => {
                read(&mut printer, input::look(input::open(path)?, kind)?, kind, width)
            }
            (Some(kind), None) => {
                let stdin = io::stdin();
                if stdin.is_terminal() {
                    let _ = writeln!(io::stderr(), "reading standard input until its end (Ctrl-D)");
                }
                let input = BufReader::with_capacity(1 << 16, stdin);
                read(&mut printer, input::look(input, kind)?, kind, width)
            }
            (None, Some(_)) => {
                return Err(Exit::Usage("give words or --input, not both".into()));
            }
            (None, None) if self.pass => {
                return Err(Exit::Usage(
                    "--pass needs standard input or --input, not words".into(),
                ));
            }
            (None, None) => self.arguments(&mut printer, width),
        };
        // The report has what comes before a place that cannot be read.
        if let (Some(file), Some(page)) = (report, printer.report.take()) {
            file.write(&page.page().map_err(io::Error::other)?)?;
        }
        read?;
        printer.end()
    }

    /// The input as the report names it.
    fn input_name(&self, reads: bool) -> String {
        match &self.input {
            Some(path) => path.file_name().unwrap_or(path.as_os_str()).display().to_string(),
            None if reads => "standard input".into(),
            None => "words".into(),
        }
    }

    fn arguments(&self, printer: &mut Printer<'_>, width: Option<WordWidth>) -> Result<(), Exit> {
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
                Err(_) if Path::new(argument).is_file() => {
                    let message = format!("{argument} is a file; read it with --input {argument}");
                    return Err(Exit::Usage(message));
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

/// Prints what an input has.
fn read(
    printer: &mut Printer<'_>,
    input: Input<Box<dyn io::BufRead>>,
    kind: Option<StructureKind>,
    width: Option<WordWidth>,
) -> Result<(), Exit> {
    match input {
        Input::Text(text) => printer.stream(text, kind, width),
        Input::Ring(kind, ring) => printer.ring(ring, kind),
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
