//! `page_request`: let a device ask for a page.

use crate::prelude::*;
use core::ops::Range;

use serde::{Deserialize, Serialize};
use smmu_driver::smmu_types::PrgIndex;

use crate::machine::Need;
use crate::page_tables::LeafSize;
use crate::scenario::names::{Declared, SpannedName, Wrong, mappable};
use crate::scenario::spanned::Spanned;
use crate::scenario::step_spec::StepSpec;

/// See [`Step::PageRequest`](crate::scenario::Step::PageRequest).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "struct PageRequest")]
pub struct PageRequestStep {
    /// The device. Its SMMU has `page_entries`.
    pub device: SpannedName,
    /// The page that the device wants to write to.
    pub iova: Spanned<u64>,
    /// The number of the group of requests, 0 to 511.
    pub group: Spanned<u16>,
    /// More requests of the group follow: this one gets no answer.
    #[serde(default)]
    pub more: bool,
    /// The driver does not look at its PRI queue afterwards.
    #[serde(default)]
    pub unread: bool,
    /// The device's page requests are off, and it sends none. The device has `page_requests`.
    #[serde(default)]
    pub off: bool,
    /// The answer that the SMMU gives by itself, because its queue is full.
    pub answered: Option<Spanned<GroupAnswer>>,
}

/// The answer to a group of page requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum GroupAnswer {
    /// `"success"`: every page of the group is there.
    Success,
    /// `"invalid"`: a page of the group is not there, and will not be.
    Invalid,
    /// `"failure"`: the device stops asking.
    Failure,
}

impl StepSpec for PageRequestStep {
    fn check(&self, _: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.device(&self.device)?;
        let device = self.device.get_ref();
        if names.page_entries(device).is_none() {
            let need = Need::PageRequests.name();
            let message = format!(
                "a page request needs `page_entries` of the SMMU of \"{device}\", and \"{need}\" in \
                 `needs`"
            );
            return Err((self.device.span(), message));
        }
        if PrgIndex::new(*self.group.get_ref()).is_none() {
            return Err((self.group.span(), "group must be 0 to 511".into()));
        }
        if self.off && !names.switches_page_requests(&self.device) {
            let message = format!("device \"{device}\" has no `page_requests = true`");
            return Err((self.device.span(), message));
        }
        if self.off && (self.more || self.unread || self.answered.is_some()) {
            let message = "a request that is not sent has no `more`, `unread` or `answered`";
            return Err((self.device.span(), message.into()));
        }
        mappable(&self.iova.span(), *self.iova.get_ref(), LeafSize::Page)
    }

    fn text(&self) -> String {
        let (device, iova) = (self.device.get_ref(), self.iova.get_ref());
        let last = if self.more { "" } else { ", the last of its group" };
        let unread = if self.unread { "; the driver does not look" } else { "" };
        let off = if self.off { "; its page requests are off" } else { "" };
        let group = self.group.get_ref();
        format!("{device} asks for page {iova:#x} in group {group}{last}{unread}{off}")
    }
}
