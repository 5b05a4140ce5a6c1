//! A flattened device tree as bytes: header, tokens, nodes, properties.
//!
//! A walker of our own: the crates that parse device trees refuse any tree that has a property with
//! a name of more than 31 characters (dtoolkit; one binding of SMMUv3 has 35), panic on a damaged
//! tree (fdt), or have a licence that this workspace does not use.

use core::fmt;

use super::error::{FdtError, FdtProblem};
use super::limits::{MAX_BYTES, MAX_DEPTH, MAX_NAME};

const MAGIC: u32 = 0xd00d_feed;
/// Version 16 has no size of the structure block; version 17 has.
const HEADER_16: usize = 36;
const HEADER_17: usize = 40;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// A tree whose tokens were all read once. Offsets count from the start of the blob.
#[derive(Clone, Copy)]
pub(super) struct Blob<'a> {
    /// Up to the end of the structure block.
    bytes: &'a [u8],
    strings: &'a [u8],
    /// The whole blob.
    pub(super) all: &'a [u8],
    /// The start of the structure block.
    start: usize,
}

enum Token<'a> {
    Begin(&'a str),
    End,
    Property(Property<'a>),
    Nop,
    Last,
}

/// A property: its value, and where its token is.
#[derive(Clone, Copy)]
pub(super) struct Property<'a> {
    name: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) at: u32,
}

impl<'a> Property<'a> {
    /// The 32-bit cell with this number.
    pub(super) fn cell(self, n: usize) -> Option<u32> {
        self.value.as_chunks().0.get(n).map(|cell| u32::from_be_bytes(*cell))
    }

    /// The number of whole cells.
    pub(super) fn count(self) -> usize {
        self.value.len() / 4
    }

    /// One or two cells from `n` on, as a number; none are 0.
    pub(super) fn number(self, n: usize, cells: usize) -> Option<u64> {
        let mut all = (n..n.checked_add(cells)?).map(|n| self.cell(n));
        all.try_fold(0_u64, |number, cell| Some(number << 32 | u64::from(cell?)))
    }

    /// Where the cell with this number is.
    pub(super) fn cell_at(self, n: usize) -> u32 {
        // Token, length, name, then the value.
        self.at + 12 + offset(n * 4)
    }

    /// The strings of a list of strings.
    pub(super) fn strings(self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let value = self.value.strip_suffix(b"\0").unwrap_or(self.value);
        value.split(|byte| *byte == 0).filter(|_| !self.value.is_empty())
    }
}

/// An offset as a `u32`. All are below `MAX_BYTES`.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn err<T>(at: usize, problem: FdtProblem) -> Result<T, FdtError> {
    Err(FdtError { at: offset(at), problem })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

/// The name at the start of `bytes`, without its NUL.
fn name(bytes: &[u8]) -> Option<&str> {
    let most = bytes.get(..=MAX_NAME).unwrap_or(bytes);
    let name = most.get(..most.iter().position(|byte| *byte == 0)?)?;
    let printable = name.iter().all(|byte| byte.is_ascii_graphic());
    printable.then(|| core::str::from_utf8(name).ok()).flatten()
}

