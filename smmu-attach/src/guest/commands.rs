//! From a guest's commands to the host's commands.

use core::fmt;

use smmu_types::fields::commands::{
    atc_inv, cfgi_cd, opcode, tlbi_nh_all, tlbi_nh_asid, tlbi_nh_va,
};
use smmu_types::layout::Key;
use smmu_types::range::Span;
use smmu_types::{
    AtcSpan, AtsMode, Command, CommandErrorCode, Completion, Iova, MsiAttributes, RawCommand,
    StallModel, SteRange, StreamId,
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
    /// [`VirtualSmmu::reread`](crate::VirtualSmmu::reread) does all of it.
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
    One(RawCommand),
    /// The command once for each stream of the host.
    Each(RawCommand, &'m [StreamId]),
    Stop(Stop),
    Refuse(CommandReason),
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
            if let Some(command) = self.usual(*raw)
                && let Some(place) = output.get_mut(written)
            {
                *place = command;
                written += 1;
                continue;
            }
            let room = output.get_mut(written..).unwrap_or(&mut []);
            let stop = match self.step(*raw, map) {
                Step::Drop => continue,
                Step::One(command) => match room.first_mut() {
                    Some(place) => {
                        *place = command;
                        written += 1;
                        continue;
                    }
                    None => Stop::OutputFull { needed: 1 },
                },
                Step::Each(command, streams) => match room.get_mut(..streams.len()) {
                    Some(places) => {
                        for (place, stream) in places.iter_mut().zip(streams) {
                            *place = for_stream(command, *stream);
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

    #[inline(always)]
    fn step<'m, M: StreamMap + ?Sized>(&self, raw: RawCommand, map: &'m M) -> Step<'m> {
        // Two calls instead of one value from two sources: that would go through memory in halves,
        // and cost more than all of the rest.
        if is_plain(raw) { self.canonical_step(raw, map) } else { self.interpreted_step(raw, map) }
    }

    /// As [`step`](Self::step), for any bits.
    ///
    /// [`Command::interpret`] decides which bits have no effect. A guest's usual commands are seen to
    /// be canonical by their bits, which takes a fraction of the time.
    #[cold]
    #[inline(never)]
    fn interpreted_step<'m, M: StreamMap + ?Sized>(&self, raw: RawCommand, map: &'m M) -> Step<'m> {
        match Command::interpret(raw) {
            Command::Unknown(_) => Step::Refuse(CommandReason::Reserved),
            command => self.canonical_step(command.encode(), map),
        }
    }

    /// What becomes of a command without bits that have no effect.
    #[inline(always)]
    fn canonical_step<'m, M: StreamMap + ?Sized>(&self, raw: RawCommand, map: &'m M) -> Step<'m> {
        let caps = &self.guest_caps;
        match u64::from(raw.opcode()) {
            opcode::TLBI_NH_VA | opcode::TLBI_NH_VAA => match self.unsupported(raw) {
                None => Step::One(self.tagged(raw)),
                Some(what) => absent(what),
            },
            opcode::TLBI_NH_ASID | opcode::TLBI_NH_ALL => Step::One(self.tagged(raw)),
            // The guest has no stage 2, so all that it caches is of stage 1.
            opcode::TLBI_NSNH_ALL => Step::One(Command::TlbiNhAll { vmid: self.vmid }.encode()),
            opcode::CFGI_CD | opcode::CFGI_CD_ALL => each(raw, map),
            opcode::ATC_INV if !caps.ats => absent("no ATS (IDR0.ATS = 0)"),
            opcode::ATC_INV => match map.host(stream_of(raw)) {
                // A device whose ATS is off caches nothing, and does not answer: the time-out would
                // stop the host's queue.
                Some(device) if device.ats == AtsMode::Off => Step::Drop,
                Some(device) => Step::Each(raw, device.streams),
                None => Step::Refuse(CommandReason::UnknownStream(stream_of(raw))),
            },
            opcode::PREFETCH_CONFIG | opcode::PREFETCH_ADDR => Step::Drop,
            opcode::RESUME | opcode::STALL_TERM
                if caps.stall_model == StallModel::TerminateOnly =>
            {
                absent("no stalls (IDR0.STALL_MODEL = 1)")
            }
            opcode::STALL_TERM => each(raw, map),
            opcode::PRI_RESP if !caps.pri => absent("no page requests (IDR0.PRI = 0)"),
            opcode::RESUME | opcode::PRI_RESP => answer(raw, map),
            _ => of_the_host(raw),
        }
    }

    /// The host's command for an invalidation as guests usually send it, or `None`:
    /// [`step`](Self::step) gives the same for all others, in more time.
    #[inline(always)]
    const fn usual(&self, raw: RawCommand) -> Option<RawCommand> {
        let usual = match raw.opcode() as u64 {
            opcode::TLBI_NH_VA => is_plain_va(raw) && self.unsupported(raw).is_none(),
            opcode::TLBI_NH_ASID => no_bits_but(raw, NH_ASID),
            _ => false,
        };
        if usual { Some(self.tagged(raw)) } else { None }
    }

    /// The same command with the VMID of the virtual SMMU.
    #[inline]
    const fn tagged(&self, raw: RawCommand) -> RawCommand {
        let [w0, w1] = raw.0;
        let vmid = (self.vmid.0 as u64) << tlbi_nh_va::VMID.lo();
        RawCommand([w0 & !tlbi_nh_va::VMID.mask() | vmid, w1])
    }

    /// What the guest's ID registers lack for the operands of an invalidation by address.
    #[inline]
    const fn unsupported(&self, raw: RawCommand) -> Option<&'static str> {
        let caps = &self.guest_caps;
        if !raw.is_set(tlbi_nh_va::TG) {
            return None;
        }
        if !caps.range_invalidation {
            return Some("no range invalidation (IDR3.RIL = 0)");
        }
        if raw.get(tlbi_nh_va::SCALE) > 31 && !caps.wide_small_granules {
            return Some("a SCALE of 31 at most (IDR5.DS = 0)");
        }
        if raw.is_set(tlbi_nh_va::TTL128) {
            if !caps.wide_descriptors {
                return Some("no 128-bit descriptors (IDR5.D128 = 0)");
            }
        } else if raw.get(tlbi_nh_va::TG) == TG_16K
            && raw.get(tlbi_nh_va::TTL) == 1
            && !caps.wide_small_granules
        {
            return Some("no blocks at level 1 of 16 KiB granules (IDR5.DS = 0)");
        }
        None
    }
}

