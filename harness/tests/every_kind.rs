//! Random work over every kind of attach: substreams, ATS, groups, deferred unmaps, quarantine.
//!
//! Work is a list of [`Op`]s. A plain model of the driver's promise turns each into a step that says
//! how it must end, so a list without some of its operations is a scenario as well. That is how a
//! failing list shrinks to a short scenario file.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use rstest::rstest;
use smmu_engine::run::{self, RunOptions, RunOutcome, RunReport, Sabotage};
use smmu_engine::scenario::Scenario;
use smmu_harness::backend::Mock;
use smmu_harness::explore::random::Random;
use smmu_harness::explore::shrink;

const HEAD: &str = r#"title = "generated"
needs = ["stage1", "stage2", "several-smmus", "substreams", "ats", "ats-devices"]
pages = ["A", "B", "C"]
smmu = [
    { name = "smmu0", ats = true, substream_bits = 8 },
    { name = "smmu1", ats = true, substream_bits = 8, cd_table = "linear" },
    { name = "smmu2" },
]
device = [
    { name = "d0", smmu = "smmu0", stream = 0x08, substream_bits = 8, ats = "switched" },
    { name = "d1", smmu = "smmu0", stream = 0x10, substream_bits = 3 },
    { name = "d2", smmu = "smmu1", stream = 0x900, substream_bits = 8, ats = "always" },
    { name = "d3", smmu = "smmu1", stream = 0x908, more_streams = [0xa08], ats = "switched" },
    { name = "d4", smmu = "smmu2", stream = 0xd00 },
]
domain = [
    { name = "X", stage = "s1" },
    { name = "Y", stage = "s1" },
    { name = "G", stage = "s2" },
]
"#;

const DEVICES: [&str; 5] = ["d0", "d1", "d2", "d3", "d4"];
const WITH_SUBSTREAMS: [&str; 3] = ["d0", "d1", "d2"];
const WITH_ATS: [&str; 3] = ["d0", "d2", "d3"];
/// Of one leaf of a two-level table, and for `d0` and `d2` of another leaf.
const SUBSTREAMS: [u32; 4] = [1, 2, 7, 0x81];
const DOMAINS: [&str; 3] = ["X", "Y", "G"];
const PAGES: [&str; 3] = ["A", "B", "C"];
const IOVAS: [u64; 5] = [0x10000, 0x11000, 0x1f_f000, 0x20_0000, 0x7f_ffff_f000];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Blocked,
    Bypass,
    Domain(&'static str),
}

impl Place {
    const fn name(self) -> &'static str {
        match self {
            Place::Blocked => "blocked",
            Place::Bypass => "bypass",
            Place::Domain(name) => name,
        }
    }

    fn is_stage2(self) -> bool {
        self == Place::Domain("G")
    }
}