impl<'a> Blob<'a> {
    /// Reads the header, and every token once. After that, no read fails.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, FdtError> {
        let header = |at| match word(bytes, at) {
            Some(word) if bytes.len() >= HEADER_16 => Ok(word),
            _ => err(0, FdtProblem::NoHeader { have: bytes.len(), need: HEADER_16 }),
        };
        let magic = header(0)?;
        if magic != MAGIC {
            return err(0, FdtProblem::Magic { got: magic });
        }
        let (total, version, last_compatible) = (header(4)?, header(20)?, header(24)?);
        if version < 16 || last_compatible > 17 {
            return err(20, FdtProblem::Version { version, last_compatible });
        }
        let length = total as usize;
        if length > MAX_BYTES {
            return err(4, FdtProblem::TooLong { total });
        }
        let Some(bytes) = bytes.get(..length) else {
            return err(4, FdtProblem::Truncated { total, have: bytes.len() });
        };
        let least = if version == 16 { HEADER_16 } else { HEADER_17 };
        if length < least {
            return err(4, FdtProblem::NoHeader { have: length, need: least });
        }
        let (start, strings, size) = (header(8)? as usize, header(12)? as usize, header(32)?);
        let Some(strings) = bytes.get(strings..).and_then(|rest| rest.get(..size as usize)) else {
            return err(12, FdtProblem::Block { block: "strings" });
        };
        let end = match version {
            16 => Some(length),
            _ => start.checked_add(header(36)? as usize),
        };
        let structure = end.and_then(|end| bytes.get(..end)).filter(|all| start <= all.len());
        let Some(structure) = structure.filter(|_| start.is_multiple_of(4)) else {
            return err(8, FdtProblem::Block { block: "structure" });
        };
        let blob = Self { bytes: structure, strings, all: bytes, start };
        blob.check()?;
        Ok(blob)
    }

    fn check(&self) -> Result<(), FdtError> {
        let (mut at, mut depth) = (self.start, 0_usize);
        // A property behind a child would belong to its parent again: not allowed.
        let mut properties = false;
        loop {
            let (token, next) = self.token(at)?;
            let misplaced = match token {
                Token::Begin(name) => {
                    // The root has no name, and is alone. A `/` separates the names of a path.
                    let root = depth == 0;
                    if root != name.is_empty() || root && at != self.first() || name.contains('/') {
                        return err(at, FdtProblem::Name);
                    }
                    depth += 1;
                    properties = true;
                    if depth > MAX_DEPTH {
                        return err(at, FdtProblem::TooDeep);
                    }
                    false
                }
                Token::End => {
                    properties = false;
                    depth = match depth.checked_sub(1) {
                        Some(depth) => depth,
                        None => return err(at, FdtProblem::Token { got: END_NODE }),
                    };
                    false
                }
                Token::Property(_) => !properties,
                Token::Nop => false,
                Token::Last if depth > 0 => return err(at, FdtProblem::Unfinished),
                Token::Last if at == self.first() => true,
                Token::Last => return Ok(()),
            };
            if misplaced {
                let got = word(self.bytes, at).unwrap_or_default();
                return err(at, FdtProblem::Token { got });
            }
            at = next;
        }
    }

    /// The first token that is not a `NOP`.
    fn first(&self) -> usize {
        let mut at = self.start;
        while word(self.bytes, at) == Some(NOP) {
            at += 4;
        }
        at
    }

    /// The token at `at`, and where the next one is.
    fn token(&self, at: usize) -> Result<(Token<'a>, usize), FdtError> {
        let Some(token) = word(self.bytes, at) else { return err(at, FdtProblem::Unfinished) };
        let value = at + 4;
        match token {
            BEGIN_NODE => {
                let Some(name) = self.bytes.get(value..).and_then(name) else {
                    return err(at, FdtProblem::Name);
                };
                Ok((Token::Begin(name), (value + name.len() + 1).next_multiple_of(4)))
            }
            END_NODE => Ok((Token::End, value)),
            NOP => Ok((Token::Nop, value)),
            END => Ok((Token::Last, value)),
            PROP => {
                let both = word(self.bytes, value).zip(word(self.bytes, at + 8));
                let Some((bytes, name_at)) = both else { return err(at, FdtProblem::Unfinished) };
                let value = self.bytes.get(at + 12..).and_then(|rest| rest.get(..bytes as usize));
                let Some(value) = value else {
                    return err(at, FdtProblem::PropertyPastEnd { bytes });
                };
                let name = self.strings.get(name_at as usize..).and_then(name);
                let Some(name) = name.filter(|name| !name.is_empty()) else {
                    return err(at, FdtProblem::Name);
                };
                let property = Property { name: name.as_bytes(), value, at: offset(at) };
                Ok((Token::Property(property), (at + 12 + value.len()).next_multiple_of(4)))
            }
            got => err(at, FdtProblem::Token { got }),
        }
    }

    /// The memory reservations: address and length of each.
    pub(super) fn reservations(
        self,
    ) -> Result<impl Iterator<Item = (u64, u64)> + use<'a>, FdtError> {
        let number = |bytes: &[u8; 8]| u64::from_be_bytes(*bytes);
        let list = word(self.all, 16).and_then(|at| self.all.get(at as usize..));
        let entries = list.unwrap_or_default().as_chunks::<8>().0.as_chunks::<2>().0;
        let entries = entries.iter().map(move |[at, length]| (number(at), number(length)));
        // An entry of zeros ends the list.
        let Some(count) = entries.clone().position(|entry| entry == (0, 0)) else {
            return err(16, FdtProblem::Block { block: "memory reservation" });
        };
        Ok(entries.take(count))
    }

    /// The root.
    pub(super) fn root(self) -> Node<'a> {
        Node { blob: self, at: offset(self.first()) }
    }

    /// All nodes: each before its children.
    pub(super) fn nodes(self) -> Nodes<'a> {
        let lineage = Lineage { blob: self, at: [0; MAX_DEPTH], depth: 0 };
        Nodes { next: self.start, lineage, only: None }
    }

    /// The nodes from the root to the one that holds this byte. One pass over the tree.
    pub(super) fn lineage(self, at: u32) -> Lineage<'a> {
        let mut lineage = Lineage { blob: self, at: [0; MAX_DEPTH], depth: 0 };
        let mut here = self.start;
        while let Ok((token, next)) = self.token(here) {
            if here > at as usize {
                break;
            }
            match token {
                Token::Begin(_) => lineage.push(offset(here)),
                Token::End if next <= at as usize => {
                    lineage.depth = lineage.depth.saturating_sub(1);
                }
                Token::Last => break,
                _ => {}
            }
            here = next;
        }
        lineage
    }
}

