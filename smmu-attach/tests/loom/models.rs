//! The models: what runs beside what, and what must hold in every interleaving.

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering};
use smmu_attach::entry::{self, EntrySlot};
use smmu_attach::sync::{Barrier, is_kept};
use smmu_attach::*;
use smmu_types::fake::ID_REGISTERS;
use smmu_types::seam::{DmaLayout, DmaMemory};
use smmu_types::*;

use crate::hardware::{Beside, Fault, IN_SPAN, LoomSmmu, Memory, SMMU};
use crate::world::*;

pub(crate) const D: usize = 0;
pub(crate) const E: usize = 1;
pub(crate) const F: usize = 2;

pub(crate) fn attach_beside_unmap(stage: TranslationStage, preemptions: usize) {
    model(preemptions, move || {
        let world = World::new(stage, 1);
        let (mapper, walker) = (world.mapper(D), world.walker(0));
        assert_eq!(world.devices[0].attach(&world.domains[D]), Ok(Outcome::Done));
        mapper.join().unwrap();
        walker.join().unwrap();
        world.hardware.dma(0);
        world.end();
    });
}

pub(crate) fn block_beside_unmap(stage: TranslationStage, preemptions: usize) {
    model(preemptions, move || {
        let world = World::new(stage, 1).attached(0, D);
        let (mapper, walker) = (world.mapper(D), world.walker(0));
        assert!(world.devices[0].block().freed().is_some());
        mapper.join().unwrap();
        walker.join().unwrap();
        world.hardware.dma(0);
        world.end();
    });
}

/// D to E beside an unmap of one of them.
pub(crate) fn replace_beside_unmap(stage: TranslationStage, unmapped: usize, preemptions: usize) {
    model(preemptions, move || {
        let world = World::new(stage, 1).attached(0, D);
        let (mapper, walker) = (world.mapper(unmapped), world.walker(0));
        assert!(world.devices[0].attach(&world.domains[E]).unwrap().freed().is_some());
        mapper.join().unwrap();
        walker.join().unwrap();
        world.hardware.dma(0);
        // F gets the number that D had.
        assert_eq!(world.devices[0].attach(&world.domains[F]).unwrap().settled(), Ok(()));
        world.hardware.dma(0);
        world.end();
    });
}

/// What follows a change that the SMMU does not confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Attach,
    Settle,
    Block,
}

/// D to E, of which the SMMU ignores some batches. Then it answers again. Beside a walker that
/// reads at any time, and perhaps an unmap.
pub(crate) fn timeout_then_retry(
    [from, to]: [TranslationStage; 2],
    fault: Fault,
    then: Then,
    unmapped: Option<usize>,
    preemptions: usize,
) {
    model(preemptions, move || {
        let world = World::with([from, to, from], 1, [0, 1, 2]).attached(0, D);
        let mapper = unmapped.map(|domain| world.mapper(domain));
        let walker = {
            let hardware = world.hardware.clone();
            spawn(move || {
                hardware.dma(0);
                hardware.dma(0);
            })
        };
        world.hardware.fail(fault);
        let device = &world.devices[0];
        let failed = device.attach(&world.domains[E]).unwrap();
        assert!(world.hardware.has_failed(), "the attach had too few steps");
        match then {
            Then::Attach => {}
            Then::Settle => {
                assert_eq!(device.settle(), Ok(()));
                let valid = world.hardware.fetch(0).is_none_or(|w0| w0 & 1 == 1);
                assert!(!valid, "the SMMU finds a valid entry of a device that was settled");
            }
            Then::Block => assert_eq!(device.block().settled(), Ok(())),
        }
        world.hardware.dma(0);
        // The CD of F goes where that of D was.
        assert_eq!(device.attach(&world.domains[F]).unwrap().settled(), Ok(()));
        walker.join().unwrap();
        if let Some(mapper) = mapper {
            mapper.join().unwrap();
        }
        world.hardware.dma(0);
        // Without this step the outcome is wrong in each interleaving, which proves little.
        if is_kept(Barrier::ConfirmBeforeLeave) {
            assert!(matches!(failed, Outcome::Unconfirmed(_)), "{failed:?}");
        }
        world.end();
    });
}

