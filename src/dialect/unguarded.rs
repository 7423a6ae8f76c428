//! Dialects without the rules against ambiguity: what a search for such faults must find wanting. No release has them.

use super::Dialect;

/// Whether a dialect has its rules. A release has no other way to be.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    #[cfg(debug_assertions)]
    dropped: bool,
}

impl Rules {
    /// Each of them holds.
    pub(super) const KEPT: Self = Self {
        #[cfg(debug_assertions)]
        dropped: false,
    };

    /// None of them does.
    #[cfg(debug_assertions)]
    pub(super) const DROPPED: Self = Self { dropped: true };

    const fn are_kept(self) -> bool {
        #[cfg(debug_assertions)]
        if self.dropped {
            return false;
        }
        true
    }
}

impl Dialect {
    /// The dialect of a recipe, whatever requests it could take for each other: no rule of safety is asked at load, and
    /// no request is refused for what another could be signed like. Only a build with debug assertions has this.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub fn compile_unguarded(recipe: &str) -> Result<Self, super::RecipeError> {
        super::recipe::compile(recipe, Rules::DROPPED)
    }

    /// Whether it refuses what could be read in two ways.
    pub(super) const fn is_guarded(&self) -> bool {
        self.rules.are_kept()
    }
}

#[cfg(test)]
mod tests {
    use crate::dialect::{BUILTIN, Dialect};

    #[test]
    fn what_is_refused_at_load_is_taken_without_guards_alone() {
        let (_, deribit) = BUILTIN.iter().find(|(name, _)| *name == "deribit").unwrap();
        let unsafe_recipe = deribit.replace("{nonce}\\n", "{nonce}");
        assert_ne!(*deribit, unsafe_recipe);
        assert!(Dialect::compile(&unsafe_recipe).is_err());
        assert!(!Dialect::compile_unguarded(&unsafe_recipe).unwrap().is_guarded());
        assert!(Dialect::compile(deribit).unwrap().is_guarded());
    }
}
