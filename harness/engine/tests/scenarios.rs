//! Every scenario of the harness on the model, on machines that are like a board: a report crosses a
//! line of JSON, devices write more than 4 bytes, and interrupts are not seen.
//!
//! The features decide which locks and which publication run, so the tests run with `std` and
//! without. Without it there is one countdown of allocations for the program, hence one thread.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../../src/alloc.rs"]
#[expect(unused_imports, reason = "its own test runs where it is at home")]
mod alloc;
#[path = "../../src/backend/mock.rs"]
#[expect(unreachable_pub, reason = "the backend is public where it is at home")]
mod mock;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use smmu_engine::machine::{
    AtsPower, Backend, BackendError, Clock, Coherency, DMA_PATTERN, DmaReadOutcome, DmaSource,
    DmaWriteOutcome, Insight, Machine, MachineSpec, Need, PageAnswer, QueueFault, QueueName, Ram,
};
use smmu_engine::run::{RunOptions, RunOutcome, RunReport, Sabotage, run};
use smmu_engine::scenario::Scenario;
use smmu_types::pool::Window;
use smmu_types::seam::Registers;
use smmu_types::{Irq, PriRecord};

use mock::Mock;

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trials = vec![
        Trial::test("transcripts_are_the_snapshots", transcripts_are_the_snapshots),
        Trial::test("a_report_crosses_a_line_of_json", a_report_crosses_a_line_of_json),
        Trial::test("a_device_may_write_a_sector", a_device_may_write_a_sector),
        Trial::test("a_device_may_write_a_page", a_device_may_write_a_page),
        Trial::test("a_device_may_have_rings_in_memory", a_device_may_have_rings_in_memory),
        Trial::test("half_a_write_is_a_failure", half_a_write_is_a_failure),
        Trial::test("an_unconfirmed_attach_is_no_mistake", an_unconfirmed_attach_is_no_mistake),
        Trial::test("bypass_is_judged_on_a_small_smmu", bypass_is_judged_on_a_small_smmu),
        Trial::test("unseen_interrupts_are_named", unseen_interrupts_are_named),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

/// The scenarios of the harness, by name.
fn scenarios() -> BTreeMap<String, Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let files = folder.read_dir().unwrap().map(|file| file.unwrap().path());
    let toml = files.filter(|path| path.extension().is_some_and(|ending| ending == "toml"));
    toml.map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let scenario = Scenario::parse(&name, &format!("{name}.toml"), &text).unwrap();
        (name, scenario)
    })
    .collect()
}

/// The lines of a scenario's snapshot, without the head that the tests of the harness write.
fn snapshot(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../snapshots");
    let text = std::fs::read_to_string(folder.join(format!("{name}.snap"))).unwrap();
    let (_, body) = text.strip_prefix("---\n").unwrap().split_once("---\n").unwrap();
    body.to_owned()
}

fn transcript(report: &RunReport) -> String {
    report.transcript.iter().map(|line| format!("{line}\n")).collect()
}

fn passed(report: &RunReport) -> Result<(), Failed> {
    match &report.outcome {
        RunOutcome::Passed => Ok(()),
        other => Err(format!("{}: {other:?}\n{}", report.scenario, transcript(report)).into()),
    }
}

fn same(name: &str, got: &str, want: &str) -> Result<(), Failed> {
    if got == want { Ok(()) } else { Err(format!("{name}:\n{got}\nis not\n{want}").into()) }
}

/// As a board takes them: prepared.
fn transcripts_are_the_snapshots() -> Result<(), Failed> {
    for (name, scenario) in scenarios() {
        let scenario = Scenario::from_prepared(&name, &scenario.prepare())?;
        let report = run(&scenario, &Mock, RunOptions::default());
        passed(&report)?;
        same(&name, &transcript(&report), &snapshot(&name))?;
        if !report.unchecked.is_empty() || !report.unrecorded.is_empty() {
            return Err(format!("{name}: {report:?}").into());
        }
    }
    Ok(())
}

