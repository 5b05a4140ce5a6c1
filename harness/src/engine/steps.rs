//! What each step does.

use std::sync::Arc;

use smmu_attach::{AttachError, Committed, Target};
use smmu_tags::TagError;
use smmu_types::range::{Extent, Span};
use smmu_types::seam::SinkError;
use smmu_types::{
    Asid, Command, EventKind, Granule, Iova, Ipa, Leaf, RawCommand, SmmuId, SubstreamId, Vmid,
};

use super::pages::Reached;
use super::rig::Rig;
use super::run::{Report, Stop};
use super::transcript::Kind;
use crate::machine::{DmaOutcome, HazardReport};
use crate::scenario::{
    Attach, AttachEach, CommandSpec, CommandStep, Dma, Expect, FailEveryAllocation, Install, Step,
    Watch,
};
use crate::tables::{Access, PAGE};

/// More allocations than this in one prepare are a loop.
const MOST_ALLOCATIONS: u64 = 100;

/// Carry out step number `n`.
pub(crate) fn run(rig: &mut Rig, n: usize, step: &Step, report: &mut Report) -> Result<(), Stop> {
    let say = |rig: &Rig, text: String| rig.recorder.note(Kind::Step, || format!("{n} {text}"));
    match step {
        Step::Attach(spec) => {
            say(rig, format!("attach {} to {}", spec.device.get_ref(), spec.to.get_ref()));
            attach(rig, spec)?;
            settled(rig)
        }
        Step::AttachEach(spec) => {
            let (devices, domains) = (spec.devices.get_ref(), spec.domains.get_ref());
            let last = spec.count.get_ref().saturating_sub(1);
            say(
                rig,
                format!("attach {devices}0 to {domains}0, ... {devices}{last} to {domains}{last}"),
            );
            attach_each(rig, spec)?;
            settled(rig)
        }
        Step::FailEveryAllocation(spec) => {
            let (device, to) = (spec.device.get_ref(), spec.to.get_ref());
            say(rig, format!("prepare {device} for {to}, with each allocation failing in turn"));
            fail_every_allocation(rig, spec)?;
            settled(rig)
        }
        Step::Map(spec) => {
            let (domain, page) = (spec.domain.get_ref(), spec.page.get_ref());
            say(
                rig,
                format!("map {:#x} of {domain} to page {page}{}", spec.iova, access(spec.access)),
            );
            let address = rig.page(page)?;
            rig.tables(domain)?.map(spec.iova, address, spec.access)?;
            settled(rig)
        }
        Step::Unmap(spec) => {
            let domain = spec.domain.get_ref();
            say(rig, format!("unmap {:#x} of {domain}", spec.iova));
            rig.tables(domain)?.unmap(spec.iova)?;
            invalidate(rig, domain, spec.iova)?;
            settled(rig)
        }
        Step::Remap(spec) => {
            let (domain, page) = (spec.domain.get_ref(), spec.page.get_ref());
            say(
                rig,
                format!("move {:#x} of {domain} to page {page}{}", spec.iova, access(spec.access)),
            );
            let address = rig.page(page)?;
            rig.tables(domain)?.unmap(spec.iova)?;
            invalidate(rig, domain, spec.iova)?;
            rig.tables(domain)?.map(spec.iova, address, spec.access)?;
            settled(rig)
        }
        Step::Poke(spec) => {
            let domain = spec.domain.get_ref();
            match &spec.page {
                Some(page) => {
                    let page = page.get_ref();
                    say(
                        rig,
                        format!(
                            "past the driver: {:#x} of {domain} now maps page {page}",
                            spec.iova
                        ),
                    );
                    let address = rig.page(page)?;
                    rig.tables(domain)?.overwrite(spec.iova, address, Access::ReadWrite)?;
                }
                None => {
                    say(
                        rig,
                        format!("past the driver: {:#x} of {domain} now maps nothing", spec.iova),
                    );
                    rig.tables(domain)?.unmap(spec.iova)?;
                }
            }
            Ok(())
        }
        Step::Dma(spec) => {
            let what = match (&spec.iova, &spec.at) {
                (Some(iova), _) => format!("{:#x}", iova.get_ref()),
                (None, Some(page)) => format!("the physical address of page {}", page.get_ref()),
                (None, None) => String::new(),
            };
            say(rig, format!("{} writes to {what}", spec.device.get_ref()));
            dma(rig, spec)
        }
        Step::Command(spec) => {
            say(rig, format!("past the driver: commands for {}", spec.smmu.get_ref()));
            command(rig, spec)?;
            rig.interrupts();
            Ok(())
        }
        Step::Install(spec) => {
            let (device, domain) = (spec.device.get_ref(), spec.domain.get_ref());
            say(rig, format!("past the driver: {device} gets {domain} with ASID {}", spec.asid));
            install(rig, spec)
        }
        Step::Expect(spec) => {
            say(rig, format!("expect on {}", spec.smmu.get_ref()));
            expect(rig, spec)
        }
        Step::Hazard(spec) => {
            say(rig, format!("the missing command is {}", spec.missing));
            hazard(rig, n, &spec.missing, report)
        }
    }
}

