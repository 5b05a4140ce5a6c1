//! What the scenarios notice when one command of the driver is left out, moved or changed.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::smmu_harness;
use rstest::rstest;
use smmu_engine::machine::QueueName;
use smmu_engine::run::RunOutcome;
use smmu_engine::scenario::Scenario;
use smmu_harness::backend::{Mock, UNHELPFUL, USUAL_ONLY};
use smmu_harness::mutate::{
    Harmless, Mutant, Mutation, NoMutants, Site, StoreMutant, StoreVerdict, Table, Verdict,
    mutants, name_of, repeats, run_forgetful, sites, store_mutants,
};
use smmu_harness::scenario_files::{builtin, builtin_named};
use smmu_model::Lapse;
use smmu_types::PhysAddr;

/// Scenarios whose mutants the tests know one by one. Stage 1, stage 2, several SMMUs, reused tags, ATS.
const KNOWN: [&str; 6] =
    ["first-light", "remap", "tag-reuse", "replace-domain", "stage2-vmid", "ats-on-off"];

fn scenario(name: &str) -> Scenario {
    builtin_named(name).unwrap().unwrap()
}

fn of(name: &str) -> Vec<Mutant> {
    mutants(&scenario(name), &UNHELPFUL, &Mutation::ALL, 2).unwrap()
}

fn run(arguments: &[&str]) -> (String, String, i32) {
    smmu_harness(Path::new(env!("CARGO_TARGET_TMPDIR")), "mutate", arguments)
}

fn missed(mutants: &[Mutant], command: &str, mutation: Mutation) -> Vec<usize> {
    let missed = mutants.iter().filter(|mutant| {
        !mutant.verdict.is_noticed()
            && mutant.mutation == mutation
            && name_of(mutant.site.command) == command
    });
    missed.map(|mutant| mutant.number).collect()
}

/// Each TLBI of these scenarios is needed: without it, after its sync, with another tag or address,
/// a device could reach what is gone.
#[test]
fn each_tlbi_is_needed_as_it_is() {
    for name in KNOWN {
        let mutants = of(name);
        for command in ["TLBI_NH_VA", "TLBI_NH_ASID", "TLBI_S12_VMALL", "TLBI_S2_IPA"] {
            for mutation in
                [Mutation::LeftOut, Mutation::AfterSync, Mutation::WrongTag, Mutation::WrongAddress]
            {
                let missed = missed(&mutants, command, mutation);
                assert!(missed.is_empty(), "{name}: {command} {missed:?}: {}", mutation.name());
            }
        }
        assert_eq!(Table::of(&mutants).sum(|_, _| true).all, mutants.len(), "{name}");
        assert!(mutants.len() > 20, "{name}: {}", mutants.len());
    }
}

/// Every mutant of two scenarios that is not noticed, and why it does no harm.
#[test]
fn what_is_not_noticed_is_known() {
    use Harmless::{CompletedLater, Needless, SameEffect};
    use Mutation::{AfterSync, LeftOut, WrongTag};
    let harmless = |name: &str| -> Vec<(usize, Mutation, Harmless)> {
        let not_noticed = of(name).into_iter().filter(|mutant| !mutant.verdict.is_noticed());
        let why = |mutant: Mutant| match mutant.verdict {
            Verdict::Harmless(why) => (mutant.number, mutant.mutation, why),
            other => panic!("{name}: {other:?}"),
        };
        not_noticed.map(why).collect()
    };
    // The SYNC between CFGI_ALL and TLBI_NSNH_ALL could be that behind both.
    let set_up = [(0, AfterSync, CompletedLater), (1, LeftOut, CompletedLater)];
    // Another StreamID of the same level-1 descriptor, of which no STE was reachable before.
    let first_stream = (4, WrongTag, SameEffect);
    assert_eq!(harmless("remap"), [&set_up[..], &[first_stream]].concat());
    // The last step to a blocked stream clears words that an aborting STE does not use.
    let clears = [LeftOut, AfterSync, WrongTag].map(|mutation| (14, mutation, Needless));
    let synced = [(15, LeftOut, CompletedLater)];
    let expected = [&set_up[..], &[first_stream], &clears, &synced].concat();
    assert_eq!(harmless("first-light"), expected);
}

