//! What the tests write, and how they look at it.

use countersign::clock::Micros;
use countersign::registry::book::{
    Change, Kind, Note, Query, Record, Registry, RegistryError, Write,
};

/// A note that says which change it was.
pub(crate) fn note(number: u64) -> Note {
    Note {
        at: Micros(1_700_000_000_000_000 + number),
        actor: "ann".into(),
        action: format!("test.{number}"),
        reason: (number % 2 == 1).then(|| format!("reason {number}")),
    }
}

/// A key of an account.
pub(crate) fn key(id: &str, replaces: Option<u64>) -> Write {
    Write {
        kind: Kind::Key,
        id: id.into(),
        replaces,
        account: Some("acme".into()),
        application: None,
        body: format!("{{\"id\":\"{id}\"}}").into_bytes(),
    }
}

/// What a write leaves.
pub(crate) fn left_by(write: &Write, revision: u64) -> Record {
    Record {
        kind: write.kind,
        id: write.id.clone(),
        version: write.replaces.unwrap_or(0) + 1,
        revision,
        account: write.account.clone(),
        application: write.application.clone(),
        body: write.body.clone(),
    }
}

pub(crate) fn all(kind: Kind) -> Query {
    Query { kind, account: None, application: None, after: None, limit: 10_000 }
}

/// Which record conflicts, and the version that stands there.
pub(crate) fn conflict<T: std::fmt::Debug>(
    outcome: Result<T, RegistryError>,
) -> (Kind, String, Option<u64>) {
    match outcome {
        Err(RegistryError::Conflict { kind, id, version }) => (kind, id, version),
        other => panic!("{other:?} is no conflict"),
    }
}

/// Every change, asked for in pieces, and that they are whole: no revision is missing or parted, no version of a
/// record either, and each record stands as its last change left it.
pub(crate) async fn whole_history(registry: &dyn Registry) -> Vec<Change> {
    let revision = registry.revision().await.unwrap();
    let mut changes: Vec<Change> = Vec::new();
    let mut known = 0;
    while known < revision {
        let more = registry.since(known, 500).await.unwrap();
        known = more.last().expect("there are changes up to the revision").record.revision;
        changes.extend(more);
    }
    let mut last = 0;
    let mut versions = std::collections::HashMap::new();
    for change in &changes {
        let record = &change.record;
        assert!([last, last + 1].contains(&record.revision), "{} after {last}", record.revision);
        last = record.revision;
        let before = versions.insert((record.kind, record.id.clone()), record.version);
        assert_eq!(record.version, before.unwrap_or(0) + 1, "{record:?}");
    }
    assert!(last >= revision);
    for ((kind, id), version) in versions {
        let stands = registry.find(kind, &id).await.unwrap().expect("what was written stands");
        assert!(stands.version >= version, "{stands:?} is older than {version}");
        if stands.version == version {
            let by = |change: &&Change| (change.record.kind, &change.record.id) == (kind, &id);
            assert_eq!(Some(&stands), changes.iter().rfind(by).map(|change| &change.record));
        }
    }
    changes
}

/// Prints a figure, which is what some tests are run for.
pub(crate) fn say(line: &str) {
    use std::io::Write as _;
    writeln!(std::io::stdout().lock(), "{line}").unwrap();
}
