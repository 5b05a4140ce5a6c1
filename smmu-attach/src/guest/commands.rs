//! From a guest's commands to the host's commands.

use core::fmt;

use smmu_types::range::{Level, LevelHint, Span};
use smmu_types::{
    AtcScope, AtcSpan, AtsMode, Command, CommandErrorCode, Completion, Granule, Iova, Leaf,
    MsiAttributes, PrgIndex, PriResponse, RawCommand, ResumeAction, StallModel, SteRange, StreamId,
    SubstreamId,
};

use super::smmu::GuestSmmu;
use super::streams::StreamMap;

/// How far a batch came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the batch may have stopped at a command that the host acts on"]
pub struct Progress {
    /// How many of the guest's commands are translated or dropped. The guest's `CMDQ_CONS` may
    /// move by this number once the host's commands are complete.
    pub done: usize,
    /// How many commands for the host are in the output.
    pub written: usize,
    /// Why the translation stopped.
    pub stop: Stop,
}

impl Progress {
    /// The index at which the host continues once it has dealt with [`stop`](Self::stop). It is at
    /// least 1, so a loop that continues there ends.
    ///
    /// `None` at the end of the batch; at a refused command, where the guest's queue stops; and if
    /// the whole output is too small for the first command.
    #[must_use]
    pub const fn resume(&self) -> Option<usize> {
        match self.stop {
            Stop::End | Stop::Refused(_) => None,
            Stop::OutputFull { .. } if self.done == 0 => None,
            Stop::OutputFull { .. } => Some(self.done),
            Stop::Reread(_) | Stop::Sync { .. } => Some(self.done + 1),
        }
    }

    /// The error that the guest's `CMDQ_CONS` shows at index `done`.
    #[must_use]
    pub const fn error_code(&self) -> CommandErrorCode {
        match self.stop {
            Stop::Refused(_) => CommandErrorCode::ILL,
            _ => CommandErrorCode::NONE,
        }
    }
}

/// Why a translation stopped at the command with index [`Progress::done`].
///
/// In each case the host first sends what is in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// The whole batch is done.
    End,
    /// The output has no room for the commands of the next one. Continue with at least this much.
    OutputFull {
        /// Commands that the next one becomes.
        needed: usize,
    },
    /// The guest has changed STEs. For each of *its* devices in the set the host reads the guest's
    /// STE, calls [`GuestSmmu::entry`] and installs the result, with `CFGI_STE` even if the entry
    /// is the same: the command also drops the CDs of the stream.
    Reread(StreamSet),
    /// A `CMD_SYNC`. The host waits until the commands before it are complete, and then signals
    /// the guest.
    Sync {
        /// How the guest wants to be told.
        completion: Completion,
        /// The attributes of the guest's MSI.
        attributes: MsiAttributes,
    },
    /// A command that the guest may not send. The guest's queue stops at it with
    /// [`Progress::error_code`].
    Refused(CommandRefusal),
}

/// A set of a guest's StreamIDs.
///
/// A set can have 2^32 members: go through the devices of the guest and ask
/// [`contains`](Self::contains), never through the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamSet {
    /// `CMD_CFGI_STE`.
    One(StreamId),
    /// `CMD_CFGI_STE_RANGE`: the aligned block with this StreamID.
    Range(StreamId, SteRange),
    /// `CMD_CFGI_ALL`.
    All,
}

impl StreamSet {
    /// Whether a StreamID is in the set.
    #[must_use]
    pub const fn contains(&self, stream: StreamId) -> bool {
        match *self {
            StreamSet::One(one) => one.0 == stream.0,
            // `entries` is a power of two, of 2^31 at most.
            StreamSet::Range(of, range) => (of.0 ^ stream.0) & !(range.entries() - 1) == 0,
            StreamSet::All => true,
        }
    }
}

/// A guest's command that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("command {index} of the guest, {command} ({}): {reason}; {}", Command::interpret(*command), .reason.remedy())]
pub struct CommandRefusal {
    /// Its index in the batch.
    pub index: usize,
    /// The command.
    pub command: RawCommand,
    /// The rule.
    pub reason: CommandReason,
}

