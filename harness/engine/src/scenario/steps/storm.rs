//! `storm`: let a device fault on one page again and again, while the driver looks at each event.

use crate::prelude::*;
use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::page_tables::LeafSize;
use crate::scenario::names::{Declared, SpannedName, Wrong, mappable};
use crate::scenario::spanned::Spanned;
use crate::scenario::step_spec::StepSpec;

/// More writes than this are a mistake.
const MOST_WRITES: u32 = 100_000;

/// See [`Step::Storm`](crate::scenario::Step::Storm).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "struct Storm")]
pub struct StormStep {
    /// The device. Its SMMU has `event_burst`.
    pub device: SpannedName,
    /// The page that the device writes to; it is not mapped.
    pub iova: Spanned<u64>,
    /// How often the device writes: 1 to 100,000.
    pub writes: Spanned<u32>,
    /// How many events the driver reports. It counts the others.
    pub reports: Spanned<u32>,
}

impl StepSpec for StormStep {
    fn check(&self, _: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.device(&self.device)?;
        let device = self.device.get_ref();
        if !names.has_event_burst(device) {
            let message = format!("a storm needs `event_burst` of the SMMU of \"{device}\"");
            return Err((self.device.span(), message));
        }
        if !(1..=MOST_WRITES).contains(self.writes.get_ref()) {
            return Err((self.writes.span(), format!("writes must be 1 to {MOST_WRITES}")));
        }
        if self.reports.get_ref() > self.writes.get_ref() {
            let message = "there cannot be more reports than writes";
            return Err((self.reports.span(), message.into()));
        }
        mappable(&self.iova.span(), *self.iova.get_ref(), LeafSize::Page)
    }

    fn text(&self) -> String {
        let (device, writes) = (self.device.get_ref(), self.writes.get_ref());
        format!("{device} writes to {:#x}, {writes} times", self.iova.get_ref())
    }
}
