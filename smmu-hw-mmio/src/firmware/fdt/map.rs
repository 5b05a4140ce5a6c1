//! `iommus` and `iommu-map`: the streams of a device.

use super::blob::{Node, Property};
use super::error::{FdtError, FdtProblem};
use super::iommus::Iommus;
use crate::firmware::mapping::{IdMapping, Inputs};

/// A specifier has no more cells than this.
const MOST_CELLS: u32 = 8;
/// Cells of an entry of `iommu-map`, beside its output: input, phandle, length.
const MAP_CELLS: usize = 3;

/// How the entries of a property are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `iommus`: a phandle, and the cells that the IOMMU asks for.
    List,
    /// `iommu-map`: an input, a phandle, the cells that the IOMMU asks for, a length.
    Map,
    /// `iommu-map` with one output cell, though the IOMMU asks for two.
    OldMap,
    /// `iommu-map` in entries of `written` cells, though the IOMMU asks for `cells` outputs.
    Foreign { written: u32, cells: u32 },
}

/// The mappings of a device, in the order of its properties: `iommus`, then `iommu-map`.
///
/// An entry that is wrong in itself gives an error, and the next entry follows. After an entry of
/// unknown length nothing follows.
#[derive(Clone)]
pub struct Mappings<'t, 'a, const N: usize> {
    iommus: &'t Iommus<N>,
    list: Option<(Property<'a>, Form)>,
    map: Option<(Property<'a>, Form)>,
    /// The next cell of the first of these.
    next: usize,
}

impl<'t, 'a, const N: usize> Mappings<'t, 'a, N> {
    pub(super) fn new(iommus: &'t Iommus<N>, node: Node<'a>) -> Self {
        let list = node.property("iommus").map(|list| (list, Form::List));
        let map = node.property("iommu-map").map(|map| (map, form(iommus, map)));
        Self { iommus, list, map, next: 0 }
    }

    /// The entry at cell `n`, and the number of its cells.
    fn entry(&self, property: Property<'a>, form: Form, n: usize) -> Entry {
        let name = if form == Form::List { "iommus" } else { "iommu-map" };
        let at = property.cell_at(n);
        let fail = |at, problem| Entry { cells: None, mapping: Err(FdtError { at, problem }) };
        if let Form::Foreign { written, cells } = form {
            let wanted = cells.saturating_add(3);
            let problem = FdtProblem::EntryCells { property: name, written, cells, wanted };
            return fail(property.at, problem);
        }
        let phandle_at = if form == Form::List { n } else { n + 1 };
        let short = |entry: usize| {
            let bytes = property.value.len();
            fail(property.at, FdtProblem::Length { property: name, bytes, entry: entry * 4 })
        };
        let Some(phandle) = property.cell(phandle_at) else { return short(MAP_CELLS + 1) };
        let Some(iommu) = self.iommus.find(phandle) else {
            let problem = FdtProblem::NoSuchPhandle { property: name, phandle };
            return fail(property.cell_at(phandle_at), problem);
        };
        let cells = if form == Form::OldMap { 1 } else { iommu.cells };
        let least = u32::from(iommu.smmu.is_some());
        if !(least..=MOST_CELLS).contains(&cells) {
            let property = "#iommu-cells";
            let problem = FdtProblem::CellCount { property, got: cells, least, most: MOST_CELLS };
            return fail(iommu.at, problem);
        }
        let length = cells as usize + if form == Form::List { 1 } else { MAP_CELLS };
        if n + length > property.count() || !property.value.len().is_multiple_of(4) {
            return short(length);
        }
        let output = property.cell(phandle_at + 1).filter(|_| cells > 0).unwrap_or(0);
        let inputs = match form {
            Form::List => Ok(Inputs::Any),
            _ => {
                let (first, ids) = (property.cell(n), property.cell(n + length - 1));
                range(first.unwrap_or(0), ids.unwrap_or(0), output, cells)
            }
        };
        let mapping = match inputs {
            Ok(inputs) => Ok(IdMapping { inputs, output, target: iommu.target(), at }),
            Err(problem) => Err(FdtError { at, problem }),
        };
        Entry { cells: Some(length), mapping }
    }
}

struct Entry {
    /// `None` if the length of the entry is unknown.
    cells: Option<usize>,
    mapping: Result<IdMapping, FdtError>,
}

fn range(first: u32, length: u32, output: u32, cells: u32) -> Result<Inputs, FdtProblem> {
    let more = length.checked_sub(1).ok_or(FdtProblem::EmptyRange)?;
    if cells > 1 && length > 1 {
        return Err(FdtProblem::SeveralOutputs { length, cells });
    }
    let wraps = |first| FdtProblem::RangeWraps { first, length };
    output.checked_add(more).ok_or(wraps(output))?;
    let last = first.checked_add(more).ok_or(wraps(first))?;
    Ok(Inputs::Range { first, last })
}

/// How an `iommu-map` is written. Many trees give one output cell for an IOMMU of two: then all
/// entries have four cells, one phandle, and length 1. Linux reads them so.
fn form<const N: usize>(iommus: &Iommus<N>, map: Property<'_>) -> Form {
    let first = map.cell(1);
    let two = first.and_then(|phandle| iommus.find(phandle)).is_some_and(|iommu| iommu.cells == 2);
    let fours = map.count().is_multiple_of(4);
    let old = (0..map.count()).step_by(4);
    let mut old = old.map(|n| map.cell(n + 1) == first && map.cell(n + 3) == Some(1));
    if two && fours && old.all(|entry| entry) {
        return Form::OldMap;
    }
    let mut n = 0;
    while let Some(iommu) = map.cell(n + 1).and_then(|phandle| iommus.find(phandle)) {
        n = n.saturating_add(iommu.cells as usize).saturating_add(MAP_CELLS);
        if n >= map.count() {
            break;
        }
    }
    if n == map.count() { Form::Map } else { foreign_form(iommus, map).unwrap_or(Form::Map) }
}

/// Whether all entries have 5 or 4 cells and a phandle, of an IOMMU that asks for others.
fn foreign_form<const N: usize>(iommus: &Iommus<N>, map: Property<'_>) -> Option<Form> {
    [5_u32, 4].into_iter().find_map(|written| {
        let step = written as usize;
        let whole = map.count() > 0 && map.count().is_multiple_of(step);
        let mut entries = (0..map.count()).step_by(step).map(|n| iommus.find(map.cell(n + 1)?));
        let cells = entries.clone().next().flatten()?.cells;
        let fits = whole && entries.all(|iommu| iommu.is_some_and(|iommu| iommu.cells == cells));
        (fits && cells.checked_add(3) != Some(written)).then_some(Form::Foreign { written, cells })
    })
}

impl<const N: usize> Iterator for Mappings<'_, '_, N> {
    type Item = Result<IdMapping, FdtError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let current = if self.list.is_some() { &mut self.list } else { &mut self.map };
            let (property, form) = (*current)?;
            if self.next * 4 >= property.value.len() {
                *current = None;
                self.next = 0;
                continue;
            }
            let entry = self.entry(property, form, self.next);
            match entry.cells {
                Some(cells) => self.next += cells,
                // Nothing that follows in this property has a known place.
                None => self.next = usize::MAX / 4,
            }
            return Some(entry.mapping);
        }
    }
}
