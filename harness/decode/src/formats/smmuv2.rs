//! SMMUv2: another architecture, whose messages are named and not decoded.

use crate::item::{NoteSays, ScanItem};
use crate::text::pattern;

pattern!(
    FAULT,
    r"\barm-smmu [^ ]+:\s+(?:Unhandled context fault|Unexpected global fault|GFSR 0x|Blocked unknown Stream ID|FSR +=|FSYNR0 +=|TLB sync timed out)"
);

/// Takes one line; returns whether it is of an SMMUv2.
pub(crate) fn line(number: usize, text: &str, out: &mut Vec<ScanItem>) -> bool {
    if !text.contains("arm-smmu ") || !FAULT.is_match(text) {
        return false;
    }
    let text = "this is an SMMUv2 (Linux's arm-smmu), another architecture with other registers (IHI 0062); only SMMUv3 is decoded here. FSR, FSYNR and IOVA of the line are those of its context bank";
    out.push(ScanItem::note(number, "Linux", text, NoteSays::Nothing));
    true
}
