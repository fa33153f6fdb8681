//! The documented functions of a folder's files as rustc's own syntax (crate syn) has them, a line of JSON each.

use std::{env, fs};
use syn::visit::{self, Visit};

struct Docs<'a> {
    file: &'a str,
}

impl Docs<'_> {
    fn show(&self, name: &syn::Ident, attributes: &[syn::Attribute]) {
        let lines: Vec<String> = attributes
            .iter()
            .filter_map(|one| match &one.meta {
                syn::Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                    syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
                    _ => None,
                },
                _ => None,
            })
            .collect();
        if !lines.is_empty() {
            println!("{}", serde_json::json!({"file": self.file, "name": name.to_string(), "doc": lines.join("\n")}));
        }
    }
}

impl<'ast> Visit<'ast> for Docs<'_> {
    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        self.show(&node.sig.ident, &node.attrs); // what stands in a function is not looked at
    }
    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        self.show(&node.sig.ident, &node.attrs);
    }
    fn visit_trait_item_fn(&mut self, node: &'ast syn::TraitItemFn) {
        if node.default.is_some() {
            self.show(&node.sig.ident, &node.attrs);
        }
    }
    fn visit_file(&mut self, node: &'ast syn::File) {
        visit::visit_file(self, node);
    }
}

fn main() {
    let folder = env::args().nth(1).expect("a folder");
    for entry in fs::read_dir(folder).expect("readable").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        if let Ok(file) = syn::parse_file(&text) {
            Docs { file: &name }.visit_file(&file);
        }
    }
}
