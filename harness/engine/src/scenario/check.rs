//! Whether every name of a file stands for something, and every number makes sense.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use smmu_driver::smmu_types::EventKind;
use toml::Spanned;

use super::{
    CommandSpec, Completion, Dma, Expect, Fault, FaultStep, File, Name, SmmuSpec, Speed, Step,
    expand,
};
use crate::machine::{Need, QueueName};
use crate::page_tables::{INPUT_BITS, PAGE, TableStage};

type Wrong = (Range<usize>, String);

/// More devices or domains than this are a mistake, and would not fit into the memory of a backend.
const MOST: u32 = 1024;

/// As many SMMUs as the largest machine of any backend has.
const MOST_SMMUS: usize = 8;

/// A scenario that waits for longer is taken for one that hangs.
const MOST_MILLISECONDS: u64 = 10_000;

/// As many entries as the driver's command queue has when nobody asks for fewer.
const MOST_ENTRIES: u32 = 256;

/// The commands that a hazard can be the lack of.
const REMEDIES: [&str; 12] = [
    "CFGI_ALL",
    "CFGI_CD",
    "CFGI_CD_ALL",
    "CFGI_STE",
    "CFGI_STE_RANGE",
    "TLBI_NH_ALL",
    "TLBI_NH_ASID",
    "TLBI_NH_VA",
    "TLBI_NH_VAA",
    "TLBI_NSNH_ALL",
    "TLBI_S12_VMALL",
    "TLBI_S2_IPA",
];

/// What an SMMU of the file has besides a name.
struct SmmuFacts {
    ats: bool,
    msi: bool,
    second_queue: bool,
}

struct Names {
    needs: Vec<Need>,
    smmus: BTreeMap<String, SmmuFacts>,
    /// The devices, each with the name of its SMMU.
    devices: BTreeMap<String, String>,
    domains: BTreeMap<String, TableStage>,
    pages: BTreeSet<String>,
}

pub(super) fn check(file: &File) -> Result<(), Wrong> {
    let names = Names {
        needs: file.needs.clone(),
        smmus: smmus(file)?,
        devices: devices(file)?,
        domains: domains(file)?,
        pages: unique("page", file.pages.iter().map(|n| (n, expand(n, &None))))?,
    };
    for device in &file.devices {
        names.smmu(&device.smmu)?;
    }
    if file.steps.is_empty() {
        return Err((0..0, "a scenario needs a [[step]] at least".into()));
    }
    for step in &file.steps {
        self::step(step, &names)?;
    }
    Ok(())
}

fn smmus(file: &File) -> Result<BTreeMap<String, SmmuFacts>, Wrong> {
    if file.smmus.is_empty() {
        return Err((0..0, "a scenario needs an [[smmu]] at least".into()));
    }
    let needs = |need: Need| file.needs.contains(&need);
    if let Some(second) = file.smmus.get(1)
        && !needs(Need::SeveralSmmus)
    {
        let message = "a second SMMU needs \"several-smmus\" in `needs`";
        return Err((second.name.span(), message.into()));
    }
    if let Some(surplus) = file.smmus.get(MOST_SMMUS) {
        return Err((surplus.name.span(), format!("there can be {MOST_SMMUS} SMMUs at most")));
    }
    for (n, smmu) in file.smmus.iter().enumerate() {
        // Errors of the driver and hazards of the model call the n-th SMMU so.
        let number = smmu.name.get_ref().strip_prefix("smmu").and_then(|rest| rest.parse().ok());
        if number.is_some_and(|number: usize| number != n) {
            let message = format!("SMMU number {n} cannot be named \"{}\"", smmu.name.get_ref());
            return Err((smmu.name.span(), message));
        }
        if let Some(bits) = &smmu.asid_bits {
            if *bits.get_ref() != 8 {
                return Err((bits.span(), "asid_bits can only be 8; leave it out for 16".into()));
            }
            if !needs(Need::Asid8) {
                return Err((bits.span(), "asid_bits = 8 needs \"asid8\" in `needs`".into()));
            }
        }
        queues_of(smmu, needs)?;
    }
    unique("smmu", file.smmus.iter().map(|s| (&s.name, expand(&s.name, &None))))?;
    let facts = |smmu: &SmmuSpec| SmmuFacts {
        ats: smmu.has_ats(),
        msi: smmu.completion() == Completion::Msi,
        second_queue: smmu.second_queue.is_some(),
    };
    Ok(file.smmus.iter().map(|smmu| (smmu.name.get_ref().clone(), facts(smmu))).collect())
}

