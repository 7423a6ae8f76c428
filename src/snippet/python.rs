//! Scripts in Python 3, with its standard library alone but for asymmetric keys.

use std::fmt::Write as _;

use super::script::{
    Fresh, Piece, Script, Step, UNSIGNED, Var, Writing, groups, hash, is_template, is_text, lines,
    literal,
};
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
        let _ = writeln!(main, "message = {}", bytes(&script.message));
    } else if script.message_var() == Var::Message {
        assign("message", &script.message, &mut main);
    }
    sign(script, &mut main);
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
    imports(&[&*helpers, &main].concat(), &mut out);
    out.push_str(&helpers);
    out + &main
}

/// The modules that the text mentions.
fn imports(text: &str, out: &mut String) {
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
    if text.contains("datetime.") {
        out.push_str("from datetime import datetime, timezone\n");
    }
    if text.contains("load_pem_private_key(") {
        let mut names = Vec::new();
        if text.contains("hashes.") {
            names.push("hashes");
        }
        names.push("serialization");
        let _ = writeln!(out, "\nfrom cryptography.hazmat.primitives import {}", names.join(", "));
        let names = ["ec", "padding", "utils"];
        let names: Vec<_> =
            names.into_iter().filter(|name| text.contains(&format!("{name}."))).collect();
        if !names.is_empty() {
            let names = names.join(", ");
            let _ = writeln!(out, "from cryptography.hazmat.primitives.asymmetric import {names}");
        }
    }
    out.push('\n');
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
            assign(var.name(), pieces, out);
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
            hash(script.algorithm)
        ),
    };
}

/// On one line, or on several in parentheses.
fn assign(name: &str, pieces: &[Piece], out: &mut String) {
    let lines = lines(pieces, |line| format!("{name} = {}", text(line)));
    if let [line] = &*lines {
        let _ = writeln!(out, "{name} = {}", text(line));
        return;
    }
    // Literals side by side are one; anything else is added.
    let alike = lines.iter().all(|line| is_text(line));
    let between = if alike { "\n    " } else { "\n    + " };
    let lines: Vec<_> = lines.iter().map(|line| text(line)).collect();
    let _ = writeln!(out, "{name} = (\n    {}\n)", lines.join(between));
}

fn tail(script: &Script, out: &mut String) {
    if script.headers.is_empty() {
        out.push_str("\nheaders = {}\n");
    } else {
        out.push_str("\nheaders = {\n");
        for (name, value) in &script.headers {
            let _ = writeln!(out, "    {}: {},", literal(name), text(value));
        }
        out.push_str("}\n");
    }
    out.push_str(if script.has_query {
        "url = f\"{base}{path}?{query}\"\n"
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
    let mut signed = text(&check.start);
    if check.signs_type {
        out.push_str("content_type = reply.headers[\"Content-Type\"] or \"\"\n");
        signed.push_str(" + content_type");
    }
    let _ = writeln!(
        out,
        "answer = reply.read()\nproof = ({signed}).encode() + answer\n\
         expected = hmac.new(secret, proof, hashlib.sha256).hexdigest()\n\
         sent = reply.headers[{}] or \"\"\n\
         if reply.status < 300 and not hmac.compare_digest(expected, sent):\n    \
         raise SystemExit(\"{UNSIGNED}\")\n\
         print(reply.status, answer.decode())",
        literal(&check.header)
    );
}

/// The lines that make the signature.
fn sign(script: &Script, out: &mut String) {
    let var = script.message_var().name();
    let message = if script.signs_digest() { var.to_owned() } else { format!("{var}.encode()") };
    let written = |bytes: &str| match script.writing {
        Writing::Hex => format!("{bytes}.hex()"),
        Writing::Base64 => format!("base64.b64encode({bytes}).decode()"),
        Writing::Base64Url => format!("base64.urlsafe_b64encode({bytes}).decode().rstrip(\"=\")"),
    };
    if !script.has_mac() {
        out.push_str("private_key = serialization.load_pem_private_key(secret, None)\n");
    }
    let arguments = match script.algorithm {
        Algorithm::HmacSha256 | Algorithm::HmacSha384 | Algorithm::HmacSha512 => {
            let hash = hash(script.algorithm);
            let made = format!("hmac.new(secret, {message}, hashlib.{hash})");
            let line = match script.writing {
                Writing::Hex => format!("signature = {made}.hexdigest()"),
                Writing::Base64 | Writing::Base64Url => {
                    format!("mac = {made}\nsignature = {}", written("mac.digest()"))
                }
            };
            let _ = writeln!(out, "{line}");
            return;
        }
        Algorithm::Ed25519 => "",
        Algorithm::RsaSha256 => ", padding.PKCS1v15(), hashes.SHA256()",
        Algorithm::RsaPssSha512 => {
            out.push_str("pss = padding.PSS(padding.MGF1(hashes.SHA512()), salt_length=64)\n");
            ", pss, hashes.SHA512()"
        }
        Algorithm::EcdsaP256Sha256 => ", ec.ECDSA(hashes.SHA256())",
    };
    let made = format!("private_key.sign({message}{arguments})");
    let _ = if script.algorithm == Algorithm::EcdsaP256Sha256 {
        writeln!(
            out,
            "r, s = utils.decode_dss_signature({made})\n\
             signed = r.to_bytes(32, \"big\") + s.to_bytes(32, \"big\")\n\
             signature = {}",
            written("signed")
        )
    } else {
        writeln!(out, "signed = {made}\nsignature = {}", written("signed"))
    };
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
        TimeUnit::Iso => {
            "datetime.now(timezone.utc).strftime(\"%Y-%m-%dT%H:%M:%S.%f\")[:-3] + \"Z\"".to_owned()
        }
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
        let Piece::Text(text) = piece else { return format!("{{{}}}", part(piece)) };
        text.replace('{', "{{").replace('}', "}}")
    });
    format!("f{}", literal(&all.collect::<String>()))
}

