//! Substreams: which CD a transaction uses, and what the SMMU refuses (IHI 0070, 5.2 and 5.3).

use rstest::rstest;
use smmu_types::{Command, Leaf, PhysAddr};

use super::model_rig::{A, B, IOVA, ModelRig, OTHER, SID, cd, cfgi_ste, nh_asid, stage2_ste};
use super::substream_rig::{
    CDTAB, L1CDS, LEAF, LEAF2, device, linear, profile, quiet, root_to, ssid, word0,
};
use crate::{Hazard, Profile};

fn cfgi_cd(n: u32, leaf: Leaf) -> Command {
    Command::CfgiCd { stream: SID, substream: ssid(n), leaf }
}

// 5.2, S1DSS and S1CDMax; 7.3.7 and 7.3.9. The table has 16 CDs.
#[rstest]
#[case::terminate(0, None, Err("F_STREAM_DISABLED sid=0x8"))]
#[case::terminate_has_substream_0(0, Some(0), Ok(0xa))]
#[case::terminate_has_substream_1(0, Some(1), Ok(0xb))]
#[case::bypass_has_substream_0(1, Some(0), Ok(0xa))]
#[case::bypass_has_substream_2(1, Some(2), Ok(0xc))]
#[case::default_is_cd_0(2, None, Ok(0xa))]
#[case::default_takes_substream_0(2, Some(0), Err("F_STREAM_DISABLED sid=0x8"))]
#[case::default_has_substream_1(2, Some(1), Ok(0xb))]
#[case::reserved_terminates(3, None, Err("F_STREAM_DISABLED sid=0x8"))]
#[case::invalid_cd(2, Some(3), Err("C_BAD_CD sid=0x8 ssid=0x3"))]
#[case::last_of_the_table(2, Some(15), Err("C_BAD_CD sid=0x8 ssid=0xf"))]
#[case::beyond_the_table(2, Some(16), Err("C_BAD_SUBSTREAMID sid=0x8 ssid=0x10"))]
fn a_transaction_gets_its_cd(
    #[case] s1dss: u64,
    #[case] substream: Option<u32>,
    #[case] expected: Result<u32, &str>,
) {
    let rig = linear(profile(), s1dss);
    assert_eq!(device(&rig, SID, substream).read32(IOVA).ok(), expected.ok());
    let events: Vec<&str> = expected.err().into_iter().collect();
    assert_eq!(rig.event_lines(), events);
    quiet(&rig);
}

#[test]
fn s1dss_1_bypasses_stage_1() {
    let rig = linear(profile(), 1);
    assert_eq!(device(&rig, SID, None).read32(B), Ok(0xb));
    assert_eq!(device(&rig, SID, None).read32(IOVA).ok(), None, "no RAM is there");
    assert_eq!(rig.event_lines(), Vec::<String>::new());
}

/// 5.2, S1Fmt and S1CDMax: a SubstreamID needs stage 1 and a table of CDs. Config = 0 is silent.
#[rstest]
#[case::abort([1, 0, 0, 0], 10, false)]
#[case::bypass([1 | 4 << 1, 0, 0, 0], 10, true)]
#[case::stage2(stage2_ste(3, A), 10, true)]
#[case::one_cd([word0(CDTAB, 0, 0), 0, 0, 0], 10, true)]
#[case::no_substreams_at_all([word0(CDTAB, 0, 4), 0, 0, 0], 0, true)]
fn a_substream_where_none_is_allowed(
    #[case] ste: [u64; 4],
    #[case] substream_bits: u8,
    #[case] recorded: bool,
) {
    let rig = ModelRig::with(Profile { substream_bits, ..profile() });
    let root = root_to(&rig, A);
    rig.put_all(CDTAB, &cd(10, root));
    rig.put_all(rig.ste(SID), &ste);
    rig.run(&[cfgi_ste(SID)]);
    assert!(device(&rig, SID, Some(1)).write32(IOVA, 1).is_err());
    assert!(device(&rig, SID, Some(0)).write32(IOVA, 1).is_err());
    let lines = ["C_BAD_SUBSTREAMID sid=0x8 ssid=0x1", "C_BAD_SUBSTREAMID sid=0x8 ssid=0x0"];
    assert_eq!(rig.event_lines(), if recorded { &lines[..] } else { &[] });
}

