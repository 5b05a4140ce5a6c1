//! A guest's commands, whatever their bits.

use smmu_attach::guest::{
    GuestConfig, GuestStream, HostStreams, Progress, Stop, StreamMap, StreamSet,
};
use smmu_types::{AtsMode, Command, CommandErrorCode, RawCommand, StreamId, Vmid};

use super::world::{VMID, World};

/// The guest's StreamID, those of the host, ATS, and what the guest's STE asks for.
type Row = (u32, &'static [StreamId], AtsMode, GuestConfig);

/// A device of each kind.
const DEVICES: &[Row] = &[
    (0x8, &[StreamId(0x4100)], AtsMode::Full, GuestConfig::Stage1),
    (
        0x9,
        &[StreamId(0x4201), StreamId(0x4202), StreamId(0x4203)],
        AtsMode::Full,
        GuestConfig::Stage1,
    ),
    (0xa, &[], AtsMode::Full, GuestConfig::Bypass),
    (0xb, &[StreamId(0x4400)], AtsMode::Off, GuestConfig::Bypass),
    (0x10, &[StreamId(0x4500)], AtsMode::Off, GuestConfig::Abort),
    (0x11, &[StreamId(0x4600)], AtsMode::Off, GuestConfig::Invalid),
];

/// A map of [`DEVICES`].
pub(crate) struct Mapped;

impl StreamMap for Mapped {
    fn host(&self, guest: StreamId) -> Option<HostStreams<'_>> {
        let (_, streams, ats, _) = DEVICES.iter().find(|row| row.0 == guest.0)?;
        Some(HostStreams { streams, ats: *ats })
    }

    fn guest(&self, host: StreamId) -> Option<GuestStream> {
        let row = DEVICES.iter().find(|row| row.1.contains(&host))?;
        Some(GuestStream { stream: StreamId(row.0), config: row.3 })
    }
}

/// The opcodes that may reach the host: TLBI_NH_*, CFGI_CD(_ALL), ATC_INV, PRI_RESP, RESUME and
/// STALL_TERM.
const MAY_REACH: &[u8] = &[0x10, 0x11, 0x12, 0x13, 0x05, 0x06, 0x40, 0x41, 0x44, 0x45];

/// The host's commands for any commands of a guest, with every room in the output.
pub(crate) fn batch(world: &World, words: &[[u64; 2]]) {
    let batch: Vec<RawCommand> = words.iter().copied().map(RawCommand).collect();
    let mut out = vec![RawCommand([u64::MAX; 2]); 3 * batch.len() + 1];
    let whole = world.smmu.commands(&batch, &Mapped, &mut out);
    assert!(whole.written <= 3 * batch.len() && whole.done <= batch.len());
    // Nothing beyond what is written.
    assert!(out[whole.written..].iter().all(|raw| *raw == RawCommand([u64::MAX; 2])));
    let out = &out[..whole.written];
    out.iter().for_each(|raw| harmless(*raw));
    stopped(&whole, &batch);
    for room in 0..=out.len().min(8) {
        less_room(world, &batch[..whole.done], out, room);
    }
    // inv_5, one by one: the parts make the whole.
    let mut parts = Vec::new();
    for raw in &batch[..whole.done] {
        let mut room = [RawCommand::default(); 3];
        let one = world.smmu.commands(&[*raw], &Mapped, &mut room);
        assert_eq!((one.done, one.stop), (1, Stop::End));
        parts.extend_from_slice(&room[..one.written]);
    }
    assert_eq!(parts, out);
    let typed = batch[..whole.done].iter().flat_map(|raw| typed(Command::interpret(*raw)));
    assert_eq!(out, typed.map(Command::encode).collect::<Vec<_>>());
}

