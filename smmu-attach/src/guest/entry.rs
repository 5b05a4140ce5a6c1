//! From a guest's STE to the host's STE.

use core::fmt;

use smmu_types::fields::ste as field;
use smmu_types::layout::Key;
use smmu_types::legal::{Rule, SmmuView};
use smmu_types::{AtsMode, EventKind, Ste};

use super::fields::{ACCEPTED, COPIED, STE_FIELDS};
use super::harm::first_harm;
use super::smmu::GuestSmmu;

/// Whether the host lets a guest use ATS with a device.
///
/// ATS lets a device send physical addresses that the SMMU does not translate again. A host allows
/// it for devices that it trusts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AtsPermission {
    /// The guest's `EATS` must be 0.
    #[default]
    Denied,
    /// The guest's `EATS` may be 1.
    Allowed,
}

/// What a guest's STE asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GuestConfig {
    /// `V` = 0, or an STE that was refused: transactions end in `C_BAD_STE`.
    Invalid,
    /// `Config` = 0 to 3: the SMMU aborts transactions without an event.
    Abort,
    /// `Config` = 4: the guest's stage 1 is bypassed; the host's stage 2 translates.
    Bypass,
    /// `Config` = 5: both stages translate.
    Stage1,
}

/// The entry that the host installs for a guest's STE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostEntry {
    pub(super) entry: Ste,
    pub(super) config: GuestConfig,
}

impl HostEntry {
    /// The entry for a guest's STE that is invalid or refused. It aborts, without an event.
    pub const INVALID: HostEntry = HostEntry { entry: Ste::ABORT, config: GuestConfig::Invalid };

    /// As [`INVALID`](Self::INVALID), and the host's SMMU records `C_BAD_STE` for each transaction,
    /// which [`GuestSmmu::event`] passes on.
    ///
    /// The SMMU does not merge these events, so a guest can flood the host's event queue with them.
    pub const INVALID_WITH_EVENTS: HostEntry =
        HostEntry { entry: Ste::INVALID, config: GuestConfig::Invalid };

    /// The STE to write.
    #[must_use]
    pub const fn entry(&self) -> Ste {
        self.entry
    }

    /// What the guest asked for.
    #[must_use]
    pub const fn config(&self) -> GuestConfig {
        self.config
    }

    /// Whether the host turns on ATS at the device.
    #[must_use]
    pub const fn ats(&self) -> AtsMode {
        self.entry.ats()
    }

    /// The event that the guest's SMMU records for a transaction through the guest's STE. `None` if
    /// the STE lets transactions in, or aborts them silently.
    ///
    /// [`INVALID`](Self::INVALID) makes the host's SMMU record nothing. An emulator that wants
    /// to show the event writes it itself, or installs
    /// [`INVALID_WITH_EVENTS`](Self::INVALID_WITH_EVENTS).
    #[must_use]
    pub const fn event(&self) -> Option<EventKind> {
        match self.config {
            GuestConfig::Invalid => Some(EventKind::C_BAD_STE),
            _ => None,
        }
    }
}

/// Why a guest's STE is refused.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum SteReason {
    /// The field must be 0, for this reason.
    MustBeZero(&'static str),
    /// `Config` has stage 2, which the guest's SMMU has not.
    Stage2,
    /// `EATS` is 1, and the host does not permit ATS with this device.
    AtsDenied,
    /// `EATS` is 2 or 3.
    AtsMode,
    /// The SMMU that the guest sees refuses the STE, or may.
    Guest(Rule),
    /// The host's SMMU refuses the entry, or may.
    Host(Rule),
}

impl SteReason {
    /// What the author of the guest, or of the emulator, can do.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            SteReason::MustBeZero(_) => "write 0",
            SteReason::Stage2 => "write 0 to abort, 4 to bypass, or 5 for stage 1",
            SteReason::AtsDenied => {
                "write 0; hide the device's ATS capability from the guest, or permit ATS"
            }
            SteReason::AtsMode => "write 0, or 1 for full ATS",
            SteReason::Guest(rule) | SteReason::Host(rule) => rule.remedy(),
        }
    }
}

impl fmt::Display for SteReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SteReason::MustBeZero(reason) => f.write_str(reason),
            SteReason::Stage2 => f.write_str("the guest's SMMU has no stage 2 (IDR0.S2P = 0)"),
            SteReason::AtsDenied => f.write_str("the host does not permit ATS with this device"),
            SteReason::AtsMode => f.write_str("a guest has full ATS or none"),
            SteReason::Guest(rule) => write!(f, "by the guest's ID registers, {rule}"),
            SteReason::Host(rule) => write!(f, "on the host's SMMU, {rule}"),
        }
    }
}

/// A guest's STE that is refused. The host installs [`HostEntry::INVALID`]; the guest's SMMU shows
/// `C_BAD_STE` for transactions.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the guest's STE has {field}{} = {value:#x}: {reason}; {}", Place(self), .reason.remedy())]
pub struct SteRefusal {
    /// The field, by the architecture's name; `reserved bits` for bits outside of all fields.
    pub field: &'static str,
    /// The highest and the lowest bit, counted from bit 0 of the STE.
    pub bits: (u16, u16),
    /// The value.
    pub value: u64,
    /// The rule.
    pub reason: SteReason,
}

impl SteRefusal {
    /// The entry that the host installs.
    #[must_use]
    pub const fn entry(&self) -> HostEntry {
        HostEntry::INVALID
    }

    /// The event that the guest's SMMU records for a transaction through the STE.
    #[must_use]
    pub const fn event(&self) -> EventKind {
        EventKind::C_BAD_STE
    }
}

