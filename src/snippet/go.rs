//! Programs in Go, with its standard library alone.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::script::{Fresh, Hash, Piece, Script, Step, Var, Writing, fits, has_quotes};
use crate::dialect::TimeUnit;

pub(super) fn print(script: &Script) -> String {
    let mut main = String::new();
    let mut known = Vec::new();
    begin(script, &mut main);
    for step in &script.before {
        line(step, script, &mut known, &mut main);
    }
    main.push('\n');
    assign("message :=", &parts(&script.message), &mut main);
    sign(script, &mut main);
    for step in &script.after {
        line(step, script, &mut known, &mut main);
    }
    tail(script, &mut main);
    let helpers = [
        ("rendered(", RENDERED),
        ("pairs(", PAIRS),
        ("sha256Of(", SHA256),
        ("sha512Of(", SHA512),
        ("sorted(", SORTED),
    ];
    let helpers: String = helpers
        .iter()
        .filter(|(mention, _)| main.contains(mention))
        .map(|(_, text)| *text)
        .collect();
    let mut out = String::new();
    for comment in script.comments() {
        let _ = writeln!(out, "// {comment}");
    }
    out.push_str("package main\n\nimport (\n");
    for package in packages(&[&*helpers, &main].concat()) {
        let _ = writeln!(out, "\t\"{package}\"");
    }
    let _ = writeln!(out, ")\n\n{helpers}func main() {{\n{main}}}");
    out
}

/// The packages that the text mentions.
fn packages(text: &str) -> BTreeSet<&'static str> {
    let known = [
        "crypto/ed25519",
        "crypto/hmac",
        "crypto/rand",
        "crypto/sha256",
        "crypto/sha512",
        "crypto/x509",
        "encoding/base64",
        "encoding/hex",
        "encoding/json",
        "encoding/pem",
        "fmt",
        "io",
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
    if script.secret_in_base64 {
        out.push_str("\tsecret, _ := base64.StdEncoding.DecodeString(os.Getenv(\"SECRET\"))\n");
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
            assign(&format!("{} {set}", var.name()), &parts(pieces), out);
            Ok(())
        }
        Step::Clock(var, unit, ahead) => {
            writeln!(out, "\t{} := {}", var.name(), clock(*unit, *ahead))
        }
        Step::Nonce(Fresh::Clock) => writeln!(out, "\tnonce := fmt.Sprint(time.Now().UnixMilli())"),
        Step::Nonce(Fresh::Uuid) => out.write_str(UUID),
        Step::KeyedPassphrase => writeln!(
            out,
            "\tkeyed := hmac.New({}, secret)\n\tkeyed.Write([]byte(passphrase))\n\t\
             passphrase = base64.StdEncoding.EncodeToString(keyed.Sum(nil))",
            hash(script.mac)
        ),
    };
}

/// A sum on one line, or one part a line.
fn assign(start: &str, parts: &[String], out: &mut String) {
    let line = format!("\t{start} {}", parts.join(" + "));
    let _ = if fits(&line) || parts.len() < 2 {
        writeln!(out, "{line}")
    } else {
        writeln!(out, "\t{start} {}", parts.join(" +\n\t\t"))
    };
}

fn sign(script: &Script, out: &mut String) {
    let made = if script.mac.is_some() {
        let hash = hash(script.mac);
        let _ = writeln!(out, "\tmac := hmac.New({hash}, secret)\n\tmac.Write([]byte(message))");
        "mac.Sum(nil)"
    } else {
        out.push_str(PRIVATE);
        "ed25519.Sign(private.(ed25519.PrivateKey), []byte(message))"
    };
    let written = match script.writing {
        Writing::Hex => "hex.EncodeToString",
        Writing::Base64 => "base64.StdEncoding.EncodeToString",
        Writing::Base64Url => "base64.RawURLEncoding.EncodeToString",
    };
    let _ = writeln!(out, "\tsignature := {written}({made})");
}

