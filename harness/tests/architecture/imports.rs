//! Which file of a package imports which, with `pub use` followed to the definition.
//!
//! What counts as an import of file B by file A: A names an item that B defines, in a `use`, in a
//! path or in the tokens of a macro call. A module is no item: `use super::words` alone imports
//! nothing. A `pub use` alone is not an import either, because the file only passes the name on.
//! Test modules are left out.
//!
//! The checker does not see a method call, nor a module that a function renames with a `use` of its
//! own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::buffer::{Cursor, TokenBuffer};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Meta, Token, UseTree, Visibility};

/// The imports of one crate: from file to file, each with one path that says why.
pub(crate) type Imports = BTreeMap<(PathBuf, PathBuf), String>;

/// Reads the crate with this root file. `read` gives the text of a file, if there is such a file.
pub(crate) fn imports(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Imports {
    let mut tree = Tree { modules: Vec::new(), exported_macros: BTreeMap::new(), read };
    let text = read(root).unwrap_or_else(|| panic!("no file {}", root.display()));
    let folder = root.parent().unwrap_or(Path::new("")).to_owned();
    tree.file(root.to_owned(), folder, None, &text);
    tree.imports()
}

/// The rings: files that import each other, directly or around a circle.
pub(crate) fn rings(imports: &Imports) -> Vec<Vec<PathBuf>> {
    let mut reached: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
    for (from, to) in imports.keys() {
        reached.entry(from).or_default().insert(to);
    }
    loop {
        let mut grown = false;
        for from in reached.keys().copied().collect::<Vec<_>>() {
            let further: BTreeSet<&Path> =
                reached[from].iter().filter_map(|to| reached.get(to)).flatten().copied().collect();
            if let Some(known) = reached.get_mut(from) {
                let before = known.len();
                known.extend(further);
                grown |= known.len() > before;
            }
        }
        if !grown {
            break;
        }
    }
    let meets = |a: &Path, b: &Path| reached.get(a).is_some_and(|files| files.contains(b));
    let rings: BTreeSet<Vec<PathBuf>> = reached
        .keys()
        .filter(|file| meets(file, file))
        .map(|a| reached.keys().filter(|b| meets(a, b) && meets(b, a)).map(PathBuf::from).collect())
        .collect();
    rings.into_iter().collect()
}

/// A ring as a message: its files, and each import inside it.
pub(crate) fn told(ring: &[PathBuf], imports: &Imports) -> String {
    let inside = |file: &PathBuf| ring.contains(file);
    let arrows = imports.iter().filter(|((from, to), _)| inside(from) && inside(to));
    arrows
        .map(|((from, to), why)| format!("  {} -> {} ({why})\n", from.display(), to.display()))
        .collect()
}

struct Use {
    path: Vec<String>,
    /// None for a glob.
    name: Option<String>,
    re_export: bool,
}

struct Module {
    file: PathBuf,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    items: BTreeSet<String>,
    uses: Vec<Use>,
    /// The identifiers in the calls of item macros: such a call may define any of them.
    perhaps: BTreeSet<String>,
    /// Every path in the module's own code.
    paths: BTreeSet<Vec<String>>,
    /// Every identifier in the module's own code.
    idents: BTreeSet<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Resolved {
    Module(usize),
    /// An item that this module defines.
    ItemOf(usize),
}

/// The names under way in a search, which a circle of `use` items would repeat for ever.
type Seen = BTreeSet<(usize, String)>;

struct Tree<'r> {
    modules: Vec<Module>,
    exported_macros: BTreeMap<String, usize>,
    read: &'r dyn Fn(&Path) -> Option<String>,
}

impl Tree<'_> {
    fn file(&mut self, file: PathBuf, folder: PathBuf, parent: Option<usize>, text: &str) -> usize {
        let parsed = syn::parse_file(text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        self.module(file, folder, parent, parsed.items)
    }

    fn module(
        &mut self,
        file: PathBuf,
        folder: PathBuf,
        parent: Option<usize>,
        items: Vec<Item>,
    ) -> usize {
        let id = self.modules.len();
        self.modules.push(Module {
            file: file.clone(),
            parent,
            children: BTreeMap::new(),
            items: BTreeSet::new(),
            uses: Vec::new(),
            perhaps: BTreeSet::new(),
            paths: BTreeSet::new(),
            idents: BTreeSet::new(),
        });
        for item in items {
            if attributes(&item).iter().any(never_outside_tests) {
                continue;
            }
            match item {
                Item::Mod(item) => {
                    let name = item.ident.to_string();
                    let below = folder.join(&name);
                    let child = match item.content {
                        Some((_, items)) => self.module(file.clone(), below, Some(id), items),
                        None => {
                            let choices = [folder.join(format!("{name}.rs")), below.join("mod.rs")];
                            let read = self.read;
                            let found =
                                choices.into_iter().find_map(|path| Some((read(&path)?, path)));
                            let (text, path) =
                                found.unwrap_or_else(|| panic!("no file for {}", below.display()));
                            self.file(path, below, Some(id), &text)
                        }
                    };
                    self.modules[id].children.insert(name, child);
                }
                Item::Use(item) => {
                    let re_export = !matches!(item.vis, Visibility::Inherited);
                    flatten(&item.tree, &mut Vec::new(), &mut |path, name| {
                        let path = path.to_vec();
                        self.modules[id].uses.push(Use { path, name, re_export });
                    });
                }
                item => {
                    if let Item::Macro(call) = &item
                        && let Some(name) = &call.ident
                        && call.attrs.iter().any(|a| a.path().is_ident("macro_export"))
                    {
                        self.exported_macros.insert(name.to_string(), id);
                    }
                    let module = &mut self.modules[id];
                    match (&item, name_of(&item)) {
                        (_, Some(name)) => drop(module.items.insert(name)),
                        (Item::Macro(call), None) => {
                            let buffer = TokenBuffer::new2(call.mac.tokens.clone());
                            words(buffer.begin(), &mut module.perhaps);
                        }
                        _ => {}
                    }
                    Code { module }.visit_item(&item);
                }
            }
        }
        id
    }

    fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (id, module) in self.modules.iter().enumerate() {
            let mut add = |to: usize, why: String| {
                let to = &self.modules[to].file;
                if *to != module.file {
                    imports.entry((module.file.clone(), to.clone())).or_insert(why);
                }
            };
            let named = module.uses.iter().filter(|one| match &one.name {
                Some(name) => !one.re_export || module.idents.contains(name),
                None => false,
            });
            for path in named.map(|one| &one.path).chain(&module.paths) {
                if let Some(Resolved::ItemOf(to)) = self.resolve(id, path, &mut Seen::new()) {
                    add(to, path.join("::"));
                }
            }
            for one in module.uses.iter().filter(|one| one.name.is_none()) {
                match self.resolve(id, &one.path, &mut Seen::new()) {
                    Some(Resolved::ItemOf(to)) => add(to, one.path.join("::")),
                    Some(Resolved::Module(from)) => {
                        for ident in module.idents.iter().filter(|ident| !module.binds(ident)) {
                            // A macro call shows many names that it does not define, most of them
                            // small.
                            let large = ident.starts_with(char::is_uppercase);
                            let find = if large { Self::lookup } else { Self::known };
                            let found = find(self, from, ident, &mut Seen::new());
                            if let Some(Resolved::ItemOf(to)) = found {
                                add(to, format!("{}::{ident}", one.path.join("::")));
                            }
                        }
                    }
                    None => {}
                }
            }
        }
        imports
    }

    /// What a path names, or None for an item of another crate.
    fn resolve(&self, from: usize, path: &[String], seen: &mut Seen) -> Option<Resolved> {
        let mut path = path.iter().map(String::as_str);
        let mut at = match path.next()? {
            "crate" => Resolved::Module(0),
            "self" => Resolved::Module(from),
            "super" => Resolved::Module(self.modules[from].parent?),
            name => self.lookup(from, name, seen)?,
        };
        for name in path {
            let Resolved::Module(id) = at else { break };
            at = match name {
                "super" => Resolved::Module(self.modules[id].parent?),
                "self" => at,
                // A macro defines it, under a name that no token of its call shows.
                name => match self.lookup(id, name, seen) {
                    Some(found) => found,
                    None if self.passes_on(id, name) => return None,
                    None => Resolved::ItemOf(id),
                },
            };
        }
        Some(at)
    }

    /// Whether the module passes on an item of another crate under this name.
    fn passes_on(&self, id: usize, name: &str) -> bool {
        self.modules[id].uses.iter().any(|one| one.name.as_deref() == Some(name))
    }

    /// What a name means inside a module, from outside or inside it.
    fn lookup(&self, id: usize, name: &str, seen: &mut Seen) -> Option<Resolved> {
        let perhaps = || {
            let mut homes = self.opened(id, &mut BTreeSet::new()).into_iter();
            homes.find(|&home| self.modules[home].perhaps.contains(name)).map(Resolved::ItemOf)
        };
        self.known(id, name, seen).or_else(perhaps)
    }

    /// As `lookup`, without what a macro may define.
    fn known(&self, id: usize, name: &str, seen: &mut Seen) -> Option<Resolved> {
        if !seen.insert((id, name.to_owned())) {
            return None;
        }
        let module = &self.modules[id];
        if let Some(&child) = module.children.get(name) {
            return Some(Resolved::Module(child));
        }
        if module.items.contains(name) {
            return Some(Resolved::ItemOf(id));
        }
        if let Some(&home) = self.exported_macros.get(name).filter(|_| id == 0) {
            return Some(Resolved::ItemOf(home));
        }
        if let Some(one) = module.uses.iter().find(|one| one.name.as_deref() == Some(name)) {
            return self.resolve(id, &one.path, seen);
        }
        let globs = module.uses.iter().filter(|one| one.name.is_none());
        globs
            .filter_map(|one| match self.resolve(id, &one.path, seen) {
                Some(Resolved::Module(from)) => self.known(from, name, seen),
                _ => None,
            })
            .next()
    }

    /// A module, and those whose names its globs bring in.
    fn opened(&self, id: usize, opened: &mut BTreeSet<usize>) -> BTreeSet<usize> {
        if opened.insert(id) {
            for one in self.modules[id].uses.iter().filter(|one| one.name.is_none()) {
                if let Some(Resolved::Module(from)) = self.resolve(id, &one.path, &mut Seen::new())
                {
                    self.opened(from, opened);
                }
            }
        }
        opened.clone()
    }
}

