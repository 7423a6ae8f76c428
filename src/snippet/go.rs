//! Programs in Go, with its standard library alone.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::go_functions::{functions, private_key};
use super::script::{Fresh, Piece, Script, Step, UNSIGNED, Var, Writing, has_quotes, lines};
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
    if script.message_var() == Var::Message {
        assign("message :=", &script.message, &mut main);
    }
    sign(script, &mut main);
    for step in &script.after {
        line(step, script, &mut known, &mut main);
    }
    tail(script, &mut main);
    let mut functions = functions(&main);
    if !script.has_mac() {
        functions.insert_str(0, &private_key(script.algorithm));
    }
    let mut out = String::new();
    for comment in script.comments() {
        let _ = writeln!(out, "// {comment}");
    }
    out.push_str("package main\n\nimport (\n");
    for package in packages(&[&*functions, &main].concat()) {
        let _ = writeln!(out, "\t\"{package}\"");
    }
    let _ = writeln!(out, ")\n\nfunc main() {{\n{main}}}");
    out.push_str(&functions);
    out
}

/// The packages that the text mentions.
fn packages(text: &str) -> BTreeSet<&'static str> {
    let known = [
        "crypto",
        "crypto/ecdsa",
        "crypto/ed25519",
        "crypto/hmac",
        "crypto/rand",
        "crypto/rsa",
        "crypto/sha256",
        "crypto/sha512",
        "crypto/x509",
        "encoding/base64",
        "encoding/hex",
        "encoding/json",
        "encoding/pem",
        "fmt",
        "io",
        "log",
        "net/http",
        "net/url",
        "os",
        "sort",
        "strings",
        "time",
    ];
    let mentioned = |package: &&str| {
        let name = package.rsplit('/').next().unwrap_or(package);
        let mention = format!("{name}.");
        text.match_indices(&mention).any(|(at, _)| {
            let (before, after) = text.split_at_checked(at).unwrap_or_default();
            let exported = after.get(mention.len()..).unwrap_or_default();
            // Words that only end so, and hosts in URLs, are no mention.
            exported.starts_with(|char: char| char.is_ascii_uppercase())
                && !before.ends_with(|char: char| char.is_alphanumeric() || "./-\"`".contains(char))
        })
    };
    known.into_iter().filter(mentioned).collect()
}

fn begin(script: &Script, out: &mut String) {
    let _ = writeln!(out, "\tbase := {}", literal(&script.base));
    out.push_str("\tkey := os.Getenv(\"KEY\")\n");
    if !script.has_mac() {
        out.push_str("\tprivate := privateKey([]byte(os.Getenv(\"SECRET\")))\n");
    } else if script.secret_in_base64 {
        out.push_str("\tsecret, err := base64.StdEncoding.DecodeString(os.Getenv(\"SECRET\"))\n\tcheck(err)\n");
    } else {
        out.push_str("\tsecret := []byte(os.Getenv(\"SECRET\"))\n");
    }
    if script.has_passphrase {
        out.push_str("\tpassphrase := os.Getenv(\"PASSPHRASE\")\n");
    }
    let _ = writeln!(out, "\tmethod := {}", literal(&script.method));
}

fn line(step: &Step, script: &Script, known: &mut Vec<Var>, out: &mut String) {
    let _ = match step {
        Step::Let(var, pieces) => {
            let set = if known.contains(var) { "=" } else { ":=" };
            known.push(*var);
            assign(&format!("{} {set}", var.name()), pieces, out);
            Ok(())
        }
        Step::Clock(var, unit, ahead) => {
            writeln!(out, "\t{} := {}", var.name(), clock(*unit, *ahead))
        }
        Step::Nonce(Fresh::Clock) => writeln!(out, "\tnonce := fmt.Sprint(time.Now().UnixMilli())"),
        Step::Nonce(Fresh::Uuid) => writeln!(out, "\tnonce := uuid()"),
        Step::KeyedPassphrase => writeln!(
            out,
            "\tkeyed := hmac.New({}, secret)\n\tkeyed.Write([]byte(passphrase))\n\t\
             passphrase = base64.StdEncoding.EncodeToString(keyed.Sum(nil))",
            hash(script.algorithm)
        ),
    };
}

/// On one line, or on several that are added.
fn assign(start: &str, pieces: &[Piece], out: &mut String) {
    let lines = lines(pieces, |line| format!("\t{start} {}", parts(line).join(" + ")));
    let lines: Vec<_> = lines.iter().map(|line| parts(line).join(" + ")).collect();
    let _ = writeln!(out, "\t{start} {}", lines.join(" +\n\t\t"));
}

/// The lines that make the signature.
fn sign(script: &Script, out: &mut String) {
    let message = script.message_var().name();
    let hash = hash(script.algorithm);
    let signed = match script.algorithm {
        Algorithm::HmacSha256 | Algorithm::HmacSha384 | Algorithm::HmacSha512 => {
            let _ =
                writeln!(out, "\tmac := hmac.New({hash}, secret)\n\tmac.Write([]byte({message}))");
            "mac.Sum(nil)"
        }
        Algorithm::Ed25519 => {
            let _ = writeln!(out, "\tsigned := ed25519.Sign(private, []byte({message}))");
            "signed"
        }
        Algorithm::RsaSha256 => {
            let _ = writeln!(
                out,
                "\thashed := sha256.Sum256([]byte({message}))\n\
                 \tsigned, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, hashed[:])\n\tcheck(err)"
            );
            "signed"
        }
        Algorithm::RsaPssSha512 => {
            let _ = writeln!(
                out,
                "\thashed := sha512.Sum512([]byte({message}))\n\
                 \toptions := &rsa.PSSOptions{{SaltLength: 64}}\n\
                 \tsigned, err := rsa.SignPSS(rand.Reader, private, crypto.SHA512, hashed[:], options)\n\tcheck(err)"
            );
            "signed"
        }
        Algorithm::EcdsaP256Sha256 => {
            let _ = writeln!(
                out,
                "\thashed := sha256.Sum256([]byte({message}))\n\
                 \tr, s, err := ecdsa.Sign(rand.Reader, private, hashed[:])\n\tcheck(err)\n\
                 \tsigned := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)"
            );
            "signed"
        }
    };
    let written = match script.writing {
        Writing::Hex => "hex.EncodeToString",
        Writing::Base64 => "base64.StdEncoding.EncodeToString",
        Writing::Base64Url => "base64.RawURLEncoding.EncodeToString",
    };
    let _ = writeln!(out, "\tsignature := {written}({signed})");
}

