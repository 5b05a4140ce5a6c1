//! The guest's side of nested translation, as pure functions over `smmu-types`.
//!
//! An emulator shows a guest a virtual SMMU. The guest writes STEs, CDs and tables of stage 1, and
//! sends commands; the SMMU of the host nests the guest's stage 1 over the host's stage 2. This
//! module decides what of that reaches the host's SMMU:
//!
//! - [`guest_ids`]: the ID registers that a guest sees which may run on several SMMUs;
//! - [`GuestSmmu::entry`]: the STE that the host installs for a guest's STE;
//! - [`GuestSmmu::commands`]: the host's commands for a batch of the guest's commands;
//! - [`GuestSmmu::event`]: the guest's record of an event of the host's SMMU;
//! - [`StreamMap`]: the seam between the guest's StreamIDs and the host's; [`SortedDevices`] is one.
//!
//! The guest is hostile. Every function takes any bits, ends in bounded time, does not panic and
//! does not allocate. The module uses `smmu-types` and no other part of this crate: no
//! [`Platform`](crate::Platform), no domain, no device.
//!
//! It does not read the guest's memory, and it does not send commands. It does not look at CDs: the
//! SMMU reads them, and what they lead to, through the host's stage 2.
//!
//! # Example
//!
//! ```
//! use smmu_attach::guest::*;
//! use smmu_attach::smmu_types::{legal::SmmuView, *};
//! # fn guest_memory(_: StreamId) -> Ste { Ste([0x8000_000b, 0xd4, 0, 0, 0, 0, 0, 0]) }
//! # fn send(_: &[RawCommand]) {}
//! # fn parent() -> Ste {
//! #     Ste::stage2(
//! #         Stage2Config {
//! #             vmid: Vmid(7), t0sz: 20, start_level: 2,
//! #             inner: Cacheability::WriteBack, outer: Cacheability::WriteBack,
//! #             shareability: Shareability::Inner, granule: Granule::K4,
//! #             output_size: OutputSize::Bits44, table: PhysAddr(0x8000_0000),
//! #             forced_write_back: false, protected_walk: true, stall: false, record: true,
//! #         },
//! #         AtsMode::Off, ShareabilityOverride::NonShareable,
//! #     ).unwrap()
//! # }
//! # let host = IdRegisters {
//! #     idr0: 0x0d44_101b, idr1: 0x0273_0010, idr3: 0x1414, idr5: 0x74, aidr: 1,
//! #     ..IdRegisters::default()
//! # };
//!
//! // The guest's ID registers, and its SMMU over the host's stage 2 (with VMID 7).
//! let ids = guest_ids(&[host], &Emulation::new(OutputSize::Bits44))?;
//! let smmu = GuestSmmu::new(SmmuView::new(host), ids, parent())?;
//!
//! // The guest's device 8 is the host's stream 0x100.
//! let streams = [StreamId(0x100)];
//! let mut devices =
//!     [VirtualDevice { guest: StreamId(8), host: &streams, entry: HostEntry::INVALID }];
//!
//! // The guest has written an STE, and sends these commands.
//! let batch = [
//!     Command::CfgiSte { stream: StreamId(8), leaf: Leaf::Last },
//!     Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(3) },
//!     Command::SYNC,
//! ]
//! .map(Command::encode);
//! let mut out = [RawCommand::default(); 64];
//! let mut at = 0;
//! loop {
//!     let progress = smmu.commands(&batch[at..], &devices[..], &mut out);
//!     send(&out[..progress.written]);
//!     match progress.stop {
//!         Stop::Reread(set) => {
//!             for device in devices.iter_mut().filter(|device| set.contains(device.guest)) {
//!                 let entry = smmu.entry(&guest_memory(device.guest), AtsPermission::Denied);
//!                 device.entry = entry.unwrap_or_else(|refusal| refusal.entry());
//!                 // Install `device.entry.entry()`, with `CFGI_STE` for each of `device.host`.
//!             }
//!         }
//!         // Wait for the host's commands, then do as `completion` says.
//!         Stop::Sync { .. } => {}
//!         // The guest's CMDQ_CONS stops at the command, with the error.
//!         Stop::Refused(refusal) => panic!("{refusal}: {}", progress.error_code()),
//!         _ => {}
//!     }
//!     let Some(next) = progress.resume() else { break };
//!     at += next;
//! }
//! assert_eq!(devices[0].entry.config(), GuestConfig::Stage1);
//! assert_eq!(devices[0].entry.entry().to_string(), "nested vmid=7");
//! // The VMID is the host's.
//! assert_eq!(Command::decode(out[0]), Command::TlbiNhAsid { vmid: Vmid(7), asid: Asid(3) });
//!
//! // A fault of the guest's stage 1 on stream 0x100 is the guest's, on stream 8.
//! let fault = EventRecord::new(EventKind::F_TRANSLATION, StreamId(0x100))
//!     .with_access(Iova(0x5000), true)
//!     .with_class(EventClass::In);
//! let EventOwner::Guest(record) = smmu.event(&fault, &devices[..]) else { panic!() };
//! assert_eq!(record.to_string(), "F_TRANSLATION sid=0x8 read iova=0x5000 class=IN stage=1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A guest's STE
//!
//! | guest's STE | host's STE | transactions of the device |
//! |---|---|---|
//! | `V` = 0, or refused | abort | aborted; the architecture records `C_BAD_STE` ([`HostEntry::event`]) |
//! | `Config` = 0 to 3 | abort | aborted; no event (1 to 3 are reserved and behave as 0) |
//! | `Config` = 4 | stage 2 | the host's stage 2 translates |
//! | `Config` = 5 | nested | the guest's stage 1 translates, then the host's stage 2 |
//! | `Config` = 6, 7 | refused | as `V` = 0 |
//!
//! In an entry with `Config` = 4 or 5, each field has one treatment ([`STE_FIELDS`]). *Followed* and
//! *copied* fields are allowed: the first choose what the host does, the others go into the host's
//! entry. *Forced* fields have no effect. *Refused* fields must be 0.
//!
//! | field of the guest's STE | treatment | reason |
//! |---|---|---|
//! | `V` | followed | an invalid entry aborts |
//! | `Config` | followed | abort, bypass and stage 1 become abort, stage 2 and nested |
//! | `S1Fmt` | copied | the SMMU reads the CD table through stage 2 |
//! | `S1ContextPtr` | copied | the address is an IPA: it goes through stage 2 |
//! | `S1CDMax` | copied | the size of the guest's CD table |
//! | `S1DSS` | copied | what the guest's substreams do |
//! | `S1CIR`, `S1COR`, `S1CSH` | copied | an attribute of fetches from the guest's memory |
//! | `S2HWU59`, `S2HWU60`, `S2HWU61`, `S2HWU62`, `S2FWB`, `S2VMID`, `S2T0SZ`, `S2SL0`, `S2IR0`, `S2OR0`, `S2SH0`, `S2TG`, `S2PS`, `S2AA64`, `S2ENDI`, `S2AFFD`, `S2PTW`, `S2HD`, `S2HA`, `S2S`, `S2R`, `S2HAFT`, `S2PIE`, `S2POE`, `S2SL0_2`, `S2DS`, `S2TTB`, `S2SKL`, `S2POI` | refused | stage 2 is the host's; the guest's SMMU has none (IDR0.S2P = 0) |
//! | `DRE` | refused | destructive reads are the host's decision |
//! | `CONT` | refused | the host's neighbouring entries differ |
//! | `DCP` | refused | directed prefetches into caches are the host's decision |
//! | `PPAR` | refused | the host answers page requests that no guest answers |
//! | `MEV` | forced | 1: the guest's events may be merged, so that they do not flood the host |
//! | `SW_RESERVED` | forced | the SMMU ignores it |
//! | `S1PIE` | refused | the guest's SMMU has no permission indirection (IDR3.S1PI = 0) |
//! | `S1MPAM`, `PARTID`, `PMG`, `VMSPtr` | refused | the guest's SMMU has no MPAM (IDR3.MPAM = 0) |
//! | `S1STALLD` | copied | whether the guest's faults stall |
//! | `EATS` | followed | 0 or 1; 1 needs the host's permission |
//! | `STRW` | refused | the guest's SMMU has no EL2 (IDR0.Hyp = 0) |
//! | `MemAttr`, `MTCFG`, `ALLOCCFG`, `SHCFG` | refused | the guest's SMMU cannot replace memory types (IDR1.ATTR_TYPES_OVR = 0) |
//! | `NSCFG` | forced | a Non-secure stream ignores it |
//! | `PRIVCFG`, `INSTCFG` | refused | the guest's SMMU cannot replace permissions (IDR1.ATTR_PERMS_OVR = 0) |
//! | `IMPDEF_127_116`, `IMPDEF_159_144`, `IMPDEF_271_256` | refused | what it does is up to the implementation of the host's SMMU |
//! | `DPT_VMATCH` | refused | the guest's SMMU has no device permission table (IDR3.DPT = 0) |
//! | `AssuredOnly`, `TL0`, `TL1` | refused | the guest's SMMU has no translation hardening (IDR3.THE = 0) |
//! | bits outside of all fields | refused | the bit is reserved |
//!
//! An entry without excess bits is then judged twice by [`legal`](smmu_types::legal::ste): by the
//! guest's ID registers, and as the host's entry. A finding by which an SMMU refuses the entry, or
//! may refuse it or read other memory, refuses it here too.
//!
//! # Invariants
//!
//! 1. Every TLB invalidation in an output has the VMID of the virtual SMMU. It is never 0, which
//!    tags the host's own stage-1 translations.
//! 2. Every StreamID in an output comes from [`StreamMap::host`].
//! 3. The host's entry aborts, or stage 2 is the parent's in every bit.
//! 4. The host's SMMU takes every entry that is returned ([`legal`](smmu_types::legal::ste)).
//! 5. [`Progress::done`] counts exactly the commands whose translation is in the output as a whole.
//! 6. A guest's record has no bit of an intermediate or a physical address.
//! 7. The ID registers of a guest are what each host has, or less.
//!
//! # Hazard
//!
//! - The parent's stage 2 is the only thing that separates the guest from the host. The guest
//!   chooses the attributes of its memory accesses: without `S2FWB` it may access memory
//!   uncached, so either the host uses `S2FWB` or the device's accesses are coherent in any case.
//! - The host sends the output before it acts on [`Stop`], and moves the guest's `CMDQ_CONS` only
//!   over commands that are complete.
//! - A guest sends `RESUME` and `PRI_RESP` with any tag. Where the host answers stalls and page
//!   requests too, it keeps a record of which are the guest's.
//!
//! # Cost
//!
//! A command is a decode and an encode of 16 bytes, and for commands with a StreamID one question to
//! the [`StreamMap`] (`cargo bench -p smmu-attach --bench guest`). [`GuestSmmu::entry`] judges the
//! entry twice by all rules. [`guest_ids`] and [`GuestSmmu::new`] go through the fields of the ID
//! registers by name: call them once.

mod commands;
mod entry;
mod events;
mod fields;
mod harm;
mod ids;
mod smmu;
mod streams;

pub use commands::{CommandReason, CommandRefusal, Progress, Stop, StreamSet};
pub use entry::{AtsPermission, GuestConfig, HostEntry, SteReason, SteRefusal};
pub use events::{EventOwner, HostReason};
pub use fields::{GuestField, STE_FIELDS, Treatment};
pub use ids::{Emulation, GuestIdsError, guest_ids};
pub use smmu::{GuestSmmu, GuestSmmuError};
pub use streams::{
    GuestStream, HostStreams, SortedDevices, StreamMap, UnsortedDevices, VirtualDevice,
};