impl Module {
    fn binds(&self, name: &str) -> bool {
        self.items.contains(name)
            || self.children.contains_key(name)
            || self.uses.iter().any(|one| one.name.as_deref() == Some(name))
    }
}

/// Collects the paths and the identifiers of code.
struct Code<'m> {
    module: &'m mut Module,
}

impl Visit<'_> for Code<'_> {
    fn visit_path(&mut self, path: &syn::Path) {
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string());
            self.module.paths.insert(segments.collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_path_segment(&mut self, segment: &syn::PathSegment) {
        self.module.idents.insert(segment.ident.to_string());
        visit::visit_path_segment(self, segment);
    }

    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        flatten(&item.tree, &mut Vec::new(), &mut |path, _| {
            self.module.paths.insert(path.to_vec());
        });
    }

    fn visit_macro(&mut self, call: &syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(TokenBuffer::new2(call.tokens.clone()).begin());
    }

    fn visit_meta_list(&mut self, list: &syn::MetaList) {
        self.tokens(TokenBuffer::new2(list.tokens.clone()).begin());
    }
}

impl Code<'_> {
    fn tokens(&mut self, mut at: Cursor<'_>) {
        words(at, &mut self.module.idents);
        let mut path = Vec::new();
        loop {
            if let Some((ident, next)) = at.ident() {
                path.push(ident.to_string());
                at = next;
                if let Some(next) = double_colon(at) {
                    at = next;
                    continue;
                }
            } else if let Some((inside, _, _, next)) = at.any_group() {
                self.tokens(inside);
                at = next;
            } else if let Some((_, next)) = at.token_tree() {
                at = next;
            } else {
                break;
            }
            if path.len() > 1 {
                self.module.paths.insert(std::mem::take(&mut path));
            }
            path.clear();
        }
    }
}

