//! The conversation, with a target that a thread plays over a pair of sockets.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use super::*;
use smmu_engine::run::RunOutcome;

const SILENCE: Duration = Duration::from_millis(400);
const BANNER: &str = "smmu-board 2 {\"describe\":\"a fake\",\"offers\":[\"stage1\"],\"piece\":16,\
                      \"largest_piece\":4096,\"longest\":65536,\"notes\":[]}\nready\n";
const TEXT: &str = "title = \"a text of more than two pieces, which no target parses here\"";
/// The checksum of `TEXT`, by another program (zlib).
const TEXT_CRC: &str = "5fe5c750";

const REPORT: &str = "{\"scenario\":\"n\",\"backend\":\"board\",\"outcome\":\"passed\",\
                      \"transcript\":[],\"notes\":[],\"unchecked\":[],\"unrecorded\":[]}";
/// The checksum of `REPORT`, by another program (zlib).
const REPORT_CRC: &str = "1f606034";

/// A target with a script of its own.
fn with(
    manners: (Greeting, Flow),
    target: impl FnOnce(Target) + Send + 'static,
) -> (Result<Session, SessionError>, JoinHandle<()>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let played = thread::spawn(move || target(Target(theirs)));
    (Session::greet(Link::socket(ours).unwrap(), manners, SILENCE), played)
}

const WAIT: (Greeting, Flow) = (Greeting::Wait, Flow::Free);

struct Target(UnixStream);

impl Target {
    fn say(&mut self, bytes: impl AsRef<[u8]>) {
        // The host may have gone.
        let _ = self.0.write_all(bytes.as_ref());
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.0.read_exact(&mut byte).unwrap();
        byte[0]
    }

    /// Takes `bytes` bytes, and acknowledges each piece but the last. Nothing more may have come
    /// before the acknowledgement.
    fn take(&mut self, end: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let mut got = Vec::new();
        loop {
            got.push(self.byte());
            if end(&got) {
                return got;
            }
            if got.len().is_multiple_of(16) {
                self.0.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                let more = self.0.read(&mut [0; 1]);
                assert!(more.is_err(), "the host did not wait: {more:?}");
                self.0.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                self.say("+\n");
            }
        }
    }

    /// Takes a question of the host, and greets.
    fn hello(&mut self) {
        assert_eq!(self.take(|got| got.ends_with(b"hello\n")), b"\nhello\n");
        self.say(BANNER);
    }

    /// Takes a scenario. Returns its `run` line.
    fn scenario(&mut self) -> String {
        let line = String::from_utf8(self.take(|got| got.ends_with(b"\n"))).unwrap();
        self.say("text\n");
        let bytes: usize = line.split(' ').nth(2).unwrap().parse().unwrap();
        assert_eq!(self.take(|got| got.len() == bytes), TEXT.as_bytes());
        line
    }
}

/// What a run says, if the target answers so after it has taken the scenario.
fn answered(answer: &'static [u8]) -> (Result<RunReport, SessionError>, LastStep) {
    let (session, played) = with(WAIT, move |mut target| {
        target.say(BANNER);
        target.scenario();
        target.say(answer);
    });
    let mut session = session.unwrap();
    let report = session.run("n", TEXT, None);
    let step = session.last_step.clone();
    drop(session);
    played.join().unwrap();
    (report, step)
}

#[test]
fn a_scenario_is_sent_in_acknowledged_pieces() {
    let (session, played) = with(WAIT, |mut target| {
        // What a boot loader prints comes before.
        target.say(b"U-Boot 2026.01\r\n\xff\xfe\n\r\n");
        target.say(BANNER);
        let line = target.scenario();
        assert_eq!(line, format!("run a_b__ 69 {TEXT_CRC} sabotage=sync-without-wait\n"));
        target.say("# step 0 set up\n# step 1 attach\n");
        target.say(format!("report {} {REPORT_CRC} {REPORT}\nready\n", REPORT.len()));
    });
    let mut session = session.unwrap();
    assert_eq!(session.banner.describe, "a fake");
    let report = session.run("a b\n\u{e9}", TEXT, Some(Sabotage::SyncWithoutWait)).unwrap();
    assert_eq!(report.outcome, RunOutcome::Passed);
    played.join().unwrap();
}

