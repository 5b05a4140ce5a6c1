//! What QEMU's SMMU and the model say to many configurations.
//!
//! With `SMMU_NO_QEMU=1` what needs QEMU is ignored. `SMMU_VERDICTS=1` prints every verdict.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;
mod verdict;

use std::collections::BTreeMap;
use std::time::Instant;

use common::trial;
use libtest_mimic::Arguments;
use smmu_decode::explain::{Question, explain};
use smmu_engine::machine::Backend;
use smmu_harness::backend::{Mock, Qemu};
use smmu_types::layout::Key;
use smmu_types::legal::{Effect, Finding, SmmuView, StreamLookup};
use smmu_types::regs::cr2;
use smmu_types::{Capabilities, EventKind, IdRegisters, Ste, StreamTableDescriptor, fields};
use verdict::{Configuration, Verdict, VerdictRig, fields as field_list, generate, tests};

const SEED: u64 = 0x5eed;
const CONFIGURATIONS: usize = 2800;

/// What the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// Nothing is refused.
    Legal,
    /// A transaction ends in this event.
    Refused(EventKind),
    /// A transaction is refused without an event.
    Silent,
    /// The way to the CD is legal, but what lies there is not known.
    LegalToTheCd,
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Expected::Legal => f.write_str("accepted"),
            Expected::Refused(event) => write!(f, "refused: {event}"),
            Expected::Silent => f.write_str("aborted without an event"),
            Expected::LegalToTheCd => f.write_str("accepted, up to the CD"),
        }
    }
}

/// The rules, asked as a transaction meets them, and what they found illegal.
fn expected(configuration: &Configuration, id: &IdRegisters) -> (Expected, Vec<Finding>) {
    let smmu = SmmuView::new(*id);
    let descriptor = configuration.l1.map(|word| StreamTableDescriptor([word]));
    let table = StreamLookup { config: configuration.strtab, descriptor };
    let translates1 = configuration.ste.0[0] >> 1 & 5 == 5;
    let question = Question {
        stream: Some((configuration.stream, table)),
        ste: Some(configuration.ste),
        substream: Some(None),
        cd: configuration.cd_in_memory().filter(|_| translates1),
    };
    let refused = explain(&question, &smmu).into_iter().find(|part| part.refused().is_some());
    let unknown = translates1 && configuration.cd_in_memory().is_none();
    let legal = if unknown { Expected::LegalToTheCd } else { Expected::Legal };
    let Some(part) = refused else { return (legal, Vec::new()) };
    let event = part.refused().unwrap();
    let illegal = |finding: &Finding| matches!(finding.effect(), Effect::Illegal(_));
    let findings: Vec<Finding> = part.findings.into_iter().filter(illegal).collect();
    // Only where software asks for it.
    if event == EventKind::C_BAD_STREAMID && configuration.cr2 & cr2::RECINVSID == 0 {
        return (Expected::Silent, findings);
    }
    (Expected::Refused(event), findings)
}

/// Whether a backend agrees with the rules. The rules say nothing about the translation afterwards,
/// and nothing about memory at the end of a pointer.
fn agree(expected: Expected, verdict: &Verdict) -> bool {
    let configuration_events =
        [EventKind::C_BAD_STREAMID, EventKind::C_BAD_STE, EventKind::C_BAD_CD];
    match (expected, verdict) {
        (_, Verdict::Died(_)) => false,
        (Expected::Refused(event), verdict) => verdict.refusal() == Some(event),
        (Expected::Silent, verdict) => *verdict == Verdict::Aborted,
        (Expected::Legal, Verdict::Refused(event)) => !configuration_events.contains(event),
        (Expected::LegalToTheCd, Verdict::Refused(event)) => {
            *event == EventKind::C_BAD_CD || !configuration_events.contains(event)
        }
        (Expected::Legal | Expected::LegalToTheCd, _) => true,
    }
}

struct Answer {
    name: String,
    verdict: Verdict,
}

/// A known difference: what it is, and whether a configuration shows it.
type Difference = (&'static str, fn(&Case<'_>) -> bool);

/// One disagreement.
struct Case<'a> {
    configuration: &'a Configuration,
    id: IdRegisters,
    verdict: &'a Verdict,
    expected: Expected,
    illegal: &'a [Finding],
}

