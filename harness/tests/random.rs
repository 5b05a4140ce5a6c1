//! Random scenarios: attaches, maps, moves and DMA in any order. A plain model of the *driver's
//! promise* predicts the outcome of each DMA. A failure prints the scenario, which runs as a file.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write;

use common::trial;
use libtest_mimic::Arguments;
use smmu_engine::machine::Backend;
use smmu_engine::run::{self, RunOptions, RunOutcome, Sabotage};
use smmu_engine::scenario::Scenario;
use smmu_harness::backend::{Mock, Qemu};
use smmu_harness::explore::random::Random;

/// SMMUs of one kind, which every backend has.
const ALIKE: &str = r#"
needs = ["stage1", "stage2", "several-smmus"]
smmu = [{ name = "smmu0" }, { name = "smmu1" }, { name = "smmu2" }]
"#;

const HEAD: &str = r#"
title = "generated"
pages = ["A", "B", "C", "D"]
device = [
    { name = "d0", smmu = "smmu0", stream = 0x08 },
    { name = "d1", smmu = "smmu0", stream = 0x10 },
    { name = "d2", smmu = "smmu1", stream = 0x900 },
    { name = "d3", smmu = "smmu2", stream = 0xd00 },
]
domain = [
    { name = "X", stage = "s1" },
    { name = "Y", stage = "s1" },
    { name = "G", stage = "s2" },
]
"#;

const DEVICES: [&str; 4] = ["d0", "d1", "d2", "d3"];
const DOMAINS: [&str; 3] = ["X", "Y", "G"];
const PAGES: [&str; 4] = ["A", "B", "C", "D"];
// Neighbours, and pages of other tables of levels 3, 2 and 1.
const IOVAS: [u64; 6] = [0x10000, 0x11000, 0x1f_f000, 0x20_0000, 0x4000_0000, 0x7f_ffff_f000];

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Blocked,
    Bypass,
    Domain(&'static str),
}

/// What the driver promises, without any cache.
struct Promise {
    places: BTreeMap<&'static str, Place>,
    maps: BTreeMap<(&'static str, u64), (&'static str, bool)>,
    /// Which stages each SMMU has.
    stages: [[bool; 2]; 3],
}

impl Promise {
    /// Whether the SMMU of a device can walk the tables of a domain.
    fn can(&self, device: &str, domain: &str) -> bool {
        let smmu = [0, 0, 1, 2][DEVICES.iter().position(|name| *name == device).unwrap()];
        self.stages[smmu][usize::from(domain == "G")]
    }
}

/// What the SMMUs of a scenario are.
#[derive(Clone, Copy, PartialEq)]
enum Kinds {
    Alike,
    /// Each differs at random in range invalidation, tag widths, address size, stages and tables.
    Mixed,
}

/// Three SMMUs, each of a kind of its own. `smmu0` has both stages, so that no domain is refused
/// everywhere. Returns which SMMU has which stage.
fn mixed_smmus(random: &mut Random) -> (String, [[bool; 2]; 3]) {
    let mut text = "needs = [\"stage1\", \"stage2\", \"several-smmus\", \"smmu-kinds\", \
                    \"asid8\"]\nsmmu = [\n"
        .to_owned();
    let (mut stages, linear) = ([[true; 2]; 3], random.below(24));
    for (n, has) in stages.iter_mut().enumerate() {
        let mut more = String::new();
        if random.below(2) == 0 {
            more += ", range = false";
        }
        if random.below(2) == 0 {
            more += ", asid_bits = 8";
        }
        if random.below(2) == 0 {
            more += ", vmid_bits = 8";
        }
        // The RAM of the model has room for one linear table of 2^16 STEs, and each look at all of
        // them takes long.
        if n == linear {
            more += ", stream_table = \"linear\"";
        }
        let oas = random.pick(&[40, 42, 44, 48]).unwrap();
        write!(more, ", oas = {oas}").unwrap();
        match random.below(4) {
            0 if n > 0 => {
                *has = [true, false];
                more += ", stages = [\"s1\"]";
            }
            1 if n > 0 => {
                *has = [false, true];
                more += ", stages = [\"s2\"]";
            }
            _ => {}
        }
        writeln!(text, "    {{ name = \"smmu{n}\"{more} }},").unwrap();
    }
    text += "]\n";
    (text, stages)
}

