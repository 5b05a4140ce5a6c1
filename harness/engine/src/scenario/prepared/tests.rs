use proptest::prelude::*;
use rstest::rstest;
use serde_reflection::{Tracer, TracerConfig};

use super::*;
use crate::machine::{Need, QueueName, SecondQueueKind};
use crate::page_tables::{Permission, TableStage};
use crate::scenario::{
    AdoptDoubt, AnswerWith, AttachFailure, CommandSpec, CommandsExpected, DeviceAts, DmaDirection,
    GranuleName, GroupAnswer, MapFailure, MsiFault, QueueBehaviour, ReadsExpected, SettleFailure,
    SpoiltSte, Step, StreamTableKind, SyncMethod, WantedFailure,
};

const TEXT: &str = r#"
    title = "A page is moved"
    needs = ["stage1"]
    pages = ["A"]

    [[smmu]]
    name = "smmu0"

    [[device]]
    name = "dev0"
    smmu = "smmu0"
    stream = 0x08

    [[domain]]
    name = "D"
    stage = "s1"

    [[step]]
    attach = { device = "dev0", to = "D" }

    [[step]]
    dma = { device = "dev0", iova = 0x1000, faults = "F_TRANSLATION" }
"#;

fn scenario() -> Scenario {
    Scenario::parse("moved", "moved.toml", TEXT).unwrap()
}

/// The types in the order of their fields, as a program reads them.
#[test]
fn the_number_is_that_of_the_types() {
    let mut tracer = Tracer::new(TracerConfig::default());
    let samples = serde_reflection::Samples::new();
    // A trace goes through the variants of its own type only. `registry` fails if one is left out.
    macro_rules! trace {
        ($($type:ty),* $(,)?) => { $(tracer.trace_type::<$type>(&samples).unwrap();)* };
    }
    trace!(
        Received,
        AttachFailure,
        DeviceAts,
        GranuleName,
        Need,
        SecondQueueKind,
        Step,
        StreamTableKind,
        SyncMethod,
        TableStage,
        AdoptDoubt,
        AnswerWith,
        CommandSpec,
        CommandsExpected,
        DmaDirection,
        GroupAnswer,
        MapFailure,
        MsiFault,
        Permission,
        QueueBehaviour,
        QueueName,
        ReadsExpected,
        SettleFailure,
        SpoiltSte,
        WantedFailure,
    );
    let registry = tracer.registry().unwrap();
    let types = serde_json::to_string(&registry).unwrap();
    for of_a_scenario in ["GuestCommand", "stage1", "second_queue"] {
        assert!(types.contains(of_a_scenario), "{types}");
    }
    let number = crc32fast::hash(types.as_bytes());
    assert_eq!(FORM, number, "the types have changed: FORM is {number:#010x} now");
}

#[test]
fn what_is_prepared_is_read() {
    let scenario = scenario();
    let text = scenario.prepare();
    assert!(text.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}");
    assert!(text.len() < TEXT.len(), "{text}");
    let read = Scenario::from_prepared("moved", &text).unwrap();
    assert_eq!(read.lines, [18, 21]);
    assert_eq!((read.name.as_str(), read.path.as_str()), ("moved", "moved"));
    assert_eq!(read.file.title, "A page is moved");
    assert_eq!(format!("{:?}", read.file).matches("dev0").count(), 3);
    assert_eq!(read.prepare(), text);
    assert_eq!(Scenario::from_prepared("moved", &text.to_uppercase()).unwrap().prepare(), text);
}

#[rstest]
#[case::too_short("0102", "it has 2 bytes, fewer than the 4 of its form")]
#[case::another_form("00000001", "it has the form 0x00000001, and this program takes ")]
#[case::half_a_byte("012", "character 3 is not one of a pair of hexadecimal digits")]
#[case::no_digit("01x2", "character 3 is not one of a pair of hexadecimal digits")]
#[case::not_ascii("01é2", "character 3 is not one of a pair of hexadecimal digits")]
fn other_texts_are_refused(#[case] text: &str, #[case] want: &str) {
    let error = Scenario::from_prepared("x", text).unwrap_err().to_string();
    assert!(error.starts_with(want), "{error}");
}

#[test]
fn a_text_of_another_length_is_refused() {
    let text = scenario().prepare();
    let error = Scenario::from_prepared("x", &text[..text.len() - 2]).unwrap_err();
    assert!(matches!(error, PreparedError::Damaged(_)), "{error}");
    let error = Scenario::from_prepared("x", &format!("{text}00ff")).unwrap_err();
    assert_eq!(error.to_string(), "2 bytes follow its end");
}

#[test]
fn a_step_without_a_line_is_refused() {
    let mut scenario = scenario();
    scenario.lines.pop();
    let error = Scenario::from_prepared("x", &scenario.prepare()).unwrap_err();
    assert_eq!(error.to_string(), "it has 2 steps and the lines of 1");
}

/// The host has checked a scenario, but a line may bring anything.
#[test]
fn a_name_that_stands_for_nothing_is_refused() {
    let mut scenario = scenario();
    scenario.file.devices.clear();
    let error = Scenario::from_prepared("x", &scenario.prepare()).unwrap_err();
    let PreparedError::Wrong(why) = error else { panic!("{error}") };
    assert!(why.contains("dev0"), "{why}");
}

proptest! {
    #[test]
    fn any_bytes_are_a_scenario_or_refused(rest in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = FORM.to_be_bytes().into_iter().chain(rest);
        let text: String = bytes.map(|byte| format!("{byte:02x}")).collect();
        let _ = Scenario::from_prepared("x", &text);
    }

    #[test]
    fn a_damaged_scenario_is_a_scenario_or_refused(at in any::<prop::sample::Index>(), digit in 0_u32..16) {
        let mut text: Vec<char> = scenario().prepare().chars().collect();
        let at = at.index(text.len());
        text[at] = char::from_digit(digit, 16).unwrap();
        let _ = Scenario::from_prepared("x", &text.into_iter().collect::<String>());
    }
}
