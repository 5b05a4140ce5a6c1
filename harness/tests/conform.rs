//! The conformance suite: on the model, on QEMU, and on machines that misbehave.
//!
//! With `SMMU_NO_QEMU=1` what needs QEMU is ignored.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "conform/sabotage.rs"]
mod sabotage;

use std::collections::BTreeSet;
use std::path::Path;

use common::{smmu_harness, trial};
use libtest_mimic::Arguments;
use sabotage::{SABOTAGES, Sabotage, Tampered};
use smmu_engine::machine::Backend;
use smmu_harness::backend::{Mock, NOT_SNOOPING, Qemu, UNCACHED, UNHELPFUL};
use smmu_harness::conform::{self, Check, DEVIATIONS, KINDS, Kind, Outcome, Suite};

fn kind(name: &str) -> &'static Kind {
    KINDS.iter().find(|kind| kind.name == name).unwrap()
}

fn check(name: &str) -> &'static Check {
    conform::checks().find(|check| check.name == name).unwrap()
}

/// Carries everything out. Says how many checks passed.
fn conforms(backend: &dyn Backend, kind: &Kind) -> usize {
    let (mut passed, mut wrong) = (0, Vec::new());
    let mut suite = Suite::new(backend, kind);
    for check in conform::checks() {
        match suite.run(check).unwrap() {
            Outcome::Passed => passed += 1,
            outcome if outcome.is_failure() => wrong.push(format!("{}: {outcome:?}", check.name)),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{} as {}:\n{}", backend.describe(), kind.name, wrong.join("\n"));
    passed
}

fn the_model_conforms_as_each_kind() {
    for (name, at_least) in
        [("qemu-like", 200), ("small", 150), ("stage2", 100), ("everything", 210)]
    {
        let passed = conforms(&Mock, kind(name));
        assert!(passed >= at_least, "{name}: {passed} passed");
    }
}

fn the_least_helpful_model_conforms() {
    for backend in [UNHELPFUL, NOT_SNOOPING] {
        assert!(conforms(&backend, kind("qemu-like")) >= 200);
    }
}

/// What stays cached is asked of caches only, and what an invalidation drops is asked of all.
fn a_model_without_caches_conforms() {
    let passed = conforms(&UNCACHED, kind("qemu-like"));
    assert!(passed >= 180, "{passed} passed");
    let outcome = |name| conform::run(check(name), &UNCACHED, kind("qemu-like")).unwrap();
    assert_eq!(outcome("caches/keep"), Outcome::NotOffered("caches".into()));
    assert_eq!(outcome("caches/drop-nh-va"), Outcome::Passed);
}

/// A machine that was reset serves as a fresh one does.
fn a_reset_machine_is_as_a_fresh_one() {
    let kind = kind("everything");
    let mut suite = Suite::new(&Mock, kind);
    for check in conform::checks() {
        let fresh = conform::run(check, &Mock, kind).unwrap();
        assert_eq!(suite.run(check).unwrap(), fresh, "{}", check.name);
    }
}

/// Each check is offered by a kind of the model, or by QEMU.
fn no_check_is_for_nobody() {
    let of_qemu = ["walks/s1-16k", "walks/s1-64k", "walks/s2-16k", "walks/s2-64k"];
    for check in conform::checks() {
        let runs = |kind| {
            let outcome = conform::run(check, &Mock, kind).unwrap();
            !matches!(outcome, Outcome::NotOffered(_))
        };
        let somewhere = KINDS.iter().any(runs);
        let elsewhere = of_qemu.iter().any(|start| check.name.starts_with(start))
            // The model's RAM is smaller than such a block.
            || check.name == "walks/s1-block-1";
        assert!(somewhere || elsewhere, "{} runs nowhere", check.name);
    }
}

fn names_are_unique_and_begin_with_their_group() {
    let names: BTreeSet<&str> = conform::checks().map(|check| check.name).collect();
    assert_eq!(names.len(), conform::checks().count());
    assert!(names.len() >= 250, "{}", names.len());
    for check in conform::checks() {
        let (group, rest) = check.name.split_once('/').unwrap();
        assert_eq!(group, check.group.name(), "{}", check.name);
        let plain = rest.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        assert!(plain, "{}", check.name);
        assert!(check.section.split('.').all(|part| part.parse::<u8>().is_ok()), "{}", check.name);
    }
    for entry in DEVIATIONS {
        assert!(names.contains(entry.check), "no check {}", entry.check);
    }
}

/// Each way to misbehave is found by the check that is meant to, and by it for this reason alone.
fn every_sabotage_is_found() {
    for Sabotage { name, found_by, how } in SABOTAGES {
        let found = check(found_by);
        let of = |backend: &dyn Backend| conform::run(found, backend, kind("everything")).unwrap();
        assert_eq!(of(&Mock), Outcome::Passed, "{found_by} without {name}");
        let outcome = of(&Tampered(*how));
        assert!(matches!(outcome, Outcome::Failed { .. }), "{name}: {found_by} ended {outcome:?}");
    }
}

/// Each group of checks finds something.
fn sabotages_cover_the_groups() {
    let found: BTreeSet<&str> =
        SABOTAGES.iter().map(|one| one.found_by.split('/').next().unwrap()).collect();
    let groups: BTreeSet<&str> = conform::checks().map(|check| check.group.name()).collect();
    assert_eq!(found, groups);
}

/// A machine that passes in spite of a listed deviation.
struct Named<'a>(&'a dyn Backend, &'static str);

impl Backend for Named<'_> {
    fn name(&self) -> &'static str {
        "named"
    }
    fn describe(&self) -> String {
        self.1.into()
    }
    fn offers(&self, need: smmu_engine::machine::Need) -> bool {
        self.0.offers(need)
    }
    fn start(
        &self,
        spec: &smmu_engine::machine::MachineSpec,
    ) -> Result<Box<dyn smmu_engine::machine::Machine>, smmu_engine::machine::BackendError> {
        self.0.start(spec)
    }
}

