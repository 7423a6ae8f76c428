//! Lists the recipes of `config/dialects/`, so that adding a dialect takes no line of code.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?;
    let folder = Path::new(&root).join("config/dialects");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut recipes = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            recipes.push(path);
        }
    }
    recipes.sort();
    let mut list = Vec::new();
    for path in &recipes {
        let name = path.file_stem().ok_or(io::ErrorKind::InvalidData)?.to_string_lossy();
        list.push(format!("({name:?}, include_str!({:?}))", path.to_string_lossy()));
    }
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    fs::write(Path::new(&out).join("recipes.rs"), format!("&[{}]", list.join(",\n")))
}
