//! Messages as a host sends them, and as a broken line delivers them.

extern crate std;

use std::format;
use std::vec;

use super::*;

/// What came of some bytes, without `Nothing`.
fn feed(receiver: &mut Receiver, bytes: &[u8]) -> Vec<Received> {
    let each = bytes.iter().map(|byte| receiver.byte(*byte));
    each.filter(|received| *received != Received::Nothing).collect()
}

fn refused(refusal: Refusal) -> Vec<Received> {
    vec![Received::Refused(refusal)]
}

#[test]
fn a_scenario_comes_in_pieces() {
    // The check value of CRC-32/ISO-HDLC: the checksum of "123456789" is cbf43926.
    let mut receiver = Receiver::new();
    let head = feed(&mut receiver, b"run remap 9 cbf43926 sabotage=sync-without-wait\n");
    assert_eq!(head, [Received::Piece, Received::Piece, Received::Text]);
    let request = Request {
        name: "remap".into(),
        sabotage: Some(Sabotage::SyncWithoutWait),
        text: "123456789".into(),
    };
    assert_eq!(feed(&mut receiver, b"123456789"), [Received::Run(request)]);
    assert!(!receiver.expects_more());
    assert_eq!(feed(&mut receiver, b"\n\nhello\nquit\n"), [Received::Hello, Received::Quit]);
}

#[test]
fn a_piece_is_what_a_fifo_holds() {
    let mut receiver = Receiver::new();
    assert_eq!(feed(&mut receiver, b"run n 40 00000000\n"), [Received::Piece, Received::Text]);
    assert_eq!(feed(&mut receiver, &[b'x'; 15]), []);
    assert_eq!(feed(&mut receiver, b"x"), [Received::Piece]);
    assert_eq!(feed(&mut receiver, &[b'x'; 16]), [Received::Piece]);
}

#[test]
fn a_host_chooses_larger_pieces_for_the_text() {
    let mut receiver = Receiver::new();
    feed(&mut receiver, b"run n 1500 00000000 piece=1000\n");
    assert_eq!(feed(&mut receiver, &[b'x'; 999]), []);
    assert_eq!(feed(&mut receiver, b"x"), [Received::Piece]);
    assert_eq!(feed(&mut receiver, &[b'x'; 499]), []);
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut receiver = Receiver::new();
    feed(&mut receiver, b"run n 9 cbf43927\n");
    let refusal = Refusal::Checksum { announced: 0xcbf4_3927, computed: 0xcbf4_3926 };
    assert_eq!(feed(&mut receiver, b"123456789"), refused(refusal));
    // What comes now belongs to nothing, until the line is silent.
    assert_eq!(feed(&mut receiver, b"hello\n"), []);
    assert_eq!(receiver.silence(), Received::Nothing);
    assert_eq!(feed(&mut receiver, b"hello\n"), [Received::Hello]);
}

#[test]
fn wrong_lines_are_refused_with_a_reason() {
    let wrong_run = |what| Refusal::WrongRun { what };
    let cases: [(&[u8], Refusal); 15] = [
        (b"rum n 1 00000000\n", Refusal::UnknownCommand { word: "rum".into() }),
        (b"\x1b[A\n", Refusal::UnknownCommand { word: "\x1b[A".into() }),
        (b"\xff\xfe\n", Refusal::NoText),
        (b"run\n", wrong_run("NAME")),
        (b"run n\n", wrong_run("BYTES")),
        (b"run n 0 00000000\n", wrong_run("BYTES")),
        (b"run n -1 00000000\n", wrong_run("BYTES")),
        (b"run n 99999999999999999999 00000000\n", wrong_run("BYTES")),
        (b"run n 65537 00000000\n", Refusal::LongText),
        (b"run n 5 0\n", wrong_run("CRC32")),
        (b"run n 5 +0000000\n", wrong_run("CRC32")),
        (b"run n 5 00000000 sabotage=no\n", wrong_run("sabotage")),
        (b"run n 5 00000000 piece=15\n", wrong_run("piece")),
        (b"run n 5 00000000 piece=4097\n", wrong_run("piece")),
        (b"run n 5 00000000 strict\n", wrong_run("an option")),
    ];
    for (line, refusal) in cases {
        let mut receiver = Receiver::new();
        let got = feed(&mut receiver, line).pop();
        assert_eq!(got, Some(Received::Refused(refusal)), "{}", line.escape_ascii());
    }
}

#[test]
fn an_endless_line_is_refused_once() {
    let mut receiver = Receiver::new();
    let mut got = feed(&mut receiver, &[b'x'; 100_000]);
    got.retain(|received| *received != Received::Piece);
    assert_eq!(got, refused(Refusal::LongLine));
}

#[test]
fn a_cut_message_and_a_lost_byte_are_refused() {
    let mut receiver = Receiver::new();
    feed(&mut receiver, b"run n 9 cbf43926\n1234");
    assert_eq!(receiver.silence(), Received::Refused(Refusal::Cut { bytes: 4 }));
    assert_eq!(receiver.silence(), Received::Nothing);
    feed(&mut receiver, b"run n 9 cb");
    assert_eq!(receiver.lost(), Received::Refused(Refusal::LostByte));
    assert_eq!(receiver.lost(), Received::Nothing);
    assert_eq!(receiver.silence(), Received::Nothing);
    assert_eq!(receiver.silence(), Received::Nothing);
}

#[test]
fn a_refusal_is_a_typed_line() {
    let refusal = Refusal::Checksum { announced: 1, computed: 2 };
    let json = serde_json::to_string(&refusal).unwrap();
    assert_eq!(json, r#"{"reason":"checksum","announced":1,"computed":2}"#);
    assert_eq!(format!("{refusal}"), "the text has the checksum 00000002, not 00000001");
}
