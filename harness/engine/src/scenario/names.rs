//! The names that a file declares, and the checks of names that steps share.

use alloc::collections::{BTreeMap, BTreeSet};
use core::ops::Range;

use crate::prelude::*;
use crate::scenario::spanned::Spanned;
use smmu_driver::smmu_types::{StreamId, SubstreamId};

use super::nearest::nearest;
use crate::machine::{Need, QueueName};
use crate::page_tables::{INPUT_BITS, LeafSize, PAGE, TableStage};

/// A name, and where in the file it stands.
pub type SpannedName = Spanned<String>;

/// What is wrong with a file: the bytes it is about, and a sentence.
pub(crate) type Wrong = (Range<usize>, String);

/// More devices or domains than this are a mistake, and would not fit into the memory of a backend.
const MOST: u32 = 1024;

/// What an SMMU of the file has besides a name.
pub(super) struct SmmuFacts {
    pub(super) ats: bool,
    pub(super) msi: bool,
    pub(super) second_queue: bool,
    pub(super) event_entries: Option<u32>,
    pub(super) page_entries: Option<u32>,
    pub(super) event_burst: bool,
}

/// Everything that the head of a file declares. Steps may name this and nothing else.
pub(crate) struct Declared {
    pub(super) needs: Vec<Need>,
    pub(super) smmus: BTreeMap<String, SmmuFacts>,
    /// The devices, each with the name of its SMMU.
    pub(super) devices: BTreeMap<String, String>,
    /// The StreamIDs of each device.
    pub(super) streams: BTreeMap<String, Vec<StreamId>>,
    /// The bits of the SubstreamIDs of each device that has some.
    pub(super) substream_bits: BTreeMap<String, u8>,
    /// The devices with ATS.
    pub(super) ats_devices: BTreeSet<String>,
    /// The devices whose page requests the driver switches.
    pub(super) asking_devices: BTreeSet<String>,
    pub(super) domains: BTreeMap<String, TableStage>,
    /// The guests, each with the names of its devices.
    pub(super) guests: BTreeMap<String, Vec<String>>,
    /// The guests' tables, each with the name of its guest.
    pub(super) guest_tables: BTreeMap<String, String>,
    pub(super) pages: BTreeSet<String>,
    pub(super) blocks: BTreeSet<String>,
}

impl Declared {
    pub(super) fn smmu(&self, name: &SpannedName) -> Result<(), Wrong> {
        known("smmu", name, self.smmus.contains_key(name.get_ref()), self.smmus.keys())
    }