impl Case<'_> {
    fn ste(&self, key: Key<Ste>) -> u64 {
        self.configuration.ste.get(key)
    }

    fn is(&self, expected: Expected, verdict: Verdict) -> bool {
        self.expected == expected && *self.verdict == verdict
    }

    /// It is refused although the rules allow it.
    fn refused_for_nothing(&self, event: EventKind) -> bool {
        matches!(self.expected, Expected::Legal | Expected::LegalToTheCd)
            && self.verdict.refusal() == Some(event)
    }

    /// It went further than the rules allow, and every reason that they had is one of these fields.
    fn overlooked(&self, fields: &[&str]) -> bool {
        !self.illegal.is_empty()
            && self.illegal.iter().all(|finding| fields.contains(&finding.field().name()))
    }

    fn output_bits(&self) -> u64 {
        Capabilities::decode(self.id).output_size.map_or(48, |size| size.bits().into())
    }
}

/// Compares the verdicts of one backend with the rules. Each disagreement must be a known
/// difference; a snapshot counts them.
fn ask_all(backend: &dyn Backend, snapshot: Option<&str>, known: &[Difference]) -> Vec<Answer> {
    let begin = Instant::now();
    let mut rig = VerdictRig::new(backend);
    let id = rig.id_registers().unwrap();
    let (mut answers, mut agreed, mut unknown) = (Vec::new(), 0, Vec::new());
    let mut legal: BTreeMap<String, usize> = BTreeMap::new();
    let mut found: Vec<(usize, Option<String>)> = known.iter().map(|_| (0, None)).collect();
    for (name, configuration) in generate(SEED, CONFIGURATIONS, &id) {
        let verdict = rig.ask(&configuration).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (expected, illegal) = expected(&configuration, &id);
        let case = Case {
            configuration: &configuration,
            id,
            verdict: &verdict,
            expected,
            illegal: &illegal,
        };
        if agree(expected, &verdict) {
            agreed += 1;
            if matches!(expected, Expected::Legal | Expected::LegalToTheCd) {
                *legal.entry(verdict.to_string()).or_default() += 1;
            }
        } else if let Some(at) = known.iter().position(|(_, is)| is(&case)) {
            found[at].0 += 1;
            found[at]
                .1
                .get_or_insert_with(|| format!("{name}: {verdict}; the rules say {expected}"));
        } else {
            let reasons: Vec<String> = illegal.iter().map(ToString::to_string).collect();
            unknown.push(format!("{name}: {verdict}, but the rules say {expected} {reasons:?}"));
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
    let mut text = format!("{count} configurations, {agreed} verdicts as the rules say");
    text.push_str("\nof those that the rules accept were");
    for (verdict, times) in legal {
        text.push_str(&format!("\n{times:5}  {verdict}"));
    }
    text.push_str("\ndifferences");
    for ((difference, _), (times, example)) in known.iter().zip(&found) {
        let example = example.as_deref().unwrap_or("none");
        text.push_str(&format!("\n{times:5}  {difference}\n       such as {example}"));
    }
    println!("{text}");
    let total = unknown.len();
    unknown.truncate(40);
    assert!(total == 0, "{total} disagreements of no known kind:\n{}", unknown.join("\n"));
    if let Some(snapshot) = snapshot {
        for ((difference, _), (times, _)) in known.iter().zip(&found) {
            assert!(*times > 0, "nothing shows this any more: {difference}");
        }
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../snapshots/agreement"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(snapshot, text));
    }
    answers
}

fn verdict<'a>(answers: &'a [Answer], name: &str) -> &'a Verdict {
    let found = answers.iter().find(|answer| answer.name == name);
    &found.unwrap_or_else(|| panic!("there is no {name:?}")).verdict
}

