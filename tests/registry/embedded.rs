//! The file: whole after a restart, for one process alone, and never taken for something else.

use std::os::unix::fs::PermissionsExt as _;

use countersign::registry::book::{Kind, Registry as _, RegistryError};
use countersign::registry::embedded::Embedded;

use super::support::{key, note, whole_history};

#[tokio::test]
async fn all_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.redb");
    for restart in 0..5_u64 {
        let store = Embedded::open(&path).unwrap();
        assert_eq!(store.migrated().steps.is_empty(), restart > 0);
        assert_eq!(store.revision().await.unwrap(), restart);
        store.commit(vec![key(&format!("k{restart}"), None)], note(restart)).await.unwrap();
        assert_eq!(whole_history(&store).await.len() as u64, restart + 1);
        assert_eq!(store.key_tags().await.unwrap().0.len() as u64, restart + 1);
    }
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "no draft is left: {left:?}");
}

#[test]
fn a_file_in_use_is_named_with_the_cure_and_free_again_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.redb");
    let store = Embedded::open(&path).unwrap();
    let said = Embedded::open(&path).unwrap_err().to_string();
    assert!(said.contains("in use by another process: stop that one"), "{said}");
    drop(store);
    Embedded::open(&path).unwrap();
}

#[test]
fn nobody_else_can_read_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.redb");
    Embedded::open(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_is_no_registry_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.redb");
    let odd = "not a registry, but a file long enough to be looked at ".repeat(200);
    for text in [odd, "x".into(), String::new()] {
        std::fs::write(&path, &text).unwrap();
        let refused = Embedded::open(&path).unwrap_err();
        assert!(matches!(refused, RegistryError::Damaged(_)), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
    let nowhere = directory.path().join("missing").join("registry.redb");
    let refused = Embedded::open(&nowhere).unwrap_err().to_string();
    assert!(refused.contains("see that the directory is there"), "{refused}");
}

#[test]
fn a_file_of_a_newer_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.redb");
    drop(Embedded::open(&path).unwrap());
    let db = redb::Database::open(&path).unwrap();
    let tx = db.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    tx.open_table(meta).unwrap().insert("format", 2).unwrap();
    tx.commit().unwrap();
    drop(db);
    let refused = Embedded::open(&path).unwrap_err();
    assert!(
        matches!(&refused, RegistryError::Format(why) if why.contains("newer countersign")),
        "{refused}"
    );
}

#[tokio::test]
async fn what_was_asked_before_it_closes_is_still_done() {
    let store = Embedded::in_memory().unwrap();
    let finding = store.find(Kind::Key, "none");
    assert_eq!(finding.await.unwrap(), None);
    let counted = store.counts().await.unwrap();
    assert!(counted.len() == Kind::ALL.len() && counted.iter().all(|(_, count)| *count == 0));
}
