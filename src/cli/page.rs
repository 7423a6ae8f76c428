//! The page of a dialect for authors of clients and for operators, written from its recipe.

use std::fmt::Write as _;

use super::{dialects, worked};
use crate::dialect::{Dialect, Encoding, NonceKind, Reading, SecretForm};
use crate::key::Algorithm;
use crate::snippet::{self, Language};

/// The page of `dialect`, in Markdown.
pub(super) fn page(dialect: &Dialect) -> Result<String, String> {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# {}\n", dialect.title());
    let _ = writeln!(
        out,
        "Dialect `{name}`, from `config/dialects/{name}.toml`. This page is written by\n\
         `countersign dialects page {name}`, and a test holds it against the recipe.\n",
        name = dialect.name()
    );
    for note in dialect.notes() {
        let _ = writeln!(out, "- {note}");
    }
    credentials(dialect, &mut out);
    messages(dialect, &mut out);
    parameters(dialect, &mut out);
    time(dialect, &mut out);
    algorithms(dialect, &mut out);
    readings(dialect, &mut out);
    replies(dialect, &mut out);
    worked::example(dialect, &mut out)?;
    snippets(dialect, &mut out);
    refusals(dialect, &mut out);
    out.push_str("\n## Sources\n\n");
    for source in dialect.sources() {
        let _ = writeln!(out, "- <{source}>");
    }
    Ok(out)
}

/// The list of all pages.
pub(super) fn index<'a>(all: impl Iterator<Item = &'a Dialect>) -> String {
    let mut out = String::from(
        "# Dialects\n\n\
         Where each dialect's credentials travel, what it signs, how it refuses, and a request with every intermediate \
         byte.\n\
         The pages are written from the recipes by `countersign dialects pages --out docs/dialects`.\n\n\
         | dialect | exchange | time | nonce | algorithms |\n|---|---|---|---|---|\n",
    );
    for dialect in all {
        let names: Vec<_> = dialect.algorithms().map(Algorithm::name).collect();
        let _ = writeln!(
            out,
            "| [`{name}`]({name}.md) | {} | {} | {} | {} |",
            dialect.title(),
            dialects::kind(dialect),
            nonce_word(dialect),
            names.join(", "),
            name = dialect.name(),
        );
    }
    out
}

fn credentials(dialect: &Dialect, out: &mut String) {
    out.push_str("\n## Where credentials travel\n\n| what | where |\n|---|---|\n");
    for (credential, place) in dialect.places() {
        let place = dialect.spelled_place(place);
        let _ = writeln!(out, "| {} | `{place}` |", credential.name());
    }
    if let Some(name) = dialect.payload_header() {
        let _ = writeln!(out, "| payload, JSON in base64 | `header {}` |", dialect.spelled(name));
    }
    for (place, algorithm, name) in dialect.algorithm_names() {
        let place = dialect.spelled_place(place);
        let _ = writeln!(out, "| `{name}` for {} keys | `{place}` |", algorithm.name());
    }
    for (place, text) in dialect.sends() {
        let place = dialect.spelled_place(place);
        let _ = writeln!(out, "| always `{text}` | `{place}` |");
    }
    let names: Vec<_> = dialect
        .forward_headers()
        .iter()
        .map(|name| format!("`{}`", dialect.spelled(name)))
        .collect();
    if !names.is_empty() {
        let _ = writeln!(out, "\nBackends also get {}, which is not signed.", names.join(", "));
    }
}

fn messages(dialect: &Dialect, out: &mut String) {
    out.push_str("\n## What is signed\n");
    for cover in dialect.coverage() {
        let text = cover.text.escape_debug().to_string().replace("\\\"", "\"");
        let _ = writeln!(out, "\nMethod and body: {}.\n\n    {text}\n", cover.methods);
        let _ = writeln!(out, "Signed: {}.\n", cover.signed.join(", "));
        out.push_str("| not signed | what becomes of it |\n|---|---|\n");
        for (part, fate) in &cover.unsigned {
            let _ = writeln!(out, "| {part} | {fate} |");
        }
    }
}

