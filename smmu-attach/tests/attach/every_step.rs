//! Each hardware step of each kind of attach fails once, and everything can be settled afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use smmu_attach::*;
use smmu_types::fake::SinkCall;
use smmu_types::range::Extent;
use smmu_types::seam::SinkError;
use smmu_types::*;

use crate::common::*;

const SMMU: SmmuId = SmmuId(0);

/// What the device is made to do, by the number of its target: three domains, bypass, blocked.
const TARGETS: [&str; 5] = ["stage 1", "another stage 1", "stage 2", "bypass", "blocked"];

struct Rehearsal {
    fixture: Fixture,
    smmu: Smmu<HeapPlatform>,
    device: Device<HeapPlatform>,
    domains: [Domain<HeapPlatform>; 3],
    countdown: Arc<AtomicU32>,
}

impl Rehearsal {
    fn new(streams: &[StreamId]) -> Self {
        let countdown = Arc::new(AtomicU32::new(0));
        let left = Arc::clone(&countdown);
        // Each queued batch and each wait is a step. The failing one and all later ones fail, until
        // the SMMU is mended: a queue that hangs stays so.
        let fixture = Fixture::failing(move |_| {
            let now = left.load(Ordering::Relaxed);
            match now {
                0 => None,
                1 => Some(SinkError::timeout(SMMU)),
                _ => {
                    left.store(now - 1, Ordering::Relaxed);
                    None
                }
            }
        });
        let smmu = fixture.smmu(0);
        let device = smmu.add_device(streams).unwrap();
        let domains = [(1, S1), (2, S1), (3, S2)].map(|(id, stage)| fixture.domain(id, stage));
        Rehearsal { fixture, smmu, device, domains, countdown }
    }

    fn go(&self, target: usize) -> Result<Outcome, AttachError> {
        match target {
            0..=2 => self.device.attach(&self.domains[target]),
            3 => self.device.bypass(),
            _ => Ok(self.device.block()),
        }
    }

    /// Sink calls since the last question.
    fn steps(&self) -> u32 {
        self.fixture.sink().take().len() as u32
    }

    fn tags(&self) -> [u32; 2] {
        [self.smmu.asids().stats(), self.smmu.vmids().stats()].map(|stats| stats.in_use)
    }

    /// After a failure: whatever the SMMU may use is alive and invalidated.
    fn check(&self, from: usize, outcome: &Outcome, what: &str) {
        let used = |domain: usize| !self.domains[domain].array().is_empty();
        if let Outcome::Unconfirmed(_) = outcome {
            assert!(!self.device.is_confirmed(), "{what}");
            assert!(from > 2 || used(from), "{what}: the old domain no longer invalidates");
            let ste = self.device.read_ste().unwrap().decode();
            assert_eq!(ste, SteConfig::Invalid, "{what}: the SMMU can fetch a valid entry");
        }
        if let Outcome::Unflushed(..) = outcome {
            assert!(used(from), "{what}: an unmap no longer flushes the tag");
        }
        let attached = matches!(self.device.attachment(), Attachment::Domain(_));
        let users: u32 = self
            .domains
            .iter()
            .flat_map(|domain| domain.array().iter().map(|view| view.users).collect::<Vec<_>>())
            .sum();
        assert!(users >= u32::from(attached), "{what}: an attached device is no user");
    }

    /// The SMMU answers again: everything comes back.
    fn settle(self, what: &str) {
        self.countdown.store(0, Ordering::Relaxed);
        assert_eq!(self.smmu.settle(), Ok(()), "{what}");
        assert!(self.device.is_settled(), "{what}");
        // An unmap of each domain reaches the SMMU that still uses it.
        for domain in &self.domains {
            let page = Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last);
            assert_eq!(domain.invalidate(page), Ok(()), "{what}");
        }
        assert_eq!(self.device.block().settled(), Ok(()), "{what}");
        assert_eq!(self.tags(), [0, 0], "{what}");
        for stats in [self.smmu.asids().stats(), self.smmu.vmids().stats()] {
            assert_eq!((stats.retiring, stats.quarantined), (0, 0), "{what}");
        }
        assert_eq!(self.smmu.remove_device(&self.device), Ok(()), "{what}");
        for domain in self.domains {
            assert!(domain.array().is_empty(), "{what}");
            assert!(domain.into_tables().is_ok(), "{what}: tables are kept for ever");
        }
    }
}

