//! Judgements, cut-off records, queues, and what one line says.

use rstest::rstest;
use smmu_decode::structures::{decode, segments};
use smmu_decode::words::tokens;
use smmu_decode::{
    BitView, DecodeContext, InputPlace, RowChoice, ScanItem, StreamResolver, StructureReport,
    TextView, ids, reports,
};
use smmu_types::StreamId;

use crate::{LINUX, all, field, linux_event, only, scan};

/// The reports on words with names of kinds, as arguments are.
fn arguments(text: &str, context: &DecodeContext<'_>) -> Vec<StructureReport> {
    let place = |column| InputPlace::Argument { number: 1, column };
    let tokens: Vec<_> = tokens(text).map(|(column, token)| (place(column), token)).collect();
    segments(&tokens)
        .unwrap()
        .into_iter()
        .flat_map(|(kind, words)| decode(kind, None, &words).unwrap())
        .flat_map(|found| reports(&found, context))
        .collect()
}

fn text(report: &StructureReport, view: TextView) -> String {
    let mut out = Vec::new();
    report.human(&mut out, "", view).unwrap();
    // Without colours.
    let text = String::from_utf8(out).unwrap();
    let mut parts = text.split('\x1b');
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').unwrap().1)
}

const STE: &str = "ste 0x000000ff4000000b 0xd4 0 0 0 0 0 0";

/// Whether S1ContextPtr = 0xff40000000 fits depends on IDR5.OAS.
#[rstest]
#[case::unknown("IDR0=0x0d44101b", None)]
#[case::of_44_bits("IDR0=0x0d44101b,IDR1=0x02730010,IDR3=0x1414,IDR5=0x74,AIDR=1", Some(false))]
#[case::of_36_bits("IDR0=0x0d44101b,IDR1=0x02730010,IDR3=0x1414,IDR5=0x71,AIDR=1", Some(true))]
fn a_rule_needs_its_register(#[case] given: &str, #[case] refused: Option<bool>) {
    let ids = Some(ids::parse(given).unwrap());
    let report = &arguments(STE, &DecodeContext { ids, ..DecodeContext::default() })[0];
    let found = report.findings.iter().any(|finding| finding.starts_with("S1ContextPtr"));
    let missing =
        report.not_judged.iter().any(|fields| fields.starts_with("IDR5 missing: S1ContextPtr"));
    let got = match (found, missing) {
        (_, true) => None,
        (found, false) => Some(found),
    };
    assert_eq!(got, refused, "{:?} {:?}", report.findings, report.not_judged);
    // The event of such an entry is not told that the entry is legal.
    let both = format!("event 0x4 0 0 0 {STE}");
    let context = DecodeContext {
        ids,
        ste: Some(smmu_types::Ste([0xff_4000_000b, 0xd4, 0, 0, 0, 0, 0, 0])),
        ..DecodeContext::default()
    };
    let advice = format!("{:?}", arguments(&both, &context)[0].advice);
    assert_eq!(advice.contains("IDR5 missing"), refused.is_none(), "{advice}");
    assert_eq!(advice.contains("is legal for these"), refused == Some(false), "{advice}");
}

/// What holds without the other registers is still found: IDR0.STALL_MODEL = 1 has no stalls.
#[test]
fn a_rule_that_needs_no_missing_register_holds() {
    let ids = Some(ids::parse("IDR0=0x0d44101b").unwrap());
    let context = DecodeContext { ids, ..DecodeContext::default() };
    let report = &arguments("ste 0xd 0 0x0208000000000010 0 0 0 0 0", &context)[0];
    assert!(report.findings.iter().any(|f| f.starts_with("S2S = 1")), "{:?}", report.findings);
}

/// 7.3.11 and 7.3.3: what these events say is in their first word.
#[test]
fn a_cut_off_record_says_what_is_there() {
    let lines: Vec<String> =
        linux_event(0x0a, [0x4400_0000_380a, 0, 0, 0]).lines().map(str::to_owned).collect();
    let log = format!(
        "{}\n{LINUX} event 0x02 received:\n{LINUX} \t0x0000440000000002\nboot\n",
        lines[..4].join("\n")
    );
    let reports = all(&log);
    let [bad_cd, bad_stream] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!(
        (bad_cd.name.as_str(), bad_cd.summary.as_str()),
        ("C_BAD_CD", "sid=0x4400 ssid=0x3")
    );
    assert_eq!(bad_cd.cut_off.as_deref(), Some("3 of 4 words"));
    assert!(bad_cd.advice.means.contains("substream 0x3"), "{:?}", bad_cd.advice);
    assert_eq!(
        (bad_stream.name.as_str(), field(bad_stream, "StreamID")),
        ("C_BAD_STREAMID", 0x4400)
    );
    assert_eq!(bad_stream.cut_off.as_deref(), Some("1 of 4 words"));
    assert!(!scan(&log).iter().any(|item| matches!(item, ScanItem::Broken(_))));
}

