//! The path to a structure: from a StreamID to its STE, from a SubstreamID to its CD.

use super::check::Check;
use super::rule::Rule;
use super::smmu::SmmuView;
use crate::fields::strtab_base_cfg::{FMT, LOG2SIZE, SPLIT, StrtabBaseCfg};
use crate::fields::{l1cd, l1std, ste};
use crate::{ContextTableDescriptor, Ste, StreamId, StreamTableDescriptor, SubstreamId};

/// The path from a StreamID to its STE: `STRTAB_BASE_CFG`, and the level-1 descriptor of a
/// two-level table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLookup {
    /// `STRTAB_BASE_CFG`.
    pub config: u32,
    /// The descriptor of the StreamID; `None` for a linear table, or if the descriptor is unknown.
    pub descriptor: Option<StreamTableDescriptor>,
}

/// The number of bits that index the second level, or `None` for a linear table.
pub(super) fn table(
    stream: StreamId,
    smmu: &SmmuView,
    check: &mut Check<'_, StrtabBaseCfg, true>,
) -> Result<Option<u8>, ()> {
    let max = smmu.sidsize();
    if check.get(&LOG2SIZE) > max.into() {
        check.find(&LOG2SIZE, Rule::StreamTableCapped { max });
    }
    let log2 = (check.get(&LOG2SIZE) as u8).min(max);
    let mut split = None;
    if smmu.st_level() == 0 {
        check.res0(&FMT, "without two-level tables (IDR0.ST_LEVEL = 0)");
        check.res0(&SPLIT, "without two-level tables (IDR0.ST_LEVEL = 0)");
    } else if check.get(&FMT) > 1 {
        check.find(&FMT, Rule::ReservedValue { behaves: "0b00: a linear table" });
    } else if check.get(&FMT) == 1 {
        split = Some(match check.get(&SPLIT) as u8 {
            known @ (6 | 8 | 10) => known,
            _ => {
                check.find(&SPLIT, Rule::ReservedValue { behaves: "6" });
                6
            }
        });
    }
    if u64::from(stream.0) >> log2 != 0 {
        check.find(&LOG2SIZE, Rule::StreamBeyondTable { stream: stream.0 });
        return Err(());
    }
    Ok(split)
}

pub(super) fn descriptor(
    stream: StreamId,
    split: u8,
    smmu: &SmmuView,
    check: &mut Check<'_, StreamTableDescriptor, true>,
) {
    let span = check.get(&l1std::SPAN) as u8;
    let index = stream.0 & ((1 << split) - 1);
    match span {
        0 => return check.find(&l1std::SPAN, Rule::NoSpan),
        12.. => return check.find(&l1std::SPAN, Rule::SpanReserved),
        _ if span > split + 1 => {
            return check.find(&l1std::SPAN, Rule::SpanBeyondSplit { max: split + 1 });
        }
        _ => {}
    }
    let stes = 1 << (span - 1);
    if index >= stes {
        return check.find(&l1std::SPAN, Rule::StreamBeyondSpan { index, stes });
    }
    let (bits, align) = (smmu.output_bits(), span + 5);
    let address = check.get(&l1std::L2PTR);
    if address >> bits != 0 {
        check.find(&l1std::L2PTR, Rule::StesBeyondOutput { bits });
    }
    if address & ((1 << align) - 1) != 0 {
        check.find(&l1std::L2PTR, Rule::TableRounded { align });
    }
}

pub(super) fn substream(
    substream: Option<SubstreamId>,
    smmu: &SmmuView,
    check: &mut Check<'_, Ste, true>,
) {
    let (config, log2) = (check.get(&ste::CONFIG), check.get(&ste::S1CDMAX));
    if !check.is_set(&ste::V) || config & 4 == 0 {
        return;
    }
    let substreams = smmu.ssidsize() != 0 && log2 != 0;
    let Some(substream) = substream.map(SubstreamId::get) else {
        if config & 1 != 0 && substreams && matches!(check.get(&ste::S1DSS), 0 | 3) {
            check.find(&ste::S1DSS, Rule::SubstreamMissing);
        }
        return;
    };
    if config & 1 == 0 {
        check.find(&ste::CONFIG, Rule::SubstreamWithoutStage1);
    } else if smmu.ssidsize() == 0 {
        check.find(&ste::S1CDMAX, Rule::SubstreamsAbsent);
    } else if log2 == 0 {
        check.find(&ste::S1CDMAX, Rule::SubstreamsOff);
    } else if u64::from(substream) >> log2 != 0 {
        check.find(&ste::S1CDMAX, Rule::SubstreamBeyondTable { substream });
    } else if substream == 0 && check.get(&ste::S1DSS) == 2 {
        check.find(&ste::S1DSS, Rule::Substream0Taken);
    }
}

pub(super) fn context_table(
    entry: &Ste,
    smmu: &SmmuView,
    check: &mut Check<'_, ContextTableDescriptor, true>,
) {
    if !check.is_set(&l1cd::V) {
        return check.find(&l1cd::V, Rule::NoContextTable);
    }
    let address = check.get(&l1cd::L2PTR);
    if entry.get(ste::CONFIG) == 7 {
        let bits = smmu.intermediate_bits();
        if address >> bits != 0 {
            check.find(&l1cd::L2PTR, Rule::ContextsBeyondIntermediate { bits });
        } else if let Some(bits) = super::stage2::input_bits(entry, smmu)
            && address >> bits != 0
        {
            check.find(&l1cd::L2PTR, Rule::BeyondStage2Input { bits });
        }
    } else {
        let (bits, minor) = (smmu.output_bits(), smmu.minor());
        if address >> bits != 0 {
            check.find(&l1cd::L2PTR, Rule::ContextTableBeyondOutput { bits, minor });
        }
    }
    if entry.get(ste::S1FMT) == 2 && address & 0xf000 != 0 {
        check.res0(&l1cd::L2PTR, "in bits 15:12 with tables of 64 KiB");
    }
}

/// Judges the structures of [`stream_id`](super::stream_id).
pub(super) fn stream(
    stream: StreamId,
    given: StreamLookup,
    smmu: &SmmuView,
    report: &mut dyn FnMut(super::Finding),
) {
    let words = [u64::from(given.config)];
    let mut check = Check::new(&words, report);
    let split = table(stream, smmu, &mut check);
    if let (Ok(Some(split)), Some(found)) = (split, given.descriptor) {
        let mut check = Check::new(&found.0, report);
        descriptor(stream, split, smmu, &mut check);
    }
}