fn access(access: Access) -> &'static str {
    match access {
        Access::ReadWrite => "",
        Access::ReadOnly => ", read-only",
    }
}

/// After a step of the driver: no event came, and nothing is reachable that should not be.
fn settled(rig: &mut Rig) -> Result<(), Stop> {
    let events = rig.drain_events()?;
    rig.interrupts();
    if let Some((smmu, event)) = events.first() {
        return Err(format!(
            "{} recorded an event that no DMA explains: {event}",
            rig.smmu_name(*smmu)
        )
        .into());
    }
    let freed = rig.observer.take_freed();
    let Some(insight) = rig.machine.insight() else { return Ok(()) };
    let mut hazards = insight.take_hazards();
    hazards.extend(insight.audit());
    if let Some(HazardReport { text, .. }) = hazards.first() {
        return Err(format!("the model reports a hazard: {}", rig.named(text)).into());
    }
    for (smmu, tag) in freed {
        let lines = insight.lines_with_tag(usize::from(smmu.0), tag);
        if lines > 0 {
            return Err(format!(
                "{tag} of {} was freed, but {lines} cached lines carry it; missing: {}",
                rig.smmu_name(usize::from(smmu.0)),
                tag.flush_command()
            )
            .into());
        }
    }
    Ok(())
}

/// At the end nothing may be left that nobody asked about.
pub(crate) fn finish(rig: &Rig) -> Result<(), Stop> {
    let Some(insight) = rig.machine.insight() else { return Ok(()) };
    match insight.take_hazards().first() {
        Some(hazard) => {
            Err(format!("a hazard that no step expects: {}", rig.named(&hazard.text)).into())
        }
        None => Ok(()),
    }
}

/// The word for an error that a scenario expects.
fn code(error: &AttachError) -> &'static str {
    match error {
        AttachError::Tag(TagError::Exhausted { .. }) => "tags-exhausted",
        AttachError::CannotShare { .. } => "cannot-share",
        AttachError::Dma(_) | AttachError::Inv(_) | AttachError::OutOfMemory { .. } => "no-memory",
        _ => "other",
    }
}

fn attach(rig: &mut Rig, spec: &Attach) -> Result<(), Stop> {
    let device = spec.device.get_ref();
    let result = match &spec.watch {
        None => rig.attach(device, spec.to.get_ref())?,
        Some(watch) => {
            let (result, steps) =
                rig.watched(device, watch.iova, |rig| rig.attach(device, spec.to.get_ref()))?;
            check_watch(rig, watch, &steps)?;
            result
        }
    };
    match (result, &spec.fails) {
        (Ok(done), None) => {
            committed(rig, done)?;
            rig.record_arrays();
            Ok(())
        }
        (Err(error), Some(want)) if code(&error) == want => {
            rig.recorder.note(Kind::Error, || error.to_string());
            Ok(())
        }
        (Err(error), Some(want)) => {
            Err(format!("the attach was to fail with {want}, but: {error}").into())
        }
        (Err(error), None) => Err(error.into()),
        (Ok(_), Some(want)) => {
            Err(format!("the attach was to fail with {want}, but it did not").into())
        }
    }
}