/// The commands of a second queue are changed too, and each of them is needed as it is.
#[test]
fn each_command_of_a_second_queue_is_needed() {
    let mutants = of("two-queues");
    let of_second = |mutant: &&Mutant| mutant.site.queue == QueueName::Second;
    // The last step sends a CFGI_STE that the queue refuses, and nothing behind it is needed.
    let refused = mutants
        .iter()
        .filter(of_second)
        .find(|mutant| name_of(mutant.site.command) == "CFGI_STE")
        .map(|mutant| mutant.number)
        .unwrap();
    let missed: Vec<_> = mutants
        .iter()
        .filter(of_second)
        .filter(|mutant| !mutant.verdict.is_noticed() && mutant.number < refused)
        .map(|mutant| (mutant.number, name_of(mutant.site.command), mutant.mutation))
        .collect();
    assert_eq!(missed, []);
    let made = |command: &str| {
        mutants.iter().filter(of_second).filter(|m| name_of(m.site.command) == command).count()
    };
    assert!(made("TLBI_NH_VA") >= 6 && made("SYNC") >= 2, "{mutants:?}");
}

/// The order of the mutants does not depend on who is faster.
#[test]
fn the_order_is_the_same_with_any_number_of_threads() {
    let of = |threads| mutants(&scenario("tag-reuse"), &UNHELPFUL, &Mutation::ALL, threads);
    assert_eq!(of(1), of(3));
}

/// With few kinds the verdicts are the same as with all.
#[test]
fn few_kinds_have_the_same_verdicts() {
    let few = [Mutation::WrongTag, Mutation::AfterSync];
    let mut all = of("first-light");
    all.retain(|mutant| few.contains(&mutant.mutation));
    assert!(!all.is_empty());
    assert_eq!(mutants(&scenario("first-light"), &UNHELPFUL, &few, 2).unwrap(), all);
}

/// On the usual model nothing is fetched ahead: more goes unnoticed there.
#[test]
fn the_unhelpful_model_notices_more() {
    let noticed = |mutants: Vec<Mutant>| Table::of(&mutants).sum(|_, _| true).noticed();
    let usual = mutants(&scenario("first-light"), &Mock, &Mutation::ALL, 2).unwrap();
    assert!(noticed(usual) < noticed(of("first-light")));
}

/// The commands of every scenario that can have mutants. Each passes, and none is skipped.
fn all_sites() -> Vec<Site> {
    let mut scenarios = builtin().unwrap();
    let is_usual = |name: &str| USUAL_ONLY.iter().any(|usual| usual.scenario == name);
    scenarios.retain(|scenario| repeats(scenario) && !is_usual(&scenario.name));
    let of = |scenario: &Scenario| sites(scenario, &UNHELPFUL);
    scenarios.iter().flat_map(|scenario| of(scenario).unwrap()).collect()
}

#[test]
fn every_scenario_has_mutants() {
    assert!(all_sites().len() > 2000);
}

#[rstest]
#[case("parallel-callers", "its callers run in parallel")]
#[case("granules", "left out: its `install`")]
fn what_has_no_mutants_is_named(#[case] name: &str, #[case] why: &str) {
    let error: NoMutants = sites(&scenario(name), &UNHELPFUL).unwrap_err();
    assert!(error.to_string().starts_with(&format!("{name}: ")), "{error}");
    assert!(error.to_string().contains(why), "{error}");
}

#[test]
fn the_command_prints_what_it_counts() {
    let (told, said, status) = run(&["remap", "--missed", "--only", "wrong-tag,after-its-sync"]);
    assert_eq!(status, 0, "{said}");
    assert!(told.contains("| mutation | made | noticed |"), "{told}");
    assert!(!told.contains("left out"), "{told}");
    let line = "remap: command 4: smmu0 CFGI_STE sid=0x8 leaf=0: wrong tag: harmless: it has the \
                same effect";
    assert!(told.lines().any(|of| of == line), "{told}");
    assert!(said.contains(" mutants of 1 scenarios noticed, in "), "{said}");

    let (told, _, status) = run(&["remap", "--format", "json", "--missed", "--jobs", "1"]);
    assert_eq!(status, 0);
    let lines: Vec<serde_json::Value> =
        told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kind = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!(kind("missed mutant"), 3);
    assert_eq!(kind("mutations") + 3, lines.len());
}

