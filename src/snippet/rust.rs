//! Programs in Rust, with the crates that their first lines name.

use std::fmt::Write as _;

use super::script::{Fresh, Hash, Piece, Script, Step, Var, Writing, fits, has_quotes};
use crate::dialect::TimeUnit;

pub(super) fn print(script: &Script) -> String {
    let mut main = String::new();
    begin(script, &mut main);
    for step in &script.before {
        line(step, script, &mut main);
    }
    main.push('\n');
    if script.signs_digest() {
        assign("message", &bytes_of_each(&script.message), &mut main);
    } else {
        line(&Step::Let(Var::Message, script.message.clone()), script, &mut main);
    }
    sign(script, &mut main);
    for step in &script.after {
        line(step, script, &mut main);
    }
    tail(script, &mut main);

    let mut out = String::new();
    for comment in script.comments() {
        let _ = writeln!(out, "// {comment}");
    }
    let helpers = [
        ("moment(", MOMENT),
        ("sorted(", SORTED),
        ("escaped(", ESCAPED),
        ("rendered(", RENDERED),
        ("pairs(", PAIRS),
    ];
    let helpers: String = helpers
        .iter()
        .filter(|(mention, _)| main.contains(mention))
        .map(|(_, text)| *text)
        .collect();
    let _ = writeln!(out, "// [dependencies]\n// {}", crates(script, &main));
    imports(script, &main, &mut out);
    let _ = writeln!(
        out,
        "fn main() -> Result<(), Box<dyn std::error::Error>> {{\n{main}}}\n{helpers}"
    );
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn crates(script: &Script, main: &str) -> String {
    let mut all = vec!["data-encoding = \"2\"", "ureq = \"3\""];
    if main.contains("getrandom::") {
        all.push("getrandom = \"0.4\"");
    }
    if main.contains("rendered(") {
        all.push("serde_json = \"1\"");
    }
    if main.contains("pairs(") {
        all.push("serde_json = { version = \"1\", features = [\"preserve_order\"] }");
    }
    if script.mac.is_some() {
        all.push("hmac = \"0.13\"");
    } else {
        all.push("ed25519-dalek = { version = \"3\", features = [\"pem\"] }");
    }
    if main.contains("Sha") {
        all.push("sha2 = \"0.11\"");
    }
    all.sort_unstable();
    all.join("\n// ")
}

fn imports(script: &Script, main: &str, out: &mut String) {
    let encodings: Vec<_> = ["BASE64", "BASE64URL_NOPAD", "HEXLOWER"]
        .into_iter()
        .filter(|name| main.contains(&format!("{name}.")))
        .collect();
    let digests = ["Sha256", "Sha384", "Sha512"]
        .into_iter()
        .filter(|name| main.contains(&format!("{name}>")) || main.contains(&format!("{name}::")));
    let digests: Vec<_> =
        main.contains("::digest(").then_some("Digest").into_iter().chain(digests).collect();
    out.push_str("use std::env;\n");
    if main.contains("SystemTime") {
        out.push_str("use std::time::{SystemTime, UNIX_EPOCH};\n");
    }
    let _ = writeln!(out, "\nuse data_encoding::{};", list(&encodings));
    if script.mac.is_some() {
        out.push_str("use hmac::{Hmac, KeyInit, Mac};\n");
    } else {
        out.push_str("use ed25519_dalek::{Signer, SigningKey, pkcs8::DecodePrivateKey};\n");
    }
    if !digests.is_empty() {
        let _ = writeln!(out, "use sha2::{};", list(&digests));
    }
    out.push('\n');
}

/// Names to import, in braces where there are several.
fn list(names: &[&str]) -> String {
    match names {
        [one] => (*one).to_owned(),
        several => format!("{{{}}}", several.join(", ")),
    }
}

fn begin(script: &Script, out: &mut String) {
    let _ = writeln!(out, "    let base = {};", literal(&script.base));
    out.push_str("    let key = env::var(\"KEY\")?;\n    let secret = env::var(\"SECRET\")?;\n");
    if script.secret_in_base64 {
        out.push_str("    let secret = BASE64.decode(secret.as_bytes())?;\n");
    }
    if script.has_passphrase {
        out.push_str("    let passphrase = env::var(\"PASSPHRASE\")?;\n");
    }
    let _ = writeln!(out, "    let method = {};", literal(&script.method));
}

fn line(step: &Step, script: &Script, out: &mut String) {
    let _ = match step {
        Step::Let(var, pieces) => {
            let line = format!("    let {} = {};", var.name(), text(pieces));
            if fits(&line) || pieces.len() < 2 {
                writeln!(out, "{line}")
            } else {
                assign(var.name(), &pieces.iter().map(borrowed).collect::<Vec<_>>(), out);
                Ok(())
            }
        }
        Step::Clock(var, unit, ahead) => writeln!(
            out,
            "    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;\n    let {} = {};",
            var.name(),
            clock(*unit, *ahead)
        ),
        Step::Nonce(Fresh::Clock) => writeln!(
            out,
            "    let nonce = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis().to_string();"
        ),
        Step::Nonce(Fresh::Uuid) => out.write_str(UUID),
        Step::KeyedPassphrase => writeln!(
            out,
            "    let mut keyed = Hmac::<{}>::new_from_slice(secret.as_ref())?;\n    \
             keyed.update(passphrase.as_bytes());\n    \
             let passphrase = BASE64.encode(&keyed.finalize().into_bytes());",
            hash(script.mac)
        ),
    };
}

fn sign(script: &Script, out: &mut String) {
    let made = if script.mac.is_some() {
        let _ = writeln!(
            out,
            "    let mut mac = Hmac::<{}>::new_from_slice(secret.as_ref())?;\n    mac.update(message.as_ref());",
            hash(script.mac)
        );
        "&mac.finalize().into_bytes()"
    } else {
        "&SigningKey::from_pkcs8_pem(&secret)?.sign(message.as_ref()).to_bytes()"
    };
    let written = match script.writing {
        Writing::Hex => "HEXLOWER",
        Writing::Base64 => "BASE64",
        Writing::Base64Url => "BASE64URL_NOPAD",
    };
    let _ = writeln!(out, "    let signature = {written}.encode({made});");
}

/// Parts in a row, one a line.
fn assign(name: &str, parts: &[String], out: &mut String) {
    let line = format!("    let {name} = [{}].concat();", parts.join(", "));
    let _ = if fits(&line) {
        writeln!(out, "{line}")
    } else {
        writeln!(
            out,
            "    let {name} = [\n        {},\n    ]\n    .concat();",
            parts.join(",\n        ")
        )
    };
}

fn tail(script: &Script, out: &mut String) {
    let url = if script.has_query {
        "format!(\"{base}{path}?{query}\")"
    } else {
        "format!(\"{base}{path}\")"
    };
    let _ = writeln!(
        out,
        "\n    let request = ureq::http::Request::builder()\n        .method(method)\n        .uri({url})"
    );
    for (name, value) in &script.headers {
        let value = match &**value {
            [Piece::Text(text)] => literal(text),
            [Piece::Var(var)] => format!("&{}", var.name()),
            several => text(several),
        };
        let _ = writeln!(out, "        .header({}, {value})", literal(name));
    }
    let body = if script.has_body { "body" } else { "()" };
    let _ = writeln!(out, "        .body({body})?;");
    out.push_str(
        "    let agent: ureq::Agent =\n        ureq::Agent::config_builder().http_status_as_error(false).build().into();\n    \
         let mut reply = agent.run(request)?;\n    \
         println!(\"{} {}\", reply.status().as_u16(), reply.body_mut().read_to_string()?);\n    Ok(())\n",
    );
}

fn clock(unit: TimeUnit, ahead_ms: u64) -> String {
    let with = |read: &str, ahead: u64| {
        if ahead == 0 {
            format!("{read}.to_string()")
        } else {
            format!("({read} + {ahead}).to_string()")
        }
    };
    match unit {
        TimeUnit::Seconds | TimeUnit::DecimalSeconds => with("now.as_secs()", ahead_ms / 1_000),
        TimeUnit::Millis | TimeUnit::MillisOrMicros => with("now.as_millis()", ahead_ms),
        TimeUnit::Iso => "moment(now.as_secs()) + \".000Z\"".to_owned(),
        TimeUnit::IsoSeconds => "moment(now.as_secs())".to_owned(),
    }
}

fn hash(mac: Option<Hash>) -> &'static str {
    match mac {
        Some(Hash::Sha384) => "Sha384",
        Some(Hash::Sha512) => "Sha512",
        Some(Hash::Sha256) | None => "Sha256",
    }
}

