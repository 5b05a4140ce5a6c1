//! The map of a guest's StreamIDs, sorted.

use proptest::prelude::*;
use rstest::rstest;
use smmu_attach::guest::{
    GuestConfig, GuestStream, HostEntry, SortedDevices, StreamMap, UnsortedDevices, VirtualDevice,
};
use smmu_types::StreamId;

const HOST: [StreamId; 3] = [StreamId(0x4100), StreamId(0x4200), StreamId(0x4201)];

fn device(guest: u32, host: &[StreamId]) -> VirtualDevice<'_> {
    VirtualDevice { guest: StreamId(guest), host, entry: HostEntry::INVALID }
}

/// Whatever StreamIDs there are and whichever a guest asks for, the answer is that of a search
/// through all.
#[rstest]
#[case::none(&[])]
#[case::one(&[7])]
#[case::the_first(&[0])]
#[case::the_last(&[u32::MAX])]
#[case::both_ends(&[0, u32::MAX])]
#[case::dense(&[4, 5, 6, 7, 8])]
#[case::slots(&[8, 16, 24, 32])]
#[case::functions(&[8, 16, 17, 24, 35])]
#[case::far_apart(&[1, 2, 4, 0x100, 0xffff_0000, 0xffff_fffe])]
fn a_sorted_map_answers_as_a_search(#[case] guests: &[u32]) {
    let devices: Vec<_> = guests.iter().map(|guest| device(*guest, &HOST[..1])).collect();
    let near =
        guests.iter().flat_map(|guest| [guest.wrapping_sub(1), *guest, guest.wrapping_add(1)]);
    let asked: Vec<_> = near.chain([0, 1, 0x7fff_ffff, u32::MAX]).collect();
    agrees(&devices, &asked);
}

fn agrees(devices: &[VirtualDevice<'_>], asked: &[u32]) {
    let map = SortedDevices::new(devices).unwrap();
    assert_eq!(map.devices(), devices);
    for guest in asked {
        let found = devices.iter().find(|device| device.guest.0 == *guest);
        let streams = map.host(StreamId(*guest)).map(|device| device.streams);
        assert_eq!(streams, found.map(|device| device.host), "{guest:#x}");
    }
}

proptest! {
    #[test]
    fn any_sorted_map(
        guests in proptest::collection::btree_set(any::<u32>(), 0..40),
        dense in proptest::collection::btree_set(0..60u32, 0..40),
        asked in proptest::collection::vec(any::<u32>(), 0..40),
    ) {
        for guests in [guests, dense] {
            let devices: Vec<_> = guests.iter().map(|guest| device(*guest, &HOST[..0])).collect();
            let asked: Vec<_> = asked.iter().copied().chain(guests).chain(0..64).collect();
            agrees(&devices, &asked);
        }
    }
}

#[test]
fn a_sorted_map_finds_the_guests_stream() {
    let devices = [device(8, &HOST[..1]), device(16, &HOST[1..])];
    let map = SortedDevices::new(&devices).unwrap();
    let of = |guest| Some(GuestStream { stream: StreamId(guest), config: GuestConfig::Invalid });
    assert_eq!(map.guest(HOST[0]), of(8));
    assert_eq!(map.guest(HOST[2]), of(16));
    assert_eq!(map.guest(StreamId(8)), None);
}

#[rstest]
#[case::descending(&[8, 16, 12], 2, 12)]
#[case::twice(&[8, 8], 1, 8)]
fn devices_in_another_order_are_refused(
    #[case] guests: &[u32],
    #[case] index: usize,
    #[case] stream: u32,
) {
    let devices: Vec<_> = guests.iter().map(|guest| device(*guest, &HOST[..1])).collect();
    let refused = SortedDevices::new(&devices).map(drop).unwrap_err();
    assert_eq!(refused, UnsortedDevices { index, stream: StreamId(stream) });
    assert!(refused.to_string().contains(&format!("device {index} has the guest's StreamID")));
}