/// Reports of runs that pass, that fail and that are skipped.
fn a_report_crosses_a_line_of_json() -> Result<(), Failed> {
    let broken = Sabotage::ALL.map(|sabotage| (&Mock as &dyn Backend, Some(sabotage)));
    let whole: [(&dyn Backend, _); 3] =
        [(&Mock, None), (&Like(Twist::Blind), None), (&Like(Twist::Page), None)];
    let mut ended: BTreeMap<&str, usize> = BTreeMap::new();
    let mut hazards = 0;
    let scenarios = scenarios();
    for (backend, sabotage) in whole.into_iter().chain(broken) {
        for scenario in scenarios.values() {
            let report = run(scenario, backend, RunOptions { sabotage });
            let json = serde_json::to_string(&report)?;
            if json.contains('\n') {
                return Err(json.into());
            }
            let back: RunReport = serde_json::from_str(&json)?;
            if back != report {
                return Err(format!("{back:?}\nis not\n{report:?}").into());
            }
            *ended.entry(report.outcome.name()).or_default() += 1;
            hazards += report.outcome.failure().map_or(0, |why| why.hazards.len());
        }
    }
    let kinds: Vec<&str> = ended.keys().copied().collect();
    if kinds == ["failed", "passed", "skipped"] && hazards > 0 {
        Ok(())
    } else {
        Err(format!("{ended:?}, {hazards} hazards").into())
    }
}

fn a_device_may_write_a_sector() -> Result<(), Failed> {
    let mut skipped = Vec::new();
    for (name, scenario) in scenarios() {
        let report = run(&scenario, &Like(Twist::Sector), RunOptions::default());
        if let RunOutcome::Skipped { .. } = &report.outcome {
            skipped.push(name);
            continue;
        }
        passed(&report)?;
        same(&name, &transcript(&report), &snapshot(&name))?;
    }
    if skipped == NEED_STALLS { Ok(()) } else { Err(format!("{skipped:?}").into()) }
}

/// The scenarios whose devices stall.
const NEED_STALLS: [&str; 3] =
    ["detach-with-page-requests", "stall-and-resume", "stall-of-substreams"];

/// A scenario with a DMA in the middle of a page is skipped, and says why.
fn a_device_may_write_a_page() -> Result<(), Failed> {
    let mut skipped = Vec::new();
    for (name, scenario) in scenarios() {
        let report = run(&scenario, &Like(Twist::Page), RunOptions::default());
        match &report.outcome {
            RunOutcome::Skipped { reason } if reason.contains("writes 4096 bytes at once") => {
                skipped.push(name);
            }
            RunOutcome::Skipped { .. } if NEED_STALLS.contains(&name.as_str()) => {}
            _ => {
                passed(&report)?;
                same(&name, &transcript(&report), &snapshot(&name))?;
            }
        }
    }
    if skipped == ["blocks", "dma-reads"] { Ok(()) } else { Err(format!("{skipped:?}").into()) }
}

/// A device that reads its ring before each write, through the domain of its stream, and tries a
/// refused write again. Each scenario that a board can run has the usual transcript.
fn a_device_may_have_rings_in_memory() -> Result<(), Failed> {
    let mut ran = 0;
    for (name, scenario) in scenarios() {
        let report = run(&scenario, &Like(Twist::Ring), RunOptions::default());
        if let RunOutcome::Skipped { .. } = &report.outcome {
            continue;
        }
        passed(&report)?;
        same(&name, &transcript(&report), &snapshot(&name))?;
        ran += 1;
    }
    if ran >= 25 { Ok(()) } else { Err(format!("{ran} scenarios ran").into()) }
}

fn half_a_write_is_a_failure() -> Result<(), Failed> {
    let report = run(&scenarios()["first-light"], &Like(Twist::Half), RunOptions::default());
    let RunOutcome::Failed(why) = &report.outcome else {
        return Err(format!("{:?}", report.outcome).into());
    };
    if why.happened.contains("page A got a part of the write only") {
        Ok(())
    } else {
        Err(why.to_string().into())
    }
}

