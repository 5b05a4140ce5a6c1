//! Locks of devices and domains.

use std::sync::{Arc, Barrier, mpsc};
use std::time::{Duration, Instant};

use smmu_attach::*;
use smmu_types::*;

use crate::common::*;

/// r3: two threads, each with two transactions of different domains at once, never wait for each
/// other.
#[test]
fn r3_two_transactions_at_once_do_not_deadlock() {
    let (done, finished) = mpsc::channel();
    let barrier = Arc::new(Barrier::new(2));
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let (d, e) = (fixture.domain(1, S1), fixture.domain(2, S1));
    let mut devices = (0..4).map(|n| fixture.device(&smmu, n));
    for (first, second) in [(d.clone(), e.clone()), (e, d)] {
        let (a, b) = (devices.next().unwrap(), devices.next().unwrap());
        let (done, barrier) = (done.clone(), Arc::clone(&barrier));
        std::thread::spawn(move || {
            let one = a.prepare(Target::Domain(&first)).unwrap();
            barrier.wait();
            // The other thread has this domain, until it has seen the same of mine.
            let refused = b.prepare(Target::Domain(&second)).map(|_| ()).unwrap_err();
            assert_eq!(refused, AttachError::DomainBusy { domain: second.id() });
            barrier.wait();
            let _ = one.publish().install().commit();
            let _ = b.attach(&second).unwrap();
            done.send(()).unwrap();
        });
    }
    for _ in 0..2 {
        assert!(finished.recv_timeout(Duration::from_secs(10)).is_ok(), "a thread waits for ever");
    }
}

/// A device that moves between two domains takes the lock of the older domain first: it does not
/// hold the younger one while it waits.
#[test]
fn inv_6_the_older_domains_lock_comes_first() {
    for from_older in [true, false] {
        let fixture = Fixture::new();
        let smmu = fixture.smmu(0);
        let (older, younger) = (fixture.domain(2, S1), fixture.domain(1, S1));
        let [a, b, c] = [1, 2, 3].map(|n| fixture.device(&smmu, n));
        let (from, to) = if from_older { (&older, &younger) } else { (&younger, &older) };
        let _ = b.attach(from);
        let held = a.prepare(Target::Domain(&older)).unwrap();
        std::thread::scope(|scope| {
            let mover = scope.spawn(|| b.attach(to));
            while !matches!(
                b.prepare(Target::Blocked).map(drop),
                Err(AttachError::DeviceBusy { .. })
            ) {
                std::hint::spin_loop();
            }
            // By now the mover waits, or is about to.
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(50) {
                let prepared = c.prepare(Target::Domain(&younger)).map(drop);
                assert_eq!(prepared, Ok(()), "the younger domain is held, from_older={from_older}");
            }
            drop(held);
            assert_eq!(mover.join().unwrap().unwrap().confirmed(), Ok(()));
        });
    }
}

#[test]
fn one_thread_holds_transactions_of_different_domains() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let (d, e) = (fixture.domain(1, S1), fixture.domain(2, S1));
    let (a, b) = (fixture.device(&smmu, 1), fixture.device(&smmu, 2));
    let one = a.prepare(Target::Domain(&d)).unwrap();
    let two = b.prepare(Target::Domain(&e)).unwrap();
    let busy = AttachError::DeviceBusy { smmu: SmmuId(0), stream: StreamId(1) };
    assert_eq!(a.prepare(Target::Bypass).map(|_| ()).unwrap_err(), busy);
    let two = two.publish().install();
    assert_eq!(one.publish().install().commit(), Outcome::Done);
    assert_eq!(two.commit(), Outcome::Done);
    assert!(d.tag_on(SmmuId(0)).is_some() && e.tag_on(SmmuId(0)).is_some());
}

/// A device that left a domain unconfirmed is prepared while the same thread has that domain.
#[test]
fn a_busy_domain_is_left_later() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let (d, e) = (fixture.domain(1, S1), fixture.domain(2, S1));
    let (a, b) = (fixture.device(&smmu, 1), fixture.device(&smmu, 2));
    let _ = a.attach(&d);
    fixture.fail_on("CFGI_STE");
    assert!(a.block().confirmed().is_err());
    fixture.mend();
    let held = b.prepare(Target::Domain(&d)).unwrap();
    assert_eq!(a.prepare(Target::Domain(&e)).unwrap().publish().install().commit(), Outcome::Done);
    assert_eq!(states(&d)[0].2, 1, "the domain was busy");
    drop(held);
    assert!(a.is_confirmed() && !a.is_settled());
    assert_eq!(a.settle(), Ok(()));
    assert!(states(&d).is_empty());
}
