//! Programs in Rust, with the crates that their first lines name.

use std::fmt::Write as _;

use super::rust_crates::{crates, imports};
use super::rust_functions::functions;
use super::script::{Fresh, Piece, Script, Step, UNSIGNED, Var, Writing, fits, has_quotes};
use crate::dialect::TimeUnit;
use crate::key::Algorithm;

pub(super) fn print(script: &Script) -> String {
    let mut main = String::new();
    begin(script, &mut main);
    for step in &script.before {
        line(step, script, &mut main);
    }
    main.push('\n');
    if script.signs_digest() {
        concat("message", &bytes_of_each(&script.message), &mut main);
    } else if script.message_var() == Var::Message {
        assign("message", &script.message, &mut main);
    }
    sign(script, &mut main);
    for step in &script.after {
        line(step, script, &mut main);
    }
    tail(script, &mut main);
    let functions = functions(&main);

    let mut out = String::new();
    for comment in script.comments() {
        let _ = writeln!(out, "// {comment}");
    }
    if matches!(script.algorithm, Algorithm::EcdsaP256Sha256) {
        out.push_str(
            "// It must be PKCS#8, as `openssl pkcs8 -topk8 -nocrypt` makes it of others.\n",
        );
    }
    let _ = writeln!(out, "//\n// [dependencies]\n// {}", crates(script, &main));
    imports(script, &[&*main, &*functions].concat(), &mut out);
    let _ = writeln!(
        out,
        "fn main() -> Result<(), Box<dyn std::error::Error>> {{\n{main}}}\n{functions}"
    );
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
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
            assign(var.name(), pieces, out);
            Ok(())
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
        Step::Nonce(Fresh::Uuid) => writeln!(out, "    let nonce = uuid()?;"),
        Step::KeyedPassphrase => writeln!(
            out,
            "    let mut keyed = {}?;\n    keyed.update(passphrase.as_bytes());\n    \
             let passphrase = BASE64.encode(&keyed.finalize().into_bytes());",
            mac(script)
        ),
    };
}

/// The start of a MAC under the secret.
fn mac(script: &Script) -> String {
    let secret = if script.secret_in_base64 { "&secret" } else { "secret.as_bytes()" };
    format!("Hmac::<{}>::new_from_slice({secret})", hash(script.algorithm))
}

/// The lines that make the signature.
fn sign(script: &Script, out: &mut String) {
    let var = script.message_var().name();
    let message =
        if script.signs_digest() { format!("&{var}") } else { format!("{var}.as_bytes()") };
    let signed = match script.algorithm {
        Algorithm::HmacSha256 | Algorithm::HmacSha384 | Algorithm::HmacSha512 => {
            let mac = mac(script);
            let _ = writeln!(out, "    let mut mac = {mac}?;\n    mac.update({message});");
            "&mac.finalize().into_bytes()"
        }
        Algorithm::Ed25519 => {
            let _ = writeln!(
                out,
                "    let private_key = SigningKey::from_pkcs8_pem(&secret)?;\n    \
                 let signed = private_key.sign({message}).to_bytes();"
            );
            "&signed"
        }
        Algorithm::RsaSha256 | Algorithm::RsaPssSha512 => {
            let pss = script.algorithm == Algorithm::RsaPssSha512;
            let padding = if pss { "&RSA_PSS_SHA512" } else { "&RSA_PKCS1_SHA256" };
            let _ = writeln!(
                out,
                "    let parsed = pem::parse(&secret)?;\n    \
                 let private_key = RsaKeyPair::from_pkcs8(parsed.contents())\n        \
                 .or_else(|_| RsaKeyPair::from_der(parsed.contents()))?;\n    \
                 let mut signed = vec![0; private_key.public().modulus_len()];\n    \
                 private_key.sign({padding}, &SystemRandom::new(), {message}, &mut signed)?;"
            );
            "&signed"
        }
        Algorithm::EcdsaP256Sha256 => {
            let _ = writeln!(
                out,
                "    let parsed = pem::parse(&secret)?;\n    let random = SystemRandom::new();\n    \
                 let kind = &ECDSA_P256_SHA256_FIXED_SIGNING;\n    \
                 let private_key = EcdsaKeyPair::from_pkcs8(kind, parsed.contents(), &random)?;\n    \
                 let signed = private_key.sign(&random, {message})?;"
            );
            "signed.as_ref()"
        }
    };
    let written = match script.writing {
        Writing::Hex => "HEXLOWER",
        Writing::Base64 => "BASE64",
        Writing::Base64Url => "BASE64URL_NOPAD",
    };
    let _ = writeln!(out, "    let signature = {written}.encode({signed});");
}