/// 5.2: what makes an STE with substreams illegal. With one CD the SMMU ignores S1Fmt.
#[rstest]
#[case::as_wide_as_the_smmu(profile(), word0(CDTAB, 0, 10), true)]
#[case::wider_than_the_smmu(profile(), word0(CDTAB, 0, 11), false)]
#[case::no_two_level_tables(Profile { two_level_cd: false, ..profile() }, word0(CDTAB, 1, 4), false)]
#[case::one_cd_ignores_the_format(Profile { two_level_cd: false, ..profile() }, word0(CDTAB, 1, 0), true)]
#[case::reserved_format_is_linear(profile(), word0(CDTAB, 3, 4), true)]
fn an_ste_with_substreams(#[case] profile: Profile, #[case] word0: u64, #[case] legal: bool) {
    let rig = ModelRig::with(profile);
    let root = root_to(&rig, A);
    rig.put_all(CDTAB, &cd(10, root));
    rig.put_all(rig.ste(SID), &[word0, 2]);
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(rig.read(SID, IOVA), legal.then_some(0xa));
    assert_eq!(rig.event_lines(), if legal { &[][..] } else { &["C_BAD_STE sid=0x8"] });
}

// 5.2, S1Fmt and 5.3. The first leaf has no CD; the second has one, of the substream after it.
#[rstest]
#[case::leaf_of_4_kib(1, 65, LEAF | 1, Ok(0xa))]
#[case::leaf_of_64_kib(2, 1025, LEAF | 1, Ok(0xa))]
#[case::no_leaf(1, 65, LEAF, Err("C_BAD_SUBSTREAMID sid=0x8 ssid=0x41"))]
#[case::leaf_beyond_the_output_size(1, 65, 1 << 45 | 1, Err("C_BAD_SUBSTREAMID sid=0x8 ssid=0x41"))]
#[case::leaf_without_memory(
    1,
    65,
    1 << 20 | 1,
    Err("F_CD_FETCH sid=0x8 ssid=0x41 fetch=0x100040")
)]
fn two_level_tables(
    #[case] format: u64,
    #[case] substream: u32,
    #[case] descriptor: u64,
    #[case] expected: Result<u32, &str>,
) {
    let rig = ModelRig::with(Profile { substream_bits: 12, ..profile() });
    let root = root_to(&rig, A);
    rig.put_all(LEAF + 64, &cd(10, root));
    rig.put(L1CDS, LEAF2 | 1);
    rig.put(L1CDS + 8, descriptor);
    rig.put_all(rig.ste(SID), &[word0(L1CDS, format, 12), 0]);
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(device(&rig, SID, Some(substream)).read32(IOVA).ok(), expected.ok());
    assert_eq!(device(&rig, SID, Some(1)).read32(IOVA).ok(), None);
    let mut events: Vec<String> = expected.err().into_iter().map(Into::into).collect();
    events.push("C_BAD_CD sid=0x8 ssid=0x1".into());
    assert_eq!(rig.event_lines(), events);
}

#[test]
fn the_event_of_a_fault_names_the_substream() {
    let rig = linear(profile(), 2);
    assert!(device(&rig, SID, Some(1)).write32(IOVA + 0x1000, 1).is_err());
    assert!(device(&rig, SID, None).write32(IOVA + 0x1000, 1).is_err());
    let fault = "write iova=0x50001000 class=IN stage=1";
    let lines = [
        format!("F_TRANSLATION sid=0x8 ssid=0x1 {fault}"),
        format!("F_TRANSLATION sid=0x8 {fault}"),
    ];
    assert_eq!(rig.event_lines(), lines);
}

/// 5.2, S1Fmt: the low bits of S1ContextPtr must be zero, and the effect is unpredictable otherwise.
#[test]
fn a_misaligned_table_is_a_mistake() {
    let rig = linear(profile(), 2);
    rig.put(rig.ste(SID), word0(CDTAB + 64, 0, 4));
    rig.run(&[cfgi_ste(SID)]);
    let [hazard] = rig.model.audit()[..] else { panic!() };
    assert!(matches!(hazard, Hazard::Unpredictable { section: "5.2", .. }), "{hazard}");
    assert!(hazard.to_string().contains("not aligned"), "{hazard}");
}