/// `TG`: granules of 16 KiB.
const TG_16K: u64 = 2;

const fn bits_of(keys: &[Key<RawCommand>]) -> [u64; 2] {
    let mut bits = [0; 2];
    let mut n = 0;
    while n < keys.len() {
        bits[keys[n].word()] |= keys[n].mask();
        n += 1;
    }
    bits
}

const NH_ALL: [u64; 2] = bits_of(&[tlbi_nh_all::OPCODE, tlbi_nh_all::VMID]);
const NH_ASID: [u64; 2] = bits_of(&[tlbi_nh_asid::OPCODE, tlbi_nh_asid::VMID, tlbi_nh_asid::ASID]);
const NH_VA: [u64; 2] = bits_of(&[
    tlbi_nh_va::OPCODE,
    tlbi_nh_va::VMID,
    tlbi_nh_va::ASID,
    tlbi_nh_va::LEAF,
    tlbi_nh_va::ADDRESS,
]);
const NH_VA_RANGE: [u64; 2] =
    bits_of(&[tlbi_nh_va::NUM, tlbi_nh_va::SCALE, tlbi_nh_va::TTL, tlbi_nh_va::TG]);
const CD: [u64; 2] =
    bits_of(&[cfgi_cd::OPCODE, cfgi_cd::SUBSTREAMID, cfgi_cd::STREAMID, cfgi_cd::LEAF]);
const ATC: [u64; 2] = bits_of(&[
    atc_inv::OPCODE,
    atc_inv::GLOBAL,
    atc_inv::STREAMID,
    atc_inv::SIZE,
    atc_inv::ADDRESS,
]);
const ATC_SUBSTREAM: [u64; 2] = bits_of(&[atc_inv::SSV, atc_inv::SUBSTREAMID]);