/// What an SMMU says of its command queues.
fn queues_of(smmu: &SmmuSpec, needs: impl Fn(Need) -> bool) -> Result<(), Wrong> {
    if let Some(entries) = &smmu.queue_entries {
        let count = *entries.get_ref();
        if !(2..=MOST_ENTRIES).contains(&count) || !count.is_power_of_two() {
            let message = format!("queue_entries must be a power of two from 2 to {MOST_ENTRIES}");
            return Err((entries.span(), message));
        }
    }
    if let Some(timeout) = &smmu.timeout_ms
        && !(1..=MOST_MILLISECONDS).contains(timeout.get_ref())
    {
        let message = format!("timeout_ms must be from 1 to {MOST_MILLISECONDS}");
        return Err((timeout.span(), message));
    }
    let sync = |by| smmu.sync.as_ref().filter(|_| smmu.completion() == by).map(Spanned::span);
    let wanted = [
        (smmu.ats.as_ref().filter(|_| smmu.has_ats()).map(Spanned::span), "ats = true", Need::Ats),
        (sync(Completion::Event), "sync = \"event\"", Need::Sev),
        (sync(Completion::Msi), "sync = \"msi\"", Need::Msi),
        (smmu.second_queue.as_ref().map(Spanned::span), "a second queue", Need::SecondQueue),
    ];
    for (span, what, need) in wanted {
        if let Some(span) = span
            && !needs(need)
        {
            return Err((span, format!("{what} needs \"{}\" in `needs`", need.name())));
        }
    }
    Ok(())
}

fn devices(file: &File) -> Result<BTreeMap<String, String>, Wrong> {
    let mut taken: BTreeMap<(&str, u32), &str> = BTreeMap::new();
    for device in &file.devices {
        let count = device.count.as_ref().map_or(Ok(1), counted)?;
        for n in 0..count {
            let stream = device.stream.get_ref().checked_add(n);
            let stream = stream.filter(|s| *s <= 0xffff).ok_or_else(|| {
                (device.stream.span(), "StreamIDs go up to 0xffff on every backend".to_owned())
            })?;
            let name = device.name.get_ref().as_str();
            if let Some(other) = taken.insert((device.smmu.get_ref(), stream), name) {
                let message = format!("StreamID {stream:#x} belongs to device \"{other}\" already");
                return Err((device.stream.span(), message));
            }
        }
    }
    unique("device", file.devices.iter().map(|d| (&d.name, expand(&d.name, &d.count))))?;
    let behind = |device: &super::DeviceSpec| device.smmu.get_ref().clone();
    Ok(file
        .devices
        .iter()
        .flat_map(|d| expand(&d.name, &d.count).into_iter().map(move |name| (name, behind(d))))
        .collect())
}

fn domains(file: &File) -> Result<BTreeMap<String, TableStage>, Wrong> {
    for domain in &file.domains {
        domain.count.as_ref().map_or(Ok(1), counted)?;
        let need = match domain.stage {
            TableStage::Stage1 => Need::Stage1,
            TableStage::Stage2 => Need::Stage2,
        };
        if !file.needs.contains(&need) {
            let message = format!("a domain of this stage needs \"{}\" in `needs`", need.name());
            return Err((domain.name.span(), message));
        }
        if ["bypass", "blocked"].contains(&domain.name.get_ref().as_str()) {
            let message = "\"bypass\" and \"blocked\" are not names for a domain".into();
            return Err((domain.name.span(), message));
        }
    }
    unique("domain", file.domains.iter().map(|d| (&d.name, d.names())))?;
    Ok(file
        .domains
        .iter()
        .flat_map(|d| d.names().into_iter().map(|name| (name, d.stage)))
        .collect())
}

fn counted(count: &Spanned<u32>) -> Result<u32, Wrong> {
    match *count.get_ref() {
        count @ 1..=MOST => Ok(count),
        _ => Err((count.span(), format!("count must be 1 to {MOST}"))),
    }
}

fn unique<'a>(
    kind: &str,
    names: impl Iterator<Item = (&'a Name, Vec<String>)>,
) -> Result<BTreeSet<String>, Wrong> {
    let mut seen = BTreeSet::new();
    for (name, each) in names {
        for one in each {
            if one.is_empty() {
                return Err((name.span(), format!("a {kind} needs a name")));
            }
            if !seen.insert(one.clone()) {
                return Err((name.span(), format!("there are two {kind}s named \"{one}\"")));
            }
        }
    }
    Ok(seen)
}

