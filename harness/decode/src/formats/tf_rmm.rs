//! TF-RMM: an error of the command queue.

use crate::item::{ScanItem, trouble};
use crate::text::{part, pattern};

pattern!(ERROR, r"CMDQ encountered error: (?P<code>CERROR_(?:ILL|ABT|ATC_INV_SYNC))");

/// Takes one line; returns whether it is one of TF-RMM's.
pub(crate) fn line(number: usize, text: &str, out: &mut Vec<ScanItem>) -> bool {
    if !text.contains("CMDQ encountered error") {
        return false;
    }
    let Some(captures) = ERROR.captures(text) else { return false };
    let text = format!(
        "the command queue stopped with {}; read CMDQ_CONS and decode it with `decode cmdq_cons`",
        part(&captures, "code")
    );
    out.push(ScanItem::note(number, "TF-RMM", text, trouble("")));
    true
}