fn tail(script: &Script, out: &mut String) {
    let url = if script.has_query { "base+path+\"?\"+query" } else { "base+path" };
    let body = if script.has_body { "strings.NewReader(body)" } else { "nil" };
    let _ = writeln!(
        out,
        "\n\trequest, err := http.NewRequest(method, {url}, {body})\n\
         \tif err != nil {{\n\t\tpanic(err)\n\t}}"
    );
    for (name, value) in &script.headers {
        // As gofmt has it among several arguments.
        let value = parts(value).join("+");
        let _ = writeln!(out, "\trequest.Header.Set({}, {value})", literal(name));
    }
    out.push_str(
        "\treply, err := http.DefaultClient.Do(request)\n\tif err != nil {\n\t\tpanic(err)\n\t}\n\
         \tanswer, _ := io.ReadAll(reply.Body)\n",
    );
    if let Some(check) = &script.reply {
        let mut signed = parts(&check.start);
        if check.signs_type {
            signed.push("reply.Header.Get(\"Content-Type\")".to_owned());
        }
        let _ = writeln!(
            out,
            "\tproof := hmac.New(sha256.New, secret)\n\tproof.Write([]byte({}))\n\tproof.Write(answer)\n\
             \tsent, _ := hex.DecodeString(reply.Header.Get({}))\n\
             \tif reply.StatusCode < 300 && !hmac.Equal(sent, proof.Sum(nil)) {{\n\
             \t\tpanic(\"the reply is not signed by who has the secret\")\n\t}}",
            signed.join(" + "),
            literal(&check.header)
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

fn hash(mac: Option<Hash>) -> &'static str {
    match mac {
        Some(Hash::Sha384) => "sha512.New384",
        Some(Hash::Sha512) => "sha512.New",
        Some(Hash::Sha256) | None => "sha256.New",
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

const PRIVATE: &str = r"	block, _ := pem.Decode(secret)
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		panic(err)
	}
";

const UUID: &str = r#"	random := make([]byte, 16)
	rand.Read(random)
	random[6], random[8] = random[6]&0x0f|0x40, random[8]&0x3f|0x80
	nonce := fmt.Sprintf("%x-%x-%x-%x-%x", random[:4], random[4:6], random[6:8], random[8:10], random[10:])
"#;

const SHA256: &str = "func sha256Of(text string) []byte {
	digest := sha256.Sum256([]byte(text))
	return digest[:]
}

";

const SHA512: &str = "func sha512Of(text string) []byte {
	digest := sha512.Sum512([]byte(text))
	return digest[:]
}

";

const SORTED: &str = r#"func sorted(query string) string {
	pairs := strings.FieldsFunc(query, func(r rune) bool { return r == '&' })
	name := func(pair string) string { return strings.SplitN(pair, "=", 2)[0] }
	sort.Slice(pairs, func(i, j int) bool { return name(pairs[i]) < name(pairs[j]) })
	return strings.Join(pairs, "&")
}

"#;

const RENDERED: &str = r#"func render(value any) string {
	switch value := value.(type) {
	case nil:
		return "null"
	case map[string]any:
		names := []string{}
		for name := range value {
			names = append(names, name)
		}
		sort.Strings(names)
		out := ""
		for _, name := range names {
			out += name + render(value[name])
		}
		return out
	case []any:
		out := ""
		for _, item := range value {
			out += render(item)
		}
		return out
	}
	return fmt.Sprint(value)
}

func rendered(body, name string) string {
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.UseNumber()
	var document map[string]any
	if err := decoder.Decode(&document); err != nil {
		panic(err)
	}
	return render(document[name])
}

"#;

const PAIRS: &str = r#"func pairs(body string) string {
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.UseNumber()
	decoder.Token()
	out := []string{}
	for decoder.More() {
		name, _ := decoder.Token()
		var value any
		if err := decoder.Decode(&value); err != nil {
			panic(err)
		}
		items, ok := value.([]any)
		if !ok {
			out = append(out, fmt.Sprintf("%v=%v", name, value))
		}
		for _, item := range items {
			out = append(out, fmt.Sprintf("%v[]=%v", name, item))
		}
	}
	return strings.Join(out, "&")
}

"#;