/// On one line, or with a line of its own for every line of the text and for every value that is worked out.
fn assign(name: &str, pieces: &[Piece], out: &mut String) {
    let line = format!("    let {name} = {};", text(pieces));
    if fits(&line) {
        let _ = writeln!(out, "{line}");
        return;
    }
    let below = format!("        {};", text(pieces));
    if fits(&below) || pieces.len() < 2 {
        let _ = writeln!(out, "    let {name} =\n{below}");
        return;
    }
    let _ = write!(out, "    let {name} = format!(\n        {}", folded(&template(pieces)));
    for argument in arguments(pieces) {
        let _ = write!(out, ",\n        {argument}");
    }
    out.push_str("\n    );\n");
}

/// Byte strings in a row, one a line where they are many.
fn concat(name: &str, parts: &[String], out: &mut String) {
    let row = format!("[{}].concat();", parts.join(", "));
    let (line, below) = (format!("    let {name} = {row}"), format!("        {row}"));
    let _ = if fits(&line) {
        writeln!(out, "{line}")
    } else if fits(&below) {
        writeln!(out, "    let {name} =\n{below}")
    } else {
        let parts = parts.join(",\n        ");
        writeln!(out, "    let {name} = [\n        {parts},\n    ]\n    .concat();")
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
            [Piece::Var(var)] => format!("&{}", var.name()),
            several => text(several),
        };
        let name = literal(name);
        let line = format!("        .header({name}, {value})");
        let _ = if fits(&line) {
            writeln!(out, "{line}")
        } else {
            let indent = "\n            ";
            writeln!(out, "        .header({indent}{name},{indent}{value},\n        )")
        };
    }
    let body = if script.has_body { "body" } else { "()" };
    let _ = writeln!(out, "        .body({body})?;");
    out.push_str(
        "    // An answer is printed whatever its status.\n    \
         let config = ureq::Agent::config_builder().http_status_as_error(false).build();\n    \
         let mut reply = ureq::Agent::from(config).run(request)?;\n    \
         let status = reply.status().as_u16();\n",
    );
    if let Some(check) = &script.reply {
        let field = "    let field = |name: &str| reply.headers().get(name).and_then(|value| value.to_str().ok());\n";
        out.push_str(field);
        let mut signed = template(&check.start);
        if check.signs_type {
            out.push_str(
                "    let content_type = field(\"Content-Type\").unwrap_or_default().to_owned();\n",
            );
            signed.push_str("{content_type}");
        }
        let signed = literal(&signed);
        let _ = writeln!(
            out,
            "    let sent = field({}).unwrap_or_default().to_owned();\n    \
             let answer = reply.body_mut().read_to_vec()?;\n    \
             let mut proof = {}?;\n    proof.update(format!({signed}).as_bytes());\n    proof.update(&answer);\n    \
             let sent = HEXLOWER.decode(sent.as_bytes()).unwrap_or_default();\n    \
             if status < 300 && proof.verify_slice(&sent).is_err() {{\n        \
             return Err(\"{UNSIGNED}\".into());\n    }}\n    \
             println!(\"{{status}} {{}}\", String::from_utf8_lossy(&answer));\n    Ok(())",
            literal(&check.header),
            mac(script)
        );
        return;
    }
    out.push_str(
        "    println!(\"{status} {}\", reply.body_mut().read_to_string()?);\n    Ok(())\n",
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
        TimeUnit::Iso => {
            "format!(\"{}.{:03}Z\", moment(now.as_secs()), now.subsec_millis())".to_owned()
        }
        TimeUnit::IsoSeconds => "moment(now.as_secs())".to_owned(),
    }
}