/// Each descriptor of two streams with two-level tables, cached, and then changed in memory. The
/// audit lists what the command has left in the cache.
#[rstest]
#[case::none(None, "abcde fg")]
#[case::one_cd(Some(cfgi_cd(1, Leaf::Last)), "abce fg")]
#[case::one_cd_and_its_descriptor(Some(cfgi_cd(1, Leaf::All)), "bce fg")]
#[case::a_descriptor_by_another_cd_of_its_leaf(Some(cfgi_cd(9, Leaf::All)), "bcde fg")]
#[case::the_second_leaf(Some(cfgi_cd(64, Leaf::All)), "acd fg")]
#[case::a_cd_that_does_not_exist(Some(cfgi_cd(0xf_ffff, Leaf::All)), "abcde fg")]
#[case::all_cds(Some(Command::CfgiCdAll { stream: SID }), " fg")]
#[case::the_ste(Some(cfgi_ste(SID)), " fg")]
#[case::another_ste(Some(cfgi_ste(OTHER)), "abcde ")]
#[case::all_cds_of_another(Some(Command::CfgiCdAll { stream: OTHER }), "abcde ")]
#[case::everything(Some(Command::CfgiAll), " ")]
#[case::all_translations(Some(Command::TlbiNsnhAll), "abcde fg")]
fn a_command_drops_what_it_must(#[case] command: Option<Command>, #[case] stays: &str) {
    let rig = ModelRig::with(Profile { prefetch: false, ..profile() });
    let root = root_to(&rig, A);
    let other = L1CDS + 0x1000;
    for (leaf, to) in [(LEAF, 0), (LEAF + 0x1000, 1), (LEAF + 0x2000, 2)] {
        for n in 0..64 {
            rig.put_all(leaf + n * 64, &cd(10 + to, root));
        }
    }
    for n in 0..2 {
        rig.put(L1CDS + n * 8, (LEAF + n * 0x1000) | 1);
    }
    rig.put(other, LEAF | 1);
    rig.put_all(rig.ste(SID), &[word0(L1CDS, 1, 8), 0]);
    rig.put_all(rig.ste(OTHER), &[word0(other, 1, 8), 0]);
    rig.run(&[cfgi_ste(SID), cfgi_ste(OTHER)]);
    for (stream, n) in [(SID, 0), (SID, 1), (SID, 64), (OTHER, 1)] {
        assert_eq!(device(&rig, stream, Some(n)).read32(IOVA), Ok(0xa));
    }
    quiet(&rig);
    // The CDs change with the leaf: each lies elsewhere, and has another ASID.
    for l1cd in [L1CDS, L1CDS + 8, other] {
        rig.put(l1cd, (LEAF + 0x2000) | 1);
    }
    rig.run(command.as_slice());
    let names = [
        ('a', "CFGI_CD sid=0x8 ssid=0x0 leaf=0"),
        ('b', "CFGI_CD sid=0x8 ssid=0x40 leaf=0"),
        ('c', "CFGI_CD sid=0x8 ssid=0x0 leaf=1"),
        ('d', "CFGI_CD sid=0x8 ssid=0x1 leaf=1"),
        ('e', "CFGI_CD sid=0x8 ssid=0x40 leaf=1"),
        ('f', "CFGI_CD sid=0x10 ssid=0x0 leaf=0"),
        ('g', "CFGI_CD sid=0x10 ssid=0x1 leaf=1"),
    ];
    let expected: Vec<&str> =
        names.iter().filter(|(key, _)| stays.contains(*key)).map(|(_, name)| *name).collect();
    assert_eq!(rig.audit(), expected);
}

/// A step of a driver: stores, then commands with a `CMD_SYNC`.
type Step<'a> = (&'a [(u64, u64)], &'a [Command]);

