//! `kill -9` at any moment: what was acknowledged is there afterwards, and the history has no gap.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign::registry::book::{Answer, Kind, Registry, RegistryError};
use countersign::registry::embedded::Embedded;
use countersign::registry::postgres::Postgres;

use super::server::{Server, blocking, open, patient};
use super::support::{key, note, whole_history};

const KILLS: usize = 100;
const SERVER_KILLS: usize = 10;
const WRITERS: usize = 4;
/// Where the child finds the file to write to.
const FILE: &str = "COUNTERSIGN_TEST_REGISTRY";

/// What was acknowledged: the version of each record, and the last revision.
#[derive(Default)]
struct Acknowledged {
    versions: HashMap<String, u64>,
    revision: u64,
}

impl Acknowledged {
    fn note(&mut self, id: &str, version: u64, revision: u64) {
        let known = self.versions.entry(id.to_owned()).or_default();
        *known = (*known).max(version);
        self.revision = self.revision.max(revision);
    }

    /// That all of it is in the store.
    async fn are_kept_by(&self, store: &dyn Registry) {
        let revision = store.revision().await.unwrap();
        assert!(revision >= self.revision, "{revision} is before {}", self.revision);
        for (id, version) in &self.versions {
            let stands = store.find(Kind::Key, id).await.unwrap();
            let stands = stands.unwrap_or_else(|| panic!("{id} was acknowledged and is lost"));
            assert!(stands.version >= *version, "{id}: {version} was acknowledged, {stands:?}");
        }
        let changes = whole_history(store).await;
        let (tags, at) = answered(|| store.key_tags()).await;
        let made = changes.iter().filter(|change| change.record.version == 1).count();
        assert_eq!((tags.len(), at), (made, revision));
    }
}

/// The answer of a store some of whose connections may not have survived the last kill.
async fn answered<'a, T>(ask: impl Fn() -> Answer<'a, T>) -> T {
    for _ in 0..100 {
        match ask().await {
            Ok(answer) => return answer,
            Err(RegistryError::Unavailable(_)) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it never answers")
}

/// Numbers that are the same in every run (a step of xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[tokio::test]
async fn a_file_survives_a_hundred_kills_without_losing_what_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registry.redb");
    let (mut known, mut dice) = (Acknowledged::default(), Dice(0x9e37_79b9_7f4a_7c15));
    let mut cut_short = 0;
    for _ in 0..KILLS {
        // Some are killed before the file is there, some after many commits, and all at no point in particular.
        cut_short += usize::from(kill_writer(&file, dice.below(40), dice.below(3_000), &mut known));
        let store = Embedded::open(&file).unwrap();
        known.are_kept_by(&store).await;
    }
    assert_eq!(cut_short, KILLS, "each was killed while it wrote");
    assert!(known.revision > 0);
}

/// Runs a process that writes, and kills it some microseconds after as many acknowledgements; says whether it was the
/// kill that ended it.
fn kill_writer(file: &Path, after: u64, micros: u64, known: &mut Acknowledged) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kills::the_process_that_is_killed", "--ignored", "--nocapture"])
        .env(FILE, file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let mut heard = 0;
    while heard < after && lines.read_line(&mut line).unwrap() > 0 {
        heard += u64::from(heed(&line, known));
        line.clear();
    }
    std::thread::sleep(Duration::from_micros(micros));
    child.kill().unwrap();
    // What it managed to say before it died counts too, but for a line that was cut off.
    while lines.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
        heed(&line, known);
        line.clear();
    }
    ended_by_kill(child)
}

fn ended_by_kill(mut child: Child) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    child.wait().unwrap().signal() == Some(9)
}

/// Whether the line acknowledges a change, which is noted then.
fn heed(line: &str, known: &mut Acknowledged) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| *word != "acknowledged").skip(1);
    let (Some(id), Some(version), Some(revision)) = (words.next(), words.next(), words.next())
    else {
        return false;
    };
    known.note(id, version.parse().unwrap(), revision.parse().unwrap());
    true
}

#[tokio::test]
#[ignore = "it is the process that another test kills"]
async fn the_process_that_is_killed() {
    let Some(file) = std::env::var_os(FILE) else { return };
    let store = Arc::new(Embedded::open(Path::new(&file)).unwrap());
    let tasks: Vec<_> =
        (0..WRITERS).map(|number| tokio::spawn(write_on(Arc::clone(&store), number))).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Writes a record of its own again and again, with a new one each time, and says so each time it is acknowledged.
async fn write_on(store: Arc<Embedded>, number: usize) {
    let id = format!("writer-{number}");
    let stands = store.find(Kind::Key, &id).await.unwrap();
    let mut version = stands.map_or(0, |stands| stands.version);
    for _ in 0..1_000_000 {
        let both =
            vec![key(&id, (version > 0).then_some(version)), key(&format!("{id}-{version}"), None)];
        let revision = store.commit(both, note(version)).await.unwrap();
        version += 1;
        let said = format!("acknowledged {id} {version} {revision}\n");
        std::io::stdout().lock().write_all(said.as_bytes()).unwrap();
    }
}

#[tokio::test]
async fn postgresql_survives_kills_without_losing_what_was_acknowledged() {
    let server = Server::start(&[]);
    let options = patient(&server.empty_database().await);
    blocking(&options, |options| Postgres::migrate(&options)).await.unwrap();
    let store = Arc::new(open(&options).await.unwrap());
    let known = Arc::new(tokio::sync::Mutex::new(Acknowledged::default()));
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for kill in 0..SERVER_KILLS {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..WRITERS)
            .map(|number| {
                let id = format!("writer-{number}");
                tokio::spawn(write_until(
                    Arc::clone(&store),
                    id,
                    Arc::clone(&known),
                    Arc::clone(&stop),
                ))
            })
            .collect();
        tokio::time::sleep(Duration::from_micros(20_000 + dice.below(150_000))).await;
        if kill % 2 == 0 {
            server.crash();
            server.run();
        } else {
            // One that serves a connection: the server ends all others and recovers.
            server.kill_one_backend();
        }
        tokio::time::sleep(Duration::from_micros(dice.below(100_000))).await;
        stop.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
        back(&store).await;
        known.lock().await.are_kept_by(&*store).await;
    }
    assert!(known.lock().await.revision > 0);
}

/// Waits until the registry answers again, as a gateway does.
async fn back(store: &Postgres) {
    for _ in 0..2_000 {
        let asked = (
            store.revision().await,
            store.commit(Vec::new(), note(0)).await,
            store.key_tags().await,
        );
        if asked.0.is_ok() && asked.1.is_ok() && asked.2.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the registry did not come back");
}

async fn write_until(
    store: Arc<Postgres>,
    id: String,
    known: Arc<tokio::sync::Mutex<Acknowledged>>,
    stop: Arc<AtomicBool>,
) {
    let mut version = None;
    while !stop.load(Ordering::Relaxed) {
        match store.commit(vec![key(&id, version)], note(7)).await {
            Ok(revision) => {
                let now = version.unwrap_or(0) + 1;
                known.lock().await.note(&id, now, revision);
                version = Some(now);
            }
            // One that was not acknowledged may have been made.
            Err(RegistryError::Conflict { version: stands, .. }) => version = stands,
            Err(RegistryError::Unavailable(_)) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
}