#[test]
fn every_hardware_step_of_every_attach_fails_once() {
    let many: Vec<_> = (0..40).map(|n| StreamId(n * 0x31)).collect();
    let mut failures = 0;
    for streams in [&[StreamId(8)][..], &[StreamId(8), StreamId(0x108)], &many] {
        for (from, old) in TARGETS.iter().enumerate() {
            for (to, new) in TARGETS.iter().enumerate() {
                // The number of steps is found by counting those of a run without failure.
                let rehearsal = Rehearsal::new(streams);
                assert_eq!(rehearsal.go(from).unwrap().settled(), Ok(()));
                rehearsal.steps();
                assert_eq!(rehearsal.go(to).unwrap().settled(), Ok(()));
                let steps = rehearsal.steps();
                for n in 1..=steps {
                    let what =
                        format!("{} streams, {old} to {new}, step {n} of {steps}", streams.len());
                    let rehearsal = Rehearsal::new(streams);
                    let _ = rehearsal.go(from).unwrap();
                    rehearsal.countdown.store(n, Ordering::Relaxed);
                    let outcome = rehearsal.go(to).unwrap();
                    assert!(outcome.settled().is_err(), "{what}: the failure was not reported");
                    rehearsal.check(from, &outcome, &what);
                    failures += 1;
                    // A second try on the dead SMMU changes nothing for the worse.
                    let _ = rehearsal.go(4);
                    let _ = rehearsal.go(to);
                    rehearsal.settle(&what);
                }
            }
        }
    }
    assert!(failures > 150, "{failures} failures");
}

/// Four devices with substreams, of two SMMUs of different kinds with one ASID space, attach,
/// replace, unmap and block at random. The SMMUs fail now and then.
#[test]
fn random_work_of_four_threads_can_be_settled() {
    let noise = Arc::new(AtomicU32::new(0));
    let calls = Arc::clone(&noise);
    let fixture = Fixture::failing(move |call| {
        let n = calls.fetch_add(1, Ordering::Relaxed);
        let (SinkCall::Issue(smmu, _) | SinkCall::Push(smmu, _) | SinkCall::Wait(smmu)) = call;
        // Off in the last phase.
        (n < 1 << 30 && n % 23 == 7).then(|| SinkError::timeout(*smmu))
    });
    let space = smmu_tags::AsidSpace::new(16).unwrap();
    let smmus = [(0, LARGE), (1, SMALL)]
        .map(|(id, registers)| fixture.smmu_of_kind(id, registers, Some(&space)));
    let domains = [(1, S1), (2, S1), (3, S2)].map(|(id, stage)| fixture.domain(id, stage));
    // A second-level table is announced without noise.
    noise.store(1 << 30, Ordering::Relaxed);
    let device = |n: usize| {
        let config = DeviceConfig::default().with_substream_bits(2);
        smmus[n % 2].add_device_with(&[StreamId(8 + n as u32)], config).unwrap()
    };
    let devices: Vec<_> = (0..4).map(device).collect();
    noise.store(0, Ordering::Relaxed);
    // Groups that overlap: of all devices, and of the neighbours.
    let groups = [&devices[..], &devices[..2], &devices[1..3], &devices[2..]]
        .map(|devices| Group::new(devices).unwrap());
    std::thread::scope(|scope| {
        for (thread, device) in devices.iter().enumerate() {
            let (domains, groups) = (&domains, &groups);
            scope.spawn(move || {
                let mut state = thread as u64 + 1;
                for _ in 0..3_000 {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    // The small SMMU has no substreams.
                    let number = SubstreamId::new((state >> 50) as u32 % 3 + 1).unwrap();
                    let substream = device.substream(number);
                    assert_eq!(substream.is_ok(), thread % 2 == 0);
                    match (state >> 60, substream) {
                        (n @ 0..=3, Ok(substream)) => {
                            let _ = substream.attach(&domains[n as usize % 3]);
                        }
                        (4, Ok(substream)) => {
                            let _ = substream.block();
                        }
                        (5, Ok(_)) => {
                            let _ = device.block_all();
                        }
                        (n @ 0..=8, _) => {
                            let _ = device.attach(&domains[n as usize % 3]);
                        }
                        (9, _) => {
                            let _ = device.bypass();
                        }
                        (10, _) => {
                            let _ = device.settle();
                        }
                        (11 | 12, _) => {
                            let page = Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last);
                            let _ = domains[thread % 3].invalidate(page);
                        }
                        (13, _) => {
                            let group = &groups[(state >> 40) as usize % 4];
                            let _ = match (state >> 30) % 4 {
                                n @ 0..=2 => group.attach(&domains[n as usize]),
                                _ => Ok(group.block()),
                            };
                        }
                        _ => {
                            let _ = device.block();
                        }
                    }
                }
            });
        }
    });
    noise.store(1 << 30, Ordering::Relaxed);
    for smmu in &smmus {
        assert_eq!(smmu.settle(), Ok(()));
    }
    for device in &devices {
        assert_eq!(device.block_all().settled(), Ok(()));
        assert!(device.is_settled());
    }
    for smmu in &smmus {
        for stats in [smmu.asids().stats(), smmu.vmids().stats()] {
            assert_eq!((stats.in_use, stats.retiring, stats.quarantined), (0, 0, 0));
            assert_eq!(stats.free, stats.capacity);
        }
    }
    for domain in domains {
        assert!(domain.into_tables().is_ok());
    }
}
