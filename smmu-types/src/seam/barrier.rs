//! Barriers by name, so that the model checker can leave one out and a test can see what breaks.
//!
//! Each concurrent crate names the orderings its promises rest on with [`barriers!`](crate::barriers). Without
//! `--cfg loom` every barrier is kept, at no cost.

/// Defines `Barrier`, a crate's list of named orderings, and the functions that honour it.
///
/// The crate's `sync` module has `Ordering` and `fence` in scope, from `core` or from the model checker. The macro
/// adds there:
///
/// - `order(barrier, ordering)`: the ordering, or `Relaxed` if the barrier is left out;
/// - `full_fence(barrier)`: a `SeqCst` fence, or nothing;
/// - `is_kept(barrier)`: for a barrier or a step that is neither of the two;
/// - under `--cfg loom`, `without(barrier, model)`: runs a model with this barrier left out.
#[doc(hidden)]
#[macro_export]
macro_rules! barriers {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// Each ordering a promise of this crate rests on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(
            not(loom),
            expect(unreachable_pub, reason = "public for the model checker's tests alone")
        )]
        pub enum Barrier {
            $($(#[$doc])* $name,)+
        }

        /// The ordering, or [`Ordering::Relaxed`] if the model checker leaves this barrier out.
        #[inline]
        #[allow(dead_code, reason = "not every crate has each kind of barrier")]
        pub(crate) fn order(barrier: Barrier, order: Ordering) -> Ordering {
            if is_kept(barrier) { order } else { Ordering::Relaxed }
        }

        /// A full fence, unless the model checker leaves this barrier out.
        #[inline]
        #[allow(dead_code, reason = "not every crate has each kind of barrier")]
        pub(crate) fn full_fence(barrier: Barrier) {
            if is_kept(barrier) {
                fence(Ordering::SeqCst);
            }
        }

        /// Whether this barrier is kept: always, but under the model checker.
        #[cfg(not(loom))]
        #[inline]
        #[allow(dead_code, reason = "not every crate has each kind of barrier")]
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

            std::thread_local! {
                // The model checker runs all threads of a model on the thread of its test.
                static LEFT_OUT: Cell<Option<Barrier>> = const { Cell::new(None) };
            }

            /// Whether this barrier is kept.
            #[must_use]
            pub fn is_kept(barrier: Barrier) -> bool {
                LEFT_OUT.get() != Some(barrier)
            }

            /// Runs a model without one barrier.
            pub fn without(barrier: Barrier, model: impl FnOnce()) {
                struct Restore;
                impl Drop for Restore {
                    fn drop(&mut self) {
                        LEFT_OUT.set(None);
                    }
                }
                let _restore = Restore;
                LEFT_OUT.set(Some(barrier));
                model();
            }
        }
    };
}