/// Pieces as one `String`.
fn text(pieces: &[Piece]) -> String {
    match pieces {
        [] => "String::new()".to_owned(),
        [Piece::Text(text)] => format!("{}.to_owned()", literal(text)),
        [Piece::Var(var)] => format!("{}.clone()", var.name()),
        _ => {
            let all: Vec<_> = pieces.iter().map(borrowed).collect();
            format!("[{}].concat()", all.join(", "))
        }
    }
}

/// One piece as a `&str`.
fn borrowed(piece: &Piece) -> String {
    match piece {
        Piece::Text(text) => literal(text),
        Piece::Var(Var::Method) => "method".to_owned(),
        Piece::Var(var) => format!("&*{}", var.name()),
        Piece::Escaped(var) => format!("&*escaped(&{})", var.name()),
        Piece::Sorted(var, None) => format!("&*sorted(&{})", var.name()),
        Piece::Sorted(var, Some((name, value))) => {
            format!("&*sorted(&format!(\"{{{}}}&{name}={{{}}}\"))", var.name(), value.name())
        }
        Piece::Rendered(name) => {
            format!(
                "&*rendered(&serde_json::from_str::<serde_json::Value>(&body)?[{}])",
                literal(name)
            )
        }
        Piece::Pairs => "&*pairs(&serde_json::from_str(&body)?)".to_owned(),
        Piece::Sha256(inner) => format!("&*HEXLOWER.encode(&Sha256::digest({}))", bytes(inner)),
        Piece::Sha256Base64(inner) => format!("&*BASE64.encode(&Sha256::digest({}))", bytes(inner)),
        Piece::Sha512Hex(inner) => format!("&*HEXLOWER.encode(&Sha512::digest({}))", bytes(inner)),
        Piece::Base64(inner) => format!("&*BASE64.encode({})", bytes(inner)),
        Piece::Base64Url(inner) => format!("&*BASE64URL_NOPAD.encode({})", bytes(inner)),
    }
}

