//! From files and folders to tables.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// No table is longer; a longer file is not read.
const LONGEST_FILE: u64 = 16 << 20;
const FDT_MAGIC: [u8; 4] = [0xd0, 0x0d, 0xfe, 0xed];
/// Bytes of the header of every ACPI table but FACS.
const ACPI_HEADER: usize = 36;

/// The bytes of one table, and where they were.
#[derive(Debug)]
pub(in crate::cli) struct FoundTable {
    /// The file, and the byte of it if the table is not at its start.
    pub(in crate::cli) name: String,
    pub(in crate::cli) bytes: Vec<u8>,
    pub(in crate::cli) kind: TableKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum TableKind {
    DeviceTree,
    Iort,
}

/// What a file or a folder holds.
#[derive(Debug, Default)]
pub(in crate::cli) struct Found {
    pub(in crate::cli) tables: Vec<FoundTable>,
    /// Why a file was not read, or holds no table.
    pub(in crate::cli) unread: Vec<String>,
}

/// The tables of a file, or of the files in a folder.
pub(in crate::cli) fn find(path: &Path) -> Found {
    let mut found = Found::default();
    let told = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let folder = match fs::metadata(path) {
        Ok(kind) => kind.is_dir(),
        Err(error) => {
            found.unread.push(told(path, error));
            return found;
        }
    };
    if !folder {
        match read(path).map(|bytes| tables_of(path, &bytes)) {
            Ok((tables, others)) => {
                if tables.is_empty() {
                    found.unread.push(nothing(path, &others));
                }
                found.tables = tables;
            }
            Err(error) => found.unread.push(told(path, error)),
        }
        return found;
    }
    let files = match files_of(path) {
        Ok(files) => files,
        Err(error) => {
            found.unread.push(told(path, error));
            return found;
        }
    };
    for file in &files {
        match read(file) {
            Ok(bytes) => found.tables.extend(tables_of(file, &bytes).0),
            Err(error) => found.unread.push(told(file, error)),
        }
    }
    if found.tables.is_empty() {
        let count = files.len();
        let files = if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
        found.unread.push(format!("{}: no IORT and no device tree in {files}", path.display()));
    }
    found
}

/// Why a file has nothing to lint.
fn nothing(path: &Path, others: &[String]) -> String {
    let path = path.display();
    match others {
        [] => format!(
            "{path}: neither a flattened device tree (.dtb) nor an ACPI table; of source text, give \
             what its compiler makes of it"
        ),
        others => format!("{path}: no IORT among {}", others.join(", ")),
    }
}

/// The files of a folder, sorted.
fn files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    let mut files: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST_FILE {
        let text = format!("longer than {LONGEST_FILE} bytes; no firmware table is");
        return Err(io::Error::other(text));
    }
    Ok(bytes)
}

/// The tables to look at, and the signatures of others. A file may hold several ACPI tables one
/// after the other, as QEMU hands them to firmware.
fn tables_of(path: &Path, bytes: &[u8]) -> (Vec<FoundTable>, Vec<String>) {
    let name = path.display().to_string();
    if bytes.starts_with(&FDT_MAGIC) {
        let kind = TableKind::DeviceTree;
        return (vec![FoundTable { name, bytes: bytes.to_vec(), kind }], Vec::new());
    }
    let (mut found, mut others, mut at) = (Vec::new(), Vec::new(), 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        // Padding between tables.
        if at > 0 && rest.starts_with(&[0]) {
            at += 1;
            continue;
        }
        let Some((signature, length)) = acpi_header(rest) else { break };
        if signature == "IORT" {
            let name = if at == 0 { name.clone() } else { format!("{name} at byte {at:#x}") };
            // Cut at the end of the file; the reader says so.
            let bytes = rest.get(..length).unwrap_or(rest).to_vec();
            found.push(FoundTable { name, bytes, kind: TableKind::Iort });
        } else {
            others.push(signature);
        }
        at = at.saturating_add(length.max(ACPI_HEADER));
    }
    (found, others)
}

fn acpi_header(bytes: &[u8]) -> Option<(String, usize)> {
    let signature: &[u8; 4] = bytes.first_chunk()?;
    let letters = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
    if !signature.iter().all(letters) {
        return None;
    }
    let length: &[u8; 4] = bytes.get(4..)?.first_chunk()?;
    let signature = String::from_utf8_lossy(signature).into_owned();
    Some((signature, u32::from_le_bytes(*length) as usize))
}