/// A node.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) blob: Blob<'a>,
    /// Where its token is.
    pub(super) at: u32,
}

impl<'a> Node<'a> {
    /// The name, with the unit address.
    pub(super) fn name(self) -> &'a str {
        match self.blob.token(self.at as usize) {
            Ok((Token::Begin(name), _)) => name,
            _ => "",
        }
    }

    /// The first property with this name.
    pub(super) fn property(self, name: &str) -> Option<Property<'a>> {
        let (_, mut at) = self.blob.token(self.at as usize).ok()?;
        loop {
            match self.blob.token(at).ok()? {
                (Token::Property(found), _) if found.name == name.as_bytes() => return Some(found),
                (Token::Property(_) | Token::Nop, next) => at = next,
                _ => return None,
            }
        }
    }

    pub(super) fn has(self, name: &str) -> bool {
        self.property(name).is_some()
    }

    /// The first cell of a property.
    pub(super) fn cell(self, name: &str) -> Option<u32> {
        self.property(name)?.cell(0)
    }

    pub(super) fn phandle(self) -> Option<u32> {
        self.cell("phandle").or_else(|| self.cell("linux,phandle"))
    }

    pub(super) fn is_compatible(self, name: &str) -> bool {
        self.property("compatible").is_some_and(|list| list.strings().any(|s| s == name.as_bytes()))
    }

    /// Whether `status` lets software use the node.
    pub(super) fn is_enabled(self) -> bool {
        match self.property("status") {
            Some(status) => status.strings().any(|s| s == b"okay" || s == b"ok"),
            None => true,
        }
    }

    /// Its children.
    pub(super) fn children(self) -> Nodes<'a> {
        let next = self.blob.token(self.at as usize).map_or(usize::MAX, |(_, next)| next);
        let lineage = Lineage { blob: self.blob, at: [0; MAX_DEPTH], depth: 0 };
        Nodes { next, lineage, only: Some(1) }
    }
}

/// Nodes in the order of the blob.
#[derive(Clone)]
pub(super) struct Nodes<'a> {
    next: usize,
    /// The nodes around the next one, from where the iterator began.
    lineage: Lineage<'a>,
    /// Nodes of this depth alone, until the node around them ends.
    only: Option<usize>,
}

impl<'a> Nodes<'a> {
    /// The same nodes, each with those around it. From the root on alone.
    pub(super) fn with_lineage(mut self) -> impl Iterator<Item = Lineage<'a>> + use<'a> {
        core::iter::from_fn(move || self.next().map(|_| self.lineage))
    }
}

impl<'a> Iterator for Nodes<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        loop {
            let (at, blob) = (self.next, self.lineage.blob);
            let (token, next) = blob.token(at).ok()?;
            self.next = next;
            match token {
                Token::Begin(_) => {
                    self.lineage.push(offset(at));
                    if self.only.is_none_or(|depth| depth == self.lineage.depth) {
                        return Some(Node { blob, at: offset(at) });
                    }
                }
                Token::End => match self.lineage.depth.checked_sub(1) {
                    Some(depth) => self.lineage.depth = depth,
                    None => {
                        self.next = usize::MAX;
                        return None;
                    }
                },
                Token::Last => {
                    self.next = usize::MAX;
                    return None;
                }
                Token::Property(_) | Token::Nop => {}
            }
        }
    }
}

