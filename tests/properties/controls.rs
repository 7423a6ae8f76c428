//! That the search finds what is there to be found: dialects without their rules, each of which it must catch.

use std::io::Write as _;
use std::sync::Arc;

use countersign::dialect::{BUILTIN, Dialect};

use crate::search::{SEPARATED, search};
use crate::signing::dialects;

/// How many variants are tried before a control counts as not caught.
const AT_MOST: usize = 60_000;

/// The recipe without what tells its fields apart, where that is no rule but what stands in the recipe.
fn unseparated(name: &str, recipe: &str) -> String {
    if !SEPARATED.contains(&name) {
        return recipe.to_owned();
    }
    let altered = recipe.replace("\\n", "").replace(", \"@query\"", "");
    assert_ne!(altered, recipe, "{name}");
    altered
}

#[test]
fn the_search_finds_what_each_dialect_lets_through_without_its_rules() {
    let wanted = dialects();
    let all = BUILTIN.iter().filter(|(name, _)| wanted.iter().any(|one| **one.name() == **name));
    let mut missed = Vec::new();
    for (name, recipe) in all {
        let recipe = unseparated(name, recipe);
        // What no rule holds apart is refused at load; of HTX's recipe the known paths would be asked.
        let loads = Dialect::compile(&recipe).is_ok();
        assert_eq!(loads, !SEPARATED.contains(name) || *name == "htx", "{name}");
        let open = Arc::new(Dialect::compile_unguarded(&recipe).unwrap());
        let (found, witness) = search(&(open, None), AT_MOST, true);
        let said = writeln!(
            std::io::stderr(),
            "{name:17} without its rules: caught after {:5} variants",
            found.tried
        );
        said.unwrap();
        if witness.is_none() {
            missed.push(*name);
        }
    }
    assert_eq!(missed, [""; 0]);
}
