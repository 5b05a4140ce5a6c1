//! The real transaction under loom: every interleaving with three preemptions or more, except where the budget says two.
//!
//!     RUSTFLAGS="--cfg loom" cargo test --release -p smmu-attach --test loom
//!
//! Budget: three preemptions; four where one step times out; five in the models with two threads.
//! `ats_off_beside_unmap` has two for stage 1, which has fewer steps than stage 2.
//! All models together take about four minutes on one core.
//!
//! The SMMU reads the words of an STE, of a CD and of a level-1 descriptor at any time and in any
//! order, and caches all that it may. A DMA fails the test if its tag is free or of another domain,
//! if a cached translation has outlived its tag, or if it reaches a page that the mapper has taken
//! away. A page is plain memory to loom, so a DMA that is not ordered before the mapper's reuse
//! fails as well. An SMMU that does not answer ignores the commands.
//!
//! A device with ATS caches translations itself, and uses them at any time. The test fails if an
//! `ATC_INV` reaches it while its own switch is off, or if its cache has a translation of a page after
//! the unmap.
//!
//! Each step and barrier of the ordering argument is left out once, and a model must notice it.
//! `Barrier` in the crate's `sync` and `Seam` in `seams` say what each name means:
//!
//! | left out | noticed by |
//! |---|---|
//! | `TablesBeforeSte` | `replace_with_shared_tables` |
//! | `TablesBeforeWrite` | `write_an_entry` |
//! | `StepBeforeCommand` | `block_beside_unmap` |
//! | `InvalidBeforeCommand` | `timeout_then_retry` |
//! | `AbortBeforeLink`, `LinkBeforeCommand`, `AnnounceBeforeKnown` | `two_devices_in_one_span` |
//! | `CdBeforeSte` | `attach_beside_unmap`, `substream_beside_stream` |
//! | `ForgetBeforeStore` | `timeout_then_retry`, by an STE and by a CD |
//! | `ConfirmBeforeLeave` | `timeout_then_retry` |
//! | `FlushBeforeFree` | `replace_beside_unmap` |
//! | `DrainBeforeOff`, `Seam::AtcInv` | `ats_off_beside_unmap` |
//! | `DeviceOrder` | `groups_that_overlap` |
//! | `DomainOrder` | `cross_replace` |
//! | `RefuseBeforeHold` | `two_held_transactions` |
//! | `GoneBeforeSweep` | `gone_beside_attach` |
//! | `FillBeforeWaiting`, `SeeAcquire` | `fault_beside_withdraw` |
//! | `TakeBySwap` | `answer_beside_withdraw` |
//! | `KeepRelease` | `kept_beside_send` |
//! | `Seam::FullBarrier`, `Seam::Publish`, `Seam::Tlbi` | `attach_beside_unmap` |
//! | `Seam::ArrayRelease`, `Seam::ArrayBeforeEntries` | `attach_beside_unmap` |
//! | `Seam::Cfgi` | `block_beside_unmap` |
//! | `Seam::CfgiLevel1` | `two_devices_in_one_span` |
//! | `Seam::Lock` | `last_detach_beside_first_attach`, `substream_beside_stream` |
//!
//! No test leaves out that a device's lock comes before those of its domains: only the holder of
//! the device's lock knows the old domain.
//! `tests/attach/spinning.rs` checks that no lock is taken under that of a stream table.
#![cfg(loom)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![expect(unsafe_code, reason = "doubles of hardware memory, of a lock and of a publication")]

mod ats;
mod faults;
mod hardware;
mod models;
mod seams;
mod substreams;
mod world;

use rstest::rstest;
use smmu_attach::TranslationStage;
use smmu_attach::sync::{Barrier, without};

use crate::ats::*;
use crate::faults::*;
use crate::hardware::Fault;
use crate::models::*;
use crate::seams::*;
use crate::substreams::*;
use crate::world::*;

#[rstest]
fn attach_beside_an_unmap(#[values(STAGE_1, STAGE_2)] stage: TranslationStage) {
    attach_beside_unmap(stage, 3);
}

#[rstest]
fn block_beside_an_unmap(#[values(STAGE_1, STAGE_2)] stage: TranslationStage) {
    block_beside_unmap(stage, 3);
}

#[rstest]
fn replace_beside_an_unmap(
    #[values(STAGE_1, STAGE_2)] stage: TranslationStage,
    #[values(D, E)] unmapped: usize,
) {
    replace_beside_unmap(stage, unmapped, 3);
}

#[rstest]
fn replace_beside_unmaps_of_both(#[values(STAGE_1, STAGE_2)] stage: TranslationStage) {
    replace_beside_two_unmaps(stage, 3);
}

#[test]
fn replace_by_a_domain_with_the_same_tables() {
    replace_with_shared_tables(3);
}

