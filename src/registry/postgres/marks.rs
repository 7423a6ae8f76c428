//! Up to where growing numbers are reserved. Nobody waits for the writer of records.

use std::sync::Arc;

use super::fault::Failure;
use super::link::Live;
use super::reader::{field, signed, unsigned};

/// Answers when the number is on the server's disk: its transaction ends before the answer does.
pub(super) async fn reserve(
    live: Arc<Live>,
    mark: [u8; 16],
    least: u64,
    up_to: u64,
) -> Result<u64, Failure> {
    let name: &[u8] = &mark;
    let numbers = (signed(least), signed(up_to));
    let statement = &live.statements.reserve;
    let rows = live.client.query(statement, &[&name, &numbers.0, &numbers.1]).await?;
    match rows.first() {
        Some(row) => Ok(unsigned(field(row, 0)?)?),
        // So many are reserved already.
        None => reserved(live, mark).await,
    }
}

pub(super) async fn reserved(live: Arc<Live>, mark: [u8; 16]) -> Result<u64, Failure> {
    let name: &[u8] = &mark;
    let rows = live.client.query(&live.statements.reserved, &[&name]).await?;
    Ok(rows.first().map_or(Ok(0), |row| unsigned(field(row, 0)?))?)
}
