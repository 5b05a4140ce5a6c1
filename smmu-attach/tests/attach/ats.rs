//! Devices that cache translations themselves.
//!
//! A fake device with ATS asks for every translation that it may get, at each store, command and
//! switch, and keeps all of them until an `ATC_INV` that it answers. It answers none while its own
//! switch is off. No translation that it can still use may be one of a domain that does not
//! invalidate for it.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use rstest::rstest;
use smmu_attach::*;
use smmu_invs::{ArcSwapCell, AtsGate, Drained, EntryState, GatedCell, InvArray, InvKind};
use smmu_types::fake::*;
use smmu_types::range::Extent;
use smmu_types::seam::{Notice, SinkError, StdWait, TimedOut};
use smmu_types::*;

use crate::common::{LARGE, S1, S2};
use crate::watched_memory::{Watch, WatchedMemory};

const SMMU: SmmuId = SmmuId(0);
const STREAM: StreamId = StreamId(8);
const PAGE: Extent = Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last);

/// Where a request comes from: the device itself, or a substream.
type Source = Option<u32>;

struct Cards;
impl Platform for Cards {
    type Lock = parking_lot::RawMutex;
    type SleepLock = parking_lot::RawMutex;
    type Dma = WatchedMemory<Arc<Card>>;
    type Sink = RecordingSink;
    type Cell = GatedCell<ArcSwapCell<InvArray>>;
    type Observer = RecordingObserver;
    type Tables = TableDescription;
    type Ats = Switch;
}

/// The fake device, and the SMMU's caches of its configuration.
#[derive(Default)]
struct Card {
    memory: OnceLock<Arc<[AtomicU64]>>,
    device: OnceLock<Device<Cards>>,
    domains: OnceLock<Vec<Domain<Cards>>>,
    /// STEs that the SMMU may use: those read since the last `CFGI_STE`.
    stes: Mutex<BTreeSet<[u64; 8]>>,
    atc: Mutex<BTreeSet<(Source, u64)>>,
    on: AtomicBool,
    refuses: AtomicBool,
    /// It may send page requests.
    asks: AtomicBool,
    refuses_to_ask: AtomicBool,
    /// Commands and switches, in order.
    log: Mutex<Vec<String>>,
    /// `ATC_INV`s that reached the device while its switch was off.
    unanswered: AtomicU32,
    /// Steps until the SMMU does nothing more; 0 for never.
    fail_at: AtomicU32,
    has_failed: AtomicBool,
    deaf: AtomicBool,
    /// The next call of the sink panics.
    panics: AtomicBool,
}