/// A missing word is not read as 0: neither a write nor an address.
#[rstest]
#[case(1, "sid=0x8")]
#[case(2, "sid=0x8 read class=IN stage=1")]
#[case(3, "sid=0x8 read iova=0x10000 class=IN stage=1")]
fn a_missing_word_is_not_zero(#[case] words: usize, #[case] summary: &str) {
    let whole = linux_event(0x10, [0x8_0000_0010, 0x208_0000_0000, 0x1_0000, 0]);
    let lines: Vec<&str> = whole.lines().take(1 + words).collect();
    let report = only(&lines.join("\n"));
    assert_eq!(report.summary, summary);
    assert_eq!(report.cut_off, Some(format!("{words} of 4 words")));
    assert_eq!(report.advice.means.contains("0x10000"), words == 3, "{:?}", report.advice);
    assert!(!report.advice.means.contains("write"));
}

/// A headline alone still says which event it was; the next record is whole.
#[test]
fn a_headline_alone_is_named() {
    let log =
        format!("{LINUX} event 0x04 received:\n{}", linux_event(0x02, [0x4400_0000_0002, 0, 0, 0]));
    let items = scan(&log);
    assert!(
        matches!(&items[0], ScanItem::Note { line: 1, text, .. } if text.contains("C_BAD_STE")),
        "{items:?}"
    );
    assert_eq!(all(&log)[0].name, "C_BAD_STREAMID");
}

/// PROD and CONS count index and wrap bit as one number: 0x12045 - 0x11e00 = 581.
#[test]
fn a_time_out_says_how_much_waits() {
    let report = only(&format!(
        "{LINUX} CMD_SYNC timeout at 0x00012044 [hwprod 0x00012045, hwcons 0x00011e00]"
    ));
    assert_eq!(report.summary, "581 wait");
    assert!(report.advice.means.contains("the SYNC is the last of them"), "{:?}", report.advice);
    let next = format!("{:?}", report.advice.next);
    assert!(next.contains("ERR is 0") && next.contains("slow or stuck"), "{next}");
    assert!(!next.contains("log2"), "{next}");
}

#[test]
fn a_queue_of_which_nothing_was_consumed_is_not_on() {
    let report = only(&format!(
        "{LINUX} CMD_SYNC timeout at 0x00000002 [hwprod 0x00000003, hwcons 0x00000000]"
    ));
    assert_eq!(report.summary, "3 wait");
    let next = &report.advice.next[0];
    for cause in
        ["nothing was consumed", "reset", "CMDQEN", "CMDQ_BASE", "COHACC = 0", "cache maintenance"]
    {
        assert!(next.contains(cause), "{cause}: {next}");
    }
}

/// After a wrap the number depends on the size.
#[rstest]
#[case("queue 0x0 0x1ff 8", "1 of 256 waits")]
#[case("queue 0x5 0x4 8", "1 of 256 waits")]
#[case("queue 0x5 0x4", "1 waits")]
#[case("queue 0x100 0x0 8", "full: 256 wait; equal indices and different wrap bits")]
#[case("queue 0x0 0x1ff", "not empty; how much waits depends on the size of the queue")]
fn a_queue_says_how_much_waits(#[case] words: &str, #[case] summary: &str) {
    assert_eq!(arguments(words, &DecodeContext::default())[0].summary, summary);
}

/// 6.3.19: Linux prints the active bits, so they need no comparison and only they count.
#[test]
fn global_errors_of_linux_are_the_active_ones() {
    let log = format!(
        "{LINUX} unexpected global error reported (0x00000001), this could be serious\n\
         {LINUX} CMDQ error (cons 0x0302bb84): ATC invalidate timeout\n"
    );
    let reports = all(&log);
    let [gerror, cons] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!(gerror.summary, "CMDQ_ERR");
    let shown = text(gerror, TextView::default());
    assert!(
        !shown.contains("MSI_") && !shown.contains("SFM_ERR") && !shown.contains("GERRORN"),
        "{shown}"
    );
    assert_eq!(cons.summary, "rd=0x2bb84 CERROR_ATC_INV_SYNC");
    assert!(!format!("{:?}", cons.advice).contains("only while"), "{:?}", cons.advice);
}