#[rstest]
#[case::stage_1_replaced([STAGE_1; 2], 0)]
#[case::stage_2_made_invalid([STAGE_2; 2], 0)]
#[case::stage_2_filled([STAGE_2; 2], 1)]
#[case::stage_2_made_valid([STAGE_2; 2], 2)]
#[case::stage_1_to_2_made_invalid([STAGE_1, STAGE_2], 0)]
#[case::stage_1_to_2_filled([STAGE_1, STAGE_2], 1)]
#[case::stage_1_to_2_made_valid([STAGE_1, STAGE_2], 2)]
fn a_step_times_out(
    #[case] stages: [TranslationStage; 2],
    #[case] after: u32,
    #[values(1, 2)] ignored: u32,
    #[values(Then::Attach, Then::Settle, Then::Block)] then: Then,
) {
    timeout_then_retry(stages, Fault::Cfgi { after, ignored }, then, None, 4);
}

#[rstest]
#[case::stage_1([STAGE_1; 2], D)]
#[case::stage_2([STAGE_2; 2], D)]
fn a_step_times_out_beside_an_unmap(
    #[case] stages: [TranslationStage; 2],
    #[case] unmapped: usize,
) {
    let fault = Fault::Cfgi { after: 0, ignored: 2 };
    timeout_then_retry(stages, fault, Then::Attach, Some(unmapped), 3);
}

#[rstest]
fn two_devices_change_places(#[values(STAGE_1, STAGE_2)] stage: TranslationStage) {
    cross_replace(stage, false, 5);
}

/// Of both stages, stage 2 has more steps.
#[test]
fn two_devices_change_places_beside_unmaps_of_both() {
    cross_replace(STAGE_2, true, 3);
}

#[rstest]
fn a_group_is_replaced_beside_an_unmap(
    #[values(STAGE_1, STAGE_2)] stage: TranslationStage,
    #[values(D, E)] unmapped: usize,
) {
    group_beside_unmap(stage, unmapped, 3);
}

#[test]
fn two_groups_of_the_same_devices() {
    groups_that_overlap(4);
}

#[rstest]
fn last_detach_beside_the_next_first_attach(
    #[values(STAGE_1, STAGE_2)] stage: TranslationStage,
    #[values(Fault::None, Fault::Flush)] fault: Fault,
) {
    last_detach_beside_first_attach(stage, fault, 3);
}

#[test]
fn two_devices_are_added_in_one_span() {
    two_devices_in_one_span(3);
}

#[test]
fn two_threads_hold_two_transactions_each() {
    two_held_transactions(3);
}

#[test]
fn an_smmu_goes_beside_an_attach() {
    gone_beside_attach(5);
}

#[test]
fn an_entry_is_written_behind_its_context() {
    write_an_entry(5);
}

#[rstest]
fn a_fault_is_answered_beside_a_withdrawal(#[values(false, true)] drops: bool) {
    answer_beside_withdraw(drops, 5);
}

#[test]
fn a_fault_comes_beside_a_withdrawal() {
    fault_beside_withdraw(5);
}

#[test]
fn a_kept_answer_is_sent_by_two_threads() {
    kept_beside_send(5);
}

#[test]
fn a_fault_is_answered_beside_a_reset() {
    answer_beside_reset(5);
}

/// The domains to which the stream and the substream go. In the second case they change places.
#[rstest]
#[case::attach(None, [F, E])]
#[case::replace(Some(E), [E, D])]
fn a_substream_is_attached_beside_its_stream(
    #[case] held: Option<usize>,
    #[case] to: [usize; 2],
    #[values(None, Some(D), Some(E))] unmapped: Option<usize>,
) {
    substream_beside_stream(held, to, unmapped, 3);
}

#[rstest]
#[case::stage_1(STAGE_1, 2)]
#[case::stage_2(STAGE_2, 2)]
fn ats_goes_off_beside_an_unmap(#[case] stage: TranslationStage, #[case] preemptions: usize) {
    ats_off_beside_unmap(stage, preemptions);
}

const WRONG: &str = "wrong translation";
/// Loom's words for a DMA that is not ordered before the reuse of the page.
const RACE: &str = "Causality violation: Concurrent read and write accesses";
const TAKEN: &str = "DMA reached a page that was taken away";
const TO_THE_NEW_FAULT: &str = "one answer, to the new fault";
const NO_LEVEL_2: &str = "the SMMU knows of no second-level table";

