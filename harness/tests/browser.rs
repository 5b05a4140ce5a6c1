//! The pages of a run and of a log in headless Chromium. Without Chromium each test is left out, by name.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};

/// The browser: `CHROMIUM`, or Debian's.
fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    named.or_else(|| Some(PathBuf::from("/usr/bin/chromium"))).filter(|path| path.is_file())
}

/// Makes the page.
type Make = fn(&Path);

fn main() {
    let arguments = Arguments::from_args();
    let browser = chromium();
    let trials: [(&str, Make, &str, &str); 10] = [
        ("a_click_shows_the_fields_of_a_command", run, CLICK, "TLBI_NH_VA|ASID|1|hidden"),
        ("keys_move_along_the_timeline", run, KEYS, "CFGI_ALL|SYNC|CFGI_ALL|hidden"),
        ("a_link_opens_its_scenario", run, LINK, "false|true"),
        ("nothing_is_wider_than_400_pixels", run, WIDTH, "fits"),
        ("a_run_of_1000_steps_is_walked", long_run, LONG, "1002 steps|TLBI_NH_ASID|SYNC|hidden"),
        ("paper_gets_every_part_of_a_long_timeline", long_run, PRINT, "all|0"),
        ("log_a_click_shows_the_first_fault_of_a_storm", log, LOG_CLICK, LOG_CLICK_SHOWS),
        ("log_keys_move_along_the_timeline", log, LOG_KEYS, LOG_KEYS_SHOW),
        (
            "log_the_first_screen_tells_the_cause",
            log,
            LOG_FIRST,
            "F_TRANSLATION|Shutdown was called",
        ),
        ("log_nothing_is_wider_than_400_pixels", log, WIDTH, "fits"),
    ];
    let trials = trials.map(|(name, make, script, want)| {
        let browser = browser.clone();
        Trial::test(name, move || check(&browser.unwrap_or_default(), name, make, script, want))
            .with_ignored_flag(chromium().is_none())
    });
    libtest_mimic::run(&arguments, trials.into()).exit();
}

/// The page of a run.
fn run(page: &Path) {
    let run = Command::new(env!("CARGO_BIN_EXE_smmu-harness"))
        .args(["run", "first-light", "--report", page.to_str().unwrap()])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(run.success());
}

/// The page of a run of 1,000 steps: a page is mapped, used, unmapped, and used again, 250 times.
fn long_run(page: &Path) {
    let mut scenario = String::from(
        "title = \"A thousand steps\"\nneeds = [\"stage1\"]\npages = [\"A\"]\n\
         smmu = [{ name = \"smmu0\" }]\ndevice = [{ name = \"dev0\", smmu = \"smmu0\", stream = 8 }]\n\
         domain = [{ name = \"D\", stage = \"s1\" }]\nstep = [\n{ attach = { device = \"dev0\", to = \"D\" } },\n",
    );
    for n in 0..250 {
        let at = 0x10000 + n * 0x1000;
        scenario += &format!(
            "{{ map = {{ domain = \"D\", iova = {at}, page = \"A\" }} }},\n\
             {{ dma = {{ device = \"dev0\", iova = {at}, reaches = \"A\" }} }},\n\
             {{ unmap = {{ domain = \"D\", iova = {at} }} }},\n\
             {{ dma = {{ device = \"dev0\", iova = {at}, faults = \"F_TRANSLATION\" }} }},\n"
        );
    }
    scenario += "{ attach = { device = \"dev0\", to = \"blocked\" } },\n]\n";
    let file = page.with_file_name("long.toml");
    std::fs::write(&file, scenario).unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_smmu-harness"))
        .args(["run", file.to_str().unwrap(), "--report", page.to_str().unwrap()])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(run.success());
}

/// The page of a log.
fn log(page: &Path) {
    let log = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/log/shutdown.log");
    let run = Command::new(env!("CARGO_BIN_EXE_smmu-harness"))
        .args(["decode", "--summary", "-i", log, "--report", page.to_str().unwrap()])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(run.success());
}

/// Opens the first command that is a TLBI, and closes it again.
const CLICK: &str = r#"
const button = [...document.querySelectorAll("button[data-s]")].find((b) => b.textContent.startsWith("TLBI_NH_VA"));
button.click();
const panel = document.getElementById("panel");
const row = [...panel.querySelectorAll("tr")].find((r) => r.cells[1].textContent === "ASID");
const said = [panel.querySelector("h3").textContent, row.cells[1].textContent, row.cells[2].textContent];
document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
result = [...said, panel.hidden ? "hidden" : "open"].join("|");
"#;

/// Walks along the commands of a timeline.
const KEYS: &str = r##"
const scroll = document.querySelector(".scroll");
const heading = () => document.querySelector("#panel h3").textContent;
const press = (key) => scroll.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const said = [];
for (const key of ["ArrowRight", "ArrowRight", "ArrowLeft"]) { press(key); said.push(heading()); }
press("Escape");
result = [...said, document.getElementById("panel").hidden ? "hidden" : "open"].join("|");
"##;

/// The name of a scenario in the list leads to it.
const LINK: &str = r##"
const scenario = document.getElementById("first-light");
scenario.open = false;
const before = scenario.open;
location.hash = "#first-light";
window.dispatchEvent(new HashChangeEvent("hashchange"));
result = [before, scenario.open].join("|");
"##;