#[rstest]
#[case::scenario(&["no-such-scenario"], 2, "no built-in scenario is called no-such-scenario")]
#[case::parallel(&["parallel-callers"], 2, "its callers run in parallel")]
#[case::kind(&["remap", "--only", "wrong"], 2, "left-out, after-its-sync, ")]
#[case::jobs(&["remap", "--jobs", "0"], 2, "0 is not in 1..")]
#[case::qemu(&["remap", "--qemu", "/no/such/qemu"], 2, "--qemu needs --backend qemu")]
#[case::no_qemu(&["remap", "--backend", "qemu", "--qemu", "/no/such/qemu"], 3, "/no/such/qemu")]
#[case::nothing_ran(&["granules"], 1, "granules: left out: its `install`")]
fn wrong_input_is_refused(
    #[case] arguments: &[&str],
    #[case] expected: i32,
    #[case] complaint: &str,
) {
    let (_, said, status) = run(arguments);
    assert!(said.contains(complaint), "{said}");
    assert_eq!(status, expected, "{said}");
}

const PAGE: &str = include_str!("../../docs/mutations.md");

/// The rows of tables in Markdown, without spaces around the cells.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let rows = page.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    rows.map(|row| row.split('|').map(str::trim).collect()).collect()
}

/// The page has the table of these scenarios as the program counts it.
#[test]
fn the_page_has_the_table_of_few_scenarios() {
    let (few, said, status) = run(&KNOWN);
    assert_eq!(status, 0, "{said}");
    assert!(PAGE.contains(&few), "replace the last tables of docs/mutations.md by these:\n{few}");
}

/// The table of all scenarios has as many mutants as the program makes now, of each mutation and of
/// each command. It does not run them: which are noticed, the page has from the last whole run.
#[test]
fn the_page_counts_the_mutants_of_all_scenarios() {
    let mut made: BTreeMap<(String, Mutation), usize> = BTreeMap::new();
    for site in all_sites() {
        for mutation in Mutation::of(&site) {
            *made.entry((name_of(site.command), mutation)).or_default() += 1;
        }
    }
    let sum = |of: Option<Mutation>| -> usize {
        let meant = made.iter().filter(|((_, kind), _)| of.is_none_or(|of| of == *kind));
        meant.map(|(_, count)| count).sum()
    };
    let number = |cell: &str| -> usize { cell.parse().unwrap() };
    let stale = "replace the first tables of docs/mutations.md by those of `smmu-harness mutate`";
    let tables = PAGE.split("\nAll scenarios ").nth(1).unwrap();
    let rows = rows(tables.split("\n## ").next().unwrap());
    let kinds = Mutation::ALL.len();
    let (first, second) = rows.split_at(2 + kinds + 1);
    // By mutation, with the sum of all.
    let expected = Mutation::ALL.map(|kind| (kind.name(), sum(Some(kind))));
    let expected: Vec<(&str, usize)> = expected.into_iter().chain([("all", sum(None))]).collect();
    let found: Vec<(&str, usize)> = first[2..].iter().map(|row| (row[0], number(row[1]))).collect();
    assert_eq!(found, expected, "{stale}");
    for row in &first[2..] {
        let parts = row[2..].iter().map(|cell| number(cell)).sum::<usize>();
        assert_eq!(parts, number(row[1]), "{}", row[0]);
    }
    // By command. Each cell tells how many of how many were noticed.
    let mut found = BTreeMap::new();
    let mut noticed = [0; Mutation::ALL.len()];
    for row in &second[2..] {
        assert_eq!(row.len(), 1 + kinds, "{row:?}");
        for ((kind, cell), sum) in Mutation::ALL.into_iter().zip(&row[1..]).zip(&mut noticed) {
            if let Some((some, all)) = cell.split_once(" of ") {
                found.insert((row[0].trim_matches('`').to_owned(), kind), number(all));
                *sum += number(some);
            }
        }
    }
    assert_eq!(found, made, "{stale}");
    let expected = first[2..2 + kinds].iter().map(|row| number(row[2]) + number(row[3]));
    assert_eq!(noticed.to_vec(), expected.collect::<Vec<usize>>(), "{stale}");
}