/// Where [`KNOWN`] differs from the architecture, for its ID registers.
const QEMU_DIFFERENCES: &[Difference] = &[
    ("dies of AArch32 tables at stage 2, which are illegal", |case| {
        matches!(case.verdict, Verdict::Died(_)) && case.ste(fields::ste::S2AA64) == 0
    }),
    ("dies of an IPS above 52 bits, which is capped to the output size", |case| {
        let ips = case.configuration.cd_in_memory().map_or(0, |cd| cd.get(fields::cd::IPS));
        matches!(case.verdict, Verdict::Died(_)) && ips >= 6
    }),
    ("refuses S1CDMax other than 0, which is ignored without substreams", |case| {
        case.refused_for_nothing(EventKind::C_BAD_STE) && case.ste(fields::ste::S1CDMAX) != 0
    }),
    ("refuses S1STALLD in an STE without stage 1, where it is ignored", |case| {
        case.refused_for_nothing(EventKind::C_BAD_STE) && case.ste(fields::ste::S1STALLD) != 0
    }),
    ("takes S2PS for the input size of stage 2, and refuses a larger input", |case| {
        let output = [32, 36, 40, 42, 44, 48, 52, 52][case.ste(fields::ste::S2PS) as usize];
        case.refused_for_nothing(EventKind::C_BAD_STE)
            && case.ste(fields::ste::S2T0SZ) < 64 - output.min(case.output_bits())
    }),
    ("does not look at S2HA and S2HD, which are illegal without IDR0.HTTU", |case| {
        case.overlooked(&["S2HA", "S2HD"])
    }),
    ("takes a start level whose first table would have a single entry", |case| {
        case.overlooked(&["S2HA", "S2HD", "S2SL0", "S2T0SZ"])
    }),
    ("fetches from an S1ContextPtr beyond the output size, and says F_CD_FETCH", |case| {
        case.overlooked(&["S1ContextPtr"]) && case.verdict.refusal() == Some(EventKind::F_CD_FETCH)
    }),
    ("takes twice as many STEs for a Span as there are", |case| {
        case.expected == Expected::Refused(EventKind::C_BAD_STREAMID)
            && case.overlooked(&["Span"])
            && case.verdict.refusal() != Some(EventKind::C_BAD_STE)
    }),
    ("says C_BAD_STE to a StreamID beyond the Span", |case| {
        case.is(
            Expected::Refused(EventKind::C_BAD_STREAMID),
            Verdict::Refused(EventKind::C_BAD_STE),
        )
    }),
    ("records C_BAD_STREAMID although CR2.RECINVSID is 0", |case| {
        case.is(Expected::Silent, Verdict::Refused(EventKind::C_BAD_STREAMID))
    }),
];

/// Where the model differs from the architecture.
const MODEL_DIFFERENCES: &[Difference] = &[("has no TTB1, and refuses it", |case| {
    let upper = case.configuration.cd.is_some_and(|cd| cd.get(fields::cd::EPD1) == 0);
    case.refused_for_nothing(EventKind::C_BAD_CD) && upper
})];

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

/// One configuration for each difference between [`KNOWN`] and the architecture with its ID
/// registers.
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
        // Accepted wrongly: hardware updates, and a start level whose table has less than two
        // entries.
        ("stage2: STE.S2HA=0x1", Verdict::Accepted),
        ("stage2: STE.S2HD=0x1", Verdict::Accepted),
        ("stage2: STE.S2SL0=0x2", Verdict::Accepted),
        // It gives a second level twice as many STEs, and has another event for a StreamID beyond.
        ("bypass: stream 0x8, two levels, SPLIT=8 LOG2SIZE=16 Span=4", Verdict::Accepted),
        ("bypass: stream 0x8, two levels, SPLIT=8 LOG2SIZE=16 Span=3", bad_ste()),
        // Recorded, although CR2.RECINVSID is 0.
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

/// Configurations at which [`KNOWN`] ends: an output size that the architecture caps, and AArch32
/// tables, which it does not have.
const QEMU_DIES: [&str; 5] = [
    "stage1: CD.IPS=0x6",
    "stage1: CD.IPS=0x7",
    "nested: CD.IPS=0x6",
    "stage2: STE.S2AA64=0x0",
    "bypass: STE.Config=0x6",
];

fn qemu_answers() {
    let qemu = Qemu::find(None).unwrap();
    let snapshot = (qemu.describe() == KNOWN).then_some("qemu");
    let answers = ask_all(&qemu, snapshot, QEMU_DIFFERENCES);
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
    let answers = ask_all(&Mock, Some("mock"), MODEL_DIFFERENCES);
    the_plain_truths(&answers);
    let died = answers.iter().find(|answer| matches!(answer.verdict, Verdict::Died(_)));
    assert!(died.is_none());
}

fn main() {
    let no_qemu = common::qemu_is_left_out();
    let trials = vec![
        trial(
            "fields_are_sorted_disjoint_and_within_one_word",
            field_list::fields_are_sorted_disjoint_and_within_one_word,
        ),
        trial("what_is_set_is_got", field_list::what_is_set_is_got),
        trial("the_good_ones_are_accepted", tests::the_good_ones_are_accepted),
        trial(
            "each_verdict_comes_from_what_it_stands_for",
            tests::each_verdict_comes_from_what_it_stands_for,
        ),
        trial(
            "a_question_does_not_depend_on_the_one_before",
            tests::a_question_does_not_depend_on_the_one_before,
        ),
        trial(
            "the_generator_repeats_itself_and_nothing_else",
            tests::the_generator_repeats_itself_and_nothing_else,
        ),
        trial(
            "an_smmu_without_two_levels_is_asked_for_none",
            tests::an_smmu_without_two_levels_is_asked_for_none,
        ),
        trial("the_model_answers", the_model_answers),
        trial("qemu_answers", qemu_answers).with_ignored_flag(no_qemu),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
