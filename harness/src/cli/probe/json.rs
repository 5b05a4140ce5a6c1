//! The result of a probe, as JSON.

use serde_json::{Map, Value, json};
use smmu_types::fields::{self, RegisterInfo};
use smmu_types::{
    Capabilities, Endianness, Granule, IdRegisters, StallModel, TableFormats, TableUpdate,
    TerminateModel,
};

/// Each ID register by name: its offset, its value, and its fields with value and meaning. Set bits
/// outside all fields are `reserved_bits`. Beside the names, each object has a `type`.
pub(super) fn registers(id: &IdRegisters) -> Value {
    let registers = id
        .named()
        .into_iter()
        .filter_map(|(name, value)| Some((name, register(fields::register_info(name)?, value))))
        .map(|(name, value)| (name.to_owned(), value));
    registers.chain([kind("registers")]).collect::<Map<_, _>>().into()
}

/// The `type` of an object.
fn kind(name: &str) -> (String, Value) {
    ("type".to_owned(), name.into())
}

fn register(info: &RegisterInfo, raw: u32) -> Value {
    let words = [u64::from(raw)];
    let fields: Map<_, _> = info
        .layout
        .split(&words)
        .map(|part| {
            let mut field = json!({ "type": "field", "value": part.value });
            if let Some(meaning) = part.meaning() {
                field["meaning"] = meaning.to_string().into();
            }
            (part.field.name().to_owned(), field)
        })
        .chain([kind("fields")])
        .collect();
    let known = info.layout.fields().iter().fold(0, |bits, field| bits | field.mask());
    let mut register =
        json!({ "type": "register", "offset": info.offset, "raw": raw, "fields": fields });
    if u64::from(raw) & !known != 0 {
        register["reserved_bits"] = (u64::from(raw) & !known).into();
    }
    register
}

/// Every capability: numbers as numbers, and `null` for a reserved encoding or a missing feature.
pub(super) fn capabilities(caps: &Capabilities) -> Value {
    let granules: Vec<_> = [Granule::K4, Granule::K16, Granule::K64]
        .into_iter()
        .filter(|granule| caps.granules.contains(*granule))
        .map(Granule::bytes)
        .collect();
    let made = caps.implementation;
    // In parts: one literal of all would be too deep for the macro.
    let parts = [
        json!({
            "type": "capabilities",
            "architecture_minor": caps.minor_version,
            "implementer": made.implementer,
            "product": made.product,
            "variant": made.variant,
            "revision": made.revision,
            "stage1": caps.stage1,
            "stage2": caps.stage2,
            "table_formats": match caps.table_formats {
                TableFormats::AArch32 => json!(["aarch32"]),
                TableFormats::AArch64 => json!(["aarch64"]),
                TableFormats::Both => json!(["aarch32", "aarch64"]),
                TableFormats::Reserved => Value::Null,
            },
            "endianness": match caps.endianness {
                Endianness::Mixed => Some("mixed"),
                Endianness::Little => Some("little"),
                Endianness::Big => Some("big"),
                Endianness::Reserved => None,
            },
            "granules": granules,
            "output_bits": caps.output_size.map(|size| size.bits()),
            "virtual_bits": caps.va_bits,
            "wide_small_granules": caps.wide_small_granules,
            "wide_descriptors": caps.wide_descriptors,
            "asid_bits": caps.asid_bits,
            "vmid_bits": caps.vmid_bits,
            "sid_bits": caps.sid_bits,
            "ssid_bits": caps.ssid_bits,
        }),
        json!({
            "two_level_stream_table": caps.two_level_stream_table,
            "two_level_cd": caps.two_level_cd,
            "cmdq_log2": caps.cmdq_log2,
            "eventq_log2": caps.eventq_log2,
            "priq_log2": caps.priq_log2,
            "tables_preset": caps.tables_preset,
            "queues_preset": caps.queues_preset,
            "relative_bases": caps.relative_bases,
            "enhanced_queue_pages_log2": caps.enhanced_queues.map(|queues| queues.pages_log2),
            "enhanced_queues_log2": caps.enhanced_queues.map(|queues| queues.queues_log2),
            "coherent": caps.coherent,
            "broadcast_tlb": caps.broadcast_tlb,
            "dormant_hint": caps.dormant_hint,
            "msi": caps.msi,
            "sev": caps.sev,
            "hyp": caps.hyp,
            "ats": caps.ats,
            "split_stage_ats": caps.split_stage_ats,
            "ats_errors": caps.ats_errors,
            "pri": caps.pri,
            "pri_answers_with_pasid": caps.pri_answers_with_pasid,
            "translated_pasid": caps.translated_pasid,
            "device_permission_table": caps.device_permission_table,
            "atos": caps.atos,
            "vatos_page": caps.vatos_page,
        }),
        json!({
            "table_update": match caps.table_update {
                TableUpdate::None => "none",
                TableUpdate::Access => "access",
                TableUpdate::Dirty => "dirty",
                TableUpdate::TableAccess => "table_access",
            },
            "stall_model": match caps.stall_model {
                StallModel::Both => Some("both"),
                StallModel::TerminateOnly => Some("terminate_only"),
                StallModel::Forced => Some("forced"),
                StallModel::Reserved => None,
            },
            "stall_max": caps.stall_max,
            "terminate_model": match caps.terminate_model {
                TerminateModel::Both => "both",
                TerminateModel::AbortOnly => "abort_only",
            },
            "range_invalidation": caps.range_invalidation,
            "vmid_wildcard": caps.vmid_wildcard,
            "bbm_level": caps.bbm_level,
            "forced_write_back": caps.forced_write_back,
            "attribute_override": caps.attribute_override,
            "permission_override": caps.permission_override,
            "hierarchical_disable": caps.hierarchical_disable,
            "page_attributes": caps.page_attributes,
            "execute_never_by_level": caps.execute_never_by_level,
            "small_tables": caps.small_tables,
            "e0pd": caps.e0pd,
            "epan": caps.epan,
            "device_walks_noncacheable": caps.device_walks_noncacheable,
            "stage1_indirection": caps.stage1_indirection,
            "stage2_indirection": caps.stage2_indirection,
            "stage2_overlay": caps.stage2_overlay,
            "hardening": caps.hardening,
            "no_tag_access": caps.no_tag_access,
            "attribute_index": caps.attribute_index,
            "mpam": caps.mpam,
            "granule_protection": caps.granule_protection,
        }),
    ];
    parts
        .into_iter()
        .filter_map(|part| match part {
            Value::Object(part) => Some(part),
            _ => None,
        })
        .flatten()
        .collect::<Map<_, _>>()
        .into()
}
