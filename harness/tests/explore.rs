//! Random raw work on the model and on QEMU, judged by the model.
//!
//! With `SMMU_NO_QEMU=1` what needs QEMU is ignored.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;

use common::{smmu_harness, trial};
use libtest_mimic::Arguments;
use smmu_engine::machine::Backend;
use smmu_harness::backend::{MockVariant, Qemu};
use smmu_harness::explore::{
    Deviation, Explorer, KNOWN_QEMU, Kind, QEMU_DEVIATIONS, RawOp, Tally, Work,
};
use smmu_model::WhileAtsOff;

const STEPS: usize = 2000;

/// Plays 40 seeds on the model, and finds nothing.
fn agreed(kind: Kind) -> Tally {
    let mut explorer = Explorer::of_model(kind).unwrap();
    for seed in 0..40 {
        let found = explorer.play(&Explorer::work(kind, seed, STEPS).ops).unwrap();
        assert_eq!(found, None, "seed {seed}");
    }
    explorer.tally().clone()
}

fn each_event_came(tally: &Tally, events: &[&str]) {
    for event in events {
        assert!(tally.events.get(*event).is_some_and(|count| *count > 10), "{event}: {tally:?}");
    }
}

/// Seeds that a change of the generator must not make one-sided.
fn the_model_agrees_with_itself() {
    let tally = agreed(Kind::Plain);
    assert_eq!(tally.steps, 40 * STEPS as u64);
    assert!(tally.landed * 10 > tally.dmas, "{tally:?}");
    assert!(tally.stale > 100 && tally.stale * 10 < tally.dmas, "{tally:?}");
    assert!(tally.refused > 100, "{tally:?}");
    each_event_came(
        &tally,
        &[
            "C_BAD_STREAMID",
            "F_STE_FETCH",
            "C_BAD_STE",
            "C_BAD_CD",
            "F_CD_FETCH",
            "F_WALK_EABT",
            "F_TRANSLATION",
            "F_ADDR_SIZE",
            "F_ACCESS",
            "F_PERMISSION",
        ],
    );
}

fn the_full_model_agrees_with_itself() {
    let tally = agreed(Kind::Full);
    assert!(tally.landed * 20 > tally.dmas, "{tally:?}");
    assert!(tally.stale > 100 && tally.stale * 10 < tally.dmas, "{tally:?}");
    let enough = [
        tally.stalls[0],
        tally.stalls[1],
        tally.translated,
        tally.requests[0],
        tally.requests[1],
        tally.pages[0],
        tally.pages[1],
        tally.lost,
    ];
    assert!(enough.iter().all(|count| *count > 10), "{tally:?}");
    each_event_came(
        &tally,
        &["C_BAD_SUBSTREAMID", "F_STREAM_DISABLED", "F_BAD_ATS_TREQ", "F_TRANSLATION"],
    );
}

/// A machine whose addresses are smaller differs in few of its answers.
const SMALL: MockVariant = MockVariant {
    name: "small",
    change: |profile, _| profile.output_size = smmu_types::OutputSize::Bits32,
};

fn a_machine_that_differs_is_found_and_its_work_shrinks() {
    let mut explorer = Explorer::of_model(Kind::Plain).unwrap();
    explorer.add(Box::new(SMALL), &[]).unwrap();
    let work = Explorer::work(Kind::Plain, 1, STEPS);
    let finding = explorer.play(&work.ops).unwrap().unwrap();
    assert_eq!(finding.machine, "small");
    let few = explorer.shrunk(&work.ops, &finding).unwrap();
    assert!(few.len() <= 5, "{few:#?}");
    needs_all_of_it(&mut explorer, Kind::Plain, few, "small");
}

/// What is left needs all of it, and the file says the same.
fn needs_all_of_it(explorer: &mut Explorer<'_>, kind: Kind, few: Vec<RawOp>, machine: &str) {
    let again = explorer.play(&few).unwrap().unwrap();
    assert_eq!((again.machine.as_str(), again.step), (machine, few.len()));
    for left_out in 0..few.len() {
        let mut fewer = few.clone();
        fewer.remove(left_out);
        assert_eq!(explorer.play(&fewer).unwrap(), None, "without {}", few[left_out]);
    }
    let work = Work { kind, ops: few };
    assert_eq!(Work::parse(&work.lines()).unwrap(), work);
}

/// Machines that lack a part of what a full one has. Each is found by what it lacks.
const LACKING: [MockVariant; 7] = [
    MockVariant { name: "no 16 KiB", change: |profile, _| profile.granule_16k = false },
    MockVariant { name: "no 64 KiB", change: |profile, _| profile.granule_64k = false },
    MockVariant {
        name: "silent devices",
        change: |profile, _| profile.while_ats_off = WhileAtsOff::NeverAnswers,
    },
    MockVariant { name: "one stall", change: |profile, _| profile.stall_max = 1 },
    MockVariant { name: "four substreams", change: |profile, _| profile.substream_bits = 2 },
    MockVariant { name: "linear CDs", change: |profile, _| profile.two_level_cd = false },
    MockVariant { name: "two page requests", change: |profile, _| profile.priq_log2 = 1 },
];

