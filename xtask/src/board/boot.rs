//! Boots an image in QEMU, shows what it prints, and tells how it ended.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::images::Image;
use super::linux::{self, LinuxSystem};
use crate::error::Error;
use crate::fetch::write;
use crate::output::Output;
use crate::process::{POLL, say};
use crate::qemu_probe::UsableQemu;

const LIMIT: Duration = Duration::from_secs(120);
/// Longest wait for output after the end of QEMU.
const DRAIN: Duration = Duration::from_secs(1);
/// An image that prints for ever is cut off here.
const MOST_LINES: usize = 100_000;

const SECTOR: usize = 512;
const SECTORS: usize = 2048;

/// One SMMUv3 in front of a PCI bus, a GIC, and the console on standard output.
const MACHINE: &str = "-M virt,iommu=smmuv3,gic-version=3 -cpu cortex-a72 -nodefaults \
                       -display none -serial stdio -monitor none -no-reboot";

/// The same with a 32-bit CPU, and everything within its addresses. The console is semihosting.
const MACHINE_OF_32_BITS: &str = "-M virt,highmem=off,iommu=smmuv3,gic-version=3 -cpu cortex-a15 \
                                  -nodefaults -display none -serial none -monitor none \
                                  -no-reboot -m 512M -chardev stdio,id=out \
                                  -semihosting-config enable=on,target=native,chardev=out";

/// How a boot ended.
#[derive(Debug)]
pub(crate) struct BootReport {
    name: &'static str,
    time: Duration,
}

impl fmt::Display for BootReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: passed in {:.1} s", self.name, self.time.as_secs_f64())
    }
}

/// Boots `tour`, with a disk and a test device behind the SMMU.
pub(crate) fn tour(qemu: &UsableQemu, image: &Image, folder: &Path) -> Result<BootReport, Error> {
    let disk = folder.join(format!("disk-{}.img", std::process::id()));
    write(&disk, &disk_content())?;
    let mut command = machine(qemu, "512M");
    // The image tells QEMU its exit status by semihosting.
    command.args(["-semihosting-config", "enable=on,target=native"]);
    command.arg("-drive").arg(drive(&disk));
    command.args([
        "-device",
        "virtio-blk-pci,drive=d,iommu_platform=on,disable-legacy=on,addr=2,romfile=",
    ]);
    command.args(["-device", "iommu-testdev,addr=3"]);
    command.arg("-kernel").arg(&image.path);
    let ended = run(&mut command, "tour");
    let _ = fs::remove_file(&disk);
    let ended = ended?;
    if ended.status.success() {
        return Ok(BootReport { name: "tour", time: ended.time });
    }
    Err(Error::Boot { name: "tour", why: format!("QEMU ended with {}", ended.status) })
}

/// Boots the image for a 32-bit CPU, with a test device behind the SMMU.
pub(crate) fn aarch32(qemu: &UsableQemu, image: &Path) -> Result<BootReport, Error> {
    let name = "aarch32";
    let mut command = Command::new(&qemu.path);
    command.args(MACHINE_OF_32_BITS.split_whitespace());
    command.args(["-device", "iommu-testdev,addr=3", "-kernel"]).arg(image);
    let ended = run(&mut command, name)?;
    let passed = ended.lines.last().is_some_and(|line| line == "PASS");
    if ended.status.success() && passed {
        return Ok(BootReport { name, time: ended.time });
    }
    Err(Error::Boot { name, why: format!("QEMU ended with {}", ended.status) })
}

/// How long `rates` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RatesRun {
    /// As long as a measurement needs.
    Whole,
    /// Only to see that it works.
    Short,
}

/// Boots `rates` with this number of CPUs, and checks that its table has a row for each number that
/// it measures. No figure is judged: those of an emulator depend on what else the host does.
pub(crate) fn rates(
    qemu: &UsableQemu,
    image: &Image,
    cpus: u32,
    run_time: RatesRun,
) -> Result<BootReport, Error> {
    let name = "rates";
    let mut command = machine(qemu, "512M");
    command.args(["-semihosting-config", "enable=on,target=native"]);
    command.args(["-smp", &cpus.to_string()]);
    if run_time == RatesRun::Short {
        command.args(["-append", "milliseconds=5"]);
    }
    command.arg("-kernel").arg(&image.path);
    let ended = run(&mut command, name)?;
    if !ended.status.success() {
        return Err(Error::Boot { name, why: format!("QEMU ended with {}", ended.status) });
    }
    match missing_row(&ended.lines, cpus) {
        None => Ok(BootReport { name, time: ended.time }),
        Some(row) => Err(Error::Boot { name, why: format!("its table has no row for {row} CPUs") }),
    }
}

/// The first power of two, up to `cpus`, without a row of three rates.
fn missing_row(lines: &[String], cpus: u32) -> Option<u32> {
    let has_row = |count: u32| {
        let start = format!("| {count} |");
        let is_row = |line: &&String| line.starts_with(&start) && line.matches(" k (").count() == 3;
        lines.iter().any(|line| is_row(&line))
    };
    (0..=cpus.ilog2()).map(|log2| 1 << log2).find(|&count| !has_row(count))
}

/// Boots Linux with its program and two test devices behind the SMMU, which its driver leaves alone.
pub(crate) fn linux(qemu: &UsableQemu, system: &LinuxSystem) -> Result<BootReport, Error> {
    booted(qemu, system, "Linux", linux::DRIVER_OFF)
}