#[rstest]
#[case::publish(Seam::Publish, RACE, || attach_beside_unmap(STAGE_2, 3))]
#[case::full_barrier(Seam::FullBarrier, RACE, || attach_beside_unmap(STAGE_2, 3))]
#[case::cfgi(Seam::Cfgi, WRONG, || block_beside_unmap(STAGE_2, 3))]
#[case::cfgi_level_1(Seam::CfgiLevel1, NO_LEVEL_2, || two_devices_in_one_span(3))]
#[case::tlbi(Seam::Tlbi, TAKEN, || attach_beside_unmap(STAGE_2, 3))]
#[case::atc_inv(Seam::AtcInv, "the device keeps a translation", || {
    ats_off_beside_unmap(STAGE_2, 3);
})]
#[case::array_release(Seam::ArrayRelease, "Causality violation: Concurrent load and mut", || {
    attach_beside_unmap(STAGE_2, 3);
})]
#[case::array_before_entries(Seam::ArrayBeforeEntries, RACE, || attach_beside_unmap(STAGE_2, 3))]
#[case::lock(Seam::Lock, "TagNotOwned", || {
    last_detach_beside_first_attach(STAGE_2, Fault::None, 3);
})]
#[case::lock_of_a_device(Seam::Lock, WRONG, || {
    substream_beside_stream(None, [F, E], None, 3);
})]
fn without_a_promise_of_a_seam(#[case] seam: Seam, #[case] why: &str, #[case] model: fn()) {
    must_fail(why, || without_seam(seam, model));
}

#[rstest]
#[case::tables_before_ste(Barrier::TablesBeforeSte, TAKEN, || replace_with_shared_tables(3))]
#[case::tables_before_write(Barrier::TablesBeforeWrite, "the context is not there", || {
    write_an_entry(3);
})]
#[case::step_before_command(Barrier::StepBeforeCommand, WRONG, || {
    block_beside_unmap(STAGE_2, 3);
})]
#[case::invalid_before_command(Barrier::InvalidBeforeCommand, "the SMMU finds a valid entry", || {
    let fault = Fault::Cfgi { after: 0, ignored: 1 };
    timeout_then_retry([STAGE_1; 2], fault, Then::Settle, None, 3);
})]
#[case::abort_before_link(Barrier::AbortBeforeLink, "that is not filled", || {
    two_devices_in_one_span(3);
})]
#[case::link_before_command(Barrier::LinkBeforeCommand, NO_LEVEL_2, || {
    two_devices_in_one_span(3);
})]
#[case::announce_before_known(Barrier::AnnounceBeforeKnown, NO_LEVEL_2, || {
    two_devices_in_one_span(3);
})]
#[case::cd_before_ste(Barrier::CdBeforeSte, "the STE leads to an invalid CD", || {
    attach_beside_unmap(STAGE_1, 3);
})]
#[case::cd_before_ste_of_substreams(Barrier::CdBeforeSte, "the STE leads to an invalid CD", || {
    substream_beside_stream(None, [F, E], None, 3);
})]
#[case::forget_before_store_of_an_ste(Barrier::ForgetBeforeStore, WRONG, || {
    let fault = Fault::Cfgi { after: 0, ignored: 2 };
    timeout_then_retry([STAGE_2; 2], fault, Then::Attach, None, 3);
})]
#[case::forget_before_store_of_a_cd(Barrier::ForgetBeforeStore, WRONG, || {
    let fault = Fault::Cfgi { after: 0, ignored: 2 };
    timeout_then_retry([STAGE_1; 2], fault, Then::Attach, None, 3);
})]
#[case::confirm_before_leave(Barrier::ConfirmBeforeLeave, WRONG, || {
    let fault = Fault::Cfgi { after: 0, ignored: 2 };
    timeout_then_retry([STAGE_2; 2], fault, Then::Attach, None, 3);
})]
#[case::flush_before_free(Barrier::FlushBeforeFree, WRONG, || {
    replace_beside_unmap(STAGE_2, D, 3);
})]
#[case::drain_before_off(Barrier::DrainBeforeOff, "ATC_INV reaches a device whose ATS is off", || {
    ats_off_beside_unmap(STAGE_2, 3);
})]
#[case::device_order(Barrier::DeviceOrder, "deadlock", || groups_that_overlap(3))]
#[case::domain_order(Barrier::DomainOrder, "deadlock", || cross_replace(STAGE_2, false, 3))]
#[case::refuse_before_hold(Barrier::RefuseBeforeHold, "deadlock", || two_held_transactions(3))]
#[case::gone_before_sweep(Barrier::GoneBeforeSweep, "a device is attached to an SMMU", || {
    gone_beside_attach(3);
})]
#[case::fill_before_waiting(Barrier::FillBeforeWaiting, TO_THE_NEW_FAULT, || {
    fault_beside_withdraw(3);
})]
#[case::see_acquire(Barrier::SeeAcquire, TO_THE_NEW_FAULT, || fault_beside_withdraw(3))]
#[case::take_by_swap(Barrier::TakeBySwap, "one answer", || answer_beside_withdraw(false, 3))]
#[case::keep_release(Barrier::KeepRelease, TO_THE_NEW_FAULT, || kept_beside_send(3))]
fn without_a_step(#[case] step: Barrier, #[case] why: &str, #[case] model: fn()) {
    must_fail(why, || without(step, model));
}
