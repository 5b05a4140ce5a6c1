//! Named barriers: a loom test leaves one out and shows that the model checker then finds a
//! failure.
//!
//! A crate with atomics lists the orderings that its promises rest on, once, with
//! [`barriers!`](crate::barriers). Without `--cfg loom` every barrier is kept, and the names cost
//! nothing.

/// Defines `Barrier`, the named orderings of one crate, and the functions that apply them.
///
/// Call it in the crate's `sync` module, with `Ordering` and `fence` in scope: those of `core`, or
/// of loom under `--cfg loom`. The macro adds:
///
/// - `order(barrier, ordering)`: the ordering, or `Relaxed` if the barrier is left out;
/// - `acq_rel(acquire, release)`: `AcqRel`, or what is left of it if one of the two barriers is
///   left out;
/// - `full_fence(barrier)`: a `SeqCst` fence, or nothing;
/// - `is_kept(barrier)`: for a step that is neither an ordering nor a fence;
/// - under `--cfg loom`, `without(barrier, model)`: runs a model with the barrier left out. Calls
///   nest: the inner model runs without both barriers.
#[doc(hidden)]
#[macro_export]
macro_rules! barriers {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// The orderings and steps that the promises of this crate rest on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(not(loom), expect(unreachable_pub, reason = "public for the loom tests"))]
        pub enum Barrier {
            $($(#[$doc])* $name,)+
        }

        /// The ordering, or [`Ordering::Relaxed`] if this barrier is left out.
        #[inline]
        pub(crate) fn order(barrier: Barrier, order: Ordering) -> Ordering {
            if is_kept(barrier) { order } else { Ordering::Relaxed }
        }

        /// [`Ordering::AcqRel`], or the half of it whose barrier is kept.
        #[inline]
        pub(crate) fn acq_rel(acquire: Barrier, release: Barrier) -> Ordering {
            match (is_kept(acquire), is_kept(release)) {
                (true, true) => Ordering::AcqRel,
                (true, false) => Ordering::Acquire,
                (false, true) => Ordering::Release,
                (false, false) => Ordering::Relaxed,
            }
        }

        /// A `SeqCst` fence, or nothing if this barrier is left out.
        #[inline]
        pub(crate) fn full_fence(barrier: Barrier) {
            if is_kept(barrier) {
                fence(Ordering::SeqCst);
            }
        }

        /// Whether this barrier is kept. Only a loom test leaves one out.
        #[cfg(not(loom))]
        #[inline]
        pub(crate) const fn is_kept(_: Barrier) -> bool {
            true
        }

        #[cfg(loom)]
        pub use left_out::{is_kept, without};

        #[cfg(loom)]
        mod left_out {
            extern crate std;

            use super::Barrier;
            use core::cell::Cell;

            // Each barrier is one bit of the set.
            const _: () = assert!([$(Barrier::$name),+].len() <= 64);

            std::thread_local! {
                // Loom runs all threads of a model on the system thread of its test.
                static LEFT_OUT: Cell<u64> = const { Cell::new(0) };
            }

            const fn bit(barrier: Barrier) -> u64 {
                1 << barrier as u32
            }

            /// Whether this barrier is kept.
            #[must_use]
            pub fn is_kept(barrier: Barrier) -> bool {
                LEFT_OUT.get() & bit(barrier) == 0
            }

            /// Runs `model` with `barrier` left out, and with those of the calls around this one.
            pub fn without(barrier: Barrier, model: impl FnOnce()) {
                // The model is expected to panic, and other models may follow on this thread.
                struct Restore(u64);
                impl Drop for Restore {
                    fn drop(&mut self) {
                        LEFT_OUT.set(self.0);
                    }
                }
                let _restore = Restore(LEFT_OUT.get());
                LEFT_OUT.set(LEFT_OUT.get() | bit(barrier));
                model();
            }
        }
    };
}