/// Why a guest's command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandReason {
    /// The opcode is unknown, or a reserved bit or value is set.
    Reserved,
    /// The guest's ID registers lack the feature.
    Absent(&'static str),
    /// The guest has no device with this StreamID.
    UnknownStream(StreamId),
    /// The answer to a stalled transaction or a page request must reach one stream of the host, and
    /// the device does not have exactly one.
    NotOneStream {
        /// How many streams it has.
        streams: usize,
    },
}

impl CommandReason {
    /// What the author of the guest, or of the emulator, can do.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            CommandReason::Reserved => "send only what the architecture defines",
            CommandReason::Absent(_) => "do not send it to an SMMU with these ID registers",
            CommandReason::UnknownStream(_) => {
                "the StreamMap answers with an empty list for a device without a stream of the host"
            }
            CommandReason::NotOneStream { .. } => {
                "give stalls and page requests only to devices with one StreamID"
            }
        }
    }
}

impl fmt::Display for CommandReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandReason::Reserved => f.write_str("a reserved opcode, field or value"),
            CommandReason::Absent(what) => write!(f, "the guest's SMMU has {what}"),
            CommandReason::UnknownStream(stream) => {
                write!(f, "the guest has no device with StreamID {stream}")
            }
            CommandReason::NotOneStream { streams } => {
                write!(
                    f,
                    "the device has {streams} StreamIDs of the host, and one must be answered"
                )
            }
        }
    }
}

/// What becomes of one command.
enum Step<'m> {
    Drop,
    One(Command),
    /// The command once for each stream of the host.
    Each(ForStream, &'m [StreamId]),
    Stop(Stop),
    Refuse(CommandReason),
}

/// A command about a stream, without the StreamID.
#[derive(Clone, Copy)]
enum ForStream {
    CfgiCd(SubstreamId, Leaf),
    CfgiCdAll,
    AtcInv(Option<SubstreamId>, AtcScope, AtcSpan),
    Resume(u16, ResumeAction),
    StallTerm,
    PriResp(Option<SubstreamId>, PrgIndex, PriResponse),
}

impl ForStream {
    #[inline]
    const fn with(self, stream: StreamId) -> Command {
        match self {
            ForStream::CfgiCd(substream, leaf) => Command::CfgiCd { stream, substream, leaf },
            ForStream::CfgiCdAll => Command::CfgiCdAll { stream },
            ForStream::AtcInv(substream, scope, span) => {
                Command::AtcInv { stream, substream, scope, span }
            }
            ForStream::Resume(tag, action) => Command::Resume { stream, tag, action },
            ForStream::StallTerm => Command::StallTerm { stream },
            ForStream::PriResp(substream, group, response) => {
                Command::PriResp { stream, substream, group, response }
            }
        }
    }
}

