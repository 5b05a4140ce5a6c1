//! What the types say of themselves, in logs and in failed assertions.

use smmu_attach::*;
use smmu_invs::{InvKind, InvSpec};
use smmu_types::range::RangeSupport;
use smmu_types::*;

use crate::common::*;

#[test]
fn values_name_what_they_are() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu_of_kind(7, LARGE, None);
    let config = DeviceConfig::default().with_substream_bits(3);
    let device = smmu.add_device_with(&[StreamId(0x1234)], config).unwrap();
    let domain = fixture.domain(42, S1);
    let _ = device.attach(&domain).unwrap();
    let substream = device.substream(SubstreamId::new(5).unwrap()).unwrap();
    let group = Group::new(std::slice::from_ref(&device)).unwrap();
    let unmaps = DeferredUnmaps::<_, u64>::with_capacity(&domain, 1).unwrap();
    let member = group.substream(SubstreamId::new(5).unwrap()).unwrap();
    for (text, words) in [
        (format!("{smmu:?}"), &["Smmu", "SmmuId(7)", "asid_bits: 16"][..]),
        (format!("{device:?}"), &["Device", "SmmuId(7)", "StreamId(4660)"]),
        (format!("{domain:?}"), &["Domain", "DomainId(42)", "t0sz"]),
        (format!("{substream:?}"), &["Substream", "StreamId(4660)", "SubstreamId(5)"]),
        (format!("{group:?}"), &["Group", "StreamId(4660)"]),
        (format!("{member:?}"), &["GroupSubstream", "StreamId(4660)", "SubstreamId(5)"]),
        (format!("{unmaps:?}"), &["DeferredUnmaps", "DomainId(42)", "len: 0"]),
        (format!("{:?}", device.attachment()), &["Domain(", "42)"]),
        (format!("{:?}", substream.attachment()), &["Blocked"]),
        (format!("{:?}", fixture.env), &["Env"]),
        (format!("{:?}", domain.array()), &["ArrayView"]),
        (format!("{}", domain.array()), &["smmu7 S1_ASID 1 users=1"]),
        (Requirement::CoherentWalk.to_string(), &["coherent table walks"]),
        (TagNumber::Asid(Asid(9)).to_string(), &["ASID 9"]),
        (TagNumber::Vmid(Vmid(8)).to_string(), &["VMID 8"]),
    ] {
        for word in words {
            assert!(text.contains(word), "{text} does not say {word}");
        }
    }
    let _ = device.bypass().unwrap();
    assert_eq!(format!("{:?}", device.attachment()), "Bypass");
}

#[test]
fn an_array_finds_its_live_entries() {
    let fixture = Fixture::new();
    let device = fixture.device(&fixture.smmu_of_kind(7, LARGE, None), 8);
    let domain = fixture.domain(1, S1);
    let find = || domain.array().find(SmmuId(7), InvKind::S1Asid);
    assert_eq!(find(), None);
    let _ = device.attach(&domain).unwrap();
    let found = find().unwrap();
    let spec = InvSpec::tagged(SmmuId(7), ASID1, RangeSupport::Ril);
    assert_eq!((found.spec, found.users), (spec, 1));
    assert_eq!(domain.array().find(SmmuId(6), InvKind::S1Asid), None);
    let _ = device.block();
    assert_eq!(find(), None);
}
