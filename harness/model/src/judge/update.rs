//! Updates that the SMMU can see half done: it reads a structure word by word (3.21.3).

use std::collections::BTreeSet;

use smmu_types::seam::TableEntry;
use smmu_types::{Command, Leaf, Ste, StreamId, SubstreamId};

use crate::cache::config_cache::Dropped;
use crate::dma::fetch::ste_in_memory;
use crate::hazard::Hazard;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;

/// More mixes than a driver makes that changes an entry step by step.
const MIXES: usize = 1 << 12;

impl ModelSmmu {
    /// Compare what a command dropped with what the SMMU fetched since. Only with
    /// [`Profile::word_by_word`](crate::Profile::word_by_word).
    pub(crate) fn judge_update(&mut self, gone: &Dropped) {
        if !self.profile.word_by_word {
            return;
        }
        for (stream, old) in &gone.stes {
            let between = self.shown_stes.remove(stream).unwrap_or_default();
            if let Some(new) = self.config.stes.get(stream)
                && may_mix(old, &between, new)
            {
                let stream = StreamId(*stream);
                let missing = Command::CfgiSte { stream, leaf: Leaf::Last };
                self.mixed(stream, TableEntry::Ste, missing);
            }
        }
        for ((stream, index), old) in &gone.cds {
            // A CD at another address is another structure: it was whole before it was reachable.
            if let Some(new) = self.config.cds.get(&(*stream, *index))
                && new.at == old.at
                && changed_words(&old.cd.0, &new.cd.0, |word| {
                    old.cd.used()[word] | new.cd.used()[word]
                }) > 1
            {
                let stream = StreamId(*stream);
                let substream = SubstreamId::new(*index).unwrap_or_default();
                let missing = Command::CfgiCd { stream, substream, leaf: Leaf::Last };
                self.mixed(stream, TableEntry::Cd, missing);
            }
        }
    }

    /// Note the STEs as they are when a driver shows commands. Only with
    /// [`Profile::word_by_word`](crate::Profile::word_by_word).
    pub(crate) fn see_stes(&mut self, ram: &ModelRam) {
        if !self.profile.word_by_word {
            return;
        }
        let table = self.stream_table();
        for (stream, cached) in &self.config.stes {
            let Ok(ste) = ste_in_memory(ram, &table, StreamId(*stream)) else { continue };
            let shown = self.shown_stes.entry(*stream).or_default();
            if ste != *shown.last().unwrap_or(cached) {
                shown.push(ste);
            }
        }
    }

    fn mixed(&mut self, stream: StreamId, entry: TableEntry, missing: Command) {
        let smmu = self.index;
        self.hazard(Hazard::MixedUpdate { smmu, stream, entry, missing });
    }
}

/// Whether an SMMU that read each word at some time from `old` to `new` may use an STE that was
/// never in memory. It was in memory if the driver showed commands meanwhile, or as the first or last.
fn may_mix(old: &Ste, between: &[Ste], new: &Ste) -> bool {
    let all: Vec<&Ste> = [old].into_iter().chain(between).chain([new]).collect();
    let mut mixes = vec![*old];
    for word in 0..8 {
        let values: BTreeSet<u64> = all.iter().map(|ste| ste.0[word]).collect();
        let with = |mix: &Ste| {
            let mix = *mix;
            values.clone().into_iter().map(move |value| {
                let mut next = mix;
                next.0[word] = value;
                next
            })
        };
        mixes = mixes.iter().flat_map(with).collect();
        if mixes.len() > MIXES {
            return true;
        }
    }
    let acts_as = |mix: &Ste, ste: &Ste| {
        let (used, safe) = (mix.used(), ste.safe(mix));
        (0..8).all(|word| (mix.0[word] ^ ste.0[word]) & used[word] & !safe[word] == 0)
    };
    mixes.iter().any(|mix| !all.iter().any(|ste| acts_as(mix, ste)))
}

/// Number of words that differ in a bit that the SMMU uses.
fn changed_words(old: &[u64; 8], new: &[u64; 8], used: impl Fn(usize) -> u64) -> usize {
    (0..8).filter(|word| (old[*word] ^ new[*word]) & used(*word) != 0).count()
}
