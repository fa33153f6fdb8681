//! The documented functions of a folder's files as the crate syn reads Rust, a line of JSON each.

use std::{env, fs};
use syn::visit::Visit;

struct Docs<'a> {
    file: &'a str,
}

/// A string of JSON.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for one in text.chars() {
        match one {
            '"' | '\\' => {
                out.push('\\');
                out.push(one);
            }
            one if (one as u32) < 32 => out.push_str(&format!("\\u{:04x}", one as u32)),
            one => out.push(one),
        }
    }
    out + "\""
}

impl Docs<'_> {
    fn show(&self, name: &syn::Ident, attributes: &[syn::Attribute]) {
        let lines: Vec<String> = attributes
            .iter()
            .filter(|one| one.path.is_ident("doc"))
            .filter_map(|one| match one.parse_meta() {
                Ok(syn::Meta::NameValue(syn::MetaNameValue { lit: syn::Lit::Str(text), .. })) => Some(text.value()),
                _ => None,
            })
            .collect();
        if lines.iter().any(|line| !line.trim().is_empty()) {
            let (name, doc) = (quoted(&name.to_string()), quoted(&lines.join("\n")));
            println!("{{\"file\": {}, \"name\": {name}, \"doc\": {doc}}}", quoted(self.file));
        }
    }
}

/// What stands inside of functions is not looked at.
impl<'ast> Visit<'ast> for Docs<'_> {
    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        self.show(&node.sig.ident, &node.attrs);
    }
    fn visit_impl_item_method(&mut self, node: &'ast syn::ImplItemMethod) {
        self.show(&node.sig.ident, &node.attrs);
    }
    fn visit_trait_item_method(&mut self, node: &'ast syn::TraitItemMethod) {
        if node.default.is_some() {
            self.show(&node.sig.ident, &node.attrs);
        }
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