/// One operation. What it does, and how it must end, follows from those before it.
#[derive(Clone, Debug)]
enum Op {
    Attach(&'static str, Place),
    Substream(&'static str, u32, Place),
    Group(Vec<&'static str>, Place),
    /// Map, remap or unmap.
    Change {
        domain: &'static str,
        iova: u64,
        page: &'static str,
        writable: bool,
        takes: bool,
    },
    /// Unmap up to so many pages of the domain, and flush once.
    Defer(&'static str, usize),
    Dma {
        device: &'static str,
        substream: Option<u32>,
        translated: bool,
        iova: u64,
        offset: u64,
    },
    Quarantine(&'static str),
}

fn ops(seed: u64, count: usize) -> Vec<Op> {
    let mut random = Random::new(seed);
    (0..count).map(|_| op(&mut random)).collect()
}

fn op(random: &mut Random) -> Op {
    let device = random.pick(&DEVICES).unwrap();
    let domain = random.pick(&DOMAINS).unwrap();
    let iova = random.pick(&IOVAS).unwrap();
    let place = match random.below(6) {
        0 => Place::Blocked,
        1 => Place::Bypass,
        _ => Place::Domain(domain),
    };
    match random.below(24) {
        0..=2 => Op::Attach(device, place),
        3..=5 => {
            let device = random.pick(&WITH_SUBSTREAMS).unwrap();
            Op::Substream(device, substream(random, device), place)
        }
        6 => {
            let members = DEVICES.into_iter().filter(|_| random.below(2) == 0);
            let members: Vec<_> = members.collect();
            Op::Group(if members.is_empty() { vec![device] } else { members }, place)
        }
        7..=11 => {
            let (page, writable) = (random.pick(&PAGES).unwrap(), random.below(4) != 0);
            Op::Change { domain, iova, page, writable, takes: random.below(2) == 0 }
        }
        12 => Op::Defer(domain, 1 + random.below(3)),
        13 if random.below(4) == 0 => Op::Quarantine(random.pick(&WITH_ATS).unwrap()),
        _ => {
            let sends = WITH_SUBSTREAMS.contains(&device) && random.below(2) == 0;
            let substream = sends.then(|| substream(random, device));
            let translated = WITH_ATS.contains(&device) && random.below(2) == 0;
            let offset = 4 * random.below(1024) as u64;
            Op::Dma { device, substream, translated, iova, offset }
        }
    }
}

fn substream(random: &mut Random, device: &str) -> u32 {
    let usable = if device == "d1" { 3 } else { SUBSTREAMS.len() };
    random.pick(&SUBSTREAMS[..usable]).unwrap()
}

/// What the driver promises, without any cache.
struct Promise {
    streams: BTreeMap<&'static str, Place>,
    substreams: BTreeMap<(&'static str, u32), &'static str>,
    maps: BTreeMap<(&'static str, u64), (&'static str, bool)>,
    /// Whether the second leaf of the two-level table of `d0` has been in use.
    second_leaf: bool,
}

impl Promise {
    fn new() -> Self {
        let streams = DEVICES.iter().map(|device| (*device, Place::Blocked)).collect();
        Promise { streams, substreams: BTreeMap::new(), maps: BTreeMap::new(), second_leaf: false }
    }

    fn has_substreams(&self, device: &str) -> bool {
        self.substreams.keys().any(|(of, _)| *of == device)
    }

    fn refuses(&self, device: &str, to: Place) -> bool {
        to.is_stage2() && self.has_substreams(device)
    }

    /// The steps of an operation; none if there is nothing to do.
    fn steps(&mut self, op: &Op) -> Vec<String> {
        match op {
            Op::Attach(device, to) => {
                let refused = self.refuses(device, *to);
                if !refused {
                    self.streams.insert(device, *to);
                }
                vec![format!(
                    "attach = {{ device = \"{device}\", to = \"{}\"{} }}",
                    to.name(),
                    fails(refused)
                )]
            }
            Op::Substream(device, id, to) => {
                let refused = match to {
                    Place::Bypass => true,
                    Place::Domain(_) => to.is_stage2() || self.streams[device].is_stage2(),
                    Place::Blocked => false,
                };
                match to {
                    _ if refused => {}
                    Place::Domain(domain) => {
                        self.substreams.insert((device, *id), domain);
                        self.second_leaf |= *device == "d0" && *id >> 6 != 0;
                    }
                    _ => {
                        self.substreams.remove(&(*device, *id));
                    }
                }
                vec![format!(
                    "attach = {{ device = \"{device}\", substream = {id}, to = \"{}\"{} }}",
                    to.name(),
                    fails(refused)
                )]
            }
            Op::Group(devices, to) => {
                let refused = devices.iter().any(|device| self.refuses(device, *to));
                if !refused {
                    self.streams.extend(devices.iter().map(|device| (*device, *to)));
                }
                vec![format!(
                    "attach_group = {{ devices = {devices:?}, to = \"{}\"{} }}",
                    to.name(),
                    fails(refused)
                )]
            }
            Op::Change { domain, iova, page, writable, takes } => {
                vec![self.change(domain, *iova, page, *writable, *takes)]
            }
            Op::Defer(domain, count) => self.defer(domain, *count),
            Op::Dma { device, substream, translated, iova, offset } => {
                self.dma(device, *substream, *translated, *iova, *offset).into_iter().collect()
            }
            Op::Quarantine(device) => {
                self.streams.insert(device, Place::Blocked);
                self.substreams.retain(|(of, _), _| of != device);
                vec![format!("quarantine = {{ device = \"{device}\" }}")]
            }
        }
    }

    fn change(
        &mut self,
        domain: &'static str,
        iova: u64,
        page: &'static str,
        writable: bool,
        takes: bool,
    ) -> String {
        let mapped = self.maps.contains_key(&(domain, iova));
        if mapped && takes {
            self.maps.remove(&(domain, iova));
            return format!("unmap = {{ domain = \"{domain}\", iova = {iova} }}");
        }
        self.maps.insert((domain, iova), (page, writable));
        let (kind, access) =
            (if mapped { "remap" } else { "map" }, if writable { "rw" } else { "ro" });
        format!(
            "{kind} = {{ domain = \"{domain}\", iova = {iova}, page = \"{page}\", \
             access = \"{access}\" }}"
        )
    }

    fn defer(&mut self, domain: &'static str, count: usize) -> Vec<String> {
        let mapped: Vec<_> = self.maps.iter().filter(|(key, _)| key.0 == domain).collect();
        let gone: Vec<(u64, &str)> =
            mapped.into_iter().take(count).map(|((_, iova), (page, _))| (*iova, *page)).collect();
        if gone.is_empty() {
            return Vec::new();
        }
        self.maps.retain(|(of, iova), _| of != &domain || gone.iter().all(|(at, _)| at != iova));
        let defer = |(iova, page): &(u64, &str)| {
            format!("defer = {{ domain = \"{domain}\", iova = {iova}, page = \"{page}\" }}")
        };
        let pages: Vec<&str> = gone.iter().map(|(_, page)| *page).collect();
        let flush = format!("flush = {{ domain = \"{domain}\", hands_back = {pages:?} }}");
        gone.iter().map(defer).chain([flush]).collect()
    }

    fn dma(
        &self,
        device: &'static str,
        substream: Option<u32>,
        translated: bool,
        iova: u64,
        offset: u64,
    ) -> Option<String> {
        let beside = self.has_substreams(device);
        let stream = self.streams[device];
        let domain = match (substream, stream) {
            // Without a substream in use, what a SubstreamID does depends on the stream's STE.
            (Some(_), _) if !beside => return None,
            (Some(id), _) if device == "d0" && id >> 6 != 0 && !self.second_leaf => {
                Err("C_BAD_SUBSTREAMID")
            }
            (Some(id), _) => self.substreams.get(&(device, id)).copied().ok_or("C_BAD_CD"),
            (None, Place::Domain(domain)) => Ok(domain),
            // ATS of a stream in bypass beside substreams is the SMMU's identity.
            (None, Place::Bypass) if translated && beside => return None,
            (None, Place::Bypass) if !translated => {
                let page = PAGES[(offset / 4) as usize % PAGES.len()];
                return Some(format!(
                    "dma = {{ device = \"{device}\", at = \"{page}\", reaches = \"{page}\" }}"
                ));
            }
            // This device asks at any time.
            (None, Place::Bypass) if device == "d2" => Err("F_BAD_ATS_TREQ"),
            (None, Place::Blocked) if beside => Err("F_STREAM_DISABLED"),
            (None, _) => Err(""),
        };
        let access = domain.map(|domain| self.maps.get(&(domain, iova)));
        let end = match access {
            Ok(Some((page, true))) => format!("reaches = \"{page}\""),
            Err("F_BAD_ATS_TREQ") => "faults = \"F_BAD_ATS_TREQ\"".to_owned(),
            _ if translated => "refused = true".to_owned(),
            Ok(Some(_)) => "faults = \"F_PERMISSION\"".to_owned(),
            Ok(None) => "faults = \"F_TRANSLATION\"".to_owned(),
            Err("") => "refused = true".to_owned(),
            Err(event) => format!("faults = \"{event}\""),
        };
        let mut how = String::new();
        if let Some(id) = substream {
            write!(how, ", substream = {id}").unwrap();
        }
        if translated {
            how += ", translated = true";
        }
        let iova = iova + offset;
        Some(format!("dma = {{ device = \"{device}\"{how}, iova = {iova}, {end} }}"))
    }
}

const fn fails(refused: bool) -> &'static str {
    if refused { ", fails = \"refused\"" } else { "" }
}

/// The scenario of these operations. At its end every use is over, and no tag is in use.
fn scenario(ops: &[Op]) -> String {
    let (mut promise, mut text) = (Promise::new(), HEAD.to_owned());
    let mut steps: Vec<String> = ops.iter().flat_map(|op| promise.steps(op)).collect();
    let live: BTreeSet<_> = promise.substreams.keys().copied().collect();
    for (device, id) in live {
        steps.extend(promise.steps(&Op::Substream(device, id, Place::Blocked)));
    }
    steps.extend(promise.steps(&Op::Group(DEVICES.to_vec(), Place::Blocked)));
    for smmu in ["smmu0", "smmu1", "smmu2"] {
        steps.push(format!("expect = {{ smmu = \"{smmu}\", asids_in_use = 0, vmids_in_use = 0 }}"));
    }
    for step in steps {
        writeln!(text, "[[step]]\n{step}").unwrap();
    }
    text
}

fn run(ops: &[Op], options: RunOptions) -> RunReport {
    let text = scenario(ops);
    let scenario = Scenario::parse("generated", "generated.toml", &text)
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    run::run(&scenario, &Mock, options)
}

/// The fewest operations that still fail.
fn shrunk(ops: Vec<Op>, options: RunOptions) -> Vec<Op> {
    shrink::shrunk(ops, |ops| matches!(run(ops, options).outcome, RunOutcome::Failed(_)))
}

/// 100,000 operations in ten tests: each ends as promised, the model sees no hazard, and at the end
/// of each list no tag is in use.
#[rstest]
fn every_kind_of_attach_keeps_the_promise(#[values(0, 1, 2, 3, 4, 5, 6, 7, 8, 9)] tenth: u64) {
    const EACH: usize = 200;
    let mut kinds = BTreeMap::<String, usize>::new();
    for seed in tenth * 50..(tenth + 1) * 50 {
        let ops = ops(seed, EACH);
        let report = run(&ops, RunOptions::default());
        if report.outcome != RunOutcome::Passed {
            let few = shrunk(ops, RunOptions::default());
            let file =
                Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("every-kind-{seed}.toml"));
            std::fs::write(&file, scenario(&few)).unwrap();
            let outcome = run(&few, RunOptions::default()).outcome;
            panic!("seed {seed}: {outcome:?}; run {}", file.display());
        }
        for line in &report.transcript {
            for kind in ["ATC_INV", "CFGI_CD_ALL", "F_STREAM_DISABLED", "C_BAD_CD", "handed back"] {
                if line.text.contains(kind) {
                    *kinds.entry(kind.to_owned()).or_default() += 1;
                }
            }
        }
    }
    // The work is about what it is meant to be about.
    assert!(kinds.len() == 5 && kinds.values().all(|count| *count > 50), "{kinds:?}");
}

/// A driver that leaves something out is caught, and what is left of the work is short.
#[test]
fn a_broken_driver_does_not_and_its_failure_shrinks() {
    for sabotage in Sabotage::ALL {
        // No queue stops here.
        if sabotage == Sabotage::TimeoutCountsAsDone {
            continue;
        }
        let options = RunOptions { sabotage: Some(sabotage) };
        let failing = (0..20)
            .map(|seed| ops(seed, 150))
            .find(|ops| matches!(run(ops, options).outcome, RunOutcome::Failed(_)));
        let few = shrunk(failing.unwrap_or_else(|| panic!("{sabotage:?} is not noticed")), options);
        let outcome = run(&few, options).outcome;
        assert!(matches!(outcome, RunOutcome::Failed(_)), "{sabotage:?}: {outcome:?}");
        assert!(few.len() <= 8, "{sabotage:?}: {few:#?}");
    }
}