/// The bits, where the field has no name that says so.
struct Place<'a>(&'a SteRefusal);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hi, lo) = self.0.bits;
        match self.0.field {
            RESERVED => write!(f, " {hi}:{lo}"),
            _ => Ok(()),
        }
    }
}

/// The name of bits outside of all fields.
const RESERVED: &str = "reserved bits";

const ABORTS_BELOW: u64 = 4;
const BYPASS: u64 = 4;
const STAGE1: u64 = 5;
const STAGE2: u64 = 6;
const NESTED: u64 = 7;

impl GuestSmmu {
    /// The entry that the host installs for a guest's STE.
    ///
    /// [`STE_FIELDS`] has the treatment of each field. The result depends on the used
    /// fields alone: reserved values become those that they behave as, and fields that the guest's
    /// ID registers leave without effect become 0.
    ///
    /// # Errors
    ///
    /// The guest's STE is refused: it sets a bit that the guest may not set, or the SMMU that the
    /// guest sees, or the host's SMMU, does not take it. Install [`SteRefusal::entry`].
    pub fn entry(&self, guest: &Ste, ats: AtsPermission) -> Result<HostEntry, SteRefusal> {
        if !guest.is_set(field::V) {
            return Ok(HostEntry::INVALID);
        }
        let config = match guest.get(field::CONFIG) {
            // 5.2: reserved values behave as 0, without an event.
            0..ABORTS_BELOW => {
                return Ok(HostEntry { entry: Ste::ABORT, config: GuestConfig::Abort });
            }
            BYPASS => GuestConfig::Bypass,
            STAGE1 => GuestConfig::Stage1,
            _ => return Err(refuse(guest, field::CONFIG, SteReason::Stage2)),
        };
        for (word, accepted) in ACCEPTED.iter().enumerate() {
            let excess = guest.0.get(word).copied().unwrap_or(0) & !accepted;
            if excess != 0 {
                return Err(not_zero(guest, word, excess));
            }
        }
        let entry = match config {
            GuestConfig::Stage1 => self.nested(guest, ats)?,
            _ => put(self.parent, field::CONFIG, STAGE2),
        };
        // A guest must not flood the host's event queue.
        let entry = put(entry, field::MEV, 1);
        judge(&entry, &self.host, SteReason::Host)?;
        Ok(HostEntry { entry, config })
    }

    fn nested(&self, guest: &Ste, ats: AtsPermission) -> Result<Ste, SteRefusal> {
        let seen = self.seen(guest);
        judge(&seen, &self.guest, SteReason::Guest)?;
        let ats = match (seen.get(field::EATS), ats) {
            (0, _) => 0,
            (1, AtsPermission::Allowed) => 1,
            (1, AtsPermission::Denied) => {
                return Err(refuse(guest, field::EATS, SteReason::AtsDenied));
            }
            _ => return Err(refuse(guest, field::EATS, SteReason::AtsMode)),
        };
        let mut entry = put(self.parent, field::CONFIG, NESTED);
        for ((word, seen), copied) in entry.0.iter_mut().zip(seen.0).zip(COPIED) {
            *word = *word & !copied | seen & copied;
        }
        // With both stages, the stream is of EL1.
        Ok(put(put(entry, field::EATS, ats), field::STRW, 0))
    }

    /// A stage-1 STE as the SMMU that the guest sees uses it: fields without effect are 0, and
    /// reserved values are those that they behave as.
    fn seen(&self, guest: &Ste) -> Ste {
        let mut seen = *guest;
        for key in [field::MEV, field::SW_RESERVED, field::NSCFG] {
            seen = put(seen, key, 0);
        }
        let caps = &self.guest_caps;
        if !caps.ats {
            seen = put(seen, field::EATS, 0);
        }
        if caps.ssid_bits == 0 {
            seen = put(seen, field::S1CDMAX, 0);
        }
        for (key, reserved) in [(field::S1FMT, 3), (field::S1DSS, 3), (field::S1CSH, 1)] {
            if seen.get(key) == reserved {
                seen = put(seen, key, 0);
            }
        }
        seen
    }
}

/// The same entry with another value in a field, which fits.
fn put(mut ste: Ste, key: Key<Ste>, value: u64) -> Ste {
    if let (Ok(placed), Some(word)) = (key.place(value), ste.0.get_mut(key.word())) {
        *word = *word & !key.mask() | placed;
    }
    ste
}

fn refuse(guest: &Ste, key: Key<Ste>, reason: SteReason) -> SteRefusal {
    SteRefusal { field: key.name(), bits: (key.hi(), key.lo()), value: guest.get(key), reason }
}

/// The lowest of the bits that must be 0.
fn not_zero(guest: &Ste, word: usize, excess: u64) -> SteRefusal {
    let lowest = excess & excess.wrapping_neg();
    let of =
        |row: &&super::fields::GuestField| row.key.word() == word && row.key.mask() & lowest != 0;
    if let Some(row) = STE_FIELDS.iter().find(of) {
        return refuse(guest, row.key, SteReason::MustBeZero(row.reason));
    }
    let bit = word as u16 * 64 + excess.trailing_zeros() as u16;
    let reason = SteReason::MustBeZero("the bit is reserved");
    SteRefusal { field: RESERVED, bits: (bit, bit), value: 1, reason }
}

fn judge(entry: &Ste, smmu: &SmmuView, reason: fn(Rule) -> SteReason) -> Result<(), SteRefusal> {
    let Some(finding) = first_harm(entry, smmu) else { return Ok(()) };
    let found = finding.field();
    Err(SteRefusal {
        field: found.name(),
        bits: (found.hi(), found.lo()),
        value: finding.value(),
        reason: reason(finding.rule()),
    })
}
