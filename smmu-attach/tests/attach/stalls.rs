//! The entries of devices whose transactions stall.

use rstest::rstest;
use smmu_attach::*;
use smmu_types::*;

use crate::common::*;

/// ID registers with this `IDR0.STALL_MODEL`.
const fn model(stall_model: u32) -> IdRegisters {
    IdRegisters { idr0: LARGE.idr0 & !(3 << 24) | stall_model << 24, ..LARGE }
}

const BOTH: u32 = 0;
const NONE: u32 = 1;
const FORCED: u32 = 2;

fn stalling() -> DeviceConfig {
    DeviceConfig::default().with_stalls()
}

// Bit 44 of a CD is S; bit 27 of word 1 of an STE is S1STALLD (IHI 0070, 5.2 and 5.5).
#[rstest]
#[case::stalls(BOTH, stalling(), 1, 0)]
#[case::may_stall_and_does_not(BOTH, DeviceConfig::default(), 0, 1)]
#[case::no_stalls_in_the_smmu(NONE, stalling(), 0, 0)]
#[case::terminates(NONE, DeviceConfig::default(), 0, 0)]
#[case::always_stalls(FORCED, stalling(), 1, 0)]
fn stage_1_stalls_where_device_and_smmu_can(
    #[case] stall_model: u32,
    #[case] config: DeviceConfig,
    #[case] s: u64,
    #[case] s1stalld: u64,
) {
    let fixture = Fixture::new();
    let smmu = fixture.smmu_of_kind(0, model(stall_model), None);
    let device = smmu.add_device_with(&[StreamId(8)], config).unwrap();
    let domain = fixture.domain(1, S1);
    assert_eq!(device.attach(&domain).unwrap().settled(), Ok(()));
    assert_eq!(device.read_cd().unwrap().0[0] >> 44 & 1, s);
    assert_eq!(device.read_ste().unwrap().0[1] >> 27 & 1, s1stalld);
    // From one domain to another the STE stays, so DMA goes on.
    let other = fixture.domain(2, S1);
    assert_eq!(device.attach(&other).unwrap().settled(), Ok(()));
    assert_eq!(device.read_cd().unwrap().0[0] >> 44 & 1, s);
    assert_eq!(device.read_ste().unwrap().0[1] >> 27 & 1, s1stalld);
    assert_eq!(device.block().settled(), Ok(()));
    assert_eq!(device.read_ste().unwrap(), Ste::ABORT);
}

// Bit 57 of word 2 of an STE is S2S.
#[rstest]
#[case::stalls(BOTH, stalling(), 1)]
#[case::may_stall_and_does_not(BOTH, DeviceConfig::default(), 0)]
#[case::no_stalls_in_the_smmu(NONE, stalling(), 0)]
#[case::always_stalls(FORCED, stalling(), 1)]
fn stage_2_stalls_where_device_and_smmu_can(
    #[case] stall_model: u32,
    #[case] config: DeviceConfig,
    #[case] s2s: u64,
) {
    let fixture = Fixture::new();
    let smmu = fixture.smmu_of_kind(0, model(stall_model), None);
    let device = smmu.add_device_with(&[StreamId(8)], config).unwrap();
    let domain = fixture.domain(1, S2);
    assert_eq!(device.attach(&domain).unwrap().settled(), Ok(()));
    assert_eq!(device.read_ste().unwrap().0[2] >> 57 & 1, s2s);
    assert_eq!(device.block().settled(), Ok(()));
}

/// Two devices of one domain: one stalls, the other does not.
#[test]
fn stalls_are_of_the_device() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu_of_kind(0, model(BOTH), None);
    let domain = fixture.domain(1, S1);
    let stalls = smmu.add_device_with(&[StreamId(8)], stalling()).unwrap();
    let other = smmu.add_device(&[StreamId(9)]).unwrap();
    for device in [&stalls, &other] {
        assert!(device.attach(&domain).is_ok());
    }
    let s = |device: &Device<_>| device.read_cd().unwrap().0[0] >> 44 & 1;
    assert_eq!((s(&stalls), s(&other)), (1, 0));
    for device in [&stalls, &other] {
        assert_eq!(device.block().settled(), Ok(()));
    }
}

#[rstest]
fn an_smmu_that_always_stalls_refuses_a_device_that_must_not(
    #[values(S1, S2)] stage: TranslationStage,
) {
    let fixture = Fixture::new();
    let smmu = fixture.smmu_of_kind(0, model(FORCED), None);
    let device = fixture.device(&smmu, 8);
    let error = device.attach(&fixture.domain(1, stage)).unwrap_err();
    let lacks = Requirement::Termination;
    let want = AttachError::CannotShare { domain: DomainId(1), smmu: SmmuId(0), lacks };
    assert_eq!(error, want);
}

/// A substream stalls as its device does.
#[test]
fn substreams_stall_as_their_device() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu_of_kind(0, model(BOTH), None);
    let config = stalling().with_substream_bits(4);
    assert_eq!((config.substream_bits, config.faults), (4, FaultModel::Stall));
    let device = smmu.add_device_with(&[StreamId(8)], config).unwrap();
    let domain = fixture.domain(1, S1);
    let substream = device.substream(SubstreamId::new(3).unwrap()).unwrap();
    assert!(substream.attach(&domain).is_ok());
    assert_eq!(substream.read_cd().unwrap().0[0] >> 44 & 1, 1);
    assert_eq!(device.read_ste().unwrap().0[1] >> 27 & 1, 0);
    let _ = substream.block();
}
