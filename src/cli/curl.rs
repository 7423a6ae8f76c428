//! A signed request as a line for the shell.

use crate::dialect::{Dialect, SignedRequest};

/// The `curl` line that sends `signed` to `base`, ready to paste.
pub fn line(dialect: &Dialect, signed: &SignedRequest, base: &str) -> String {
    let mut line = String::from("curl -sS");
    // curl makes several URLs of these, or fewer bytes of one.
    if signed.target.contains(['[', ']', '{', '}']) {
        line.push_str(" --globoff");
    }
    if signed.method == http::Method::HEAD && signed.body.is_empty() {
        // With `-X HEAD` it would wait for a body.
        line.push_str(" --head");
    } else if signed.method != http::Method::GET {
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

    fn of(method: http::Method, target: &str, body: &str) -> String {
        let dialect = crate::dialect::builtin("binance").unwrap().unwrap();
        let (target, body) = (target.to_owned(), body.to_owned());
        line(&dialect, &SignedRequest { method, target, headers: vec![], body }, "http://h/")
    }

    #[test]
    fn curl_sends_what_was_signed_and_waits_for_no_more() {
        use http::Method;
        assert_eq!(of(Method::GET, "/a?b=c", ""), "curl -sS 'http://h/a?b=c'");
        assert_eq!(of(Method::GET, "/a?b=[1-3]", ""), "curl -sS --globoff 'http://h/a?b=[1-3]'");
        assert_eq!(
            of(Method::DELETE, "/a?b={c}", ""),
            "curl -sS --globoff -X DELETE 'http://h/a?b={c}'"
        );
        assert_eq!(of(Method::HEAD, "/a", ""), "curl -sS --head 'http://h/a'");
        assert_eq!(of(Method::POST, "/a", "[1]"), "curl -sS -X POST --data-raw '[1]' 'http://h/a'");
    }

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
