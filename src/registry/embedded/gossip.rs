//! Words that gateways tell each other, in tables that come about with the first of them.

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};

use super::fault::failed;
use crate::clock::Micros;
use crate::registry::book::RegistryError;
use crate::registry::gossip::{Place, Topic, Word};

/// Topic and id lead to the moment, what else is told, and the turn.
const WORDS: TableDefinition<'static, (&str, &str), (u64, u32, u64)> =
    TableDefinition::new("words");
/// Topic, turn, id.
const TURNS: TableDefinition<'static, (&str, u64, &str), ()> = TableDefinition::new("word_turns");
/// By topic.
const COUNTS: TableDefinition<'static, &str, u64> = TableDefinition::new("word_counts");
const LAST_TURN: TableDefinition<'static, (), u64> = TableDefinition::new("word_turn");

pub(super) fn tell(
    db: &Database,
    topic: Topic,
    words: &[Word],
    forget: Option<Micros>,
) -> Result<(), RegistryError> {
    let mut tx = db.begin_write().map_err(failed)?;
    tx.set_quick_repair(true);
    {
        let name = topic.name();
        let mut table = tx.open_table(WORDS).map_err(failed)?;
        let mut turns = tx.open_table(TURNS).map_err(failed)?;
        let mut counts = tx.open_table(COUNTS).map_err(failed)?;
        let mut last = tx.open_table(LAST_TURN).map_err(failed)?;
        let turn = last.get(()).map_err(failed)?.map_or(0, |turn| turn.value()) + 1;
        last.insert((), turn).map_err(failed)?;
        let mut count = counts.get(name).map_err(failed)?.map_or(0, |count| count.value());
        for word in words {
            let id = &*word.id;
            let before = table.get((name, id)).map_err(failed)?.map(|before| before.value());
            match before {
                Some((at, ..)) if at >= word.at.0 => continue,
                None if topic.most().is_some_and(|most| count >= most) => continue,
                None => count += 1,
                Some((_, _, turn)) => drop(turns.remove((name, turn, id)).map_err(failed)?),
            }
            table.insert((name, id), (word.at.0, word.detail, turn)).map_err(failed)?;
            turns.insert((name, turn, id), ()).map_err(failed)?;
        }
        let mut old = Vec::new();
        if let Some(forget) = forget {
            for row in table.range((name, "")..).map_err(failed)? {
                let (key, row) = row.map_err(failed)?;
                let ((its_topic, id), (at, _, turn)) = (key.value(), row.value());
                if its_topic != name {
                    break;
                }
                if at < forget.0 {
                    old.push((id.to_owned(), turn));
                }
            }
        }
        for (id, turn) in &old {
            table.remove((name, &**id)).map_err(failed)?;
            turns.remove((name, *turn, &**id)).map_err(failed)?;
        }
        counts.insert(name, count.saturating_sub(old.len() as u64)).map_err(failed)?;
    }
    tx.commit().map_err(failed)
}

pub(super) fn told(
    db: &Database,
    topic: Topic,
    after: &Place,
    limit: usize,
) -> Result<Vec<(Place, Word)>, RegistryError> {
    let tx = db.begin_read().map_err(failed)?;
    let (words, turns) = match (tx.open_table(WORDS), tx.open_table(TURNS)) {
        (Ok(words), Ok(turns)) => (words, turns),
        (Err(TableError::TableDoesNotExist(_)), _) | (_, Err(TableError::TableDoesNotExist(_))) => {
            return Ok(Vec::new());
        }
        (Err(error), _) | (_, Err(error)) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for row in turns.range((topic.name(), after.turn, &*after.id)..).map_err(failed)? {
        let (key, ()) = row.map(|(key, nothing)| (key, nothing.value())).map_err(failed)?;
        let (its_topic, turn, id) = key.value();
        if found.len() >= limit || its_topic != topic.name() {
            break;
        }
        let place = Place { turn, id: id.to_owned() };
        if place > *after
            && let Some(row) = words.get((its_topic, id)).map_err(failed)?
        {
            let (at, detail, _) = row.value();
            found.push((place, Word { id: id.to_owned(), at: Micros(at), detail }));
        }
    }
    Ok(found)
}

pub(super) fn told_of(
    db: &Database,
    topic: Topic,
    ids: &[String],
) -> Result<Vec<Word>, RegistryError> {
    let tx = db.begin_read().map_err(failed)?;
    let words = match tx.open_table(WORDS) {
        Ok(words) => words,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for id in ids {
        if let Some(row) = words.get((topic.name(), &**id)).map_err(failed)? {
            let (at, detail, _) = row.value();
            found.push(Word { id: id.clone(), at: Micros(at), detail });
        }
    }
    Ok(found)
}

pub(super) fn unsay(db: &Database, topic: Topic, id: &str) -> Result<(), RegistryError> {
    let mut tx = db.begin_write().map_err(failed)?;
    tx.set_quick_repair(true);
    {
        let mut words = tx.open_table(WORDS).map_err(failed)?;
        let mut turns = tx.open_table(TURNS).map_err(failed)?;
        let mut counts = tx.open_table(COUNTS).map_err(failed)?;
        let name = topic.name();
        let gone = words.remove((name, id)).map_err(failed)?.map(|row| row.value().2);
        if let Some(turn) = gone {
            turns.remove((name, turn, id)).map_err(failed)?;
            let count = counts.get(name).map_err(failed)?.map_or(0, |count| count.value());
            counts.insert(name, count.saturating_sub(1)).map_err(failed)?;
        }
    }
    tx.commit().map_err(failed)
}