impl Card {
    fn say(&self, what: String) {
        self.log.lock().unwrap().push(what);
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    fn word(&self, address: u64) -> u64 {
        let memory = self.memory.get().unwrap();
        memory[(address - 0x4000_0000) as usize / 8].load(Ordering::Relaxed)
    }

    /// The tag with which the SMMU answers a translation request, as a number.
    fn translate(&self, ste: &Ste, source: Source) -> Option<u64> {
        let config = match ste.decode() {
            SteConfig::Stage2(config) => return source.is_none().then_some(config.vmid.0.into()),
            SteConfig::Stage1(config) => config,
            _ => return None,
        };
        let n = match (source, config.substream_default) {
            (None, SubstreamDefault::Substream0) => 0,
            (Some(n), _) if n >> config.cd_max == 0 => n,
            _ => return None,
        };
        let at = config.context.0 + u64::from(n) * 64;
        let cd = Cd(std::array::from_fn(|word| self.word(at + word as u64 * 8)));
        cd.is_valid().then(|| 0x1_0000 | u64::from(cd.asid().0))
    }

    /// The device asks for all that it may get, and nothing that it has is foreign.
    fn look(&self) {
        let (Some(device), Some(domains)) = (self.device.get(), self.domains.get()) else { return };
        let mut stes = self.stes.lock().unwrap();
        let ste = device.read_ste().unwrap();
        stes.insert(ste.0);
        // Invariant 5. A replacement may go through an invalid entry.
        let lets_in = ste.ats() != AtsMode::Off || ste.0[0] & 1 == 0;
        let may_ask = self.on.load(Ordering::Relaxed) && lets_in;
        assert!(may_ask || !self.asks.load(Ordering::Relaxed), "pages are asked for: {ste:?}");
        let usable: Vec<_> = stes.iter().map(|words| Ste(*words)).collect();
        let usable: Vec<_> = usable
            .into_iter()
            .filter(|ste| ste.0[0] & 1 == 1 && ste.ats() != AtsMode::Off)
            .collect();
        if usable.is_empty() || !self.on.load(Ordering::Relaxed) {
            return;
        }
        let mut atc = self.atc.lock().unwrap();
        for ste in &usable {
            for source in [None, Some(1), Some(2), Some(3)] {
                atc.extend(self.translate(ste, source).map(|tag| (source, tag)));
            }
        }
        for (source, tag) in &*atc {
            let invalidates = domains.iter().any(|domain| {
                let number = match domain.tag_on(SMMU) {
                    Some(CacheTag::Asid(_, asid)) => 0x1_0000 | u64::from(asid.0),
                    Some(CacheTag::Vmid(vmid)) => vmid.0.into(),
                    None => return false,
                };
                number == *tag
                    && domain.array().iter().any(|view| {
                        let ssid = source.unwrap_or(smmu_invs::InvKey::NO_SSID);
                        view.state == EntryState::Live
                            && view.spec.key.kind == InvKind::Ats
                            && (view.spec.key.id, view.spec.key.ssid) == (STREAM.0, ssid)
                    })
            });
            assert!(invalidates, "{source:?} can use a translation with tag {tag:#x}: {:#?}", {
                self.log.lock().unwrap()
            });
        }
    }

    /// Carry out a command. Returns whether the device answered.
    fn carry_out(&self, command: &Command) -> bool {
        self.say(command.to_string());
        match command {
            Command::CfgiSte { stream: STREAM, .. } => self.stes.lock().unwrap().clear(),
            Command::AtcInv { stream, .. } if *stream != STREAM => {
                return !self.deaf.load(Ordering::Relaxed);
            }
            Command::AtcInv { substream, .. } => {
                if self.deaf.load(Ordering::Relaxed) {
                    return false;
                }
                let hold = if HELD.get() { HOLD.lock().unwrap().take() } else { None };
                if let Some((entered, leave)) = hold {
                    entered.store(true, Ordering::Release);
                    while !leave.load(Ordering::Acquire) {
                        std::thread::yield_now();
                    }
                }
                if !self.on.load(Ordering::Relaxed) {
                    self.unanswered.fetch_add(1, Ordering::Relaxed);
                    return false;
                }
                let drops = substream.map(SubstreamId::get);
                self.atc.lock().unwrap().retain(|(source, _)| drops.is_some() && *source != drops);
            }
            _ => {}
        }
        true
    }

    /// A call of the sink.
    fn call(&self, call: &SinkCall) -> Option<SinkError> {
        assert!(!self.panics.swap(false, Ordering::Relaxed), "a seam panics");
        self.look();
        match self.fail_at.load(Ordering::Relaxed) {
            0 => {}
            1 => {
                self.has_failed.store(true, Ordering::Relaxed);
                return Some(SinkError::timeout(SMMU));
            }
            n => self.fail_at.store(n - 1, Ordering::Relaxed),
        }
        let (SinkCall::Issue(_, commands) | SinkCall::Push(_, commands)) = call else {
            return None;
        };
        let answered = commands.iter().fold(true, |all, command| all & self.carry_out(command));
        self.look();
        (!answered).then(|| SinkError::timeout(SMMU))
    }
}

#[derive(Clone)]
struct Switch(Arc<Card>);

impl AtsSwitch for Switch {
    fn enable(&self, smmu: SmmuId, stream: StreamId) -> Result<(), AtsRefused> {
        assert_eq!((smmu, stream), (SMMU, STREAM));
        if self.0.refuses.load(Ordering::Relaxed) {
            return Err(AtsRefused::new());
        }
        self.0.on.store(true, Ordering::Relaxed);
        self.0.say("on".to_owned());
        self.0.look();
        Ok(())
    }
    fn disable(&self, smmu: SmmuId, stream: StreamId) {
        assert_eq!((smmu, stream), (SMMU, STREAM));
        self.0.look();
        self.0.on.store(false, Ordering::Relaxed);
        self.0.say("off".to_owned());
    }
    fn enable_page_requests(&self, smmu: SmmuId, stream: StreamId) -> Result<(), AtsRefused> {
        assert_eq!((smmu, stream), (SMMU, STREAM));
        let ste = self.0.device.get().unwrap().read_ste().unwrap();
        assert!(self.0.on.load(Ordering::Relaxed) && ste.ats() != AtsMode::Off, "{ste:?}");
        if self.0.refuses_to_ask.load(Ordering::Relaxed) {
            return Err(AtsRefused::new());
        }
        self.0.asks.store(true, Ordering::Relaxed);
        self.0.say("asks".to_owned());
        Ok(())
    }
    fn disable_page_requests(&self, smmu: SmmuId, stream: StreamId) {
        assert_eq!((smmu, stream), (SMMU, STREAM));
        self.0.look();
        self.0.asks.store(false, Ordering::Relaxed);
        self.0.say("asks no more".to_owned());
    }
    fn drain(&self, gate: &AtsGate) -> Result<Drained, TimedOut> {
        self.0.say("drain".to_owned());
        gate.drain(&StdWait::new(), Duration::from_millis(200))
    }
}

impl Watch for Arc<Card> {
    fn stored(&self) {
        self.look();
    }
}

struct Rig {
    card: Arc<Card>,
    env: Env<Cards>,
    smmu: Smmu<Cards>,
    device: Device<Cards>,
    domains: Vec<Domain<Cards>>,
}

impl Rig {
    fn new(ats: AtsUse) -> Self {
        let card = Arc::new(Card::default());
        card.on.store(ats == AtsUse::Always, Ordering::Relaxed);
        let window = HeapWindow::new(PhysAddr(0x4000_0000), 4 << 20);
        card.memory.set(window.share()).unwrap();
        let caller = Arc::clone(&card);
        let sink = RecordingSink::failing(move |call| caller.call(call));
        let dma = WatchedMemory(Pool::new(window), Arc::clone(&card));
        let switch = Switch(Arc::clone(&card));
        let env = Env::<Cards>::with_ats(dma, sink, RecordingObserver::new(), switch).unwrap();
        let registers = IdRegisters { idr0: LARGE.idr0 | 1 << 10 | 1 << 16, ..LARGE };
        let caps = Capabilities::decode(registers);
        assert!(caps.ats && caps.pri);
        let smmu = Smmu::new(&env, SMMU, registers, caps, SmmuConfig::default()).unwrap();
        let config = DeviceConfig::default().with_substream_bits(2).with_ats(ats);
        let config = config.with_page_requests();
        let device = smmu.add_device_with(&[STREAM], config).unwrap();
        let domain = |id: u32, stage| {
            let root = PhysAddr(0x8000_0000 + u64::from(id) * 0x1000);
            Domain::new(&env, DomainId(id), TableDescription::new(stage, root)).unwrap()
        };
        let domains = vec![domain(1, S1), domain(2, S1), domain(3, S2)];
        card.device.set(device.clone()).unwrap();
        card.domains.set(domains.clone()).unwrap();
        card.log();
        Rig { card, env, smmu, device, domains }
    }

