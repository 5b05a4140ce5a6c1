//! Decode a dump of a command queue: each command with its fields, and what is no command.
//!
//!     cargo run -p smmu-types --features fields --example decode_queue_dump

use std::fmt;

use smmu_types::queue::{Cmdq, ConsumerRegister, ProducerRegister, QueueSize, QueueState};
use smmu_types::{Command, CommandErrorCode, RawCommand, fields};

/// A queue of 2^3 commands in memory, as a debugger prints it: one command of two 64-bit words a
/// line.
const DUMP: &str = "\
0000000800000003 0000000000000001
0000000000000046 0000000000000000
07cd000000000012 0000000000001001
0000000000000070 0000000000000004
00000000000000ff 0000000000000000";

/// `CMDQ_PROD` and `CMDQ_CONS` at the time of the dump.
const REGISTERS: (u32, u32) = (5, 0x0100_0003);

/// Words that the architecture defines no command for.
#[derive(Debug)]
struct NotACommand(RawCommand);

impl fmt::Display for NotACommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot decode {}: ", self.0)?;
        match fields::opcode_name(self.0.opcode()) {
            Some(name) => write!(f, "{name} with reserved bits or values"),
            None => write!(f, "unknown opcode {:#04x}", self.0.opcode()),
        }
    }
}

impl std::error::Error for NotACommand {}

/// `interpret` decodes as an SMMU does. `decode` also refuses bits that an SMMU ignores.
fn decode(raw: RawCommand) -> Result<Command, NotACommand> {
    match Command::interpret(raw) {
        Command::Unknown(raw) => Err(NotACommand(raw)),
        command => Ok(command),
    }
}

/// One line of the dump.
fn parse(line: &str) -> Result<RawCommand, Box<dyn std::error::Error>> {
    let (first, second) = line.split_once(' ').ok_or("expected two words")?;
    Ok(RawCommand([u64::from_str_radix(first, 16)?, u64::from_str_radix(second, 16)?]))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The registers say which commands the SMMU has not consumed yet, and why it stopped.
    let size = QueueSize::from_log2(3).ok_or("no queue of this size")?;
    let consumer = ConsumerRegister::<Cmdq>::decode(size, REGISTERS.1);
    let state = QueueState::new(ProducerRegister::decode(size, REGISTERS.0), consumer)?;
    println!("{} of {} commands wait", state.used(), size.entries());
    if consumer.error() != CommandErrorCode::NONE {
        println!("CMDQ_CONS.ERR = {} at index {}", consumer.error(), consumer.pointer().index());
    }

    for (index, line) in DUMP.lines().enumerate() {
        let raw = parse(line)?;
        match decode(raw) {
            Ok(command) => println!("{index}: {command}"),
            Err(error) => println!("{index}: {error}"),
        }
        // Every field by name, whether or not the whole is a command.
        let Some(layout) = fields::command(raw.opcode()) else { continue };
        for field in layout.split(&raw.0) {
            match field.meaning() {
                Some(meaning) => println!("     {} = {field}: {meaning}", field.field.name()),
                None => println!("     {} = {field}", field.field.name()),
            }
        }
        // Set bits without a name are often why a command is refused.
        for bits in layout.residue(&raw.0) {
            println!("     bits {}:{} are set and belong to no field", bits.hi, bits.lo);
        }
    }
    Ok(())
}