/// Boots Linux twice, and runs the tests of the image `linux` there: with an SMMU that the kernel
/// leaves alone, and with one that it drives.
pub(crate) fn check_linux(qemu: &UsableQemu, system: &LinuxSystem) -> Result<BootReport, Error> {
    let free = format!("{} -- check free", linux::DRIVER_OFF);
    let free = booted(qemu, system, "Linux, SMMU free", &free)?;
    let driven = booted(qemu, system, "Linux, SMMU driven", "-- check driven")?;
    Ok(BootReport { name: "checks under Linux", time: free.time + driven.time })
}

fn booted(
    qemu: &UsableQemu,
    system: &LinuxSystem,
    name: &'static str,
    options: &str,
) -> Result<BootReport, Error> {
    let mut command = machine(qemu, "1G");
    command.args(["-smp", "2"]);
    command.args(["-device", "iommu-testdev,addr=1", "-device", "iommu-testdev,addr=2"]);
    command.arg("-kernel").arg(&system.kernel).arg("-initrd").arg(&system.initramfs);
    command.args(["-append", &format!("{} {options}", linux::COMMAND_LINE)]);
    let ended = run(&mut command, name)?;
    // Power-off has no exit status, so the last line of `/init` tells that of the program.
    let status = ended.lines.iter().find_map(|line| line.trim().strip_prefix(linux::STATUS_LINE));
    let why = match status.map(str::trim) {
        Some("0") => return Ok(BootReport { name, time: ended.time }),
        Some(status) => {
            let wrong = ended.lines.iter().find(|line| line.starts_with("not ok"));
            match wrong {
                Some(line) => line.clone(),
                None => format!("the program ended with status {status}"),
            }
        }
        None => "`/init` did not reach its end".to_owned(),
    };
    Err(Error::Boot { name, why })
}

fn machine(qemu: &UsableQemu, memory: &str) -> Command {
    let mut command = Command::new(&qemu.path);
    command.args(MACHINE.split_whitespace()).args(["-m", memory]);
    command
}

/// A comma in a path would end the option, so it is doubled.
fn drive(disk: &Path) -> String {
    let path = disk.to_string_lossy().replace(',', ",,");
    format!("if=none,id=d,format=raw,file={path}")
}

/// A disk of 1 MiB. Each sector begins with its number.
fn disk_content() -> String {
    (0..SECTORS).map(|sector| format!("{:<SECTOR$}", format!("sector {sector}"))).collect()
}

struct Ended {
    status: ExitStatus,
    lines: Vec<String>,
    time: Duration,
}

/// Runs QEMU within the time limit. What it prints goes to stderr at once.
fn run(command: &mut Command, name: &'static str) -> Result<Ended, Error> {
    run_within(command, name, LIMIT)
}

fn run_within(command: &mut Command, name: &'static str, limit: Duration) -> Result<Ended, Error> {
    say(format_args!("booting {name}"));
    let start = Instant::now();
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |source| Error::Start { program: program.clone(), source };
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let (sender, receiver) = mpsc::channel();
    if let Some(pipe) = child.stdout.take() {
        let output = Output::current();
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            let mut count = 0;
            // A serial console may print what is not UTF-8.
            while count < MOST_LINES && pipe.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                output.write(format!("  {text}\n").as_bytes());
                if sender.send(text).is_err() {
                    break;
                }
                line.clear();
                count += 1;
            }
        });
    }
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if start.elapsed() < limit => thread::sleep(POLL),
            Ok(None) => break None,
            Err(source) => return Err(failed(source)),
        }
    };
    let Some(status) = status else {
        let _ = child.kill();
        let _ = child.wait();
        let why = format!("no end within {} s", limit.as_secs());
        return Err(Error::Boot { name, why });
    };
    let time = start.elapsed();
    let mut lines = Vec::new();
    while let Ok(line) = receiver.recv_timeout(DRAIN) {
        lines.push(line);
    }
    Ok(Ended { status, lines, time })
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<Ended, Error> {
        run_within(Command::new("sh").args(["-c", script]), "script", limit)
    }

    #[test]
    fn lines_and_status_are_those_of_the_program() {
        let script = "printf 'one\\r\\n\\377two\\nthree'; exit 3";
        let ended = shell(script, Duration::from_secs(20)).unwrap();
        assert_eq!(ended.lines, ["one", "\u{fffd}two", "three"]);
        assert_eq!(ended.status.code(), Some(3));
    }

    #[test]
    fn a_boot_that_hangs_is_stopped() {
        let ended = shell("exec sleep 60", Duration::from_millis(50));
        let why = ended.err().map(|error| error.to_string());
        assert!(why.as_ref().is_some_and(|why| why.contains("no end within")), "{why:?}");
    }

    #[test]
    fn a_table_without_a_row_is_noticed() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let whole = lines(
            "| 1 | 9 k (8 k) | 7 k (6 k) | 5 k (4 k) |\n| 2 | 1 k (1 k) | 2 k (2 k) | 3 k (0 k) |",
        );
        assert_eq!(missing_row(&whole, 1), None);
        assert_eq!(missing_row(&whole, 3), None);
        assert_eq!(missing_row(&whole, 4), Some(4));
        assert_eq!(missing_row(&[], 2), Some(1));
        assert_eq!(missing_row(&lines("| 1 | 9 k (8 k) |"), 1), Some(1));
    }

    #[test]
    fn each_sector_of_the_disk_has_its_number() {
        let disk = disk_content();
        assert_eq!(disk.len(), SECTORS * SECTOR);
        assert!(disk[7 * SECTOR..].starts_with("sector 7 "));
    }

    #[test]
    fn a_comma_in_the_path_of_the_disk_is_kept() {
        assert!(drive(Path::new("/a,b/disk.img")).ends_with("file=/a,,b/disk.img"));
    }
}
