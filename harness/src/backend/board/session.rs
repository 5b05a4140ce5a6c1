//! The conversation with the program on a board. `harness/board/README.md` has the protocol.

use std::time::Duration;

use serde::Deserialize;
use smmu_engine::run::{RunReport, Sabotage};

use super::link::{Link, LinkError, excerpt};

const VERSION: &str = "2";
/// The start of a banner.
const GREETING: &str = "smmu-board ";
/// How often a message is sent that the line has damaged.
const TRIES: usize = 3;
/// Lines before the banner: those of boot loaders.
const MOST_BOOT_LINES: usize = 10_000;
/// After `hello`, a target that has just started may greet twice.
const SECOND_GREETING: Duration = Duration::from_millis(300);
/// How often a target is asked that may be dropping the rest of a message.
const HELLOS: usize = 10;
/// How long it has to answer each time.
const HELLO_PATIENCE: Duration = Duration::from_secs(1);
const LONGEST_NAME: usize = 64;

/// Why there is no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SessionError {
    /// The target is silent.
    #[error("the board was silent for {seconds} s while it was to {doing}{rest}", seconds = .limit.as_secs_f64())]
    Silent {
        /// What it was to do.
        doing: &'static str,
        /// The limit.
        limit: Duration,
        /// The part of a line that came, if any.
        rest: String,
    },
    /// The program on the board has stopped with an exception, a panic or an error.
    #[error("the program on the board stopped: {0}")]
    Stopped(String),
    /// The line is closed.
    #[error("the line to the board is closed")]
    Closed,
    /// The target prints what it may not.
    #[error("the board sent a wrong line while it was to {doing}: {line}")]
    Wrong {
        /// What it was to do.
        doing: &'static str,
        /// The line, or what is wrong with it.
        line: String,
    },
    /// The target does not take the scenario.
    #[error("the board refuses the scenario: {0}")]
    Refused(String),
    /// The system's error.
    #[error("the line to the board: {0}")]
    System(String),
}

/// What the target tells of itself.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Banner {
    pub(super) describe: String,
    pub(super) offers: Vec<String>,
    piece: usize,
    largest_piece: usize,
    longest: usize,
}

#[derive(Deserialize)]
struct Refusal {
    reason: String,
}

/// Who speaks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// The target starts now.
    Wait,
    /// It may run already.
    Ask,
}

/// Whether the line loses bytes that the target does not take at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// It may: a UART.
    Free,
    /// It keeps them: a UART that QEMU models.
    Controlled,
}

/// The last step that began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LastStep {
    pub(super) number: usize,
    pub(super) text: Option<String>,
}

/// A target that has greeted.
pub(super) struct Session {
    link: Link,
    pub(super) banner: Banner,
    silence: Duration,
    flow: Flow,
    pub(super) last_step: LastStep,
}

impl Session {
    /// Waits for the banner of the target.
    pub(super) fn greet(
        mut link: Link,
        (greeting, flow): (Greeting, Flow),
        silence: Duration,
    ) -> Result<Self, SessionError> {
        const DOING: &str = "greet";
        if greeting == Greeting::Ask {
            link.send(b"\nhello\n").map_err(|error| failed(&link, error, DOING, silence))?;
        }
        let mut banner = None;
        for _ in 0..MOST_BOOT_LINES {
            let line = match link.line(silence) {
                Ok(line) => line,
                // A boot loader may print anything.
                Err(LinkError::NoLine(_)) => continue,
                Err(error) => return Err(failed(&link, error, DOING, silence)),
            };
            if let Some(why) = stopped(&line) {
                return Err(SessionError::Stopped(why));
            }
            if let Some(rest) = line.strip_prefix(GREETING) {
                banner = Some(parse_banner(rest)?);
            } else if line == "ready"
                && let Some(banner) = banner.take()
            {
                if greeting == Greeting::Ask {
                    while link.line(SECOND_GREETING).is_ok() {}
                }
                return Ok(Session { link, banner, silence, flow, last_step: LastStep::default() });
            }
        }
        let line = "no banner within the first lines".to_owned();
        Err(SessionError::Wrong { doing: DOING, line })
    }

