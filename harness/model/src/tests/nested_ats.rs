//! ATS of a nested stream: full, and split-stage (IHI 0070, 3.9.1 and 5.2, `EATS`).

use rstest::rstest;
use smmu_types::seam::RegistersExt;
use smmu_types::{AtcScope, AtcSpan, Command, Leaf, Vmid, regs};

use super::model_rig::{A, B, IOVA, S1_RW, S2_RW, SID, cfgi_ste, nh_va, s2_ipa};
use super::nested_rig::{ASID, Guest, VMID, ipa};
use super::substream_rig::{device, profile, quiet};
use crate::AtsDmaFailure::{Refused, Request};
use crate::AtsRequestFailure::{NoAccess, Unsupported};
use crate::{AtsSwitch, ModelDevice, Profile};

const FULL: u64 = 1 << 28;
const SPLIT: u64 = 2 << 28;

/// `CR0` with `ATSCHK`, and without.
const CHECKED: u32 = 0x1d;
const UNCHECKED: u32 = 0xd;

fn with_ats(prefetch: bool) -> Profile {
    Profile { ats: true, ats_errors: true, prefetch, ..profile() }
}

fn on(eats: u64) -> (Guest, ModelDevice) {
    // Without a prefetcher, so that a device does not ask again by itself.
    let guest = Guest::with(with_ats(false));
    guest.configure(guest.rig.cd(SID), eats);
    guest.rig.regs.write(regs::CR0, CHECKED);
    let device = device(&guest.rig, SID, None);
    device.switch_ats(AtsSwitch::On);
    (guest, device)
}

fn atc_inv() -> Command {
    let (scope, span) = (AtcScope::Substream, AtcSpan::EVERYTHING);
    Command::AtcInv { stream: SID, substream: None, scope, span }
}

/// What a TLBI of the hypervisor drops after a change of stage 2 at an IPA.
fn forget(guest: &Guest, page: u64) {
    let all = Command::TlbiNhAll { vmid: Vmid(VMID) };
    guest.rig.run(&[s2_ipa(VMID, ipa(page), Leaf::Last), all]);
}

#[rstest]
#[case::full(FULL, A)]
#[case::split(SPLIT, ipa(A))]
fn what_the_device_gets(#[case] eats: u64, #[case] address: u64) {
    let (guest, device) = on(eats);
    let got = device.ats_request(IOVA).unwrap();
    assert_eq!((got.address.0, got.bytes), (address, 0x1000));
    device.ats_write32(IOVA + 8, 7).unwrap();
    assert_eq!((guest.rig.get(A + 8), device.ats_read32(IOVA + 8)), (7, Ok(7)));
    quiet(&guest.rig);
    assert_eq!(guest.rig.event_lines(), Vec::<String>::new());
}

/// Both stages grant the permissions, also where the address is that of stage 1 alone.
#[rstest]
fn what_both_stages_allow(#[values(FULL, SPLIT)] eats: u64, #[values(1, 2)] read_only: u8) {
    let (guest, device) = on(eats);
    match read_only {
        1 => guest.map(IOVA, ipa(A), S1_RW | 1 << 7),
        _ => guest.back(A, A, S2_RW & !(1 << 7)),
    }
    let got = device.ats_request(IOVA).unwrap();
    assert!(got.permissions.read && !got.permissions.write);
    quiet(&guest.rig);
}

// 3.9.1.2: a fault of either stage is a success without permissions, also in the fetch of a CD.
#[rstest]
fn a_request_that_faults(#[values(FULL, SPLIT)] eats: u64, #[values(0, 1, 2, 3)] place: u8) {
    let (guest, device) = on(eats);
    match place {
        0 => guest.hide(guest.rig.cd(SID) & !0xfff),
        1 => guest.hide(guest.leaf_table()),
        2 => guest.hide(A),
        _ => guest.map(IOVA, 0, 0),
    }
    assert_eq!(device.ats_request(IOVA), Err(NoAccess));
    assert_eq!(guest.rig.event_lines(), Vec::<String>::new());
    quiet(&guest.rig);
}

#[rstest]
#[case::full(FULL)]
#[case::split(SPLIT)]
fn the_guest_changes_a_page(#[case] eats: u64) {
    let (guest, device) = on(eats);
    device.ats_write32(IOVA, 7).unwrap();
    guest.map(IOVA, ipa(B), S1_RW);
    guest.rig.run(&[nh_va(VMID, ASID, IOVA, Leaf::Last)]);
    let stale = format!("ATC_INV sid=0x8 iova={IOVA:#x} size=0");
    assert_eq!(guest.rig.audit(), [stale.as_str()]);
    device.ats_write32(IOVA, 8).unwrap();
    assert_eq!((guest.rig.get(A), guest.rig.missing()), (8, vec![stale]));
    guest.rig.run(&[atc_inv()]);
    device.ats_write32(IOVA, 9).unwrap();
    assert_eq!(guest.rig.get(B), 9);
    quiet(&guest.rig);
}

