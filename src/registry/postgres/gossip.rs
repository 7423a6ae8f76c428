//! Words that gateways tell each other, in the tables. Nobody waits for the writer of records, nor that one for them.

use std::sync::Arc;

use tokio_postgres::Row;

use super::fault::Failure;
use super::link::Live;
use super::reader::{field, signed, text, unsigned};
use crate::clock::Micros;
use crate::registry::book::RegistryError;
use crate::registry::gossip::{Place, Topic, Word};

/// Telling twice does no harm, so it may be tried again on a new connection.
pub(super) async fn tell(
    live: Arc<Live>,
    topic: Topic,
    words: Arc<[Word]>,
    forget: Option<Micros>,
) -> Result<(), Failure> {
    let (client, all) = (&live.client, &live.statements);
    if !words.is_empty() {
        let ids: Vec<_> = words.iter().map(|word| word.id.as_bytes()).collect();
        let moments: Vec<_> = words.iter().map(|word| signed(word.at.0)).collect();
        let details: Vec<_> = words.iter().map(|word| i64::from(word.detail)).collect();
        let most = topic.most().map(signed);
        client.execute(&all.tell, &[&topic.name(), &ids, &moments, &details, &most]).await?;
    }
    if let Some(forget) = forget {
        client.execute(&all.forget, &[&topic.name(), &signed(forget.0)]).await?;
    }
    Ok(())
}

pub(super) async fn told(
    live: Arc<Live>,
    topic: Topic,
    after: Arc<Place>,
    limit: usize,
) -> Result<Vec<(Place, Word)>, Failure> {
    let (turn, id, limit) = (signed(after.turn), after.id.as_bytes(), signed(limit as u64));
    let rows =
        live.client.query(&live.statements.told, &[&topic.name(), &turn, &id, &limit]).await?;
    let word = |row: &Row| {
        let word = word(row, 1)?;
        Ok((Place { turn: unsigned(field(row, 0)?)?, id: word.id.clone() }, word))
    };
    Ok(rows.iter().map(word).collect::<Result<_, RegistryError>>()?)
}

pub(super) async fn told_of(
    live: Arc<Live>,
    topic: Topic,
    ids: Arc<[String]>,
) -> Result<Vec<Word>, Failure> {
    let ids: Vec<_> = ids.iter().map(String::as_bytes).collect();
    let rows = live.client.query(&live.statements.told_of, &[&topic.name(), &ids]).await?;
    Ok(rows.iter().map(|row| word(row, 0)).collect::<Result<_, _>>()?)
}

pub(super) async fn unsay(live: Arc<Live>, topic: Topic, id: Arc<str>) -> Result<(), Failure> {
    live.client.execute(&live.statements.unsay, &[&topic.name(), &id.as_bytes()]).await?;
    Ok(())
}

fn word(row: &Row, from: usize) -> Result<Word, RegistryError> {
    let detail = unsigned(field(row, from + 2)?)?;
    Ok(Word {
        id: text(field(row, from)?)?,
        at: Micros(unsigned(field(row, from + 1)?)?),
        detail: u32::try_from(detail).unwrap_or(u32::MAX),
    })
}