/// Whether a command has no bits but those that its encoder sets. False for many that have none
/// either.
#[inline(always)]
const fn is_plain(raw: RawCommand) -> bool {
    match raw.opcode() as u64 {
        opcode::TLBI_NH_ALL => no_bits_but(raw, NH_ALL),
        opcode::CFGI_CD => no_bits_but(raw, CD),
        opcode::ATC_INV => {
            let [w0, w1] = if raw.is_set(atc_inv::SSV) { ATC_SUBSTREAM } else { [0; 2] };
            let size = raw.get(atc_inv::SIZE);
            no_bits_but(raw, [ATC[0] | w0, ATC[1] | w1])
                && size < AtcSpan::MAX_SIZE as u64
                && raw.get(atc_inv::ADDRESS) & ((1 << (size + 12)) - 1) == 0
        }
        _ => false,
    }
}

#[inline]
const fn no_bits_but(raw: RawCommand, bits: [u64; 2]) -> bool {
    raw.0[0] & !bits[0] == 0 && raw.0[1] & !bits[1] == 0
}

/// As [`is_plain`], for an invalidation by address.
#[inline(always)]
const fn is_plain_va(raw: RawCommand) -> bool {
    if raw.is_set(tlbi_nh_va::TG) {
        let range = [NH_VA[0] | NH_VA_RANGE[0], NH_VA[1] | NH_VA_RANGE[1]];
        return no_bits_but(raw, range) && is_plain_range(raw);
    }
    no_bits_but(raw, NH_VA)
}

/// Whether a range with a level is aligned to an entry of the level, and is not cut.
#[inline]
const fn is_plain_range(raw: RawCommand) -> bool {
    let granule = 10 + 2 * raw.get(tlbi_nh_va::TG);
    let ttl = raw.get(tlbi_nh_va::TTL);
    // From 1 to 3, an entry of the level maps this many bits; 16 + 2 * 13 at most.
    let entry = granule + (3 - ttl) * (granule - 3);
    ttl != 0
        && raw.get(tlbi_nh_va::SCALE) <= Span::<Iova>::MAX_SCALE as u64
        && raw.get(tlbi_nh_va::ADDRESS) & ((1 << entry) - 1) == 0
}

/// The StreamID: all commands with one have it in the same place.
#[inline]
const fn stream_of(raw: RawCommand) -> StreamId {
    StreamId(raw.get(cfgi_cd::STREAMID) as u32)
}

/// The same command for another stream.
#[inline]
const fn for_stream(raw: RawCommand, stream: StreamId) -> RawCommand {
    let [w0, w1] = raw.0;
    let stream = (stream.0 as u64) << cfgi_cd::STREAMID.lo();
    RawCommand([w0 & !cfgi_cd::STREAMID.mask() | stream, w1])
}

#[inline]
fn each<M: StreamMap + ?Sized>(raw: RawCommand, map: &M) -> Step<'_> {
    match map.host(stream_of(raw)) {
        Some(device) => Step::Each(raw, device.streams),
        None => Step::Refuse(CommandReason::UnknownStream(stream_of(raw))),
    }
}

/// An answer to a stall or a page request goes to exactly one stream.
fn answer<M: StreamMap + ?Sized>(raw: RawCommand, map: &M) -> Step<'_> {
    match map.host(stream_of(raw)).map(|device| device.streams) {
        Some(streams @ [_]) => Step::Each(raw, streams),
        Some(streams) => Step::Refuse(CommandReason::NotOneStream { streams: streams.len() }),
        None => Step::Refuse(CommandReason::UnknownStream(stream_of(raw))),
    }
}

/// Commands that the host acts on, and those that a guest's SMMU has not.
#[cold]
#[inline(never)]
fn of_the_host<'m>(raw: RawCommand) -> Step<'m> {
    match Command::interpret(raw) {
        Command::CfgiSte { stream, .. } => reread(StreamSet::One(stream)),
        Command::CfgiSteRange { stream, range } => reread(StreamSet::Range(stream, range)),
        Command::CfgiAll => reread(StreamSet::All),
        Command::Sync { completion, attributes } => {
            Step::Stop(Stop::Sync { completion, attributes })
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

fn reread<'m>(set: StreamSet) -> Step<'m> {
    Step::Stop(Stop::Reread(set))
}

const fn absent<'m>(what: &'static str) -> Step<'m> {
    Step::Refuse(CommandReason::Absent(what))
}
