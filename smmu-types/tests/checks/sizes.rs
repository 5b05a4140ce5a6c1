//! Capabilities, queue pointers and ranges of addresses.

use smmu_types::queue::{
    ConsumerRegister, Eventq, Position, Priq, ProducerRegister, QueuePointer, QueueSize, QueueState,
};
use smmu_types::range::{Extent, Plan, RangeSupport, plan};
use smmu_types::{Asid, Capabilities, Command, Granule, IdRegisters, Iova, Ipa, Leaf, Vmid};

use super::text_of;

/// Nine words as ID registers.
pub(crate) fn id_registers(registers: [u32; 9]) -> IdRegisters {
    let [idr0, idr1, idr2, idr3, idr4, idr5, idr6, iidr, aidr] = registers;
    IdRegisters { idr0, idr1, idr2, idr3, idr4, idr5, idr6, iidr, aidr }
}

/// Any ID registers decode to capabilities within the limits of the architecture.
pub(crate) fn capabilities(registers: [u32; 9]) {
    let id = id_registers(registers);
    assert!(id.named().into_iter().map(|(_, value)| value).eq(registers));
    let caps = Capabilities::decode(id);
    text_of(&caps);
    assert!(matches!(caps.asid_bits, 8 | 16) && matches!(caps.vmid_bits, 8 | 16));
    assert!(caps.sid_bits < 64 && caps.ssid_bits < 32);
    assert!(caps.cmdq_log2 < 32 && caps.eventq_log2 < 32 && caps.priq_log2 < 32);
    assert!(caps.bbm_level < 4 && caps.minor_version < 16);
    assert!(!caps.dirty_update || caps.access_flag_update);
    assert_eq!(caps.range_support() != RangeSupport::Single, caps.range_invalidation);
    // IDR3.RIL is bit 10, IDR5.DS bit 7.
    let ds = id.idr3 >> 10 & id.idr5 >> 7 & 1 != 0;
    assert_eq!(caps.range_support() == RangeSupport::RilDs, ds);
    assert!(matches!(caps.input_bits(), 48 | 52));
    let implementation = caps.implementation;
    assert!(implementation.implementer < 1 << 12 && implementation.product < 1 << 12);
    assert!(implementation.variant < 16 && implementation.revision < 16);
}

/// Arithmetic of pointers: no count is larger than the queue, and every consumer in flight is
/// found.
pub(crate) fn queue(log2: u8, produced: u64, behind: u32, register: u32) {
    let Some(size) = QueueSize::from_log2(log2) else {
        assert!(log2 > QueueSize::MAX_LOG2);
        return;
    };
    assert_eq!((size.log2(), size.entries()), (log2, 1 << log2));
    let producer = Position(produced);
    assert!(producer.index(size) < size.entries() as usize);
    assert_eq!(producer.pointer(size) & !size.pointer_mask(), 0);
    assert_eq!(producer.pointer(size) & (size.entries() - 1), producer.index(size) as u32);

    match size.used(producer.pointer(size), register) {
        Some(used) => {
            assert!(used <= size.entries());
            let consumer = producer.consumer(size, register);
            assert_eq!(consumer.is_some(), u64::from(used) <= producer.0);
            if let Some(consumer) = consumer {
                assert_eq!(consumer.advanced(used), producer);
                assert_eq!(consumer.pointer(size), register & size.pointer_mask());
            }
        }
        None => assert_eq!(producer.consumer(size, register), None),
    }

    let behind = behind % (size.entries() + 1);
    if let Some(consumer) = producer.0.checked_sub(behind.into()).map(Position) {
        assert_eq!(producer.consumer(size, consumer.pointer(size)), Some(consumer));
        assert_eq!(size.used(producer.pointer(size), consumer.pointer(size)), Some(behind));
    }
}