    fn substream(&self, n: u32) -> Substream<Cards> {
        self.device.substream(SubstreamId::new(n).unwrap()).unwrap()
    }

    /// 0 to 2: a domain; 3: bypass; 4: blocked. Key 0 is the device itself.
    fn go(&self, key: u32, wish: usize) -> Result<Outcome, AttachError> {
        let result = match (key, wish) {
            (0, 0..=2) => self.device.attach(&self.domains[wish]),
            (0, 3) => self.device.bypass(),
            (0, _) => Ok(self.device.block()),
            (n, 0..=2) => self.substream(n).attach(&self.domains[wish]),
            (n, _) => Ok(self.substream(n).block()),
        };
        self.card.look();
        result
    }

    fn is_on(&self) -> bool {
        self.card.on.load(Ordering::Relaxed)
    }

    fn asks(&self) -> bool {
        self.card.asks.load(Ordering::Relaxed)
    }

    /// Everything comes back.
    fn end(self, what: &str) {
        self.card.fail_at.store(0, Ordering::Relaxed);
        self.card.deaf.store(false, Ordering::Relaxed);
        let _ = self.device.block_all();
        assert_eq!(self.smmu.settle(), Ok(()), "{what}");
        let _ = self.device.block_all();
        assert!(self.device.is_settled(), "{what}");
        assert!(!self.asks(), "{what}");
        assert_eq!(self.smmu.remove_device(&self.device), Ok(()), "{what}");
        for stats in [self.smmu.asids().stats(), self.smmu.vmids().stats()] {
            assert_eq!((stats.in_use, stats.retiring, stats.quarantined), (0, 0, 0), "{what}");
        }
        assert!(self.domains.iter().all(|domain| domain.array().is_empty()), "{what}");
    }
}

/// The order of each row of the table: switch, entries, cache.
#[test]
fn the_steps_of_each_row() {
    let rig = Rig::new(AtsUse::Switched);
    let steps = |wish| {
        rig.go(0, wish).unwrap().settled().unwrap();
        let keep = |line: &String| {
            ["on", "off", "drain"].contains(&line.as_str())
                || line.starts_with("CFGI_STE")
                || line.starts_with("ATC_INV")
        };
        let log = rig.card.log().into_iter().filter(keep);
        log.map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // Nothing is known of what firmware left in the ATC.
    assert_eq!(steps(0), ["on", "ATC_INV", "CFGI_STE", "CFGI_STE"]);
    assert_eq!(rig.device.read_ste().unwrap().ats(), AtsMode::Full);
    assert!(rig.is_on());
    assert_eq!(steps(1), ["CFGI_STE", "ATC_INV"], "on to on");
    assert_eq!(steps(4), ["CFGI_STE", "CFGI_STE", "ATC_INV", "drain", "off"], "on to blocked");
    assert!(!rig.is_on());
    assert_eq!(steps(0), ["CFGI_STE", "CFGI_STE", "on"], "off to on, with an empty ATC");
    assert_eq!(steps(3), ["off", "CFGI_STE", "CFGI_STE", "drain"], "on to bypass");
    assert_eq!(steps(2), ["on", "ATC_INV", "CFGI_STE", "CFGI_STE"], "the ATC may not be empty");
    assert_eq!(rig.device.read_ste().unwrap().ats(), AtsMode::Full, "stage 2");
    assert_eq!(rig.card.unanswered.load(Ordering::Relaxed), 0);
    rig.end("steps");
}

/// Page requests go on last and off first. A live replacement leaves them on.
#[rstest]
#[case::switched(AtsUse::Switched)]
#[case::always(AtsUse::Always)]
fn page_requests_go_on_last_and_off_first(#[case] ats: AtsUse) {
    let rig = Rig::new(ats);
    let steps = |key, wish| {
        rig.go(key, wish).unwrap().settled().unwrap();
        // The flush of an old domain's tag comes after all.
        let log = rig.card.log().into_iter().filter(|line| !line.starts_with("TLBI"));
        log.collect::<Vec<_>>()
    };
    let count = |steps: &[String]| steps.iter().filter(|line| line.starts_with("asks")).count();
    for leaves in [3, 4] {
        let on = steps(0, 0);
        assert_eq!((on.last().unwrap().as_str(), count(&on)), ("asks", 1));
        assert!(rig.asks() && rig.is_on());
        for (key, wish) in [(0, 1), (1, 0), (1, 1), (1, 4), (0, 2)] {
            assert_eq!(count(&steps(key, wish)), 0, "{key} to {wish}");
        }
        let off = steps(0, leaves);
        assert_eq!((off.first().unwrap().as_str(), count(&off)), ("asks no more", 1));
        assert!(!rig.asks());
    }
    let notices = || {
        let all = rig.env.observer().take().into_iter();
        let of_pri = all.filter_map(|notice| match notice {
            Notice::PageRequestsSwitched { smmu: SMMU, stream: STREAM, on } => Some(on),
            _ => None,
        });
        of_pri.collect::<Vec<bool>>()
    };
    assert_eq!(notices(), [true, false, true, false]);
    // A substream beside a blocked stream.
    assert_eq!(steps(1, 0).last().unwrap(), "asks");
    assert_eq!(steps(1, 4).first().unwrap(), "asks no more");
    // A device that refuses works without, and is asked again.
    rig.card.refuses_to_ask.store(true, Ordering::Relaxed);
    notices();
    assert_eq!(count(&steps(0, 0)), 1, "off again");
    assert_eq!(notices(), [false, false], "refused, and off");
    assert!(!rig.asks() && rig.is_on());
    rig.card.refuses_to_ask.store(false, Ordering::Relaxed);
    assert_eq!(steps(0, 1).last().unwrap(), "asks");
    rig.end("page requests");
}

/// Without the wish, without ATS and without PRI in the SMMU there is nothing to switch.
#[test]
fn page_requests_need_ats_and_the_smmus_pri() {
    let rig = Rig::new(AtsUse::Switched);
    let env = Env::<Cards>::with_ats(
        WatchedMemory(heap_pool(4 << 20), Arc::clone(&rig.card)),
        RecordingSink::new(),
        RecordingObserver::new(),
        Switch(Arc::clone(&rig.card)),
    )
    .unwrap();
    for (idr0, config) in [
        (1 << 10, DeviceConfig::default().with_ats(AtsUse::Switched).with_page_requests()),
        (1 << 10 | 1 << 16, DeviceConfig::default().with_ats(AtsUse::Switched)),
        (1 << 16, DeviceConfig::default().with_ats(AtsUse::Switched).with_page_requests()),
        (1 << 10 | 1 << 16, DeviceConfig::default().with_page_requests()),
    ] {
        let registers = IdRegisters { idr0: LARGE.idr0 | idr0, ..LARGE };
        let caps = Capabilities::decode(registers);
        let smmu = Smmu::new(&env, SMMU, registers, caps, SmmuConfig::default()).unwrap();
        let device = smmu.add_device_with(&[STREAM], config).unwrap();
        let tables = TableDescription::new(S1, PhysAddr(0x8000_0000));
        let domain = Domain::new(&env, DomainId(7), tables).unwrap();
        assert!(device.attach(&domain).unwrap().settled().is_ok());
        assert!(device.block().settled().is_ok());
    }
    let log = rig.card.log();
    assert!(!log.iter().any(|line| line.starts_with("asks")), "{log:?}");
}

/// An unmap reaches the ATC while, and only while, the device may use it.
#[test]
fn an_unmap_reaches_the_atc() {
    let rig = Rig::new(AtsUse::Switched);
    let atc_invs = || {
        rig.card.log();
        rig.domains[0].invalidate(PAGE).unwrap();
        rig.card.log().into_iter().filter(|line| line.starts_with("ATC_INV")).collect::<Vec<_>>()
    };
    assert_eq!(atc_invs().len(), 0);
    let _ = rig.go(0, 0).unwrap();
    assert_eq!(atc_invs().len(), 1);
    let _ = rig.go(1, 0).unwrap();
    let two = atc_invs();
    assert!(two.len() == 2 && two.iter().any(|line| line.contains("ssid=0x1")), "{two:?}");
    let _ = rig.go(0, 4).unwrap();
    assert_eq!(atc_invs().len(), 1);
    let _ = rig.go(1, 4).unwrap();
    assert_eq!(atc_invs().len(), 0);
    assert!(!rig.is_on());
    rig.end("unmap");
}

#[rstest]
fn random_work_leaves_no_foreign_translation(
    #[values(AtsUse::Switched, AtsUse::Always)] ats: AtsUse,
) {
    let rig = Rig::new(ats);
    let mut random = 3u64;
    for step in 0..3_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (key, wish) = ((random >> 33) as u32 % 4, (random >> 40) as usize % 5);
        let refused = rig.go(key, wish).map(|outcome| outcome.settled());
        assert!(matches!(refused, Ok(Ok(())) | Err(_)), "step {step}: {refused:?}");
        if random >> 60 == 0 {
            rig.domains[step % 3].invalidate(PAGE).unwrap();
        }
        if random >> 58 == 5 {
            assert_eq!(rig.device.block_all(), Outcome::Done);
        }
        let attached = rig.device.read_ste().unwrap().ats() == AtsMode::Full;
        let used = rig.domains.iter().any(|domain| !domain.array().is_empty());
        assert_eq!(attached, used, "step {step}");
        assert_eq!(rig.is_on(), used || ats == AtsUse::Always, "step {step}");
        rig.card.log();
    }
    assert_eq!(rig.card.unanswered.load(Ordering::Relaxed), 0);
    rig.end("random work");
}

/// Each queued batch and each wait fails once, in each change: with all that follow, or the
/// device does not answer `ATC_INV`.
#[rstest]
fn every_step_fails_once(#[values(false, true)] deaf: bool) {
    let mut failures = 0;
    for (before, key, wish) in (0..5)
        .flat_map(|before| (0..2).map(move |key| (before, key)))
        .flat_map(|(before, key)| (0..5).map(move |wish| (before, key, wish)))
    {
        for n in 1.. {
            let rig = Rig::new(AtsUse::Switched);
            let _ = rig.go(2, 0).unwrap();
            if before != 2 {
                let _ = rig.go(0, before).unwrap();
            }
            rig.card.deaf.store(deaf, Ordering::Relaxed);
            rig.card.fail_at.store(if deaf { 0 } else { n }, Ordering::Relaxed);
            let what = format!("{before}, {key} to {wish}, step {n}, deaf: {deaf}");
            let outcome = rig.go(key, wish);
            let failed = deaf && n == 1 || rig.card.has_failed.load(Ordering::Relaxed);
            failures += u32::from(failed);
            if let Ok(outcome) = outcome
                && !deaf
            {
                assert_eq!(outcome.settled().is_err(), failed, "{what}: {outcome:?}");
            }
            // A second try on the dead SMMU, or a quarantine, changes nothing for the worse.
            let _ = rig.go(key, wish);
            if n % 2 == 0 {
                let _ = rig.device.quarantine();
                rig.card.look();
            }
            rig.card.fail_at.store(0, Ordering::Relaxed);
            rig.card.deaf.store(false, Ordering::Relaxed);
            assert_eq!(rig.smmu.settle(), Ok(()), "{what}");
            let _ = rig.go(3, 1);
            rig.end(&what);
            if !failed || deaf && n > 1 {
                break;
            }
        }
    }
    assert!(failures > 20, "{failures}");
}

/// A device that does not answer is put in quarantine: later unmaps do not wait for it.
#[test]
fn quarantine_ends_the_wait_of_unmaps() {
    let rig = Rig::new(AtsUse::Switched);
    let _ = rig.go(0, 0).unwrap();
    rig.card.deaf.store(true, Ordering::Relaxed);
    assert!(rig.domains[0].invalidate(PAGE).is_err(), "the device answered");
    let mut named = Vec::new();
    rig.smmu.find_unanswering(&rig.domains[0], |device, error| {
        named.push((device.streams().next().unwrap(), error));
    });
    assert_eq!(named, [(STREAM, SinkError::timeout(SMMU))]);
    rig.card.log();
    assert_eq!(rig.device.quarantine(), Outcome::Done);
    let log = rig.card.log();
    assert!(!log.iter().any(|line| line.starts_with("ATC_INV")), "{log:?}");
    assert_eq!(log[..2], ["asks no more", "off"]);
    assert!(rig.domains[0].array().is_empty() && !rig.is_on());
    assert_eq!(rig.domains[0].invalidate(PAGE), Ok(()));
    // It does not come back before its cache is empty.
    assert!(matches!(rig.go(0, 0), Ok(Outcome::Unconfirmed(_))));
    rig.card.deaf.store(false, Ordering::Relaxed);
    assert_eq!(rig.device.settle(), Ok(()));
    assert_eq!(rig.device.check_atc(), Ok(()));
    assert!(rig.go(0, 1).unwrap().settled().is_ok());
    rig.end("quarantine");
}

/// Only devices of the domain are asked, although a tag has the number of another one's StreamID.
#[test]
fn only_devices_of_the_domain_are_asked() {
    let rig = Rig::new(AtsUse::Switched);
    let config = DeviceConfig::default().with_ats(AtsUse::Always);
    let other = rig.smmu.add_device_with(&[StreamId(1)], config).unwrap();
    let _ = rig.go(0, 0).unwrap();
    assert_eq!(rig.domains[0].tag_on(SMMU), Some(CacheTag::Asid(Regime::El1, Asid(1))));
    assert_eq!(other.attach(&rig.domains[1]), Ok(Outcome::Done));
    rig.card.deaf.store(true, Ordering::Relaxed);
    let mut named = Vec::new();
    rig.smmu.find_unanswering(&rig.domains[0], |device, _| named.extend(device.streams()));
    assert_eq!(named, [STREAM]);
    rig.card.deaf.store(false, Ordering::Relaxed);
    assert!(other.block().settled().is_ok());
    rig.end("asked");
}

/// After a change that the SMMU did not confirm, its entry has no ATS, and the ATC may hold anything. The
/// same after a change that a panic of a seam cut short.
#[rstest]
fn an_unconfirmed_device_comes_back_with_an_empty_atc(#[values(false, true)] panics: bool) {
    let rig = Rig::new(AtsUse::Switched);
    let _ = rig.go(0, 0).unwrap();
    if panics {
        rig.card.panics.store(true, Ordering::Relaxed);
        assert!(catch_unwind(AssertUnwindSafe(|| rig.device.attach(&rig.domains[1]))).is_err());
    } else {
        rig.card.fail_at.store(1, Ordering::Relaxed);
        assert!(matches!(rig.go(0, 1), Ok(Outcome::Unconfirmed(_))));
        rig.card.fail_at.store(0, Ordering::Relaxed);
    }
    rig.card.log();
    assert!(rig.go(0, 1).unwrap().settled().is_ok());
    let log = rig.card.log();
    let place = |start: &str| log.iter().rposition(|line| line.starts_with(start));
    assert!(place("ATC_INV").is_some() && place("ATC_INV") < place("CFGI_STE"), "{log:?}");
    rig.end("unconfirmed");
}

/// A device whose switch stays off works without ATS.
#[test]
fn a_device_that_refuses_ats_is_attached_without() {
    let rig = Rig::new(AtsUse::Switched);
    rig.card.refuses.store(true, Ordering::Relaxed);
    assert_eq!(rig.go(0, 0), Ok(Outcome::Done));
    assert!(!rig.is_on());
    // Nothing has emptied the cache. The first attach that turns the switch on does, and then it is
    // empty for the next one.
    let flushes = |rig: &Rig| rig.card.log().iter().filter(|l| l.starts_with("ATC_INV")).count();
    let _ = rig.go(0, 4).unwrap();
    rig.card.refuses.store(false, Ordering::Relaxed);
    rig.card.log();
    let _ = rig.go(0, 0).unwrap();
    assert!(rig.is_on());
    assert_eq!(flushes(&rig), 1, "of an unknown cache");
    let _ = rig.go(0, 4).unwrap();
    rig.card.log();
    let _ = rig.go(0, 0).unwrap();
    assert_eq!(flushes(&rig), 0, "of an empty cache");
    rig.end("refusal");
}

/// A reader of the array that has not finished keeps the switch on, so that the device answers. The same
/// after a block that the SMMU did not confirm.
#[rstest]
fn the_switch_waits_for_readers(#[values(true, false)] confirmed: bool) {
    let rig = Rig::new(AtsUse::Switched);
    let _ = rig.go(0, 0).unwrap();
    let domain = rig.domains[0].clone();
    let (inside, release) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    std::thread::scope(|scope| {
        let card = Arc::clone(&rig.card);
        let (inside, release) = (Arc::clone(&inside), Arc::clone(&release));
        let (entered, leave) = (Arc::clone(&inside), Arc::clone(&release));
        // The first ATC_INV of the reader waits.
        *HOLD.lock().unwrap() = Some((entered, leave));
        scope.spawn(move || {
            HELD.set(true);
            domain.invalidate(PAGE).unwrap();
        });
        while !inside.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        card.fail_at.store(u32::from(!confirmed), Ordering::Relaxed);
        let outcome = rig.device.block();
        card.fail_at.store(0, Ordering::Relaxed);
        if confirmed {
            assert!(matches!(outcome, Outcome::AtsOn(_)), "{outcome:?}");
        } else {
            assert!(matches!(outcome, Outcome::Unconfirmed(_)), "{outcome:?}");
            assert!(rig.device.settle().is_err());
        }
        assert!(card.on.load(Ordering::Relaxed), "ATS went off beside an ATC_INV");
        assert!(!rig.device.is_settled());
        release.store(true, Ordering::Release);
    });
    assert_eq!(rig.device.settle(), Ok(()));
    assert!(!rig.is_on());
    rig.end("readers");
}

type Hold = Option<(Arc<AtomicBool>, Arc<AtomicBool>)>;
static HOLD: Mutex<Hold> = Mutex::new(None);
thread_local! {
    static HELD: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[test]
fn an_smmu_without_ats_uses_none() {
    let rig = Rig::new(AtsUse::Never);
    let _ = rig.go(0, 0).unwrap();
    assert_eq!(rig.device.read_ste().unwrap().ats(), AtsMode::Off);
    assert!(!rig.card.log().iter().any(|line| line.starts_with("ATC_INV") || line == "on"));
    rig.end("never");
}

/// An SMMU that does not confirm an STE with `EATS` leaves the device's switch off.
#[test]
fn an_unconfirmed_attach_does_not_turn_the_switch_on() {
    let rig = Rig::new(AtsUse::Switched);
    let _ = rig.go(0, 0).unwrap();
    let _ = rig.go(0, 4).unwrap();
    assert!(!rig.is_on());
    // The cache is empty, so the next step is `CFGI_STE`.
    rig.card.fail_at.store(1, Ordering::Relaxed);
    let outcome = rig.device.attach(&rig.domains[0]).unwrap();
    assert!(matches!(outcome, Outcome::Unconfirmed(_)), "{outcome:?}");
    assert!(!rig.is_on());
    rig.end("unconfirmed");
}
