//! Devices that cache translations themselves (ATS; IHI 0070, 3.9).
//!
//! A device with ATS asks the SMMU for translations, keeps them in its cache (ATC), and sends requests
//! with translated addresses. Three switches belong together: the device's own, `STE.EATS`, and the
//! device's entries in the domains' invalidation arrays, which make an unmap send `ATC_INV`.
//!
//! Invariants:
//!
//! 1. While an SMMU may use an STE with `EATS`, each domain of the device invalidates its ATC.
//! 2. `EATS` goes on only while the ATC has no translation of an earlier attachment.
//! 3. A device leaves a domain only after its ATC has confirmed that it dropped the domain's
//!    translations, or after the SMMU has confirmed an STE without `EATS`: it then refuses translated
//!    requests.
//! 4. When the crate turns a device's own switch off, no `ATC_INV` to it is outstanding, with one
//!    exception: a live replacement by bypass.
//! 5. A device asks for pages (PRI) only while its ATS is on, and the SMMU has confirmed an STE with
//!    `EATS`, or confirms its replacement.
//!
//! Steps of an attach, beside those of [`attach`](crate::attach):
//!
//! | from | to | steps |
//! |---|---|---|
//! | off | on | (a) if the ATC may not be empty: device on, `ATC_INV` of everything; (b) publish the array with the ATC's entries; (c) write the STE with `EATS`; (d) device on; (e) page requests on |
//! | on | on | (a) publish; (b) write the entries; (c) `ATC_INV` of what changed; (d) leave the old domain |
//! | on | blocked | (p) page requests off; (a) write the entries without `EATS`; (b) `ATC_INV` of everything; (c) leave the domain; (d) wait for each reader that may have sent `ATC_INV`; (e) device off |
//! | on | bypass | (p) page requests off; (a) device off; (b) write the STE without `EATS`; (c) leave the domain |
//!
//! The order of the third row leaves no `ATC_INV` at a device whose ATS is off: PCIe lets a device
//! ignore it around a reset, and the SMMU's queue would wait for it. It refuses the device's
//! translated requests from (a) on, as it refuses all others. The fourth row is for a device that
//! works on: it stops sending translated requests before the SMMU refuses them. An unmap that has sent
//! `ATC_INV` to it just before (a) may get a timeout. Its caller calls again: the entries are out of
//! the array then. The ATC counts as not empty after that.
//!
//! After (p) the device sends no page request. Those that it has sent lie in the PRI queue or in a
//! [`FaultTable`](crate::faults::FaultTable). Its owner reads the queue and withdraws them, as
//! [`faults`](crate::faults) says for a device that leaves. A change that the SMMU does not confirm ends
//! the page requests as well, because the entries are invalid then.

use smallvec::SmallVec;
use smmu_types::seam::{CommandSink, Notice, Observer, SinkError};
use smmu_types::{AtcScope, AtcSpan, Command, SubstreamId};

use crate::Platform;
use crate::ats_switch::{Asks, AtcPart, AtsState, AtsSwitch, AtsUse};
use crate::batch::wait;
use crate::device::DeviceParts;
use crate::key::AttachKey;

impl<P: Platform> DeviceParts<P> {
    /// The `ATC_INV` of each stream.
    fn atc_commands(&self, part: AtcPart) -> impl Iterator<Item = Command> {
        let (substream, scope): (Option<SubstreamId>, _) = match part {
            // Without a SubstreamID the device drops the entries of every substream.
            AtcPart::Everything | AtcPart::Key(AttachKey::Stream) => (None, AtcScope::Substream),
            AtcPart::Key(AttachKey::Substream(id)) => (Some(id), AtcScope::Substream),
        };
        let span = AtcSpan::EVERYTHING;
        self.entries.iter().map(move |entry| Command::AtcInv {
            stream: entry.stream,
            substream,
            scope,
            span,
        })
    }