/// Run the steps without command number `left_out`, and list what the model finds.
fn run_without(rig: &ModelRig, steps: &[Step<'_>], left_out: Option<usize>) -> Vec<String> {
    let mut number = 0;
    for (stores, commands) in steps {
        for (at, word) in *stores {
            rig.put(*at, *word);
        }
        let mut sent = Vec::new();
        for command in *commands {
            if left_out != Some(number) {
                sent.push(*command);
            }
            number += 1;
        }
        rig.run(&sent);
    }
    let mut found = rig.audit();
    found.extend(rig.missing());
    found
}

/// The life of substream 5 beside a live one, and with a leaf that comes and goes. Without any one of
/// the commands the audit names it, and no DMA is needed.
#[rstest]
#[case::all(None, &[])]
#[case::filled_leaf(Some(0), &[])]
#[case::new_leaf(Some(1), &["CFGI_CD sid=0x8 ssid=0x40 leaf=0"])]
#[case::valid_cd(Some(2), &["CFGI_CD sid=0x8 ssid=0x5 leaf=1"])]
#[case::cleared_cd(Some(3), &["CFGI_CD sid=0x8 ssid=0x5 leaf=1"])]
fn a_command_left_out_is_noticed(#[case] left_out: Option<usize>, #[case] expected: &[&str]) {
    let rig = ModelRig::with(profile());
    let (root, second) = (root_to(&rig, A), root_to(&rig, B));
    rig.put_all(LEAF + 64, &cd(10, root));
    rig.put(L1CDS, LEAF | 1);
    rig.put_all(rig.ste(SID), &[word0(L1CDS, 1, 8), 0]);
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(device(&rig, SID, Some(1)).read32(IOVA), Ok(0xa));
    quiet(&rig);
    let at = LEAF + 5 * 64;
    let [w0, w1, w2, w3] = cd(11, second);
    let fill = [(at, w0 & !(1 << 31)), (at + 8, w1), (at + 16, w2), (at + 24, w3)];
    let appear: [Step<'_>; 3] = [
        (&fill, &[cfgi_cd(5, Leaf::Last)]),
        (&[(L1CDS + 8, LEAF2 | 1)], &[cfgi_cd(64, Leaf::All)]),
        (&[(at, w0)], &[cfgi_cd(5, Leaf::Last)]),
    ];
    let leave: Step<'_> = (&[(at, 0)], &[cfgi_cd(5, Leaf::Last)]);
    let steps = match left_out {
        Some(3) => [&appear[..], &[leave]].concat(),
        _ => appear.to_vec(),
    };
    assert_eq!(run_without(&rig, &steps, left_out), expected);
}

/// The TLB keeps the lines of a substream that has left, until its ASID is flushed.
#[rstest]
#[case::flushed(true)]
#[case::forgotten(false)]
fn the_asid_of_a_substream_that_left(#[case] flushed: bool) {
    let rig = linear(profile(), 0);
    assert_eq!(device(&rig, SID, Some(1)).read32(IOVA), Ok(0xb));
    rig.put(CDTAB + 64, 0);
    rig.run(&[cfgi_cd(1, Leaf::Last)]);
    if flushed {
        rig.run(&[nh_asid(0, 11)]);
    }
    quiet(&rig);
    // Substream 3 takes the ASID, with another table.
    let [w0, w1, w2, w3] = cd(11, root_to(&rig, A));
    rig.put_all(CDTAB + 3 * 64, &[w0 & !(1 << 31), w1, w2, w3]);
    rig.run(&[cfgi_cd(3, Leaf::Last)]);
    rig.put(CDTAB + 3 * 64, w0);
    rig.run(&[cfgi_cd(3, Leaf::Last)]);
    let clash = ["TLBI_NH_ASID vmid=0 asid=11"];
    let mut found = rig.audit();
    found.dedup();
    assert_eq!(found, if flushed { &[][..] } else { &clash });
    assert_eq!(device(&rig, SID, Some(3)).read32(IOVA), Ok(if flushed { 0xa } else { 0xb }));
}

/// The leaf goes, and the driver invalidates too little (5.3.1).
#[rstest]
#[case::all_cds(Command::CfgiCdAll { stream: SID }, &[])]
#[case::one_cd(cfgi_cd(2, Leaf::All), &["CFGI_CD sid=0x8 ssid=0x1 leaf=1"])]
#[case::only_the_cd(
    cfgi_cd(1, Leaf::Last),
    &["CFGI_CD sid=0x8 ssid=0x0 leaf=0", "CFGI_CD sid=0x8 ssid=0x1 leaf=1"]
)]
fn a_leaf_that_goes(#[case] command: Command, #[case] expected: &[&str]) {
    let rig = ModelRig::with(profile());
    rig.put_all(LEAF + 64, &cd(10, root_to(&rig, A)));
    rig.put(L1CDS, LEAF | 1);
    rig.put_all(rig.ste(SID), &[word0(L1CDS, 1, 8), 0]);
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(device(&rig, SID, Some(1)).read32(IOVA), Ok(0xa));
    rig.put(L1CDS, 0);
    rig.run(&[command]);
    assert_eq!(rig.audit(), expected);
}

/// A leaf and a table that the driver frees too early: while a descriptor in memory or in the cache
/// still leads to them.
#[test]
fn freed_tables_must_be_out_of_reach() {
    let rig = ModelRig::with(profile());
    rig.put_all(LEAF + 64, &cd(10, root_to(&rig, A)));
    rig.put(L1CDS, LEAF | 1);
    rig.put_all(rig.ste(SID), &[word0(L1CDS, 1, 8), 0]);
    rig.run(&[cfgi_ste(SID)]);
    assert_eq!(device(&rig, SID, Some(1)).read32(IOVA), Ok(0xa));
    rig.model.memory_freed(PhysAddr(LEAF), 0x1000);
    let freed = |at| Hazard::FreedMemory { smmu: 0, stream: SID, at: PhysAddr(at) };
    assert_eq!(rig.model.audit(), [freed(LEAF), freed(LEAF + 64)]);
    // Out of memory, but still cached.
    rig.put(L1CDS, 0);
    assert!(rig.model.audit().contains(&freed(LEAF)));
    rig.run(&[Command::CfgiCdAll { stream: SID }]);
    quiet(&rig);
    rig.model.memory_freed(PhysAddr(L1CDS), 32);
    assert_eq!(rig.model.audit(), [freed(L1CDS)]);
    rig.model.memory_reused(PhysAddr(L1CDS), 32);
    rig.put(L1CDS, LEAF | 1);
    rig.model.memory_reused(PhysAddr(LEAF), 0x1000);
    rig.run(&[Command::CfgiCdAll { stream: SID }]);
    quiet(&rig);
}

