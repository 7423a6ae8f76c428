//! Scripts for bash 5 with curl and openssl. No secret appears on a command line, where others could read it.

use std::fmt::Write as _;

use super::script::{Fresh, Piece, Script, Step, UNSIGNED, Var, Writing, hash};
use crate::dialect::TimeUnit;
use crate::key::Algorithm;

pub(super) fn print(script: &Script) -> String {
    let mut main = String::new();
    body(script, &mut main);
    let mut out = String::from("#!/usr/bin/env bash\n");
    head(script, &main, &mut out);
    out + &main
}

fn body(script: &Script, out: &mut String) {
    begin(script, out);
    for step in &script.before {
        line(step, script, out);
    }
    out.push('\n');
    let message = if script.signs_digest() {
        stream(&script.message)
    } else {
        if script.message_var() == Var::Message {
            assign(Var::Message.name(), &script.message, out);
        }
        stream(&[Piece::Var(script.message_var())])
    };
    let _ = writeln!(
        out,
        "signature=$({message} | {} | {})",
        if script.has_mac() { "hmac" } else { "sign" },
        match script.writing {
            Writing::Hex => "hex",
            Writing::Base64 => "base64",
            Writing::Base64Url => "base64url",
        }
    );
    for step in &script.after {
        line(step, script, out);
    }
    tail(script, out);
}

fn begin(script: &Script, out: &mut String) {
    let _ = writeln!(out, "base={}", literal(&script.base));
    out.push_str("key=$KEY\n");
    if script.has_passphrase {
        out.push_str("passphrase=$PASSPHRASE\n");
    }
    let _ = writeln!(out, "method={}", literal(&script.method));
}

/// What signs, and the functions that `main` mentions.
fn head(script: &Script, main: &str, out: &mut String) {
    for comment in script.comments() {
        let _ = writeln!(out, "# {comment}");
    }
    out.push_str("set -euo pipefail\n\n");
    let signer = signer(script);
    let mentions = |word: &str| {
        let ends = |rest: &str| !rest.starts_with(|char: char| char.is_alphanumeric());
        let text = [&*signer, main];
        text.iter().any(|text| text.split(&format!("| {word}")).skip(1).any(ends))
    };
    let functions = [
        ("hex", mentions("hex"), HEX),
        ("base64", mentions("base64") || mentions("base64url"), BASE64),
        ("base64url", mentions("base64url"), BASE64URL),
        ("escape", main.contains("$(escape "), ESCAPE),
        ("sorted", main.contains("$(sorted "), SORTED),
        ("quoted", mentions("rendered") || mentions("pairs"), QUOTED),
        ("rendered", mentions("rendered"), RENDERED),
        ("pairs", mentions("pairs"), PAIRS),
    ];
    for (_, _, text) in functions.iter().filter(|(_, used, _)| *used) {
        out.push_str(text);
    }
    out.push_str(&signer);
}

/// What makes signatures: `hmac` or `sign`.
fn signer(script: &Script) -> String {
    match script.algorithm {
        Algorithm::HmacSha256 | Algorithm::HmacSha384 | Algorithm::HmacSha512 => {
            let hash = hash(script.algorithm);
            let block = if script.algorithm == Algorithm::HmacSha256 { 64 } else { 128 };
            let decode = if script.secret_in_base64 { "openssl base64 -d -A | hex" } else { "hex" };
            format!(
                "\n# HMAC of what it reads. The secret stays in here: arguments of openssl could be read by others.\n\
                 hash() {{ openssl dgst -{hash} -binary; }}\n\
                 secret=$(printf %s \"$SECRET\" | {decode})\nblock={block}\n{HMAC}"
            )
        }
        Algorithm::Ed25519 => SIGN_ED25519.to_owned(),
        Algorithm::RsaSha256 => SIGN_RSA.to_owned(),
        Algorithm::RsaPssSha512 => SIGN_RSA_PSS.to_owned(),
        Algorithm::EcdsaP256Sha256 => SIGN_ECDSA.to_owned(),
    }
}

fn line(step: &Step, script: &Script, out: &mut String) {
    let _ = match step {
        Step::Let(var, pieces) => {
            assign(var.name(), pieces, out);
            Ok(())
        }
        Step::Clock(var, unit, ahead) => writeln!(out, "{}={}", var.name(), clock(*unit, *ahead)),
        Step::Nonce(Fresh::Clock) => {
            writeln!(out, "nonce=$((${{EPOCHREALTIME/[.,]/}} / 1000))")
        }
        Step::Nonce(Fresh::Uuid) => writeln!(
            out,
            "nonce=$(openssl rand -hex 16 | sed -E 's/^(.{{8}})(.{{4}}).(.{{3}}).(.{{3}})(.{{12}})$/\\1-\\2-4\\3-a\\4-\\5/')"
        ),
        Step::KeyedPassphrase => {
            debug_assert!(script.has_mac());
            writeln!(out, "passphrase=$(printf %s \"$passphrase\" | hmac | base64)")
        }
    };
}

