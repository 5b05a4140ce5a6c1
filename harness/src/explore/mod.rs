//! Random raw work on several machines at once, and what they disagree about.
//!
//! Raw work is a list of [`RawOp`]s that no driver issues: tables, commands and DMA of any kind. An
//! [`Explorer`] carries each operation out on every machine and compares what a driver and a device
//! see: where a write went, the event, the refused commands, the interrupts.
//!
//! 1. A model whose caches are emptied before each DMA says what memory holds at that moment. It is
//!    the *judge*.
//! 2. A machine with stale cached entries may use them or not. So its DMA is not compared while the
//!    model, which keeps everything, reports a hazard for the same DMA.
//! 3. Every other difference is a [`Finding`], unless it is one of the [`Deviation`]s of that
//!    machine. [`Explorer::shrunk`] leaves out what the finding does not need.
//!    After such a DMA, and after one that a deviation sent elsewhere, the caches of a machine that
//!    tells of no hazards are emptied: what it has cached now is nobody's to judge.
//! 4. A model that reports a hazard must have told of something stale in the audit before it.

mod compare;
mod deviations;
mod generate;
mod memory;
pub mod random;
mod raw_op;
mod rig;
pub mod shrink;

use std::collections::BTreeMap;
use std::fmt;

use smmu_engine::machine::{AtsAnswer, Backend, BackendError};

use smmu_types::{EventKind, EventRecord};

use crate::backend::{Mock, MockVariant};
use compare::Case;
pub use deviations::{Deviation, KNOWN_QEMU, QEMU_DEVIATIONS};
use generate::Generator;
use memory::DEVICES;
pub use raw_op::{Kind, RawOp, RawOpError, Work};
use rig::{Flushes, RawRig, Stream};
pub use rig::{Landed, Seen};
use shrink::shrunk;

/// An audit before each so many DMAs.
const AUDIT_EVERY: usize = 64;

/// The model with caches that are emptied before each DMA.
const JUDGE: MockVariant = MockVariant {
    name: "judge",
    change: |profile, _| {
        profile.prefetch = false;
        profile.consume_per_poll = 64;
    },
};

/// The model that fetches only what it needs.
const NO_PREFETCH: MockVariant = MockVariant {
    name: "mock without prefetch",
    change: |profile, _| {
        profile.prefetch = false;
        profile.consume_per_poll = 64;
    },
};

/// One machine beside the judge.
struct Player<'a> {
    name: String,
    backend: Box<dyn Backend + 'a>,
    rig: RawRig,
    known: &'a [Deviation],
    sees_hazards: bool,
    /// Its caches are emptied behind the operation, if it tells of no hazards: by a known deviation a DMA
    /// went elsewhere, or it may have cached what no SMMU should.
    flushes: bool,
}

/// Several machines that carry out the same raw work.
pub struct Explorer<'a> {
    kind: Kind,
    judge: RawRig,
    players: Vec<Player<'a>>,
    seen: Tally,
    dmas: usize,
    /// How stage 2 mapped `TTB0` of each device at its last transaction, if a machine may still have the
    /// CD of that time.
    roots: [Option<Option<u64>>; DEVICES.len()],
}

impl fmt::Debug for Explorer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.players.iter().map(|player| player.name.as_str()).collect();
        f.debug_struct("Explorer").field("players", &names).finish_non_exhaustive()
    }
}

/// What the work was about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Operations.
    pub steps: u64,
    /// DMAs among them.
    pub dmas: u64,
    /// DMAs that reached memory.
    pub landed: u64,
    /// DMAs that waited for the driver, and those of them that have ended.
    pub stalls: [u64; 2],
    /// DMAs that their device translated itself.
    pub translated: u64,
    /// Requests for a translation, and those that were granted.
    pub requests: [u64; 2],
    /// Page requests in the queue, and answers to them.
    pub pages: [u64; 2],
    /// How often a queue lost a record.
    pub lost: u64,
    /// DMAs of which the model reported a hazard, so that any answer of another machine is right.
    pub stale: u64,
    /// How often each event came.
    pub events: BTreeMap<String, u64>,
    /// Commands that the judge refused.
    pub refused: u64,
    /// How often each known deviation showed.
    pub deviations: BTreeMap<&'static str, u64>,
}

