//! The host's messages, byte by byte: command lines, and the texts of scenarios.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::mem;

use serde::Serialize;
use smmu_engine::run::Sabotage;

/// The host sends no more than these bytes before an acknowledgement: what the FIFO of a UART holds.
pub const PIECE: usize = 16;
/// The most that a host may choose instead, for the text of a scenario.
pub const LARGEST_PIECE: usize = 4096;
/// The longest command line.
pub const LONGEST_LINE: usize = 200;
/// The longest text of a scenario.
pub const LONGEST_TEXT: usize = 64 << 10;

/// A scenario that the host wants to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its name.
    pub name: String,
    /// How to break the driver.
    pub sabotage: Option<Sabotage>,
    /// The prepared scenario, whose checksum was right.
    pub text: String,
}

/// What came of a byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing yet.
    Nothing,
    /// A piece of a message is complete: the host waits for its acknowledgement.
    Piece,
    /// `hello`: the host wants the banner.
    Hello,
    /// `quit`: the host wants the program to end.
    Quit,
    /// A `run` line is accepted: the host may send the text.
    Text,
    /// A scenario is complete.
    Run(Request),
    /// The message is refused. What follows of it is dropped.
    Refused(Refusal),
}

/// Why a message is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Refusal {
    /// The line is no command.
    #[error("no command is called {word:?}; write hello, run or quit")]
    UnknownCommand {
        /// Its first word.
        word: String,
    },
    /// The line is too long.
    #[error("a command line has at most {LONGEST_LINE} bytes")]
    LongLine,
    /// A `run` line is wrong.
    #[error("{what} is missing or wrong; write run NAME BYTES CRC32 [sabotage=HOW] [piece=BYTES]")]
    WrongRun {
        /// Which part.
        what: &'static str,
    },
    /// The scenario is too long.
    #[error("a scenario has at most {LONGEST_TEXT} bytes")]
    LongText,
    /// The checksum of the text differs.
    #[error("the text has the checksum {computed:08x}, not {announced:08x}")]
    Checksum {
        /// What the `run` line says.
        announced: u32,
        /// What came.
        computed: u32,
    },
    /// A message is not UTF-8.
    #[error("the message is not UTF-8")]
    NoText,
    /// A byte is lost.
    #[error(
        "a byte is lost on the line; send no more than {PIECE} bytes without an acknowledgement"
    )]
    LostByte,
    /// The message has stopped in the middle.
    #[error("the message ends after {bytes} bytes")]
    Cut {
        /// How many have come.
        bytes: usize,
    },
    /// The text is no scenario.
    #[error("{message}")]
    Scenario {
        /// What is wrong, and where.
        message: String,
    },
}

#[derive(Debug)]
enum State {
    Line,
    Text {
        request: Request,
        bytes: usize,
        crc: u32,
        piece: usize,
    },
    /// After a refusal: until the line is silent.
    Drop,
}

/// Takes the bytes of a host.
#[derive(Debug)]
pub struct Receiver {
    state: State,
    bytes: Vec<u8>,
}

impl Receiver {
    /// Before the first message.
    #[must_use]
    pub const fn new() -> Self {
        Receiver { state: State::Line, bytes: Vec::new() }
    }

    /// Takes a byte.
    pub fn byte(&mut self, byte: u8) -> Received {
        let received = match &self.state {
            State::Drop => return Received::Nothing,
            State::Line if byte == b'\n' => self.line(),
            State::Line if self.bytes.len() == LONGEST_LINE => Err(Refusal::LongLine),
            State::Line => {
                self.bytes.push(byte);
                Ok(self.piece(PIECE))
            }
            State::Text { bytes, piece, .. } => {
                let (bytes, piece) = (*bytes, *piece);
                self.bytes.push(byte);
                if self.bytes.len() == bytes { self.text() } else { Ok(self.piece(piece)) }
            }
        };
        received.unwrap_or_else(|refusal| self.refuse(refusal))
    }