#[test]
fn a_target_that_runs_already_is_asked() {
    let (session, played) = with((Greeting::Ask, Flow::Free), |mut target| {
        assert_eq!(target.take(|got| got.len() == 7), b"\nhello\n");
        // It had just started, so it greets twice.
        target.say(BANNER);
        target.say(BANNER);
        let line = target.scenario();
        assert!(!line.contains("piece="), "{line}");
        target.say(format!("report {} {REPORT_CRC} {REPORT}\nready\n", REPORT.len()));
    });
    let report = session.unwrap().run("n", TEXT, None).unwrap();
    assert_eq!(report.outcome, RunOutcome::Passed);
    played.join().unwrap();
}

#[test]
fn a_damaged_message_is_sent_again_and_not_for_ever() {
    let (session, played) = with(WAIT, |mut target| {
        target.say(BANNER);
        for _ in 0..3 {
            target.scenario();
            target.say("refused {\"reason\":\"checksum\",\"announced\":1,\"computed\":2} the text\nready\n");
            target.hello();
        }
    });
    let error = session.unwrap().run("n", TEXT, None).unwrap_err();
    assert!(matches!(error, SessionError::Refused(_)), "{error}");
    played.join().unwrap();
}

/// A host that was not scheduled for longer than the target waits: the target has given the message
/// up when its next piece comes, takes that for a command, and refuses it too.
#[test]
fn a_piece_that_comes_too_late_spoils_one_try_only() {
    let (session, played) = with(WAIT, |mut target| {
        target.say(BANNER);
        target.take(|got| got.ends_with(b"\n"));
        target.say("text\nrefused {\"reason\":\"cut\",\"bytes\":0} cut\nready\n");
        let late = target.take(|got| got.len() == 16);
        assert!(TEXT.as_bytes().starts_with(&late));
        target.say("+\n");
        // The line end of the host's question ends it.
        assert_eq!(target.take(|got| got.ends_with(b"\n")), b"\n");
        target.say("refused {\"reason\":\"unknown-command\",\"word\":\"title\"} no command\n");
        // It drops the first question with the rest, and the second comes before it answers.
        assert_eq!(target.take(|got| got.ends_with(b"\n")), b"hello\n");
        target.say("ready\n");
        target.hello();
        target.say(BANNER);
        target.scenario();
        target.say(format!("report {} {REPORT_CRC} {REPORT}\nready\n", REPORT.len()));
    });
    let report = session.unwrap().run("n", TEXT, None).unwrap();
    assert_eq!(report.outcome, RunOutcome::Passed);
    played.join().unwrap();
}

#[test]
fn a_target_that_never_greets_again_is_silent() {
    let (session, played) = with(WAIT, |mut target| {
        target.say(BANNER);
        target.scenario();
        target.say("refused {\"reason\":\"lost-byte\"} lost\nready\n");
        let _ = target.0.read_to_end(&mut Vec::new());
    });
    let error = session.unwrap().run("n", TEXT, None).unwrap_err();
    assert!(matches!(error, SessionError::Silent { .. }), "{error}");
    assert!(error.to_string().contains("drop the rest of a message"), "{error}");
    played.join().unwrap();
}

#[test]
fn a_refusal_of_the_scenario_is_told_once() {
    let (session, played) = with(WAIT, |mut target| {
        target.say(BANNER);
        target.scenario();
        target
            .say(b"refused {\"reason\":\"scenario\",\"message\":\"n:1:1: no\"} n:1:1: no\nready\n");
        target.hello();
    });
    let error = session.unwrap().run("n", TEXT, None).unwrap_err().to_string();
    played.join().unwrap();
    assert!(error.contains("n:1:1: no"), "{error}");
}

#[test]
fn a_damaged_report_is_no_report() {
    let good = REPORT.len();
    let cases: [(String, &str); 7] = [
        (format!("report {good} 00000000 {REPORT}\n"), "which says 00000000"),
        (format!("report {} {REPORT_CRC} {REPORT}\n", good + 1), "bytes, which says"),
        (format!("report {good} {REPORT_CRC} {}\n", &REPORT[1..]), "bytes, which says"),
        ("report\n".into(), "wrong line"),
        ("report 2 xyz {}\n".into(), "wrong line"),
        // CRC-32 of "{}", by zlib.
        ("report 2 a3a6bf43 {}\n".into(), "a report that is none"),
        ("report 99999999999999999999 00000000 {}\n".into(), "wrong line"),
    ];
    for (answer, says) in cases {
        let error = answered(answer.clone().leak().as_bytes()).0.unwrap_err();
        assert!(matches!(error, SessionError::Wrong { .. }), "{answer}: {error}");
        assert!(error.to_string().contains(says), "{answer}: {error}");
    }
}