    /// The queue exists on the SMMU; every SMMU has a main queue.
    pub(super) fn queue(
        &self,
        smmu: &str,
        queue: &Option<Spanned<QueueName>>,
    ) -> Result<(), Wrong> {
        match queue {
            Some(queue)
                if *queue.get_ref() == QueueName::Second
                    && !self.smmus.get(smmu).is_some_and(|facts| facts.second_queue) =>
            {
                Err((queue.span(), format!("{smmu} has no `second_queue`")))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn device(&self, name: &SpannedName) -> Result<(), Wrong> {
        known("device", name, self.devices.contains_key(name.get_ref()), self.devices.keys())
    }

    /// The entries of the event queue of a device's SMMU, if the file says how many.
    pub(super) fn event_entries(&self, device: &str) -> Option<u32> {
        self.smmus.get(self.devices.get(device)?)?.event_entries
    }

    /// The entries of the PRI queue of a device's SMMU, if it has one.
    pub(super) fn page_entries(&self, device: &str) -> Option<u32> {
        self.smmus.get(self.devices.get(device)?)?.page_entries
    }

    /// The driver thins out the events of a device's SMMU.
    pub(super) fn has_event_burst(&self, device: &str) -> bool {
        self.devices
            .get(device)
            .and_then(|smmu| self.smmus.get(smmu))
            .is_some_and(|s| s.event_burst)
    }

    /// The device has this StreamID.
    pub(super) fn stream(&self, device: &SpannedName, stream: &Spanned<u32>) -> Result<(), Wrong> {
        let (name, value) = (device.get_ref(), StreamId(*stream.get_ref()));
        match self.streams.get(name) {
            Some(streams) if !streams.contains(&value) => {
                let known: Vec<String> = streams.iter().map(|s| format!("{:#x}", s.0)).collect();
                let message =
                    format!("device \"{name}\" has no such StreamID; it has {}", known.join(", "));
                Err((stream.span(), message))
            }
            _ => Ok(()),
        }
    }

    /// The device has this substream, beside its transactions without a SubstreamID.
    pub(super) fn substream(
        &self,
        device: &SpannedName,
        substream: &Spanned<u32>,
    ) -> Result<(), Wrong> {
        let (name, id) = (device.get_ref(), *substream.get_ref());
        let Some(&bits) = self.substream_bits.get(name) else {
            let message = format!("device \"{name}\" has no `substream_bits`");
            return Err((substream.span(), message));
        };
        if id == 0 || id >> bits != 0 {
            let last = (1_u32 << bits) - 1;
            let message = format!("the substreams of \"{name}\" are 1 to {last:#x}");
            return Err((substream.span(), message));
        }
        Ok(())
    }

    /// The device has ATS.
    pub(super) fn ats(&self, device: &SpannedName, span: &Range<usize>) -> Result<(), Wrong> {
        match self.ats_devices.contains(device.get_ref()) {
            true => Ok(()),
            false => Err((span.clone(), format!("device \"{}\" has no `ats`", device.get_ref()))),
        }
    }

    /// The driver switches the device's page requests.
    pub(super) fn switches_page_requests(&self, device: &SpannedName) -> bool {
        self.asking_devices.contains(device.get_ref())
    }

    pub(super) fn guest(&self, name: &SpannedName) -> Result<(), Wrong> {
        known("guest", name, self.guests.contains_key(name.get_ref()), self.guests.keys())
    }

    pub(super) fn guest_table(&self, name: &SpannedName) -> Result<(), Wrong> {
        let found = self.guest_tables.contains_key(name.get_ref());
        known("guest table", name, found, self.guest_tables.keys())
    }

    /// The device is one of a guest.
    pub(super) fn guest_device(&self, name: &SpannedName) -> Result<(), Wrong> {
        let all = self.guests.values().flatten();
        known("device of a guest", name, all.clone().any(|of| of == name.get_ref()), all)
    }

    pub(super) fn domain(&self, name: &SpannedName) -> Result<(), Wrong> {
        known("domain", name, self.domains.contains_key(name.get_ref()), self.domains.keys())
    }

    /// A device can be attached to this: a domain, `bypass` or `blocked`.
    pub(super) fn target(&self, name: &SpannedName) -> Result<(), Wrong> {
        let others = ["blocked", "bypass"].map(str::to_owned);
        let found = others.contains(name.get_ref()) || self.domains.contains_key(name.get_ref());
        known("domain", name, found, others.iter().chain(self.domains.keys()))
    }

    pub(super) fn page(&self, name: &SpannedName) -> Result<(), Wrong> {
        known("page", name, self.pages.contains(name.get_ref()), &self.pages)
    }

    pub(super) fn block(&self, name: &SpannedName) -> Result<(), Wrong> {
        known("block", name, self.blocks.contains(name.get_ref()), &self.blocks)
    }

    /// A page or a block.
    pub(super) fn memory(&self, name: &SpannedName) -> Result<(), Wrong> {
        if self.blocks.contains(name.get_ref()) { Ok(()) } else { self.page(name) }
    }
}

fn known<'a>(
    kind: &str,
    name: &SpannedName,
    found: bool,
    names: impl IntoIterator<Item = &'a String>,
) -> Result<(), Wrong> {
    if found {
        return Ok(());
    }
    let mut all: Vec<&str> = names.into_iter().map(String::as_str).collect();
    let near = nearest(name.get_ref(), all.iter().copied());
    let hint = near.map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
    let more = all.len().saturating_sub(8);
    all.truncate(8);
    let mut message =
        format!("no {kind} is named \"{}\"; there are: {}", name.get_ref(), all.join(", "));
    if all.is_empty() {
        message = format!("no {kind} is named \"{}\"; there are none", name.get_ref());
    } else if more > 0 {
        message = format!("{message} and {more} more");
    }
    Err((name.span(), message + &hint))
}

/// The substream that a key names. The check of its step has seen that it is one.
pub(super) fn substream_of(key: Option<&Spanned<u32>>) -> Option<SubstreamId> {
    key.and_then(|id| SubstreamId::new(*id.get_ref()))
}

/// A number of devices or domains that a file may ask for.
pub(super) fn counted(count: &Spanned<u32>) -> Result<u32, Wrong> {
    match *count.get_ref() {
        count @ 1..=MOST => Ok(count),
        _ => Err((count.span(), format!("count must be 1 to {MOST}"))),
    }
}

/// An input address is that of a page.
pub(super) fn aligned(span: &Range<usize>, iova: u64) -> Result<(), Wrong> {
    match iova % PAGE {
        0 => Ok(()),
        _ => Err((span.clone(), format!("iova {iova:#x} is not aligned to {PAGE} bytes"))),
    }
}

/// A table can map a page or a block at an input address.
pub(super) fn mappable(span: &Range<usize>, iova: u64, size: LeafSize) -> Result<(), Wrong> {
    match iova >> INPUT_BITS {
        0 if size == LeafSize::Page => aligned(span, iova),
        0 if iova.is_multiple_of(size.bytes()) => Ok(()),
        0 => Err((span.clone(), format!("iova {iova:#x} is not aligned to 2 MiB"))),
        _ => {
            let message = format!("iova {iova:#x} is beyond the {INPUT_BITS} bits of the tables");
            Err((span.clone(), message))
        }
    }
}