fn known<'a>(
    kind: &str,
    name: &Name,
    found: bool,
    names: impl IntoIterator<Item = &'a String>,
) -> Result<(), Wrong> {
    if found {
        return Ok(());
    }
    let mut all: Vec<&str> = names.into_iter().map(String::as_str).collect();
    let more = all.len().saturating_sub(8);
    all.truncate(8);
    let mut message =
        format!("no {kind} is named \"{}\"; there are: {}", name.get_ref(), all.join(", "));
    if all.is_empty() {
        message = format!("no {kind} is named \"{}\"; there are none", name.get_ref());
    } else if more > 0 {
        message = format!("{message} and {more} more");
    }
    Err((name.span(), message))
}

impl Names {
    fn smmu(&self, name: &Name) -> Result<(), Wrong> {
        known("smmu", name, self.smmus.contains_key(name.get_ref()), self.smmus.keys())
    }
    fn queue(&self, smmu: &str, queue: &Option<Spanned<QueueName>>) -> Result<(), Wrong> {
        match queue {
            Some(queue)
                if *queue.get_ref() == QueueName::Second
                    && !self.smmus.get(smmu).is_some_and(|facts| facts.second_queue) =>
            {
                Err((queue.span(), format!("{smmu} has no `second_queue`")))
            }
            _ => Ok(()),
        }
    }
    fn device(&self, name: &Name) -> Result<(), Wrong> {
        known("device", name, self.devices.contains_key(name.get_ref()), self.devices.keys())
    }
    fn domain(&self, name: &Name) -> Result<(), Wrong> {
        known("domain", name, self.domains.contains_key(name.get_ref()), self.domains.keys())
    }
    fn target(&self, name: &Name) -> Result<(), Wrong> {
        match name.get_ref().as_str() {
            "bypass" | "blocked" => Ok(()),
            _ => self.domain(name),
        }
    }
    fn page(&self, name: &Name) -> Result<(), Wrong> {
        known("page", name, self.pages.contains(name.get_ref()), &self.pages)
    }
}

fn step(step: &Spanned<Step>, names: &Names) -> Result<(), Wrong> {
    let aligned = |iova: u64| match iova % PAGE {
        0 => Ok(()),
        _ => Err((step.span(), format!("iova {iova:#x} is not aligned to {PAGE} bytes"))),
    };
    let mappable = |iova: u64| match iova >> INPUT_BITS {
        0 => aligned(iova),
        _ => {
            let message = format!("iova {iova:#x} is beyond the {INPUT_BITS} bits of the tables");
            Err((step.span(), message))
        }
    };
    match step.get_ref() {
        Step::Attach(attach) => {
            names.device(&attach.device)?;
            if let Some(watch) = &attach.watch {
                names.page(&watch.old)?;
                names.page(&watch.new)?;
                aligned(watch.iova)?;
                if attach.to.get_ref() == "blocked" {
                    let message = "a blocked device reaches no page, so there is nothing to watch";
                    return Err((attach.to.span(), message.into()));
                }
            }
            names.target(&attach.to)
        }
        Step::AttachEach(each) => {
            for n in 0..counted(&each.count)? {
                let nth = |name: &Name| Spanned::new(name.span(), format!("{}{n}", name.get_ref()));
                names.device(&nth(&each.devices))?;
                names.domain(&nth(&each.domains))?;
            }
            Ok(())
        }
        Step::FailEveryAllocation(fail) => {
            names.device(&fail.device)?;
            names.target(&fail.to)
        }
        Step::Map(map) | Step::Remap(map) => {
            names.domain(&map.domain)?;
            names.page(&map.page)?;
            mappable(map.iova)
        }
        Step::Unmap(unmap) | Step::Invalidate(unmap) => {
            names.domain(&unmap.domain)?;
            mappable(unmap.iova)
        }
        Step::Poke(poke) => {
            names.domain(&poke.domain)?;
            poke.page.as_ref().map_or(Ok(()), |page| names.page(page))?;
            mappable(poke.iova)
        }
        Step::Dma(dma) => self::dma(step.span(), dma, names),
        Step::Command(command) => {
            names.smmu(&command.smmu)?;
            names.queue(command.smmu.get_ref(), &command.queue)?;
            command.send.iter().chain(&command.beside).try_for_each(|spec| match spec {
                CommandSpec::CfgiSte(of) | CommandSpec::CfgiCd(of) => names.device(&of.device),
                CommandSpec::AtcInv(of) => {
                    names.device(&of.device)?;
                    of.iova.as_ref().map_or(Ok(()), |iova| match iova.get_ref() % PAGE {
                        0 => Ok(()),
                        _ => Err((iova.span(), format!("the iova is not aligned to {PAGE} bytes"))),
                    })
                }
                _ => Ok(()),
            })
        }
        Step::Fault(fault) => self::fault(step.span(), fault, names),
        Step::Mend(mend) => names.smmu(&mend.smmu),
        Step::Install(install) => {
            names.device(&install.device)?;
            names.domain(&install.domain)?;
            match names.domains.get(install.domain.get_ref()) {
                Some(TableStage::Stage1) => Ok(()),
                _ => {
                    Err((install.domain.span(), "only a domain of stage \"s1\" has an ASID".into()))
                }
            }
        }
        Step::Expect(expect) => self::expect(step.span(), expect, names),
        Step::Hazard(hazard) => {
            let name = hazard.missing.split(' ').next().unwrap_or_default();
            if REMEDIES.contains(&name) {
                return Ok(());
            }
            let all = REMEDIES.join(", ");
            Err((step.span(), format!("no hazard is the lack of \"{name}\"; it can be of: {all}")))
        }
    }
}

