//! `decode --report`: a log as one page.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rstest::rstest;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Decodes a log from standard input.
fn decode(log: &[u8], arguments: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_smmu-harness"))
        .arg("decode")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let log = log.to_vec();
    let fed = std::thread::spawn(move || stdin.write_all(&log));
    let output = child.wait_with_output().unwrap();
    // A child that decodes its arguments does not read, and closes the pipe.
    let _ = fed.join();
    output
}

/// The page of a log.
fn page(name: &str, log: &[u8]) -> String {
    let file = path(&format!("{name}.html"));
    decode(log, &["--summary", "--report", file.to_str().unwrap()]);
    std::fs::read_to_string(file).unwrap()
}

/// What a page has besides its style and script.
fn body(page: &str) -> &str {
    between(page, "<body>", "", "<aside")
}

/// The text between two marks behind a third.
fn between<'p>(page: &'p str, behind: &str, start: &str, end: &str) -> &'p str {
    let rest = page.split_once(behind).unwrap_or_else(|| panic!("{behind}")).1;
    let rest = rest.split_once(start).unwrap_or_else(|| panic!("{start} behind {behind}")).1;
    rest.split_once(end).unwrap_or_else(|| panic!("{end} behind {start}")).0
}

/// The number of lines that the page has counted, and of those that are decoded and that are not.
fn counted(page: &str) -> [u64; 3] {
    let said = between(page, "id=lines>", "", "</p>").replace(',', "");
    let numbers: Vec<u64> = said.split([' ', ';']).filter_map(|word| word.parse().ok()).collect();
    [numbers[0], numbers[1], numbers[2]]
}

fn event(time: &str, smmu: &str, stream: u64, kind: u64, address: u64) -> String {
    let words = [stream << 32 | kind, 0x200_0000_0000, address, 0];
    let lines = words.map(|word| format!("{time} arm-smmu-v3 {smmu}: \t{word:#018x}\n"));
    format!("{time} arm-smmu-v3 {smmu}: event {kind:#04x} received:\n{}", lines.concat())
}

/// A log as a kernel writes it: a device that goes on after its driver has stopped it.
fn kernel_log() -> String {
    let mut log = String::from("[    1.000000] Booting Linux\n");
    log += "[    2.000000] arm-smmu-v3 a.auto: ias 48-bit, oas 48-bit (features 0x001c1e8f)\n";
    log += "[    3.000000] arm-smmu-v3 a.auto: a new message of a new kernel\n";
    log += "[   50.000000] mlx5_core 0000:44:00.2: Shutdown was called\n";
    for n in 0..41 {
        let time = format!("[   51.{:06}]", n * 10_000);
        log += &event(&time, "a.auto", 0x4402, 0x10, 0xfe00_1000 + ((n % 4) << 12));
    }
    log += "[   58.100000] arm-smmu-v3 a.auto: EVTQ overflow detected -- events lost\n";
    for n in 0..3 {
        log += &event(&format!("[   6{n}.000000]"), "b.auto", 0x4400, 2, 0);
    }
    log += "[   70.000000] arm-smmu-v3 b.auto: event: C_BAD_STREAMID client: 0000:44:00.0 sid: 0x4400 ssid: 0x0\n";
    log
}

#[test]
fn the_page_says_what_is_wrong_the_most_frequent_first() {
    let page = page("kernel", kernel_log().as_bytes());
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}\n{}", body(&page)));
    let causes = [
        "41 × <a href=\"#kind-F_TRANSLATION\">",
        "3 × <a href=\"#kind-C_BAD_STREAMID\">",
        "1 × EVENTQ_PROD.OVFLG differs from EVENTQ_CONS.OVACKFLG",
        "<section id=storms>",
        "<svg class=timeline",
        "id=\"kind-F_TRANSLATION\"",
        "id=\"kind-C_BAD_STREAMID\"",
        "What the log says of its SMMUs",
        "<h2>Lines that name an SMMU or an IOMMU, and are unknown</h2>",
    ];
    assert!(causes.map(place).is_sorted(), "{causes:?}\n{}", body(&page));
    let cause = between(&page, "41 × ", "", "</section>");
    for said in [
        "no translation at stage 1 for input address 0xfe001000",
        "stream 0x4402 (as a PCI requester ID 44:00.2) at a.auto, 0xfe001000 to 0xfe004000, 51.000000 to 51.400000 (100/s)",
        "should have mapped it",
        "mlx5_core 0000:44:00.2: Shutdown was called",
    ] {
        assert!(cause.contains(said), "{said}\n{cause}");
    }
    // The device that the log names behind the fault.
    let row = between(&page, "C_BAD_STREAMID</button>", "", "<tr>");
    let want = "<td>0x4400<td>0000:44:00.0<td>b.auto<td>-<td title=\"line 211\">60.000000<td title=\"line 221\">62.000000<td>1.0/s";
    assert_eq!(row, want);
    assert!(page.contains("IHI 0070, 7.3.13"));
    let lanes = between(&page, "class=names", ">", "</div>").matches("<span>").count();
    assert_eq!(lanes, 3, "a lane for each device and one for the SMMU");
    let lines = kernel_log().lines().count() as u64;
    assert_eq!(counted(&page), [lines, lines - 3, 3]);
}

