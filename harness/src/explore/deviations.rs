//! Where QEMU's SMMU differs from the architecture, as far as raw work shows it.
//!
//! A [`Deviation`] mends what the machine told: it changes only what the deviation touches, into what
//! the architecture says. What is still different then is a finding, so one deviation hides no other.

use smmu_types::{EventClass, EventKind, EventRecord, PhysAddr};

use super::compare::Case;
use super::memory::{NOWHERE, PRIVILEGED_TREE, Tree};
use super::rig::Seen;

/// The QEMU whose deviations are known.
pub const KNOWN_QEMU: &str = "QEMU 11.1.3";

/// One known deviation of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Deviation {
    /// What it is, in one sentence.
    pub name: &'static str,
    /// The section of IHI 0070 that says otherwise.
    pub section: &'static str,
    /// Raw work that shows it, as a file has it.
    pub example: &'static str,
    mend: fn(&Case<'_>, &mut Seen),
}

impl Deviation {
    /// What the machine would have told without this deviation.
    pub(super) fn mended(&self, case: &Case<'_>, got: &Seen) -> Seen {
        let mut mended = got.clone();
        (self.mend)(case, &mut mended);
        mended
    }
}

/// Those of [`KNOWN_QEMU`].
pub const QEMU_DEVIATIONS: &[Deviation] = &[
    Deviation {
        name: "the low 12 bits of an IPA in an event are those of the address, not 0",
        section: "7.3.13",
        example: include_str!("deviations/ipa-offset.raw"),
        mend: |_, got| {
            for event in stage2_events(got).filter(|event| event.kind().is_translation_fault()) {
                let [_, _, _, ipa] = &mut event.0;
                *ipa &= !0xfff;
            }
        },
    },
    Deviation {
        name: "a fault of stage 2 on the way to a CD or a table tells a read, whatever the device did",
        section: "7.3.13",
        example: include_str!("deviations/fetch-reads.raw"),
        mend: |_, got| {
            for event in stage2_events(got).filter(|event| event.class() != EventClass::In) {
                // Every DMA of raw work is a write.
                let [_, word, ..] = &mut event.0;
                *word &= !RNW;
            }
        },
    },
    Deviation {
        name: "a fault of stage 2 on the way to a table is told as one of stage 1, without an IPA",
        section: "7.3.13",
        example: include_str!("deviations/table-stage.raw"),
        mend: |case, got| {
            let of = |stage2: bool, event: &EventRecord| {
                event.class() == EventClass::Tt && event.is_stage2() == stage2
            };
            mend_event(case, got, |wanted, event| of(true, wanted) && of(false, event));
            // One that stage 2 does not record (S2R = 0).
            mend_unrecorded(case, got, |event| of(false, event));
        },
    },
    Deviation {
        name: "a permission fault of stage 2 on the way to a table tells that a write of it faulted",
        section: "7.3.16",
        example: include_str!("deviations/table-write.raw"),
        mend: |_, got| {
            for event in stage2_events(got).filter(|event| event.is_table_read() == Some(false)) {
                let [_, word, ..] = &mut event.0;
                *word |= TTRNW;
            }
        },
    },
    Deviation {
        name: "an address of a page beyond the output size counts as one of a table (CLASS = TT)",
        section: "7.3.14",
        example: include_str!("deviations/page-class.raw"),
        mend: |case, got| {
            let of = |class: EventClass, event: &EventRecord| {
                event.kind() == EventKind::F_ADDR_SIZE
                    && event.class() == class
                    && !event.is_stage2()
            };
            mend_event(case, got, |wanted, event| {
                of(EventClass::In, wanted) && of(EventClass::Tt, event)
            });
        },
    },
    Deviation {
        name: "F_CD_FETCH tells address 0",
        section: "7.3.10",
        example: include_str!("deviations/cd-fetch-address.raw"),
        mend: |case, got| {
            let is_fetch = |event: &EventRecord| event.kind() == EventKind::F_CD_FETCH;
            mend_event(case, got, |wanted, event| {
                is_fetch(wanted) && is_fetch(event) && event.fetch_address() == Some(PhysAddr(0))
            });
        },
    },
    Deviation {
        name: "a range of no pages (TG set; NUM, SCALE and TTL 0) is no error",
        section: "4.4.1.1",
        example: include_str!("deviations/empty-range.raw"),
        mend: |case, got| {
            let refused = case.wanted.refused.iter();
            let others = refused.filter(|(index, _)| !case.op.is_empty_range(*index));
            if case.wanted.refused != got.refused && others.eq(&got.refused) {
                *got = case.wanted.clone();
            }
        },
    },
    Deviation {
        name: "a table descriptor may hold an address beyond the output size",
        section: "3.4.3",
        example: include_str!("deviations/table-beyond-output.raw"),
        mend: |case, got| {
            // A fault that the stream does not record leaves no event.
            let is_size =
                |(_, event): &(usize, EventRecord)| event.kind() == EventKind::F_ADDR_SIZE;
            if got.events.iter().any(|(_, event)| is_beyond(event))
                && case.wanted.events.iter().all(is_size)
            {
                *got = case.wanted.clone();
            }
        },
    },
    Deviation {
        name: "every access counts as privileged at stage 1",
        section: "3.4",
        example: include_str!("deviations/privileged.raw"),
        mend: |case, got| {
            let refused =
                |event: &EventRecord| event.kind() == EventKind::F_PERMISSION && !event.is_stage2();
            let may = case.stream.tree == Some(PRIVILEGED_TREE);
            // The access goes on: to memory, or into a fault of stage 2.
            let goes_on = got.events.iter().all(|(_, event)| event.is_stage2());
            if may && goes_on && case.is_refused(refused) {
                *got = case.wanted.clone();
            }
        },
    },
    Deviation {
        name: "stage 2 translates TTB0 when the CD is read, and what it gives counts as TTB0",
        section: "7.3.13",
        example: include_str!("deviations/ttb-first.raw"),
        mend: |case, got| {
            let wanted = case.wanted;
            let refused = got.landed.is_none() && wanted.landed.is_none();
            // Before stage 1 looks at the address.
            let earlier = got.events.iter().all(|(_, event)| is_of_root(event))
                && wanted.events.iter().all(|(_, event)| is_untranslated(event));
            // Beyond the output size of stage 1, which limits what the CD holds.
            let beyond = wanted.events.iter().any(|(_, event)| is_beyond(event))
                && got.events.iter().all(|(_, event)| is_untranslated(event));
            if case.stream.nested && refused && (earlier || beyond) {
                *got = wanted.clone();
            }
        },
    },
    Deviation {
        name: "a translated TTB0 stays with the cached CD, whatever is invalidated at stage 2",
        section: "3.21.1",
        example: include_str!("deviations/ttb-stays.raw"),
        mend: |case, got| {
            if case.stream.root_moved {
                *got = case.wanted.clone();
            }
        },
    },
    Deviation {
        name: "limits of a table descriptor (APTable) refuse an access that ends in another fault",
        section: "3.13",
        example: include_str!("deviations/table-limit.raw"),
        mend: |case, got| {
            let unrecorded = case.stream.tree.is_some() && !case.stream.records;
            if *got == Seen::default() && unrecorded && case.wanted.landed.is_none() {
                *got = case.wanted.clone();
            }
            let refused = |event: &EventRecord| {
                event.kind() == EventKind::F_PERMISSION
                    && !event.is_stage2()
                    && event.class() == EventClass::In
            };
            mend_event(case, got, |_, event| refused(event));
            // The other fault is one that stage 2 does not record.
            mend_unrecorded(case, got, refused);
        },
    },
    Deviation {
        name: "a write that a cached entry of stage 2 refuses records no event",
        section: "7.3.16",
        example: include_str!("deviations/silent-permission.raw"),
        mend: |case, got| {
            let refused = |(_, event): &(usize, EventRecord)| {
                event.kind() == EventKind::F_PERMISSION
                    && event.is_stage2()
                    && event.class() == EventClass::In
            };
            if *got == Seen::default() && case.wanted.events.iter().any(refused) {
                *got = case.wanted.clone();
            }
        },
    },
    Deviation {
        name: "what a cached entry of stage 2 does not let the SMMU read, it reads",
        section: "7.3.16",
        example: include_str!("deviations/cached-read.raw"),
        mend: |case, got| {
            let refused = |event: &EventRecord| {
                event.kind() == EventKind::F_PERMISSION
                    && event.is_stage2()
                    && event.class() != EventClass::In
            };
            let refuses = got.events.iter().any(|(_, event)| refused(event));
            if case.stream.nested && case.is_refused(refused) && !refuses {
                *got = case.wanted.clone();
            }
        },
    },
    Deviation {
        name: "a level-1 descriptor of a stream table covers 2^Span STEs, twice as many",
        section: "5.1",
        example: include_str!("deviations/span.raw"),
        mend: |case, got| {
            let within = case.stream.span.is_some_and(|[span, most]| (1..=most).contains(&span));
            // The stream table does not reach an STE.
            let missing = |event: &EventRecord| event.kind() == EventKind::C_BAD_STREAMID;
            if within && case.is_refused(missing) {
                *got = case.wanted.clone();
            }
        },
    },
    Deviation {
        name: "a stream table that had two levels has them also after FMT = 0",
        section: "6.3.25",
        example: include_str!("deviations/levels-stay.raw"),
        mend: |case, got| {
            if case.stream.linear_again {
                *got = case.wanted.clone();
            }
        },
    },
    Deviation {
        name: "a descriptor of level 0 may be a block",
        section: "3.4.1",
        example: include_str!("deviations/block-of-level-0.raw"),
        mend: |case, got| {
            if case.stream.four_levels && case.is_refused(is_untranslated) {
                *got = case.wanted.clone();
            }
        },
    },
    Deviation {
        name: "a descriptor of level 1 of tables of 16 KiB may be a block",
        section: "3.4.1",
        example: include_str!("deviations/block-of-level-1.raw"),
        mend: |case, got| {
            let of = |stage2: bool| {
                case.is_refused(|event| {
                    event.kind() == EventKind::F_TRANSLATION && event.is_stage2() == stage2
                })
            };
            let [one, two] = case.stream.blocks_of_level_1;
            if one && of(false) || two && of(true) {
                *got = case.wanted.clone();
            }
        },
    },
];

