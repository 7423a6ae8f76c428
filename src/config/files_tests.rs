//! What is said of the files that a configuration names, where only their content tells.

use std::path::Path;

use super::tests::{SECRET, World, changed, world};
use super::*;

/// What is said, errors and warnings, of the good configuration changed so, beside these files.
fn said(from: &str, to: &str, files: &[(&str, &str, bool)]) -> Vec<String> {
    let mut all = world();
    all.files.extend(World::with(&[], files).files);
    let parsed = Config::parse(&changed(from, to), Path::new("etc/gateway.toml"), &all);
    let (errors, warnings) = match parsed {
        Ok(loaded) => (Vec::new(), loaded.warnings),
        Err(refused) => (refused.errors, refused.warnings),
    };
    let errors = errors.iter().map(ToString::to_string);
    errors.chain(warnings.iter().map(ToString::to_string)).collect()
}

#[test]
fn a_key_that_is_not_its_certificates_is_refused() {
    let [one, other] =
        [(); 2].map(|()| rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap());
    let (cert, own) = (one.cert.pem(), one.signing_key.serialize_pem());
    let to = "\"127.0.0.1:8080\"\ntls = { cert = \"a.pem\", key = \"b.pem\" }";
    for (key, is_good) in [(own, true), (other.signing_key.serialize_pem(), false)] {
        let files = [("etc/a.pem", &*cert, true), ("etc/b.pem", &*key, false)];
        let said = said("\"127.0.0.1:8080\"", to, &files);
        assert_eq!(said.is_empty(), is_good, "{said:?}");
        let told = |said: &String| {
            said.contains("9:31: listener[0].tls.key: etc/b.pem with etc/a.pem:")
                && said.contains("made for this key")
        };
        assert!(is_good || said.len() == 1 && said.iter().all(told), "{said:?}");
    }
}

#[test]
fn a_state_directory_is_no_file() {
    let said = said("\"state\"", "\"secret\"", &[]);
    assert!(
        matches!(&said[..], [one, ..] if one.contains("store.state_dir: etc/secret is no directory")),
        "{said:?}"
    );
}

#[test]
fn bytes_around_a_secret_that_may_not_belong_to_it_are_told_and_not_repeated() {
    for (before, after, told) in
        [("", "\r\n\n", 0), (" ", "", 1), ("", "\t\n", 1), ("\u{feff}", "", 1)]
    {
        let text = format!("{before}{SECRET}{after}");
        let said = said("\"secret\"", "\"around\"", &[("etc/around", &text, false)]);
        assert_eq!(said.len(), told, "{said:?}");
        assert!(said.iter().all(|one| one.contains("key[0].secret: it begins or ends with")));
        assert!(!said.concat().contains("hunter2"), "{said:?}");
    }
}

#[test]
fn a_public_key_that_everybody_can_read_is_no_cause_for_warning() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let to = "public_key = { file = \"public.pem\" }\nalgorithm = \"ed25519\"";
    let files = [("etc/public.pem", &*pair.public_key_pem(), true)];
    assert_eq!(said("secret = { file = \"secret\" }", to, &files), [""; 0]);
}

#[test]
fn addresses_that_the_system_would_not_give_twice_are_refused() {
    let admin = |address: &str| {
        let said = said("\"127.0.0.1:9180\"", &format!("\"{address}\""), &[]);
        said.iter().any(|one| one.contains("a listener has 127.0.0.1:8080 already"))
    };
    for (address, is_taken) in [
        ("127.0.0.1:8080", true),
        ("0.0.0.0:8080", true),
        ("[::]:8080", true),
        ("127.0.0.2:8080", false),
        ("[::1]:8080", false),
        ("0.0.0.0:8081", false),
    ] {
        assert_eq!(admin(address), is_taken, "{address}");
    }
}

#[test]
fn the_first_byte_that_is_no_text_is_shown() {
    let mut world = World::default();
    let text = b"version = 1\n# caf\xc3\xa9 \xe9\n";
    world.files.insert("latin.toml".into(), (text.to_vec(), false));
    let refused = Config::load(Path::new("latin.toml"), &world).unwrap_err();
    let [error] = &refused.errors[..] else { panic!("{refused}") };
    assert_eq!((error.line, error.column, error.cure.as_deref()), (2, 8, Some("save it as UTF-8")));
}
