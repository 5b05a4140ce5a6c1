//! The command line.

use crate::machine::NS;
use crate::options::{Mode, OptionError, Options};
use crate::report::HELP;
use crate::strategies::Strategy;

fn parse(line: &str) -> Result<Options, OptionError> {
    Options::parse(line.split_whitespace().map(str::to_owned))
}

fn error(line: &str) -> String {
    parse(line).unwrap_err().to_string()
}

#[test]
fn options_change_what_they_name() {
    let default = Options::default();
    assert_eq!(parse("").unwrap(), default);
    assert_eq!(parse("--cores 1,64").unwrap().cores, [1, 64]);
    assert_eq!(parse("--queues 4").unwrap().queues, [4]);
    assert_eq!(parse("--line-ns 100").unwrap().costs.line, 100 * NS);
    assert_eq!(parse("--think-ns 0").unwrap().think, 0);
    assert_eq!(parse("--batch 16 --sync").unwrap().batch, 16);
    assert!(parse("--sync").unwrap().sync && !default.sync);
    assert_eq!(parse("--seed 9").unwrap().seed, 9);
    assert_eq!(parse("--stay-permille 0").unwrap().costs.stay_permille, 0);
    assert_eq!(parse("--calibrate").unwrap().mode, Mode::Calibrate);
    let strategies = parse("--strategy linux,fetch-add").unwrap().strategies;
    assert_eq!(strategies, [Strategy::Linux, Strategy::FetchAdd]);
}

#[test]
fn every_strategy_has_a_name_of_its_own() {
    for strategy in Strategy::ALL {
        let parsed = parse(&format!("--strategy {}", strategy.name())).unwrap();
        assert_eq!(parsed.strategies, [strategy]);
    }
}

#[test]
fn errors_say_what_where_and_what_to_do() {
    assert_eq!(error("--core 3"), "unknown option \"--core\"; --help lists the options");
    assert_eq!(error("--line-ns"), "--line-ns has no value; write --line-ns VALUE");
    assert_eq!(
        error("--cores 1,two"),
        "--cores: \"two\" is not a number; write decimal digits, with commas between numbers"
    );
    assert_eq!(error("--seed -1"), "--seed: \"-1\" is not a number; write decimal digits");
    assert_eq!(error("--cores 0"), "--cores: 0 is out of range; give 1 to 1000");
    assert_eq!(error("--batch 512"), "--batch: 512 is out of range; give 1 to 511");
    assert_eq!(error("--line-ns 0"), "--line-ns: 0 is out of range; give 1 to 1000000");
    assert_eq!(
        error("--stay-permille 1001"),
        "--stay-permille: 1001 is out of range; give 0 to 1000"
    );
    assert_eq!(
        error("--strategy mutex"),
        "--strategy: no strategy is named \"mutex\"; give one or more of one-word,linux,exchange,\
         fetch-add,ticket-lock,spin-lock,exchange-returned,exchange-proportional,fetch-add-blind,\
         fetch-add-two-lines,one-word-add"
    );
}

/// The help names each option, and its defaults are those of the code.
#[test]
fn the_help_is_up_to_date() {
    let default = Options::default();
    let list =
        |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    for (option, value) in [
        ("--cores", list(&default.cores)),
        ("--queues", list(&default.queues)),
        ("--batch", default.batch.to_string()),
        ("--think-ns", (default.think / NS).to_string()),
        ("--line-ns", (default.costs.line / NS).to_string()),
        ("--register-ns", (default.costs.register / NS).to_string()),
        ("--local-ns", (default.costs.local / NS).to_string()),
        ("--update-ns", (default.costs.update / NS).to_string()),
        ("--pause-ns", (default.costs.pause / NS).to_string()),
        ("--call-ns", (default.costs.call / NS).to_string()),
        ("--command-ns", (default.costs.command / NS).to_string()),
        ("--socket-cores", default.costs.socket.to_string()),
        ("--socket-line-ns", (default.costs.socket_line / NS).to_string()),
        ("--stay-permille", default.costs.stay_permille.to_string()),
        ("--seed", default.seed.to_string()),
    ] {
        let line = HELP.lines().find(|line| line.trim_start().starts_with(&format!("{option} ")));
        let line = line.unwrap_or_else(|| panic!("the help lacks {option}"));
        assert!(line.ends_with(&format!("[{value}]")), "{line} {value}");
        parse(&format!("{option} {value}")).unwrap();
    }
}