/// The host's commands for a command that was taken, by types and not by bits.
fn typed(command: Command) -> Vec<Command> {
    let vmid = Vmid(VMID);
    let each = |stream: StreamId, of: &dyn Fn(StreamId) -> Command| {
        let row = DEVICES.iter().find(|row| row.0 == stream.0).unwrap();
        row.1.iter().map(|stream| of(*stream)).collect()
    };
    match command {
        Command::PrefetchConfig { .. } | Command::PrefetchAddr { .. } => vec![],
        Command::TlbiNsnhAll | Command::TlbiNhAll { .. } => vec![Command::TlbiNhAll { vmid }],
        Command::TlbiNhAsid { asid, .. } => vec![Command::TlbiNhAsid { vmid, asid }],
        Command::TlbiNhVa { asid, span, .. } => vec![Command::TlbiNhVa { vmid, asid, span }],
        Command::TlbiNhVaa { span, .. } => vec![Command::TlbiNhVaa { vmid, span }],
        Command::CfgiCd { stream, substream, leaf } => {
            each(stream, &|stream| Command::CfgiCd { stream, substream, leaf })
        }
        Command::CfgiCdAll { stream } => each(stream, &|stream| Command::CfgiCdAll { stream }),
        Command::AtcInv { stream, .. }
            if DEVICES.iter().any(|row| row.0 == stream.0 && row.2 == AtsMode::Off) =>
        {
            vec![]
        }
        Command::AtcInv { stream, substream, scope, span } => {
            each(stream, &|stream| Command::AtcInv { stream, substream, scope, span })
        }
        Command::Resume { stream, tag, action } => {
            each(stream, &|stream| Command::Resume { stream, tag, action })
        }
        Command::StallTerm { stream } => each(stream, &|stream| Command::StallTerm { stream }),
        Command::PriResp { stream, substream, group, response } => {
            each(stream, &|stream| Command::PriResp { stream, substream, group, response })
        }
        other => panic!("{other} was taken"),
    }
}

/// inv_1 and inv_2, by the bits.
fn harmless(raw: RawCommand) {
    let opcode = raw.0[0] as u8;
    assert!(MAY_REACH.contains(&opcode), "{raw}");
    let command = Command::decode(raw);
    assert!(!matches!(command, Command::Unknown(_)), "reserved bits in {raw}");
    assert_eq!(raw.0[0] >> 10 & 1, 0, "SSec in {raw}");
    if (0x10..=0x13).contains(&opcode) {
        assert_eq!(raw.0[0] >> 32 & 0xffff, VMID.into(), "VMID of {raw}");
    } else {
        let stream = StreamId((raw.0[0] >> 32) as u32);
        let mut streams = DEVICES.iter().flat_map(|row| row.1);
        assert!(streams.any(|of| *of == stream), "StreamID of {raw}");
        if opcode == 0x40 {
            let ats = DEVICES.iter().any(|row| row.1.contains(&stream) && row.2 != AtsMode::Off);
            assert!(ats, "{raw} for a device whose ATS is off");
        }
    }
}

fn stopped(progress: &Progress, batch: &[RawCommand]) {
    let at = batch.get(progress.done);
    match progress.stop {
        Stop::End => assert_eq!((progress.done, progress.resume()), (batch.len(), None)),
        Stop::Sync { .. } => assert_eq!(at.unwrap().opcode(), 0x46),
        Stop::Reread(set) => {
            let raw = at.unwrap();
            assert!(matches!(raw.opcode(), 3 | 4), "{raw}");
            if set != StreamSet::All {
                assert!(set.contains(StreamId((raw.0[0] >> 32) as u32)), "{raw}");
            }
        }
        Stop::Refused(refusal) => {
            assert_eq!((refusal.index, Some(&refusal.command)), (progress.done, at));
            assert!(refusal.to_string().len() > 40, "{refusal}");
        }
        other => panic!("{other:?} although there is room"),
    }
    let refused = matches!(progress.stop, Stop::Refused(_));
    let code = if refused { CommandErrorCode::ILL } else { CommandErrorCode::NONE };
    assert_eq!(progress.error_code(), code);
    let acts = matches!(progress.stop, Stop::Sync { .. } | Stop::Reread(_));
    assert_eq!(progress.resume(), acts.then_some(progress.done + 1));
}

/// inv_5: with less room the same commands are written as far as they go, and `done_after` agrees.
fn less_room(world: &World, batch: &[RawCommand], out: &[RawCommand], room: usize) {
    let mut less = vec![RawCommand::default(); room];
    let progress = world.smmu.commands(batch, &Mapped, &mut less);
    assert_eq!(less[..progress.written], out[..progress.written]);
    assert_eq!(world.smmu.done_after(batch, &Mapped, room), progress.done);
    match progress.stop {
        Stop::End => assert_eq!((progress.done, progress.written), (batch.len(), out.len())),
        Stop::OutputFull { needed } => {
            assert!(needed > room - progress.written && progress.written + needed <= out.len());
            assert_eq!(progress.resume(), (progress.done > 0).then_some(progress.done));
        }
        other => panic!("{other:?}"),
    }
}