fn a_full_machine_that_lacks_something_is_found() {
    for lacking in LACKING {
        let mut explorer = Explorer::of_model(Kind::Full).unwrap();
        explorer.add(Box::new(lacking), &[]).unwrap();
        let found = (0..20).find_map(|seed| {
            let work = Explorer::work(Kind::Full, seed, STEPS);
            explorer.play(&work.ops).unwrap().map(|finding| (work, finding))
        });
        assert!(found.is_some(), "nobody notices: {}", lacking.name);
        let (work, finding) = found.unwrap();
        assert_eq!(finding.machine, lacking.name);
        let few = explorer.shrunk(&work.ops, &finding).unwrap();
        assert!(few.len() <= 12, "{}: {few:#?}", lacking.name);
        needs_all_of_it(&mut explorer, Kind::Full, few, lacking.name);
    }
}

fn a_file_holds_every_operation() {
    for kind in Kind::ALL {
        let work = Explorer::work(kind, 7, 20_000);
        assert_eq!(Work::parse(&work.lines()).unwrap(), work);
    }
}

fn a_line_that_is_no_operation_is_named() {
    for (line, why) in [
        ("poke 1", "\"poke\" is no operation"),
        ("dma 9 0x1000", "there is no device 9"),
        ("dma 0 0x1001", "a dma needs a multiple of 4"),
        ("dma 0", "a number is missing"),
        ("dma 0 0x1000 0", "\"0\" is too much"),
        ("send 0 1", "two words for each command"),
        ("send 2 1 2", "there is no SMMU 2"),
        ("store 0x40000004 1", "a store needs words"),
        ("store 0x401ffff8 1 2", "a store needs words"),
        ("store 0xfffffffffffffff8 1 2", "a store needs words"),
        ("store 0x40000000 1x", "\"1x\" is not a number"),
        ("translate 0 maybe", "`on` or `off` is missing"),
        ("stream-table 0 7", "a split is 6, 8 or 10"),
        ("command-queue 0 7", "log2 of the size is 6 at most"),
        ("event-queue 0 6", "log2 of the size is 5 at most"),
        ("ats-request 0 0x1000", "this needs `machine full` as the first line"),
        ("dma 0 0x1000 substream 1", "this needs `machine full` as the first line"),
        ("dma 0 0x1000 substream 0x100000", "1048576 is no SubstreamID"),
        ("page-request 0 0x1004 1", "a page request needs a multiple of 0x1000"),
        ("page-request 0 0x1000 512", "512 is no group"),
    ] {
        let error = Work::parse(&format!("# a file\n\n{line}\n")).unwrap_err().to_string();
        assert!(error.starts_with("line 3: ") && error.contains(why), "{line}: {error}");
    }
    let late = Work::parse("dma 0 0x1000\nmachine full\n").unwrap_err().to_string();
    assert_eq!(late, "line 2: `machine full` must come before all operations");
}

/// Runs the command. The answer: standard output, standard error, exit status.
fn explore(arguments: &[&str]) -> (String, String, i32) {
    smmu_harness(Path::new(env!("CARGO_TARGET_TMPDIR")), "explore", arguments)
}

fn the_page_has_the_table_of_the_program() {
    let page = include_str!("../../docs/explore.md");
    let (table, _, _) = explore(&["--known"]);
    assert!(page.contains(&table), "replace the table in docs/explore.md by this one:\n{table}");
}

fn the_program_counts_what_it_did() {
    let (told, complaint, status) = explore(&["--seeds", "2", "--steps", "500"]);
    assert_eq!((complaint.as_str(), status), ("", 0));
    assert!(told.starts_with("mock (plain): 1000 steps of 2 seeds in "), "{told}");
    assert!(told.contains("mock (full): 1000 steps of 2 seeds in "), "{told}");
    let (told, complaint, status) = explore(&["--minutes", "0"]);
    assert_eq!((complaint.as_str(), status), ("", 0));
    assert!(told.contains("mock (full): 0 steps of 0 seeds in "), "{told}");
    let (_, complaint, status) = explore(&["--replay", "/no/such/file.raw"]);
    assert_eq!(status, 2);
    assert!(complaint.contains("/no/such/file.raw"), "{complaint}");
}

/// The list is for one QEMU. Another one may deviate elsewhere.
fn judged_qemu() -> Option<Qemu> {
    let qemu = Qemu::find(None).unwrap();
    if qemu.describe() == KNOWN_QEMU {
        return Some(qemu);
    }
    println!("{} is not {KNOWN_QEMU}, whose deviations are listed: not compared", qemu.describe());
    None
}