    /// A byte is lost, or disturbed.
    pub fn lost(&mut self) -> Received {
        match self.state {
            State::Drop => Received::Nothing,
            _ => self.refuse(Refusal::LostByte),
        }
    }

    /// Whether a message is incomplete, or its rest is dropped: then a silence matters.
    #[must_use]
    pub const fn expects_more(&self) -> bool {
        !matches!(self.state, State::Line) || !self.bytes.is_empty()
    }

    /// Whether the rest of a refused message is dropped.
    #[must_use]
    pub const fn drops(&self) -> bool {
        matches!(self.state, State::Drop)
    }

    /// The line was silent in the middle of a message. Returns the refusal of a message that is cut.
    pub fn silence(&mut self) -> Received {
        match self.state {
            State::Drop => {
                self.state = State::Line;
                Received::Nothing
            }
            _ if self.expects_more() => self.refuse(Refusal::Cut { bytes: self.bytes.len() }),
            _ => Received::Nothing,
        }
    }

    fn piece(&self, piece: usize) -> Received {
        if self.bytes.len().is_multiple_of(piece) { Received::Piece } else { Received::Nothing }
    }

    fn refuse(&mut self, refusal: Refusal) -> Received {
        self.bytes.clear();
        self.state = State::Drop;
        Received::Refused(refusal)
    }

    fn line(&mut self) -> Result<Received, Refusal> {
        let line = mem::take(&mut self.bytes);
        let line = str::from_utf8(&line).map_err(|_| Refusal::NoText)?;
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            None => Ok(Received::Nothing),
            Some("hello") => Ok(Received::Hello),
            Some("quit") => Ok(Received::Quit),
            Some("run") => {
                let (request, bytes, crc, piece) = run_line(words)?;
                // Reserved at once, so that no allocation delays the next byte.
                self.bytes.reserve_exact(bytes);
                self.state = State::Text { request, bytes, crc, piece };
                Ok(Received::Text)
            }
            Some(word) => Err(Refusal::UnknownCommand { word: word.chars().take(20).collect() }),
        }
    }

    fn text(&mut self) -> Result<Received, Refusal> {
        let bytes = mem::take(&mut self.bytes);
        let State::Text { mut request, crc, .. } = mem::replace(&mut self.state, State::Line)
        else {
            return Ok(Received::Nothing);
        };
        let computed = crc32fast::hash(&bytes);
        if computed != crc {
            return Err(Refusal::Checksum { announced: crc, computed });
        }
        request.text = String::from_utf8(bytes).map_err(|_| Refusal::NoText)?;
        Ok(Received::Run(request))
    }
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new()
    }
}

fn run_line<'a>(
    mut words: impl Iterator<Item = &'a str>,
) -> Result<(Request, usize, u32, usize), Refusal> {
    let wrong = |what| Refusal::WrongRun { what };
    let name = words.next().ok_or(wrong("NAME"))?.to_string();
    let bytes = words.next().and_then(|bytes| bytes.parse().ok()).ok_or(wrong("BYTES"))?;
    if bytes > LONGEST_TEXT {
        return Err(Refusal::LongText);
    }
    if bytes == 0 {
        return Err(wrong("BYTES"));
    }
    let crc = words.next().filter(|crc| crc.len() == 8 && !crc.starts_with('+'));
    let crc = crc.and_then(|crc| u32::from_str_radix(crc, 16).ok()).ok_or(wrong("CRC32"))?;
    let (mut sabotage, mut piece) = (None, PIECE);
    for option in words {
        match option.split_once('=') {
            Some(("sabotage", how)) => {
                sabotage = Some(Sabotage::named(how).ok_or(wrong("sabotage"))?);
            }
            Some(("piece", bytes)) => {
                let bytes = bytes.parse().ok();
                let bytes = bytes.filter(|bytes| (PIECE..=LARGEST_PIECE).contains(bytes));
                piece = bytes.ok_or(wrong("piece"))?;
            }
            _ => return Err(wrong("an option")),
        }
    }
    Ok((Request { name, sabotage, text: String::new() }, bytes, crc, piece))
}

#[cfg(test)]
mod tests;