/// Every sample of a log or a dump has a page, which changes nothing of what `decode` prints, and has
/// each line once.
#[test]
fn every_sample_has_a_page() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decode");
    let mut with_faults = 0;
    for sample in folder.read_dir().unwrap() {
        let sample = sample.unwrap().path();
        let name = sample.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&sample).unwrap();
        let (first, input) = text.split_once('\n').unwrap_or((&text, ""));
        let arguments: Vec<&str> = first.trim_start_matches("#!").split_whitespace().collect();
        if arguments.iter().any(|argument| argument.contains('"')) {
            continue;
        }
        let file = path("sample.html");
        std::fs::write(&file, "").unwrap();
        let plain = decode(input.as_bytes(), &arguments);
        let page_of = [&arguments[..], &["--report", file.to_str().unwrap()]].concat();
        let told = decode(input.as_bytes(), &page_of);
        assert_eq!(plain, told, "{name}");
        let page = std::fs::read_to_string(&file).unwrap();
        if page.is_empty() {
            // Wrong words are told before there is anything to report.
            assert_eq!(told.status.code(), Some(2), "{name}");
            continue;
        }
        let words =
            arguments.iter().any(|argument| argument.starts_with("0x") || argument.contains('='));
        if !words {
            assert_eq!(counted(&page)[0], input.lines().count() as u64, "{name}");
        }
        for outside in ["http:", "https:", "<link", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{name}: {outside}");
        }
        let unseen = |letter: char| letter.is_control() && letter != '\n' && letter != '\t';
        assert!(!page.contains(unseen), "{name}");
        with_faults += u32::from(page.contains("<section id=storms>"));
    }
    assert!(with_faults > 30, "{with_faults}");
}

#[test]
fn names_of_a_hostile_log_are_no_html() {
    let name = "<img/src=x/onerror=alert(1)>'\"&amp;\u{202e}\u{7}x";
    let mut log = event("[    1.000000]", name, 8, 0x10, 0x1000);
    log += &format!("[    1.000001] {name} before\n");
    log += &format!(
        "[    2.000000] arm-smmu-v3 {name}: event: C_BAD_STE client: {name} sid: 0x9 ssid: 0x0\n"
    );
    log += &format!(
        "[    3.000000] </script><script>alert(2)</script> smmu {name}\n\0\x1b[31m\x08smmu\n"
    );
    let page = page("hostile-log", log.as_bytes());
    assert!(
        page.contains("&lt;img/src=x/onerror=alert(1)&gt;&#39;&quot;&amp;amp;\u{fffd}\u{2407}x")
    );
    for wrong in ["<img", "<script>alert", "\u{202e}", "\u{7}", "\0", "\x1b"] {
        assert!(!page.contains(wrong), "{wrong:?}");
    }
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script").count(), 2);
}