impl GuestSmmu {
    /// Translates a guest's commands, in order, until one needs the host.
    ///
    /// | the guest's command | becomes |
    /// |---|---|
    /// | `TLBI_NSNH_ALL`, `TLBI_NH_ALL` | `TLBI_NH_ALL`, VMID forced |
    /// | `TLBI_NH_ASID`, `TLBI_NH_VA`, `TLBI_NH_VAA` | the same, VMID forced |
    /// | `CFGI_CD`, `CFGI_CD_ALL` | the same, for each StreamID of the host |
    /// | `ATC_INV` | the same, for each StreamID of the host; dropped while ATS is off at the device |
    /// | `STALL_TERM` | the same, for each StreamID of the host, if the guest sees stalls |
    /// | `RESUME` | the same for a device with one StreamID of the host, if the guest sees stalls |
    /// | `PRI_RESP` | the same for a device with one StreamID of the host, if the guest sees `IDR0.PRI` |
    /// | `CFGI_STE`, `CFGI_STE_RANGE`, `CFGI_ALL` | [`Stop::Reread`] |
    /// | `SYNC` | [`Stop::Sync`] |
    /// | `PREFETCH_CONFIG`, `PREFETCH_ADDR` | nothing: they are hints |
    /// | all others | [`Stop::Refused`], with `CERROR_ILL` |
    ///
    /// Each command is taken as [`Command::interpret`] takes it, and encoded anew: no bit of the
    /// guest's reaches the host that no field accounts for.
    ///
    /// The call ends after `batch.len()` commands, and writes `output.len()` commands at most. It
    /// never writes a part of a command's translation.
    ///
    /// If the host's queue fails in the middle, [`done_after`](Self::done_after) tells how far the
    /// guest's queue came.
    pub fn commands<M: StreamMap + ?Sized>(
        &self,
        batch: &[RawCommand],
        map: &M,
        output: &mut [RawCommand],
    ) -> Progress {
        let mut written = 0;
        for (done, raw) in batch.iter().enumerate() {
            let room = output.get_mut(written..).unwrap_or(&mut []);
            let stop = match self.step(*raw, map) {
                Step::Drop => continue,
                Step::One(command) => match room.first_mut() {
                    Some(place) => {
                        *place = command.encode();
                        written += 1;
                        continue;
                    }
                    None => Stop::OutputFull { needed: 1 },
                },
                Step::Each(command, streams) => match room.get_mut(..streams.len()) {
                    Some(places) => {
                        for (place, stream) in places.iter_mut().zip(streams) {
                            *place = command.with(*stream).encode();
                        }
                        written += streams.len();
                        continue;
                    }
                    None => Stop::OutputFull { needed: streams.len() },
                },
                Step::Stop(stop) => stop,
                Step::Refuse(reason) => {
                    Stop::Refused(CommandRefusal { index: done, command: *raw, reason })
                }
            };
            return Progress { done, written, stop };
        }
        Progress { done: batch.len(), written, stop: Stop::End }
    }

    /// How many commands of a batch are done once the host has carried out the first `host_done`
    /// commands of its output.
    ///
    /// `batch` and the answers of `map` are those of the call of [`commands`](Self::commands).
    #[must_use]
    pub fn done_after<M: StreamMap + ?Sized>(
        &self,
        batch: &[RawCommand],
        map: &M,
        host_done: usize,
    ) -> usize {
        let mut left = host_done;
        for (done, raw) in batch.iter().enumerate() {
            let needs = match self.step(*raw, map) {
                Step::Drop => 0,
                Step::One(_) => 1,
                Step::Each(_, streams) => streams.len(),
                Step::Stop(_) | Step::Refuse(_) => return done,
            };
            let Some(rest) = left.checked_sub(needs) else { return done };
            left = rest;
        }
        batch.len()
    }