    /// Let the device's ATC drop its translations, and wait. Needs no memory.
    pub(crate) fn flush_atc(&self, part: AtcPart) -> Result<(), SinkError> {
        let (id, sink) = (self.smmu.id, self.smmu.env.sink());
        let mut commands = self.atc_commands(part).peekable();
        let mut result = Ok(());
        while commands.peek().is_some() {
            let mut batch: SmallVec<[Command; 16]> = SmallVec::new();
            batch.extend(commands.by_ref().take(16));
            // Each ATC_INV needs a CMD_SYNC of its own batch, which reports its timeout.
            let done = sink.issue(id, &batch).and_then(|ticket| wait(sink, id, ticket));
            result = result.and(done);
        }
        if let (Err(error), Some(entry)) = (result, self.entries.first()) {
            let notice = Notice::AtcUnconfirmed { smmu: id, stream: entry.stream, error };
            self.smmu.env.observer().notice(notice);
        }
        result
    }

    /// Turn the device's own switch on, unless it is on. Returns whether it is on.
    pub(crate) fn enable_ats(&self, state: &mut AtsState) -> bool {
        if self.ats == AtsUse::Switched && !state.on {
            let env = &self.smmu.env;
            let mut streams = self.entries.iter().map(|entry| entry.stream);
            state.on = streams.all(|stream| {
                let on = env.ats().enable(self.smmu.id, stream).is_ok();
                let notice = Notice::AtsSwitched { smmu: self.smmu.id, stream, on };
                env.observer().notice(notice);
                on
            });
            if !state.on {
                self.turn_off();
            }
        }
        state.on
    }

    /// Let the device ask for pages, once its ATS is on.
    pub(crate) fn start_page_requests(&self, state: &mut AtsState) {
        if self.page_requests && state.on && state.asks != Asks::On {
            let (id, env) = (self.smmu.id, &self.smmu.env);
            let mut streams = self.entries.iter().map(|entry| entry.stream);
            // Invariant 5: from here on the device may ask.
            state.asks = Asks::On;
            let all = streams.all(|stream| {
                let on = env.ats().enable_page_requests(id, stream).is_ok();
                env.observer().notice(Notice::PageRequestsSwitched { smmu: id, stream, on });
                on
            });
            if !all {
                self.stop_page_requests(state);
            }
        }
    }

    /// Stop the device from asking for pages, unless it does not.
    pub(crate) fn stop_page_requests(&self, state: &mut AtsState) {
        if self.page_requests && state.asks != Asks::Off {
            let (id, env) = (self.smmu.id, &self.smmu.env);
            for entry in &self.entries {
                let stream = entry.stream;
                env.ats().disable_page_requests(id, stream);
                env.observer().notice(Notice::PageRequestsSwitched { smmu: id, stream, on: false });
            }
            state.asks = Asks::Off;
        }
    }

    /// Turn the device's own switch off, unless it is off or has none.
    pub(crate) fn disable_ats(&self, state: &mut AtsState) {
        if self.ats == AtsUse::Switched && state.on {
            self.turn_off();
            state.on = false;
        }
    }

    fn turn_off(&self) {
        let (id, env) = (self.smmu.id, &self.smmu.env);
        for entry in &self.entries {
            env.ats().disable(id, entry.stream);
            let notice = Notice::AtsSwitched { smmu: id, stream: entry.stream, on: false };
            env.observer().notice(notice);
        }
    }

    /// Make the ATC empty before an STE with `EATS` (invariant 2). The device's switch goes on
    /// first: a device whose ATS is off may leave `ATC_INV` unanswered.
    pub(crate) fn clean_atc(&self, state: &mut AtsState) -> Result<(), SinkError> {
        if state.dirty {
            if self.enable_ats(state) {
                self.flush_atc(AtcPart::Everything)?;
            }
            // A device that does not turn ATS on sends no translated requests.
            state.dirty = !state.on;
        }
        Ok(())
    }
}
