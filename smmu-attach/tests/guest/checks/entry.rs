//! A guest's STE, whatever its bits.

use smmu_attach::guest::{AtsPermission, GuestConfig, HostEntry};
use smmu_types::legal::{self, Effect, SmmuView};
use smmu_types::{AtsMode, EventKind, Ste};

use super::world::{VMID, World};

/// S1Fmt, S1ContextPtr, S1CDMax of word 0; S1DSS, S1CIR, S1COR, S1CSH, S1STALLD of word 1.
pub(crate) const WHERE_S1: [u64; 2] = [0xf8ff_ffff_ffff_fff0, 0x0800_00ff];

const MEV: u64 = 1 << 19;
const EATS: u64 = 3 << 28;

/// The host's entry for any eight words.
pub(crate) fn entry(world: &World, words: [u64; 8], ats: AtsPermission) {
    let guest = Ste(words);
    let found = world.smmu.entry(&guest, ats);
    let entry = match found {
        Ok(entry) => entry,
        Err(refusal) => {
            assert_eq!(refusal.event(), EventKind::C_BAD_STE);
            assert_eq!(refusal.entry(), HostEntry::INVALID);
            let text = refusal.to_string();
            assert!(text.contains(refusal.field) && text.len() > 40, "{text}");
            let (hi, lo) = refusal.bits;
            assert!(hi >= lo && hi / 64 == lo / 64 && hi < 512, "{text}");
            // An invalid or aborting entry is never refused.
            assert!(words[0] & 1 == 1 && words[0] >> 3 & 1 == 1, "{text}");
            return;
        }
    };
    let (valid, config) = (words[0] & 1, words[0] >> 1 & 7);
    let expected = match (valid, config) {
        (0, _) => GuestConfig::Invalid,
        (_, 0..=3) => GuestConfig::Abort,
        (_, 4) => GuestConfig::Bypass,
        (_, 5) => GuestConfig::Stage1,
        _ => panic!("Config {config} was taken"),
    };
    assert_eq!(entry.config(), expected);
    assert_eq!(entry.event().is_some(), expected == GuestConfig::Invalid);
    let host = entry.entry();
    match expected {
        GuestConfig::Invalid | GuestConfig::Abort => {
            assert_eq!(host.0, [1, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(entry.ats(), AtsMode::Off);
            return;
        }
        GuestConfig::Bypass => {
            assert_eq!(host.0[0], 0xd, "V and Config = 6");
            assert_eq!(host.0[1], world.parent.0[1] | MEV);
        }
        GuestConfig::Stage1 => {
            assert_eq!(host.0[0] & 0xf, 0xf, "V and Config = 7");
            let of_the_host = !(WHERE_S1[1] | EATS);
            assert_eq!(host.0[1] & of_the_host, world.parent.0[1] | MEV);
            copied(world, &guest, &host);
        }
    }
    // inv_3: stage 2 is the parent's in every bit.
    assert_eq!(host.0[2..], world.parent.0[2..]);
    assert_eq!(host.0[2] & 0xffff, VMID.into());
    permitted(world, &guest, &host, ats);
    // inv_4.
    legal::ste(&host, &SmmuView::new(world.host), &mut |finding| {
        assert!(matches!(finding.effect(), Effect::Ignored | Effect::Reserved), "{finding}");
    });
    again(world, entry, ats);
}

/// Fields of stage 1 are the guest's, apart from reserved values and fields without effect.
fn copied(world: &World, guest: &Ste, host: &Ste) {
    let differs = [0, 1].map(|word| (guest.0[word] ^ host.0[word]) & WHERE_S1[word]);
    let substreams = world.ids.idr1 >> 6 & 0x1f != 0;
    let mut may = [0, 0];
    if guest.0[0] >> 4 & 3 == 3 {
        may[0] |= 3 << 4;
    }
    if !substreams {
        assert_eq!(host.0[0] >> 59, 0, "S1CDMax without substreams");
        may[0] |= 0x1f << 59;
    }
    if guest.0[1] & 3 == 3 {
        may[1] |= 3;
    }
    if guest.0[1] >> 6 & 3 == 1 {
        may[1] |= 3 << 6;
    }
    assert_eq!([differs[0] & !may[0], differs[1] & !may[1]], [0, 0], "{guest:x?} {host:x?}");
    assert_ne!(host.0[0] >> 4 & 3, 3, "reserved S1Fmt");
    assert_ne!(host.0[1] & 3, 3, "reserved S1DSS");
    assert_ne!(host.0[1] >> 6 & 3, 1, "reserved S1CSH");
}

fn permitted(world: &World, guest: &Ste, host: &Ste, ats: AtsPermission) {
    let eats = |ste: &Ste| ste.0[1] >> 28 & 3;
    if eats(host) != 0 {
        assert_eq!((eats(host), eats(guest)), (1, 1));
        assert_eq!(ats, AtsPermission::Allowed);
        assert_eq!(world.ids.idr0 >> 10 & 1, 1, "the guest sees no ATS");
        assert_eq!(host.0[0] & 0xf, 0xf, "ATS without stage 1");
    }
}

/// The guest part of the host's entry gives the same entry again.
fn again(world: &World, entry: HostEntry, ats: AtsPermission) {
    let host = entry.entry().0;
    let config = if entry.config() == GuestConfig::Stage1 { 0xb } else { 0x9 };
    let words = [host[0] & WHERE_S1[0] | config, host[1] & (WHERE_S1[1] | EATS), 0, 0, 0, 0, 0, 0];
    assert_eq!(world.smmu.entry(&Ste(words), ats).unwrap(), entry);
}