    #[inline]
    fn step<'m, M: StreamMap + ?Sized>(&self, raw: RawCommand, map: &'m M) -> Step<'m> {
        let (vmid, caps) = (self.vmid, &self.guest_caps);
        match Command::interpret(raw) {
            Command::TlbiNhVa { asid, span, .. } => match self.unsupported(&span) {
                None => Step::One(Command::TlbiNhVa { vmid, asid, span }),
                Some(absent) => Step::Refuse(CommandReason::Absent(absent)),
            },
            Command::TlbiNhVaa { span, .. } => match self.unsupported(&span) {
                None => Step::One(Command::TlbiNhVaa { vmid, span }),
                Some(absent) => Step::Refuse(CommandReason::Absent(absent)),
            },
            Command::TlbiNhAsid { asid, .. } => Step::One(Command::TlbiNhAsid { vmid, asid }),
            // The guest has no stage 2, so all that it caches is of stage 1.
            Command::TlbiNhAll { .. } | Command::TlbiNsnhAll => {
                Step::One(Command::TlbiNhAll { vmid })
            }
            Command::CfgiCd { stream, substream, leaf } => {
                each(ForStream::CfgiCd(substream, leaf), stream, map)
            }
            Command::CfgiCdAll { stream } => each(ForStream::CfgiCdAll, stream, map),
            Command::AtcInv { .. } if !caps.ats => absent("no ATS (IDR0.ATS = 0)"),
            Command::AtcInv { stream, substream, scope, span } => match map.host(stream) {
                // A device whose ATS is off caches nothing, and does not answer: the time-out would
                // stop the host's queue.
                Some(device) if device.ats == AtsMode::Off => Step::Drop,
                Some(device) => {
                    Step::Each(ForStream::AtcInv(substream, scope, span), device.streams)
                }
                None => Step::Refuse(CommandReason::UnknownStream(stream)),
            },
            Command::CfgiSte { stream, .. } => reread(StreamSet::One(stream)),
            Command::CfgiSteRange { stream, range } => reread(StreamSet::Range(stream, range)),
            Command::CfgiAll => reread(StreamSet::All),
            Command::Sync { completion, attributes } => {
                Step::Stop(Stop::Sync { completion, attributes })
            }
            Command::PrefetchConfig { .. } | Command::PrefetchAddr { .. } => Step::Drop,
            Command::Resume { .. } | Command::StallTerm { .. }
                if caps.stall_model == StallModel::TerminateOnly =>
            {
                absent("no stalls (IDR0.STALL_MODEL = 1)")
            }
            Command::PriResp { .. } if !caps.pri => absent("no page requests (IDR0.PRI = 0)"),
            Command::Resume { stream, tag, action } => {
                answer(ForStream::Resume(tag, action), stream, map)
            }
            Command::StallTerm { stream } => each(ForStream::StallTerm, stream, map),
            Command::PriResp { stream, substream, group, response } => {
                answer(ForStream::PriResp(substream, group, response), stream, map)
            }
            Command::TlbiS12Vmall { .. } | Command::TlbiS2Ipa { .. } => {
                absent("no stage 2 (IDR0.S2P = 0)")
            }
            Command::TlbiEl2All
            | Command::TlbiEl2Asid { .. }
            | Command::TlbiEl2Va { .. }
            | Command::TlbiEl2Vaa { .. } => absent("no EL2 (IDR0.Hyp = 0)"),
            Command::CfgiVmsPidm { .. } => absent("no MPAM (IDR3.MPAM = 0)"),
            Command::DptiAll => absent("no device permission table (IDR3.DPT = 0)"),
            _ => Step::Refuse(CommandReason::Reserved),
        }
    }

    /// What the guest's ID registers lack for these operands.
    #[inline]
    fn unsupported(&self, span: &Span<Iova>) -> Option<&'static str> {
        let granule = span.tg().granule()?;
        let caps = &self.guest_caps;
        if !caps.range_invalidation {
            return Some("no range invalidation (IDR3.RIL = 0)");
        }
        if span.scale() > 31 && !caps.wide_small_granules {
            return Some("a SCALE of 31 at most (IDR5.DS = 0)");
        }
        match span.hint() {
            LevelHint::Bits128(_) if !caps.wide_descriptors => {
                Some("no 128-bit descriptors (IDR5.D128 = 0)")
            }
            LevelHint::Bits64(Level::L1)
                if granule == Granule::K16 && !caps.wide_small_granules =>
            {
                Some("no blocks at level 1 of 16 KiB granules (IDR5.DS = 0)")
            }
            _ => None,
        }
    }
}

fn reread<'m>(set: StreamSet) -> Step<'m> {
    Step::Stop(Stop::Reread(set))
}

fn absent<'m>(what: &'static str) -> Step<'m> {
    Step::Refuse(CommandReason::Absent(what))
}

#[inline]
fn each<M: StreamMap + ?Sized>(command: ForStream, stream: StreamId, map: &M) -> Step<'_> {
    match map.host(stream) {
        Some(device) => Step::Each(command, device.streams),
        None => Step::Refuse(CommandReason::UnknownStream(stream)),
    }
}

/// An answer to a stall or a page request goes to exactly one stream.
fn answer<M: StreamMap + ?Sized>(command: ForStream, stream: StreamId, map: &M) -> Step<'_> {
    let Some(device) = map.host(stream) else {
        return Step::Refuse(CommandReason::UnknownStream(stream));
    };
    match device.streams {
        [_] => Step::Each(command, device.streams),
        streams => Step::Refuse(CommandReason::NotOneStream { streams: streams.len() }),
    }
}
