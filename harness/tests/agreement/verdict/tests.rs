//! The verdicts themselves, asked of the model.

use std::collections::HashSet;

use super::*;
use smmu_harness::backend::Mock;
use smmu_model::Profile;

fn verdict(change: impl FnOnce(&mut Configuration)) -> Verdict {
    let all = generate(0, 0, &Profile::default().id_registers());
    let mut c = all[0].1;
    change(&mut c);
    VerdictRig::new(&Mock).ask(&c).unwrap()
}

pub(crate) fn the_good_ones_are_accepted() {
    let all = generate(0, 0, &Profile::default().id_registers());
    let mut rig = VerdictRig::new(&Mock);
    for name in ["stage1", "stage2", "bypass"] {
        let (_, c) = all.iter().find(|(known, _)| known == name).unwrap();
        assert_eq!(rig.ask(c).unwrap(), Verdict::Accepted, "{name}");
    }
    assert_eq!(rig.starts(), 1);
}

pub(crate) fn each_verdict_comes_from_what_it_stands_for() {
    let refused = |kind| Verdict::Refused(kind);
    assert_eq!(verdict(|c| c.ste.0[0] = 0), refused(EventKind::C_BAD_STE));
    assert_eq!(verdict(|c| c.ste.0[0] = 1), Verdict::Aborted);
    assert_eq!(verdict(|c| c.strtab = 3), refused(EventKind::C_BAD_STREAMID));
    assert_eq!(verdict(|c| c.cd = None), refused(EventKind::C_BAD_CD));
    // Far above all memory.
    assert_eq!(verdict(|c| c.ste.0[0] |= 1 << 43), refused(EventKind::F_CD_FETCH));
    let fault = verdict(|c| {
        if let Some(cd) = &mut c.cd {
            cd.0[1] = TARGET.0;
        }
    });
    let Verdict::Faulted(event) = fault else { panic!("{fault:?}") };
    assert_eq!(event.kind(), EventKind::F_TRANSLATION);
}

pub(crate) fn a_question_does_not_depend_on_the_one_before() {
    let all = generate(0, 0, &Profile::default().id_registers());
    let mut rig = VerdictRig::new(&Mock);
    for (name, c) in all.iter().step_by(7) {
        let alone = VerdictRig::new(&Mock).ask(c).unwrap();
        assert_eq!(rig.ask(c).unwrap(), alone, "{name}");
    }
}

pub(crate) fn the_generator_repeats_itself_and_nothing_else() {
    let id = Profile::default().id_registers();
    let fixed = generate(3, 0, &id).len();
    assert!(fixed >= 600, "{fixed}");
    let all = generate(3, fixed + 400, &id);
    assert_eq!(all.len(), fixed + 400);
    assert!(all == generate(3, fixed + 400, &id));
    assert!(all != generate(4, fixed + 400, &id));
    let names: HashSet<&str> = all[..fixed].iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), fixed);
}

pub(crate) fn an_smmu_without_two_levels_is_asked_for_none() {
    let two_levels = |two_level| {
        let id = Profile { two_level, ..Profile::default() }.id_registers();
        generate(3, 900, &id).iter().filter(|(_, c)| c.l1.is_some()).count()
    };
    assert_eq!(two_levels(false), 0);
    assert!(two_levels(true) > 100);
}
