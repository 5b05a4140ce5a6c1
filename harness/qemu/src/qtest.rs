//! The qtest protocol: accesses and virtual time over a socket.

use std::fmt::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::{Channel, QemuError};
use super::line::{LineChannel, LineError, excerpt};
use super::process::{Process, lock};

/// The maximum length of a line: far more than any reply.
const LONGEST: usize = 64 * 1024;
/// The maximum number of accesses under way. Their text and their replies fit a socket's buffer, so
/// that neither side waits for the other to read.
const IN_FLIGHT: usize = 64;
/// The maximum number of raised lines that are kept.
const MOST_RAISED: usize = 64 * 1024;

/// One qtest command whose answer is a number, or empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QtestCommand {
    /// Reads 32 bits.
    Read32(u64),
    /// Reads 64 bits.
    Read64(u64),
    /// Writes 32 bits.
    Write32(u64, u32),
    /// Writes 64 bits.
    Write64(u64, u64),
    /// Lets this many nanoseconds of virtual time pass.
    ClockStep(u64),
}

impl QtestCommand {
    fn write(self, out: &mut String) {
        // Writing to a string cannot fail.
        let _ = match self {
            Self::Read32(a) => writeln!(out, "readl {a:#x}"),
            Self::Read64(a) => writeln!(out, "readq {a:#x}"),
            Self::Write32(a, v) => writeln!(out, "writel {a:#x} {v:#x}"),
            Self::Write64(a, v) => writeln!(out, "writeq {a:#x} {v:#x}"),
            Self::ClockStep(ns) => writeln!(out, "clock_step {ns}"),
        };
    }

    fn text(self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text.truncate(text.trim_end().len());
        text
    }

    fn answer(self, payload: &str) -> Option<u64> {
        match self {
            Self::Read32(_) | Self::Read64(_) => {
                u64::from_str_radix(payload.strip_prefix("0x")?, 16).ok()
            }
            Self::Write32(..) | Self::Write64(..) | Self::ClockStep(_) => Some(0),
        }
    }
}

/// The client of one machine's qtest channel. All methods take `&self`. A lock orders the commands
/// of several threads.
///
/// The caller must know that an address is right. QEMU answers `OK` to *any* access: also if no
/// device decodes it (a read returns 0), and if the device refuses the width.
///
/// After a failure of the channel, every later call returns the same error at once. Failures are
/// the end of QEMU, a time-out and an unknown answer. The meaning of later lines would be a guess.
pub struct Qtest {
    process: Arc<Process>,
    state: Mutex<QtestState>,
}

struct QtestState {
    channel: LineChannel,
    out: String,
    raised: Vec<u32>,
    failed: Option<QemuError>,
}

enum Reply {
    Number(u64),
    Refused(String),
}

impl Qtest {
    pub(super) fn new(
        stream: UnixStream,
        process: Arc<Process>,
        timeout: Duration,
    ) -> Result<Self, QemuError> {
        let channel = LineChannel::new(stream, LONGEST, timeout)
            .map_err(QemuError::system("set the time-out of the qtest channel"))?;
        Ok(Self {
            process,
            state: Mutex::new(QtestState {
                channel,
                out: String::new(),
                raised: Vec::new(),
                failed: None,
            }),
        })
    }

