//! The paths that a Rust source file names, imports and aliases resolved, test code left out.

use std::collections::BTreeMap;

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, ItemMod, ItemUse, MetaList, Path, UseTree};

/// A resolved path: `crate::…` for modules of keyferry, `std::…` or `tokio::…` for other crates.
pub(crate) struct NamedPath {
    pub(crate) segments: Vec<String>,
    /// Line in the file, the first one is 1.
    pub(crate) line: usize,
}

pub(crate) struct Source {
    pub(crate) paths: Vec<NamedPath>,
    /// Modules that are declared here for tests only and have a separate file.
    pub(crate) test_modules: Vec<String>,
}

/// Parses `text`, the source of `module` (`["agent", "token"]`; empty for the root of the crate).
pub(crate) fn read(text: &str, module: &[String]) -> Source {
    let file = syn::parse_file(text).unwrap_or_else(|error| panic!("failed to parse {module:?}: {error}\n{text}"));
    let mut walk = Walk { module: module.to_vec(), ..Walk::default() };
    walk.visit_file(&file);
    let named = std::mem::take(&mut walk.named);
    let paths =
        named.into_iter().map(|(module, path, line)| NamedPath { segments: walk.resolve(&module, &path), line });
    Source { paths: paths.collect(), test_modules: walk.test_modules }
}

/// One walk over a file.
#[derive(Default)]
struct Walk {
    /// The module of the current item; inline modules are entered.
    module: Vec<String>,
    /// Resolved path of each imported name and each declared module.
    aliases: BTreeMap<String, Vec<String>>,
    /// Module, path as written, line. Resolved after the walk, when every alias is known.
    named: Vec<(Vec<String>, Vec<String>, usize)>,
    test_modules: Vec<String>,
}

impl Walk {
    /// Resolves `crate`, `self`, `super`, and aliases.
    fn resolve(&self, module: &[String], path: &[String]) -> Vec<String> {
        let supers = path.iter().take_while(|segment| *segment == "super").count();
        let in_crate = |module: &[String]| [&["crate".to_owned()], module].concat();
        let (mut resolved, rest) = match path[0].as_str() {
            "crate" | "keyferry" => (in_crate(&[]), &path[1..]),
            "self" => (in_crate(module), &path[1..]),
            "super" => (in_crate(&module[..module.len().saturating_sub(supers)]), &path[supers..]),
            name => (self.aliases.get(name).cloned().unwrap_or_else(|| vec![name.to_owned()]), &path[1..]),
        };
        resolved.extend(rest.iter().filter(|segment| *segment != "self").cloned());
        resolved
    }

    fn import(&mut self, path: Vec<String>, alias: Option<&Ident>, line: usize) {
        let resolved = self.resolve(&self.module, &path);
        if let Some(name) = alias.map(ToString::to_string).or_else(|| resolved.last().cloned()) {
            self.aliases.insert(name, resolved);
        }
        self.named.push((self.module.clone(), path, line));
    }

    fn use_tree(&mut self, tree: &UseTree, prefix: &[String]) {
        let below = |ident: &Ident| [prefix, &[ident.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.use_tree(&path.tree, &below(&path.ident)),
            UseTree::Name(name) => self.import(below(&name.ident), None, name.ident.span().start().line),
            UseTree::Rename(name) => {
                self.import(below(&name.ident), Some(&name.rename), name.ident.span().start().line);
            }
            UseTree::Glob(glob) => {
                self.import([prefix, &["*".to_owned()]].concat(), None, glob.star_token.spans[0].start().line);
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.use_tree(tree, prefix)),
        }
    }

    /// Names a path of at least two segments. A single segment is a local name, or an import that is named already.
    fn name(&mut self, path: &[Ident]) {
        if let [first, _, ..] = path {
            let segments = path.iter().map(ToString::to_string).collect();
            self.named.push((self.module.clone(), segments, first.span().start().line));
        }
    }

    /// Names the paths in the arguments of a macro or an attribute, which are not parsed.
    fn tokens(&mut self, tokens: &TokenStream) {
        let (mut path, mut colons) = (Vec::new(), 0);
        for token in tokens.clone() {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Ident(ident) if colons == 2 => path.push(ident),
                TokenTree::Ident(ident) => self.name(&std::mem::replace(&mut path, vec![ident])),
                TokenTree::Group(group) => {
                    self.name(&std::mem::take(&mut path));
                    self.tokens(&group.stream());
                }
                _ => self.name(&std::mem::take(&mut path)),
            }
            colons = 0;
        }
        self.name(&path);
    }
}

impl<'ast> Visit<'ast> for Walk {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        } else if let Item::Mod(ItemMod { ident, content: None, .. }) = item {
            self.test_modules.push(ident.to_string());
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !matches!(item, ImplItem::Fn(function) if is_test(&function.attrs)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let name = item.ident.to_string();
        self.aliases.insert(name.clone(), self.resolve(&self.module, &["self".to_owned(), name.clone()]));
        self.module.push(name);
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.use_tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        self.name(&path.segments.iter().map(|segment| segment.ident.clone()).collect::<Vec<_>>());
        // The arguments of generic segments.
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        visit::visit_macro(self, call);
        self.tokens(&call.tokens);
    }

    fn visit_meta_list(&mut self, list: &'ast MetaList) {
        self.tokens(&list.tokens);
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    let test = |list: &MetaList| list.path.is_ident("cfg") && list.tokens.to_string() == "test";
    attributes.iter().any(|attribute| attribute.meta.require_list().is_ok_and(test))
}

/// The attributes of an item that can be for tests only.
fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(syn::ItemConst { attrs, .. })
        | Item::Enum(syn::ItemEnum { attrs, .. })
        | Item::Fn(syn::ItemFn { attrs, .. })
        | Item::Impl(syn::ItemImpl { attrs, .. })
        | Item::Macro(syn::ItemMacro { attrs, .. })
        | Item::Mod(ItemMod { attrs, .. })
        | Item::Static(syn::ItemStatic { attrs, .. })
        | Item::Struct(syn::ItemStruct { attrs, .. })
        | Item::Trait(syn::ItemTrait { attrs, .. })
        | Item::Type(syn::ItemType { attrs, .. })
        | Item::Use(ItemUse { attrs, .. }) => attrs,
        _ => &[],
    }
}
