//! Dialects without the rules against ambiguity: what a search for such faults must find wanting. No release has them.

use super::Dialect;

impl Dialect {
    /// The dialect of a recipe, whatever requests it could take for each other: no rule of safety is asked at load, and
    /// no request is refused for what another could be signed like. Only a build with debug assertions has this.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub fn compile_unguarded(recipe: &str) -> Result<Self, super::RecipeError> {
        super::recipe::compile_unguarded(recipe)
    }

    /// Whether it refuses what could be read in two ways.
    #[expect(clippy::unused_self, reason = "only a build for tests has dialects that do not")]
    #[cfg(not(debug_assertions))]
    pub(super) const fn is_guarded(&self) -> bool {
        true
    }

    /// Whether it refuses what could be read in two ways.
    #[cfg(debug_assertions)]
    pub(super) const fn is_guarded(&self) -> bool {
        !self.unguarded
    }
}

#[cfg(test)]
mod tests {
    use crate::dialect::{BUILTIN, Dialect};

    #[test]
    fn what_is_refused_at_load_is_taken_without_guards_alone() {
        let (_, deribit) = BUILTIN.iter().find(|(name, _)| *name == "deribit").unwrap();
        let unsafe_recipe = deribit.replace("\\n{body}", "{body}");
        assert_ne!(*deribit, unsafe_recipe);
        assert!(Dialect::compile(&unsafe_recipe).is_err());
        assert!(!Dialect::compile_unguarded(&unsafe_recipe).unwrap().is_guarded());
        assert!(Dialect::compile(deribit).unwrap().is_guarded());
    }
}