fn qemu_differs_as_listed_and_nowhere_else() {
    let Some(qemu) = judged_qemu() else { return };
    let mut explorer = Explorer::of_model(Kind::Plain).unwrap();
    explorer.add(Box::new(qemu), QEMU_DEVIATIONS).unwrap();
    for seed in 0..10 {
        let found = explorer.play(&Explorer::work(Kind::Plain, seed, STEPS).ops).unwrap();
        assert!(found.is_none(), "seed {seed}: {}", found.unwrap());
    }
}

/// Where the event queue is off, nobody is told why a DMA was refused. A deviation counts all the same,
/// and so does what QEMU has cached by it.
fn a_deviation_counts_where_no_event_tells_of_it() {
    let Some(qemu) = judged_qemu() else { return };
    let mut explorer = Explorer::of_model(Kind::Plain).unwrap();
    explorer.add(Box::new(qemu), QEMU_DEVIATIONS).unwrap();
    for work in [
        // The STE is beyond the Span.
        "store 0x40040008 0x40000f41\n\
         stream-table 1 10\n\
         store 0x400c1000 0x4002000a\n\
         store 0x400380c0 0x1e204c0003519 0x40040000 0 0xff 0 0 0 0\n\
         store 0x40028000 0x400380cb 0x1000000000d6 0 0 0 0 0 0\n\
         event-queue 1 off\n\
         dma 2 0x40100b60\n",
        // QEMU caches a block of stage 2, and the CD is read through it.
        "store 0x400380c0 0x1e204c0003519 0x40040000 0 0xff 0 0 0 0\n\
         store 0x40010200 0x400380cf 0x1000000000d6 0x40cb59900000003 0x40070000 0 0 0 0\n\
         store 0x40070000 0x400007fd\n\
         event-queue 0 off\n\
         dma 0 0x40700050\n\
         event-queue 0 5\n\
         store 0x40070000 0x200000000003\n\
         dma 0 0x40400698\n",
    ] {
        let Work { kind, ops } = Work::parse(work).unwrap();
        assert_eq!(kind, Kind::Plain);
        assert_eq!(explorer.play(&ops).unwrap(), None, "{work}");
    }
}

/// Each entry of the list explains its own example, and the others do not.
fn each_deviation_shows_in_its_example() {
    if judged_qemu().is_none() {
        return;
    }
    for Deviation { name, example, .. } in QEMU_DEVIATIONS {
        let Work { kind, ops } = Work::parse(example).unwrap();
        assert_eq!(kind, Kind::Plain, "{name}");
        let others: Vec<Deviation> =
            QEMU_DEVIATIONS.iter().filter(|other| other.name != *name).copied().collect();
        let mut explorer = Explorer::of_model(Kind::Plain).unwrap();
        explorer.add(Box::new(Qemu::find(None).unwrap()), &others).unwrap();
        let finding = explorer.play(&ops).unwrap();
        assert!(finding.is_some(), "{name}: QEMU no longer shows it, or another entry explains it");
        let mut explorer = Explorer::of_model(Kind::Plain).unwrap();
        explorer.add(Box::new(Qemu::find(None).unwrap()), QEMU_DEVIATIONS).unwrap();
        assert_eq!(explorer.play(&ops).unwrap(), None, "{name}");
        assert!(explorer.tally().deviations.contains_key(name), "{name}");
    }
}

fn main() {
    let no_qemu = common::qemu_is_left_out();
    let of_qemu = |name, test: fn()| trial(name, test).with_ignored_flag(no_qemu);
    let trials = vec![
        trial("the_model_agrees_with_itself", the_model_agrees_with_itself),
        trial("the_full_model_agrees_with_itself", the_full_model_agrees_with_itself),
        trial(
            "a_full_machine_that_lacks_something_is_found",
            a_full_machine_that_lacks_something_is_found,
        ),
        trial(
            "a_machine_that_differs_is_found_and_its_work_shrinks",
            a_machine_that_differs_is_found_and_its_work_shrinks,
        ),
        trial("a_file_holds_every_operation", a_file_holds_every_operation),
        trial("a_line_that_is_no_operation_is_named", a_line_that_is_no_operation_is_named),
        trial("the_page_has_the_table_of_the_program", the_page_has_the_table_of_the_program),
        trial("the_program_counts_what_it_did", the_program_counts_what_it_did),
        of_qemu("qemu_differs_as_listed_and_nowhere_else", qemu_differs_as_listed_and_nowhere_else),
        of_qemu(
            "a_deviation_counts_where_no_event_tells_of_it",
            a_deviation_counts_where_no_event_tells_of_it,
        ),
        of_qemu("each_deviation_shows_in_its_example", each_deviation_shows_in_its_example),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
