//! Commands as the words of a queue, for the seam to command queues.

use core::ops::Deref;

use crate::{Command, RawCommand};

/// At most [`MAX`](Self::MAX) commands as the words of a queue.
///
/// A caller that sends the same command for many tags encodes it once, and puts each tag in its
/// place. A queue copies the words. So no command is encoded while the queue fills its slots.
///
/// [`decoded`](Self::decoded) gives a sink that works with [`Command`]s the same batch, typed. The
/// bound is that of its buffer.
///
/// ```
/// use smmu_types::seam::EncodedBatch;
/// use smmu_types::{Command, Vmid};
///
/// let command = Command::TlbiNhAll { vmid: Vmid(7) };
/// let words = [command.encode()];
/// let batch = EncodedBatch::new(&words).unwrap();
/// assert_eq!(batch.len(), 1);
/// batch.decoded(|commands| assert_eq!(commands, [command]));
/// assert!(EncodedBatch::new(&[words[0]; EncodedBatch::MAX + 1]).is_none());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct EncodedBatch<'a>(&'a [RawCommand]);

impl<'a> EncodedBatch<'a> {
    /// The most commands of a batch.
    pub const MAX: usize = 64;

    /// A batch of these commands. `None` for more than [`MAX`](Self::MAX).
    #[must_use]
    #[inline]
    pub const fn new(commands: &'a [RawCommand]) -> Option<Self> {
        if commands.len() <= Self::MAX { Some(EncodedBatch(commands)) } else { None }
    }

    /// The batch of one command.
    #[must_use]
    #[inline]
    pub const fn one(command: &'a RawCommand) -> Self {
        EncodedBatch(core::slice::from_ref(command))
    }

    /// The first [`MAX`](Self::MAX) commands, and those behind them.
    #[must_use]
    #[inline]
    pub const fn split(commands: &'a [RawCommand]) -> (Self, &'a [RawCommand]) {
        match commands.split_at_checked(Self::MAX) {
            Some((first, rest)) => (EncodedBatch(first), rest),
            None => (EncodedBatch(commands), &[]),
        }
    }

    /// The commands, for as long as the words live.
    #[must_use]
    #[inline]
    pub const fn words(self) -> &'a [RawCommand] {
        self.0
    }

    /// Calls `f` with the decoded commands.
    ///
    /// [`Command::decode`] loses no bit, so a sink that encodes them again gets the same words. The
    /// commands lie in 2.5 KiB of the caller's stack.
    pub fn decoded<T>(self, f: impl FnOnce(&[Command]) -> T) -> T {
        // A placeholder that is cheap to write.
        let mut commands = [Command::CfgiAll; Self::MAX];
        f(self.decode_into(&mut commands))
    }

    /// Out of line: each sink has several callers.
    #[inline(never)]
    fn decode_into(self, commands: &mut [Command]) -> &[Command] {
        for (command, raw) in commands.iter_mut().zip(self.0) {
            *command = Command::decode(*raw);
        }
        commands.get(..self.0.len()).unwrap_or_default()
    }
}

impl Deref for EncodedBatch<'_> {
    type Target = [RawCommand];

    #[inline]
    fn deref(&self) -> &[RawCommand] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Vmid;

    const fn flush(n: usize) -> Command {
        Command::TlbiNhAll { vmid: Vmid(n as u16) }
    }

    #[test]
    fn a_batch_has_at_most_64_commands() {
        let words: [RawCommand; 65] = core::array::from_fn(|n| flush(n).encode());
        assert!(EncodedBatch::new(&words).is_none());
        for (len, first, rest) in [(0, 0, 0), (1, 1, 0), (64, 64, 0), (65, 64, 1)] {
            let (batch, behind) = EncodedBatch::split(&words[..len]);
            assert_eq!((batch.words(), behind), (&words[..first], &words[first..first + rest]));
            batch.decoded(|typed| {
                assert_eq!(typed.len(), first);
                assert!(typed.iter().enumerate().all(|(n, command)| *command == flush(n)));
            });
        }
    }
}