fn fault(span: Range<usize>, step: &FaultStep, names: &Names) -> Result<(), Wrong> {
    let smmu = step.smmu.get_ref();
    names.smmu(&step.smmu)?;
    let facts = names.smmus.get(smmu);
    let (need, what) = match step.fault() {
        None => {
            let message = "a fault is one of `cmdq`, `atc_timeout` and `msi`, and no more";
            return Err((span, message.into()));
        }
        Some(Fault::Queue(Speed::Stopped)) => (Need::QueueStop, "cmdq = \"stopped\""),
        Some(_) => (Need::QueueFaults, "this fault"),
    };
    if !names.needs.contains(&need) {
        return Err((span, format!("{what} needs \"{}\" in `needs`", need.name())));
    }
    names.queue(smmu, &step.queue)?;
    match (step.fault(), &step.cmdq, &step.msi) {
        (Some(Fault::Queue(Speed::Slow(count) | Speed::Aborts(count))), ..)
            if *count.get_ref() == 0 =>
        {
            Err((count.span(), "this must be 1 at least; a queue can be \"stopped\"".into()))
        }
        (Some(Fault::AtcTimeout(device)), ..) => {
            names.device(device)?;
            if names.devices.get(device.get_ref()).is_some_and(|behind| behind != smmu) {
                let message = format!("device \"{}\" is not behind {smmu}", device.get_ref());
                return Err((device.span(), message));
            }
            match facts {
                Some(SmmuFacts { ats: false, .. }) => Err((
                    device.span(),
                    format!("{smmu} needs `ats = true` for an ATC invalidation"),
                )),
                _ => Ok(()),
            }
        }
        (Some(Fault::Msi(_)), _, Some(msi)) if facts.is_some_and(|facts| !facts.msi) => {
            Err((msi.span(), format!("{smmu} needs `sync = \"msi\"` to lose one")))
        }
        _ => Ok(()),
    }
}

fn dma(span: Range<usize>, dma: &Dma, names: &Names) -> Result<(), Wrong> {
    names.device(&dma.device)?;
    for page in dma.at.iter().chain(&dma.reaches) {
        names.page(page)?;
    }
    if dma.iova.is_some() == dma.at.is_some() {
        return Err((span, "a dma needs either `iova` or `at`".into()));
    }
    if let Some(iova) = &dma.iova
        && iova.get_ref() % 4 != 0
    {
        return Err((iova.span(), "a dma is 4 bytes, aligned to 4 bytes".into()));
    }
    if let Some(kind) = &dma.faults
        && EventKind::from_name(kind.get_ref()).is_none()
    {
        let message = format!(
            "no event is named \"{}\"; one is F_TRANSLATION, another C_BAD_STE",
            kind.get_ref()
        );
        return Err((kind.span(), message));
    }
    let ends = [dma.reaches.is_some(), dma.faults.is_some(), dma.refused];
    if ends.into_iter().filter(|&end| end).count() != 1 {
        let message = "a dma needs one of `reaches`, `faults` and `refused = true`";
        return Err((span, message.into()));
    }
    Ok(())
}

fn expect(span: Range<usize>, expect: &Expect, names: &Names) -> Result<(), Wrong> {
    names.smmu(&expect.smmu)?;
    if let Some(domain) = &expect.domain {
        names.domain(domain)?;
    }
    let of_domain = expect.tag.is_some() || expect.users.is_some();
    if of_domain != expect.domain.is_some() {
        return Err((span, "`domain` goes with `tag` or `users`".into()));
    }
    let of_smmu = expect.asids_in_use.is_some() || expect.vmids_in_use.is_some();
    let of_queue = expect.commands.is_some() || expect.consumer_reads.is_some();
    if !of_domain && !of_smmu && !of_queue {
        return Err((span, "an expect without an expectation cannot fail".into()));
    }
    Ok(())
}