/// Registers of a queue that the SMMU fills: each pair is a state or an error, and no step leaves
/// the ring.
pub(crate) fn queue_registers(log2: u8, producer: u32, consumer: u32, count: u32) {
    let Some(size) = QueueSize::from_log2(log2) else { return };
    let pointer = QueuePointer::decode(size, producer);
    assert!(pointer.index() < size.entries());
    assert_eq!(pointer.bits() & (size.entries() - 1), pointer.index());
    assert_eq!(pointer.advanced(2 * size.entries()), pointer);
    assert_ne!(pointer.advanced(size.entries()).wrap(), pointer.wrap());

    let produced = ProducerRegister::<Eventq>::decode(size, producer);
    let consumed = ConsumerRegister::<Eventq>::decode(size, consumer);
    let implemented = size.pointer_mask() | 1 << 31;
    assert_eq!(produced.encode(), producer & implemented);
    assert_eq!(consumed.encode(), consumer & implemented);
    page_requests(
        ProducerRegister::decode(size, producer),
        ConsumerRegister::decode(size, consumer),
    );
    let state = match QueueState::new(produced, consumed) {
        Ok(state) => state,
        Err(error) => {
            text_of(&error);
            return;
        }
    };
    assert_eq!(state.used() + state.free(), size.entries());
    assert_eq!((state.is_empty(), state.is_full()), (state.used() == 0, state.free() == 0));
    match state.produce(count) {
        Ok(more) => assert_eq!(more.used(), state.used() + count),
        Err(error) => assert!(count > state.free() && !text_of(&error).is_empty()),
    }
    match state.consume(count) {
        Ok(fewer) => assert_eq!(fewer.used(), state.used() - count),
        Err(error) => assert!(count > state.used() && !text_of(&error).is_empty()),
    }
    match state.lose() {
        Ok(lost) => {
            assert!(state.is_full() && lost.overflowed() && !lost.acknowledge().overflowed());
        }
        Err(error) => assert!(!state.is_full() && !text_of(&error).is_empty()),
    }
}

/// The same for the PRI queue, which takes no entries during an overflow.
fn page_requests(producer: ProducerRegister<Priq>, consumer: ConsumerRegister<Priq>) {
    let Ok(state) = QueueState::new(producer, consumer) else { return };
    assert_eq!(state.lose().is_ok(), state.is_full() || state.overflowed());
    assert_eq!(state.produce(1).is_ok(), !state.is_full() && !state.overflowed());
    assert_eq!(state.acknowledge().produce(1).is_ok(), !state.is_full());
}

/// The kind of the addresses: 64 bits, or 56.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AddressKind {
    Iova,
    Ipa,
}

/// The range of an invalidation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    /// The kind of the addresses.
    pub(crate) kind: AddressKind,
    /// Whether the SMMU takes ranged commands.
    pub(crate) support: RangeSupport,
    /// First address.
    pub(crate) address: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// Granule of the table.
    pub(crate) granule: Granule,
    /// log2 of the bytes that each leaf maps.
    pub(crate) block_shift: Option<u32>,
    /// Whether only leaves changed.
    pub(crate) leaf: Leaf,
}