/// Opens the last TLBI of a long run, and walks on from it. Tells how long opening, a click and a
/// press of a key take, each until the page is laid out again.
const LONG: &str = r##"
document.querySelector("details.scenario").open = true;
const laid = () => document.body.getBoundingClientRect().height + document.getElementById("panel").getBoundingClientRect().height;
const opened = (laid(), performance.now());
const marks = [...document.querySelectorAll("svg [data-s]")].filter((m) => m.classList.contains("tlbi"));
let before = performance.now();
marks.at(-1).dispatchEvent(new MouseEvent("click", { bubbles: true }));
laid();
const click = performance.now() - before;
const heading = () => document.querySelector("#panel h3").textContent;
const said = [heading()];
const scroll = document.querySelector(".scroll");
const press = (key) => scroll.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
before = performance.now();
press("ArrowRight");
laid();
const key = performance.now() - before;
said.push(heading());
press("Escape");
said.push(document.getElementById("panel").hidden ? "hidden" : "open");
const elements = document.querySelectorAll("*").length;
figures = `${elements} elements, laid out ${opened.toFixed(0)} ms after navigation, click ${click.toFixed(0)} ms, key ${key.toFixed(0)} ms`;
result = [document.querySelector(".facts").textContent.split(",")[0], ...said].join("|");
"##;

/// Every mark of the timeline is within a row of the paper, and another print has no rows twice.
const PRINT: &str = r##"
document.querySelector("details.scenario").open = true;
dispatchEvent(new Event("beforeprint"));
dispatchEvent(new Event("beforeprint"));
const svg = document.querySelector("svg.timeline");
const parts = [...document.querySelectorAll(".rows svg svg")].map((part) => part.viewBox.baseVal);
const inside = (x) => parts.filter((box) => box.x <= x && x < box.x + box.width).length === 1;
const marks = [...svg.querySelectorAll("rect.c")].map((mark) => +mark.getAttribute("x"));
const names = [...document.querySelectorAll(".rows > svg")].filter((row) => row.querySelector("text").textContent !== "smmu0");
result = [marks.length > 500 && marks.every(inside) ? "all" : "some are lost", names.length].join("|");
"##;

/// Opens the record of a storm from the table, with the keyboard's focus on its button.
const LOG_CLICK: &str = r##"
const button = document.querySelector("#storms button[data-s]");
button.click();
const panel = document.getElementById("panel");
const row = [...panel.querySelectorAll("tr")].find((r) => r.cells[1].textContent === "StreamID");
const said = [panel.querySelector("h3").textContent, row.cells[2].textContent, panel.hidden];
document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
result = [...said, panel.hidden, document.activeElement === button].join("|");
"##;
const LOG_CLICK_SHOWS: &str = "F_TRANSLATION|0x4402|false|true|true";

/// Walks along the faults of the timeline, to the last and back.
const LOG_KEYS: &str = r##"
const scroll = document.querySelector(".scroll");
const heading = () => document.querySelector("#panel h3").textContent;
const press = (key) => scroll.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
press("ArrowRight");
const said = [heading()];
for (let n = 0; n < 200; n++) press("ArrowRight");
said.push(heading());
press("Escape");
result = [...said, document.getElementById("panel").hidden ? "hidden" : "open"].join("|");
"##;
const LOG_KEYS_SHOW: &str = "F_TRANSLATION|GERROR|hidden";

/// The most frequent cause, and the line before it, stand within the first 720 pixels.
const LOG_FIRST: &str = r##"
const cause = document.querySelector(".cause");
const before = cause.querySelector("pre").textContent.includes("Shutdown was called");
const fits = cause.getBoundingClientRect().bottom < 720;
result = fits ? [cause.querySelector("h2 a").textContent, before && "Shutdown was called"].join("|") : "below";
"##;

/// Wide parts scroll within themselves.
const WIDTH: &str = r#"
for (const part of document.querySelectorAll("details")) part.open = true;
const frame = document.createElement("div");
document.body.style.width = "400px";
const edge = document.body.getBoundingClientRect().right;
const inside = (e) => e.closest(".scroll,.wide,.bits,pre,#panel") !== null;
const wide = [...document.querySelectorAll("body *")].filter((e) => !inside(e) && e.getBoundingClientRect().right > edge + 1);
result = wide.length ? wide[0].outerHTML.slice(0, 200) : "fits";
"#;

/// Runs a script at the end of the page, and reads its result from the title.
fn check(
    browser: &PathBuf,
    name: &str,
    make: Make,
    script: &str,
    want: &str,
) -> Result<(), Failed> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let page = folder.join("page.html");
    make(&page);
    let html = std::fs::read_to_string(&page).unwrap();
    let script = format!(
        "<script>let result = 'nothing', figures = ''; try {{ {script} }} catch (e) {{ result = String(e); }} \
         document.title = 'RESULT ' + result + '\\u0001' + figures;</script>"
    );
    std::fs::write(&page, html.replace("</html>", &format!("{script}</html>"))).unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", page.display()))
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    let title = dom.split("<title>RESULT ").nth(1).and_then(|rest| rest.split("</title>").next());
    let (title, figures) = title.and_then(|title| title.split_once('\u{1}')).unzip();
    if let Some(figures) = figures.filter(|figures| !figures.is_empty()) {
        let bytes = page.metadata().unwrap().len();
        eprintln!("{name}: {bytes} bytes, {figures}");
    }
    match title {
        Some(got) if got == want => Ok(()),
        got => Err(format!("wanted {want:?}, got {got:?}").into()),
    }
}
