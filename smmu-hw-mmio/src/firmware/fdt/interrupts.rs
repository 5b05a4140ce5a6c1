//! The interrupts of a node, by name.

use super::blob::{Blob, Lineage, Node, Property};
use super::error::{FdtError, FdtProblem};
use crate::firmware::smmu::{Interrupt, SmmuInterrupts, Trigger};

/// A node has no more interrupts than this.
const MOST: usize = 16;

/// The interrupts with the names of the SMMUv3 binding. Other names are left out.
pub(super) fn smmu_interrupts(
    blob: Blob<'_>,
    lineage: &Lineage<'_>,
) -> Result<SmmuInterrupts, FdtError> {
    let mut found = SmmuInterrupts::default();
    let Some(node) = lineage.up().next() else { return Ok(found) };
    let (all, count) = interrupts(blob, lineage, node)?;
    let Some(names) = node.property("interrupt-names") else { return Ok(found) };
    let named = names.strings().count();
    if named != count {
        let problem = FdtProblem::InterruptCount { names: named, interrupts: count };
        return Err(FdtError { at: names.at, problem });
    }
    for (name, interrupt) in names.strings().zip(all) {
        let place = match name {
            b"eventq" => &mut found.eventq,
            b"priq" => &mut found.priq,
            b"cmdq-sync" => &mut found.cmdq_sync,
            b"gerror" => &mut found.gerror,
            b"combined" => &mut found.combined,
            _ => continue,
        };
        *place = interrupt;
    }
    Ok(found)
}

type Found = ([Option<Interrupt>; MOST], usize);

fn interrupts(blob: Blob<'_>, lineage: &Lineage<'_>, node: Node<'_>) -> Result<Found, FdtError> {
    let (mut all, mut count) = ([None; MOST], 0);
    let mut add = |interrupt| {
        if let Some(place) = all.get_mut(count) {
            *place = Some(interrupt);
        }
        count += 1;
        count <= MOST
    };
    // `interrupts-extended` wins over `interrupts`, by the specification.
    if let Some(list) = node.property("interrupts-extended") {
        let mut n = 0;
        while let Some(phandle) = list.cell(n) {
            let cells = controller_cells(blob, list, "interrupts-extended", phandle)?;
            if !add(interrupt(list, "interrupts-extended", n + 1, cells)?) {
                break;
            }
            n += 1 + cells;
        }
    } else if let Some(list) = node.property("interrupts") {
        let parent = lineage.up().find_map(|node| node.property("interrupt-parent"));
        let lacks = FdtProblem::Lacks { property: "interrupt-parent" };
        let parent = parent.ok_or(FdtError { at: node.at, problem: lacks })?;
        let phandle = parent.cell(0).unwrap_or_default();
        let cells = controller_cells(blob, parent, "interrupt-parent", phandle)?;
        if !list.value.len().is_multiple_of(cells * 4) {
            let bytes = list.value.len();
            let problem = FdtProblem::Length { property: "interrupts", bytes, entry: cells * 4 };
            return Err(FdtError { at: list.at, problem });
        }
        for n in (0..list.count()).step_by(cells) {
            if !add(interrupt(list, "interrupts", n, cells)?) {
                break;
            }
        }
    }
    Ok((all, count))
}

/// `#interrupt-cells` of the controller: 3 or 4 for a GIC.
fn controller_cells(
    blob: Blob<'_>,
    from: Property<'_>,
    property: &'static str,
    phandle: u32,
) -> Result<usize, FdtError> {
    let missing = FdtProblem::NoSuchPhandle { property, phandle };
    let controller = blob.nodes().find(|node| node.phandle() == Some(phandle));
    let controller = controller.ok_or(FdtError { at: from.at, problem: missing })?;
    let got = controller.cell("#interrupt-cells").unwrap_or_default();
    if !(3..=4).contains(&got) {
        let property = "#interrupt-cells";
        let problem = FdtProblem::CellCount { property, got, least: 3, most: 4 };
        return Err(FdtError { at: controller.at, problem });
    }
    Ok(got as usize)
}

/// The interrupt in the cells from `n` on.
fn interrupt(
    list: Property<'_>,
    property: &'static str,
    n: usize,
    cells: usize,
) -> Result<Interrupt, FdtError> {
    let all = (list.cell(n), list.cell(n + 1), list.cell(n + 2), list.cell(n + cells - 1));
    let (Some(kind), Some(number), Some(flags), Some(_)) = all else {
        let bytes = list.value.len();
        let problem = FdtProblem::Length { property, bytes, entry: cells * 4 };
        return Err(FdtError { at: list.at, problem });
    };
    let first = match kind {
        0 => 32,
        1 => 16,
        2 => 4096,
        3 => 1056,
        got => {
            let problem = FdtProblem::InterruptType { got };
            return Err(FdtError { at: list.cell_at(n), problem });
        }
    };
    let trigger = match flags & 0xf {
        1 | 2 => Some(Trigger::Edge),
        4 | 8 => Some(Trigger::Level),
        _ => None,
    };
    Ok(Interrupt { intid: number.saturating_add(first), trigger })
}