/// A difference that no deviation explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Number of the operation in its list, from 1.
    pub step: usize,
    /// The operation.
    pub op: RawOp,
    /// The machine that differs.
    pub machine: String,
    /// What was expected.
    pub expected: String,
    /// What the machine did.
    pub happened: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { step, op, machine, expected, happened } = self;
        write!(f, "step {step}: {op}\nexpected  {expected}\n{machine:9} {happened}")
    }
}

/// How a list of operations ended.
type Played = Result<Option<Finding>, BackendError>;

impl<'a> Explorer<'a> {
    /// The model, and the model without prefetch.
    ///
    /// # Errors
    ///
    /// A machine does not start.
    pub fn of_model(kind: Kind) -> Result<Self, BackendError> {
        let mut explorer = Explorer {
            kind,
            judge: RawRig::new(&JUDGE, kind, Flushes::BeforeEachDma)?,
            players: Vec::new(),
            seen: Tally::default(),
            dmas: 0,
            roots: Default::default(),
        };
        explorer.add(Box::new(Mock), &[])?;
        explorer.add(Box::new(NO_PREFETCH), &[])?;
        Ok(explorer)
    }

    /// One machine more.
    ///
    /// # Errors
    ///
    /// It does not start, or lacks what [`Kind::Full`] needs.
    pub fn add(
        &mut self,
        backend: Box<dyn Backend + 'a>,
        known: &'a [Deviation],
    ) -> Result<(), BackendError> {
        let rig = RawRig::new(&*backend, self.kind, Flushes::Never)?;
        let sees_hazards = rig.has_insight();
        let name = backend.name().to_owned();
        self.players.push(Player { name, backend, rig, known, sees_hazards, flushes: false });
        Ok(())
    }