fn parameters(dialect: &Dialect, out: &mut String) {
    let list = |names: &[&str]| {
        names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    if dialect.parameters().chain(dialect.parameter_sets()).next().is_none() {
        return;
    }
    out.push_str("\n## Parameters\n\n");
    if dialect.parameters().next().is_some() {
        out.push_str("Nothing separates names from values, so these are taken and no others:\n\n");
    }
    for (method, names) in dialect.parameters() {
        let method =
            if method == "*" { "any other method".to_owned() } else { format!("`{method}`") };
        let _ = writeln!(out, "- {method}: {}", list(&names));
    }
    for (first, names) in dialect.parameter_sets() {
        let _ = writeln!(
            out,
            "- where `{first}` comes first, whatever the method, only: {}",
            list(&names)
        );
    }
}

fn time(dialect: &Dialect, out: &mut String) {
    out.push_str("\n## Time and nonce\n\n");
    let _ = writeln!(out, "- Time: {}.", dialects::time(dialect));
    if let Some(unit) = dialect.time_unit() {
        let _ = writeln!(out, "- Written in {unit}.");
    }
    let _ = writeln!(out, "- Good for: {}.", dialects::window(dialect));
    let nonce = match dialect.nonce_kind() {
        None => "none is needed: what was accepted once is refused again",
        Some(NonceKind::None) => "more bytes to sign; it need not differ from others",
        Some(NonceKind::Unique) => "each key uses one once",
        Some(NonceKind::Growing) => "a number that grows with every request of its key",
    };
    let _ = writeln!(out, "- Nonce: {nonce}.");
    if let Some((member, within)) = dialect.clocked_nonce() {
        let seconds = within.as_secs();
        let _ = writeln!(
            out,
            "- Where `{member}` is `true`, the nonce is a clock in milliseconds, at most {seconds} s from the server's, and passes once in any order."
        );
    }
}

fn nonce_word(dialect: &Dialect) -> &'static str {
    match dialect.nonce_kind() {
        None => "none",
        Some(NonceKind::None) => "any",
        Some(NonceKind::Unique) => "unique",
        Some(NonceKind::Growing) => "growing",
    }
}

fn algorithms(dialect: &Dialect, out: &mut String) {
    out.push_str("\n## Keys\n\n| algorithm | the signature is written in |\n|---|---|\n");
    for (algorithm, encoding) in dialect.encodings() {
        let written = match encoding {
            Encoding::Hex => "hexadecimal",
            Encoding::Base64 => "base64",
            Encoding::Base64Url => "base64 for URLs, without padding",
        };
        let _ = writeln!(out, "| {} | {written} |", algorithm.name());
    }
    if dialect.algorithms().any(Algorithm::is_symmetric) {
        let form = match dialect.secret_form() {
            SecretForm::Text => "The bytes of a shared secret's text are the MAC key.",
            SecretForm::Base64 => "A shared secret is base64; what it decodes to is the MAC key.",
        };
        let _ = writeln!(out, "\n{form}");
    }
    if dialect.has_passphrase() {
        out.push_str("\nEach key has a passphrase.");
        if let Some(rule) = dialect.passphrase.as_ref().and_then(|rule| rule.keyed.as_ref()) {
            let _ = write!(
                out,
                " Where `{}` is {}, it is sent as its MAC under the secret, in base64.",
                rule.version,
                rule.keyed.join(" or ")
            );
        }
        out.push('\n');
    }
}

fn readings(dialect: &Dialect, out: &mut String) {
    if dialect.readings().len() > 1 {
        out.push_str(READINGS);
        list(dialect.readings(), out);
    }
    if !dialect.lenient_readings().is_empty() {
        out.push_str(LENIENT_READINGS);
        list(dialect.lenient_readings(), out);
    }
}

