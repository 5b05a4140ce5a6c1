//! A publication with the gate that ATS entries need.

use core::fmt;
use core::ops::Deref;

use crate::{AtsGate, InvArray, OutOfMemory, Publication};

/// A publication of arrays with ATS entries: another publication and an [`AtsGate`].
pub struct GatedCell<P> {
    cell: P,
    gate: AtsGate,
}

impl<P> GatedCell<P> {
    /// The publication inside.
    pub fn cell(&self) -> &P {
        &self.cell
    }

    /// The gate, for [`AtsGate::drain`].
    pub fn ats_gate(&self) -> &AtsGate {
        &self.gate
    }
}

impl<P: fmt::Debug> fmt::Debug for GatedCell<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatedCell").field("cell", &self.cell).field("gate", &self.gate).finish()
    }
}

impl<P: Publication<InvArray>> Publication<InvArray> for GatedCell<P>
where
    for<'a> P::Guard<'a>: Deref<Target = InvArray>,
{
    type Node = P::Node;
    type Guard<'a>
        = P::Guard<'a>
    where
        Self: 'a;

    fn node(value: InvArray) -> Result<P::Node, OutOfMemory> {
        P::node(value)
    }

    fn new(node: P::Node) -> Self {
        GatedCell { cell: P::new(node), gate: AtsGate::new() }
    }

    fn read(&self) -> P::Guard<'_> {
        self.cell.read()
    }

    fn publish(&self, node: P::Node) {
        self.cell.publish(node);
    }

    fn reclaim_replaced(&self) {
        self.cell.reclaim_replaced();
    }

    fn gate(&self) -> Option<&AtsGate> {
        Some(&self.gate)
    }
}
