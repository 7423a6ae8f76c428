//! Scripts for Node.js 18 or later, without packages.

use std::fmt::Write as _;

use super::script::{
    Fresh, Piece, Script, Step, UNSIGNED, Var, Writing, groups, hash, is_template, lines, literal,
};
use crate::dialect::TimeUnit;
use crate::key::Algorithm;

pub(super) fn print(script: &Script) -> String {
    let mut main = String::new();
    let mut known = Vec::new();
    begin(script, &mut main);
    for step in &script.before {
        line(step, script, &mut known, &mut main);
    }
    main.push('\n');
    if script.signs_digest() {
        let _ = writeln!(main, "const message = {};", bytes(&script.message));
    } else if script.message_var() == Var::Message {
        assign("const message", &script.message, &mut main);
    }
    sign(script, &mut main);
    for step in &script.after {
        line(step, script, &mut known, &mut main);
    }
    tail(script, &mut main);

    let mut out = String::new();
    for comment in script.comments() {
        let _ = writeln!(out, "// {comment}");
    }
    out.push_str("import crypto from \"node:crypto\";\n\n");
    let helpers =
        [("rendered(", RENDERED), ("pairs(", PAIRS), ("parsed(", PARSED), ("sorted(", SORTED)];
    out.push_str(&main);
    for (_, text) in helpers.iter().filter(|(mention, _)| main.contains(mention)) {
        out.push_str(text);
    }
    out
}

fn begin(script: &Script, out: &mut String) {
    let _ = writeln!(out, "const base = {};", literal(&script.base));
    out.push_str("const key = process.env.KEY;\n");
    out.push_str(if script.secret_in_base64 {
        "const secret = Buffer.from(process.env.SECRET, \"base64\");\n"
    } else {
        "const secret = process.env.SECRET;\n"
    });
    if script.has_passphrase {
        let kind = if script.keys_passphrase() { "let" } else { "const" };
        let _ = writeln!(out, "{kind} passphrase = process.env.PASSPHRASE;");
    }
    let _ = writeln!(out, "const method = {};", literal(&script.method));
}

fn line(step: &Step, script: &Script, known: &mut Vec<Var>, out: &mut String) {
    let _ = match step {
        Step::Let(var, pieces) => {
            let kind = match (known.contains(var), script.changes(*var)) {
                (true, _) => "",
                (false, true) => "let ",
                (false, false) => "const ",
            };
            known.push(*var);
            assign(&format!("{kind}{}", var.name()), pieces, out);
            Ok(())
        }
        Step::Clock(var, unit, ahead) => {
            writeln!(out, "const {} = {};", var.name(), clock(*unit, *ahead))
        }
        Step::Nonce(Fresh::Clock) => writeln!(out, "const nonce = String(Date.now());"),
        Step::Nonce(Fresh::Uuid) => writeln!(out, "const nonce = crypto.randomUUID();"),
        Step::KeyedPassphrase => writeln!(
            out,
            "passphrase = crypto.createHmac(\"{}\", secret).update(passphrase).digest(\"base64\");",
            hash(script.algorithm)
        ),
    };
}

/// On one line, or on several that are added.
fn assign(name: &str, pieces: &[Piece], out: &mut String) {
    let lines = lines(pieces, |line| format!("{name} = {};", text(line)));
    let lines: Vec<_> = lines.iter().map(|line| text(line)).collect();
    let _ = match &*lines {
        [line] => writeln!(out, "{name} = {line};"),
        several => writeln!(out, "{name} =\n  {};", several.join(" +\n  ")),
    };
}

fn tail(script: &Script, out: &mut String) {
    if script.headers.is_empty() {
        out.push_str("\nconst headers = {};\n");
    } else {
        out.push_str("\nconst headers = {\n");
        for (name, value) in &script.headers {
            let _ = writeln!(out, "  {}: {},", literal(name), text(value));
        }
        out.push_str("};\n");
    }
    out.push_str(if script.has_query {
        "const url = `${base}${path}?${query}`;\n"
    } else {
        "const url = base + path;\n"
    });
    let body = if script.has_body { ", body" } else { "" };
    let _ = writeln!(out, "const reply = await fetch(url, {{ method, headers{body} }});");
    let Some(check) = &script.reply else {
        return out.push_str("console.log(reply.status, await reply.text());\n");
    };
    let mut signed = text(&check.start);
    if check.signs_type {
        out.push_str("const contentType = reply.headers.get(\"Content-Type\") ?? \"\";\n");
        signed.push_str(" + contentType");
    }
    let _ = writeln!(
        out,
        "const answer = Buffer.from(await reply.arrayBuffer());\n\
         const proof = crypto.createHmac(\"sha256\", secret).update({signed});\n\
         const expected = proof.update(answer).digest(\"hex\");\n\
         if (reply.ok && reply.headers.get({}) !== expected) {{\n  \
         throw new Error(\"{UNSIGNED}\");\n}}\n\
         console.log(reply.status, answer.toString());",
        literal(&check.header)
    );
}

