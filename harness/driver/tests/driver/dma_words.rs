//! The library crates only load and store DMA words, as `DmaBlock::words` promises.
//!
//! No test double can watch the accesses to an `AtomicU64`, so this reads the sources:
//!
//! 1. A file that handles DMA words calls no read-modify-write at all. A file handles DMA words if
//!    it calls `words()` or names `DmaBlock`.
//! 2. A function that takes references to `AtomicU64`s, and so might get DMA words from such a
//!    file, calls no read-modify-write either, unless its words are known to be the crate's own.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use rstest::rstest;
use syn::visit::{self, Visit};

const CRATES: [&str; 7] = [
    "smmu-types",
    "smmu-tags",
    "smmu-invs",
    "smmu-cmdq",
    "smmu-hw-mmio",
    "smmu-attach",
    "harness/driver",
];

/// Functions that take references to atomics, all of which are fields of the command queue: the cells
/// of committed batches.
const OWN_ATOMICS: [(&str, &str); 2] = [
    ("smmu-cmdq/src/prod_owner.rs", "leave"),
    ("smmu-cmdq/src/prod_owner.rs", "wait_for_ownership"),
];

fn is_read_modify_write(method: &str) -> bool {
    method.starts_with("fetch_")
        || method.starts_with("compare_exchange")
        || ["swap", "compare_and_swap", "try_update", "update"].contains(&method)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    handles_dma_words: bool,
    /// Every read-modify-write, with its function.
    changes: Vec<(String, String)>,
    /// Functions with a parameter that leads to an `AtomicU64`.
    takes_words: Vec<String>,
}

impl Found {
    fn of(text: &str) -> Self {
        let file = syn::parse_file(text).expect("the source is Rust");
        let mut reader = Reader::default();
        reader.visit_file(&file);
        reader.found
    }

    /// What breaks a rule: the function and the method.
    fn broken(&self) -> Vec<&(String, String)> {
        let is_wrong = |(function, _): &&(String, String)| {
            self.handles_dma_words || self.takes_words.contains(function)
        };
        self.changes.iter().filter(is_wrong).collect()
    }
}

#[derive(Default)]
struct Reader {
    found: Found,
    function: String,
}

impl Reader {
    fn function(&mut self, signature: &syn::Signature, body: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.function, signature.ident.to_string());
        let mut names = TypeNames::default();
        signature.inputs.iter().for_each(|input| names.visit_fn_arg(input));
        if names.atomic {
            self.found.takes_words.push(self.function.clone());
        }
        body(self);
        self.function = outer;
    }

    fn change(&mut self, method: String) {
        self.found.changes.push((self.function.clone(), method));
    }
}

/// Whether a type mentions `AtomicU64`.
#[derive(Default)]
struct TypeNames {
    atomic: bool,
}

impl<'ast> Visit<'ast> for TypeNames {
    fn visit_path_segment(&mut self, segment: &'ast syn::PathSegment) {
        self.atomic |= segment.ident == "AtomicU64";
        visit::visit_path_segment(self, segment);
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string().replace(' ', "");
            condition == "test" || condition.starts_with("all(test,")
        }
        _ => false,
    })
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_for_tests(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, |reader| visit::visit_item_fn(reader, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, |reader| visit::visit_impl_item_fn(reader, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.function(&item.sig, |reader| visit::visit_trait_item_fn(reader, item));
    }

    fn visit_path_segment(&mut self, segment: &'ast syn::PathSegment) {
        let name = segment.ident.to_string();
        self.found.handles_dma_words |= name == "DmaBlock";
        // `AtomicU64::fetch_add(word, ..)`, or a method passed as a value.
        if is_read_modify_write(&name) && name != "swap" && name != "update" {
            self.change(name);
        }
        visit::visit_path_segment(self, segment);
    }

    fn visit_use_name(&mut self, name: &'ast syn::UseName) {
        self.found.handles_dma_words |= name.ident == "DmaBlock";
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let method = call.method.to_string();
        self.found.handles_dma_words |= method == "words" && call.args.is_empty();
        if is_read_modify_write(&method) {
            self.change(method);
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let text = call.tokens.to_string();
        for word in text.split(|c: char| !c.is_alphanumeric() && c != '_') {
            if is_read_modify_write(word) && word != "swap" && word != "update" {
                self.change(word.to_owned());
            }
        }
        self.found.handles_dma_words |= text.replace(' ', "").contains(".words()");
    }
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn no_library_crate_reads_modifies_and_writes_a_dma_word() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (mut wrong, mut handling, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for name in CRATES {
        let mut files = Vec::new();
        sources(&root.join(name).join("src"), &mut files);
        for path in files {
            let file = path.strip_prefix(&root).unwrap().display().to_string();
            // Doubles for tests play the SMMU too.
            if path.file_name().is_some_and(|name| name == "fake.rs" || name == "tests.rs") {
                continue;
            }
            let found = Found::of(&fs::read_to_string(&path).unwrap());
            if found.handles_dma_words {
                handling.push(file.clone());
            }
            for (function, method) in found.broken() {
                match OWN_ATOMICS.iter().find(|known| **known == (&*file, &**function)) {
                    Some(known) => own.push(*known),
                    None => wrong.push(format!("{file}: {function} calls {method}")),
                }
            }
        }
    }
    assert_eq!(wrong, [""; 0], "a read-modify-write of what may be a DMA word");
    // The test reads what it is about.
    for known in [
        "smmu-cmdq/src/ring.rs",
        "smmu-hw-mmio/src/events.rs",
        "smmu-attach/src/entry.rs",
        "smmu-attach/src/context.rs",
        "smmu-attach/src/stream_table.rs",
        "smmu-types/src/seam/pool.rs",
    ] {
        assert!(handling.iter().any(|file| file == known), "{known} is not in {handling:?}");
    }
    for known in OWN_ATOMICS {
        assert!(own.contains(&known), "{known:?} is not needed any more");
    }
}

#[rstest]
#[case::method("fn f(b: &impl B) { b.words()[0].fetch_or(1, Relaxed); }", true)]
#[case::swap("fn f(b: &impl B) { b.words()[0].swap(1, Relaxed); }", true)]
#[case::exchange("fn f<B: DmaBlock>(b: &B) { g(b).compare_exchange_weak(0, 1, A, R); }", true)]
#[case::by_path("fn f(b: &impl B) { AtomicU64::fetch_add(&b.words()[0], 1, Relaxed); }", true)]
#[case::in_a_macro("fn f(b: &impl B) { assert_eq!(b.words()[0].fetch_and(1, Relaxed), 0); }", true)]
#[case::elsewhere_in_the_file(
    "fn f(b: &B) { b.words(); } fn g(w: &W) { w.fetch_xor(1, R); }",
    true
)]
#[case::helper("fn f(word: &AtomicU64) { word.fetch_or(1, Relaxed); }", true)]
#[case::helper_of_a_slice("impl T { fn f(&self, w: &[AtomicU64]) { w[0].swap(1, R); } }", true)]
#[case::import("use seam::{DmaBlock, Wait}; fn f(w: &W) { w.fetch_sub(1, R); }", true)]
#[case::loads_and_stores("fn f(b: &B) { b.words()[0].store(b.words()[1].load(R), R); }", false)]
#[case::own_atomic("fn f(s: &S) { s.next.fetch_add(1, Relaxed); }", false)]
#[case::test("#[cfg(test)] mod t { fn f(b: &B) { b.words()[0].fetch_or(1, R); } }", false)]
fn the_rules_find_a_read_modify_write(#[case] text: &str, #[case] found: bool) {
    assert_eq!(!Found::of(text).broken().is_empty(), found);
}
