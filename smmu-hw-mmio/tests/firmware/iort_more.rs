//! More nodes for a table of another maker.

use super::iort_builder::Node;

/// Appends a node to a table, and corrects the header.
pub(crate) fn add_node(table: &mut Vec<u8>, node: &Node) {
    node.write(table);
    let count = u32::from_le_bytes(table[36..40].try_into().unwrap()) + 1;
    let length = table.len() as u32;
    table[36..40].copy_from_slice(&count.to_le_bytes());
    table[4..8].copy_from_slice(&length.to_le_bytes());
    let sum = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    table[9] = table[9].wrapping_sub(sum);
}
