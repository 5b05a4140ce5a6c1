//! `flood`: let a device fault more often than the event queue has room.

use crate::prelude::*;
use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::machine::Need;
use crate::page_tables::{LeafSize, PAGE};
use crate::scenario::names::{Declared, SpannedName, Wrong, mappable};
use crate::scenario::spanned::Spanned;
use crate::scenario::step_spec::StepSpec;

/// More writes than this are a mistake.
const MOST_WRITES: u32 = 1024;

/// See [`Step::Flood`](crate::scenario::Step::Flood).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "struct Flood")]
pub struct FloodStep {
    /// The device. Its SMMU has `event_entries`.
    pub device: SpannedName,
    /// The first address. The device writes to it, then to each page after it, and no page is
    /// mapped.
    pub iova: Spanned<u64>,
    /// How many pages the device writes to before the driver looks at the event queue: 1 to 1024.
    pub writes: Spanned<u32>,
    /// How many events the driver finds: one for each write, as far as the queue has room. They
    /// are those of the first writes, in order. The SMMU reports an overflow if it lost one.
    pub events: Spanned<u32>,
}

impl FloodStep {
    /// The addresses that the device writes to, in order.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = u64> {
        let first = *self.iova.get_ref();
        (0..u64::from(*self.writes.get_ref())).map(move |n| first + n * PAGE)
    }
}

impl StepSpec for FloodStep {
    fn check(&self, _: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.device(&self.device)?;
        let device = self.device.get_ref();
        let Some(entries) = names.event_entries(device) else {
            let message = format!("a flood needs `event_entries` of the SMMU of \"{device}\"");
            return Err((self.device.span(), message));
        };
        let (writes, events) = (*self.writes.get_ref(), *self.events.get_ref());
        if !(1..=MOST_WRITES).contains(&writes) {
            return Err((self.writes.span(), format!("writes must be 1 to {MOST_WRITES}")));
        }
        let most = writes.min(entries);
        if events != most {
            let message = format!(
                "{writes} writes leave {most} events in a queue of {entries}, not {events}"
            );
            return Err((self.events.span(), message));
        }
        if writes > entries && !names.needs.contains(&Need::EventOverflow) {
            let need = Need::EventOverflow.name();
            let message = format!("a flood that overflows the queue needs \"{need}\" in `needs`");
            return Err((self.writes.span(), message));
        }
        let last = self.iova.get_ref().saturating_add(u64::from(writes - 1) * PAGE);
        mappable(&self.iova.span(), *self.iova.get_ref(), LeafSize::Page)?;
        mappable(&self.iova.span(), last, LeafSize::Page)
    }

    fn text(&self) -> String {
        let (device, writes) = (self.device.get_ref(), self.writes.get_ref());
        format!("{device} writes to {writes} pages from {:#x}", self.iova.get_ref())
    }
}