fn mixed(rig: &ModelRig) -> Vec<String> {
    let hazards = rig.model.take_hazards();
    assert!(hazards.iter().all(|h| matches!(h, Hazard::MixedUpdate { .. })), "{hazards:?}");
    hazards.iter().map(|hazard| hazard.missing().unwrap().to_string()).collect()
}

/// 3.21.3: the SMMU reads an entry word by word. The driver changes the CD of substream 1.
#[rstest]
#[case::one_word(vec![vec![(0, 12 << 48)]], 0)]
#[case::two_words(vec![vec![(0, 12 << 48), (1, 0x1000)]], 1)]
#[case::two_words_in_two_steps(vec![vec![(0, 12 << 48)], vec![(1, 0x1000)]], 0)]
#[case::invalid_with_another_word(vec![vec![(0, 1 << 31), (1, 0x1000)]], 1)]
#[case::by_way_of_invalid(
    vec![vec![(0, 1 << 31)], vec![(1, 0x1000), (3, 1)], vec![(0, 1 << 31)]],
    0
)]
fn a_cd_changes_word_by_word(#[case] steps: Vec<Vec<(u64, u64)>>, #[case] mistakes: usize) {
    for word_by_word in [true, false] {
        let rig = linear(Profile { word_by_word, ..profile() }, 2);
        assert_eq!(device(&rig, SID, Some(1)).read32(IOVA), Ok(0xb));
        for step in &steps {
            for (word, flip) in step {
                let at = CDTAB + 64 + word * 8;
                rig.put(at, rig.get(at) ^ flip);
            }
            rig.run(&[cfgi_cd(1, Leaf::Last)]);
        }
        let expected =
            vec!["CFGI_CD sid=0x8 ssid=0x1 leaf=1"; mistakes * usize::from(word_by_word)];
        assert_eq!(mixed(&rig), expected);
    }
}

/// The STE goes from bypass to a table of CDs whose default is bypass: two words.
#[rstest]
#[case::at_once(vec![vec![0, 1]], &["CFGI_STE sid=0x8 leaf=1"])]
#[case::second_word_first(vec![vec![1], vec![0]], &[])]
fn an_ste_changes_word_by_word(#[case] steps: Vec<Vec<u64>>, #[case] expected: &[&str]) {
    let rig = linear(Profile { word_by_word: true, ..profile() }, 1);
    let words = [rig.get(rig.ste(SID)), 1];
    rig.put_all(rig.ste(SID), &[1 | 4 << 1, 0]);
    rig.run(&[cfgi_ste(SID)]);
    rig.model.take_hazards();
    for step in steps {
        for word in step {
            rig.put(rig.ste(SID) + word * 8, words[word as usize]);
        }
        rig.run(&[cfgi_ste(SID)]);
    }
    assert_eq!(mixed(&rig), expected);
    assert_eq!(device(&rig, SID, Some(1)).read32(IOVA), Ok(0xb));
}

/// The driver stores the words of an STE one after the other, and shows a command after each. The
/// SMMU consumes nothing before the last. A mix of the words may be an entry that the driver showed.
#[rstest]
#[case::then_invalid(&[(1, 2), (0, 0)], 0)]
#[case::first_invalid(&[(0, 0), (1, 2)], 1)]
#[case::one_word_twice(&[(1, 2), (1, 0), (0, 0)], 0)]
fn a_mix_that_the_driver_has_shown_is_none(#[case] steps: &[(u64, u64)], #[case] mistakes: usize) {
    let rig = linear(Profile { word_by_word: true, ..profile() }, 1);
    rig.run(&[cfgi_ste(SID)]);
    rig.model.take_hazards();
    for (word, value) in steps {
        rig.put(rig.ste(SID) + word * 8, *value);
        rig.send(cfgi_ste(SID));
    }
    rig.run(&[]);
    assert_eq!(mixed(&rig), vec!["CFGI_STE sid=0x8 leaf=1"; mistakes]);
}
