//! Reads a right device tree back into nodes to write, for changes to a tree of another maker.

use super::dtb_builder::{DtNode, node};

/// The root of a blob of version 17, with all that is below it.
pub(crate) fn read(blob: &[u8]) -> DtNode {
    let word = |at: usize| u32::from_be_bytes(blob[at..at + 4].try_into().unwrap()) as usize;
    let text = |at: usize| {
        let bytes = blob[at..].split(|byte| *byte == 0).next().unwrap();
        std::str::from_utf8(bytes).unwrap()
    };
    let (mut at, names) = (word(8), word(12));
    let mut open: Vec<DtNode> = Vec::new();
    loop {
        let token = word(at);
        at += 4;
        match token {
            1 => {
                let name = text(at);
                open.push(node(name));
                at = (at + name.len() + 1).next_multiple_of(4);
            }
            2 => {
                let done = open.pop().unwrap();
                match open.pop() {
                    Some(parent) => open.push(parent.child(done)),
                    None => return done,
                }
            }
            3 => {
                let (length, name) = (word(at), text(names + word(at + 4)));
                let value = &blob[at + 8..at + 8 + length];
                let last = open.pop().unwrap();
                open.push(last.raw(name, value));
                at = (at + 8 + length).next_multiple_of(4);
            }
            _ => {}
        }
    }
}

/// The same tree with another child of this name.
pub(crate) fn changed(
    mut root: DtNode,
    name: &str,
    change: impl FnOnce(DtNode) -> DtNode,
) -> DtNode {
    let n = root.children.iter().position(|child| child.name == name).unwrap();
    let child = root.children.remove(n);
    root.children.insert(n, change(child));
    root
}
