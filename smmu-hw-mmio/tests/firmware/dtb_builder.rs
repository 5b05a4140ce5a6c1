//! Writes flattened device trees, right and wrong ones.

/// A node to write.
#[derive(Clone, Debug, Default)]
pub(crate) struct DtNode {
    pub(crate) name: String,
    properties: Vec<(String, Vec<u8>)>,
    pub(crate) children: Vec<DtNode>,
}

pub(crate) fn node(name: &str) -> DtNode {
    DtNode { name: name.to_owned(), ..DtNode::default() }
}

impl DtNode {
    pub(crate) fn raw(mut self, name: &str, value: &[u8]) -> Self {
        self.properties.push((name.to_owned(), value.to_vec()));
        self
    }

    pub(crate) fn cells(self, name: &str, cells: &[u32]) -> Self {
        let value: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.raw(name, &value)
    }

    pub(crate) fn strings(self, name: &str, strings: &[&str]) -> Self {
        let value: Vec<u8> = strings.iter().flat_map(|s| s.bytes().chain([0])).collect();
        self.raw(name, &value)
    }

    pub(crate) fn flag(self, name: &str) -> Self {
        self.raw(name, &[])
    }

    pub(crate) fn child(mut self, child: DtNode) -> Self {
        self.children.push(child);
        self
    }

    fn write(&self, out: &mut Vec<u8>, names: &mut Vec<u8>) {
        word(out, 1);
        out.extend(self.name.bytes().chain([0]));
        pad(out);
        for (name, value) in &self.properties {
            word(out, 3);
            word(out, value.len() as u32);
            word(out, names.len() as u32);
            names.extend(name.bytes().chain([0]));
            out.extend(value);
            pad(out);
        }
        self.children.iter().for_each(|child| child.write(out, names));
        word(out, 2);
    }

    /// The blob of a tree with this root, version 17.
    pub(crate) fn blob(&self) -> Vec<u8> {
        let (mut structure, mut names) = (Vec::new(), Vec::new());
        self.write(&mut structure, &mut names);
        word(&mut structure, 9);
        wrap(&structure, &names)
    }
}

/// A blob of these two blocks.
pub(crate) fn wrap(structure: &[u8], names: &[u8]) -> Vec<u8> {
    let (start, strings) = (56, 56 + structure.len());
    let total = strings + names.len();
    let header = [0xd00d_feed, total, start, strings, 40, 17, 16, 0, names.len(), structure.len()];
    let mut blob = Vec::new();
    header.iter().for_each(|field| word(&mut blob, *field as u32));
    blob.resize(start, 0);
    blob.extend(structure);
    blob.extend(names);
    blob
}

pub(crate) fn word(out: &mut Vec<u8>, word: u32) {
    out.extend(word.to_be_bytes());
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The phandles of the trees below.
pub(crate) const GIC: u32 = 1;
pub(crate) const ITS: u32 = 2;
pub(crate) const SMMU: u32 = 3;
pub(crate) const DEVICE: u32 = 4;

pub(crate) fn smmu(name: &str, phandle: u32, base: u32) -> DtNode {
    node(name)
        .strings("compatible", &["arm,smmu-v3"])
        .cells("reg", &[0, base, 0, 0x2_0000])
        .cells("#iommu-cells", &[1])
        .cells("phandle", &[phandle])
}

/// A root with 2 cells for addresses and sizes, a GIC, and one SMMU.
pub(crate) fn root(smmu: DtNode) -> DtNode {
    node("")
        .cells("#address-cells", &[2])
        .cells("#size-cells", &[2])
        .cells("interrupt-parent", &[GIC])
        .child(node("gic").cells("phandle", &[GIC]).cells("#interrupt-cells", &[3]))
        .child(smmu)
}
