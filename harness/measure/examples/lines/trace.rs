//! The trace of `lackey`: a line for each access, with its address and its size.

use std::error::Error;
use std::fmt::Write;

/// An address, and the bytes from there on.
type Place = (usize, usize);

/// Where the queue and what belongs to it lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) queue: Place,
    pub(crate) ring: Place,
    /// A part of the queue that stands for registers of a device.
    pub(crate) registers: Place,
    /// A word that is stored before and behind each call.
    pub(crate) mark: Place,
}

/// An access to a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) line: usize,
    pub(crate) stores: bool,
}

const LINE: usize = 64;

fn holds((start, size): Place, address: usize) -> bool {
    address.wrapping_sub(start) < size
}

impl Places {
    /// A line of numbers.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (start, size) in [self.queue, self.ring, self.registers, self.mark] {
            let _ = write!(text, "{start} {size} ");
        }
        text
    }

    /// What [`text`](Self::text) wrote.
    pub(crate) fn read(text: &str) -> Result<Self, Box<dyn Error>> {
        let numbers: Vec<usize> =
            text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [a, b, c, d, e, f, g, h] = numbers[..] else {
            return Err(format!("8 numbers were expected, not {text:?}").into());
        };
        Ok(Places { queue: (a, b), ring: (c, d), registers: (e, f), mark: (g, h) })
    }

    fn counts(&self, address: usize) -> bool {
        holds(self.ring, address) || holds(self.queue, address) && !holds(self.registers, address)
    }
}

/// The accesses of each call that count, in order.
pub(crate) fn calls(trace: &str, places: &Places) -> Vec<Vec<Access>> {
    let (mut calls, mut inside) = (Vec::new(), false);
    for line in trace.lines() {
        let Some((kind, address)) = parse(line) else { continue };
        if holds(places.mark, address) {
            // An exchange is a load and a store.
            if kind != Kind::Load {
                inside = !inside;
                if inside {
                    calls.push(Vec::new());
                }
            }
            continue;
        }
        if let Some(call) = calls.last_mut().filter(|_| inside && places.counts(address)) {
            call.push(Access { line: address / LINE, stores: kind != Kind::Load });
        }
    }
    calls
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Load,
    Store,
    Modify,
}

fn parse(line: &str) -> Option<(Kind, usize)> {
    let (kind, rest) = line.trim_start().split_once(' ')?;
    let kind = match kind {
        "L" => Kind::Load,
        "S" => Kind::Store,
        "M" => Kind::Modify,
        _ => return None,
    };
    let (address, _) = rest.trim().split_once(',')?;
    Some((kind, usize::from_str_radix(address, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_the_accesses_between_two_marks_that_count() {
        let places = Places {
            queue: (0x1000, 0x100),
            ring: (0x2000, 0x100),
            registers: (0x1040, 0x40),
            mark: (0x3000, 8),
        };
        assert_eq!(Places::read(&places.text()).unwrap(), places);
        assert!(Places::read("1 2").is_err());
        let trace = "==1== Lackey\nI  04000000,3\n S 1000,8\n L 3000,8\n S 3000,8\n L 1008,8\n \
                     S 1048,4\n M 10f8,8\n S 2040,8\n L 9000,8\n S 3000,8\n L 1000,8\n S 3000,8\n";
        let access = |line, stores| Access { line, stores };
        let first = vec![access(0x40, false), access(0x43, true), access(0x81, true)];
        assert_eq!(calls(trace, &places), [first, vec![]]);
    }
}