fn committed(rig: &Rig, done: Committed) -> Result<(), Stop> {
    done.config?;
    if let Some(tag) = done.quarantined {
        return Err(format!("the flush of {tag} could not be proven").into());
    }
    if let Some(tag) = done.freed {
        rig.recorder.note(Kind::Check, || format!("the last user of {tag} is gone"));
    }
    Ok(())
}

/// Every write on the way went to the old page, then perhaps nowhere, then to the new page; never back.
fn check_watch(rig: &Rig, watch: &Watch, steps: &[Reached]) -> Result<(), Stop> {
    let (old, new) = (watch.old.get_ref(), watch.new.get_ref());
    let names: Vec<&str> = steps
        .iter()
        .map(|reached| match reached {
            Reached::Page(name) => name.as_str(),
            Reached::Nothing => "nothing",
            Reached::Damage(what) => what.as_str(),
        })
        .collect();
    let seen = names.join(", ");
    let mut phase = 0;
    for reached in steps {
        let now = match reached {
            Reached::Page(name) if name == old => 0,
            Reached::Nothing => 1,
            Reached::Page(name) if name == new => 2,
            _ => return Err(format!("the device saw a mix: {seen}").into()),
        };
        if now < phase {
            return Err(format!("the device went back to something older: {seen}").into());
        }
        phase = now;
    }
    if phase != 2 {
        return Err(format!("the device never reached page {new}: {seen}").into());
    }
    rig.recorder.note(Kind::Check, || format!("after each sync the device reached: {seen}"));
    Ok(())
}

fn attach_each(rig: &mut Rig, spec: &AttachEach) -> Result<(), Stop> {
    let from = rig.recorder.len();
    let mut tags = Vec::new();
    for n in 0..*spec.count.get_ref() {
        let device = format!("{}{n}", spec.devices.get_ref());
        let domain = format!("{}{n}", spec.domains.get_ref());
        let done = rig.attach(&device, &domain)??;
        committed(rig, done)?;
        let smmu = rig.device(&device)?.smmu().id();
        tags.extend(rig.domain(&domain)?.tag_on(smmu));
    }
    // Hundreds of the same lines say nothing; how many there were does.
    let lines = rig.recorder.drop_from(from);
    let commands = lines.iter().filter(|line| line.kind == Kind::Command).count();
    let count = tags.len();
    if let (Some(first), Some(last)) = (tags.first(), tags.last()) {
        rig.recorder.note(Kind::Tag, || format!("{count} tags, {first} to {last}"));
    }
    rig.recorder.note(Kind::Check, || format!("{count} attached with {commands} commands"));
    Ok(())
}

fn fail_every_allocation(rig: &mut Rig, spec: &FailEveryAllocation) -> Result<(), Stop> {
    let (name, to) = (spec.device.get_ref(), spec.to.get_ref());
    let before = rig.fingerprint(name)?;
    for n in 1..=MOST_ALLOCATIONS {
        let from = rig.recorder.len();
        let (fired, error) = rig.prepare_failing(name, to, n)?;
        let steps = rig.recorder.drop_from(from);
        let after = rig.fingerprint(name)?;
        if let Some((what, was, is)) = before.difference(&after) {
            return Err(format!("after allocation {n} failed, {what} is {is}; it was {was}").into());
        }
        match (fired, error) {
            (true, Some(error)) => {
                let given_back = steps.iter().any(|line| line.text.contains("given back"));
                let tag = if given_back { ", the new tag is given back" } else { "" };
                rig.recorder.note(Kind::Error, || format!("allocation {n} fails: {error}{tag}"));
            }
            (false, None) => {
                rig.recorder.note(Kind::Check, || {
                    format!("{} allocations, the state was as before after each", n - 1)
                });
                return Ok(());
            }
            (true, None) => {
                return Err(format!("allocation {n} failed and the prepare did not notice").into());
            }
            (false, Some(error)) => return Err(error.into()),
        }
    }
    Err(format!("a prepare with more than {MOST_ALLOCATIONS} allocations").into())
}

fn invalidate(rig: &Rig, domain: &str, iova: u64) -> Result<(), Stop> {
    let extent = Extent::pages(iova, PAGE, Granule::K4, Leaf::Last);
    rig.domain(domain)?.invalidate(extent, &rig.sink).map_err(|error| Stop::from(error.first))
}

