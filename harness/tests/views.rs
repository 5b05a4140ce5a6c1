//! A run as a difference, as a trace and as a page.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "common/program.rs"]
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use program::{SABOTAGE, harness, json, text};
use serde_json::Value;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn write(name: &str, content: &str) -> String {
    std::fs::write(path(name), content).unwrap();
    path(name).to_str().unwrap().to_owned()
}

#[test]
fn diff_names_the_step_and_the_lost_command() {
    let good = write("good.jsonl", &json(&["first-light"]));
    let bad = write("bad.jsonl", &json(&[&["first-light"][..], &SABOTAGE].concat()));
    let same = harness(&["diff", &good, &good]);
    assert_eq!((same.status.code(), text(&same).as_str()), (Some(0), "1 equal, 0 different\n"));
    let out = harness(&["diff", &good, &bad]);
    assert_eq!(out.status.code(), Some(1));
    let shown = text(&out);
    assert!(shown.contains("outcome: - passed  + failed"), "{shown}");
    let step = "  step 4: unmap 0x10000 of D\n  - command     smmu0 TLBI_NH_VA vmid=0 asid=1";
    assert!(shown.contains(step), "{shown}");
    let lines = text(&harness(&["diff", &good, &bad, "--commands", "--format", "json"]));
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["type"], "step difference");
    assert_eq!(lines[0]["changes"][0]["change"], "removed");
    assert_eq!(lines.last().unwrap()["different"], 1);
}

#[test]
fn diff_takes_snapshots_and_transcripts() {
    let snapshot = concat!(env!("CARGO_MANIFEST_DIR"), "/../snapshots/first-light.snap");
    let printed = write("printed.txt", &text(&harness(&["run", "first-light"])));
    assert_eq!(harness(&["diff", snapshot, &printed]).status.code(), Some(0));
    let all = write("all.jsonl", &json(&[]));
    assert_eq!(harness(&["diff", snapshot, &all]).status.code(), Some(0));
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/../snapshots/remap.snap");
    assert_eq!(harness(&["diff", snapshot, other]).status.code(), Some(1));
    for wrong in ["", "{\"type\":\"other\"}", "hello"] {
        let file = write("wrong.txt", wrong);
        let out = harness(&["diff", &file, &printed]);
        assert_eq!(out.status.code(), Some(2), "{wrong}");
        assert!(String::from_utf8(out.stderr).unwrap().contains("wrong.txt: "));
    }
}

fn trace(arguments: &[&str], name: &str) -> Vec<Value> {
    let file = path(name);
    harness(&[&["run", "--trace", file.to_str().unwrap()], arguments].concat());
    let trace: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    trace["traceEvents"].as_array().unwrap().clone()
}

/// The rules of the trace-event format: what each kind of event has, tracks with names, slices of a
/// track that nest, and arrows that begin and end in a slice.
#[test]
fn a_trace_obeys_its_format() {
    for events in [trace(&[], "all.trace"), trace(&SABOTAGE, "sabotage.trace")] {
        type Track = (u64, u64);
        let track =
            |e: &Value| -> Track { (e["pid"].as_u64().unwrap(), e["tid"].as_u64().unwrap()) };
        let mut named = BTreeSet::new();
        let mut slices: BTreeMap<Track, Vec<(f64, f64)>> = BTreeMap::new();
        let mut arrows: BTreeMap<u64, Vec<(String, Track, f64)>> = BTreeMap::new();
        for event in &events {
            assert!(event["name"].is_string(), "{event}");
            let phase = event["ph"].as_str().unwrap();
            if phase == "M" {
                if event["name"] == "thread_name" {
                    assert!(event["args"]["name"].is_string());
                    named.insert(track(event));
                }
                continue;
            }
            // Sums of microseconds are exact as nanoseconds alone.
            let nanoseconds = |key: &str| (event[key].as_f64().unwrap() * 1000.0).round();
            let at = nanoseconds("ts");
            assert!(at >= 0.0 && named.contains(&track(event)), "{event}");
            match phase {
                "X" => {
                    let lasts = nanoseconds("dur");
                    assert!(lasts >= 0.0, "{event}");
                    slices.entry(track(event)).or_default().push((at, at + lasts));
                }
                "i" => assert_eq!(event["s"], "t"),
                "s" | "t" | "f" => {
                    let id = event["id"].as_u64().unwrap();
                    arrows.entry(id).or_default().push((phase.to_owned(), track(event), at));
                }
                other => panic!("an unknown phase: {other}"),
            }
        }
        for (track, slices) in &mut slices {
            slices.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
            let mut open: Vec<f64> = Vec::new();
            for (start, end) in slices.iter() {
                open.retain(|outer| outer > start);
                assert!(open.iter().all(|outer| outer >= end), "{track:?} at {start}");
                open.push(*end);
            }
        }
        assert!(arrows.len() > 10, "{}", arrows.len());
        for points in arrows.values() {
            let phases: String = points.iter().map(|(phase, ..)| phase.as_str()).collect();
            assert!(phases.starts_with('s') && phases.ends_with('f'), "{phases}");
            assert_eq!(phases.trim_matches(['s', 'f']).replace('t', ""), "", "{phases}");
            assert!(points.windows(2).all(|pair| pair[0].2 <= pair[1].2), "{points:?}");
            for (_, track, at) in points {
                let around = slices[track].iter().any(|(start, end)| start <= at && at <= end);
                assert!(around, "an arrow touches no slice: {points:?}");
            }
        }
    }
}

