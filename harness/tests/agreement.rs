//! What QEMU's SMMU and the model say to many configurations.
//!
//! With `SMMU_NO_QEMU=1` what needs QEMU is ignored. `SMMU_VERDICTS=1` prints every verdict.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::time::Instant;

use libtest_mimic::{Arguments, Trial};
use smmu_harness::backend::{Mock, Qemu};
use smmu_harness::machine::Backend;
use smmu_harness::verdict::{Configuration, Rig, Verdict, generate};
use smmu_types::{EventKind, IdRegisters};

const SEED: u64 = 0x5eed;
const CONFIGURATIONS: usize = 2800;

/// What the rules say to a configuration: nothing, that it is accepted, or the event that refuses it.
fn expected(_configuration: &Configuration, _id: &IdRegisters) -> Option<Result<(), EventKind>> {
    None
}

struct Answer {
    name: String,
    verdict: Verdict,
}

/// The verdicts of one backend, and how often each came.
fn ask_all(backend: &dyn Backend) -> Vec<Answer> {
    let begin = Instant::now();
    let mut rig = Rig::new(backend);
    let id = rig.id_registers().unwrap();
    let mut answers = Vec::new();
    for (name, configuration) in generate(SEED, CONFIGURATIONS, &id) {
        let verdict = rig.ask(&configuration).unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Some(expected) = expected(&configuration, &id) {
            assert_eq!(verdict.refusal(), expected.err(), "{name}: {verdict}");
        }
        answers.push(Answer { name, verdict });
    }
    let mut distribution: BTreeMap<String, usize> = BTreeMap::new();
    for answer in &answers {
        *distribution.entry(answer.verdict.to_string()).or_default() += 1;
    }
    let (name, count, starts) = (backend.describe(), answers.len(), rig.starts());
    println!("{name}: {count} configurations, {starts} starts, {:.1?}", begin.elapsed());
    for (verdict, times) in distribution {
        println!("{times:6} {verdict}");
    }
    if std::env::var_os("SMMU_VERDICTS").is_some() {
        for answer in &answers {
            println!("{:<32} {}", answer.verdict.to_string(), answer.name);
        }
    }
    answers
}

fn verdict<'a>(answers: &'a [Answer], name: &str) -> &'a Verdict {
    let found = answers.iter().find(|answer| answer.name == name);
    &found.unwrap_or_else(|| panic!("there is no {name:?}")).verdict
}

/// What every SMMU without extras says.
fn the_plain_truths(answers: &[Answer]) {
    let refused = Verdict::Refused;
    let truths = [
        ("stage1", Verdict::Accepted),
        ("stage2", Verdict::Accepted),
        ("bypass", Verdict::Accepted),
        ("abort", Verdict::Aborted),
        ("invalid", refused(EventKind::C_BAD_STE)),
        ("stage1: CD.V=0x0", refused(EventKind::C_BAD_CD)),
        ("stage1: CD.S=0x1", refused(EventKind::C_BAD_CD)),
        ("stage2: STE.S2SL0=0x3", refused(EventKind::C_BAD_STE)),
        ("bypass: stream 0x8, FMT=0 LOG2SIZE=3", refused(EventKind::C_BAD_STREAMID)),
        ("bypass: stream 0x8, FMT=0 LOG2SIZE=4", Verdict::Accepted),
    ];
    for (name, truth) in truths {
        assert_eq!(verdict(answers, name), &truth, "{name}");
    }
}

/// The QEMU whose deviations are known; any other is not held to them.
const KNOWN: &str = "QEMU 11.1.3";

/// Where [`KNOWN`] says something else than the architecture does for its ID registers, one configuration for each
/// difference.
fn qemu_deviations() -> Vec<(&'static str, Verdict)> {
    let bad_ste = || Verdict::Refused(EventKind::C_BAD_STE);
    let bad_stream = || Verdict::Refused(EventKind::C_BAD_STREAMID);
    vec![
        // Refused, and right: what is ignored without substreams, and without stage 1.
        ("stage1: STE.S1CDMax=0x1", bad_ste()),
        ("stage2: STE.S1CDMax=0x1", bad_ste()),
        ("stage2: STE.S1STALLD=0x1", bad_ste()),
        // S2PS limits the output of stage 2, and not its input.
        ("stage2: STE.S2PS=0x0", bad_ste()),
        // Taken, and wrong: no hardware updates; a start level whose table would have less than two entries.
        ("stage2: STE.S2HA=0x1", Verdict::Accepted),
        ("stage2: STE.S2HD=0x1", Verdict::Accepted),
        ("stage2: STE.S2SL0=0x2", Verdict::Accepted),
        // A second level is taken to have twice as many STEs, and what is beyond it has another event.
        ("bypass: stream 0x8, two levels, SPLIT=8 LOG2SIZE=16 Span=4", Verdict::Accepted),
        ("bypass: stream 0x8, two levels, SPLIT=8 LOG2SIZE=16 Span=3", bad_ste()),
        // Recorded though nobody asked.
        ("bypass: stream 0x8, FMT=0 LOG2SIZE=3, RECINVSID=0", bad_stream()),
        // Reserved bits above L2Ptr belong to the address.
        (
            "bypass: stream 0x8, two levels, SPLIT=8 LOG2SIZE=16 Span=9, reserved[63]=1",
            Verdict::Refused(EventKind::F_STE_FETCH),
        ),
        // A pointer above the output size, under stage 2, is refused without any event.
        ("nested: STE.S1ContextPtr=0x4001000c00", Verdict::Aborted),
    ]
}

/// What ends [`KNOWN`]: an output size that is only capped, and AArch32 tables that it does not have.
const QEMU_DIES: [&str; 5] = [
    "stage1: CD.IPS=0x6",
    "stage1: CD.IPS=0x7",
    "nested: CD.IPS=0x6",
    "stage2: STE.S2AA64=0x0",
    "bypass: STE.Config=0x6",
];

fn qemu_answers() {
    let qemu = Qemu::find(None).unwrap();
    let answers = ask_all(&qemu);
    assert!(answers.len() >= 600);
    the_plain_truths(&answers);
    assert_eq!(verdict(&answers, "nested"), &Verdict::Accepted);
    if qemu.describe() != KNOWN {
        return;
    }
    for (name, deviation) in qemu_deviations() {
        assert_eq!(verdict(&answers, name), &deviation, "{name}");
    }
    for name in QEMU_DIES {
        let verdict = verdict(&answers, name);
        assert!(matches!(verdict, Verdict::Died(_)), "{name}: {verdict}");
    }
}

fn the_model_answers() {
    let answers = ask_all(&Mock);
    the_plain_truths(&answers);
    let died = answers.iter().find(|answer| matches!(answer.verdict, Verdict::Died(_)));
    assert!(died.is_none());
}

fn main() {
    fn trial(name: &str, test: fn()) -> Trial {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    }
    let no_qemu = common::qemu_is_left_out();
    let trials = vec![
        trial("the_model_answers", the_model_answers),
        trial("qemu_answers", qemu_answers).with_ignored_flag(no_qemu),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
