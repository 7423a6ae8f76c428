//! Up to where growing numbers are reserved, in a table that comes about with the first of them.

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};

use super::fault::failed;
use crate::registry::book::RegistryError;

/// The name of a mark leads to the last number that is reserved.
const MARKS: TableDefinition<'static, [u8; 16], u64> = TableDefinition::new("marks");

pub(super) fn reserve(
    db: &Database,
    mark: [u8; 16],
    least: u64,
    up_to: u64,
) -> Result<u64, RegistryError> {
    let mut tx = db.begin_write().map_err(failed)?;
    tx.set_quick_repair(true);
    let reserved = {
        let mut marks = tx.open_table(MARKS).map_err(failed)?;
        let before = marks.get(mark).map_err(failed)?.map_or(0, |number| number.value());
        let after = if before < least { before.max(up_to) } else { before };
        if after > before {
            marks.insert(mark, after).map_err(failed)?;
        }
        after
    };
    tx.commit().map_err(failed)?;
    Ok(reserved)
}

pub(super) fn reserved(db: &Database, mark: [u8; 16]) -> Result<u64, RegistryError> {
    let tx = db.begin_read().map_err(failed)?;
    match tx.open_table(MARKS) {
        Ok(marks) => Ok(marks.get(mark).map_err(failed)?.map_or(0, |number| number.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        Err(error) => Err(failed(error)),
    }
}
