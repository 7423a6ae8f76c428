//! Scripts in Python 3, with its standard library alone but for asymmetric keys.

use std::fmt::Write as _;

use super::script::{Fresh, Hash, Piece, Script, Step, Var, Writing, fits, literal};
use crate::dialect::TimeUnit;

pub(super) fn print(script: &Script) -> String {
    let mut main = String::new();
    begin(script, &mut main);
    for step in &script.before {
        line(step, script, &mut main);
    }
    main.push('\n');
    if script.signs_digest() {
        assign("message", &byte_parts(&script.message), &mut main);
    } else {
        assign("message", &parts(&script.message), &mut main);
    }
    let _ = writeln!(main, "signature = {}", signature(script));
    for step in &script.after {
        line(step, script, &mut main);
    }
    tail(script, &mut main);

    let mut out = String::new();
    for comment in script.comments() {
        let _ = writeln!(out, "# {comment}");
    }
    let helpers = [("rendered(", RENDERED), ("pairs(", PAIRS)];
    let helpers: String = helpers
        .iter()
        .filter(|(mention, _)| main.contains(mention))
        .map(|(_, text)| *text)
        .collect();
    imports(script, &[&*helpers, &main].concat(), &mut out);
    out.push_str(&helpers);
    out + &main
}

/// The modules that the text mentions.
fn imports(script: &Script, text: &str, out: &mut String) {
    let modules = ["base64", "hashlib", "hmac", "json", "os", "time"];
    for module in modules.iter().filter(|module| text.contains(&format!("{module}."))) {
        let _ = writeln!(out, "import {module}");
    }
    out.push_str("import urllib.error\n");
    if text.contains("urllib.parse.") {
        out.push_str("import urllib.parse\n");
    }
    out.push_str("import urllib.request\n");
    if text.contains("uuid.") {
        out.push_str("import uuid\n");
    }
    out.push('\n');
    if script.mac.is_none() {
        out.push_str("from cryptography.hazmat.primitives import serialization\n\n");
    }
}

fn begin(script: &Script, out: &mut String) {
    let _ = writeln!(out, "base = {}", literal(&script.base));
    out.push_str("key = os.environ[\"KEY\"]\n");
    out.push_str(if script.secret_in_base64 {
        "secret = base64.b64decode(os.environ[\"SECRET\"])\n"
    } else {
        "secret = os.environ[\"SECRET\"].encode()\n"
    });
    if script.has_passphrase {
        out.push_str("passphrase = os.environ[\"PASSPHRASE\"]\n");
    }
    let _ = writeln!(out, "method = {}", literal(&script.method));
}

fn line(step: &Step, script: &Script, out: &mut String) {
    let _ = match step {
        Step::Let(var, pieces) => {
            assign(var.name(), &parts(pieces), out);
            Ok(())
        }
        Step::Clock(var, unit, ahead) => {
            writeln!(out, "{} = {}", var.name(), clock(*unit, *ahead))
        }
        Step::Nonce(Fresh::Clock) => writeln!(out, "nonce = str(time.time_ns() // 1_000_000)"),
        Step::Nonce(Fresh::Uuid) => writeln!(out, "nonce = str(uuid.uuid4())"),
        Step::KeyedPassphrase => writeln!(
            out,
            "passphrase = hmac.new(secret, passphrase.encode(), hashlib.{}).digest()\n\
             passphrase = base64.b64encode(passphrase).decode()",
            hash(script.mac)
        ),
    };
}

/// A sum on one line, or one part a line.
fn assign(name: &str, parts: &[String], out: &mut String) {
    let line = format!("{name} = {}", parts.join(" + "));
    let _ = if fits(&line) || parts.len() < 2 {
        writeln!(out, "{line}")
    } else {
        writeln!(out, "{name} = (\n    {}\n)", parts.join("\n    + "))
    };
}

fn tail(script: &Script, out: &mut String) {
    out.push_str("\nheaders = {\n");
    for (name, value) in &script.headers {
        let _ = writeln!(out, "    {}: {},", literal(name), text(value));
    }
    out.push_str("}\n");
    out.push_str(if script.has_query {
        "url = base + path + \"?\" + query\n"
    } else {
        "url = base + path\n"
    });
    let body = if script.has_body { "body.encode()" } else { "None" };
    let _ = writeln!(
        out,
        "request = urllib.request.Request(url, {body}, headers, method=method)\n\
         try:\n    reply = urllib.request.urlopen(request)\n\
         except urllib.error.HTTPError as refusal:\n    reply = refusal"
    );
    let Some(check) = &script.reply else {
        return out.push_str("print(reply.status, reply.read().decode())\n");
    };
    let mut signed = parts(&check.start);
    if check.signs_type {
        signed.push("(reply.headers[\"Content-Type\"] or \"\")".to_owned());
    }
    let _ = writeln!(
        out,
        "answer = reply.read()\nproof = ({}).encode() + answer\n\
         expected = hmac.new(secret, proof, hashlib.sha256).hexdigest()\n\
         sent = reply.headers[{}] or \"\"\n\
         if reply.status < 300 and not hmac.compare_digest(expected, sent):\n    \
         raise SystemExit(\"the reply is not signed by who has the secret\")\n\
         print(reply.status, answer.decode())",
        signed.join(" + "),
        literal(&check.header)
    );
}

