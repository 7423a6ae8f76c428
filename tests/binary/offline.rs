//! The commands that need no gateway, and the load tester against the demo.

use serde_json::{Value, json};

use crate::demo::Demo;
use crate::program::{Program, run, run_reading};
use crate::world::{DIALECTS, PASSPHRASE, SECRET, VARIABLES};

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn recorded_requests_are_accepted_but_for_the_ambiguous_one() {
    for (dialect, code, refused) in [("binance", 0, 0), ("bybit", 0, 0), ("bitget", 1, 1)] {
        let file = format!("{VECTORS}/{dialect}.jsonl");
        let recorded = std::fs::read_to_string(&file).unwrap().lines().count();
        let said = run(&["verify", "--json", &file], &[]);
        assert_eq!((said.code, &*said.err), (Some(code), ""), "{dialect}");
        let told = json_lines(&said.out);
        assert_eq!(told.len(), recorded);
        for (place, line) in told.iter().enumerate() {
            assert_eq!((&line["line"], &line["dialect"]), (&json!(place + 1), &json!(dialect)));
            assert_eq!(line["accepted"], json!(line["reason"] == "accepted"), "{line}");
        }
        let not: Vec<_> = told.iter().filter(|line| line["accepted"] == false).collect();
        assert_eq!(not.len(), refused, "{not:?}");
        for line in not {
            assert!(line["reason"].as_str().unwrap().starts_with("ambiguous"), "{line}");
            assert_eq!(line["contradicts_expect"], true);
        }
        let said = run(&["verify", &file], &[]);
        assert_eq!(said.code, Some(code));
        let last = said.out.lines().last().unwrap();
        assert!(last.starts_with(&format!("{recorded} judged: ")), "{last}");
    }
}

