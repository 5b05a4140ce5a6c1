//! `detach`: block a device, and answer its faults that wait.

use crate::prelude::*;
use core::ops::Range;

use serde::{Deserialize, Serialize};
use smmu_driver::smmu_types::SubstreamId;

use crate::machine::Need;
use crate::scenario::names::{Declared, SpannedName, Wrong, substream_of};
use crate::scenario::spanned::Spanned;
use crate::scenario::step_spec::StepSpec;

/// See [`Step::Detach`](crate::scenario::Step::Detach).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "struct Detach")]
pub struct DetachStep {
    /// The device.
    pub device: SpannedName,
    /// The substream to block; by default the transactions without a SubstreamID. The driver then
    /// answers the faults of this substream alone, and by default all of the device.
    pub substream: Option<Spanned<u32>>,
    /// How many of its faults wait, and are answered by the driver: those that its handler has not
    /// answered, and those that are still in the queues.
    pub withdrawn: Spanned<u32>,
}

impl DetachStep {
    /// The substream, if the step names one.
    #[must_use]
    pub fn substream(&self) -> Option<SubstreamId> {
        substream_of(self.substream.as_ref())
    }
}

impl StepSpec for DetachStep {
    fn check(&self, _: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.device(&self.device)?;
        self.substream.iter().try_for_each(|id| names.substream(&self.device, id))?;
        let needs = [Need::Stalls, Need::PageRequests];
        if needs.iter().any(|need| names.needs.contains(need)) {
            return Ok(());
        }
        let [stalls, pages] = needs.map(Need::name);
        let message = format!("a detach needs \"{stalls}\" or \"{pages}\" in `needs`");
        Err((self.device.span(), message))
    }

    fn text(&self) -> String {
        let substream = self.substream().map(|id| format!(" ssid={id}")).unwrap_or_default();
        format!("block {}{substream}, and answer what it waits for", self.device.get_ref())
    }
}
