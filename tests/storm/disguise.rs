//! What an attacker makes of a request that was signed by another.

use countersign::dialect::SignedRequest;
use http::Method;

use crate::clients::{Place, Spelling, Style, bytes};
use crate::dice::Dice;

/// The same signed content in another spelling, where there is one: what an attacker sends.
pub(crate) fn disguised(request: &SignedRequest, style: &Style, dice: &mut Dice) -> Vec<u8> {
    let mut other = request.clone();
    match dice.below(10) {
        0..=3 => {}
        4 | 5 => respell(&mut other, style, dice),
        6 => {
            let query = other.target.split_once('?').map(|(_, query)| format!("?{query}"));
            other.target = style.paths[1].to_owned() + &query.unwrap_or_default();
        }
        7 => other.method = Method::from_bytes(style.methods[1].as_bytes()).unwrap(),
        8 if !other.body.is_empty() => {
            // From the body into the query.
            other.target = format!("{}?{}", style.paths[0], other.body);
            other.body = String::new();
        }
        _ => {
            // The signature before all others; nobody signs where it stands.
            if let Place::Parameter(name) = style.signature
                && let Some((rest, signature)) = other.body.rsplit_once(&format!("&{name}="))
            {
                other.body = format!("{name}={signature}&{rest}");
            }
        }
    }
    bytes(&other)
}

fn respell(request: &mut SignedRequest, style: &Style, dice: &mut Dice) {
    let change = |text: &str, dice: &mut Dice| match (style.spelling, dice.below(3)) {
        (Spelling::Hex, 0) => text.to_uppercase(),
        (Spelling::Hex, 1) => format!("{text} "),
        (Spelling::Hex, _) => text.replacen('a', "A", 1),
        (Spelling::Base64, 0) => text.trim_end_matches('=').to_owned(),
        (Spelling::Base64, 1) => text.replace('+', "-").replace('/', "_"),
        (Spelling::Base64, _) => text.to_owned() + "=",
    };
    match style.signature {
        Place::Header(wanted) => {
            for (name, value) in &mut request.headers {
                if name == wanted {
                    *value = change(value.to_str().unwrap(), dice).parse().unwrap();
                }
            }
        }
        Place::Parameter(name) => {
            if let Some((rest, signature)) = request.body.rsplit_once(&format!("&{name}=")) {
                let respelt = match dice.below(2) {
                    0 => change(signature, dice).trim().to_owned(),
                    _ => signature
                        .bytes()
                        .fold(String::new(), |text, byte| text + &format!("%{byte:02x}")),
                };
                request.body = format!("{rest}&{name}={respelt}");
            }
        }
    }
}
