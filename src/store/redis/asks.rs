//! What the control plane asks of the nodes of a cluster: who is the primary of what, and whether it remembers.

use std::collections::{HashMap, HashSet};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Value, cmd, pipe};
use tokio::time::timeout;

use super::cluster::Cluster;
use super::keys::generation_key;
use super::probe::{self, Among, ROUNDS, Told};
use super::server::Server;
use super::trouble::Trouble;
use super::view::Owner;
use crate::clock::{Clock, Micros};

/// Looks at every node now and then, for as long as it is polled, and at those that become known.
pub(super) async fn watch(cluster: &Cluster, clock: &impl Clock, bound: Duration) {
    let mut looks: Vec<(Arc<Server>, Look<'_>)> = Vec::new();
    poll_fn(|context| {
        loop {
            let servers = cluster.servers();
            looks.retain(|(server, _)| servers.iter().any(|known| Arc::ptr_eq(known, server)));
            let before = looks.len();
            for server in servers {
                if !looks.iter().any(|(known, _)| Arc::ptr_eq(known, &server)) {
                    looks.push((
                        Arc::clone(&server),
                        Box::pin(attend(cluster, server, clock, bound)),
                    ));
                }
            }
            for (_, look) in &mut looks {
                // It never ends.
                let _pending = look.as_mut().poll(context);
            }
            // Who was heard of meanwhile is attended to at once.
            if before == looks.len() && cluster.servers().len() <= looks.len() {
                return Poll::<()>::Pending;
            }
        }
    })
    .await;
}

type Look<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Looks at every node once: how it sees the others, then whether it is in order.
pub(super) async fn look(cluster: &Cluster, clock: &impl Clock, bound: Duration) {
    // Once for those that are known, once for those that they tell of.
    for _ in 0..2 {
        let servers = cluster.servers();
        let mut asks: Vec<Look<'_>> = Vec::new();
        for server in &servers {
            asks.push(Box::pin(async { ask(cluster, server, &mut None, clock).await }));
        }
        together(asks).await;
    }
    let servers = cluster.servers();
    let mut looks: Vec<Look<'_>> = Vec::new();
    for server in &servers {
        looks.push(Box::pin(async {
            probe::look(server, &mut None, clock, bound, Among::Cluster(cluster)).await;
        }));
    }
    together(looks).await;
}

async fn together(mut all: Vec<Look<'_>>) {
    poll_fn(|context| {
        all.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if all.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn attend(cluster: &Cluster, server: Arc<Server>, clock: &impl Clock, bound: Duration) {
    let asking = async {
        let mut connection = None;
        loop {
            ask(cluster, &server, &mut connection, clock).await;
            tokio::select! {
                () = tokio::time::sleep(cluster.pace(clock.now())) => {}
                () = cluster.doubt.notified() => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::join!(asking, probe::watch(Arc::clone(&server), clock, bound, Among::Cluster(cluster)));
}

/// Asks a node who is the primary of what.
async fn ask(
    cluster: &Cluster,
    server: &Server,
    kept: &mut Option<MultiplexedConnection>,
    clock: &impl Clock,
) {
    let asked = clock.now();
    let answered = timeout(cluster.lease() / 2, async {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => server.connect().await?,
        };
        let text: String = cmd("CLUSTER").arg("NODES").query_async(&mut connection).await?;
        *kept = Some(connection);
        Ok::<_, redis::RedisError>(text)
    });
    let heard = match answered.await {
        Ok(Ok(text)) => cluster.hear(server, asked, &text),
        Ok(Err(error)) => Err(Trouble::of(&error)),
        Err(_) => Err(Trouble::Slow),
    };
    if let Err(trouble) = heard {
        server.note(&trouble);
    }
    cluster.publish(clock);
}

/// Sees to it that a primary remembers what belongs to each of its tags, one call for each, as each has its own slot. One
/// that is not used is tried with a single one first: it may refuse all alike, and is tried again soon. Tells the latest
/// birth, if it is the primary of anything.
pub(super) async fn wake(
    cluster: &Cluster,
    server: &Server,
    connection: &mut MultiplexedConnection,
    evicted: &str,
    clock: &impl Clock,
    bound: Duration,
) -> Result<Option<Micros>, Trouble> {
    let mut known: HashMap<u64, String> = HashMap::new();
    let mut left: Option<HashSet<u64>> = None;
    let mut youngest = None;
    if !server.is_usable() {
        let sent = clock.now();
        let one: Vec<_> = cluster.held_by(server, sent).into_iter().take(1).collect();
        for answer in call(connection, &one, (sent, evicted), &known).await? {
            match told(answer) {
                Err(trouble) if !trouble.is_elsewhere() => return Err(trouble),
                Ok(_) | Err(_) => {}
            }
        }
    }
    for _ in 0..ROUNDS {
        // What begins, begins after most nodes said whose it is.
        let sent = clock.now();
        let mut held = cluster.held_by(server, sent);
        held.retain(|(tag, _)| left.as_ref().is_none_or(|left| left.contains(tag)));
        if held.is_empty() {
            break;
        }
        let answers = call(connection, &held, (sent, evicted), &known).await?;
        let received = clock.now();
        let mut pending = HashSet::new();
        for ((tag, owner), answer) in held.into_iter().zip(answers) {
            let told = match told(answer) {
                Err(trouble) if trouble.is_elsewhere() => {
                    cluster.set_born(tag, owner, None);
                    cluster.doubt.notify_waiters();
                    continue;
                }
                told => told?,
            };
            probe::agree(server, told.now, (sent, received), bound)?;
            if told.pending.is_empty() {
                cluster.set_born(tag, owner, Some(told.born));
                youngest = youngest.max(Some(told.born));
            } else {
                pending.insert(tag);
                known.insert(tag, told.pending);
            }
        }
        if pending.is_empty() {
            break;
        }
        left = Some(pending);
    }
    cluster.publish(clock);
    Ok(youngest)
}

fn told(answer: Value) -> Result<Told, Trouble> {
    if let Value::BulkString(told) = answer {
        return Told::read(&told);
    }
    let Value::ServerError(error) = answer else {
        return Err(Trouble::Refuses("an answer of another kind".to_owned()));
    };
    Err(Trouble::of(&error.into()))
}

async fn call(
    connection: &mut MultiplexedConnection,
    held: &[(u64, Owner)],
    (sent, evicted): (Micros, &str),
    known: &HashMap<u64, String>,
) -> Result<Vec<Value>, Trouble> {
    let name = probe::fresh_name()?;
    let mut calls = pipe();
    for (tag, owner) in held {
        let known = known.get(tag).map_or("", |known| known);
        calls.cmd("FCALL").arg("countersign_2_wake").arg(1).arg(generation_key(*tag));
        calls.arg(sent.0).arg(&name).arg(known).arg(evicted).arg(owner.epoch);
    }
    let answers = connection.send_packed_commands(&calls, 0, held.len()).await;
    let answers = answers.map_err(|error| Trouble::of(&error))?;
    if answers.len() == held.len() {
        return Ok(answers);
    }
    Err(Trouble::Refuses("too few answers".to_owned()))
}

/// Says what of a node's settings costs service, and refuses what a lease cannot be had with.
pub(super) async fn advise(
    cluster: &Cluster,
    server: &Server,
    connection: &mut MultiplexedConnection,
) -> Result<(), Trouble> {
    let mut ask = cmd("CONFIG");
    ask.arg("GET").arg("cluster-node-timeout").arg("cluster-require-full-coverage");
    let told: Result<HashMap<String, String>, _> = ask.query_async(connection).await;
    let Ok(told) = told else {
        if cluster.is_to_advise() {
            tracing::warn!(
                server = %server.name,
                "CONFIG GET is not allowed: make sure that cluster-node-timeout is no less than the lease"
            );
        }
        return Ok(());
    };
    let node_timeout = told.get("cluster-node-timeout").and_then(|ms| ms.parse().ok());
    if let Some(node_timeout) = node_timeout.map(Duration::from_millis)
        && node_timeout < cluster.lease()
    {
        return Err(Trouble::LongLease(cluster.lease(), node_timeout));
    }
    let is_whole = told.get("cluster-require-full-coverage").is_some_and(|value| value == "yes");
    if is_whole && cluster.is_to_advise() {
        tracing::warn!(
            server = %server.name,
            "cluster-require-full-coverage is yes: while one primary is lost all others refuse as well; set it to no"
        );
    }
    Ok(())
}
