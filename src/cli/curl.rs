//! A signed request as a line for the shell.

use crate::dialect::{Dialect, SignedRequest};

/// The `curl` line that sends `signed` to `base`, ready to paste.
pub fn line(dialect: &Dialect, signed: &SignedRequest, base: &str) -> String {
    let mut line = String::from("curl -sS");
    if signed.method != http::Method::GET {
        line.push_str(" -X ");
        line.push_str(signed.method.as_str());
    }
    for (name, value) in &signed.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        line.push_str(" -H ");
        line.push_str(&quoted(&format!("{}: {value}", dialect.spelled(name))));
    }
    if !signed.body.is_empty() {
        line.push_str(" --data-raw ");
        line.push_str(&quoted(&signed.body));
    }
    line.push(' ');
    line.push_str(&quoted(&format!("{}{}", base.trim_end_matches('/'), signed.target)));
    line
}

/// One word for a POSIX shell, whatever it holds.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_reaches_the_program_as_it_was() {
        for word in ["plain", "it's", "a b$c`d\"e\\", ""] {
            let printed = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(word))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(printed.stdout).unwrap(), word);
        }
    }
}