/// What is beyond a bound is counted.
#[test]
fn a_huge_log_has_a_small_page() {
    let mut log = String::new();
    for n in 0..30_000 {
        let (time, smmu) = (format!("[{:5}.000000]", n / 100), format!("smmu{}.auto", n % 80));
        log += &event(&time, &smmu, n, [0x10, 2, 4, 0x13][n as usize % 4], n << 12);
        log +=
            &format!("{time} smmu message {n} of nothing that is known {}\n", "long ".repeat(100));
    }
    log += &format!("{}\n", "x".repeat(3 << 20));
    let page = page("huge", log.as_bytes());
    assert!(page.len() < 1_500_000, "{}", page.len());
    for kind in ["F_TRANSLATION", "C_BAD_STREAMID", "C_BAD_STE", "F_PERMISSION"] {
        assert!(page.contains(&format!("7,500 × <a href=\"#kind-{kind}\">")), "{kind}");
    }
    assert!(page.contains(", 64 SMMUs or more</span>"));
    let row_faults: u64 = page
        .split("<section id=storms>")
        .nth(1)
        .unwrap()
        .split("</section>")
        .next()
        .unwrap()
        .split("<td class=n>")
        .skip(1)
        .map(|row| row.split('<').next().unwrap().replace(',', "").parse::<u64>().unwrap())
        .sum();
    let number = |end: &str| -> u64 {
        let before = page.split(end).next().unwrap();
        before.rsplit(['>', ' ']).next().unwrap().replace(',', "").parse().unwrap()
    };
    assert_eq!(row_faults + number(" faults</p>") + number(" faults of other kinds"), 30_000);
    assert_eq!(counted(&page), [180_001, 150_000, 30_001]);
}

/// A dump of a whole stream table has a small page as well.
#[test]
fn a_table_of_entries_has_a_small_page() {
    let entry = |n: u64| {
        format!("ste {:#x} {:#x} {:#x} 0 0 0 0 0\n", 0xd | n << 6, n | 0x8000_0000, n << 16)
    };
    let log: String = (0..3000).map(entry).collect();
    let page = page("entries", log.as_bytes());
    assert!(page.contains("Other structures") && page.len() < 1_500_000, "{}", page.len());
}

/// Names of a megabyte do not make a page of hundreds.
#[test]
fn long_names_have_a_short_page() {
    let mut log = String::new();
    for n in 0..40 {
        let name = format!("smmu{n}{}", "n".repeat(200_000));
        log += &event("[    1.000000]", &name, n, 0x10, 0x1000);
        let client = "c".repeat(200_000);
        log += &format!(
            "[    2.{}] arm-smmu-v3 {name}: event: C_BAD_STE client: {client} sid: 0x9 ssid: 0x0\n",
            "0".repeat(100_000)
        );
    }
    let page = page("long-names", log.as_bytes());
    assert!(page.contains("C_BAD_STE") && page.len() < 500_000, "{}", page.len());
}

#[rstest]
#[case::nothing("", "nothing of an SMMUv3")]
#[case::no_smmu("[ 1.0] eth0: link up\n", "nothing of an SMMUv3")]
#[case::no_fault(
    "[ 1.0] arm-smmu-v3 a.auto: ias 48-bit, oas 48-bit (features 0x001c1e8f)\n",
    "no fault of an SMMU"
)]
#[case::broken("event 0x10 0x0\n", "records that cannot be decoded")]
fn a_log_without_faults_says_so(#[case] log: &str, #[case] said: &str) {
    let page = page(&format!("none-{}", said.len()), log.as_bytes());
    assert!(page.contains(said), "{}", body(&page));
    assert!(!page.contains("<section id=storms>") && !page.contains("<svg"));
}

#[rstest]
#[case::no_times(["", "", ""])]
#[case::a_reboot(["[  100.000000]", "[  101.000000]", "[    5.000000]"])]
#[case::two_clocks(["[  100.000000]", "Nov  2 10:00:00", "[  101.000000]"])]
fn without_times_in_order_the_timeline_is_by_lines(#[case] times: [&str; 3]) {
    let log = times.map(|time| event(time, "a.auto", 8, 0x10, 0x1000)).concat();
    let page = page(&format!("lines-{}", times.concat().len()), log.as_bytes());
    assert!(page.contains("By the lines: times are missing, differ in form, or go back."));
    assert!(
        between(&page, "<svg class=timeline", ">", "</svg>").contains(">line of the log</text>")
    );
    assert!(between(&page, "F_TRANSLATION</button>", "", "</table>").ends_with("<td>-"), "no rate");
}

