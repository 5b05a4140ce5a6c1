//! Advice on commands.

use smmu_types::{Command, RawCommand, fields};

use super::Advice;

/// What a command means, and which commands must come with it.
pub(crate) fn advise(raw: RawCommand) -> Advice {
    const SYNC: &str = "takes effect for certain only when a later SYNC is complete";
    let advice = match raw.opcode() {
        0x01 => Advice::new("a hint: fetch the configuration of this stream early"),
        0x02 => Advice::new("a hint: translate these addresses of this stream early"),
        0x03 => Advice::new("forget the cached STE of this stream")
            .then("Leaf = 0 is needed after a level-1 stream table descriptor changed")
            .then(SYNC),
        0x04 if raw.0[1] & 31 == 31 => Advice::new("forget all cached configuration").then(SYNC),
        0x04 => {
            let range = raw.0[1] & 31;
            Advice::new(format!(
                "forget the cached STEs of the aligned block of 2^{} streams that holds this one",
                range + 1
            ))
            .then(SYNC)
        }
        0x05 => Advice::new("forget the cached CD of this stream and substream")
            .then("Leaf = 0 is needed after a level-1 CD table descriptor changed")
            .then(SYNC),
        0x06 => Advice::new("forget all cached CDs of this stream").then(SYNC),
        0x07 => Advice::new("forget the cached PARTID map of this VMID").then(SYNC),
        0x10 => Advice::new("drop all stage-1 translations of this VMID").then(SYNC),
        0x11 => Advice::new("drop all non-global stage-1 translations of this ASID and VMID")
            .then("the ASID may be given to another table only after a SYNC")
            .then(SYNC),
        0x12 => Advice::new("drop stage-1 translations of these addresses, for this ASID and VMID")
            .then(SYNC),
        0x13 => {
            Advice::new("drop stage-1 translations of these addresses, for every ASID of this VMID")
                .then(SYNC)
        }
        0x20 => Advice::new("drop all translations of the EL2 regime").then(SYNC),
        0x21 => Advice::new("drop the translations of this ASID in the EL2-E2H regime").then(SYNC),
        0x22 => Advice::new("drop EL2 translations of these addresses, for this ASID").then(SYNC),
        0x23 => Advice::new("drop EL2 translations of these addresses, for every ASID").then(SYNC),
        0x28 => Advice::new("drop all translations of this VMID, of both stages")
            .then("the VMID may be given to another table only after a SYNC")
            .then(SYNC),
        0x2a => Advice::new("drop stage-2 translations of these intermediate addresses")
            .then("with nested translation the combined entries stay: TLBI_NH_ALL of the VMID must follow")
            .then(SYNC),
        0x30 => Advice::new("drop all Non-secure translations outside of EL2").then(SYNC),
        0x40 => Advice::new("tell the device to drop translations that it has cached itself (ATS)")
            .then("the TLB must be invalidated first, with a SYNC between")
            .then("a device that does not answer shows up at the next SYNC, as CERROR_ATC_INV_SYNC"),
        0x41 => Advice::new("answer a page request group of a device (PRI)"),
        0x44 => Advice::new("let a stalled transaction go on, or end it")
            .then("SID and STAG must be those of the event; each stall is answered once"),
        0x45 => Advice::new("end all stalled transactions of this stream"),
        0x46 => sync(raw),
        0x70 => Advice::new("forget all cached device permissions")
            .then("needs an SMMU with IDR3.DPT")
            .then(SYNC),
        0x73 => Advice::new("forget the cached device permissions of a region")
            .then("needs an SMMU with IDR3.DPT")
            .then(SYNC),
        0x80..=0x8f => Advice::new("a command that the implementation defines")
            .then("an SMMU that defines none stops here with CERROR_ILL"),
        opcode => match fields::opcode_name(opcode) {
            Some(name) => Advice::new(format!("{name}: not a command of a Non-secure queue"))
                .then("on a Non-secure queue the SMMU stops here with CERROR_ILL"),
            None => Advice::new(format!("the architecture defines no command {opcode:#04x}"))
                .then("the SMMU stops at it with CERROR_ILL: the slot was never filled, or filled in the wrong order, or the ring is somewhere else"),
        },
    };
    let known = fields::command(raw.opcode()).is_some();
    let unknown = |command| matches!(command, Command::Unknown(_));
    if known && unknown(Command::interpret(raw)) {
        return advice.then(
            "some field has a value that no driver should send (reserved bits, Secure state, a reserved choice): see the fields; the SMMU may refuse it as CERROR_ILL",
        );
    }
    if known && unknown(Command::decode(raw)) {
        return advice.then("some field has no effect here, or another than its value: the SMMU carries the command out as the first line says it");
    }
    advice
}

fn sync(raw: RawCommand) -> Advice {
    let signal = match raw.0[0] >> 12 & 3 {
        0 => "CMDQ_CONS passing it is the only sign",
        1 if raw.0[1] & 0x00ff_ffff_ffff_fffc == 0 => "an interrupt tells",
        1 => "32 bits of data written to MSIAddress tell (an MSI, or a word that software polls)",
        2 => "an event for WFE tells",
        _ => "CS = 3 is reserved: the SMMU stops with CERROR_ILL",
    };
    Advice::new(format!("complete when everything before it is done; {signal}"))
        .then("a SYNC that never completes: look at GERROR.CMDQ_ERR and CMDQ_CONS.ERR first, then at the command at CMDQ_CONS.RD")
}
