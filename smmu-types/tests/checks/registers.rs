//! Registers.

use smmu_types::PhysAddr;
use smmu_types::fields::{register, register_by_name, register_info};
use smmu_types::queue::QueueSize;
use smmu_types::regs::queue_base::QueueBase;
use smmu_types::regs::strtab;

use super::{keep_width, layout};

/// No offset panics, and any value of a register splits into its fields.
pub(crate) fn registers(offset: u32, value: u64) {
    if let Some(found) = register(offset) {
        layout(found, &keep_width(found, &[value]));
        if let Some((_, same)) = register_by_name(found.name()) {
            assert_eq!(same.name(), found.name());
        }
        if let Some(info) = register_info(found.name()) {
            let exact = info.layout_of(value);
            layout(exact, &keep_width(exact, &[value]));
        }
    }

    let config = strtab::DecodedConfig::decode(value as u32);
    let known = (value as u32) & 0x0003_07ff;
    assert_eq!(config.encode(), Ok(known));
    let base = strtab::DecodedBase::decode(value);
    assert!(base.effective_address(config).0 <= base.address.0);
    assert!(config.covered_bits(32) <= 32);

    let queue = QueueBase::decode(value);
    for entry_bytes in [16, 32] {
        let max = QueueSize::from_log2((offset % 20) as u8);
        let Some(max) = max else { continue };
        let address = queue.effective_address(max, entry_bytes);
        assert!(address.0 <= queue.address.0);
        if let Ok(encoded) = queue.encode(entry_bytes) {
            assert_eq!(QueueBase::decode(encoded), queue);
            assert_eq!(encoded & !value, 0, "a bit more than before");
        }
        // The SMMU's effective value is aligned, so it can be encoded.
        let effective = QueueBase { address, log2: queue.effective_size(max).log2(), ..queue };
        assert!(effective.encode(entry_bytes).is_ok(), "{effective:?}");
        assert!(PhysAddr(0) <= address);
    }
}
