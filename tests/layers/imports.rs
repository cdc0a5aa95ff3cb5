//! The imports between the modules of one package, read from the parsed source.
//!
//! A module and the modules inside it are one thing that is split over files: imports between them do not count.
//! Tests are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};

/// A module's path below the package's root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Module(Vec<String>);

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("::"))
    }
}

impl Module {
    fn of(file: &Path) -> Self {
        let parts = file.with_extension("");
        let mut parts: Vec<String> = parts.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if parts.last().is_some_and(|last| last == "mod" || (parts.len() == 1 && last == "lib")) {
            parts.pop();
        }
        Self(parts)
    }

    fn is_around(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

/// The imports of all modules of a package.
pub struct Imports(BTreeMap<Module, BTreeSet<Module>>);

impl Imports {
    /// Those of the files in a folder.
    pub fn of(folder: &Path) -> Self {
        let files = super::files(folder);
        let parsed: Vec<(Module, syn::File)> = files
            .iter()
            .filter(|file| !file.ends_with("tests.rs"))
            .map(|file| {
                let text = fs::read_to_string(file).unwrap();
                (Module::of(file.strip_prefix(folder).unwrap()), syn::parse_file(&text).unwrap())
            })
            .collect();
        let modules: BTreeSet<Module> = parsed.iter().map(|(module, _)| module.clone()).collect();
        let imports = parsed.iter().map(|(module, file)| {
            let mut paths = Paths { module, found: BTreeSet::new() };
            paths.visit_file(file);
            let used = paths.found.iter().filter_map(|path| home(path, &modules));
            (module.clone(), used.filter(|used| *used != module).cloned().collect())
        });
        Self(imports.collect())
    }

    /// Whether there is a module of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.keys().any(|module| module.to_string() == name)
    }

    /// Each import as importing and imported module, but for those between a module and the modules inside it.
    pub fn all(&self) -> impl Iterator<Item = (&Module, &Module)> {
        let pairs = self.0.iter().flat_map(|(user, used)| used.iter().map(move |used| (user, used)));
        pairs.filter(|(user, used)| !user.is_around(used) && !used.is_around(user))
    }

    /// The modules of every circle.
    pub fn circles(&self) -> BTreeSet<BTreeSet<String>> {
        let reached: BTreeMap<&Module, BTreeSet<&Module>> =
            self.0.keys().map(|module| (module, self.reached(module))).collect();
        let mut circles = BTreeSet::new();
        for (module, from_here) in &reached {
            if from_here.contains(module) {
                let others = from_here.iter().filter(|other| reached[**other].contains(module));
                circles.insert(others.map(ToString::to_string).collect());
            }
        }
        circles
    }

    /// What a module reaches by imports, over any number of steps.
    fn reached(&self, from: &Module) -> BTreeSet<&Module> {
        let mut reached = BTreeSet::new();
        let mut next = vec![from];
        while let Some(module) = next.pop() {
            for (_, used) in self.all().filter(|(user, _)| *user == module) {
                if reached.insert(used) {
                    next.push(used);
                }
            }
        }
        reached
    }
}

/// The module that an item's path leads into.
fn home<'a>(path: &[String], modules: &'a BTreeSet<Module>) -> Option<&'a Module> {
    (0..=path.len()).rev().find_map(|length| modules.get(&Module(path[..length].to_vec())))
}

/// Collects the paths that lead to other modules, from the package's root.
struct Paths<'a> {
    module: &'a Module,
    found: BTreeSet<Vec<String>>,
}

impl Paths<'_> {
    /// A path as it is written, from the package's root; none: it begins somewhere else.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let mut base = match first.as_str() {
            "crate" => return Some(rest.to_vec()),
            "self" => self.module.0.clone(),
            "super" => self.module.0[..self.module.0.len().checked_sub(1)?].to_vec(),
            _ => return None,
        };
        let mut rest = rest;
        while let Some(("super", after)) = rest.split_first().map(|(first, after)| (first.as_str(), after)) {
            base.pop();
            rest = after;
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    fn take(&mut self, path: &[String]) {
        self.found.extend(self.absolute(path));
    }

    fn take_tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.take_tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) if name.ident == "self" => self.take(before),
            syn::UseTree::Name(name) => self.take(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.take(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.take(before),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.take_tree(before, tree)),
        }
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.take_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let path_of: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.take(&path_of);
        visit::visit_path(self, path);
    }

    /// What stands in a macro is not parsed: its words are looked at.
    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let text = item.tokens.to_string().replace(' ', "");
        for (at, _) in text.match_indices("crate::").chain(text.match_indices("super::")) {
            let end = text[at..].find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
            let path = &text[at..end.map_or(text.len(), |end| at + end)];
            self.take(&path.split("::").map(str::to_owned).collect::<Vec<_>>());
        }
        visit::visit_macro(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = item.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
        });
        if !is_test {
            visit::visit_item_mod(self, item);
        }
    }
}
