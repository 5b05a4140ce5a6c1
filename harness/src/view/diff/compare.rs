//! Compares two runs, step by step.

use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::{ComparedLine, ComparedRun, ComparedStep};

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Both runs have it here.
    Same,
    /// The first run alone has it.
    Removed,
    /// The second run alone has it.
    Added,
    /// It stands in another place of the second run: here in the first.
    MovedTo(usize),
    /// It stands in another place of the first run: here in the second.
    MovedFrom(usize),
}

/// A step that both runs have, or one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepDifference {
    /// Its number in the first run.
    pub first: Option<usize>,
    /// Its number in the second run.
    pub second: Option<usize>,
    /// What it does.
    pub text: String,
    /// Its lines in the order of both runs, each with what became of it. A move has the number of the
    /// other step.
    pub lines: Vec<(ComparedLine, Change)>,
}

impl StepDifference {
    /// Whether the runs differ here.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.first.is_none()
            || self.second.is_none()
            || self.lines.iter().any(|(_, change)| *change != Change::Same)
    }
}

/// The difference of two runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunDifference {
    /// Every step of either run.
    pub steps: Vec<StepDifference>,
    /// How the two ended, if both say it and it differs.
    pub outcomes: Option<(String, String)>,
}

impl RunDifference {
    /// Whether the runs differ.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.outcomes.is_some() || self.steps.iter().any(StepDifference::differs)
    }

    /// How many commands the second run adds, removes and moves.
    #[must_use]
    pub fn commands(&self) -> [usize; 3] {
        let lines = self.steps.iter().flat_map(|step| &step.lines);
        let commands = lines.filter(|(line, _)| line.is_command());
        commands.fold([0; 3], |[added, removed, moved], (_, change)| match change {
            Change::Added => [added + 1, removed, moved],
            Change::Removed => [added, removed + 1, moved],
            Change::MovedTo(_) => [added, removed, moved + 1],
            Change::Same | Change::MovedFrom(_) => [added, removed, moved],
        })
    }
}

/// Compares two runs of a scenario. Steps are matched by what they do, so a scenario may have got
/// new ones.
#[must_use]
pub fn compare(first: &ComparedRun, second: &ComparedRun) -> RunDifference {
    let texts = |run: &ComparedRun| -> Vec<String> {
        run.steps.iter().map(|step| step.text.clone()).collect()
    };
    let mut steps = Vec::new();
    for op in capture_diff_slices(Algorithm::Myers, &texts(first), &texts(second)) {
        let old = first.steps.get(op.old_range()).unwrap_or_default();
        let new = second.steps.get(op.new_range()).unwrap_or_default();
        match op {
            DiffOp::Equal { .. } => {
                steps.extend(old.iter().zip(new).map(|(old, new)| of_both(old, new)));
            }
            _ => {
                steps.extend(old.iter().map(|step| of_one(step, Change::Removed)));
                steps.extend(new.iter().map(|step| of_one(step, Change::Added)));
            }
        }
    }
    find_moves(&mut steps);
    let said = !first.outcome.is_empty() && !second.outcome.is_empty();
    let outcomes = (said && first.outcome != second.outcome)
        .then(|| (first.outcome.clone(), second.outcome.clone()));
    RunDifference { steps, outcomes }
}

fn of_one(step: &ComparedStep, change: Change) -> StepDifference {
    let is_first = change == Change::Removed;
    StepDifference {
        first: is_first.then_some(step.number),
        second: (!is_first).then_some(step.number),
        text: step.text.clone(),
        lines: step.lines.iter().map(|line| (line.clone(), change)).collect(),
    }
}

fn of_both(old: &ComparedStep, new: &ComparedStep) -> StepDifference {
    let texts = |step: &ComparedStep| -> Vec<(bool, String)> {
        step.lines.iter().map(|line| (line.is_command(), line.text.clone())).collect()
    };
    let mut lines = Vec::new();
    for op in capture_diff_slices(Algorithm::Myers, &texts(old), &texts(new)) {
        let was = old.lines.get(op.old_range()).unwrap_or_default();
        let is = new.lines.get(op.new_range()).unwrap_or_default();
        let marked = |change| move |line: &ComparedLine| (line.clone(), change);
        match op {
            DiffOp::Equal { .. } => lines.extend(is.iter().map(marked(Change::Same))),
            _ => {
                lines.extend(was.iter().map(marked(Change::Removed)));
                lines.extend(is.iter().map(marked(Change::Added)));
            }
        }
    }
    let (first, second) = (Some(old.number), Some(new.number));
    StepDifference { first, second, text: old.text.clone(), lines }
}

