//! The first root file system of Linux: a gzipped newc archive.

use std::io::{self, Write};

use cpio::NewcBuilder;
use cpio::newc::{ModeFileType, trailer};
use flate2::Compression;
use flate2::write::GzEncoder;

/// The number of the console as a device.
const CONSOLE: (u32, u32) = (5, 1);

/// An archive with these programs, each an executable file.
///
/// `/dev/console` is in it, because the kernel opens that for the first program, and the folders on
/// which `/init` mounts.
pub(crate) fn archive(programs: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    // The content is the same at each run, so the archive is too: no time is stored.
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    let mut inode = 0;
    let mut entry = |name: &str| {
        inode += 1;
        NewcBuilder::new(name).ino(inode).nlink(1)
    };
    for folder in ["bin", "dev", "proc", "sys", "tmp"] {
        let folder = entry(folder).mode(0o755).set_mode_file_type(ModeFileType::Directory);
        folder.write(&mut out, 0).finish()?;
    }
    let (major, minor) = CONSOLE;
    let console = entry("dev/console").mode(0o600).set_mode_file_type(ModeFileType::Char);
    console.rdev_major(major).rdev_minor(minor).write(&mut out, 0).finish()?;
    for (name, content) in programs {
        let program = entry(name).mode(0o755).set_mode_file_type(ModeFileType::Regular);
        let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "a file of 4 GiB or more");
        let mut file = program.write(&mut out, content.len().try_into().map_err(too_long)?);
        file.write_all(content)?;
        file.finish()?;
    }
    trailer(&mut out)?;
    out.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// The format as `cpio(5)` has it: thirteen fields of eight hexadecimal digits after the magic.
    struct Entry {
        name: String,
        mode: u32,
        device: (u32, u32),
        content: Vec<u8>,
    }

    fn entries(archive: &[u8]) -> Vec<Entry> {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(archive).read_to_end(&mut bytes).unwrap();
        let mut entries = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |number: usize| {
                let digits = &bytes[at + 6 + 8 * number..][..8];
                u32::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
            };
            let (name_size, size) = (field(11) as usize, field(6) as usize);
            let name = &bytes[at + 110..][..name_size];
            let name = std::ffi::CStr::from_bytes_with_nul(name).unwrap().to_str().unwrap();
            let start = (at + 110 + name_size).next_multiple_of(4);
            let content = bytes[start..start + size].to_vec();
            let (mode, device) = (field(1), (field(9), field(10)));
            entries.push(Entry { name: name.to_owned(), mode, device, content });
            at = (start + size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert!(bytes[at.min(bytes.len())..].iter().all(|byte| *byte == 0));
                break;
            }
        }
        entries
    }

    #[test]
    fn the_kernel_finds_a_console_folders_and_programs() {
        let archive =
            archive(&[("init", b"#!/bin/busybox sh\n"), ("bin/busybox", &[7; 1001])]).unwrap();
        let entries = entries(&archive);
        let find = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap();
        assert_eq!(find("init").content, b"#!/bin/busybox sh\n");
        assert_eq!(find("init").mode, 0o100_755);
        assert_eq!(find("bin/busybox").content, [7; 1001]);
        assert_eq!(find("proc").mode, 0o040_755);
        assert_eq!((find("dev/console").mode, find("dev/console").device), (0o020_600, (5, 1)));
        // A folder comes before what lies in it.
        let order: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        let place = |name| order.iter().position(|other| *other == name);
        assert!(place("bin") < place("bin/busybox") && place("dev") < place("dev/console"));
        assert_eq!(order.last(), Some(&"TRAILER!!!"));
    }

    #[test]
    fn the_same_files_make_the_same_archive() {
        let make = || archive(&[("init", b"a")]).unwrap();
        assert_eq!(make(), make());
    }
}