fn dma(rig: &mut Rig, spec: &Dma) -> Result<(), Stop> {
    let address = match (&spec.iova, &spec.at) {
        (Some(iova), _) => *iova.get_ref(),
        (None, Some(page)) => rig.page(page.get_ref())?.0,
        (None, None) => return Err("a dma without an address".to_owned().into()),
    };
    let device = spec.device.get_ref();
    let (outcome, reached) = rig.dma(device, address)?;
    let events = rig.drain_events()?;
    rig.interrupts();
    rig.recorder.note(Kind::Dma, || match (&reached, outcome) {
        (Reached::Page(page), _) => format!("page {page}"),
        (Reached::Nothing, DmaOutcome::Refused) => "refused".into(),
        (Reached::Nothing, DmaOutcome::Written) => "somewhere unknown".into(),
        (Reached::Damage(what), _) => what.clone(),
    });
    let smmu = rig.device(device)?.smmu().id();
    let stream = rig.device(device)?.streams().first().copied().unwrap_or_default();
    let got = || {
        let events: Vec<String> = events.iter().map(|(_, event)| event.to_string()).collect();
        format!("{reached:?}, {outcome:?}, events: [{}]", events.join(", "))
    };
    if let Some(page) = &spec.reaches {
        let page = page.get_ref();
        let right = reached == Reached::Page(page.clone())
            && outcome == DmaOutcome::Written
            && events.is_empty();
        return if right {
            Ok(())
        } else {
            Err(format!("the DMA was to reach page {page}, but: {}", got()).into())
        };
    }
    if reached != Reached::Nothing || outcome != DmaOutcome::Refused {
        return Err(format!("the DMA was to be refused, but: {}", got()).into());
    }
    match &spec.faults {
        None if events.is_empty() => Ok(()),
        None => Err(format!("the DMA was to be refused without an event, but: {}", got()).into()),
        Some(kind) => {
            let kind = EventKind::from_name(kind.get_ref());
            let right = match &events[..] {
                [(at, event)] => {
                    *at == usize::from(smmu.0)
                        && Some(event.kind()) == kind
                        && event.stream() == stream
                        && (!event.kind().is_translation_fault()
                            || event.address() == Iova(address))
                }
                _ => false,
            };
            let want = kind.map_or(String::new(), |kind| kind.to_string());
            if right {
                Ok(())
            } else {
                Err(format!("the DMA was to end in one {want}, but: {}", got()).into())
            }
        }
    }
}

fn command(rig: &mut Rig, spec: &CommandStep) -> Result<(), Stop> {
    let smmu = rig.smmu_index(spec.smmu.get_ref())?;
    let mut commands = Vec::new();
    for command in &spec.send {
        commands.push(typed(rig, command)?);
    }
    // Past the driver, and so past a driver that is broken on purpose.
    let id = SmmuId(smmu as u16);
    let queue = rig.sink.queue(id).ok_or_else(|| format!("{id} has no queue"))?;
    match (queue.run(&commands), &spec.fails) {
        (Ok(_proof), None) => Ok(()),
        (Err(SinkError::Command { command, code, .. }), Some(want))
            if code.to_string() == *want =>
        {
            rig.recorder.about(Kind::Error, spec.smmu.get_ref(), || {
                format!("{code} on {}", Command::decode(command))
            });
            Ok(())
        }
        (Ok(_proof), Some(want)) => {
            Err(format!("{want} was to be reported, but all went well").into())
        }
        (Err(error), _) => Err(error.into()),
    }
}

