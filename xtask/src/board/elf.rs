//! What of an ELF file is loaded, and the same as raw bytes: the `Image` that boot loaders take.

use object::LittleEndian;
use object::elf::{EM_AARCH64, FileHeader64, PT_LOAD, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};

/// An image spans less; more is a broken file.
const LARGEST: u64 = 64 << 20;

/// The loaded part of an ELF file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// Sum of the file sizes of all loaded segments.
    pub(crate) bytes: u64,
    /// Memory from the first to the last of those bytes.
    pub(crate) raw: Vec<u8>,
}

/// Reads an ELF file for AArch64; the error says what is wrong with it.
pub(crate) fn read(file: &[u8]) -> Result<Loaded, String> {
    let header =
        FileHeader64::<LittleEndian>::parse(file).map_err(|error| format!("no ELF: {error}"))?;
    let machine = header.e_machine(LittleEndian);
    if machine != EM_AARCH64 {
        return Err(format!("it is for machine {machine:?}, not for AArch64"));
    }
    let all = header
        .program_headers(LittleEndian, file)
        .map_err(|error| format!("its program headers are broken: {error}"))?;
    let segments = all.iter().filter(|segment| {
        segment.p_type(LittleEndian) == PT_LOAD && segment.p_filesz(LittleEndian) > 0
    });
    let mut segments: Vec<_> = segments.collect();
    segments.sort_by_key(|segment| segment.p_paddr(LittleEndian));
    let Some(first) = segments.first() else {
        return Err("it loads nothing".to_owned());
    };
    let base = first.p_paddr(LittleEndian);
    let mut loaded = Loaded { bytes: 0, raw: Vec::new() };
    for segment in segments {
        append(&mut loaded, segment, base, file)?;
    }
    Ok(loaded)
}

/// Appends a segment that lies above all earlier ones.
fn append(
    loaded: &mut Loaded,
    segment: &ProgramHeader64<LittleEndian>,
    base: u64,
    file: &[u8],
) -> Result<(), String> {
    let at = segment.p_paddr(LittleEndian);
    let bytes = segment
        .data(LittleEndian, file)
        .map_err(|()| format!("the segment at {at:#x} lies outside of the file"))?;
    let offset = at - base;
    let end = offset.saturating_add(bytes.len() as u64);
    if end > LARGEST {
        return Err(format!("the segment at {at:#x} ends {end:#x} bytes above the first"));
    }
    let offset = usize::try_from(offset).map_err(|error| error.to_string())?;
    if offset < loaded.raw.len() {
        return Err(format!("the segment at {at:#x} overlaps the one below it"));
    }
    loaded.raw.resize(offset, 0);
    loaded.raw.extend_from_slice(bytes);
    loaded.bytes += bytes.len() as u64;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with these program headers: type, file offset, physical address, file size.
    fn elf(machine: u16, segments: &[(u32, u64, u64, u64)], contents: &[u8]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        let count = u16::try_from(segments.len()).unwrap();
        for half in [2, machine] {
            file.extend(half.to_le_bytes());
        }
        file.extend(1u32.to_le_bytes());
        // Entry, program headers, section headers.
        for word in [0u64, 64, 0] {
            file.extend(word.to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        for half in [64u16, 56, count, 64, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        for &(kind, offset, physical, size) in segments {
            for half in [kind, 5] {
                file.extend(half.to_le_bytes());
            }
            // The virtual address differs: only the physical one counts.
            for word in [offset, !physical, physical, size, size + 8, 8] {
                file.extend(word.to_le_bytes());
            }
        }
        file.resize(512, 0xee);
        file.extend(contents);
        file
    }

    const AARCH64: u16 = 183;
    const LOAD: u32 = 1;

    #[test]
    fn segments_are_laid_out_by_their_physical_address() {
        let note = (4, 512, 0x5000, 4);
        let segments = [(LOAD, 516, 0x4008_0008, 3), (LOAD, 512, 0x4008_0000, 4), note];
        let loaded = read(&elf(AARCH64, &segments, b"abcdefg")).unwrap();
        assert_eq!(loaded.raw, b"abcd\0\0\0\0efg");
        assert_eq!(loaded.bytes, 7);
    }

    #[test]
    fn broken_files_are_refused_with_the_reason() {
        let refused = |file: &[u8], why: &str| {
            let error = read(file).unwrap_err();
            assert!(error.contains(why), "{error}");
        };
        refused(b"", "no ELF");
        refused(b"#!/bin/sh\n", "no ELF");
        refused(&elf(62, &[], b""), "not for AArch64");
        refused(&elf(AARCH64, &[], b""), "loads nothing");
        refused(&elf(AARCH64, &[(LOAD, 512, 0, 0)], b""), "loads nothing");
        refused(&elf(AARCH64, &[(LOAD, 512, 0, 9)], b"abc"), "outside of the file");
        refused(&elf(AARCH64, &[(LOAD, u64::MAX, 0, 9)], b"abc"), "outside of the file");
        let overlap = [(LOAD, 512, 0x1000, 3), (LOAD, 512, 0x1002, 3)];
        refused(&elf(AARCH64, &overlap, b"abc"), "overlaps");
        for far in [LARGEST, u64::MAX] {
            let far = [(LOAD, 512, 0, 3), (LOAD, 512, far, 3)];
            refused(&elf(AARCH64, &far, b"abc"), "above the first");
        }
        let whole = elf(AARCH64, &[(LOAD, 512, 0, 3)], b"abc");
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "{end} bytes");
        }
    }
}