fn part(piece: &Piece) -> String {
    match piece {
        Piece::Text(text) => literal(text),
        Piece::Var(var) => var.name().to_owned(),
        Piece::Escaped(var) => format!("urllib.parse.quote({}, safe=\"\")", var.name()),
        Piece::Sorted(var, extra) => sorted(*var, extra.as_ref()),
        Piece::Rendered(name) => format!("rendered(body, {})", literal(name)),
        Piece::Pairs => "pairs(body)".to_owned(),
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

/// Pieces as bytes, of as few sums as can be.
fn bytes(pieces: &[Piece]) -> String {
    let runs = pieces.split_inclusive(|piece| matches!(piece, Piece::Sha256(_)));
    let all = runs.flat_map(|run| {
        let (last, before) = match run.split_last() {
            Some((Piece::Sha256(inner), before)) => (Some(inner), before),
            _ => (None, run),
        };
        let before = (!before.is_empty()).then(|| {
            let text = text(before);
            let is_sum = before.len() > 1 && !is_text(before);
            if is_sum { format!("({text}).encode()") } else { format!("{text}.encode()") }
        });
        let last = last.map(|inner| format!("hashlib.sha256({}).digest()", bytes(inner)));
        before.into_iter().chain(last)
    });
    let all: Vec<_> = all.collect();
    if all.is_empty() { "b\"\"".to_owned() } else { all.join(" + ") }
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

const RENDERED: &str = r#"
def rendered(body, name):
    def write(value):
        if isinstance(value, dict):
            return "".join(name + write(value[name]) for name in sorted(value))
        if isinstance(value, list):
            return "".join(write(item) for item in value)
        return value if isinstance(value, str) else json.dumps(value)

    # Numbers stay as they are written.
    return write(json.loads(body, parse_int=str, parse_float=str)[name])


"#;

const PAIRS: &str = r#"
def pairs(body):
    every = []
    # Numbers stay as they are written.
    for name, value in json.loads(body, parse_int=str, parse_float=str).items():
        if isinstance(value, list):
            every += [(name + "[]", item) for item in value]
        else:
            every.append((name, value))
    return "&".join(
        name + "=" + (value if isinstance(value, str) else json.dumps(value))
        for name, value in every
    )


"#;