/// Pieces as bytes.
fn bytes(pieces: &[Piece]) -> String {
    match pieces {
        [Piece::Var(var)] => format!("{}.as_bytes()", var.name()),
        several if !several.iter().any(|piece| matches!(piece, Piece::Sha256(_))) => {
            format!("{}.as_bytes()", text(several))
        }
        several => format!("&[{}].concat()", bytes_of_each(several).join(", ")),
    }
}

fn bytes_of_each(pieces: &[Piece]) -> Vec<String> {
    let each = pieces.iter().map(|piece| match piece {
        Piece::Sha256(inner) => format!("&Sha256::digest({})[..]", bytes(inner)),
        Piece::Text(text) => format!("{}.as_bytes()", literal(text)),
        Piece::Var(var) => format!("{}.as_bytes()", var.name()),
        Piece::Escaped(_)
        | Piece::Sorted(..)
        | Piece::Rendered(_)
        | Piece::Pairs
        | Piece::Sha256Base64(_)
        | Piece::Sha512Hex(_)
        | Piece::Base64(_)
        | Piece::Base64Url(_) => format!("({}).as_bytes()", borrowed(piece)),
    });
    each.collect()
}

fn literal(text: &str) -> String {
    if has_quotes(text) && !text.contains("\"#") {
        return format!("r#\"{text}\"#");
    }
    format!("{text:?}")
}

const UUID: &str = "    let mut random = [0_u8; 16];\n    getrandom::fill(&mut random)?;\n    \
    random[6] = random[6] & 0x0f | 0x40;\n    random[8] = random[8] & 0x3f | 0x80;\n    \
    let hex = HEXLOWER.encode(&random);\n    \
    let nonce = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join(\"-\");\n";

const MOMENT: &str = r#"
/// UTC as `YYYY-MM-DDThh:mm:ss`, by the proleptic Gregorian calendar.
fn moment(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let day = day - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}
"#;

const SORTED: &str = r#"
fn sorted(query: &str) -> String {
    let mut pairs: Vec<_> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    pairs.sort_by_key(|pair| pair.split('=').next());
    pairs.join("&")
}
"#;

const ESCAPED: &str = r#"
fn escaped(text: &str) -> String {
    let text = text.replace('%', "%25").replace('+', "%2B").replace('/', "%2F");
    text.replace('=', "%3D").replace(':', "%3A")
}
"#;

const RENDERED: &str = r"
fn rendered(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(members) => {
            let mut all: Vec<_> = members.iter().collect();
            all.sort_by_key(|(name, _)| *name);
            all.iter().map(|(name, value)| [name, &*rendered(value)].concat()).collect()
        }
        Value::Array(items) => items.iter().map(rendered).collect(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
";

const PAIRS: &str = r#"
fn pairs(members: &serde_json::Map<String, serde_json::Value>) -> String {
    use serde_json::Value;
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pair = |(name, value): (&String, &Value)| match value {
        Value::Array(items) => {
            items.iter().map(|item| format!("{name}[]={}", plain(item))).collect::<Vec<_>>()
        }
        one => vec![format!("{name}={}", plain(one))],
    };
    members.iter().flat_map(pair).collect::<Vec<_>>().join("&")
}
"#;
