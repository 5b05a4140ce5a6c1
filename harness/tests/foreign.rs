//! A backend of another program, from the outside: the example is run as its author would run it.
//!
//! The binary of this test is the example, if the variable below is set.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../examples/foreign_backend.rs"]
mod foreign_backend;

use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Trial};
use smmu_engine::machine::{Backend, BackendError, MachineSpec, RamSpec};
use smmu_harness::backend::{Mock, Qemu};
use smmu_harness::scenario_files::builtin;
use smmu_types::PhysAddr;

/// Set to the names of the backends: the process is the program.
const PROGRAM: &str = "SMMU_TEST_PROGRAM";

/// Runs the program. The answer: standard output, standard error, exit status.
fn run_with(backends: &str, arguments: &[&str]) -> (String, String, i32) {
    let output = Command::new(std::env::current_exe().unwrap())
        .env(PROGRAM, backends)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap_or(-1))
}

fn run(arguments: &[&str]) -> (String, String, i32) {
    run_with("mine", arguments)
}

fn it_runs_what_it_offers_and_skips_the_rest_by_name() {
    let (told, complaint, status) = run(&["run", "--backend", "mine"]);
    assert_eq!(status, 0, "{complaint}");
    assert!(told.contains("passed    first-light\n"), "{told}");
    assert!(told.contains("passed    nested-guest\n"), "{told}");
    assert!(told.contains("mine has no caches"), "{told}");
    let last = told.lines().last().unwrap();
    assert!(last.starts_with("mine: ") && last.contains(" 0 failed, "), "{last}");
    // Its transcripts are those of the model.
    let (told, _, status) = run(&["run", "--backend", "mine,mock", "first-light", "remap"]);
    assert_eq!(status, 0, "{told}");
}

fn it_conforms_but_for_what_it_is_built_on() {
    let (told, complaint, status) = run(&["conform", "--backend", "mine"]);
    // The deviations of the model are listed for the model, and not for it.
    let failed: Vec<&str> = told.lines().filter(|line| line.starts_with("FAILED")).collect();
    assert_eq!(status, 1, "{complaint}");
    assert!(
        failed.len() == 2 && failed.iter().all(|line| line.contains("walks/s1-t")),
        "{failed:?}"
    );
    assert!(told.contains("not offered  caches/keep: needs caches\n"), "{told}");
    assert!(told.contains("passed       faults/read\n"), "{told}");
    let (_, _, status) = run(&["conform", "--backend", "mine", "--only", "queues/"]);
    assert_eq!(status, 0);
}

fn other_commands_know_it() {
    let (told, _, status) = run(&["list"]);
    assert_eq!(status, 0);
    let can = |name: &str| {
        let at = told.lines().position(|line| line.starts_with(&format!("{name} "))).unwrap();
        told.lines().nth(at + 1).unwrap().contains(", mine")
    };
    assert!(can("first-light") && !can("wrong-tag-is-stale"), "{told}");
    assert!(builtin().unwrap().len() * 2 == told.lines().count());
    let (told, _, status) = run(&["probe", "--backend", "mine"]);
    assert_eq!(status, 0);
    assert!(told.starts_with("backend          a backend of another program\n"), "{told}");
    let (told, _, _) = run(&["run", "--help"]);
    assert!(told.contains("mine:") && told.contains("devmem:"), "{told}");
    let (_, complaint, status) = run(&["run", "--backend", "yours"]);
    assert_eq!(status, 2);
    assert!(complaint.contains("mock, qemu, board, devmem, mine"), "{complaint}");
    let (_, complaint, status) = run(&["run", "--backend", "mine", "--qemu", "/no/such"]);
    assert_eq!((status, complaint.contains("--qemu needs")), (2, true), "{complaint}");
}

/// A backend with another name.
struct Called(&'static str);

impl Backend for Called {
    fn name(&self) -> &'static str {
        self.0
    }
    fn describe(&self) -> String {
        foreign_backend::Mine.describe()
    }
    fn offers(&self, need: smmu_engine::machine::Need) -> bool {
        foreign_backend::Mine.offers(need)
    }
    fn start(
        &self,
        spec: &MachineSpec,
    ) -> Result<Box<dyn smmu_engine::machine::Machine>, BackendError> {
        foreign_backend::Mine.start(spec)
    }
}

fn names_must_be_told_apart() {
    for (names, why) in [
        ("mock", "two backends are called \"mock\""),
        ("devmem", "two backends are called \"devmem\""),
        ("a,a", "two backends are called \"a\""),
        ("a b", "the name of a backend has letters"),
        ("-a", "the name of a backend has letters"),
        ("", "the name of a backend has letters"),
    ] {
        let (_, complaint, status) = run_with(names, &["list"]);
        assert_eq!(status, 2, "{names}");
        assert!(complaint.contains(why), "{names}: {complaint}");
    }
}

/// RAM is as the description asks, or the machine is impossible.
fn ram_of(backend: &dyn Backend) {
    use smmu_types::pool::Window;
    let start = |base, bytes| {
        let one = smmu_engine::machine::MachineSmmu::default();
        let ram = RamSpec { base, bytes };
        backend.start(&MachineSpec { smmus: vec![one], ram, ..MachineSpec::default() })
    };
    for bytes in [0, 1 << 20, (80 << 20) + 1] {
        let ram = start(Some(PhysAddr(0x4000_0000)), bytes).unwrap().ram();
        assert!(ram.words().len() as u64 * 8 >= bytes);
        // The last word is there.
        ram.words().last().unwrap().store(7, std::sync::atomic::Ordering::Relaxed);
    }
    let Err(error) = start(Some(PhysAddr(0x8000_0000)), 0) else { unreachable!("another base") };
    assert!(error.to_string().contains("its RAM begins at 0x40000000"), "{error}");
    assert!(start(None, u64::MAX).is_err());
}

fn ram_of_the_model_is_as_asked() {
    ram_of(&Mock);
    let Err(error) = foreign_backend::Mine.start(&MachineSpec {
        smmus: vec![smmu_engine::machine::MachineSmmu::default()],
        ram: RamSpec { base: None, bytes: 16 << 20 },
        ..MachineSpec::default()
    }) else {
        unreachable!("it has 8 MiB")
    };
    assert!(error.to_string().contains("it has 0x800000 of 0x1000000 bytes of RAM"), "{error}");
}

fn ram_of_qemu_is_as_asked() {
    ram_of(&Qemu::find(None).unwrap());
}

fn main() -> ExitCode {
    if let Ok(names) = std::env::var(PROGRAM) {
        if names == "mine" {
            return foreign_backend::main();
        }
        let called = |name: &str| Box::new(Called(name.to_owned().leak())) as Box<dyn Backend>;
        return smmu_harness::cli::main_with(names.split(',').map(called).collect());
    }
    let trial = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let no_qemu = std::env::var_os("SMMU_NO_QEMU").is_some_and(|value| value == "1");
    let trials = vec![
        trial(
            "it_runs_what_it_offers_and_skips_the_rest_by_name",
            it_runs_what_it_offers_and_skips_the_rest_by_name,
        ),
        trial("it_conforms_but_for_what_it_is_built_on", it_conforms_but_for_what_it_is_built_on),
        trial("other_commands_know_it", other_commands_know_it),
        trial("names_must_be_told_apart", names_must_be_told_apart),
        trial("ram_of_the_model_is_as_asked", ram_of_the_model_is_as_asked),
        trial("ram_of_qemu_is_as_asked", ram_of_qemu_is_as_asked).with_ignored_flag(no_qemu),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