/// One device from D to E, another from E to D, with or without unmaps of D and of E.
pub(crate) fn cross_replace(stage: TranslationStage, unmaps: bool, preemptions: usize) {
    model(preemptions, move || {
        let world = World::new(stage, 2).attached(0, D).attached(1, E);
        let other = {
            let (hardware, device) = (world.hardware.clone(), world.devices[1].clone());
            let domain = world.domains[D].clone();
            spawn(move || {
                assert_eq!(device.attach(&domain).unwrap().settled(), Ok(()));
                hardware.dma(1);
            })
        };
        let mapper = unmaps.then(|| {
            let (hardware, domains) = (world.hardware.clone(), world.domains.clone());
            spawn(move || {
                hardware.unmap(&[&domains[D]]);
                hardware.unmap(&[&domains[E]]);
            })
        });
        assert_eq!(world.devices[0].attach(&world.domains[E]).unwrap().settled(), Ok(()));
        world.hardware.dma(0);
        other.join().unwrap();
        if let Some(mapper) = mapper {
            mapper.join().unwrap();
        }
        world.hardware.dma(0);
        world.hardware.dma(1);
        world.end();
    });
}

/// A group of two devices from D to E, beside an unmap of one of them.
pub(crate) fn group_beside_unmap(stage: TranslationStage, unmapped: usize, preemptions: usize) {
    model(preemptions, move || {
        let world = World::new(stage, 2);
        let group = Group::new(&world.devices).unwrap();
        assert_eq!(group.attach(&world.domains[D]), Ok(Outcome::Done));
        let (mapper, walker) = (world.mapper(unmapped), world.walker(1));
        assert!(group.attach(&world.domains[E]).unwrap().freed().is_some());
        world.hardware.dma(0);
        mapper.join().unwrap();
        walker.join().unwrap();
        world.hardware.dma(1);
        // F gets the number that D had.
        assert_eq!(group.attach(&world.domains[F]).unwrap().settled(), Ok(()));
        world.hardware.dma(0);
        world.end();
    });
}

/// Two groups of the same devices, named in different orders, and a device of both.
pub(crate) fn groups_that_overlap(preemptions: usize) {
    model(preemptions, move || {
        let world = World::new(STAGE_2, 2);
        let [a, b] = [0, 1].map(|n| world.devices[n].clone());
        let other = {
            let (group, domain) = ([b.clone(), a.clone()], world.domains[E].clone());
            spawn(move || {
                let group = Group::new(&group).unwrap();
                assert_eq!(group.attach(&domain).unwrap().settled(), Ok(()));
            })
        };
        let group = Group::new(&[a.clone(), b.clone()]).unwrap();
        assert_eq!(group.attach(&world.domains[D]).unwrap().settled(), Ok(()));
        world.hardware.dma(0);
        other.join().unwrap();
        let together = match (a.attachment(), b.attachment()) {
            (Attachment::Domain(a), Attachment::Domain(b)) => a.is_same(&b),
            _ => false,
        };
        assert!(together, "the group was torn apart");
        world.end();
    });
}

/// D to E beside an unmap of D and an unmap of E.
pub(crate) fn replace_beside_two_unmaps(stage: TranslationStage, preemptions: usize) {
    model(preemptions, move || {
        let world = World::new(stage, 1).attached(0, D);
        world.hardware.dma(0);
        let mappers = [world.mapper(D), world.mapper(E)];
        assert_eq!(world.devices[0].attach(&world.domains[E]).unwrap().settled(), Ok(()));
        world.hardware.dma(0);
        for mapper in mappers {
            mapper.join().unwrap();
        }
        world.hardware.dma(0);
        world.end();
    });
}

/// The last device of D leaves it, another enters it, and D is unmapped. The SMMU may ignore a
/// flush at first.
pub(crate) fn last_detach_beside_first_attach(
    stage: TranslationStage,
    fault: Fault,
    preemptions: usize,
) {
    model(preemptions, move || {
        let world = World::new(stage, 2).attached(0, D);
        world.hardware.dma(0);
        let other = {
            let (hardware, device) = (world.hardware.clone(), world.devices[1].clone());
            let domain = world.domains[D].clone();
            spawn(move || {
                let _ = device.attach(&domain).unwrap();
                hardware.dma(1);
            })
        };
        let mapper = world.mapper(D);
        world.hardware.fail(fault);
        let _ = world.devices[0].block();
        assert_eq!(world.devices[0].settle(), Ok(()));
        world.hardware.dma(0);
        other.join().unwrap();
        mapper.join().unwrap();
        world.hardware.dma(1);
        world.end();
    });
}