    /// Runs a scenario on the target. A message that the line has damaged is sent again.
    pub(super) fn run(
        &mut self,
        name: &str,
        text: &str,
        sabotage: Option<Sabotage>,
    ) -> Result<RunReport, SessionError> {
        self.last_step = LastStep::default();
        if text.len() > self.banner.longest {
            let (bytes, longest) = (text.len(), self.banner.longest);
            let why = format!("it has {bytes} bytes, and the board takes {longest}");
            return Err(SessionError::Refused(why));
        }
        let name: String = name
            .chars()
            .take(LONGEST_NAME)
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
            .collect();
        let name = if name.is_empty() { "unnamed" } else { &name };
        let mut head =
            format!("run {name} {} {:08x}", text.len(), crc32fast::hash(text.as_bytes()));
        if let Some(sabotage) = sabotage {
            head += &format!(" sabotage={}", sabotage.name());
        }
        if self.flow == Flow::Controlled {
            head += &format!(" piece={}", self.banner.largest_piece);
        }
        head.push('\n');
        for last in (0..TRIES).rev() {
            match self.attempt(&head, text)? {
                Ok(report) => return Ok(report),
                Err(refused) => {
                    let reason = serde_json::Deserializer::from_str(&refused)
                        .into_iter::<Refusal>()
                        .next()
                        .and_then(Result::ok)
                        .map_or_else(String::new, |refusal| refusal.reason);
                    // No other text gets another answer. Every other refusal comes of bytes that this
                    // program has not sent so, or has sent too late.
                    let of_the_text = ["scenario", "long-text"].contains(&&*reason);
                    self.start_over()?;
                    if of_the_text || last == 0 {
                        return Err(SessionError::Refused(refused));
                    }
                }
            }
        }
        Err(SessionError::Refused(String::new()))
    }

    /// Ends the program on the target.
    pub(super) fn quit(&mut self) {
        let _ = self.link.send(b"quit\n");
        // The line `bye`, or whatever comes: the program is over in any case.
        let _ = self.link.line(Duration::from_secs(1));
    }

    /// Brings both ends to the start of a message.
    ///
    /// A target that has refused a message drops what comes of it, until the line is silent. On a
    /// busy host a piece can arrive later still, and then the target takes it for a new message. So
    /// this asks until the target greets: it has then read, and answered, all that was sent before.
    fn start_over(&mut self) -> Result<(), SessionError> {
        const DOING: &str = "drop the rest of a message";
        let patience = HELLO_PATIENCE.min(self.silence);
        for _ in 0..HELLOS {
            // A line end first: what the target has of a line is a line then.
            let sent = self.link.send(b"\nhello\n");
            sent.map_err(|error| failed(&self.link, error, DOING, self.silence))?;
            let mut greeted = false;
            loop {
                match self.link.line(patience) {
                    Ok(line) => match stopped(&line) {
                        Some(why) => return Err(SessionError::Stopped(why)),
                        None if line.starts_with(GREETING) => greeted = true,
                        None if greeted && line == "ready" => return Ok(()),
                        // The answers to what was sent before.
                        None => {}
                    },
                    Err(LinkError::Silent) => break,
                    Err(error) => return Err(failed(&self.link, error, DOING, self.silence)),
                }
            }
        }
        Err(failed(&self.link, LinkError::Silent, DOING, patience * HELLOS as u32))
    }

    /// Sends a scenario once. Returns the report, or a refusal.
    fn attempt(
        &mut self,
        head: &str,
        text: &str,
    ) -> Result<Result<RunReport, String>, SessionError> {
        if let Some(refused) = self.message(head.as_bytes(), self.banner.piece)? {
            return Ok(Err(refused));
        }
        if let Some(refused) = self.until("text", "accept a scenario")? {
            return Ok(Err(refused));
        }
        let piece = match self.flow {
            Flow::Free => self.banner.piece,
            Flow::Controlled => self.banner.largest_piece,
        };
        if let Some(refused) = self.message(text.as_bytes(), piece)? {
            return Ok(Err(refused));
        }
        const DOING: &str = "run a scenario";
        let line = self.next(DOING)?;
        if let Some(refused) = line.strip_prefix("refused ") {
            return Ok(Err(refused.to_owned()));
        }
        let Some(rest) = line.strip_prefix("report ") else {
            return Err(wrong(DOING, &line));
        };
        let report =
            parse_report(rest).map_err(|line| SessionError::Wrong { doing: "report", line })?;
        self.until("ready", "end a report")?;
        Ok(Ok(report))
    }