fn double_colon(at: Cursor<'_>) -> Option<Cursor<'_>> {
    let (first, at) = at.punct()?;
    let (second, at) = at.punct()?;
    (first.as_char() == ':' && second.as_char() == ':').then_some(at)
}

fn words(mut at: Cursor<'_>, into: &mut BTreeSet<String>) {
    loop {
        if let Some((ident, next)) = at.ident() {
            into.insert(ident.to_string());
            at = next;
        } else if let Some((inside, _, _, next)) = at.any_group() {
            words(inside, into);
            at = next;
        } else if let Some((_, next)) = at.token_tree() {
            at = next;
        } else {
            return;
        }
    }
}

/// Tells each import of a `use` with the name that it binds; None for a glob.
fn flatten(
    tree: &UseTree,
    path: &mut Vec<String>,
    tell: &mut dyn FnMut(&[String], Option<String>),
) {
    match tree {
        UseTree::Path(tree) => {
            path.push(tree.ident.to_string());
            flatten(&tree.tree, path, tell);
            path.pop();
        }
        UseTree::Name(tree) if tree.ident == "self" => tell(path, path.last().cloned()),
        UseTree::Name(tree) => {
            path.push(tree.ident.to_string());
            tell(path, path.last().cloned());
            path.pop();
        }
        UseTree::Rename(tree) => {
            path.push(tree.ident.to_string());
            tell(path, Some(tree.rename.to_string()));
            path.pop();
        }
        UseTree::Glob(_) => tell(path, None),
        UseTree::Group(tree) => tree.items.iter().for_each(|tree| flatten(tree, path, tell)),
    }
}

fn name_of(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Macro(item) => item.ident.as_ref()?.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        Item::Union(item) => item.ident.to_string(),
        _ => return None,
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether the attribute is a `cfg` that only a test build can meet.
fn never_outside_tests(attribute: &Attribute) -> bool {
    let condition = || attribute.parse_args::<Meta>().is_ok_and(|meta| !can_hold(&meta));
    attribute.path().is_ident("cfg") && condition()
}

fn can_hold(meta: &Meta) -> bool {
    let Meta::List(list) = meta else {
        return !(meta.path().is_ident("test") || meta.path().is_ident("doctest"));
    };
    let parts = syn::punctuated::Punctuated::<Meta, Token![,]>::parse_terminated;
    let Ok(parts) = list.parse_args_with(parts) else { return true };
    if list.path.is_ident("all") {
        return parts.iter().all(can_hold);
    }
    // The opposite of what a test build lacks holds; of the rest nothing is known.
    !list.path.is_ident("any") || parts.iter().any(can_hold)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rings of a made crate: its files by name, with their text.
    fn rings_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let read = |path: &Path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        };
        let shown = |ring: Vec<PathBuf>| ring.iter().map(|f| f.display().to_string()).collect();
        rings(&imports(Path::new("lib.rs"), &read)).into_iter().map(shown).collect()
    }

    #[test]
    fn two_files_that_import_each_other_are_a_ring() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B; pub struct A(B);"),
            ("b.rs", "pub enum B { Of(Box<super::a::A>) }"),
        ];
        assert_eq!(rings_of(&files), [["a.rs", "b.rs"]]);
    }

    #[test]
    fn a_ring_may_lead_over_three_files_and_folders() {
        let mut files = [
            ("lib.rs", "mod a; mod b; mod other;"),
            ("a/mod.rs", "mod inner; pub fn start() { inner::deep() }"),
            ("a/inner.rs", "pub fn deep() { crate::b::run() }"),
            ("b.rs", "use crate::a; pub fn run() { a::start() }"),
            ("other.rs", "use crate::b::run; fn other() { run() }"),
        ];
        assert_eq!(rings_of(&files), [["a/inner.rs", "a/mod.rs", "b.rs"]]);
        // The module alone is no item.
        files[3].1 = "use crate::a; pub fn run() {}";
        assert!(rings_of(&files).is_empty());
    }

    #[test]
    fn a_re_export_leads_to_the_file_that_defines() {
        let files = [
            ("lib.rs", "mod a; mod b; pub use a::*; pub use b::{B as Renamed};"),
            ("a.rs", "pub struct A(crate::Renamed);"),
            ("b.rs", "pub struct B;"),
        ];
        assert!(rings_of(&files).is_empty());
        let mut closed = files;
        closed[2].1 = "use crate::A; pub struct B(Option<Box<A>>);";
        assert_eq!(rings_of(&closed), [["a.rs", "b.rs"]]);
    }

    #[test]
    fn the_root_is_in_a_ring_only_if_it_defines() {
        let root = "mod a; pub use a::A; pub struct Root(A);";
        let files = [("lib.rs", root), ("a.rs", "pub struct A(Option<Box<crate::Root>>);")];
        assert_eq!(rings_of(&files), [["a.rs", "lib.rs"]]);
    }

    #[test]
    fn macros_count_and_tests_do_not() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "pub fn a() -> u8 { vec![crate::b::VALUE][0] }"),
            ("b.rs", "pub const VALUE: u8 = 1; #[cfg(test)] mod tests { use crate::a::a; }"),
        ];
        assert!(rings_of(&files).is_empty());
        let mut closed = files;
        closed[2].1 = "made! { pub VALUE: u8 = crate::a::a(); }";
        assert_eq!(rings_of(&closed), [["a.rs", "b.rs"]]);
    }

    #[test]
    fn a_glob_counts_by_the_names_that_are_used() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::*; pub struct A;"),
            ("b.rs", "use crate::a::*; pub struct B(Option<A>);"),
        ];
        assert!(rings_of(&files).is_empty());
        let mut closed = files;
        closed[1].1 = "use crate::b::*; pub struct A(Option<Box<B>>);";
        assert_eq!(rings_of(&closed), [["a.rs", "b.rs"]]);
    }

    #[test]
    fn a_message_names_the_files_and_the_paths() {
        let read = |path: &Path| match path.to_str() {
            Some("lib.rs") => Some("mod a; pub fn root() { a::a() }".to_owned()),
            Some("a.rs") => Some("pub fn a() { crate::root() }".to_owned()),
            _ => None,
        };
        let imports = imports(Path::new("lib.rs"), &read);
        let told = told(&rings(&imports)[0], &imports);
        assert_eq!(told, "  a.rs -> lib.rs (crate::root)\n  lib.rs -> a.rs (a::a)\n");
    }
}