/// The spans cover the range without a gap or an overlap, and at most one leaf more on each side. A
/// range that the plan flushes as a whole is empty, large, or at the end of the address space.
pub(crate) fn range(range: Range) {
    let Range { kind, support, address, size, granule, block_shift, leaf } = range;
    let extent = Extent { address, size, granule, block_shift, leaf };
    // Only the last three levels have leaves.
    let bits = granule.shift() - 3;
    let known =
        block_shift.filter(|shift| (0..3).any(|level| *shift == granule.shift() + level * bits));
    let leaf_shift = known.unwrap_or(granule.shift());
    let widening = 1u128 << leaf_shift;
    let page = 1u128 << granule.shift();
    let (first, end) = (u128::from(address), u128::from(address) + u128::from(size));

    let Some(commands) = commands(kind, support, extent) else {
        let steps = match support {
            RangeSupport::Ril | RangeSupport::RilDs => page,
            RangeSupport::Single => widening,
        };
        let pages = (u128::from(size) + 2 * widening) / steps;
        let many = match support {
            RangeSupport::Ril => 1 << 32,
            RangeSupport::RilDs => 1 << 40,
            RangeSupport::Single => 1 << (granule.shift() - 3),
        };
        let bits = match kind {
            AddressKind::Iova => 64,
            AddressKind::Ipa => 56,
        };
        let last = (1u128 << bits) - 1 - widening.min(1 << (bits - 1));
        assert!(size == 0 || pages >= many || end > last, "{range:x?} is not everything");
        return;
    };
    assert!(size != 0, "{range:x?} is everything");

    let mut next = None;
    let mut count = 0;
    for words in commands {
        let covered = covered(words, support, granule, leaf_shift);
        assert_eq!(words[1] & 1 == 1, leaf == Leaf::Last, "{range:x?}");
        match next {
            None => {
                assert!(covered.start <= first, "{range:x?} begins too late");
                assert!(first - covered.start < widening, "{range:x?} begins too early");
            }
            Some(next) => assert_eq!(covered.start, next, "{range:x?} has a gap or an overlap"),
        }
        assert!(covered.start < end, "{range:x?} has a span behind its end");
        next = Some(covered.end);
        count += 1;
    }
    let most = match support {
        RangeSupport::Ril => 7,
        RangeSupport::RilDs => 8,
        RangeSupport::Single => (1 << (granule.shift() - 3)) - 1,
    };
    assert!(count <= most, "{range:x?} needs {count} commands");
    // Without a level hint, one page more avoids a reserved encoding.
    let next = next.unwrap_or(0);
    assert!(next >= end, "{range:x?} ends too early");
    assert!(next - end < widening + page, "{range:x?} ends too late");
}

/// The words of each command of a plan; `None` for a flush of the whole tag.
fn commands(kind: AddressKind, support: RangeSupport, extent: Extent) -> Option<Vec<[u64; 2]>> {
    let encoded = |command: Command| {
        let raw = command.encode();
        assert_eq!(Command::decode(raw), command, "a span does not survive its encoding");
        raw.0
    };
    let (vmid, asid) = (Vmid(2), Asid(1));
    Some(match kind {
        AddressKind::Iova => {
            let Plan::Spans(spans) = plan::<Iova>(support, extent) else { return None };
            spans.map(|span| encoded(Command::TlbiNhVa { vmid, asid, span })).collect()
        }
        AddressKind::Ipa => {
            let Plan::Spans(spans) = plan::<Ipa>(support, extent) else { return None };
            spans.map(|span| encoded(Command::TlbiS2Ipa { vmid, span })).collect()
        }
    })
}

/// The addresses that a command covers, read from its bits (4.4.1.1).
fn covered(
    words: [u64; 2],
    support: RangeSupport,
    granule: Granule,
    leaf_shift: u32,
) -> std::ops::Range<u128> {
    let field =
        |word: u64, hi: u32, lo: u32| u128::from(word >> lo & (u64::MAX >> (63 - (hi - lo))));
    let (num, scale) = (field(words[0], 16, 12), field(words[0], 25, 20));
    let (tg, ttl) = (field(words[1], 11, 10), field(words[1], 9, 8));
    let start = field(words[1], 63, 12) << 12;
    let bytes = match support {
        RangeSupport::Single => {
            assert_eq!((tg, ttl, num, scale), (0, 0, 0, 0), "not a command that every SMMU takes");
            1 << leaf_shift
        }
        RangeSupport::Ril | RangeSupport::RilDs => {
            assert_eq!(tg, u128::from(granule.shift() / 2 - 5), "TG");
            assert!((num, scale, ttl) != (0, 0, 0), "a reserved encoding");
            let largest = if support == RangeSupport::RilDs { 39 } else { 31 };
            assert!(scale <= largest, "SCALE is too large for this SMMU");
            (num + 1) << (scale + u128::from(granule.shift()))
        }
    };
    start..start + bytes
}