#[rstest]
#[case("gerror 0x1", "GERROR", "CMDQ_ERR")]
#[case("cmdq_cons 0x0100012a", "CMDQ_CONS", "rd=0x12a CERROR_ILL")]
#[case("cr0 0xd", "CR0", "SMMUEN EVENTQEN CMDQEN")]
#[case("l1std 0x40040009", "L1STD", "2^8 STEs at 0x40040000")]
fn one_line_has_the_values(#[case] words: &str, #[case] name: &str, #[case] summary: &str) {
    let report = &arguments(words, &DecodeContext::default())[0];
    assert_eq!((report.name.as_str(), report.summary.as_str()), (name, summary));
    let mut line = Vec::new();
    report.brief(&mut line, "").unwrap();
    assert!(String::from_utf8(line).unwrap().contains(summary));
}

/// Fields that Config makes count are shown, also when 0; others only when set.
#[rstest]
#[case::abort("ste 0x1 0 0 0 0 0 0 0", &["V", "Config"], &["S1ContextPtr", "S2TTB", "SHCFG"])]
#[case::bypass("ste 0x9 0 0 0 0 0 0 0", &["V", "Config", "SHCFG", "MTCFG"], &["S1ContextPtr", "S2TTB"])]
#[case::stage1("ste 0xb 0 0 0 0 0 0 0", &["S1ContextPtr", "S1CDMax", "S1DSS", "EATS", "STRW"], &["S2TTB", "S2TG", "VMSPtr"])]
#[case::stage2("ste 0xd 0 0 0 0 0 0 0", &["S2TTB", "S2T0SZ", "S2VMID", "S2TG"], &["S1ContextPtr", "S1DSS"])]
#[case::stray("ste 0xd 0x1 0 0 0 0 0 0", &["S2TTB", "S1DSS"], &["S1ContextPtr"])]
fn an_ste_is_short(#[case] words: &str, #[case] shown: &[&str], #[case] hidden: &[&str]) {
    let report = &arguments(words, &DecodeContext::default())[0];
    let has = |view, name: &str| {
        text(report, view).lines().any(|line| line.split_whitespace().nth(1) == Some(name))
    };
    let all = TextView { rows: RowChoice::All, ..TextView::default() };
    for name in shown {
        assert!(has(TextView::default(), name), "{name}: {}", text(report, TextView::default()));
    }
    for name in hidden {
        assert!(!has(TextView::default(), name) && has(all, name), "{name}");
    }
    assert_eq!(
        text(report, all).lines().filter(|line| line.contains("  ")).count(),
        text(report, all).lines().count() - 1
    );
    let lines = text(report, TextView { bits: BitView::On, ..TextView::default() }).lines().count();
    assert_eq!(lines, text(report, TextView::default()).lines().count() + 8);
}

#[derive(Debug)]
struct Tables;

impl StreamResolver for Tables {
    fn device(&self, smmu: &str, stream: StreamId) -> Option<String> {
        (smmu == "arm-smmu-v3.4.auto" && stream.0 == 0x4402).then(|| "0000:44:00.2 (IORT)".into())
    }
}

/// Bits 15:8 of a PCIe Requester ID are the bus, 7:3 the device, 2:0 the function.
#[rstest]
#[case(0x4402, "44:00.2")]
#[case(0x0008, "00:01.0")]
#[case(0xffff, "ff:1f.7")]
#[case(0x1_4402, "bits 15:0 as a PCI requester ID 44:00.2")]
fn a_stream_names_its_device(#[case] stream: u64, #[case] device: &str) {
    let report = only(&linux_event(0x10, [stream << 32 | 0x10, 0x200_0000_0000, 0xfe00_1000, 0]));
    let said = report.device.unwrap();
    assert!(
        said.contains(device) && said.contains("if it is one") && said.contains("iommu-map"),
        "{said}"
    );
}

#[test]
fn firmware_tables_name_the_device() {
    let log = linux_event(0x10, [0x4402_0000_0010, 0x200_0000_0000, 0xfe00_1000, 0]);
    let items = scan(&log);
    let ScanItem::Found(found) = &items[0] else { panic!("{items:?}") };
    let context = DecodeContext { resolver: &Tables, ..DecodeContext::default() };
    assert_eq!(reports(found, &context)[0].device.as_deref(), Some("0000:44:00.2 (IORT)"));
}