fn tail(script: &Script, out: &mut String) {
    let url = if script.has_query { "base+path+\"?\"+query" } else { "base+path" };
    let body = if script.has_body { "strings.NewReader(body)" } else { "nil" };
    let _ =
        writeln!(out, "\n\trequest, err := http.NewRequest(method, {url}, {body})\n\tcheck(err)");
    for (name, value) in &script.headers {
        // As gofmt has it among several arguments.
        let value = parts(value).join("+");
        let _ = writeln!(out, "\trequest.Header.Set({}, {value})", literal(name));
    }
    out.push_str(
        "\treply, err := http.DefaultClient.Do(request)\n\tcheck(err)\n\
         \tdefer reply.Body.Close()\n\tanswer, err := io.ReadAll(reply.Body)\n\tcheck(err)\n",
    );
    if let Some(reply) = &script.reply {
        let mut signed = parts(&reply.start);
        if reply.signs_type {
            signed.push("reply.Header.Get(\"Content-Type\")".to_owned());
        }
        let _ = writeln!(
            out,
            "\tproof := hmac.New(sha256.New, secret)\n\tproof.Write([]byte({}))\n\tproof.Write(answer)\n\
             \tsent, _ := hex.DecodeString(reply.Header.Get({}))\n\
             \tif reply.StatusCode < 300 && !hmac.Equal(sent, proof.Sum(nil)) {{\n\
             \t\tlog.Fatal(\"{UNSIGNED}\")\n\t}}",
            signed.join(" + "),
            literal(&reply.header)
        );
    }
    out.push_str("\tfmt.Println(reply.StatusCode, string(answer))\n");
}

fn clock(unit: TimeUnit, ahead_ms: u64) -> String {
    let plus = |ahead: u64| if ahead == 0 { String::new() } else { format!(" + {ahead}") };
    match unit {
        TimeUnit::Seconds | TimeUnit::DecimalSeconds => {
            format!("fmt.Sprint(time.Now().Unix(){})", plus(ahead_ms / 1_000))
        }
        TimeUnit::Millis | TimeUnit::MillisOrMicros => {
            format!("fmt.Sprint(time.Now().UnixMilli(){})", plus(ahead_ms))
        }
        TimeUnit::Iso => "time.Now().UTC().Format(\"2006-01-02T15:04:05.000Z\")".to_owned(),
        TimeUnit::IsoSeconds => "time.Now().UTC().Format(\"2006-01-02T15:04:05\")".to_owned(),
    }
}

const fn hash(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HmacSha384 => "sha512.New384",
        Algorithm::HmacSha512 | Algorithm::RsaPssSha512 => "sha512.New",
        Algorithm::HmacSha256
        | Algorithm::Ed25519
        | Algorithm::RsaSha256
        | Algorithm::EcdsaP256Sha256 => "sha256.New",
    }
}

/// Strings of which the sum is the pieces; bytes are strings too.
fn parts(pieces: &[Piece]) -> Vec<String> {
    let all: Vec<_> = pieces.iter().map(|piece| part(piece, pieces.len() > 1)).collect();
    if all.is_empty() { vec!["\"\"".to_owned()] } else { all }
}

/// One string. As gofmt has it, sums within sums have no spaces.
fn part(piece: &Piece, within: bool) -> String {
    let plus = if within { "+" } else { " + " };
    let sum = |inner: &[Piece]| parts(inner).join(plus);
    match piece {
        Piece::Text(text) => literal(text),
        Piece::Var(var) => var.name().to_owned(),
        Piece::Escaped(var) => format!("url.QueryEscape({})", var.name()),
        Piece::Sorted(var, None) => format!("sorted({})", var.name()),
        Piece::Sorted(var, Some((name, value))) => {
            let all = [var.name(), &literal(&format!("&{name}=")), value.name()].join(plus);
            format!("sorted({all})")
        }
        Piece::Rendered(name) => format!("rendered(body, {})", literal(name)),
        Piece::Pairs => "pairs(body)".to_owned(),
        Piece::Sha256(inner) => format!("string(sha256Of({}))", sum(inner)),
        Piece::Sha256Base64(inner) => {
            format!("base64.StdEncoding.EncodeToString(sha256Of({}))", sum(inner))
        }
        Piece::Sha512Hex(inner) => format!("hex.EncodeToString(sha512Of({}))", sum(inner)),
        Piece::Base64(inner) => {
            format!("base64.StdEncoding.EncodeToString([]byte({}))", sum(inner))
        }
        Piece::Base64Url(inner) => {
            format!("base64.RawURLEncoding.EncodeToString([]byte({}))", sum(inner))
        }
    }
}

fn literal(text: &str) -> String {
    if has_quotes(text) && !text.contains('`') {
        return format!("`{text}`");
    }
    serde_json::Value::from(text).to_string()
}
