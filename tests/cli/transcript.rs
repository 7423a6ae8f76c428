//! The transcript in `docs/cli.md`: every command in it is run against a real gateway, and says what is written there.
//! With `COUNTERSIGN_WRITE_TRANSCRIPT` set, what is said now is written there instead.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::gateway::Gateway;

#[test]
fn every_command_of_the_transcript_says_what_is_written_there() {
    let text = std::fs::read_to_string(DOCUMENT).unwrap();
    let mut pieces = pieces(&text);
    let commands: Vec<_> = pieces.iter().filter_map(Piece::command).collect();
    assert!(commands.len() > 30, "{}", commands.len());
    let gateway = Gateway::start();
    let said = run(&commands, &gateway);
    assert_eq!(said.len(), commands.len(), "{said:?}");
    if std::env::var_os("COUNTERSIGN_WRITE_TRANSCRIPT").is_some() {
        let steps = pieces.iter_mut().filter(|piece| piece.command().is_some());
        for (step, said) in steps.zip(said) {
            step.say(&said);
        }
        let text: String = pieces.iter().map(Piece::written).collect();
        std::fs::write(DOCUMENT, text).unwrap();
        return;
    }
    let (mut expected, mut found) = (Names::default(), Names::default());
    let written = pieces.iter().filter_map(Piece::said);
    for ((command, written), said) in commands.iter().zip(written).zip(&said) {
        assert_eq!(found.plain(said), expected.plain(written), "{command}");
    }
}

/// A piece of the document.
enum Piece {
    /// A line that is no part of the transcript.
    Line(String),
    /// A command, with what it says.
    Step(String, String),
}

/// In `console` blocks `$ ` begins a command, and `> ` goes on with it.
fn pieces(text: &str) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let fence = line.starts_with("```");
        if fence {
            inside = line == "```console";
        }
        match (found.last_mut(), line.strip_prefix("$ "), line.strip_prefix("> ")) {
            (_, Some(command), _) if inside => {
                found.push(Piece::Step(command.to_owned(), String::new()));
            }
            (Some(Piece::Step(command, _)), _, Some(more)) if inside => {
                command.push('\n');
                command.push_str(more);
            }
            (Some(Piece::Step(_, said)), ..) if inside && !fence => {
                said.push_str(line);
                said.push('\n');
            }
            _ => found.push(Piece::Line(line.to_owned())),
        }
    }
    found
}

impl Piece {
    fn command(&self) -> Option<String> {
        match self {
            Self::Step(command, _) => Some(command.clone()),
            Self::Line(_) => None,
        }
    }

    fn said(&self) -> Option<&str> {
        match self {
            Self::Step(_, said) => Some(said),
            Self::Line(_) => None,
        }
    }

    fn say(&mut self, text: &str) {
        if let Self::Step(_, said) = self {
            let text = text.trim_end();
            *said = if text.is_empty() { String::new() } else { format!("{text}\n") };
        }
    }

    fn written(&self) -> String {
        match self {
            Self::Line(line) => format!("{line}\n"),
            Self::Step(command, said) => format!("$ {}\n{said}", command.replace('\n', "\n> ")),
        }
    }
}

/// Runs all commands in one shell in an empty directory: what each says, on both outputs.
fn run(commands: &[String], gateway: &Gateway) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let mut script = "exec 2>&1\n".to_owned();
    for command in commands {
        script = format!("{script}{command}\necho {MARK}\n");
    }
    std::fs::write(dir.path().join("script"), script).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_countersign")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let work = dir.path().join("work");
    std::fs::create_dir(&work).unwrap();
    let output = Command::new("sh")
        .arg("../script")
        .current_dir(&work)
        .env_clear()
        .env("PATH", path)
        .env("COUNTERSIGN_ADMIN", &gateway.admin)
        .env("COUNTERSIGN_ADMIN_TOKEN", &gateway.token)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let text = text.replace(&gateway.admin, "http://127.0.0.1:9180");
    let end = format!("{MARK}\n");
    let said = text.split_inclusive(&end).map(|part| part.trim_end_matches(&end).to_owned());
    said.collect()
}

/// Names for what differs from run to run: the same for the same.
#[derive(Default)]
struct Names(BTreeMap<String, String>);

impl Names {
    /// What is said, with its random parts named, and its columns no wider than one space.
    fn plain(&mut self, text: &str) -> String {
        let (mut out, mut word) = (String::new(), String::new());
        for c in text.chars().chain(['\n']) {
            if c.is_ascii_alphanumeric() || "_-:.".contains(c) {
                word.push(c);
            } else {
                out.push_str(&self.word(&word));
                word.clear();
                out.push(c);
            }
        }
        let lines = out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
    }

    fn word(&mut self, word: &str) -> String {
        let all = |known: fn(char) -> bool| word.chars().all(known);
        let grouped = word.len() > 16 && word.split('-').all(|part| part.len() == 4);
        let kind = if word.len() > 19 && word.ends_with('Z') && word.get(10..11) == Some("T") {
            return "<moment>".to_owned();
        } else if word.starts_with("csk_") || word.starts_with("apv_") {
            "id"
        } else if word.len() == 64 && all(|c| c.is_ascii_hexdigit()) {
            "secret"
        } else if grouped
            || (word.len() == 32 && all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()))
        {
            "code"
        } else {
            return word.to_owned();
        };
        let count = self.0.len();
        self.0.entry(word.to_owned()).or_insert_with(|| format!("<{kind} {count}>")).clone()
    }
}

const DOCUMENT: &str = "docs/cli.md";
const MARK: &str = "- - - - - - - - - - - - - - -";