/// On SMMUs that do not snoop, each publication of the driver and of the owner of the page tables is
/// needed. Without it the scenario fails, unless a later one writes back the same line.
#[rstest]
fn each_publication_is_needed(
    #[values(
        "first-light",
        "tag-reuse",
        "stage2-vmid",
        "ats-on-off",
        "two-level-tables",
        "pasid-attach",
        "adopt-running"
    )]
    name: &str,
) {
    let scenario = scenario(name);
    let original = run_forgetful(&scenario, None);
    assert_eq!(original.report.outcome, RunOutcome::Passed);
    let published = original.publications;
    // The pages that devices write to are the scenario's, and come first in RAM.
    let pages = scenario.file.pages.len() as u64 * 4096;
    let ours = |at: &PhysAddr| at.0 - published[0].0 >= pages;
    let mut noticed = 0;
    for (number, at) in published.iter().enumerate().filter(|(_, at)| ours(at)) {
        let run = run_forgetful(&scenario, Some(Lapse::Publication(number)));
        // Also that of a driver that mends a command which the SMMU could not read.
        let then = run.publications.iter().skip(number + 1);
        let again = then.into_iter().any(|other| other.0 / 64 == at.0 / 64);
        let passed = run.report.outcome == RunOutcome::Passed;
        assert!(!passed || again, "publication {number} at {at}");
        noticed += usize::from(!passed);
    }
    assert!(noticed > 8, "{noticed}");
}

/// The page has the table of the left-out stores of these scenarios as the program counts it.
#[test]
fn the_page_has_the_table_of_left_out_stores() {
    let (few, said, status) = run(&[&["--stores"], &KNOWN[..]].concat());
    assert_eq!(status, 0, "{said}");
    assert!(
        PAGE.contains(&few),
        "replace the table of stores in docs/mutations.md by this:\n{few}"
    );
}

/// Without the store that shows an STE, a CD or a leaf, a scenario with DMA through it fails.
#[test]
fn what_a_dma_needs_is_noticed() {
    let mutants = store_mutants(&scenario("remap"), 2).unwrap();
    let valid = |mutant: &&StoreMutant| mutant.store.old & 1 == 0 && mutant.store.new & 1 != 0;
    let (noticed, missed): (Vec<_>, Vec<_>) =
        mutants.iter().filter(valid).partition(|mutant| mutant.verdict == StoreVerdict::Noticed);
    // What is missed: an STE of a StreamID that no device has, the leaf bit of a CFGI_STE, and MAIR.
    let known = [1, 0xff];
    assert!(missed.iter().all(|mutant| known.contains(&mutant.store.new)), "{missed:?}");
    assert!(noticed.len() >= 5, "{noticed:?}");
}

/// Behind the last step of a detach no DMA comes: memory itself is compared with what the driver was
/// asked for.
#[test]
fn an_ste_that_stays_is_noticed_without_a_dma() {
    const TO_ABORT: u64 = 1;
    for (name, at_least) in [("first-light", 1), ("ats-on-off", 2), ("tag-reuse", 2)] {
        let mutants = store_mutants(&scenario(name), 2).unwrap();
        // Word 0 of an STE that leads to a CD.
        let ends =
            |mutant: &&StoreMutant| mutant.store.new == TO_ABORT && mutant.store.old & 0xf == 0xb;
        let (noticed, missed): (Vec<_>, Vec<_>) =
            mutants.iter().filter(ends).partition(|m| m.verdict == StoreVerdict::Noticed);
        assert_eq!(missed, Vec::<&StoreMutant>::new(), "{name}");
        assert!(noticed.len() >= at_least, "{name}: {noticed:?}");
    }
}

/// No DMA comes to the address behind the unmap: memory must fault there all the same.
#[test]
fn a_leaf_that_stays_is_noticed_without_a_dma() {
    let text = r#"
title = "An unmap without a DMA behind it"
needs = ["stage1"]
pages = ["A"]
smmu = [{ name = "smmu0" }]
device = [{ name = "dev0", smmu = "smmu0", stream = 0x08 }]
domain = [{ name = "D", stage = "s1" }]
step = [
    { attach = { device = "dev0", to = "D" } },
    { map = { domain = "D", iova = 0x10000, page = "A" } },
    { unmap = { domain = "D", iova = 0x10000 } },
]
"#;
    let scenario = Scenario::parse("unmap", "unmap.toml", text).unwrap();
    let mutants = store_mutants(&scenario, 2).unwrap();
    // A leaf of stage 1 that is cleared.
    let ends = |mutant: &&StoreMutant| mutant.store.new == 0 && mutant.store.old & 0xfff == 0xf43;
    let ended: Vec<_> = mutants.iter().filter(ends).collect();
    assert_eq!(ended.len(), 1, "{mutants:?}");
    assert_eq!(ended[0].verdict, StoreVerdict::Noticed);
}