#[test]
fn silence_is_a_time_out_with_the_last_step() {
    let (session, played) = with(WAIT, |mut target| {
        target.say(BANNER);
        target.scenario();
        target.say("# step 0 set up\n# step 7 unmap D iova=0x1000\nrepo");
        thread::sleep(SILENCE * 3);
    });
    let mut session = session.unwrap();
    let error = session.run("n", TEXT, None).unwrap_err();
    assert!(matches!(error, SessionError::Silent { .. }), "{error}");
    assert!(error.to_string().ends_with("run a scenario, after \"repo\""), "{error}");
    let step = LastStep { number: 7, text: Some("unmap D iova=0x1000".into()) };
    assert_eq!(session.last_step, step);
    played.join().unwrap();
}

#[test]
fn bytes_that_trickle_in_end_too() {
    let start = std::time::Instant::now();
    let (session, played) = with(WAIT, |mut target| {
        while target.0.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert!(matches!(session.err(), Some(SessionError::Silent { .. })));
    assert!(start.elapsed() < SILENCE * 20);
    played.join().unwrap();
}

#[test]
fn an_exception_and_a_panic_are_told_in_the_targets_words() {
    let (error, step) = answered(
        b"# step 3 map D\n!! exception: data abort on a write: translation fault, level 1; \
          ESR=0x96000045 ELR=0x40201000 FAR=0x9050000; EL1 CPU 0; step \"serve a host\"\n",
    );
    let error = error.unwrap_err();
    assert!(matches!(error, SessionError::Stopped(_)), "{error}");
    assert!(error.to_string().contains("data abort on a write: translation fault"), "{error}");
    assert_eq!(step.number, 3);
    for last in [&b"!! panic: no at src/lib.rs:1:1; step \"probe\"\n"[..], b"FAIL: SMMU 0: no\n"] {
        let error = answered(last).0.unwrap_err();
        assert!(matches!(error, SessionError::Stopped(_)), "{error}");
    }
}

#[test]
fn garbage_is_a_wrong_line() {
    let cases: [&[u8]; 6] =
        [b"hello\n", b"\xff\xfe\xfd\n", b"+\n", b"\n", b"smmu-board 2 {}\n", b"report 1\0 2\n"];
    for garbage in cases {
        let error = answered(garbage).0.unwrap_err();
        let shown = garbage.escape_ascii();
        assert!(matches!(error, SessionError::Wrong { .. }), "{shown}: {error}");
    }
}

#[test]
fn an_endless_line_is_bounded() {
    let (session, played) = with(WAIT, |mut target| {
        target.say(BANNER);
        target.scenario();
        let chunk = [b'x'; 65536];
        while target.0.write_all(&chunk).is_ok() {}
    });
    let error = session.unwrap().run("n", TEXT, None).unwrap_err();
    assert!(matches!(error, SessionError::Wrong { .. }), "{error}");
    assert!(error.to_string().len() < 500, "{error}");
    played.join().unwrap();
}

#[test]
fn a_line_that_closes_in_the_middle_is_named() {
    let (error, step) = answered(b"# step 2 attach\n# ste");
    assert_eq!(error.unwrap_err(), SessionError::Closed);
    assert_eq!(step.number, 2);
    let (session, played) = with(WAIT, drop);
    assert_eq!(session.err(), Some(SessionError::Closed));
    played.join().unwrap();
}

#[test]
fn a_wrong_banner_is_refused() {
    let cases = [
        ("smmu-board 1 {}\nready\n", "version \"1\""),
        ("smmu-board\nready\n", "silent"),
        ("smmu-board 2 {\nready\n", "EOF"),
        ("smmu-board 2 {}\nready\n", "missing field"),
        ("ready\nready\n", "silent"),
        ("!! panic: early at start.rs:1:1; step \"start\"\n", "stopped: panic: early"),
    ];
    for (said, why) in cases {
        let (session, played) = with(WAIT, move |mut target| {
            target.say(said);
            thread::sleep(SILENCE * 2);
        });
        let error = session.err().unwrap().to_string();
        assert!(error.contains(why), "{said}: {error}");
        played.join().unwrap();
    }
    let zero = BANNER.replace("\"piece\":16", "\"piece\":0");
    let (session, played) = with(WAIT, move |mut target| target.say(zero));
    assert!(matches!(session.err(), Some(SessionError::Wrong { .. })));
    played.join().unwrap();
}

#[test]
fn a_scenario_that_is_too_long_is_not_sent() {
    let (session, played) = with(WAIT, |mut target| target.say(BANNER));
    let error = session.unwrap().run("n", &"x".repeat(65537), None).unwrap_err();
    assert!(error.to_string().contains("65537 bytes, and the board takes 65536"), "{error}");
    played.join().unwrap();
}