fn generate(seed: u64, steps: usize, kinds: Kinds) -> String {
    let mut random = Random::new(seed);
    let (smmus, stages) = match kinds {
        Kinds::Alike => (ALIKE.to_owned(), [[true; 2]; 3]),
        Kinds::Mixed => mixed_smmus(&mut random),
    };
    let mut promise = Promise {
        places: DEVICES.iter().map(|device| (*device, Place::Blocked)).collect(),
        maps: BTreeMap::new(),
        stages,
    };
    let mut text = smmus + HEAD;
    for _ in 0..steps {
        let step = match random.below(10) {
            0 | 1 => attach(&mut random, &mut promise),
            2..=5 => change(&mut random, &mut promise),
            _ => dma(&mut random, &promise),
        };
        writeln!(text, "[[step]]\n{step}").unwrap();
    }
    for device in DEVICES {
        writeln!(text, "[[step]]\nattach = {{ device = \"{device}\", to = \"blocked\" }}").unwrap();
    }
    for smmu in ["smmu0", "smmu1", "smmu2"] {
        let none = format!("expect = {{ smmu = \"{smmu}\", asids_in_use = 0, vmids_in_use = 0 }}");
        writeln!(text, "[[step]]\n{none}").unwrap();
    }
    text
}

fn attach(random: &mut Random, promise: &mut Promise) -> String {
    let device = random.pick(&DEVICES).unwrap();
    let place = match random.below(6) {
        0 => Place::Blocked,
        1 => Place::Bypass,
        _ => Place::Domain(random.pick(&DOMAINS).unwrap()),
    };
    let refused = matches!(place, Place::Domain(domain) if !promise.can(device, domain));
    if !refused {
        promise.places.insert(device, place);
    }
    let fails = if refused { ", fails = \"cannot-share\"" } else { "" };
    let to = match place {
        Place::Blocked => "blocked",
        Place::Bypass => "bypass",
        Place::Domain(domain) => domain,
    };
    format!("attach = {{ device = \"{device}\", to = \"{to}\"{fails} }}")
}

fn change(random: &mut Random, promise: &mut Promise) -> String {
    let key = (random.pick(&DOMAINS).unwrap(), random.pick(&IOVAS).unwrap());
    let (domain, iova) = key;
    if random.below(4) == 0 {
        return change_two(random, promise, key.0);
    }
    let page = random.pick(&PAGES).unwrap();
    let writable = random.below(4) != 0;
    let access = if writable { "rw" } else { "ro" };
    let mapping = format!(
        "{{ domain = \"{domain}\", iova = {iova}, page = \"{page}\", access = \"{access}\" }}"
    );
    match (promise.maps.contains_key(&key), random.below(2)) {
        (true, 0) => {
            promise.maps.remove(&key);
            format!("unmap = {{ domain = \"{domain}\", iova = {iova} }}")
        }
        (mapped, _) => {
            promise.maps.insert(key, (page, writable));
            format!("{} = {mapping}", if mapped { "remap" } else { "map" })
        }
    }
}

/// Maps or unmaps two pages side by side in one step, if both are unmapped or mapped.
fn change_two(random: &mut Random, promise: &mut Promise, domain: &'static str) -> String {
    let keys = [(domain, IOVAS[0]), (domain, IOVAS[1])];
    let mapped = keys.map(|key| promise.maps.contains_key(&key));
    match mapped {
        [true, true] => {
            promise.maps.retain(|key, _| !keys.contains(key));
            format!("unmap = {{ domain = \"{domain}\", iova = {}, pages = 2 }}", IOVAS[0])
        }
        [false, false] => {
            let pages = [(); 2].map(|()| random.pick(&PAGES).unwrap());
            for (key, page) in keys.into_iter().zip(pages) {
                promise.maps.insert(key, (page, true));
            }
            let [first, second] = pages;
            format!(
                "map = {{ domain = \"{domain}\", iova = {}, pages = [\"{first}\", \"{second}\"] }}",
                IOVAS[0]
            )
        }
        [first, _] => {
            let key = keys[usize::from(!first)];
            promise.maps.remove(&key);
            format!("unmap = {{ domain = \"{domain}\", iova = {} }}", key.1)
        }
    }
}

