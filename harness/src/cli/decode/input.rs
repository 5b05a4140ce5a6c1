//! The input of `decode`: text, gzip, or a ring as it is in memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use smmu_decode::StructureKind;

use crate::cli::exit::Exit;

/// How the input is to be read.
pub(super) enum Input<R> {
    /// Lines of text.
    Text(Box<dyn BufRead + 'static>),
    /// Structures of this kind in the order of memory, little-endian.
    Ring(StructureKind, R),
}

/// Compressed formats by their first bytes, and what to do about them.
const COMPRESSED: &[(&[u8], &str, &str)] = &[
    (b"\xfd7zXZ\0", "xz", "xz -dc FILE | smmu-harness decode"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc FILE | smmu-harness decode"),
    (b"BZh", "bzip2", "bzip2 -dc FILE | smmu-harness decode"),
    (b"PK\x03\x04", "zip", "unzip -p FILE | smmu-harness decode"),
];
const GZIP: &[u8] = b"\x1f\x8b";

/// Opens a file.
pub(super) fn open(path: &Path) -> Result<BufReader<File>, Exit> {
    let wrong = |error: io::Error| Exit::Usage(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(wrong)?;
    if file.metadata().map_err(wrong)?.is_dir() {
        return Err(Exit::Usage(format!("{}: is a directory; give a file", path.display())));
    }
    Ok(BufReader::with_capacity(1 << 16, file))
}

/// Looks at the first bytes of an input.
pub(super) fn look<R: BufRead + 'static>(
    mut input: R,
    kind: Option<StructureKind>,
) -> Result<Input<Box<dyn BufRead>>, Exit> {
    let first = input.fill_buf().map_err(unreadable)?;
    if first.starts_with(GZIP) {
        let unpacked = BufReader::with_capacity(1 << 16, MultiGzDecoder::new(input));
        return look_inside(unpacked, kind);
    }
    look_inside(input, kind)
}

fn look_inside<R: BufRead + 'static>(
    mut input: R,
    kind: Option<StructureKind>,
) -> Result<Input<Box<dyn BufRead>>, Exit> {
    let first = input.fill_buf().map_err(unreadable)?;
    if let Some((_, name, how)) = COMPRESSED.iter().find(|(magic, ..)| first.starts_with(magic)) {
        return Err(Exit::Usage(format!("the input is compressed with {name}; unpack it: {how}")));
    }
    let binary = is_binary(first);
    match kind {
        Some(kind) if binary && kind.words().is_some() => Ok(Input::Ring(kind, Box::new(input))),
        None if binary && !first.contains(&b'\n') => Err(Exit::Usage(
            "the input is binary; say what it holds, such as `decode cmd -i ring.bin`, `decode event` or `decode ste`"
                .into(),
        )),
        _ => Ok(Input::Text(Box::new(input))),
    }
}

/// Whether bytes are no text: three in ten are control characters or no ASCII.
fn is_binary(first: &[u8]) -> bool {
    let odd = first.iter().filter(|byte| {
        !byte.is_ascii() || byte.is_ascii_control() && !b"\t\n\r\x1b".contains(byte)
    });
    10 * odd.count() > 3 * first.len()
}

pub(super) fn unreadable(error: io::Error) -> Exit {
    Exit::Usage(format!("cannot read the input: {error}"))
}

/// One structure of a ring.
pub(super) struct RingSlot {
    /// Its number, from 0.
    pub(super) index: u64,
    /// Its words.
    pub(super) words: Vec<u64>,
    /// Its bytes, fewer than a structure has at the end of a cut-off input.
    pub(super) bytes: usize,
}

/// Reads structures of `words` words, one after the other.
pub(super) fn ring_slots(
    mut input: impl Read,
    words: usize,
) -> impl Iterator<Item = io::Result<RingSlot>> {
    let mut index = 0;
    std::iter::from_fn(move || {
        let mut bytes = vec![0; words * 8];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match input.read(rest) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Some(Err(error)),
            }
        }
        if filled == 0 {
            return None;
        }
        let (whole, _) = bytes.as_chunks::<8>();
        let words = whole.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let slot = RingSlot { index, words, bytes: filled };
        index += 1;
        Some(Ok(slot))
    })
}