    /// Sends a message, no faster than the target takes it. Returns a refusal.
    fn message(&mut self, bytes: &[u8], piece: usize) -> Result<Option<String>, SessionError> {
        const DOING: &str = "take a message";
        let mut pieces = bytes.chunks(piece).peekable();
        while let Some(piece) = pieces.next() {
            let sent = self.link.send(piece);
            sent.map_err(|error| failed(&self.link, error, DOING, self.silence))?;
            // The answer to the whole message acknowledges its end.
            if pieces.peek().is_some()
                && let Some(refused) = self.until("+", DOING)?
            {
                return Ok(Some(refused));
            }
        }
        Ok(None)
    }

    /// Waits for a line. Returns a refusal.
    fn until(&mut self, wanted: &str, doing: &'static str) -> Result<Option<String>, SessionError> {
        let mut line = self.next(doing)?;
        // The answers to further `hello`s of `start_over`.
        while wanted != "ready" && (line.starts_with(GREETING) || line == "ready") {
            line = self.next(doing)?;
        }
        match line.strip_prefix("refused ") {
            _ if line == wanted => Ok(None),
            Some(refused) => Ok(Some(refused.to_owned())),
            None => Err(wrong(doing, &line)),
        }
    }

    /// The next line that is no comment.
    fn next(&mut self, doing: &'static str) -> Result<String, SessionError> {
        loop {
            let line = self.link.line(self.silence);
            let line = line.map_err(|error| failed(&self.link, error, doing, self.silence))?;
            if let Some(why) = stopped(&line) {
                return Err(SessionError::Stopped(why));
            }
            if let Some(step) = line.strip_prefix("# step ") {
                if let Some((number, text)) = step.split_once(' ')
                    && let Ok(number) = number.parse()
                {
                    self.last_step = LastStep { number, text: Some(text.to_owned()) };
                }
            } else if !line.starts_with('#') {
                return Ok(line);
            }
        }
    }
}

/// What a line says, if it is the last one of the program.
fn stopped(line: &str) -> Option<String> {
    let why = line.strip_prefix("!! ").or_else(|| line.strip_prefix("FAIL: "));
    why.map(str::to_owned)
}

fn wrong(doing: &'static str, line: &str) -> SessionError {
    SessionError::Wrong { doing, line: format!("\"{}\"", excerpt(line.as_bytes())) }
}

fn failed(link: &Link, error: LinkError, doing: &'static str, limit: Duration) -> SessionError {
    match error {
        LinkError::Silent => {
            let rest = link.rest().map_or_else(String::new, |rest| format!(", after \"{rest}\""));
            SessionError::Silent { doing, limit, rest }
        }
        LinkError::Closed => SessionError::Closed,
        LinkError::NoLine(line) => SessionError::Wrong { doing, line: format!("\"{line}\"") },
        LinkError::System(error) => SessionError::System(error),
    }
}

fn parse_banner(rest: &str) -> Result<Banner, SessionError> {
    let wrong = |line: String| SessionError::Wrong { doing: "greet", line };
    let (version, json) = rest.split_once(' ').unwrap_or((rest, ""));
    if version != VERSION {
        let message = format!(
            "version {version:?} of the protocol, and this program speaks {VERSION}; build the \
             image anew"
        );
        return Err(wrong(message));
    }
    let banner: Banner = serde_json::from_str(json).map_err(|error| wrong(error.to_string()))?;
    if banner.piece == 0 || banner.largest_piece == 0 {
        return Err(wrong("a message in pieces of 0 bytes".to_owned()));
    }
    Ok(banner)
}

/// A report, if its length and its checksum are right.
fn parse_report(rest: &str) -> Result<RunReport, String> {
    let mut parts = rest.splitn(3, ' ');
    let bytes = parts.next().and_then(|bytes| bytes.parse::<usize>().ok());
    let crc = parts.next().and_then(|crc| u32::from_str_radix(crc, 16).ok());
    let (Some(bytes), Some(crc), Some(json)) = (bytes, crc, parts.next()) else {
        return Err(format!("\"report {}\"", excerpt(rest.as_bytes())));
    };
    if json.len() != bytes {
        return Err(format!("a report of {} bytes, which says {bytes}", json.len()));
    }
    let computed = crc32fast::hash(json.as_bytes());
    if computed != crc {
        return Err(format!("a report with the checksum {computed:08x}, which says {crc:08x}"));
    }
    serde_json::from_str(json).map_err(|error| format!("a report that is none: {error}"))
}

#[cfg(test)]
mod tests;
