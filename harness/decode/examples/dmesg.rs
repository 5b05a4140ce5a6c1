//! Reads a kernel log, and prints each SMMUv3 record in it with its advice.
//!
//! `dmesg | cargo run -p smmu-decode --example dmesg -`, or a file as the only argument. Without an
//! argument, the example decodes a sample of its own.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};

use smmu_decode::{DecodeContext, ScanItem, Scanner, reports};

/// Two SMMUs report at the same time, and another driver writes between them.
const SAMPLE: &[u8] = b"\
[   40.000001] arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:
[   40.000002] arm-smmu-v3 arm-smmu-v3.1.auto: event 0x02 received:
[   40.000003] arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000000800000010
[   40.000004] arm-smmu-v3 arm-smmu-v3.1.auto: \t0x0001ff0000000002
[   40.000005] arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000020000000000
[   40.000006] nvme nvme0: I/O tag 8 QID 1 timeout, aborting
[   40.000007] arm-smmu-v3 arm-smmu-v3.1.auto: \t0x0000000000000000
[   40.000008] arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000000000010000
[   40.000009] arm-smmu-v3 arm-smmu-v3.1.auto: \t0x0000000000000000
[   40.000010] arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000000000000000
[   40.000011] arm-smmu-v3 arm-smmu-v3.1.auto: \t0x0000000000000000
";

fn main() -> io::Result<()> {
    let log: Box<dyn BufRead> = match std::env::args_os().nth(1) {
        None => Box::new(SAMPLE),
        Some(path) if path == "-" => Box::new(io::stdin().lock()),
        Some(path) => Box::new(BufReader::new(File::open(path)?)),
    };
    let mut scanner = Scanner::default();
    let mut context = DecodeContext::default();
    for (number, line) in log.split(b'\n').enumerate() {
        print(scanner.line(number + 1, &line?), &mut context)?;
    }
    // A record at the end of the log may be incomplete.
    print(scanner.finish(), &mut context)
}

fn print(items: Vec<ScanItem>, context: &mut DecodeContext<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for item in items {
        match item {
            ScanItem::Found(found) => {
                // An STE in the log explains the events behind it.
                context.remember(&found);
                for report in reports(&found, context) {
                    let (name, summary) = (&report.name, &report.summary);
                    writeln!(out, "line {}, {}: {name} {summary}", found.line, found.about)?;
                    if let Some(device) = &report.device {
                        writeln!(out, "  device: {device}")?;
                    }
                    writeln!(out, "  means: {}", report.advice.means)?;
                    for next in &report.advice.next {
                        writeln!(out, "  check: {next}")?;
                    }
                }
            }
            ScanItem::Note { line, source, text, .. } => {
                writeln!(out, "{text} (line {line}, {source})")?;
            }
            ScanItem::Broken(error) => writeln!(out, "error: {error}")?,
            // Repetitions, and lines of other drivers.
            _ => {}
        }
    }
    Ok(())
}