const READINGS: &str = "\n## Readings\n\nClients may have signed the query, or a form, in one of these ways. Each is taken only where \
         no request of\nanother meaning could have been read as the same bytes, and the backend gets one canonical \
         encoding.\n\n";

const LENIENT_READINGS: &str = "\n## Lenient readings\n\nClients that spell a value otherwise than they signed it are refused, unless the operator \
     writes `lenient = true` for\nthe dialect. Then these readings are taken too, each only where no request of another \
     meaning could have been read as\nthe same bytes, and the backend gets one encoding of what was signed. A \
     text that was sent as it was signed,\nwith bytes that are always encoded (a space), is then taken literally: it goes \
     on encoded, a `+` as `%2B`, and is\nrefused where a parameter has no `=`.\n\n";

fn list(readings: &[Reading], out: &mut String) {
    for reading in readings {
        let text = match reading {
            Reading::Raw => "as on the wire",
            Reading::Decoded => "each `%XX` decoded, `+` left alone",
            Reading::FormDecoded => "each `%XX` decoded, and `+` a space",
            Reading::Sorted => "the pairs in order of their names",
            Reading::DecodedSorted => "in order of their names, then decoded",
            Reading::FormDecodedSorted => "in order of their names, then decoded as forms are",
            Reading::ReEncoded => "decoded as forms are, then encoded as `encodeURIComponent` does",
            Reading::Unencoded => "decoded as forms are, where it can be no encoded text",
        };
        let _ = writeln!(out, "- `{}`: {text}", reading.name());
    }
}

fn replies(dialect: &Dialect, out: &mut String) {
    let Some((header, text)) = dialect.signs_replies() else { return };
    let header = dialect.spelled(header);
    let _ = writeln!(
        out,
        "\n## Replies are signed\n\nEach backend's reply to a proven request carries `{header}`: the HMAC-SHA256, in \
         hexadecimal, under the same secret, of\n\n    {}\n\nNonce and timestamp are the request's, as sent; content \
         type and body are the reply's.",
        text.escape_debug()
    );
}

fn snippets(dialect: &Dialect, out: &mut String) {
    out.push_str("\n## In code\n\nA program that signs this request and sends it, in five languages:\n\n```sh\n");
    for (_, language) in Language::ALL {
        let _ = writeln!(out, "countersign snippet --dialect {} --lang {language}", dialect.name());
    }
    out.push_str("```\n");
    let usual = snippet::usual_algorithm(dialect);
    let others = dialect.algorithms().filter(|algorithm| Some(*algorithm) != usual);
    let others: Vec<_> =
        others.map(|algorithm| format!("`--algorithm {}`", algorithm.name())).collect();
    if !others.is_empty() {
        let _ = writeln!(out, "\nFor other keys add {}.", others.join(" or "));
    }
}

fn refusals(dialect: &Dialect, out: &mut String) {
    out.push_str(
        "\n## Refusals\n\nA condition without words of its own is answered like the nearest that has them. What cannot \
         be proved is answered\nlike `bad_signature`, unless the operator lets the dialect `imitate` its exchange.\n\n\
         | condition | status | body |\n|---|---|---|\n",
    );
    for (condition, status, body) in dialect.wording() {
        let switch = if condition.needs_imitation() { " (with `imitate`)" } else { "" };
        let body = body.trim_end().replace('|', "\\|");
        let body = if body.is_empty() { "none".to_owned() } else { format!("`` {body} ``") };
        let _ = writeln!(out, "| `{}`{switch} | {} | {body} |", condition.name(), status.as_u16());
    }
    let mut fields = dialect.reply_wording().peekable();
    if fields.peek().is_some() {
        out.push_str("\nOn every reply:\n\n```text\n");
        for (name, text) in fields {
            let _ = writeln!(out, "{name}: {text}");
        }
        out.push_str("```\n");
    }
}