/// The nodes from the root to one node.
#[derive(Clone, Copy)]
pub(super) struct Lineage<'a> {
    blob: Blob<'a>,
    at: [u32; MAX_DEPTH],
    depth: usize,
}

impl<'a> Lineage<'a> {
    fn push(&mut self, at: u32) {
        // A tree that is deeper is refused.
        if let Some(place) = self.at.get_mut(self.depth) {
            *place = at;
            self.depth += 1;
        }
    }

    /// The node itself.
    pub(super) fn node(&self) -> Node<'a> {
        self.up().next().unwrap_or(self.blob.root())
    }

    /// From the root to the node.
    pub(super) fn down(&self) -> impl DoubleEndedIterator<Item = Node<'a>> + '_ {
        let all = self.at.get(..self.depth).unwrap_or_default();
        all.iter().map(|at| Node { blob: self.blob, at: *at })
    }

    /// From the node to the root.
    pub(super) fn up(&self) -> impl Iterator<Item = Node<'a>> + '_ {
        self.down().rev()
    }
}

/// The path of a node, for printing.
#[derive(Clone, Copy)]
pub struct NodePath<'a> {
    pub(super) lineage: Lineage<'a>,
}

impl NodePath<'_> {
    /// Whether this is the path of the node, with all unit addresses.
    #[must_use]
    pub fn is(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else { return false };
        let names = self.lineage.down().skip(1).map(Node::name);
        // The root has no name.
        let wanted = path.split('/').filter(|_| !path.is_empty());
        names.eq(wanted)
    }
}

impl fmt::Display for NodePath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lineage = &self.lineage;
        if lineage.depth <= 1 {
            return f.write_str("/");
        }
        lineage.down().skip(1).try_for_each(|node| write!(f, "/{}", node.name()))
    }
}

impl fmt::Debug for NodePath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dtoolkit::{Node as _, Property as _, fdt::Fdt, fdt::FdtNode};
    use std::string::{String, ToString};
    use std::vec::Vec;

    const QEMU: &[u8] = include_bytes!("../../../tests/firmware/qemu.dtb");

    fn read_by_dtoolkit(node: FdtNode<'_>, path: &str, all: &mut Vec<(String, Vec<u8>)>) {
        all.push((path.to_string(), Vec::new()));
        for property in node.properties() {
            all.push((property.name().to_string(), property.value().to_vec()));
        }
        for child in node.children() {
            let path = std::format!("{}/{}", path.trim_end_matches('/'), child.name());
            read_by_dtoolkit(child, &path, all);
        }
    }

    #[test]
    fn a_reader_from_elsewhere_sees_the_same_tree() {
        let mut theirs = Vec::new();
        read_by_dtoolkit(Fdt::new(QEMU).unwrap().root(), "/", &mut theirs);
        let blob = Blob::new(QEMU).unwrap();
        let mut ours = Vec::new();
        let mut nodes = blob.nodes().peekable();
        while let Some(node) = nodes.next() {
            ours.push((NodePath { lineage: blob.lineage(node.at) }.to_string(), Vec::new()));
            let (_, mut at) = blob.token(node.at as usize).unwrap();
            while let Ok((Token::Property(found), next)) = blob.token(at) {
                let name = std::str::from_utf8(found.name).unwrap();
                assert_eq!(node.property(name).unwrap().value, found.value);
                ours.push((name.to_string(), found.value.to_vec()));
                at = next;
            }
            let children = node.children().count();
            assert_eq!(
                children == 0,
                nodes.peek().is_none_or(|next| blob
                    .lineage(next.at)
                    .up()
                    .nth(1)
                    .is_none_or(|parent| parent.at != node.at))
            );
        }
        assert!(ours.len() > 200, "{}", ours.len());
        assert_eq!(ours, theirs);
        let nodes: Vec<u32> = blob.nodes().map(|node| node.at).collect();
        let with: Vec<_> = blob.nodes().with_lineage().collect();
        assert_eq!(nodes, with.iter().map(|one| one.node().at).collect::<Vec<_>>());
        for one in with {
            let found = blob.lineage(one.node().at);
            assert!(one.down().map(|node| node.at).eq(found.down().map(|node| node.at)));
        }
    }
}
