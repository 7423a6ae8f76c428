//! The recipes that come with the program.

use super::{Dialect, RecipeError};

/// Every recipe of `config/dialects/`: its name, which is its file's, and its text.
pub const BUILTIN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/recipes.rs"));

/// The built-in dialect called `name`, compiled.
pub fn builtin(name: &str) -> Option<Result<Dialect, RecipeError>> {
    BUILTIN.iter().find(|(known, _)| *known == name).map(|(_, recipe)| Dialect::compile(recipe))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_compiles_under_its_own_name_and_has_an_example() {
        for (name, recipe) in BUILTIN {
            let dialect =
                Dialect::compile(recipe).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(&**dialect.name(), *name);
            assert!(recipe.contains("\nexample = {"), "{name} has no example");
        }
    }
}
