//! The conversation with a host, in lines. README.md has the protocol.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use serde::Serialize;
use smmu_engine::machine::{Backend, Need};
use smmu_engine::run::{RunOptions, RunReport, run};
use smmu_engine::scenario::Scenario;

use super::receiver::{LARGEST_PIECE, LONGEST_TEXT, PIECE, Received, Receiver, Refusal, Request};

/// The version of the protocol.
pub const VERSION: u32 = 2;

/// A message that stops for so long is cut.
const PATIENCE: Duration = Duration::from_secs(2);
/// After a refusal, the rest of the message has come when the line is silent for so long.
const REST: Duration = Duration::from_millis(50);

/// What is wrong with the line to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFault {
    /// A byte is lost, or disturbed.
    Lost,
    /// The host has closed the line.
    Closed,
}

/// The line to a host.
pub trait HostLine {
    /// A byte that has come, if one has. It waits for less than 50 ms, or not at all.
    ///
    /// # Errors
    ///
    /// A byte is lost, or the line is closed.
    fn read(&mut self) -> Result<Option<u8>, LineFault>;

    /// Prints one line.
    fn print(&mut self, line: fmt::Arguments<'_>);

    /// A clock, for silences.
    fn now(&self) -> Duration;
}

/// What the target tells of itself.
#[derive(Debug, Serialize)]
struct Banner<'a> {
    describe: String,
    /// What scenarios may need of it.
    offers: Vec<&'static str>,
    piece: usize,
    largest_piece: usize,
    longest: usize,
    /// What a person should know.
    notes: &'a [String],
}

/// Serves a host until it says `quit`, or closes the line.
pub fn serve(backend: &dyn Backend, notes: &[String], line: &mut dyn HostLine) {
    let mut receiver = Receiver::new();
    greet(backend, notes, line);
    let mut heard = line.now();
    loop {
        let received = match line.read() {
            Ok(Some(byte)) => {
                heard = line.now();
                receiver.byte(byte)
            }
            Ok(None) if !receiver.expects_more() => continue,
            Ok(None) => {
                let limit = if receiver.drops() { REST } else { PATIENCE };
                if line.now().saturating_sub(heard) < limit {
                    continue;
                }
                heard = line.now();
                let dropped = receiver.drops();
                let received = receiver.silence();
                if dropped {
                    line.print(format_args!("ready"));
                }
                received
            }
            Err(LineFault::Closed) => return,
            Err(LineFault::Lost) => {
                heard = line.now();
                receiver.lost()
            }
        };
        match received {
            Received::Nothing => {}
            Received::Piece => line.print(format_args!("+")),
            Received::Hello => greet(backend, notes, line),
            Received::Quit => {
                line.print(format_args!("bye"));
                return;
            }
            Received::Text => line.print(format_args!("text")),
            Received::Run(request) => {
                match carry_out(backend, &request) {
                    Ok(report) => send(&report, line),
                    Err(refusal) => refuse(&refusal, line),
                }
                line.print(format_args!("ready"));
                heard = line.now();
            }
            // `ready` comes when its rest has come.
            Received::Refused(refusal) => refuse(&refusal, line),
        }
    }
}

fn greet(backend: &dyn Backend, notes: &[String], line: &mut dyn HostLine) {
    let offers = Need::ALL.iter().filter(|need| backend.offers(**need)).map(|need| need.name());
    let banner = Banner {
        describe: backend.describe(),
        offers: offers.collect(),
        piece: PIECE,
        largest_piece: LARGEST_PIECE,
        longest: LONGEST_TEXT,
        notes,
    };
    line.print(format_args!("smmu-board {VERSION} {}", json(&banner)));
    line.print(format_args!("ready"));
}

fn carry_out(backend: &dyn Backend, request: &Request) -> Result<RunReport, Refusal> {
    let Request { name, sabotage, text } = request;
    let scenario = Scenario::from_prepared(name, text)
        .map_err(|error| Refusal::Scenario { message: error.to_string() })?;
    Ok(run(&scenario, backend, RunOptions { sabotage: *sabotage }))
}

fn send(report: &RunReport, line: &mut dyn HostLine) {
    let json = json(report);
    let crc = crc32fast::hash(json.as_bytes());
    line.print(format_args!("report {} {crc:08x} {json}", json.len()));
}

fn refuse(refusal: &Refusal, line: &mut dyn HostLine) {
    line.print(format_args!("refused {} {refusal}", json(refusal)));
}

/// Text of JSON has no line end.
fn json(value: &impl Serialize) -> String {
    // Fails only for maps whose keys are no strings.
    serde_json::to_string(value).unwrap_or_default()
}