fn assign(name: &str, pieces: &[Piece], out: &mut String) {
    let _ = writeln!(out, "{name}={}", text(pieces));
}

fn tail(script: &Script, out: &mut String) {
    out.push_str(OPTION);
    out.push_str("reply=$({\n  option request \"$method\"\n");
    out.push_str(if script.has_query {
        "  option url \"$base$path?$query\"\n"
    } else {
        "  option url \"$base$path\"\n"
    });
    for (name, value) in &script.headers {
        let start = Piece::Text(format!("{name}: "));
        let line: Vec<_> = std::iter::once(start).chain(value.iter().cloned()).collect();
        let _ = writeln!(out, "  option header {}", text(&line));
    }
    if script.has_body {
        out.push_str("  option data-raw \"$body\"\n");
    }
    let Some(check) = &script.reply else {
        out.push_str("} | curl -gsS -w '\\n%{http_code}' --config -)\n");
        out.push_str("printf '%s %s\\n' \"${reply##*$'\\n'}\" \"${reply%$'\\n'*}\"\n");
        return;
    };
    let content_type = if check.signs_type { "$content_type" } else { "" };
    let start = check.start.iter().map(|piece| within(piece, None));
    let _ = writeln!(
        out,
        "}} | curl -gsS -w '\\n%{{http_code}}\\n%header{{{}}}\\n%{{content_type}}' --config -)\n\
         content_type=${{reply##*$'\\n'}} reply=${{reply%$'\\n'*}}\n\
         sent=${{reply##*$'\\n'}} reply=${{reply%$'\\n'*}}\n\
         status=${{reply##*$'\\n'}} answer=${{reply%$'\\n'*}}\n\
         expected=$(printf %s \"{}{content_type}$answer\" | hmac | hex)\n\
         if [[ $status == 2* && $sent != \"$expected\" ]]; then\n  \
         echo '{UNSIGNED}' >&2\n  exit 1\nfi\n\
         printf '%s %s\\n' \"$status\" \"$answer\"",
        check.header,
        start.collect::<String>(),
    );
}

fn clock(unit: TimeUnit, ahead_ms: u64) -> String {
    let plus = |ahead: u64| if ahead == 0 { String::new() } else { format!(" + {ahead}") };
    match unit {
        TimeUnit::Seconds | TimeUnit::DecimalSeconds => {
            match ahead_ms / 1_000 {
                0 => "$EPOCHSECONDS".to_owned(),
                ahead => format!("$((EPOCHSECONDS + {ahead}))"),
            }
        }
        TimeUnit::Millis | TimeUnit::MillisOrMicros => {
            format!("$((${{EPOCHREALTIME/[.,]/}} / 1000{}))", plus(ahead_ms))
        }
        TimeUnit::Iso => {
            "$(now=$EPOCHREALTIME; TZ=UTC printf '%(%Y-%m-%dT%H:%M:%S)T.%sZ' \"${now%[.,]*}\" \"${now: -6:3}\")".to_owned()
        }
        TimeUnit::IsoSeconds => "$(TZ=UTC printf '%(%Y-%m-%dT%H:%M:%S)T' -1)".to_owned(),
    }
}

/// Pieces as one word.
fn text(pieces: &[Piece]) -> String {
    match pieces {
        [] => "''".to_owned(),
        [Piece::Text(text)] if !text.bytes().any(|byte| byte.is_ascii_control()) => literal(text),
        several => {
            let mut out = String::from("\"");
            for (place, piece) in several.iter().enumerate() {
                out.push_str(&within(piece, several.get(place + 1)));
            }
            out + "\""
        }
    }
}

/// One piece within double quotes, before `next`.
fn within(piece: &Piece, next: Option<&Piece>) -> String {
    match piece {
        Piece::Text(text) => {
            let escaped = text.chars().map(|char| match char {
                '\\' | '"' | '$' | '`' => format!("\\{char}"),
                char => char.to_string(),
            });
            escaped.collect()
        }
        Piece::Var(var) => {
            let joins = |char: char| char.is_alphanumeric() || "_[".contains(char);
            match next {
                Some(Piece::Text(text)) if text.starts_with(joins) => {
                    format!("${{{}}}", var.name())
                }
                _ => format!("${}", var.name()),
            }
        }
        Piece::Escaped(var) => format!("$(escape \"${}\")", var.name()),
        Piece::Sorted(var, extra) => sorted(*var, extra.as_ref()),
        Piece::Pairs => "$(printf %s \"$body\" | pairs)".to_owned(),
        Piece::Rendered(name) => format!("$(printf %s \"$body\" | rendered {})", literal(name)),
        Piece::Sha256(inner) => piped(inner, "openssl dgst -sha256 -binary | hex"),
        Piece::Sha256Base64(inner) => piped(inner, "openssl dgst -sha256 -binary | base64"),
        Piece::Sha512Hex(inner) => piped(inner, "openssl dgst -sha512 -binary | hex"),
        Piece::Base64(inner) => piped(inner, "base64"),
        Piece::Base64Url(inner) => piped(inner, "base64url"),
    }
}