/// A command that one step loses and another gains has moved. A `SYNC` closes the batch of its own
/// step, so it moves within a step alone.
fn find_moves(steps: &mut [StepDifference]) {
    let mut places = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        places.extend((0..step.lines.len()).map(|line| (at, line)));
    }
    let change = |steps: &[StepDifference], (at, line): (usize, usize)| {
        steps.get(at).and_then(|step| step.lines.get(line)).cloned()
    };
    let removed: Vec<(usize, usize)> = places
        .iter()
        .copied()
        .filter(|place| change(steps, *place).is_some_and(|(_, c)| c == Change::Removed))
        .collect();
    for from in removed {
        let Some((line, _)) = change(steps, from).filter(|(line, _)| line.is_command()) else {
            continue;
        };
        let stays = line.text.split(' ').nth(1) == Some("SYNC");
        let fits = |to: &(usize, usize)| {
            let same = |(other, c): &(ComparedLine, Change)| *c == Change::Added && *other == line;
            (to.0 == from.0 || !stays) && change(steps, *to).is_some_and(|found| same(&found))
        };
        let near = places.iter().copied().find(|to| to.0 == from.0 && fits(to));
        let Some(to) = near.or_else(|| places.iter().copied().find(fits)) else { continue };
        let number = |at: usize, second: bool| {
            let step = steps.get(at);
            step.and_then(|step| if second { step.second } else { step.first }).unwrap_or(0)
        };
        let (there, here) = (number(to.0, true), number(from.0, false));
        for ((at, line), new) in [(from, Change::MovedTo(there)), (to, Change::MovedFrom(here))] {
            if let Some(found) = steps.get_mut(at).and_then(|step| step.lines.get_mut(line)) {
                found.1 = new;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::diff::read;

    fn run(text: &str) -> ComparedRun {
        read(text).unwrap().remove(0)
    }

    const OLD: &str = "\
0 set up
1 unmap 0x1000 of D
    command   smmu0 TLBI_NH_VA vmid=0 asid=1 addr=0x1000
    command   smmu0 SYNC
2 detach dev0
    command   smmu0 CFGI_STE sid=0x8 leaf=1
    command   smmu0 SYNC
";

    #[test]
    fn equal_runs_have_no_difference() {
        let difference = compare(&run(OLD), &run(OLD));
        assert!(!difference.differs());
        assert_eq!(difference.commands(), [0, 0, 0]);
        assert_eq!(difference.steps.len(), 3);
    }

    #[test]
    fn a_lost_command_is_found_in_its_step() {
        let new = OLD.replace("    command   smmu0 TLBI_NH_VA vmid=0 asid=1 addr=0x1000\n", "");
        let difference = compare(&run(OLD), &run(&new));
        assert_eq!(difference.commands(), [0, 1, 0]);
        let differing: Vec<_> = difference.steps.iter().filter(|step| step.differs()).collect();
        assert_eq!(differing.len(), 1);
        assert_eq!(differing[0].text, "unmap 0x1000 of D");
        assert_eq!(compare(&run(&new), &run(OLD)).commands(), [1, 0, 0]);
    }

    #[test]
    fn a_command_that_comes_in_a_later_step_has_moved() {
        let line = "    command   smmu0 TLBI_NH_VA vmid=0 asid=1 addr=0x1000\n";
        let new =
            OLD.replace(line, "").replace("2 detach dev0\n", &format!("2 detach dev0\n{line}"));
        let difference = compare(&run(OLD), &run(&new));
        assert_eq!(difference.commands(), [0, 0, 1]);
        assert_eq!(difference.steps[1].lines[0].1, Change::MovedTo(2));
        assert_eq!(difference.steps[2].lines[0].1, Change::MovedFrom(1));
    }

    #[test]
    fn a_sync_does_not_move_between_steps() {
        let sync = "    command   smmu0 SYNC\n";
        let new =
            OLD.replacen(sync, "", 1).replace("2 detach dev0\n", &format!("2 detach dev0\n{sync}"));
        assert_eq!(compare(&run(OLD), &run(&new)).commands(), [1, 1, 0]);
    }

    #[test]
    fn a_new_step_of_the_scenario_shifts_no_other() {
        let new = OLD
            .replace("1 unmap", "1 map 0x2000 of D to page B\n2 unmap")
            .replace("2 detach", "3 detach");
        let difference = compare(&run(OLD), &run(&new));
        let differing: Vec<_> = difference.steps.iter().filter(|step| step.differs()).collect();
        assert_eq!(differing.len(), 1);
        assert_eq!((differing[0].first, differing[0].second), (None, Some(1)));
    }

    #[test]
    fn another_outcome_is_a_difference() {
        let (mut first, mut second) = (run(OLD), run(OLD));
        (first.outcome, second.outcome) = ("passed".into(), "failed".into());
        assert!(compare(&first, &second).differs());
    }
}
