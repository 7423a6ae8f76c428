//! Scripts for bash 5 with curl and openssl. No secret appears on a command line, where others could read it.

use std::fmt::Write as _;

use super::script::{Fresh, Hash, Piece, Script, Step, Var, Writing, fits};
use crate::dialect::TimeUnit;

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
    let mut message = stream(&script.message);
    if !fits(&message) && !script.signs_digest() {
        assign(Var::Message.name(), &script.message, out);
        message = stream(&[Piece::Var(Var::Message)]);
    }
    let _ = writeln!(
        out,
        "signature=$({message} | {} | {})",
        if script.mac.is_some() { "hmac" } else { "sign" },
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
    let mut signer = String::new();
    if script.mac.is_some() {
        let (hash, block) = match script.mac {
            Some(Hash::Sha384) => ("sha384", 128),
            Some(Hash::Sha512) => ("sha512", 128),
            Some(Hash::Sha256) | None => ("sha256", 64),
        };
        let _ = writeln!(signer, "hash() {{ openssl dgst -{hash} -binary; }}");
        let decode = if script.secret_in_base64 { "openssl base64 -d -A | hex" } else { "hex" };
        let _ = writeln!(signer, "secret=$(printf %s \"$SECRET\" | {decode})");
        let _ = writeln!(signer, "block={block}");
        signer.push_str(HMAC);
    } else {
        signer.push_str(SIGN);
    }
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
        ("rendered", mentions("rendered"), RENDERED),
        ("pairs", mentions("pairs"), PAIRS),
    ];
    for (_, _, text) in functions.iter().filter(|(_, used, _)| *used) {
        out.push_str(text);
    }
    out.push_str(&signer);
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
            debug_assert!(script.mac.is_some());
            writeln!(out, "passphrase=$(printf %s \"$passphrase\" | hmac | base64)")
        }
    };
}

/// On one line, or one piece added a line.
fn assign(name: &str, pieces: &[Piece], out: &mut String) {
    let line = format!("{name}={}", text(pieces));
    if fits(&line) || pieces.len() < 2 {
        let _ = writeln!(out, "{line}");
        return;
    }
    for (place, piece) in pieces.iter().enumerate() {
        let plus = if place == 0 { "" } else { "+" };
        let _ = writeln!(out, "{name}{plus}={}", text(std::slice::from_ref(piece)));
    }
}

fn tail(script: &Script, out: &mut String) {
    out.push_str("\nsaid() { local text=${2//\\\\/\\\\\\\\}; printf '%s = \"%s\"\\n' \"$1\" \"${text//\\\"/\\\\\\\"}\"; }\n");
    out.push_str("reply=$({\n  said request \"$method\"\n");
    out.push_str(if script.has_query {
        "  said url \"$base$path?$query\"\n"
    } else {
        "  said url \"$base$path\"\n"
    });
    for (name, value) in &script.headers {
        let mut line = vec![Piece::Text(format!("{name}: "))];
        for piece in value {
            match (line.last_mut(), piece) {
                (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(text),
                _ => line.push(piece.clone()),
            }
        }
        let _ = writeln!(out, "  said header {}", text(&line));
    }
    if script.has_body {
        out.push_str("  said data-raw \"$body\"\n");
    }
    out.push_str("} | curl -sS -w '\\n%{http_code}' --config -)\n");
    out.push_str("printf '%s %s\\n' \"${reply##*$'\\n'}\" \"${reply%$'\\n'*}\"\n");
}

fn clock(unit: TimeUnit, ahead_ms: u64) -> String {
    let plus = |ahead: u64| if ahead == 0 { String::new() } else { format!(" + {ahead}") };
    match unit {
        TimeUnit::Seconds | TimeUnit::DecimalSeconds => {
            format!("$((EPOCHSECONDS{}))", plus(ahead_ms / 1_000))
        }
        TimeUnit::Millis | TimeUnit::MillisOrMicros => {
            format!("$((${{EPOCHREALTIME/[.,]/}} / 1000{}))", plus(ahead_ms))
        }
        TimeUnit::Iso => "$(date -u +%Y-%m-%dT%H:%M:%S.000Z)".to_owned(),
        TimeUnit::IsoSeconds => "$(date -u +%Y-%m-%dT%H:%M:%S)".to_owned(),
    }
}

/// Pieces as one word.
fn text(pieces: &[Piece]) -> String {
    let parts = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => literal(text),
        Piece::Var(var) => format!("\"${}\"", var.name()),
        Piece::Escaped(var) => format!("\"$(escape \"${}\")\"", var.name()),
        Piece::Sorted(var, extra) => sorted(*var, extra.as_ref()),
        Piece::Pairs => "\"$(printf %s \"$body\" | pairs)\"".to_owned(),
        Piece::Rendered(name) => format!("\"$(printf %s \"$body\" | rendered {})\"", literal(name)),
        Piece::Sha256(inner) => piped(inner, "openssl dgst -sha256 -binary | hex"),
        Piece::Sha256Base64(inner) => piped(inner, "openssl dgst -sha256 -binary | base64"),
        Piece::Sha512Hex(inner) => piped(inner, "openssl dgst -sha512 -binary | hex"),
        Piece::Base64(inner) => piped(inner, "base64"),
        Piece::Base64Url(inner) => piped(inner, "base64url"),
    });
    let all = parts.collect::<String>();
    if all.is_empty() { "''".to_owned() } else { all }
}

fn piped(inner: &[Piece], command: &str) -> String {
    format!("\"$({} | {command})\"", stream(inner))
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
    let extra = extra.map_or_else(String::new, |(name, value)| {
        format!("\"${{{}:+&}}\"{}\"${}\"", var.name(), literal(&format!("{name}=")), value.name())
    });
    format!(
        "\"$(printf %s \"${}\"{extra} | tr '&' '\\n' | LC_ALL=C sort -t= -k1,1 | paste -sd '&' -)\"",
        var.name()
    )
}

fn literal(text: &str) -> String {
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        let escaped = text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n");
        format!("$'{escaped}'")
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
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

const RENDERED: &str = r#"rendered() {
  jq -j --arg name "$1" 'def text: if type == "object" then . as $o | keys[] | ., ($o[.] | text)
    elif type == "array" then .[] | text elif . == null then "null" else tostring end; .[$name] | text'
}
"#;

const PAIRS: &str = r#"pairs() {
  jq -j 'to_entries | map(.key as $name | if .value | type == "array"
    then .value[] | "\($name)[]=\(.)" else "\($name)=\(.value)" end) | join("&")'
}
"#;

/// RFC 2104, with the key in shell variables alone: an argument of openssl could be read by everyone.
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

const SIGN: &str = r#"sign() {
  local folder
  folder=$(umask 077 && mktemp -d)
  cat > "$folder/message"
  openssl pkeyutl -sign -rawin -inkey <(printf '%s\n' "$SECRET") -in "$folder/message"
  rm -r "$folder"
}

"#;