fn a_deviation_that_is_gone_is_a_failure() {
    let (found, kind) = (check("queues/events-overflow"), kind("qemu-like"));
    let of = |describe| conform::run(found, &Named(&Mock, describe), kind).unwrap();
    let mended = of("QEMU 11.1.3");
    assert!(matches!(mended, Outcome::Mended(_)) && mended.is_failure(), "{mended:?}");
    // The list is for that version alone.
    assert_eq!(of("QEMU 11.1.30"), Outcome::Passed);
    assert_eq!(of("QEMU 11.2.0"), Outcome::Passed);
    // Another failure than the listed one is a failure.
    let other = Named(&Tampered(sabotage::How::EVENT_STREAM), "QEMU 11.1.3");
    let outcome = conform::run(check("configuration/cd-fetch"), &other, kind).unwrap();
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
}

/// The list is for one QEMU. Another one may deviate elsewhere.
fn qemu_conforms_but_for_the_list() {
    let qemu = Qemu::find(None).unwrap();
    let of_qemu = |entry: &&conform::Deviation| entry.machine.starts_with("QEMU");
    let listed = DEVIATIONS.iter().find(of_qemu).unwrap().machine;
    if qemu.describe() != listed {
        println!("{} is not {listed}, whose deviations are listed: not judged", qemu.describe());
        return;
    }
    assert!(conforms(&qemu, kind("qemu-like")) >= 190);
}

/// Runs the command. The answer: standard output, standard error, exit status.
fn run(arguments: &[&str]) -> (String, String, i32) {
    smmu_harness(Path::new(env!("CARGO_TARGET_TMPDIR")), "conform", arguments)
}

fn the_page_has_the_table_of_the_program() {
    let page = include_str!("../../docs/conform.md");
    let (table, _, status) = run(&["--known"]);
    assert_eq!(status, 0);
    assert!(page.contains(&table), "replace the table in docs/conform.md by this one:\n{table}");
}

fn the_program_says_what_it_found() {
    let (told, complaint, status) = run(&["--only", "walks/s1"]);
    assert_eq!((complaint.as_str(), status), ("", 0));
    assert!(told.contains("passed       walks/s1-page\n"), "{told}");
    assert!(told.contains("not offered  walks/s1-16k-page: needs granules of 16 KiB\n"), "{told}");
    assert!(told.contains("known        walks/s1-ttb1: "), "{told}");
    assert!(told.contains(" passed, 0 failed, 2 known deviations, "), "{told}");
    let (list, _, status) = run(&["--list", "--only", "queues/ill"]);
    assert_eq!(status, 0);
    assert!(list.lines().all(|line| line.starts_with("queues/ill-")), "{list}");
    assert!(list.contains("4.1.6"), "{list}");
}

fn each_line_of_json_is_an_object() {
    let (told, _, status) = run(&["--format", "json", "--kind", "everything"]);
    assert_eq!(status, 0);
    let objects: Vec<serde_json::Value> =
        told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, checks) = objects.split_last().unwrap();
    assert_eq!(last["type"], "conformance");
    assert_eq!(last["failed"], 0);
    assert_eq!(checks.len(), conform::checks().count());
    assert!(
        checks.iter().all(|object| object["type"] == "checked" && object["outcome"].is_string())
    );
    let (list, _, _) = run(&["--list", "--format", "json"]);
    assert_eq!(list.lines().count(), conform::checks().count());
}

fn wrong_usage_is_2() {
    for (arguments, why) in [
        (&["--only", "walks/s1-pag3"][..], "no check has \"walks/s1-pag3\" in its name"),
        (&["--kind", "large"], "invalid value 'large'"),
        (&["--kind", "small", "--backend", "qemu"], "--kind is for the model"),
        (&["--qemu", "/no/such"], "--qemu needs --backend qemu"),
    ] {
        let (_, complaint, status) = run(arguments);
        assert_eq!(status, 2, "{arguments:?}");
        assert!(complaint.contains(why), "{arguments:?}: {complaint}");
    }
    let (_, _, status) = run(&["--backend", "qemu", "--qemu", "/no/such/qemu"]);
    assert_eq!(status, 3);
}

fn main() {
    let no_qemu = common::qemu_is_left_out();
    let trials = vec![
        trial("the_model_conforms_as_each_kind", the_model_conforms_as_each_kind),
        trial("the_least_helpful_model_conforms", the_least_helpful_model_conforms),
        trial("a_reset_machine_is_as_a_fresh_one", a_reset_machine_is_as_a_fresh_one),
        trial("a_model_without_caches_conforms", a_model_without_caches_conforms),
        trial("no_check_is_for_nobody", no_check_is_for_nobody),
        trial(
            "names_are_unique_and_begin_with_their_group",
            names_are_unique_and_begin_with_their_group,
        ),
        trial("every_sabotage_is_found", every_sabotage_is_found),
        trial("sabotages_cover_the_groups", sabotages_cover_the_groups),
        trial("a_deviation_that_is_gone_is_a_failure", a_deviation_that_is_gone_is_a_failure),
        trial("qemu_conforms_but_for_the_list", qemu_conforms_but_for_the_list)
            .with_ignored_flag(no_qemu),
        trial("the_page_has_the_table_of_the_program", the_page_has_the_table_of_the_program),
        trial("the_program_says_what_it_found", the_program_says_what_it_found),
        trial("each_line_of_json_is_an_object", each_line_of_json_is_an_object),
        trial("wrong_usage_is_2", wrong_usage_is_2),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
