//! Defeats a request that has its own idea of a key's algorithm: what names one names that of the key's record.

use super::raw::RawAlgorithm;
use super::{Dialect, Place, place};
use crate::denial::{Credential, Denial};
use crate::key::Algorithm;

/// Where requests state the algorithm of their key, and what it is called there.
#[derive(Clone, Debug)]
pub(super) struct AlgorithmRule {
    pub(super) place: Place,
    names: Box<[(Algorithm, Box<str>)]>,
}

impl AlgorithmRule {
    /// What the algorithm is called.
    pub(super) fn name(&self, algorithm: Algorithm) -> Option<&str> {
        self.names.iter().find(|(known, _)| *known == algorithm).map(|(_, name)| &**name)
    }
}

impl Dialect {
    /// The algorithm that a request states, where it states one: it is then the only one that its key may have.
    pub(super) fn stated_algorithm(&self, text: Option<&str>) -> Result<Option<Algorithm>, Denial> {
        let Some((rule, text)) = self.algorithm.as_ref().zip(text) else { return Ok(None) };
        let known = rule.names.iter().find(|(_, name)| **name == *text);
        let (algorithm, _) = known.ok_or(Denial::Garbled(Credential::Algorithm))?;
        Ok(Some(*algorithm))
    }

    /// Where its requests state the algorithm of their key, with what each is called there.
    pub fn algorithm_names(&self) -> impl Iterator<Item = (&Place, Algorithm, &str)> {
        self.algorithm.iter().flat_map(|rule| {
            let names = rule.names.iter();
            names.map(move |(algorithm, name)| (&rule.place, *algorithm, &**name))
        })
    }
}

/// Compiles what a recipe says of it.
pub(super) fn compile(raw: &RawAlgorithm, dialect: &Dialect) -> Result<AlgorithmRule, String> {
    let name = |algorithm: Algorithm| {
        let name = raw.names.get(algorithm.name()).filter(|name| place::is_plain(name));
        let name =
            name.ok_or_else(|| format!("algorithm: `names` has no word for {}", algorithm.name()))?;
        Ok::<_, String>((algorithm, Box::from(name.as_str())))
    };
    let names: Box<[(Algorithm, Box<str>)]> =
        dialect.algorithms().map(name).collect::<Result<_, _>>()?;
    if let Some(other) = raw
        .names
        .keys()
        .find(|known| !names.iter().any(|(algorithm, _)| algorithm.name() == known.as_str()))
    {
        return Err(format!("algorithm: `{other}` is none of the signature's `algorithms`"));
    }
    let twice = |(algorithm, name): &(Algorithm, Box<str>)| {
        names.iter().any(|(other, known)| other != algorithm && known == name)
    };
    if names.iter().any(twice) {
        return Err("algorithm: two algorithms have one name".into());
    }
    Ok(AlgorithmRule { place: Place::parse(&raw.r#in)?, names })
}

#[cfg(test)]
mod tests {
    use crate::dialect::{BUILTIN, Dialect};

    fn refusal(names: &str) -> String {
        let (_, htx) = BUILTIN.iter().find(|(name, _)| *name == "htx").unwrap();
        let own = r#"{ hmac-sha256 = "HmacSHA256", ed25519 = "Ed25519" }"#;
        assert!(htx.contains(own));
        Dialect::compile(&htx.replace(own, names)).unwrap_err().message
    }

    #[test]
    fn every_algorithm_has_a_name_of_its_own() {
        assert!(refusal(r#"{ hmac-sha256 = "a" }"#).contains("no word for ed25519"));
        assert!(refusal(r#"{ hmac-sha256 = "a", ed25519 = "" }"#).contains("no word for ed25519"));
        assert!(refusal(r#"{ hmac-sha256 = "a", ed25519 = "a" }"#).contains("one name"));
        let more = r#"{ hmac-sha256 = "a", ed25519 = "b", rsa-sha256 = "c" }"#;
        assert!(refusal(more).contains("none of the signature's"));
    }
}
