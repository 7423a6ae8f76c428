//! The one task that writes: commits that come at the same time share one transaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::fault::{Failure, late};
use super::link::{Link, Live};
use super::reader::{field, signed, text, unsigned};
use super::statements::BEGIN;
use super::watcher::Pulse;
use crate::key::Tag;
use crate::registry::book::RegistryError;
use crate::registry::plan::{Commit, Plan, kind_named};

/// A commit, by when it must be answered, and where its outcome goes.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) commit: Commit,
    pub(super) until: Instant,
    pub(super) answer: oneshot::Sender<Result<u64, RegistryError>>,
}

/// Commits that may wait before those who ask wait too.
pub(super) const WAITING: usize = 1_024;
/// Commits that share one transaction.
const BATCH: usize = 256;

/// Writes until nobody can ask any more.
pub(super) async fn write(
    link: Arc<Link>,
    pulse: watch::Sender<Pulse>,
    mut requests: mpsc::Receiver<Request>,
    limit: Duration,
) {
    let mut batch = Vec::new();
    while requests.recv_many(&mut batch, BATCH).await > 0 {
        let now = Instant::now();
        let (batch, expired): (Vec<_>, Vec<_>) =
            batch.drain(..).partition(|request: &Request| now < request.until);
        for request in expired {
            drop(request.answer.send(Err(late(limit))));
        }
        let Some(until) = batch.iter().map(|request| request.until).min() else { continue };
        let (commits, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|request| (request.commit, request.answer)).unzip();
        let outcomes = match commit(&link, &commits, until, limit).await {
            Ok((outcomes, revision)) => {
                Pulse::reached(&pulse, revision);
                outcomes
            }
            Err(error) => commits.iter().map(|_| Err(error.clone())).collect(),
        };
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // Whoever asked may have gone.
            drop(answer.send(outcome));
        }
    }
}

/// What became of each commit.
type Outcomes = Vec<Result<u64, RegistryError>>;

async fn commit(
    link: &Link,
    commits: &[Commit],
    until: Instant,
    limit: Duration,
) -> Result<(Outcomes, u64), RegistryError> {
    let mut again = true;
    loop {
        let live = timeout_at(until, link.live()).await.map_err(|_| late(limit))??;
        let mut asked_to_commit = false;
        let written = timeout_at(until, write_all(&live, commits, &mut asked_to_commit)).await;
        let (why, stale) = match written {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(failure)) => {
                let stale = failure.ends_connection() && !asked_to_commit;
                (failure.told(), stale)
            }
            Err(_) => (late(limit), false),
        };
        // With the connection its transaction ends.
        link.give_up(&live, why.clone()).await;
        if !stale || !std::mem::take(&mut again) {
            return Err(why);
        }
    }
}

/// Makes one transaction of the commits.
async fn write_all(
    live: &Live,
    commits: &[Commit],
    asked_to_commit: &mut bool,
) -> Result<(Outcomes, u64), Failure> {
    let client = &live.client;
    client.batch_execute(BEGIN).await?;
    let mut plan = standing(live, commits).await?;
    let outcomes = commits.iter().map(|commit| plan.add(commit)).collect();
    if plan.rows().len() == 0 {
        client.batch_execute("ROLLBACK").await?;
        return Ok((outcomes, plan.revision()));
    }
    put(live, &plan).await?;
    *asked_to_commit = true;
    client.batch_execute(&format!("NOTIFY countersign, '{}'; COMMIT", plan.revision())).await?;
    Ok((outcomes, plan.revision()))
}

/// The revision, and at which versions the records stand that the commits name.
async fn standing(live: &Live, commits: &[Commit]) -> Result<Plan, Failure> {
    let writes = || commits.iter().flat_map(|commit| &commit.writes);
    let kinds: Vec<_> = writes().map(|write| write.kind.name()).collect();
    let ids: Vec<_> = writes().map(|write| write.id.as_bytes()).collect();
    let row = live.client.query_one(&live.statements.revision, &[]).await?;
    let rows = live.client.query(&live.statements.standing, &[&kinds, &ids]).await?;
    let mut versions = HashMap::new();
    for row in &rows {
        let name = (kind_named(field(row, 0)?)?, text(field(row, 1)?)?);
        versions.insert(name, unsigned(field(row, 2)?)?);
    }
    Ok(Plan::new(unsigned(field(&row, 0)?)?, versions))
}

/// Writes down what the commits leave, as one statement with a list for each column.
async fn put(live: &Live, plan: &Plan) -> Result<(), Failure> {
    macro_rules! column {
        (|$row:pat_param| $value:expr) => {
            plan.rows().map(|$row| $value).collect::<Vec<_>>()
        };
    }
    let bytes = |text: &Option<String>| text.clone().map(String::into_bytes);
    let tag = |id: &str| Tag::of(id).short().cast_signed();
    live.client
        .execute(
            &live.statements.write,
            &[
                &signed(plan.revision()),
                &column!(|(row, _)| signed(row.record.revision)),
                &column!(|(row, _)| row.place.cast_signed()),
                &column!(|(row, _)| row.record.kind.name()),
                &column!(|(row, _)| row.record.id.as_bytes()),
                &column!(|(row, _)| signed(row.record.version)),
                &column!(|(row, _)| bytes(&row.record.account)),
                &column!(|(row, _)| bytes(&row.record.application)),
                &column!(|(row, _)| &*row.record.body),
                &column!(|(row, _)| signed(row.note.at.0)),
                &column!(|(row, _)| row.note.actor.as_bytes()),
                &column!(|(row, _)| row.note.action.as_bytes()),
                &column!(|(row, _)| bytes(&row.note.reason)),
                &column!(|(_, stands)| stands),
                &column!(|(row, _)| row.makes_key().then(|| tag(&row.record.id))),
            ],
        )
        .await?;
    Ok(())
}
