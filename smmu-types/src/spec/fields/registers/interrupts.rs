//! Interrupts and global errors.

use super::structure;

macro_rules! interrupt_enables {
    ($(#[doc = $doc:literal])+ $module:ident $structure:ident $name:literal $section:literal) => {
        structure! {
            $(#[doc = $doc])+
            $module $structure u32 32 $name $section;
            /// Whether global errors interrupt.
            GERROR_IRQEN "GERROR_IRQEN" 0:0 flag("no interrupts of global errors", "interrupts of global errors");
            /// Whether the PRI queue interrupts.
            PRIQ_IRQEN "PRIQ_IRQEN" 1:1 flag("no interrupts of the PRI queue", "interrupts of the PRI queue");
            /// Whether the event queue interrupts.
            EVENTQ_IRQEN "EVENTQ_IRQEN" 2:2 flag("no interrupts of the event queue", "interrupts of the event queue");
        }
    };
}

interrupt_enables! {
    /// `IRQ_CTRL`: interrupt enables.
    irq_ctrl IrqCtrl "IRQ_CTRL" "6.3.16"
}
interrupt_enables! {
    /// `IRQ_CTRLACK`: which interrupt enables have taken effect.
    irq_ctrlack IrqCtrlack "IRQ_CTRLACK" "6.3.18"
}

macro_rules! global_errors {
    ($(#[doc = $doc:literal])+ $module:ident $structure:ident $name:literal $section:literal) => {
        structure! {
            $(#[doc = $doc])+
            $module $structure u32 32 $name $section;
            /// A command cannot be processed; `CMDQ_CONS.ERR` says why.
            CMDQ_ERR "CMDQ_ERR" 0:0 number;
            /// An access to the event queue was aborted.
            EVENTQ_ABT_ERR "EVENTQ_ABT_ERR" 2:2 number;
            /// An access to the PRI queue was aborted.
            PRIQ_ABT_ERR "PRIQ_ABT_ERR" 3:3 number;
            /// An MSI of `CMD_SYNC` was aborted.
            MSI_CMDQ_ABT_ERR "MSI_CMDQ_ABT_ERR" 4:4 number;
            /// An MSI of the event queue was aborted.
            MSI_EVENTQ_ABT_ERR "MSI_EVENTQ_ABT_ERR" 5:5 number;
            /// An MSI of the PRI queue was aborted.
            MSI_PRIQ_ABT_ERR "MSI_PRIQ_ABT_ERR" 6:6 number;
            /// An MSI of global errors was aborted.
            MSI_GERROR_ABT_ERR "MSI_GERROR_ABT_ERR" 7:7 number;
            /// The SMMU entered service failure mode.
            SFM_ERR "SFM_ERR" 8:8 number;
            /// An enhanced command queue has an error.
            CMDQP_ERR "CMDQP_ERR" 9:9 number;
            /// A lookup in the device permission table failed; `DPT_CFG_FAR` says how.
            DPT_ERR "DPT_ERR" 10:10 number;
        }
    };
}

global_errors! {
    /// `GERROR`: global errors. Each bit toggles when its error occurs: it is active while it
    /// differs from `GERRORN`, so a bit alone says nothing.
    gerror Gerror "GERROR" "6.3.19"
}
global_errors! {
    /// `GERRORN`: acknowledged global errors. A bit that is equal to that of `GERROR` is
    /// acknowledged.
    gerrorn Gerrorn "GERRORN" "6.3.20"
}

macro_rules! message {
    (
        $address_module:ident $address:ident $address_name:literal $address_section:literal,
        $data_module:ident $data:ident $data_name:literal $data_section:literal,
        $attributes_module:ident $attributes:ident $attributes_name:literal $attributes_section:literal;
        $($more:tt)*
    ) => {
        structure! {
            /// Where an MSI is written to.
            $address_module $address u64 64 $address_name $address_section;
            /// The address; 0 sends no MSI.
            ADDR "ADDR" 55:2 address;
        }
        structure! {
            /// What an MSI writes.
            $data_module $data u32 32 $data_name $data_section;
            /// The data.
            DATA "DATA" 31:0 hex;
        }
        structure! {
            /// With which attributes an MSI is written.
            $attributes_module $attributes u32 32 $attributes_name $attributes_section;
            /// Memory type.
            MEMATTR "MemAttr" 3:0 choice(
                0 => "Device-nGnRnE",
                1 => "Device-nGnRE",
                2 => "Device-nGRE",
                3 => "Device-GRE",
                5 => "Normal, Non-cacheable",
                6 => "Normal, outer Non-cacheable, inner Write-Through",
                7 => "Normal, outer Non-cacheable, inner Write-Back",
                9 => "Normal, outer Write-Through, inner Non-cacheable",
                10 => "Normal, Write-Through",
                11 => "Normal, outer Write-Through, inner Write-Back",
                13 => "Normal, outer Write-Back, inner Non-cacheable",
                14 => "Normal, outer Write-Back, inner Write-Through",
                15 => "Normal, Write-Back",
            );
            /// Shareability; Device memory is Outer Shareable whatever this says.
            SH "SH" 5:4 choice(0 => "Non-shareable", 2 => "Outer Shareable", 3 => "Inner Shareable");
            $($more)*
        }
    };
}

message! {
    gerror_irq_cfg0 GerrorIrqCfg0 "GERROR_IRQ_CFG0" "6.3.21",
    gerror_irq_cfg1 GerrorIrqCfg1 "GERROR_IRQ_CFG1" "6.3.22",
    gerror_irq_cfg2 GerrorIrqCfg2 "GERROR_IRQ_CFG2" "6.3.23";
}
message! {
    eventq_irq_cfg0 EventqIrqCfg0 "EVENTQ_IRQ_CFG0" "6.3.30",
    eventq_irq_cfg1 EventqIrqCfg1 "EVENTQ_IRQ_CFG1" "6.3.31",
    eventq_irq_cfg2 EventqIrqCfg2 "EVENTQ_IRQ_CFG2" "6.3.32";
}
message! {
    priq_irq_cfg0 PriqIrqCfg0 "PRIQ_IRQ_CFG0" "6.3.34",
    priq_irq_cfg1 PriqIrqCfg1 "PRIQ_IRQ_CFG1" "6.3.35",
    priq_irq_cfg2 PriqIrqCfg2 "PRIQ_IRQ_CFG2" "6.3.36";
    /// When the PRI queue interrupts, by MSI or by wire.
    LO "LO" 31:31 flag("when the queue becomes non-empty", "at the last request of a group");
}
