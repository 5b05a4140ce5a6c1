//! Decodes the producer and the consumer of a queue.

use smmu_types::queue::QueueSize;
use smmu_types::regs::cmdq_cons;
use smmu_types::{CommandErrorCode, fields};

use crate::advice::Advice;
use crate::kind::StructureKind;
use crate::report::{FieldRow, StructureReport};

const OVERFLOW: u32 = 1 << 31;

/// The words are `PROD`, `CONS` and, if known, log2 of the number of entries.
pub(crate) fn report(words: &[u64]) -> StructureReport {
    let word = |n: usize| words.get(n).copied().unwrap_or(0) as u32;
    let (producer, consumer) = (word(0), word(1));
    let size = words.get(2).map(|log2| u8::try_from(*log2).ok().and_then(QueueSize::from_log2));
    let row = |name, hi, lo, value: u32, meaning: String| FieldRow {
        name,
        hi,
        lo,
        value: value.into(),
        shown: value.to_string(),
        meaning,
        reserved: false,
    };
    let error = cmdq_cons::error(consumer);
    let mut rows = Vec::new();
    let mut advice = Advice::default();
    match size {
        Some(Some(size)) => {
            let log2 = u16::from(size.log2());
            for (index, wrap, register, what) in [
                ("PROD.WR", "PROD.WR_WRAP", producer, "where the producer writes next"),
                ("CONS.RD", "CONS.RD_WRAP", consumer, "what the consumer reads next"),
            ] {
                if log2 > 0 {
                    let value = register & (size.entries() - 1);
                    rows.push(row(index, log2 - 1, 0, value, what.into()));
                }
                let value = register >> log2 & 1;
                rows.push(row(wrap, log2, log2, value, "which time round".into()));
            }
            advice.means = match size.used(producer, consumer) {
                Some(0) => "empty: everything was consumed".into(),
                Some(used) if used == size.entries() => {
                    format!("full: {used} entries wait; equal indices and different wrap bits")
                }
                Some(used) => format!("{used} of {} entries wait", size.entries()),
                None => {
                    advice.next.push("check that both were read from the same queue, and that the size is that of its base register".into());
                    "impossible: the consumer is not within one queue length behind the producer"
                        .into()
                }
            };
        }
        unknown => {
            rows.push(row("PROD", 19, 0, producer & 0xf_ffff, "index and wrap bit".into()));
            rows.push(row("CONS", 19, 0, consumer & 0xf_ffff, "index and wrap bit".into()));
            let same = producer & 0xf_ffff == consumer & 0xf_ffff;
            advice.means = match (unknown, same) {
                (_, true) => "empty: everything was consumed".into(),
                (None, false) => {
                    "not empty; how much waits depends on the size of the queue".into()
                }
                (Some(_), false) => format!(
                    "not empty; a queue has 2^0 to 2^{} entries, so the size that was given is not one",
                    QueueSize::MAX_LOG2
                ),
            };
            advice.next.push(
                "give log2 of the number of entries (bits 4:0 of the base register) as a third word"
                    .into(),
            );
        }
    }
    let flags = (producer & OVERFLOW, consumer & OVERFLOW);
    rows.push(row("PROD.OVFLG", 31, 31, producer >> 31, "event and PRI queues".into()));
    rows.push(row("CONS.OVACKFLG", 31, 31, consumer >> 31, "event and PRI queues".into()));
    rows.push(row("CONS.ERR", 30, 24, error.0.into(), format!("command queue: {error}")));
    if flags.0 != flags.1 {
        advice.next.push(
            "event or PRI queue: OVFLG and OVACKFLG differ, so records were lost since the last acknowledgement"
                .into(),
        );
    }
    if error != CommandErrorCode::NONE {
        advice.next.push(format!(
            "command queue: stopped with {error} at the command at CONS.RD, if GERROR.CMDQ_ERR is active"
        ));
    }
    StructureReport {
        kind: StructureKind::Queue,
        name: "PROD, CONS".into(),
        summary: String::new(),
        words: words.to_vec(),
        bits: fields::cmdq_prod::LAYOUT.bits(),
        rows,
        residue: Vec::new(),
        advice,
        findings: Vec::new(),
    }
}
