//! Inputs line by line: what comes out, and when.

use proptest::prelude::*;

use super::*;

fn scan(kind: Option<StructureKind>, text: &str) -> Vec<ScanItem> {
    let mut scanner = Scanner::new(kind, None);
    let mut items: Vec<ScanItem> = text
        .lines()
        .enumerate()
        .flat_map(|(n, line)| scanner.line(n + 1, line.as_bytes()))
        .collect();
    items.extend(scanner.finish());
    items
}

fn found(items: &[ScanItem]) -> Vec<&FoundWords> {
    items
        .iter()
        .filter_map(|item| match item {
            ScanItem::Found(found) => Some(found),
            _ => None,
        })
        .collect()
}

#[test]
fn what_is_complete_comes_at_once() {
    let mut scanner = Scanner::new(None, None);
    let lines = [
        "arm-smmu-v3 a: event 0x10 received:",
        "arm-smmu-v3 a: \t0x0000000800000010",
        "arm-smmu-v3 a: \t0x0000020000000000",
        "arm-smmu-v3 a: \t0x0000000000010000",
    ];
    for (n, line) in lines.into_iter().enumerate() {
        assert!(scanner.line(n + 1, line.as_bytes()).is_empty(), "{line}");
    }
    let items = scanner.line(5, b"arm-smmu-v3 a: \t0x0000000000000000");
    assert_eq!(found(&items)[0].words, [0x8_0000_0010, 0x200_0000_0000, 0x1_0000, 0]);
    assert_eq!(found(&items)[0].line, 1);

    let mut scanner = Scanner::new(Some(StructureKind::Command), None);
    assert_eq!(scanner.line(1, b"0x0000000000000030 0x0000000000000000").len(), 1);
}

#[test]
fn too_many_senders_are_forgotten_and_their_headlines_kept() {
    let text: String =
        (0..100).map(|n| format!("arm-smmu-v3 smmu{n}: event 0x10 received:\n")).collect();
    let items = scan(None, &text);
    let notes = items.iter().filter(|item| {
        matches!(item, ScanItem::Note { text, .. } if text.contains("F_TRANSLATION") && text.contains("missing"))
    });
    assert_eq!((notes.count(), items.len()), (100, 100));
}

#[test]
fn a_star_stands_for_lines_that_are_alike() {
    let text = "00000000  01 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n\
                00000010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n\
                *\n\
                00000040\n";
    let items = scan(Some(StructureKind::Ste), text);
    assert_eq!(found(&items)[0].words, [1, 0, 0, 0, 0, 0, 0, 0]);
    // A star over the whole address space is cut off.
    let text = "00000000: 00000001 00000000 00000000 00000000\n*\nffffffffffffffe0: 0 0\n";
    assert!(scan(Some(StructureKind::Ste), text).len() < 100);
}

#[rstest::rstest]
// Keys, shadow memory, slab objects, stacks: as many bytes as an SMMU's structures have.
#[case("[    1.0] fw: 00000000: de ad be ef 01 02 03 04  ........")]
#[case("[    1.0] aes: key: 00000000: 2b 7e 15 16 28 ae d2 a6 ab f7 15 88 09 cf 4f 3c  ......")]
#[case("[    0.4]  ffff0000c0a1b180: fc fc fc fc fc fc fc fc fc fc fc fc fc fc fc fc")]
#[case(
    "[    0.4] Object   ffff0000c0a1b180: 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b  kkkk"
)]
#[case("Dec 12 11:00:00 host kernel: fw: 00000000: de ad be ef 01 02 03 04")]
#[case("commit abcdef1: 20 files changed")]
#[case("Code: aa1703e0 97fffd3e f9400e80 (d4210000)")]
#[case("20240101")]
#[case("46 0")]
#[case("1 0")]
#[case("3 1")]
#[case("4 0 0 0")]
#[case("1 0 0 0 0 0 0 0")]
#[case("[    1.0] Bluetooth: hci0: event 0x0e received")]
#[case("initcall smmu_pmu_init returned 0")]
#[case("Modules linked in: smmu_test foo")]
#[case("intel: microcode invalid STEPPING 5")]
fn what_is_of_something_else_is_left_alone(#[case] line: &str) {
    let items = scan(None, &format!("boot\n{line}\nboot\n"));
    assert!(items.iter().all(|item| matches!(item, ScanItem::Other(_))), "{items:?}");
    assert_eq!(items.len(), 3);
}

#[test]
fn text_behind_a_dump_is_not_taken_for_bytes() {
    let text = "00000000: 1000 0000 0800 0000 0000 0000 0002 0000  feedfacebabecafe\n\
                00000010: 0000 0100 0000 0000 0000 0000 0000 0000  deadbeefdeadbeef\n";
    let items = scan(None, text);
    assert_eq!(found(&items)[0].words, [0x8_0000_0010, 0x200_0000_0000, 0x1_0000, 0]);
}

/// Pieces that lines of logs are made of.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("arm-smmu-v3 a:".to_owned()),
        Just("event 0x10 received:".to_owned()),
        Just("event: F_TRANSLATION client: x sid: 0x8 ssid: 0x0 iova: 0x1 ipa: 0x0".to_owned()),
        Just("unpriv data write s1 \"x\" stag: 0x0".to_owned()),
        Just("skipping command in error state:".to_owned()),
        Just("CMDQ error (cons 0xffffffffffffffffff)".to_owned()),
        Just("GERRORN=0x0, GERROR=0x1, CONS=0x1000012".to_owned()),
        Just("smmu0: Event F_UUT (x) received.".to_owned()),
        Just("smmu0: evt[0] 10".to_owned()),
        Just("smmu0: ste[0] == 1".to_owned()),
        Just("smmuv3_write_mmio addr: 0x20 val:0xd size: 0x4(0)".to_owned()),
        Just("SmmuV3LogErrors: 0 FaultRecord:".to_owned()),
        Just("00000000: 10 00 00 00 08 00 00 00 00 00 00 00 00 02 00 00".to_owned()),
        Just("*".to_owned()),
        "0x[0-9a-f]{1,17}",
        "[0-9a-f]{8}",
        "\\PC{0,12}",
    ]
}

proptest! {
    #[test]
    fn any_text_is_taken(
        lines in prop::collection::vec(prop::collection::vec(piece(), 0..4), 0..40),
        kind in prop_oneof![
            Just(None), Just(Some(StructureKind::Event)), Just(Some(StructureKind::Ste)), Just(Some(StructureKind::Queue)),
        ],
    ) {
        let lines: Vec<String> = lines.into_iter().map(|line| line.join(" ")).collect();
        let mut scanner = Scanner::new(kind, None);
        let mut items = Vec::new();
        for (n, line) in lines.iter().enumerate() {
            items.extend(scanner.line(n + 1, line.as_bytes()));
        }
        items.extend(scanner.finish());
        // Every line is in exactly one item, and comes back as it was.
        let mut seen = vec![0; lines.len() + 1];
        for item in items {
            match item {
                ScanItem::Other(line) => {
                    seen[line.number] += 1;
                    prop_assert_eq!(&line.raw, lines[line.number - 1].as_bytes());
                }
                ScanItem::Found(found) => {
                    found.lines.iter().for_each(|line| seen[*line] += 1);
                    let want = found.kind.words();
                    prop_assert!(want.is_none_or(|want| want == found.words.len()));
                }
                ScanItem::Note { line, .. } | ScanItem::Again { line } => seen[line] += 1,
                ScanItem::Broken(_) => {}
            }
        }
        prop_assert!(seen[1..].iter().all(|times| *times == 1), "{seen:?}");
    }
}