/// With full ATS the device reaches what the hypervisor took away. Split-stage ATS is for that.
#[rstest]
#[case::full(FULL, Ok(()))]
#[case::split(SPLIT, Err(Refused))]
fn the_hypervisor_takes_a_page_away(
    #[case] eats: u64,
    #[case] expected: Result<(), crate::AtsDmaFailure>,
) {
    let (guest, device) = on(eats);
    device.ats_write32(IOVA, 7).unwrap();
    guest.hide(A);
    forget(&guest, A);
    let stale = format!("ATC_INV sid=0x8 iova={IOVA:#x} size=0");
    // 3.9.1: a change of either stage needs ATC_INV, in both modes.
    assert_eq!(guest.rig.audit(), [stale]);
    assert_eq!(device.ats_write32(IOVA, 8), expected);
    let forbidden =
        format!("F_TRANSLATION sid=0x8 write iova={a:#x} class=IN stage=2 ipa={a:#x}", a = ipa(A));
    let events = if expected.is_ok() { vec![] } else { vec![forbidden] };
    assert_eq!(guest.rig.event_lines(), events);
    guest.rig.missing();
    guest.rig.run(&[atc_inv()]);
    assert_eq!(device.ats_write32(IOVA, 8), Err(Request(NoAccess)));
    quiet(&guest.rig);
}

/// The device holds an IPA, so it follows a page that moves behind it.
#[test]
fn a_page_moves_behind_split_stage_ats() {
    let (guest, device) = on(SPLIT);
    device.ats_write32(IOVA, 7).unwrap();
    guest.back(A, B, S2_RW);
    assert_eq!(device.ats_write32(IOVA, 8), Ok(()));
    assert_eq!(guest.rig.get(A), 8, "through the old line of stage 2");
    let stale = format!("TLBI_S2_IPA vmid=3 ipa={:#x} leaf=1", ipa(A));
    assert_eq!(guest.rig.missing(), [stale]);
    forget(&guest, A);
    assert_eq!((device.ats_write32(IOVA, 9), guest.rig.get(B)), (Ok(()), 9));
    quiet(&guest.rig);
}

/// 3.9.1.2: split-stage ATS is off without `ATSCHK`.
#[test]
fn split_stage_ats_needs_atschk() {
    let (guest, device) = on(SPLIT);
    guest.rig.regs.write(regs::CR0, UNCHECKED);
    assert_eq!(device.ats_request(IOVA), Err(Unsupported));
    let refused = format!("F_BAD_ATS_TREQ sid=0x8 iova={IOVA:#x} span=1 access=rw-");
    assert_eq!(guest.rig.event_lines(), [refused]);
}

/// A device that holds IPAs from before the mode changed.
#[test]
fn the_mode_changes() {
    let (guest, device) = on(SPLIT);
    device.ats_write32(IOVA, 7).unwrap();
    guest.rig.put(guest.rig.ste(SID) + 8, FULL);
    guest.rig.run(&[cfgi_ste(SID)]);
    assert_eq!(guest.rig.audit(), [format!("ATC_INV sid=0x8 iova={IOVA:#x} size=0")]);
}

/// 13.6: S1DSS skips stage 1, and stage 2 still translates.
#[rstest]
#[case::full(FULL, A)]
#[case::split(SPLIT, ipa(A))]
fn a_request_that_skips_stage_1(#[case] eats: u64, #[case] address: u64) {
    let (guest, device) = on(eats);
    let ste = guest.rig.ste(SID);
    guest.rig.put(ste, guest.rig.get(ste) | 2 << 59);
    guest.rig.put(ste + 8, eats | 1);
    guest.rig.run(&[cfgi_ste(SID)]);
    assert_eq!(device.ats_request(ipa(A)).unwrap().address.0, address);
    device.ats_write32(ipa(A), 7).unwrap();
    assert_eq!(guest.rig.get(A), 7);
    assert_eq!(device.ats_request(1 << 44), Err(NoAccess));
    quiet(&guest.rig);
}

/// A device that asks again between the TLBI and its `CMD_SYNC` may get the old answer (4.5.1).
#[rstest]
#[case::full(FULL, A)]
#[case::split(SPLIT, ipa(A))]
fn an_answer_from_a_dropped_line(#[case] eats: u64, #[case] address: u64) {
    let guest = Guest::with(with_ats(true));
    guest.configure(guest.rig.cd(SID), eats);
    guest.rig.regs.write(regs::CR0, CHECKED);
    let device = device(&guest.rig, SID, None);
    device.switch_ats(AtsSwitch::On);
    device.ats_write32(IOVA, 7).unwrap();
    guest.map(IOVA, ipa(B), S1_RW);
    guest.rig.run(&[nh_va(VMID, ASID, IOVA, Leaf::Last), atc_inv()]);
    let entries = device.atc_entries();
    assert_eq!(entries[0].1.address.0, address);
    assert_eq!(guest.rig.audit(), [format!("ATC_INV sid=0x8 iova={IOVA:#x} size=0")]);
    guest.rig.run(&[atc_inv()]);
    assert_eq!(guest.rig.audit(), Vec::<String>::new());
}