#[test]
fn a_file_that_cannot_be_written_is_told_and_the_input_is_kept() {
    let log = path("input.log");
    std::fs::write(&log, kernel_log()).unwrap();
    let log = log.to_str().unwrap();
    let told = |file: &str| {
        let out = decode(b"", &["-i", log, "--report", file]);
        assert_eq!(out.status.code(), Some(2), "{file}");
        String::from_utf8(out.stderr).unwrap()
    };
    for file in ["/no/such/folder/x.html", env!("CARGO_TARGET_TMPDIR")] {
        assert!(told(file).contains(&format!("cannot write {file}: ")));
    }
    #[cfg(target_os = "linux")]
    assert!(told("/dev/full").contains("cannot write /dev/full: "));
    assert!(told(log).contains("is the input; give --report another file"));
    assert_eq!(std::fs::read_to_string(log).unwrap(), kernel_log());
}

#[test]
fn a_shorter_page_leaves_nothing_of_a_longer_one() {
    let long = page("again", kernel_log().as_bytes());
    let short = page("again", b"");
    assert!(short.len() < long.len() && short.ends_with("</html>"));
}

/// The words of arguments have a page as well, and a damaged file has what comes before the damage.
#[test]
fn words_and_a_damaged_file_have_a_page() {
    let file = path("words.html");
    let file = file.to_str().unwrap();
    let out =
        decode(b"", &["event", "0x800000010", "0x20000000000", "0x10000", "0", "--report", file]);
    assert_eq!(out.status.code(), Some(0));
    let page = std::fs::read_to_string(file).unwrap();
    assert!(
        page.contains("SMMU faults in words")
            && page.contains("1 × <a href=\"#kind-F_TRANSLATION\">")
    );
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(kernel_log().repeat(20).as_bytes()).unwrap();
    let whole = packer.finish().unwrap();
    let packed = path("damaged.gz");
    std::fs::write(&packed, &whole[..whole.len() - 20]).unwrap();
    let out = decode(b"", &["-i", packed.to_str().unwrap(), "--summary", "--report", file]);
    assert_eq!(out.status.code(), Some(2));
    assert!(std::fs::read_to_string(file).unwrap().contains(" × <a href=\"#kind-F_TRANSLATION\">"));
}

/// Errors that stop an SMMU are told, however many faults there are of devices.
#[test]
fn a_stopped_queue_is_told_beside_many_faults() {
    let mut log: String = [0x10, 0x02, 0x04, 0x13, 0x12, 0x11]
        .into_iter()
        .flat_map(|kind| (0..5).map(move |_| event("[    1.000000]", "a.auto", 8, kind, 0x1000)))
        .collect();
    log += include_str!("decode/linux-cmdq-error.txt").split_once('\n').unwrap().1;
    let page = page("stopped", log.as_bytes());
    for said in [
        "1 × <a href=\"#kind-CERROR_ILL\">",
        "1 × <a href=\"#kind-CFGI_STE\">refused CFGI_STE",
        "SSec = 1 (Secure)",
        "2 kinds more</a>",
    ] {
        assert!(page.contains(said), "{said}\n{}", body(&page));
    }
}

/// The first screens that the book shows.
#[test]
fn the_logs_of_the_book_show_their_cause_first() {
    let log = include_str!("log/shutdown.log");
    let shutdown = page("shutdown", log.as_bytes());
    let cause = between(&shutdown, "class=\"cause", "", "</section>");
    let book = include_str!("../../docs/look-at-a-run.md");
    let shown = between(book, "60 x F_TRANSLATION\n", "", "```");
    assert!(cause.contains("60 × <a href=\"#kind-F_TRANSLATION\">"), "{cause}");
    for line in shown.lines() {
        let said = line.trim_start_matches("who").trim_start_matches("just before");
        let said = said.trim().trim_end_matches(" ...");
        assert!(cause.contains(said), "{said}\n{cause}");
    }
    let board = include_str!("decode/board.txt").split_once('\n').unwrap().1;
    let board = page("board", board.as_bytes());
    for said in [
        "1 × the run stopped in step &quot;iommu-testdev&quot;",
        "<p>the event is of this access</p>",
        "stream 0x8 (/pcie@10000000 00:01.0), 0x1000000, line 6",
    ] {
        assert!(board.contains(said), "{said}\n{}", body(&board));
    }
}
