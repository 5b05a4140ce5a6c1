//! Address translation operations (chapter 9).

use super::structure;

macro_rules! operation {
    (
        $control_module:ident $control:ident $control_name:literal $control_section:literal,
        $stream_module:ident $stream:ident $stream_name:literal $stream_section:literal,
        $address_module:ident $address:ident $address_name:literal $address_section:literal,
        $result_module:ident $result:ident $result_name:literal $result_section:literal,
        $fault_module:ident $fault:ident;
        $($types:tt)*
    ) => {
        structure! {
            /// Starts an operation.
            $control_module $control u32 32 $control_name $control_section;
            /// Whether an operation runs; the SMMU clears it when the result is there.
            RUN "RUN" 0:0 flag("done", "running");
        }
        structure! {
            /// The stream of an operation.
            $stream_module $stream u64 64 $stream_name $stream_section;
            /// The StreamID.
            STREAMID "STREAMID" 31:0 hex;
            /// The SubstreamID.
            SUBSTREAMID "SUBSTREAMID" 51:32 hex;
            /// Whether the SubstreamID counts.
            SSID_VALID "SSID_VALID" 52:52 flag("no SubstreamID", "with a SubstreamID");
        }
        structure! {
            /// The address and the kind of access of an operation.
            $address_module $address u64 64 $address_name $address_section;
            /// Whether the operation leaves access flag and dirty state alone.
            HTTUI "HTTUI" 6:6 flag("flags are updated as configured", "flags are left alone");
            /// Instruction or data, for reads.
            IND "InD" 7:7 flag("data", "instruction");
            /// Read or write.
            RNW "RnW" 8:8 flag("write", "read");
            /// Privileged or not.
            PNU "PnU" 9:9 flag("unprivileged", "privileged");
            /// Which stages translate. A reserved value ends in INV_REQ.
            TYPE "TYPE" 11:10 choice($($types)*);
            /// The address to translate.
            ADDR "ADDR" 63:12 address;
        }
        structure! {
            /// The result of an operation that found a translation, with `FAULT` clear.
            $result_module $result u64 64 $result_name $result_section;
            /// Whether the operation failed; if so, the other fields are those of the fault format.
            FAULT "FAULT" 0:0 flag("translated", "failed");
            /// Shareability.
            SH "SH" 9:8 choice(0 => "Non-shareable", 2 => "Outer Shareable", 3 => "Inner Shareable");
            /// Whether the lowest set bit of `ADDR` says how large the translation is.
            SIZE "Size" 11:11 flag("4 KiB", "twice the lowest set bit of ADDR");
            /// The address; with `Size`, its lowest set bit is no part of it.
            ADDR "ADDR" 55:12 address;
            /// Memory attributes, as in MAIR.
            ATTR "ATTR" 63:56 hex;
        }
        structure! {
            /// The result of an operation that failed, with `FAULT` set.
            $fault_module $fault u64 64 $result_name $result_section;
            /// Whether the operation failed.
            FAULT "FAULT" 0:0 flag("translated", "failed");
            /// Which stage failed, and at what.
            REASON "REASON" 2:1 choice(
                0 => "stage 1, or no translation",
                1 => "stage 2, for a CD fetch",
                2 => "stage 2, for a stage 1 table walk",
                3 => "stage 2, for its input address",
            );
            /// What went wrong, as in event records.
            FAULTCODE "FAULTCODE" 11:4 choice(
                0x02 => "C_BAD_STREAMID",
                0x03 => "F_STE_FETCH",
                0x04 => "C_BAD_STE",
                0x06 => "F_STREAM_DISABLED",
                0x08 => "C_BAD_SUBSTREAMID",
                0x09 => "F_CD_FETCH",
                0x0a => "C_BAD_CD",
                0x0b => "F_WALK_EABT",
                0x10 => "F_TRANSLATION",
                0x11 => "F_ADDR_SIZE",
                0x12 => "F_ACCESS",
                0x13 => "F_PERMISSION",
                0x20 => "F_TLB_CONFLICT",
                0x21 => "F_CFG_CONFLICT",
                0x25 => "F_VMS_FETCH",
                0xfd => "INTERNAL_ERR: terminated",
                0xfe => "INV_STAGE: no such stage",
                0xff => "INV_REQ: malformed request",
            );
            /// The intermediate address that stage 2 refused.
            FADDR "FADDR" 55:12 address;
            /// What the implementation says of the fault.
            IMPLEMENTATION_DEFINED "IMPLEMENTATION_DEFINED" 63:60 impdef;
        }
    };
}

operation! {
    gatos_ctrl GatosCtrl "GATOS_CTRL" "6.3.37",
    gatos_sid GatosSid "GATOS_SID" "6.3.38",
    gatos_addr GatosAddr "GATOS_ADDR" "6.3.39",
    gatos_par GatosPar "GATOS_PAR" "6.3.40",
    gatos_par_fault GatosParFault;
    1 => "stage 1",
    2 => "stage 2",
    3 => "stage 1 and stage 2",
}
operation! {
    vatos_ctrl VatosCtrl "VATOS_CTRL" "6.3.99",
    vatos_sid VatosSid "VATOS_SID" "6.3.100",
    vatos_addr VatosAddr "VATOS_ADDR" "6.3.101",
    vatos_par VatosPar "VATOS_PAR" "6.3.102",
    vatos_par_fault VatosParFault;
    1 => "stage 1",
}

structure! {
    /// `VATOS_SEL`: which VMID may use virtual ATOS.
    vatos_sel VatosSel u32 32 "VATOS_SEL" "6.3.44";
    /// The VMID that a stream's must be equal to.
    VMID "VMID" 15:0 number;
}