/// `RnW` and `TTRnW` in the second word of an event.
const RNW: u64 = 1 << (99 - 64);
const TTRNW: u64 = 1 << (108 - 64);

/// A translation fault of stage 1.
fn is_untranslated(event: &EventRecord) -> bool {
    event.kind() == EventKind::F_TRANSLATION && !event.is_stage2()
}

/// A read of a table beyond all memory.
fn is_beyond(event: &EventRecord) -> bool {
    event.fetch_address().is_some_and(|fetch| fetch.0 >= NOWHERE)
}

/// A fault of stage 2 on the way to a table of level 1, which `TTB0` names.
fn is_of_root(event: &EventRecord) -> bool {
    let page = event.ipa().0 & !0xfff;
    let is_root = Tree::with_root(page).is_some() || page >= NOWHERE;
    event.is_stage2() && event.class() == EventClass::Tt && is_root
}

/// Takes over the one event that was wanted, if the pair is of the kind that `is` tells.
fn mend_event(case: &Case<'_>, got: &mut Seen, is: impl Fn(&EventRecord, &EventRecord) -> bool) {
    if let ([(_, wanted)], [(_, event)]) = (&*case.wanted.events, &mut *got.events)
        && wanted.stream() == event.stream()
        && is(wanted, event)
    {
        *event = *wanted;
    }
}

/// Takes back the one event of a nested stream, if `is` holds, where no event was wanted.
fn mend_unrecorded(case: &Case<'_>, got: &mut Seen, is: impl Fn(&EventRecord) -> bool) {
    if let [(_, event)] = &*got.events
        && case.stream.nested
        && case.wanted.is_silent()
        && is(event)
    {
        *got = case.wanted.clone();
    }
}

fn stage2_events(seen: &mut Seen) -> impl Iterator<Item = &mut EventRecord> {
    seen.events.iter_mut().map(|(_, event)| event).filter(|event| event.is_stage2())
}