    /// What the work was about so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.seen
    }

    /// The work of a seed.
    #[must_use]
    pub fn work(kind: Kind, seed: u64, steps: usize) -> Work {
        let mut generator = Generator::new(kind, seed);
        Work { kind, ops: (0..steps).map(|_| generator.next_op()).collect() }
    }

    /// Carries out a list from the beginning, up to the first finding.
    ///
    /// # Errors
    ///
    /// A machine broke.
    pub fn play(&mut self, ops: &[RawOp]) -> Played {
        if self.kind == Kind::Full {
            // Devices keep what they wait for over a reset.
            self.judge = RawRig::new(&JUDGE, self.kind, Flushes::BeforeEachDma)?;
        }
        self.judge.begin()?;
        self.roots = Default::default();
        for player in &mut self.players {
            player.begin(self.kind)?;
        }
        for (n, op) in ops.iter().enumerate() {
            if let Some(finding) = self.step(n + 1, op)? {
                return Ok(Some(finding));
            }
        }
        Ok(self.memory(ops))
    }

    /// The fewest operations with a finding about the same machine. `ops` has one.
    ///
    /// # Errors
    ///
    /// A machine broke.
    pub fn shrunk(&mut self, ops: &[RawOp], finding: &Finding) -> Result<Vec<RawOp>, BackendError> {
        let mut broken = None;
        let kept = self.seen.clone();
        let mut fails = |ops: &[RawOp]| match self.play(ops) {
            Ok(found) => found.is_some_and(|found| found.machine == finding.machine),
            Err(error) => {
                broken.get_or_insert(error);
                false
            }
        };
        // Nothing behind the finding matters.
        let mut few = shrunk(ops.get(..finding.step).unwrap_or(ops).to_vec(), &mut fails);
        let mut n = 0;
        while let Some(op) = few.get(n) {
            let smaller = op.smaller().into_iter().find_map(|op| {
                let mut fewer = few.clone();
                *fewer.get_mut(n)? = op;
                fails(&fewer).then_some(fewer)
            });
            match smaller {
                Some(fewer) => few = fewer,
                None => n += 1,
            }
        }
        self.seen = kept;
        broken.map_or(Ok(few), Err)
    }

    fn step(&mut self, step: usize, op: &RawOp) -> Played {
        let is_dma = matches!(op, RawOp::Dma { .. });
        self.dmas += usize::from(is_dma);
        let audits = is_dma && self.dmas.is_multiple_of(AUDIT_EVERY);
        self.judge.take_unrecorded();
        let wanted = self.judge.run(op)?;
        self.judge.take_hazards();
        let unrecorded = self.judge.take_unrecorded();
        let recorded = wanted.events.iter().map(|(_, event)| *event);
        let of_device = |event: &EventRecord| Some(event.stream()) == op.stream();
        let fault = recorded.chain(unrecorded).find(of_device);
        self.seen.add(op, &wanted);
        let finding = |machine: &str, expected: String, happened: String| {
            let machine = machine.to_owned();
            Ok(Some(Finding { step, op: op.clone(), machine, expected, happened }))
        };
        // A transaction, a request for a translation, or a retry of a write that waits.
        let translates = op.device().is_some() || op.may_retry();
        let root_moved = self.root_moves(op);
        let stream = op.device().map_or_else(Stream::default, |n| Stream {
            root_moved,
            splits_block: op.dma().is_some_and(|iova| self.judge.splits_block(n, iova)),
            ..self.judge.stream_of(n)
        });
        let mut stale = false;
        for player in &mut self.players {
            let told = audits && player.sees_hazards && player.rig.is_stale();
            let got = player.rig.run(op)?;
            player.flushes = got.landed != wanted.landed || root_moved || stream.splits_block;
            let hazards = player.rig.take_hazards();
            if player.sees_hazards && translates {
                if audits
                    && !told
                    && let Some(hazard) = hazards.first()
                {
                    let expected = "an audit before the DMA that reports something stale".into();
                    return finding(&player.name, expected, hazard.clone());
                }
                stale |= !hazards.is_empty();
            }
            if got == wanted {
                // Nobody was told why. A machine with a deviation may have gone on, and refused later.
                player.flushes |= wanted.is_silent() && stream.may_go_on(fault);
                continue;
            }
            // What is cached may be stale and still do no harm: both machines refuse, each with the
            // fault that it saw. Or the audit tells of it.
            if translates && player.sees_hazards {
                stale |= player.rig.is_stale() || player.harmless(op, &wanted, &got)?;
            }
            if translates && stale {
                continue;
            }
            let case = Case { op, wanted: &wanted, fault, got: &got, stream };
            match player.explained(&case) {
                Some(known) => {
                    player.flushes |= stream.may_go_on(fault);
                    for name in known {
                        *self.seen.deviations.entry(name).or_default() += 1;
                    }
                }
                None => {
                    let [expected, happened] = case.words();
                    return finding(&player.name, expected, happened);
                }
            }
        }
        if translates {
            for player in &mut self.players {
                // What is stale or a known deviation may have landed in another page,
                player.rig.take_over_pages(op.dma(), &self.judge);
                // and may be in the caches of a machine that does not tell of it.
                if let Some(smmu) = op.smmu().filter(|_| !player.sees_hazards)
                    && (stale || player.flushes)
                {
                    player.rig.flush(smmu)?;
                }
            }
        }
        if stale && self.kind == Kind::Full {
            self.agree_again()?;
        }
        self.seen.stale += u64::from(stale);
        Ok(None)
    }

    /// Whether stage 2 maps `TTB0` of the device of an operation otherwise than before. Then a machine
    /// that tells of no hazards empties its caches behind the operation, so it has the CD anew.
    fn root_moves(&mut self, op: &RawOp) -> bool {
        for (device, root) in self.roots.iter_mut().enumerate() {
            if op.drops_cd_of(device) {
                *root = None;
            }
        }
        let Some(device) = op.device() else { return false };
        let now = self.judge.root_behind_stage2(device);
        let Some(root) = self.roots.get_mut(device) else { return false };
        root.replace(now).flatten().is_some_and(|before| Some(before) != now)
    }

    /// After something stale the machines may have other writes that wait, and other records that the
    /// driver holds. Both go.
    fn agree_again(&mut self) -> Result<(), BackendError> {
        self.judge.end_stalls()?;
        self.judge.take_hazards();
        for player in &mut self.players {
            player.rig.end_stalls()?;
            player.rig.take_hazards();
            player.rig.take_over_pages(None, &self.judge);
        }
        Ok(())
    }

    /// At the end, memory is the same everywhere, but for the queues.
    fn memory(&self, ops: &[RawOp]) -> Option<Finding> {
        self.players.iter().find_map(|player| {
            let at = self.judge.first_difference(&player.rig)?;
            Some(Finding {
                step: ops.len(),
                op: ops.last()?.clone(),
                machine: player.name.clone(),
                expected: "the same memory at the end".into(),
                happened: format!("it differs at {at:#x}"),
            })
        })
    }
}