/// An SMMU is declared gone beside an attach of one of its devices.
pub(crate) fn gone_beside_attach(preemptions: usize) {
    model(preemptions, move || {
        let world = World::new(STAGE_2, 1);
        let other = {
            let (device, domain) = (world.devices[0].clone(), world.domains[D].clone());
            spawn(move || match device.attach(&domain) {
                Ok(outcome) => assert_eq!(outcome, Outcome::Done),
                Err(error) => assert_eq!(error, AttachError::Gone { smmu: SMMU }),
            })
        };
        assert_eq!(world.smmu.gone(&GoneProof::vouch(SMMU)), Ok(()));
        other.join().unwrap();
        let blocked = matches!(world.devices[0].attachment(), Attachment::Blocked);
        assert!(blocked, "a device is attached to an SMMU that is gone");
        world.end();
    });
}

/// Two threads that each hold a transaction and prepare one more, of the other's domain.
pub(crate) fn two_held_transactions(preemptions: usize) {
    model(preemptions, move || {
        let world = World::new(STAGE_2, 4);
        let both = |devices: [Device<_>; 2], domains: [Domain<_>; 2]| {
            move || {
                let [first, second] =
                    [0, 1].map(|n| devices[n].prepare(Target::Domain(&domains[n])));
                for prepared in [first, second] {
                    match prepared {
                        Ok(prepared) => {
                            assert_eq!(prepared.publish().install().commit(), Outcome::Done);
                        }
                        Err(error) => assert!(matches!(error, AttachError::DomainBusy { .. })),
                    }
                }
            }
        };
        let ([d, e, _], [a, b, c, f]) =
            (world.domains.clone(), [0, 1, 2, 3].map(|n| world.devices[n].clone()));
        let other = spawn(both([c, f], [e.clone(), d.clone()]));
        both([a, b], [d, e])();
        other.join().unwrap();
        world.end();
    });
}

/// Two devices in one second-level table, which does not exist yet. The SMMU may cache that.
pub(crate) fn two_devices_in_one_span(preemptions: usize) {
    model(preemptions, move || {
        let (hardware, _env, smmu) = smmu(Beside::SecondLevel, [0; 3]);
        let add = |stream: u32| {
            let (hardware, smmu) = (hardware.clone(), smmu.clone());
            move || {
                let _device = smmu.add_device(&[StreamId(stream)]).unwrap();
                assert!(
                    hardware.fetch(stream).is_some(),
                    "the SMMU knows of no second-level table"
                );
            }
        };
        let walker = {
            let hardware = hardware.clone();
            spawn(move || {
                let _ = hardware.fetch(IN_SPAN[0]);
            })
        };
        let other = spawn(add(IN_SPAN[1]));
        add(IN_SPAN[0])();
        walker.join().unwrap();
        other.join().unwrap();
    });
}

/// D to E, which shares the tables of D: one store changes the STE. Beside an unmap.
pub(crate) fn replace_with_shared_tables(preemptions: usize) {
    model(preemptions, move || {
        let world = World::with([STAGE_2; 3], 1, [0, 0, 2]).attached(0, D);
        let mapper = {
            let (hardware, [d, e, _]) = (world.hardware.clone(), world.domains.clone());
            spawn(move || hardware.unmap(&[&d, &e]))
        };
        let walker = world.walker(0);
        assert_eq!(world.devices[0].attach(&world.domains[E]).unwrap().settled(), Ok(()));
        mapper.join().unwrap();
        walker.join().unwrap();
        world.hardware.dma(0);
        world.end();
    });
}

/// [`entry::write`] alone, where one store leads to a new context: an SMMU that sees the store sees
/// the context.
pub(crate) fn write_an_entry(preemptions: usize) {
    model(preemptions, move || {
        let hardware = LoomSmmu::new(Beside::Nothing, [0; 3]);
        let memory = Memory::new(hardware.clone());
        let block = memory.allocate(DmaLayout::naturally_aligned(64).unwrap()).unwrap();
        let slot = EntrySlot::new(&block, 0).unwrap();
        let caps = Capabilities::decode(ID_REGISTERS);
        let [old, new] = [0x1000, 0x2000].map(|context| {
            let context = single_context(&caps, PhysAddr(context));
            Ste::stage1(context, AtsMode::Off, ShareabilityOverride::NonShareable).unwrap()
        });
        assert_eq!(entry::write(&slot, &old, || Ok::<_, ()>(())), Ok(2));
        let context = Arc::new(AtomicUsize::new(0));
        let walker = {
            let (hardware, context) = (hardware.clone(), context.clone());
            spawn(move || {
                if hardware.fetch(0) == Some(new.0[0]) {
                    assert_eq!(context.load(Ordering::Relaxed), 1, "the context is not there");
                }
            })
        };
        context.store(1, Ordering::Relaxed);
        assert_eq!(entry::write(&slot, &new, || Ok::<_, ()>(())), Ok(1));
        walker.join().unwrap();
    });
}
