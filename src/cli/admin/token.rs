//! The token that says who asks: from a file or the environment, never from the command line, and never shown.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use http::HeaderValue;
use zeroize::Zeroizing;

/// A bearer token. Its text is seen by the request alone.
pub(crate) struct Token(HeaderValue);

impl Token {
    /// Reads it from `file` if there is one, else from the environment. None when neither has one.
    pub(crate) fn find(file: Option<&Path>) -> Result<Option<Self>, String> {
        if let Some(file) = file {
            return from_file(file).map(Some);
        }
        match std::env::var(VARIABLE).map(Zeroizing::new) {
            Ok(text) if text.trim().is_empty() => Ok(None),
            Ok(text) => Self::read(&text).map(Some).map_err(|bad| format!("{VARIABLE}: {bad}")),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err(format!("{VARIABLE}: {NO_TOKEN}")),
        }
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let plain = text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || !plain {
            return Err(NO_TOKEN);
        }
        let field = Zeroizing::new(format!("Bearer {text}"));
        let mut value = HeaderValue::from_str(&field).map_err(|_| NO_TOKEN)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    /// What stands in `Authorization`.
    pub(crate) fn field(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

fn from_file(file: &Path) -> Result<Token, String> {
    let at = file.display();
    let about = std::fs::metadata(file).map_err(|error| format!("{at}: {error}"))?;
    if about.is_file() && about.mode() & 0o077 != 0 {
        return Err(format!("{at}: others can read this token: run `chmod 600 {at}`"));
    }
    let text = std::fs::read_to_string(file).map(Zeroizing::new);
    let text = text.map_err(|error| format!("{at}: {error}"))?;
    Token::read(&text).map_err(|bad| format!("{at}: {bad}"))
}

/// The variable that holds it.
pub(crate) const VARIABLE: &str = "COUNTERSIGN_ADMIN_TOKEN";
const NO_TOKEN: &str = "this is no token: it has one word, as csa_…";
/// Longer than any token, of ours or of an identity provider.
const LONGEST: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_file_is_read_without_its_line_end_unless_others_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "csa_planted\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let token = Token::find(Some(&file)).unwrap().unwrap();
        assert_eq!(token.field(), "Bearer csa_planted");
        assert!(!format!("{token:?} {:?}", token.field()).contains("planted"));

        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Token::find(Some(&file)).unwrap_err().contains("chmod 600"));
    }

    #[test]
    fn what_is_no_token_is_not_repeated() {
        for text in ["", " ", "two words", "line\nline", "ümlaut"] {
            assert_eq!(Token::read(text).unwrap_err(), NO_TOKEN, "{text}");
        }
    }
}