/// The lines that make the signature.
fn sign(script: &Script, out: &mut String) {
    let written = match script.writing {
        Writing::Hex => "hex",
        Writing::Base64 => "base64",
        Writing::Base64Url => "base64url",
    };
    let message = script.message_var().name();
    let hash = hash(script.algorithm);
    let options = match script.algorithm {
        Algorithm::HmacSha256 | Algorithm::HmacSha384 | Algorithm::HmacSha512 => {
            let made = format!("crypto.createHmac(\"{hash}\", secret).update({message})");
            let _ = writeln!(out, "const signature = {made}.digest(\"{written}\");");
            return;
        }
        Algorithm::Ed25519 | Algorithm::RsaSha256 => "",
        Algorithm::RsaPssSha512 => {
            out.push_str("const padding = crypto.constants.RSA_PKCS1_PSS_PADDING;\n");
            ", padding, saltLength: 64"
        }
        Algorithm::EcdsaP256Sha256 => ", dsaEncoding: \"ieee-p1363\"",
    };
    let hash =
        if script.algorithm == Algorithm::Ed25519 { "null".to_owned() } else { literal(hash) };
    let mut key = "secret";
    if !options.is_empty() {
        let _ = writeln!(out, "const privateKey = {{ key: secret{options} }};");
        key = "privateKey";
    }
    let bytes =
        if script.signs_digest() { message.to_owned() } else { format!("Buffer.from({message})") };
    let _ = writeln!(
        out,
        "const signed = crypto.sign({hash}, {bytes}, {key});\n\
         const signature = signed.toString(\"{written}\");"
    );
}

fn clock(unit: TimeUnit, ahead_ms: u64) -> String {
    let plus = |ahead: u64| if ahead == 0 { String::new() } else { format!(" + {ahead}") };
    match unit {
        TimeUnit::Seconds | TimeUnit::DecimalSeconds => {
            format!("String(Math.floor(Date.now() / 1000){})", plus(ahead_ms / 1_000))
        }
        TimeUnit::Millis | TimeUnit::MillisOrMicros => {
            format!("String(Date.now(){})", plus(ahead_ms))
        }
        TimeUnit::Iso => "new Date().toISOString()".to_owned(),
        TimeUnit::IsoSeconds => "new Date().toISOString().slice(0, 19)".to_owned(),
    }
}

/// Pieces as one string.
fn text(pieces: &[Piece]) -> String {
    let groups = groups(pieces).flat_map(|group| {
        if is_template(group) { vec![template(group)] } else { group.iter().map(part).collect() }
    });
    let all: Vec<_> = groups.collect();
    if all.is_empty() { "\"\"".to_owned() } else { all.join(" + ") }
}

/// Text with values in it.
fn template(pieces: &[Piece]) -> String {
    let all = pieces.iter().map(|piece| {
        let Piece::Text(text) = piece else { return format!("${{{}}}", part(piece)) };
        let text = text.replace('\\', "\\\\").replace('`', "\\`");
        text.replace("${", "\\${").replace('\n', "\\n")
    });
    format!("`{}`", all.collect::<String>())
}

fn part(piece: &Piece) -> String {
    match piece {
        Piece::Text(text) => literal(text),
        Piece::Var(var) => var.name().to_owned(),
        Piece::Escaped(var) => format!("encodeURIComponent({})", var.name()),
        Piece::Sorted(var, None) => format!("sorted({})", var.name()),
        Piece::Sorted(var, Some((name, value))) => {
            format!("sorted(`${{{}}}&{name}=${{{}}}`)", var.name(), value.name())
        }
        Piece::Rendered(name) => format!("rendered(parsed(body)[{}])", literal(name)),
        Piece::Pairs => "pairs(parsed(body))".to_owned(),
        Piece::Sha256(inner) => digest("sha256", inner, "hex"),
        Piece::Sha256Base64(inner) => digest("sha256", inner, "base64"),
        Piece::Sha512Hex(inner) => digest("sha512", inner, "hex"),
        Piece::Base64(inner) => format!("Buffer.from({}).toString(\"base64\")", text(inner)),
        Piece::Base64Url(inner) => format!("Buffer.from({}).toString(\"base64url\")", text(inner)),
    }
}

/// No digest stands inside another.
fn digest(hash: &str, inner: &[Piece], written: &str) -> String {
    format!("crypto.createHash(\"{hash}\").update({}).digest(\"{written}\")", text(inner))
}

/// Pieces as a Buffer.
fn bytes(pieces: &[Piece]) -> String {
    let parts = pieces.iter().map(|piece| match piece {
        Piece::Sha256(inner) => {
            format!("  crypto.createHash(\"sha256\").update({}).digest(),\n", text(inner))
        }
        Piece::Text(_)
        | Piece::Var(_)
        | Piece::Escaped(_)
        | Piece::Sorted(..)
        | Piece::Rendered(_)
        | Piece::Pairs
        | Piece::Sha256Base64(_)
        | Piece::Sha512Hex(_)
        | Piece::Base64(_)
        | Piece::Base64Url(_) => format!("  Buffer.from({}),\n", part(piece)),
    });
    format!("Buffer.concat([\n{}])", parts.collect::<String>())
}

const RENDERED: &str = r#"
function rendered(value) {
  if (Array.isArray(value)) return value.map(rendered).join("");
  if (value === null || typeof value !== "object") return String(value);
  return Object.keys(value).sort().map((name) => name + rendered(value[name])).join("");
}
"#;

const PAIRS: &str = r#"
function pairs(members) {
  const pair = ([name, value]) =>
    Array.isArray(value) ? value.map((item) => `${name}[]=${item}`) : [`${name}=${value}`];
  return Object.entries(members).flatMap(pair).join("&");
}
"#;

const PARSED: &str = r#"
// Numbers become strings of their digits: JSON.parse would write 1.0 and 1e-8 another way than they are sent.
function parsed(body) {
  const token = /"(?:[^"\\]|\\.)*"|-?\d[-+.\deE]*/g;
  return JSON.parse(body.replace(token, (text) => (text[0] === '"' ? text : `"${text}"`)));
}
"#;

const SORTED: &str = r#"
function sorted(query) {
  const name = (pair) => pair.split("=")[0];
  const order = (one, other) => (name(one) > name(other)) - (name(one) < name(other));
  return query.split("&").filter(Boolean).sort(order).join("&");
}
"#;