const fn hash(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HmacSha384 => "Sha384",
        Algorithm::HmacSha512 | Algorithm::RsaPssSha512 => "Sha512",
        Algorithm::HmacSha256
        | Algorithm::Ed25519
        | Algorithm::RsaSha256
        | Algorithm::EcdsaP256Sha256 => "Sha256",
    }
}

/// Pieces as one text, owned or not.
fn text(pieces: &[Piece]) -> String {
    match pieces {
        [] => "\"\"".to_owned(),
        [one] => value(one),
        several => {
            let arguments = arguments(several).map(|argument| format!(", {argument}"));
            let arguments: String = arguments.collect();
            format!("format!({}{arguments})", literal(&template(several)))
        }
    }
}

/// What is formatted: text with names in braces, and empty braces for what is worked out.
fn template(pieces: &[Piece]) -> String {
    let all = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => text.replace('{', "{{").replace('}', "}}"),
        Piece::Var(var) => format!("{{{}}}", var.name()),
        Piece::Escaped(_)
        | Piece::Sorted(..)
        | Piece::Rendered(_)
        | Piece::Pairs
        | Piece::Sha256(_)
        | Piece::Sha256Base64(_)
        | Piece::Sha512Hex(_)
        | Piece::Base64(_)
        | Piece::Base64Url(_) => "{}".to_owned(),
    });
    all.collect()
}

/// What is worked out.
fn arguments(pieces: &[Piece]) -> impl Iterator<Item = String> {
    let worked_out = |piece: &&Piece| !matches!(piece, Piece::Text(_) | Piece::Var(_));
    pieces.iter().filter(worked_out).map(value)
}

fn value(piece: &Piece) -> String {
    match piece {
        Piece::Text(text) => literal(text),
        Piece::Var(var) => var.name().to_owned(),
        Piece::Escaped(var) => format!("escaped(&{})", var.name()),
        Piece::Sorted(var, None) => format!("sorted(&{})", var.name()),
        Piece::Sorted(var, Some((name, value))) => {
            format!("sorted(&format!(\"{{{}}}&{name}={{{}}}\"))", var.name(), value.name())
        }
        Piece::Rendered(name) => format!("rendered(&parsed(&body)?[{}])", literal(name)),
        Piece::Pairs => "pairs(&parsed(&body)?)".to_owned(),
        Piece::Sha256(inner) => {
            format!("HEXLOWER.encode(&Sha256::digest({}))", bytes(inner))
        }
        Piece::Sha256Base64(inner) => format!("BASE64.encode(&Sha256::digest({}))", bytes(inner)),
        Piece::Sha512Hex(inner) => format!("HEXLOWER.encode(&Sha512::digest({}))", bytes(inner)),
        Piece::Base64(inner) => format!("BASE64.encode({})", bytes(inner)),
        Piece::Base64Url(inner) => format!("BASE64URL_NOPAD.encode({})", bytes(inner)),
    }
}

/// Pieces as bytes.
fn bytes(pieces: &[Piece]) -> String {
    if pieces.iter().any(|piece| matches!(piece, Piece::Sha256(_))) {
        return format!("&[{}].concat()", bytes_of_each(pieces).join(", "));
    }
    format!("{}.as_bytes()", text(pieces))
}

fn bytes_of_each(pieces: &[Piece]) -> Vec<String> {
    let each = pieces.iter().map(|piece| {
        if let Piece::Sha256(inner) = piece {
            return format!("&Sha256::digest({})[..]", bytes(inner));
        }
        format!("{}.as_bytes()", value(piece))
    });
    each.collect()
}

fn literal(text: &str) -> String {
    if has_quotes(text) && !text.contains("\"#") {
        return format!("r#\"{text}\"#");
    }
    format!("{text:?}")
}

/// A literal with a line of source for each of its lines.
fn folded(text: &str) -> String {
    if !text.contains('\n') {
        return literal(text);
    }
    let lines = text.split_inclusive('\n').map(|line| {
        let line = format!("{line:?}");
        let line = line.strip_prefix('"').and_then(|line| line.strip_suffix('"')).unwrap_or(&line);
        // Spaces there would be taken for indentation.
        line.strip_prefix(' ').map_or_else(|| line.to_owned(), |rest| format!("\\u{{20}}{rest}"))
    });
    format!("\"{}\"", lines.collect::<Vec<_>>().join("\\\n         "))
}