fn signature(script: &Script) -> String {
    let message = if script.signs_digest() { "message" } else { "message.encode()" };
    let made = match script.mac {
        Some(_) => {
            format!("hmac.new(secret, {message}, hashlib.{}).digest()", hash(script.mac))
        }
        None => format!("serialization.load_pem_private_key(secret, None).sign({message})"),
    };
    match script.writing {
        Writing::Hex => format!("{made}.hex()"),
        Writing::Base64 => format!("base64.b64encode({made}).decode()"),
        Writing::Base64Url => {
            format!("base64.urlsafe_b64encode({made}).decode().rstrip(\"=\")")
        }
    }
}

fn clock(unit: TimeUnit, ahead_ms: u64) -> String {
    let now = |per_second: u64, divisor: &str| {
        let ahead = ahead_ms * per_second / 1_000;
        let ahead = if ahead == 0 { String::new() } else { format!(" + {ahead}") };
        format!("str(time.time_ns() // {divisor}{ahead})")
    };
    match unit {
        TimeUnit::Seconds | TimeUnit::DecimalSeconds => now(1, "1_000_000_000"),
        TimeUnit::Millis | TimeUnit::MillisOrMicros => now(1_000, "1_000_000"),
        TimeUnit::IsoSeconds => "time.strftime(\"%Y-%m-%dT%H:%M:%S\", time.gmtime())".to_owned(),
        TimeUnit::Iso => "time.strftime(\"%Y-%m-%dT%H:%M:%S.000Z\", time.gmtime())".to_owned(),
    }
}

fn hash(mac: Option<Hash>) -> &'static str {
    match mac {
        Some(Hash::Sha384) => "sha384",
        Some(Hash::Sha512) => "sha512",
        Some(Hash::Sha256) | None => "sha256",
    }
}

/// Pieces as one string.
fn text(pieces: &[Piece]) -> String {
    parts(pieces).join(" + ")
}

/// Strings of which the sum is the pieces.
fn parts(pieces: &[Piece]) -> Vec<String> {
    let all: Vec<_> = pieces.iter().map(part).collect();
    if all.is_empty() { vec!["\"\"".to_owned()] } else { all }
}

fn part(piece: &Piece) -> String {
    match piece {
        Piece::Text(text) => literal(text),
        Piece::Var(var) => var.name().to_owned(),
        Piece::Escaped(var) => format!("urllib.parse.quote({}, safe=\"\")", var.name()),
        Piece::Sorted(var, extra) => sorted(*var, extra.as_ref()),
        Piece::Rendered(name) => {
            let read = "json.loads(body, parse_int=str, parse_float=str)";
            format!("rendered({read}[{}])", literal(name))
        }
        Piece::Pairs => "pairs(json.loads(body, parse_int=str, parse_float=str))".to_owned(),
        Piece::Sha256(inner) => format!("hashlib.sha256({}).hexdigest()", bytes(inner)),
        Piece::Sha256Base64(inner) => {
            format!("base64.b64encode(hashlib.sha256({}).digest()).decode()", bytes(inner))
        }
        Piece::Sha512Hex(inner) => format!("hashlib.sha512({}).hexdigest()", bytes(inner)),
        Piece::Base64(inner) => format!("base64.b64encode({}).decode()", bytes(inner)),
        Piece::Base64Url(inner) => {
            format!("base64.urlsafe_b64encode({}).decode().rstrip(\"=\")", bytes(inner))
        }
    }
}

/// Pieces as bytes.
fn bytes(pieces: &[Piece]) -> String {
    byte_parts(pieces).join(" + ")
}

/// Bytes of which the sum is the pieces, as few as can be.
fn byte_parts(pieces: &[Piece]) -> Vec<String> {
    let runs = pieces.split_inclusive(|piece| matches!(piece, Piece::Sha256(_)));
    let all = runs.flat_map(|run| {
        let (last, before) = match run.split_last() {
            Some((Piece::Sha256(inner), before)) => (Some(inner), before),
            _ => (None, run),
        };
        let before = (!before.is_empty()).then(|| match before {
            [_] => format!("{}.encode()", text(before)),
            _ => format!("({}).encode()", text(before)),
        });
        let last = last.map(|inner| format!("hashlib.sha256({}).digest()", bytes(inner)));
        before.into_iter().chain(last)
    });
    let all: Vec<_> = all.collect();
    if all.is_empty() { vec!["b\"\"".to_owned()] } else { all }
}

fn sorted(var: Var, extra: Option<&(String, Var)>) -> String {
    let var = var.name();
    let all = match extra {
        Some((name, value)) => {
            let more = format!("[{} + {}]", literal(&format!("{name}=")), value.name());
            format!("[pair for pair in {var}.split(\"&\") if pair] + {more}")
        }
        None => format!("{var}.split(\"&\")"),
    };
    format!("\"&\".join(sorted({all}, key=lambda pair: pair.split(\"=\")[0]))")
}

const RENDERED: &str = r#"def rendered(value):
    if isinstance(value, dict):
        return "".join(name + rendered(value[name]) for name in sorted(value))
    if isinstance(value, list):
        return "".join(rendered(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value)

"#;

const PAIRS: &str = r#"def pairs(members):
    every = []
    for name, value in members.items():
        if isinstance(value, list):
            every += [(name + "[]", item) for item in value]
        else:
            every.append((name, value))
    return "&".join(
        name + "=" + (value if isinstance(value, str) else json.dumps(value))
        for name, value in every
    )

"#;