fn dma(random: &mut Random, promise: &Promise) -> String {
    let device = random.pick(&DEVICES).unwrap();
    // Mostly where something is mapped, so that there are cached lines to forget.
    let mapped: Vec<u64> = match promise.places[device] {
        Place::Domain(domain) => {
            promise.maps.keys().filter(|k| k.0 == domain).map(|k| k.1).collect()
        }
        _ => Vec::new(),
    };
    let page = match random.below(4) {
        0 => random.pick(&IOVAS).unwrap(),
        _ if mapped.is_empty() => random.pick(&IOVAS).unwrap(),
        _ => random.pick(&mapped).unwrap(),
    };
    let iova = page + 4 * random.below(1024) as u64;
    let end = match promise.places[device] {
        Place::Blocked => "refused = true".to_owned(),
        Place::Bypass => {
            let page = random.pick(&PAGES).unwrap();
            return format!(
                "dma = {{ device = \"{device}\", at = \"{page}\", reaches = \"{page}\" }}"
            );
        }
        Place::Domain(domain) => match promise.maps.get(&(domain, iova & !0xfff)) {
            Some((page, true)) => format!("reaches = \"{page}\""),
            Some((_, false)) => "faults = \"F_PERMISSION\"".to_owned(),
            None => "faults = \"F_TRANSLATION\"".to_owned(),
        },
    };
    format!("dma = {{ device = \"{device}\", iova = {iova}, {end} }}")
}

/// How many of these seeds do not pass.
fn failures(
    backend: &dyn Backend,
    seeds: std::ops::Range<u64>,
    kinds: Kinds,
    options: RunOptions,
) -> usize {
    let mut failures = 0;
    for seed in seeds {
        let text = generate(seed, 60, kinds);
        let name = format!("seed-{seed}");
        let scenario = Scenario::parse(&name, &name, &text).unwrap();
        let report = run::run(&scenario, backend, options);
        match report.outcome {
            RunOutcome::Passed => {}
            RunOutcome::Failed(_) if options.sabotage.is_some() => failures += 1,
            other => panic!("seed {seed} on {}: {other:?}\n{text}", backend.name()),
        }
    }
    failures
}

fn the_model_keeps_the_promise() {
    assert_eq!(failures(&Mock, 0..150, Kinds::Alike, RunOptions::default()), 0);
}

fn the_model_keeps_the_promise_on_smmus_of_different_kinds() {
    assert_eq!(failures(&Mock, 0..80, Kinds::Mixed, RunOptions::default()), 0);
}

fn qemu_keeps_the_promise() {
    let qemu = Qemu::find(None).unwrap();
    assert_eq!(failures(&qemu, 0..15, Kinds::Alike, RunOptions::default()), 0);
}

fn a_broken_driver_does_not() {
    for sabotage in Sabotage::ALL {
        // No queue stops here, and no device has ATS.
        if [Sabotage::TimeoutCountsAsDone, Sabotage::UnmapWithoutAtcInv].contains(&sabotage) {
            continue;
        }
        let options = RunOptions { sabotage: Some(sabotage) };
        for (kinds, seeds) in [(Kinds::Alike, 10), (Kinds::Mixed, 20)] {
            let failed = failures(&Mock, 0..seeds, kinds, options);
            assert!(failed >= 5, "{sabotage:?} was noticed by {failed} of {seeds}");
        }
    }
}

fn main() {
    let no_qemu = common::qemu_is_left_out();
    let trials = vec![
        trial("the_model_keeps_the_promise", the_model_keeps_the_promise),
        trial(
            "the_model_keeps_the_promise_on_smmus_of_different_kinds",
            the_model_keeps_the_promise_on_smmus_of_different_kinds,
        ),
        trial("qemu_keeps_the_promise", qemu_keeps_the_promise).with_ignored_flag(no_qemu),
        trial("a_broken_driver_does_not", a_broken_driver_does_not),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
