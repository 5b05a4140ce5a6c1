//! How fast the decoder reads a log: other text, and records.
//!
//!     cargo run --release -p smmu-decode --example rate
//!
//! Each figure is the best of five rounds on one thread, so that other programs of the machine count
//! least. The log is in memory, and nothing is printed.

use std::fmt::Write;
use std::time::{Duration, Instant};

use smmu_decode::{DecodeContext, ScanItem, Scanner, reports};

const ROUNDS: u32 = 5;
/// Bytes of other text.
const TEXT: usize = 16 << 20;
const RECORDS: usize = 100_000;

/// Lines as other drivers write them, with numbers that could be words of an SMMU.
const OTHERS: [&str; 8] = [
    "nvme nvme0: I/O tag 8 (1008) QID 1 timeout, aborting req_op:READ(0) size:4096",
    "e1000e 0000:00:19.0 eth0: NIC Link is Up 1000 Mbps Full Duplex, Flow Control: Rx/Tx",
    "usb 1-1.2: new high-speed USB device number 5 using xhci_hcd",
    "pci 0000:01:00.0: BAR 0 [mem 0x10000000-0x1000ffff 64bit pref]: assigned",
    "EXT4-fs (sda2): mounted filesystem with ordered data mode. Quota mode: none.",
    "audit: type=1400 audit(1700000000.123:45): apparmor=\"STATUS\" operation=\"profile_load\"",
    "systemd[1]: Started Network Time Synchronization.",
    "CPU3: Booted secondary processor 0x0000000300 [0x413fd0c1]",
];

fn main() {
    let mut text = String::new();
    for n in 0.. {
        if text.len() >= TEXT {
            break;
        }
        let _ = writeln!(text, "[{:5}.{:06}] {}", n / 1000, n % 1000, OTHERS[n % OTHERS.len()]);
    }
    let (time, found) = best(&text, false);
    let rate = text.len() as f64 / time.as_secs_f64() / 1e6;
    println!("other text: {rate:.0} MB/s, {found} records found");

    let mut log = String::new();
    for n in 0..RECORDS {
        let _ =
            writeln!(log, "[   40.000001] arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:");
        for word in [0x8_0000_0010, 0x200_0000_0000, (n as u64) << 12, 0] {
            let _ = writeln!(log, "[   40.000003] arm-smmu-v3 arm-smmu-v3.0.auto: \t{word:#018x}");
        }
    }
    for (what, reported) in [("scanned", false), ("scanned and reported in words", true)] {
        let (time, found) = best(&log, reported);
        let rate = found as f64 / time.as_secs_f64() / 1e3;
        let bytes = log.len() as f64 / time.as_secs_f64() / 1e6;
        println!("records, {what}: {rate:.0} thousand/s ({bytes:.0} MB/s), {found} found");
    }
}

/// The best time of a scan, and the records that it found. With `reported`, each record is also split
/// into its fields, with its advice.
fn best(log: &str, reported: bool) -> (Duration, usize) {
    let mut best = (Duration::MAX, 0);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let (mut scanner, mut found) = (Scanner::default(), 0);
        let context = DecodeContext::default();
        let mut take = |items: Vec<ScanItem>| {
            for item in items {
                if let ScanItem::Found(words) = item {
                    found += match reported {
                        true => reports(&words, &context).len(),
                        false => 1,
                    };
                }
            }
        };
        for (number, line) in log.lines().enumerate() {
            take(scanner.line(number + 1, line.as_bytes()));
        }
        take(scanner.finish());
        best = best.min((start.elapsed(), found));
    }
    best
}