#[test]
fn an_arrow_leads_from_an_unmap_to_its_command_and_to_the_refused_dma() {
    let events = trace(&["first-light"], "arrow.trace");
    let arrows: Vec<&Value> = events.iter().filter(|event| event["cat"] == "flow").collect();
    let phases: Vec<&str> = arrows.iter().map(|event| event["ph"].as_str().unwrap()).collect();
    assert_eq!(phases, ["s", "t", "f"]);
    let names: Vec<&str> = arrows
        .iter()
        .map(|arrow| {
            let starts = |event: &&Value| {
                event["ph"] == "X" && event["tid"] == arrow["tid"] && event["ts"] == arrow["ts"]
            };
            events.iter().find(starts).unwrap()["name"].as_str().unwrap()
        })
        .collect();
    assert_eq!(names[0], "4 unmap 0x10000 of D");
    assert!(names[1].starts_with("TLBI_NH_VA"), "{names:?}");
    assert_eq!(names[2], "write 0x10000: refused");
}

fn page(arguments: &[&str], name: &str) -> String {
    let file = path(name);
    harness(&[&["run", "--report", file.to_str().unwrap()], arguments].concat());
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn a_report_tells_failures_first_and_needs_nothing_beside_itself() {
    let all = page(&SABOTAGE, "sabotage.html");
    let first = all.find("class=cause").unwrap();
    assert!(first < all.find("All scenarios").unwrap());
    assert!(
        all.contains("the driver is broken on purpose: unmap-without-tlbi. Unmap leaves the TLB")
    );
    let names = all.split("<p>missing: ").nth(1).unwrap().split("</p>").next().unwrap();
    assert!(names.starts_with("<code class=missing>TLBI_NH_VA</code> in "), "{names}");
    assert!(names.contains("<code class=missing>TLBI_S2_IPA</code> in "), "{names}");
    let missing = all.find("<code class=missing>TLBI_NH_VA vmid=0 asid=1 va=0x10000").unwrap();
    assert!(missing < first + 1000);
    assert!(all[missing..missing + 300].contains("<dt>sent<dd><code>smmu0 SYNC</code></dl>"));
    let failed = all.find("class=scenario id=\"first-light\" open").unwrap();
    assert!(failed < all.find("class=scenario id=\"bad-command\"").unwrap());
    for outside in ["http:", "https:", "<link", "src=", "@import", "url("] {
        assert!(!all.contains(outside), "{outside}");
    }
    assert!(page(&[], "all.html").len() < 2_000_000);
}

/// A hostile name of a scenario's file stays text.
#[test]
fn texts_of_a_scenario_are_no_html() {
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/first-light.toml");
    let hostile = std::fs::read_to_string(scenario).unwrap();
    let title = hostile.lines().find(|line| line.starts_with("title")).unwrap();
    let hostile = hostile.replace(title, "title = \"</script><script>alert(1)</script><b a='x\"");
    let file = write("hostile.toml", &hostile);
    let page = page(&[&file], "hostile.html");
    assert!(!page.contains("<script>alert"));
    assert!(page.contains("&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;b a=&#39;x"));
}

/// A wrong tag and a forgotten command miss the same; what was sent tells them apart, as the book says.
#[test]
fn the_first_screen_says_what_was_sent_instead() {
    let wrong = page(&["first-light", "--sabotage", "unmap-wrong-tag"], "wrong-tag.html");
    let cause = wrong.split("class=cause>").nth(1).unwrap().split("</section>").next().unwrap();
    let book = include_str!("../../docs/look-at-a-run.md");
    for (title, class) in [("missing", " class=missing"), ("sent", "")] {
        let line = book.lines().find(|line| line.starts_with(&format!("{title}  "))).unwrap();
        let commands: Vec<String> =
            line[9..].split(", ").map(|command| format!("<code{class}>{command}</code>")).collect();
        assert!(cause.contains(&commands.join(", ")), "{commands:?}\n{cause}");
    }
}