fn typed(rig: &Rig, spec: &CommandSpec) -> Result<Command, Stop> {
    let stream = |device: &str| -> Result<_, Stop> {
        Ok(rig.device(device)?.streams().first().copied().unwrap_or_default())
    };
    Ok(match spec {
        CommandSpec::CfgiSte(of) => {
            Command::CfgiSte { stream: stream(of.device.get_ref())?, leaf: Leaf::Last }
        }
        CommandSpec::CfgiCd(of) => Command::CfgiCd {
            stream: stream(of.device.get_ref())?,
            substream: SubstreamId::default(),
            leaf: Leaf::Last,
        },
        CommandSpec::CfgiAll(_) => Command::CfgiAll,
        CommandSpec::TlbiNhAsid(of) => {
            Command::TlbiNhAsid { vmid: Vmid(of.vmid), asid: Asid(of.asid) }
        }
        CommandSpec::TlbiNhVa(of) => Command::TlbiNhVa {
            vmid: Vmid(of.vmid),
            asid: Asid(of.asid),
            span: Span::single(Iova(of.va), Leaf::Last),
        },
        CommandSpec::TlbiNhAll(of) => Command::TlbiNhAll { vmid: Vmid(of.vmid) },
        CommandSpec::TlbiS12Vmall(of) => Command::TlbiS12Vmall { vmid: Vmid(of.vmid) },
        CommandSpec::TlbiS2Ipa(of) => {
            Command::TlbiS2Ipa { vmid: Vmid(of.vmid), span: Span::single(Ipa(of.ipa), Leaf::Last) }
        }
        CommandSpec::TlbiNsnhAll(_) => Command::TlbiNsnhAll,
        CommandSpec::Raw(words) => Command::decode(RawCommand(*words)),
    })
}

fn install(rig: &mut Rig, spec: &Install) -> Result<(), Stop> {
    rig.install_raw(spec.device.get_ref(), spec.domain.get_ref(), Asid(spec.asid))
}

fn expect(rig: &Rig, spec: &Expect) -> Result<(), Stop> {
    let smmu_name = spec.smmu.get_ref();
    let index = rig.smmu_index(smmu_name)?;
    let id = SmmuId(index as u16);
    let mut checks: Vec<(String, String, String)> = Vec::new();
    if let Some(domain) = &spec.domain {
        let name = domain.get_ref();
        let domain = rig.domain(name)?;
        if let Some(want) = &spec.tag {
            let tag = domain.tag_on(id).map_or("none".to_owned(), |tag| tag.to_string());
            checks.push((format!("the tag of {name}"), want.clone(), tag));
        }
        if let Some(want) = spec.users {
            let users = rig.users(domain, id);
            checks.push((
                format!("users of the tag of {name}"),
                want.to_string(),
                users.to_string(),
            ));
        }
    }
    let smmu = rig.smmu(index)?;
    let stats = [
        ("ASIDs in use", spec.asids_in_use, smmu.asids().stats()),
        ("VMIDs in use", spec.vmids_in_use, smmu.vmids().stats()),
    ];
    for (what, want, stats) in stats {
        if let Some(want) = want {
            checks.push((what.to_owned(), want.to_string(), stats.in_use.to_string()));
            let lost = stats.quarantined + stats.fresh + stats.retiring;
            if lost > 0 {
                return Err(format!(
                    "{lost} tags of {smmu_name} are neither free nor in use: {stats:?}"
                )
                .into());
            }
        }
    }
    for (what, want, got) in checks {
        if want != got {
            return Err(format!("{what} on {smmu_name} was to be {want}, but it is {got}").into());
        }
        rig.recorder.about(Kind::Check, smmu_name, || format!("{what}: {got}"));
    }
    Ok(())
}

fn hazard(rig: &Rig, n: usize, missing: &str, report: &mut Report) -> Result<(), Stop> {
    let Some(insight) = rig.machine.insight() else {
        report.unchecked.push(format!("step {n}: whether the model names {missing}"));
        return Ok(());
    };
    let hazards = insight.take_hazards();
    let named = |hazard: &HazardReport| {
        hazard.missing.as_ref().is_some_and(|command| command.starts_with(missing))
    };
    if hazards.is_empty() || !hazards.iter().all(named) {
        let got: Vec<String> = hazards.iter().map(|hazard| rig.named(&hazard.text)).collect();
        return Err(format!("the model was to name {missing}, but: [{}]", got.join("; ")).into());
    }
    report
        .notes
        .extend(hazards.iter().map(|hazard| format!("step {n}: {}", rig.named(&hazard.text))));
    Ok(())
}

/// The target that a name stands for.
pub(crate) enum To {
    Bypass,
    Blocked,
    Domain(Arc<smmu_attach::Domain<super::platform::Harness>>),
}

impl To {
    pub(crate) fn target(&self) -> Target<'_, super::platform::Harness> {
        match self {
            To::Bypass => Target::Bypass,
            To::Blocked => Target::Blocked,
            To::Domain(domain) => Target::Domain(domain),
        }
    }
}
