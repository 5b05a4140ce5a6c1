//! `parallel`: callers of the driver that run at the same time.

use alloc::collections::BTreeSet;
use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::machine::Need;
use crate::page_tables::LeafSize;
use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong, mappable};
use crate::scenario::spanned::Spanned;
use crate::scenario::step_spec::StepSpec;

/// More rounds than this are a mistake.
const MOST_ROUNDS: u32 = 100_000;

/// More callers than this are a mistake.
const MOST_CALLERS: usize = 16;

/// See [`Step::Parallel`](crate::scenario::Step::Parallel).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "struct Parallel")]
pub struct ParallelStep {
    /// How many rounds each of `unmaps` makes: 1 to 100000.
    pub rounds: Spanned<u32>,
    /// Callers that map a page, let a device write to it, unmap it, invalidate, and let the device
    /// write again. The first write must land in the page. The SMMU must refuse the second one.
    pub unmaps: Spanned<Vec<UnmapCaller>>,
    /// Callers that attach a device of their own to one target after the other, until all rounds
    /// are over.
    #[serde(default)]
    pub attaches: Vec<AttachCaller>,
}

/// A caller that maps and unmaps one page.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UnmapCaller {
    /// The device that writes. It is attached to the domain, and no other caller has it.
    pub device: SpannedName,
    /// The domain.
    pub domain: SpannedName,
    /// The input address.
    pub iova: Spanned<u64>,
    /// The page. No other caller has it.
    pub page: SpannedName,
}

/// A caller that attaches one device.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AttachCaller {
    /// The device. No other caller has it.
    pub device: SpannedName,
    /// What it is attached to in turn: domains, `bypass` or `blocked`. The device keeps the last
    /// one.
    pub to: Spanned<Vec<SpannedName>>,
}

impl ParallelStep {
    /// How many callers run at once.
    pub(crate) fn callers(&self) -> usize {
        self.unmaps.get_ref().len() + self.attaches.len()
    }
}

/// The name is new, because two callers cannot share what it stands for.
fn own<'a>(kind: &str, name: &'a SpannedName, seen: &mut BTreeSet<&'a str>) -> Result<(), Wrong> {
    if seen.insert(name.get_ref()) {
        return Ok(());
    }
    let message = format!("another caller has {kind} \"{}\"; give each its own", name.get_ref());
    Err((name.span(), message))
}

impl StepSpec for ParallelStep {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        if !names.needs.contains(&Need::Parallel) {
            let need = Need::Parallel.name();
            return Err((span, format!("callers in parallel need \"{need}\" in `needs`")));
        }
        if !(1..=MOST_ROUNDS).contains(self.rounds.get_ref()) {
            return Err((self.rounds.span(), format!("rounds must be 1 to {MOST_ROUNDS}")));
        }
        if self.unmaps.get_ref().is_empty() {
            return Err((self.unmaps.span(), "without a caller in `unmaps` nothing ends".into()));
        }
        if self.callers() > MOST_CALLERS {
            let message = format!("{} callers; at most {MOST_CALLERS} fit", self.callers());
            return Err((span, message));
        }
        let (mut devices, mut pages, mut places) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for caller in self.unmaps.get_ref() {
            names.device(&caller.device)?;
            names.domain(&caller.domain)?;
            names.page(&caller.page)?;
            own("device", &caller.device, &mut devices)?;
            own("page", &caller.page, &mut pages)?;
            let (iova, at) = (*caller.iova.get_ref(), caller.iova.span());
            mappable(&at, iova, LeafSize::Page)?;
            if !places.insert((caller.domain.get_ref(), iova)) {
                let domain = caller.domain.get_ref();
                return Err((at, format!("another caller maps {iova:#x} of \"{domain}\"")));
            }
        }
        for caller in &self.attaches {
            names.device(&caller.device)?;
            own("device", &caller.device, &mut devices)?;
            if caller.to.get_ref().is_empty() {
                return Err((caller.to.span(), "name at least one target".into()));
            }
            caller.to.get_ref().iter().try_for_each(|to| names.target(to))?;
        }
        Ok(())
    }

    fn text(&self) -> String {
        let attaching = match self.attaches.len() {
            0 => String::new(),
            n => format!(" beside {n} that attach"),
        };
        let (callers, rounds) = (self.unmaps.get_ref().len(), self.rounds.get_ref());
        format!("{rounds} rounds of {callers} callers that map and unmap{attaching}")
    }
}
