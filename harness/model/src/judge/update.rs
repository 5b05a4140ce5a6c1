//! Updates that the SMMU can see half done: it reads a structure word by word (3.21.3).

use smmu_types::seam::TableEntry;
use smmu_types::{Command, Leaf, StreamId, SubstreamId};

use crate::cache::config_cache::Dropped;
use crate::hazard::Hazard;
use crate::model_smmu::ModelSmmu;

impl ModelSmmu {
    /// Compare what a command dropped with what the SMMU fetched since. Only with
    /// [`Profile::word_by_word`](crate::Profile::word_by_word).
    pub(crate) fn judge_update(&mut self, gone: &Dropped) {
        if !self.profile.word_by_word {
            return;
        }
        for (stream, old) in &gone.stes {
            if let Some(new) = self.config.stes.get(stream)
                && changed_words(&old.0, &new.0, |word| {
                    (old.used()[word] | new.used()[word]) & !old.safe(new)[word]
                }) > 1
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

    fn mixed(&mut self, stream: StreamId, entry: TableEntry, missing: Command) {
        let smmu = self.index;
        self.hazard(Hazard::MixedUpdate { smmu, stream, entry, missing });
    }
}

/// Number of words that differ in a bit that the SMMU uses.
fn changed_words(old: &[u64; 8], new: &[u64; 8], used: impl Fn(usize) -> u64) -> usize {
    (0..8).filter(|word| (old[*word] ^ new[*word]) & used(*word) != 0).count()
}
