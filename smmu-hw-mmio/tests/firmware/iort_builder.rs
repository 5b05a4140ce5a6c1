//! Writes IORT tables, right and wrong ones.

/// A node to write: its kind, revision, fields after the header, and mappings.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    kind: u8,
    revision: u8,
    fields: Vec<u8>,
    mappings: Vec<[u32; 5]>,
}

pub(crate) const SINGLE: u32 = 1;

fn node(kind: u8, revision: u8) -> Node {
    Node { kind, revision, fields: Vec::new(), mappings: Vec::new() }
}

impl Node {
    fn words(mut self, words: &[u32]) -> Self {
        self.fields.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.fields.extend(bytes);
        self
    }

    /// A mapping: first input, number of IDs less one, first output, offset of the target, flags.
    pub(crate) fn map(mut self, mapping: [u32; 5]) -> Self {
        self.mappings.push(mapping);
        self
    }

    /// The length of the node in the table.
    pub(crate) fn length(&self) -> u32 {
        (16 + self.fields.len().next_multiple_of(4) + 20 * self.mappings.len()) as u32
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let offset = 16 + self.fields.len().next_multiple_of(4);
        out.push(self.kind);
        out.extend((self.length() as u16).to_le_bytes());
        out.push(self.revision);
        let count = self.mappings.len() as u32;
        for word in [0, count, if count == 0 { 0 } else { offset as u32 }] {
            out.extend(word.to_le_bytes());
        }
        out.extend(&self.fields);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(self.mappings.iter().flatten().flat_map(|word| word.to_le_bytes()));
    }
}

pub(crate) fn its() -> Node {
    node(0, 0).words(&[1, 0])
}

/// An SMMUv3 of this revision, with its interrupts as the table has them: event, PRI, global
/// error, sync.
pub(crate) fn smmu(revision: u8, base: u64, flags: u32, model: u32, gsivs: [u32; 4]) -> Node {
    let node = node(4, revision).words(&[base as u32, (base >> 32) as u32, flags, 0, 0, 0, model]);
    let node = node.words(&gsivs);
    if revision == 0 { node } else { node.words(&[5, 0]) }
}

/// The same, with the index of its DeviceID mapping.
pub(crate) fn smmu_with_index(revision: u8, flags: u32, gsivs: [u32; 4], index: u32) -> Node {
    let mut node = smmu(revision, 0x1000_0000, flags, 0, gsivs);
    let last = node.fields.len() - 4;
    node.fields[last..].copy_from_slice(&index.to_le_bytes());
    node
}

pub(crate) fn smmu_v2() -> Node {
    node(3, 0).words(&[0; 11])
}

pub(crate) fn root_complex(segment: u32, ats: u32) -> Node {
    node(2, 3).words(&[1, 0, ats, segment]).bytes(&[48, 0, 0, 0]).words(&[0])
}

/// Revision 4 has PASIDs.
pub(crate) fn root_complex_with_pasids(segment: u32, bits: u8) -> Node {
    node(2, 4).words(&[1, 0, 1, segment]).bytes(&[48, bits, 0, 0]).words(&[1])
}

pub(crate) fn named(name: &[u8], flags: u32) -> Node {
    node(1, 4).words(&[flags, 1, 0]).bytes(&[40]).bytes(name)
}

/// Reserved memory of these bases and lengths.
pub(crate) fn rmr(flags: u32, ranges: &[(u64, u64)]) -> Node {
    rmr_of(3, flags, ranges)
}

/// The same, of another revision than 3.
pub(crate) fn rmr_of(revision: u8, flags: u32, ranges: &[(u64, u64)]) -> Node {
    let mut node = node(6, revision).words(&[flags, ranges.len() as u32, 28]);
    for (base, length) in ranges {
        node = node.bytes(&base.to_le_bytes()).bytes(&length.to_le_bytes()).words(&[0]);
    }
    node
}

/// The bytes of the table, with a right checksum.
pub(crate) fn table(nodes: &[Node]) -> Vec<u8> {
    let mut bytes = b"IORT\0\0\0\0\x06\0TESTERTESTTEST".to_vec();
    bytes.resize(36, 0);
    for word in [nodes.len() as u32, 48, 0] {
        bytes.extend(word.to_le_bytes());
    }
    nodes.iter().for_each(|node| node.write(&mut bytes));
    let length = bytes.len() as u32;
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[9] = 0_u8.wrapping_sub(sum);
    bytes
}

/// The offset of each node.
pub(crate) fn offsets(nodes: &[Node]) -> Vec<u32> {
    let mut at = 48;
    let place = |node: &Node| {
        let here = at;
        at += node.length();
        here
    };
    nodes.iter().map(place).collect()
}