    /// The failure of the channel, if it has failed.
    #[must_use]
    pub fn failure(&self) -> Option<QemuError> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failed.clone()
    }

    /// Reads 32 bits at a physical address.
    pub fn readl(&self, address: u64) -> Result<u32, QemuError> {
        // QEMU returns the value of a narrow read in 64 bits; the upper ones are zero.
        self.one(QtestCommand::Read32(address)).map(|value| value as u32)
    }

    /// Reads 64 bits at a physical address.
    pub fn readq(&self, address: u64) -> Result<u64, QemuError> {
        self.one(QtestCommand::Read64(address))
    }

    /// Writes 32 bits at a physical address.
    pub fn writel(&self, address: u64, value: u32) -> Result<(), QemuError> {
        self.one(QtestCommand::Write32(address, value)).map(drop)
    }

    /// Writes 64 bits at a physical address.
    pub fn writeq(&self, address: u64, value: u64) -> Result<(), QemuError> {
        self.one(QtestCommand::Write64(address, value)).map(drop)
    }

    /// Lets virtual time pass. The timers that fall due in it fire.
    pub fn clock_step(&self, nanoseconds: u64) -> Result<(), QemuError> {
        self.one(QtestCommand::ClockStep(nanoseconds)).map(drop)
    }

    /// Runs accesses in order, several under way at a time. No command of another thread comes
    /// between them. The answers have the indices of their accesses; a write has 0.
    ///
    /// If QEMU refuses an access, it still carries out the others. The error is the first refusal.
    pub fn run(&self, accesses: &[QtestCommand]) -> Result<Vec<u64>, QemuError> {
        let mut answers = vec![0; accesses.len()];
        self.exchange(accesses, &mut answers)?;
        Ok(answers)
    }

    /// Makes QEMU report the input lines of the device at a QOM path, instead of acting on them.
    /// Call it once per QEMU only.
    pub fn irq_intercept_in(&self, path: &str) -> Result<(), QemuError> {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        state.usable()?;
        state.out.clear();
        let _ = writeln!(state.out, "irq_intercept_in {path}");
        let text = state.out.trim_end().to_owned();
        let reply = state
            .send()
            .and_then(|()| state.reply(|_| Some(0)))
            .map_err(|error| state.fail(&self.process, &text, error))?;
        match reply {
            Reply::Number(_) => Ok(()),
            Reply::Refused(reason) => Err(refused(text, reason)),
        }
    }

    /// The intercepted lines that were raised since the last call, in order. QEMU reports a line
    /// before it answers the command that raised it.
    ///
    /// The client keeps 65,536 lines at most, and drops further ones until the next call.
    pub fn take_raised(&self) -> Vec<u32> {
        std::mem::take(&mut lock(&self.state).raised)
    }

    fn one(&self, access: QtestCommand) -> Result<u64, QemuError> {
        let mut answer = [0];
        self.exchange(&[access], &mut answer)?;
        Ok(answer[0])
    }

    fn exchange(&self, accesses: &[QtestCommand], answers: &mut [u64]) -> Result<(), QemuError> {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        state.usable()?;
        let mut refusal = None;
        let all = accesses.chunks(IN_FLIGHT).zip(answers.chunks_mut(IN_FLIGHT));
        for (accesses, answers) in all {
            state.out.clear();
            for access in accesses {
                access.write(&mut state.out);
            }
            if let Err(error) = state.send() {
                let text = accesses.first().map(|a| a.text()).unwrap_or_default();
                return Err(state.fail(&self.process, &text, error));
            }
            for (access, answer) in accesses.iter().zip(answers) {
                match state.reply(|payload| access.answer(payload)) {
                    Ok(Reply::Number(value)) => *answer = value,
                    Ok(Reply::Refused(reason)) => {
                        refusal.get_or_insert_with(|| refused(access.text(), reason));
                    }
                    Err(error) => return Err(state.fail(&self.process, &access.text(), error)),
                }
            }
        }
        refusal.map_or(Ok(()), Err)
    }
}

fn refused(command: String, text: String) -> QemuError {
    QemuError::QtestRefused { command, text }
}

impl QtestState {
    fn usable(&self) -> Result<(), QemuError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn send(&mut self) -> Result<(), LineError> {
        self.channel.send(self.out.as_bytes())
    }

    /// The reply to the oldest command under way.
    fn reply(&mut self, number: impl FnOnce(&str) -> Option<u64>) -> Result<Reply, LineError> {
        let deadline = Instant::now() + self.channel.timeout();
        loop {
            let line = self.channel.line(deadline)?;
            let garbage = || LineError::Garbage(excerpt(line.as_bytes()));
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "OK" => return number(rest).map(Reply::Number).ok_or_else(garbage),
                "FAIL" => return Ok(Reply::Refused(rest.to_owned())),
                "IRQ" => {
                    let (what, line) = rest.split_once(' ').ok_or_else(garbage)?;
                    let line = line.parse().map_err(|_| garbage())?;
                    if what == "raise" && self.raised.len() < MOST_RAISED {
                        self.raised.push(line);
                    }
                }
                _ => return Err(garbage()),
            }
        }
    }

    fn fail(&mut self, process: &Process, doing: &str, error: LineError) -> QemuError {
        let limit = self.channel.timeout();
        let error = process.explain(Channel::Qtest, doing, limit, error);
        self.failed = Some(error.clone());
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_as_the_protocol_spells_them() {
        assert_eq!(QtestCommand::Read32(0xc00_0000).text(), "readl 0xc000000");
        assert_eq!(QtestCommand::Read64(0x20).text(), "readq 0x20");
        assert_eq!(QtestCommand::Write32(4, 6).text(), "writel 0x4 0x6");
        assert_eq!(QtestCommand::Write64(8, 1 << 62).text(), "writeq 0x8 0x4000000000000000");
        assert_eq!(QtestCommand::ClockStep(100).text(), "clock_step 100");
    }

    #[test]
    fn answers() {
        let read = QtestCommand::Read64(0);
        assert_eq!(read.answer("0x000000000d44101b"), Some(0xd44_101b));
        assert_eq!(read.answer("12"), None);
        assert_eq!(read.answer(""), None);
        assert_eq!(QtestCommand::Write32(0, 0).answer(""), Some(0));
        assert_eq!(QtestCommand::ClockStep(5).answer("5"), Some(0));
    }
}