#[test]
fn requests_that_only_a_lenient_reading_takes_are_refused_as_expected() {
    let said = run(&["verify", "--json", &format!("{VECTORS}/lenient/binance.jsonl")], &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let told = json_lines(&said.out);
    assert_eq!(told.len(), 17);
    assert!(told.iter().all(|line| line["accepted"] == false), "{told:?}");
}

#[test]
fn a_recording_that_expects_an_unknown_word_is_judged_and_told() {
    let all = std::fs::read_to_string(format!("{VECTORS}/bybit.jsonl")).unwrap();
    let first: Value = serde_json::from_str(all.lines().next().unwrap()).unwrap();
    for (expects, code) in [("valid", 0), ("valid-if-lenient", 1), ("invalid", 1), ("vaild", 1)] {
        let mut changed = first.clone();
        changed["expect"] = json!(expects);
        let said = run_reading(&["verify", "--json", "-"], &changed.to_string());
        let told = &json_lines(&said.out)[0];
        assert_eq!((said.code, &told["accepted"]), (Some(code), &json!(true)), "{expects}");
        assert_eq!(told["contradicts_expect"], json!(code == 1), "{expects}");
        let said = run_reading(&["verify", "-"], &changed.to_string());
        assert_eq!(said.out.contains("expects `vaild`"), expects == "vaild", "{}", said.out);
        changed["secret"] = json!("another");
        let said = run_reading(&["verify", "-"], &changed.to_string());
        let refused = matches!(expects, "invalid" | "valid-if-lenient");
        assert_eq!(said.code, Some(i32::from(!refused)), "{expects}");
    }
    let lenient = format!("{VECTORS}/lenient/binance.jsonl");
    let said = run(&["verify", "--json", "--lenient", &lenient], &[]);
    assert_eq!(said.code, Some(0), "{}", said.out);
}

#[test]
fn a_recording_that_was_changed_is_refused_and_told() {
    for (dialect, ..) in DIALECTS {
        let all = std::fs::read_to_string(format!("{VECTORS}/{dialect}.jsonl")).unwrap();
        let first: Value = serde_json::from_str(all.lines().next().unwrap()).unwrap();
        let accepted = run_reading(&["verify", "--json", "-"], &first.to_string());
        assert_eq!(accepted.code, Some(0), "{accepted:?}");
        let late = first["now_ms"].as_u64().unwrap() + 600_000;
        for (field, value, reason) in [
            ("secret", json!("another"), "bad_signature"),
            ("method", json!(if first["method"] == "GET" { "POST" } else { "GET" }), ""),
            ("now_ms", json!(late), "stale"),
            ("key", json!("nobody"), ""),
        ] {
            let mut changed = first.clone();
            changed[field] = value;
            let said = run_reading(&["verify", "--json", "-"], &changed.to_string());
            if field == "method" && said.code == Some(0) {
                continue; // Bybit signs no method.
            }
            assert_eq!(said.code, Some(1), "{dialect} {field} {said:?}");
            let told = &json_lines(&said.out)[0];
            assert!(told["reason"].as_str().unwrap().starts_with(reason), "{told}");
        }
    }
}

#[test]
fn lines_that_cannot_be_read_are_reported_and_the_others_judged() {
    let good = std::fs::read_to_string(format!("{VECTORS}/bybit.jsonl")).unwrap();
    let good = good.lines().next().unwrap();
    let text = format!("not json\n\n{good}\n{{}}\n[1,2]\n\u{1F980}\n");
    let said = run_reading(&["verify", "--json", "-"], &text);
    assert_eq!(said.code, Some(1));
    let told = json_lines(&said.out);
    let lines: Vec<_> = told.iter().map(|line| line["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [1, 3, 4, 5, 6]);
    for line in &told {
        let readable = line["line"] == 3;
        assert_eq!(line["accepted"], readable);
        assert_eq!(line["reason"].as_str().unwrap().starts_with("unreadable: "), !readable);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let bytes = ["\u{feff}".as_bytes(), good.as_bytes(), b"\n\xff\xfe\n", good.as_bytes()].concat();
    std::fs::write(file.path(), bytes).unwrap();
    let said = run(&["verify", "--json", file.path().to_str().unwrap()], &[]);
    let told = json_lines(&said.out);
    let readable: Vec<_> = told
        .iter()
        .map(|line| !line["reason"].as_str().unwrap().starts_with("unreadable"))
        .collect();
    assert_eq!((said.code, readable), (Some(1), vec![true, false, true]), "{said:?}");
    let said = run(&["verify", "/no/such/file.jsonl"], &[]);
    assert_eq!((said.code, said.err.contains("/no/such/file.jsonl")), (Some(2), true), "{said:?}");
}

#[test]
fn what_sign_makes_verify_accepts() {
    for (dialect, read, write) in DIALECTS {
        for (path, data) in [(read, ""), (write, "{\"a\":\"b\"}"), (write, "a=b")] {
            if (dialect == "binance") == data.starts_with('{') {
                continue;
            }
            let url = format!("http://localhost:1{path}");
            let mut arguments = vec!["sign", "--json", "--dialect", dialect, "--key", "k", &url];
            arguments.extend(["--secret-env", "CLIENT_SECRET", "--at", "1700000000000"]);
            if dialect == "bitget" {
                arguments.extend(["--passphrase-env", "CLIENT_PASSPHRASE"]);
            }
            if !data.is_empty() {
                arguments.extend(["--data", data]);
            }
            let said = run(&arguments, &VARIABLES);
            assert_eq!((said.code, &*said.err), (Some(0), ""), "{said:?}");
            assert!(!said.out.contains(SECRET), "{said:?}");
            let signed: Value = serde_json::from_str(&said.out).unwrap();
            let target = signed["url"].as_str().unwrap().strip_prefix("http://localhost:1");
            let recorded = json!({
                "dialect": dialect, "method": signed["method"], "target": target.unwrap(),
                "headers": signed["headers"], "body": signed["body"], "key": "k", "secret": SECRET,
                "passphrase": PASSPHRASE, "now_ms": 1_700_000_000_500_u64,
                "algorithm": "hmac-sha256", "expect": "valid",
            });
            let judged = run_reading(&["verify", "-"], &recorded.to_string());
            assert_eq!(judged.code, Some(0), "{judged:?}");
            assert!(!judged.out.contains(SECRET) && !judged.out.contains(PASSPHRASE), "{judged:?}");
        }
    }
}

#[test]
fn sign_without_its_variable_says_the_cure() {
    let arguments = ["sign", "--key", "k", "--secret-env", "CLIENT_SECRET", "http://localhost/a"];
    let said = run(&arguments, &[]);
    assert_eq!((said.code, &*said.out), (Some(2), ""));
    assert!(said.err.contains("`CLIENT_SECRET=… countersign sign"), "{said:?}");
    let said = run(&["sign", "--key", "k", "http://localhost/a"], &[]);
    assert_eq!((said.code, said.err.contains("--secret-env")), (Some(2), true), "{said:?}");
}

#[test]
fn what_sign_cannot_sign_it_says_with_the_cure() {
    let private = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let variables = [("SECRET", "0123456789abcdef"), ("PEM", &*private), ("NONE", "")];
    for (arguments, cure) in [
        ("--key k --secret-env SECRET -X get http://localhost/a", "in capitals"),
        ("--key= --secret-env SECRET http://localhost/a", "give --key"),
        ("--key k --secret-env SECRET --window 70000 http://localhost/a", "lower --window"),
        ("--key k --secret-env SECRET ftp://localhost/a", "neither http:// nor https://"),
        ("--key k --secret-env SECRET http://localhost/a/../b", "a dot segment"),
        ("--key k --secret-env SECRET http://localhost/a%2fb", "in the path"),
        ("--key k --secret-env SECRET http://localhost/a?b=%4", "two hexadecimal digits"),
        ("--key k --secret-env SECRET http://localhost/a?b=\u{e9}", "write it as %XX"),
        ("--key k --secret-env PEM --dialect bybit http://localhost/a", "rsa-sha256"),
        (
            "--key k --secret-env SECRET --dialect bitget --passphrase-env NONE http://localhost/a",
            "--passphrase-env",
        ),
    ] {
        let said = run(&[vec!["sign"], arguments.split(' ').collect()].concat(), &variables);
        assert_eq!((said.code, &*said.out), (Some(2), ""), "{arguments}");
        assert!(said.err.contains(cure), "{arguments} {said:?}");
    }
}

#[test]
fn load_finds_the_demo_in_order() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    // It is begun beside the demo, which writes its line when it accepts orders.
    let early = Program::start(
        &["load", "--demo-json", path, "--request", "GET /api/v3/account", "--count", "10"],
        &[],
    );
    let demo = Demo::start(&["--weight-limit", "100000000"]);
    std::fs::write(file.path(), &demo.line).unwrap();
    let mut early = early;
    assert_eq!(early.ended(), Some(0), "{}", early.err.all());
    let said = run(
        &["load", "--demo-json", path, "--request", "GET /api/v3/account", "--duration", "2s"]
            .into_iter()
            .chain(["--warmup", "200ms", "--connections", "4", "--json"])
            .chain(["--mix", "valid=90,bad-sig=4,stale=3,replay=3"])
            .collect::<Vec<_>>(),
        &[],
    );
    assert_eq!(said.code, Some(0), "{said:?}");
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&report["schema_version"], &report["wrong_answers"]), (&json!(1), &json!(0)));
    let kinds = report["kinds"].as_object().unwrap();
    assert_eq!(kinds.len(), 4, "{report}");
    for (kind, counts) in kinds {
        assert!(counts["sent"].as_u64().unwrap() > 0, "{kind} {report}");
        assert_eq!(counts["sent"], counts["right"], "{kind} {report}");
    }
    assert!(!said.out.contains(demo.text("secret")));
}

#[test]
fn dialects_are_listed_and_shown() {
    let said = run(&["dialects", "list"], &[]);
    assert_eq!(said.code, Some(0));
    for (dialect, ..) in DIALECTS {
        assert!(said.out.contains(dialect));
        let shown = run(&["dialects", "show", dialect], &[]);
        assert_eq!(shown.code, Some(0));
        assert!(shown.out.contains("not signed"), "{shown:?}");
        let shown = run(&["dialects", "show", dialect, "--json"], &[]);
        let value: Value = serde_json::from_str(&shown.out).unwrap();
        assert_eq!(value["name"], dialect);
    }
    assert_eq!(run(&["dialects", "show", "nowhere"], &[]).code, Some(1));
}

#[test]
fn the_configurations_that_come_with_it_are_looked_over() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config");
    for name in ["gateway.toml", "demo.toml"] {
        let said = run(&["check", "--config", &format!("{folder}/{name}")], &[]);
        assert_eq!(said.code, Some(0), "{name} {said:?}");
        assert!(said.out.ends_with("the configuration is good\n"), "{said:?}");
    }
    // The production example names secrets and certificates that are not here: each is told, nothing else.
    let said = run(&["check", "--json", "--config", &format!("{folder}/example.toml")], &[]);
    assert_eq!(said.code, Some(1));
    let report: Value = serde_json::from_str(&said.out).unwrap();
    for error in report["errors"].as_array().unwrap() {
        let problem = error["problem"].as_str().unwrap();
        assert!(problem.contains("is not set") || problem.contains("cannot be read"), "{error}");
        assert!(error["line"].as_u64().unwrap() > 0 && error["cure"].is_string(), "{error}");
    }
}

#[test]
fn every_help_shows_an_example() {
    let said = run(&["--help"], &[]);
    assert_eq!(said.code, Some(0));
    assert!(said.out.contains("countersign demo"), "{said:?}");
    for name in ["demo", "serve", "check", "sign", "verify", "load", "dialects"] {
        let said = run(&[name, "--help"], &[]);
        assert_eq!((said.code, &*said.err), (Some(0), ""), "{name}");
        assert!(said.out.contains("Example"), "{name}: {}", said.out);
    }
    assert_eq!(run(&["no-such-command"], &[]).code, Some(2));
}