fn piped(inner: &[Piece], command: &str) -> String {
    format!("$({} | {command})", stream(inner))
}

/// A command that prints the pieces.
fn stream(pieces: &[Piece]) -> String {
    let runs = pieces.split_inclusive(|piece| matches!(piece, Piece::Sha256(_)));
    let mut commands = Vec::new();
    for run in runs {
        let (digest, before) = match run.split_last() {
            Some((Piece::Sha256(inner), before)) => (Some(inner), before),
            _ => (None, run),
        };
        if !before.is_empty() {
            commands.push(format!("printf %s {}", text(before)));
        }
        if let Some(inner) = digest {
            commands.push(format!("{} | openssl dgst -sha256 -binary", stream(inner)));
        }
    }
    match commands.as_slice() {
        [one] => one.clone(),
        several => format!("{{ {}; }}", several.join("; ")),
    }
}

fn sorted(var: Var, extra: Option<&(String, Var)>) -> String {
    let var = var.name();
    match extra {
        None => format!("$(sorted \"${var}\")"),
        Some((name, value)) => {
            format!("$(sorted \"${var}${{{var}:+&}}{name}=${}\")", value.name())
        }
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

const HEX: &str = "hex() { od -An -v -tx1 | tr -d ' \\n'; }\n";
const BASE64: &str = "base64() { openssl base64 -A; }\n";
const BASE64URL: &str = "base64url() { base64 | tr '+/' '-_' | tr -d '='; }\n";

const ESCAPE: &str = r#"escape() {
  local text=${1//%/%25}
  text=${text//+/%2B} text=${text//\//%2F} text=${text//=/%3D}
  printf %s "${text//:/%3A}"
}
"#;

const QUOTED: &str = r#"# Numbers as strings of their digits: jq would write 1.0 and 1e-8 another way than they are sent.
quoted() {
  sed -E $'s/("([^"\\\\]|\\\\.)*")|(-?[0-9][-+.0-9eE]*)/\\1\1\\3\1/g; s/\1\1//g; s/\1/"/g'
}
"#;

const RENDERED: &str = r#"rendered() {
  quoted | jq -j --arg name "$1" 'def text: if type == "object" then . as $o | keys[] | ., ($o[.] | text)
    elif type == "array" then .[] | text elif . == null then "null" else tostring end; .[$name] | text'
}
"#;

const PAIRS: &str = r#"pairs() {
  quoted | jq -j 'to_entries | map(.key as $name | if .value | type == "array"
    then .value[] | "\($name)[]=\(.)" else "\($name)=\(.value)" end) | join("&")'
}
"#;

const SORTED: &str = "sorted() { printf %s \"$1\" | tr '&' '\\n' | LC_ALL=C sort -s -t= -k1,1 | paste -sd '&' -; }\n";

/// A line of curl's configuration.
const OPTION: &str = r#"
# Options go to curl by standard input: its arguments could be read by others.
option() { local text=${2//\\/\\\\}; printf '%s = "%s"\n' "$1" "${text//\"/\\\"}"; }
"#;

/// RFC 2104, with the key in shell variables alone.
const HMAC: &str = r#"if ((${#secret} > 2 * block)); then
  secret=$(printf "$(printf %s "$secret" | sed 's/../\\x&/g')" | hash | hex)
fi
pad() {
  local out='' byte i
  for ((i = 0; i < block; i++)); do
    byte=${secret:2*i:2}
    printf -v byte '\\x%02x' "$((0x${byte:-00} ^ $1))"
    out+=$byte
  done
  printf "$out"
}
hmac() { { pad 0x5c; { pad 0x36; cat; } | hash; } | hash; }

"#;

const SIGN_ED25519: &str = r#"
# openssl reads what an Ed25519 key signs from a file alone.
sign() {
  local folder
  folder=$(umask 077 && mktemp -d)
  cat > "$folder/message"
  openssl pkeyutl -sign -rawin -inkey <(printf '%s\n' "$SECRET") -in "$folder/message"
  rm -r "$folder"
}

"#;

const SIGN_RSA: &str = r#"
sign() { openssl dgst -sha256 -sign <(printf '%s\n' "$SECRET"); }

"#;

const SIGN_RSA_PSS: &str = r#"
sign() {
  openssl dgst -sha512 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:64 \
    -sign <(printf '%s\n' "$SECRET")
}

"#;

/// The two numbers out of the DER that openssl writes, 32 bytes each.
const SIGN_ECDSA: &str = r#"
# The two numbers of the signature, 32 bytes each, out of the DER that openssl writes.
sign() {
  local number
  openssl dgst -sha256 -sign <(printf '%s\n' "$SECRET") | openssl asn1parse -inform DER |
    sed -n 's/.*INTEGER *://p' |
    while read -r number; do
      printf -v number '%64s' "$number"
      printf "$(printf %s "${number// /0}" | sed 's/../\\x&/g')"
    done
}

"#;