impl Player<'_> {
    /// Whether a difference is a fault of something stale in the caches: both machines refuse, and
    /// the machine sees the same fault once its caches are empty.
    fn harmless(&mut self, op: &RawOp, wanted: &Seen, got: &Seen) -> Result<bool, BackendError> {
        if !wanted.reaches_nothing() || !got.reaches_nothing() {
            return Ok(false);
        }
        let Some(smmu) = op.smmu() else { return Ok(true) };
        if wanted.stalled || got.stalled {
            // A second try would wait too. Each stall has one event.
            return Ok(wanted.stalled != got.stalled || wanted.events.len() == got.events.len());
        }
        self.rig.flush(smmu)?;
        let again = self.rig.run(op)?;
        self.rig.take_hazards();
        // While translation is off, ATC_INV drops nothing (4.5.1): the device does not ask.
        let asks = |seen: &Seen| {
            seen.events.iter().any(|(_, event)| event.kind() == EventKind::F_BAD_ATS_TREQ)
        };
        let forbidden = |seen: &Seen| {
            seen.events.iter().all(|(_, event)| event.kind() == EventKind::F_TRANSL_FORBIDDEN)
        };
        let kept =
            matches!(op, RawOp::Dma { translated: true, .. }) && asks(wanted) && forbidden(&again);
        Ok(kept || again.translation == wanted.translation && again.events == wanted.events)
    }

    /// The deviations that make the difference, if they make all of it.
    fn explained(&self, case: &Case<'_>) -> Option<Vec<&'static str>> {
        let mut names = Vec::new();
        let mut got = case.got.clone();
        for deviation in self.known {
            let mended = deviation.mended(case, &got);
            if mended != got {
                names.push(deviation.name);
                got = mended;
            }
        }
        (got == *case.wanted).then_some(names)
    }

    /// Starts again. A machine that has broken is replaced.
    fn begin(&mut self, kind: Kind) -> Result<(), BackendError> {
        // QEMU's SMMU keeps two levels of a stream table until it is reset.
        let stays = !self.sees_hazards && self.rig.had_levels();
        if kind == Kind::Plain && !stays && self.rig.begin().is_ok() {
            return Ok(());
        }
        self.rig = RawRig::new(&*self.backend, kind, Flushes::Never)?;
        self.rig.begin()
    }
}

impl Tally {
    fn add(&mut self, op: &RawOp, seen: &Seen) {
        self.steps += 1;
        self.dmas += u64::from(matches!(op, RawOp::Dma { .. }));
        self.landed += u64::from(seen.landed.is_some());
        self.translated += u64::from(matches!(op, RawOp::Dma { translated: true, .. }));
        let granted = matches!(seen.translation, Some(AtsAnswer::Granted { .. }));
        let counts = [
            (&mut self.stalls, [usize::from(seen.stalled), seen.ended.len()]),
            (&mut self.requests, [usize::from(seen.translation.is_some()), usize::from(granted)]),
            (&mut self.pages, [seen.requests.len(), seen.answers.len()]),
        ];
        for ([first, second], [more, further]) in counts {
            *first += more as u64;
            *second += further as u64;
        }
        self.lost += seen.lost.len() as u64;
        self.refused += seen.refused.len() as u64;
        for (_, event) in &seen.events {
            *self.events.entry(event.kind().to_string()).or_default() += 1;
        }
    }
}