/// The SMMU has not confirmed an attach, so the entries stay invalid until the next one.
fn an_unconfirmed_attach_is_no_mistake() -> Result<(), Failed> {
    ends_well(
        r#"
title = "An attach that is not confirmed"
needs = ["stage1", "queue-stop"]
pages = ["A"]
smmu = [{ name = "smmu0", timeout_ms = 20 }]
device = [
    { name = "dev0", smmu = "smmu0", stream = 0x08 },
    { name = "dev1", smmu = "smmu0", stream = 0x10 },
]
domain = [{ name = "D", stage = "s1" }, { name = "E", stage = "s1" }]
step = [
    { attach = { device = "dev0", to = "D" } },
    { map = { domain = "E", iova = 0x10000, page = "A" } },
    { fault = { smmu = "smmu0", cmdq = "stopped" } },
    { attach = { device = "dev0", to = "E", fails = "timeout" } },
    { mend = { smmu = "smmu0" } },
    { settle = { smmu = "smmu0" } },
    { attach = { device = "dev1", to = "D" } },
    { attach = { device = "dev0", to = "E" } },
    { dma = { device = "dev0", iova = 0x10000, reaches = "A" } },
    { attach = { device = "dev0", to = "blocked" } },
    { attach = { device = "dev1", to = "blocked" } },
]
"#,
    )
}

/// 32 bits of output, where an IOVA of 39 bits is too large for bypass.
fn bypass_is_judged_on_a_small_smmu() -> Result<(), Failed> {
    ends_well(
        r#"
title = "Bypass on a small SMMU"
needs = ["stage1", "smmu-kinds"]
smmu = [{ name = "smmu0", oas = 32 }]
device = [{ name = "dev0", smmu = "smmu0", stream = 0x08 }]
step = [
    { attach = { device = "dev0", to = "bypass" } },
    { attach = { device = "dev0", to = "blocked" } },
]
"#,
    )
}

fn ends_well(text: &str) -> Result<(), Failed> {
    let scenario = Scenario::parse("test", "test.toml", text).map_err(|e| format!("{e:?}"))?;
    passed(&run(&scenario, &Mock, RunOptions::default()))
}

fn unseen_interrupts_are_named() -> Result<(), Failed> {
    let mut left_out = 0;
    for (name, scenario) in scenarios() {
        let report = run(&scenario, &Like(Twist::Blind), RunOptions::default());
        passed(&report)?;
        let whole = snapshot(&name);
        same(&name, &transcript(&report), &report.comparable(&whole))?;
        same(&name, &report.comparable(&report.snapshot()), &report.comparable(&whole))?;
        if report.unchecked != ["whether interrupts came: the machine sees none"] {
            return Err(format!("{name}: {:?}", report.unchecked).into());
        }
        left_out += whole.lines().count() - report.transcript.len();
    }
    if left_out > 10 { Ok(()) } else { Err(format!("{left_out} lines left out").into()) }
}

/// How a machine differs from the model's.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Twist {
    /// It sees no interrupts.
    Blind,
    /// Its devices write 512 bytes.
    Sector,
    /// Its devices write 4 KiB.
    Page,
    /// Its devices write half of the 512 bytes that they say.
    Half,
    /// Its devices have a ring in memory, and try a refused write again.
    Ring,
}

/// The model, with machines that differ.
struct Like(Twist);

impl Backend for Like {
    fn name(&self) -> &'static str {
        "like-a-board"
    }
    fn describe(&self) -> String {
        format!("the model, {:?}", self.0)
    }
    fn offers(&self, need: Need) -> bool {
        if self.0 == Twist::Ring {
            let on_boards =
                [Need::Stage1, Need::Stage2, Need::SeveralSmmus, Need::QueueStop, Need::Caches];
            return on_boards.contains(&need);
        }
        // A DMA of many words would stall in its middle.
        let stalls = need == Need::Stalls && self.0 != Twist::Blind;
        !stalls && Mock.offers(need)
    }
    fn start(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>, BackendError> {
        Ok(Box::new(Twisted(self.0, Mock.start(spec)?)))
    }
}

struct Twisted(Twist, Box<dyn Machine>);

impl Twisted {
    /// How many times the model's 4 bytes one DMA is.
    const fn words(&self) -> usize {
        match self.0 {
            Twist::Blind | Twist::Ring => 1,
            Twist::Sector | Twist::Half => 128,
            Twist::Page => 1024,
        }
    }

    /// One DMA, word by word.
    fn each_word(
        &self,
        write: impl Fn(u64) -> Result<DmaWriteOutcome, BackendError>,
    ) -> Result<DmaWriteOutcome, BackendError> {
        let written = if self.0 == Twist::Half { self.words() / 2 } else { self.words() };
        for word in 0..written as u64 {
            let outcome = write(word)?;
            // A device ends a DMA at the first word that is refused.
            if outcome != DmaWriteOutcome::Written {
                return Ok(outcome);
            }
        }
        Ok(DmaWriteOutcome::Written)
    }
}

impl Machine for Twisted {
    fn ram(&self) -> Ram {
        self.1.ram()
    }
    fn coherency(&self, smmu: usize) -> Coherency {
        self.1.coherency(smmu)
    }
    fn registers(&self, smmu: usize) -> Result<Arc<dyn Registers + Send + Sync>, BackendError> {
        self.1.registers(smmu)
    }
    fn together(&self, callers: Vec<Box<dyn FnOnce() + Send + '_>>) -> Result<(), BackendError> {
        self.1.together(callers)
    }
    fn pattern(&self, _device: usize) -> Cow<'static, [u8]> {
        DMA_PATTERN.to_le_bytes().repeat(self.words()).into()
    }
    fn own_memory(&self, _device: usize) -> Option<Range<u64>> {
        let ram = self.ram();
        let end = ram.base().0 + ram.words().len() as u64 * 8;
        (self.0 == Twist::Ring).then_some(end - 4096..end)
    }
    fn dma_write(&self, device: usize, iova: u64) -> Result<DmaWriteOutcome, BackendError> {
        if let Some(ring) = self.own_memory(device) {
            if self.1.dma_read(device, ring.start)? == DmaReadOutcome::Refused {
                return Ok(DmaWriteOutcome::Refused);
            }
            return Ok(match self.1.dma_write(device, iova)? {
                DmaWriteOutcome::Refused => self.1.dma_write(device, iova)?,
                other => other,
            });
        }
        self.each_word(|word| self.1.dma_write(device, iova + word * 4))
    }
    fn dma_read(&self, device: usize, iova: u64) -> Result<DmaReadOutcome, BackendError> {
        self.1.dma_read(device, iova)
    }
    fn dma_write_from(
        &self,
        device: usize,
        source: DmaSource,
        iova: u64,
    ) -> Result<DmaWriteOutcome, BackendError> {
        self.each_word(|word| self.1.dma_write_from(device, source, iova + word * 4))
    }
    fn dma_read_from(
        &self,
        device: usize,
        source: DmaSource,
        iova: u64,
    ) -> Result<DmaReadOutcome, BackendError> {
        self.1.dma_read_from(device, source, iova)
    }
    fn switch_ats(&self, device: usize, to: AtsPower) -> Result<(), BackendError> {
        self.1.switch_ats(device, to)
    }
    fn switch_page_requests(&self, device: usize, to: AtsPower) -> Result<(), BackendError> {
        self.1.switch_page_requests(device, to)
    }
    fn ended_write(&self, device: usize) -> Result<Option<DmaWriteOutcome>, BackendError> {
        self.1.ended_write(device)
    }
    fn page_request(&self, smmu: usize, request: PriRecord) -> Result<(), BackendError> {
        self.1.page_request(smmu, request)
    }
    fn take_page_answers(&self, smmu: usize) -> Result<Vec<PageAnswer>, BackendError> {
        self.1.take_page_answers(smmu)
    }
    fn sees_interrupts(&self) -> bool {
        self.0 != Twist::Blind
    }
    fn take_interrupts(&self) -> Vec<(usize, Irq)> {
        self.1.take_interrupts()
    }
    fn check(&self) -> Result<(), BackendError> {
        self.1.check()
    }
    fn second_queue(&self, smmu: usize) -> Result<Arc<dyn Registers + Send + Sync>, BackendError> {
        self.1.second_queue(smmu)
    }
    fn clock(&self) -> Clock {
        self.1.clock()
    }
    fn inject(&self, smmu: usize, queue: QueueName, fault: QueueFault) -> Result<(), BackendError> {
        self.1.inject(smmu, queue, fault)
    }
    fn mend(&self, smmu: usize) -> Result<(), BackendError> {
        self.1.mend(smmu)
    }
    fn reset(&self, smmu: usize) -> Result<(), BackendError> {
        self.1.reset(smmu)
    }
    fn insight(&self) -> Option<&dyn Insight> {
        self.1.insight()
    }
}
