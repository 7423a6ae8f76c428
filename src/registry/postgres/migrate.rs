//! Brings the tables to the newest format, one after the other and one process at a time.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Client;

use super::fault::{Failure, late};
use super::link::Once;
use super::options::Options;
use super::reader::field;
use super::schema::{FORMAT, STEPS};
use crate::registry::book::RegistryError;
use crate::registry::migrate::Migrated;

/// Takes every step that is missing, in one transaction.
pub(super) async fn migrate(options: &Options) -> Result<Migrated, RegistryError> {
    let all = async {
        let connection = Once::connect(options, LIMIT).await?;
        take_steps(&connection.client).await
    };
    timeout(LIMIT, all).await.map_err(|_| late(LIMIT))?.map_err(Failure::told)
}

/// Time for all steps together.
const LIMIT: Duration = Duration::from_hours(1);

async fn take_steps(client: &Client) -> Result<Migrated, Failure> {
    // The lock ends with the transaction. Its number is the first 8 bytes of SHA-256("countersign").
    client.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(-1234031060545409565)").await?;
    let from = format(client).await?;
    let done = usize::try_from(from).ok().filter(|done| *done <= STEPS.len());
    let Some(done) = done else { return Err(too_new(from).into()) };
    let mut steps = Vec::new();
    for (what, statements) in STEPS.iter().skip(done) {
        client.batch_execute(statements).await?;
        steps.push((*what).to_owned());
    }
    let finish = format!("UPDATE countersign.meta SET format = {FORMAT}; COMMIT");
    client.batch_execute(&finish).await?;
    Ok(Migrated { from: i64::from(from).cast_unsigned(), to: FORMAT.unsigned_abs().into(), steps })
}

/// The format of the tables; 0 where there are none.
pub(super) async fn format(client: &Client) -> Result<i32, Failure> {
    let there = client.query_one("SELECT to_regclass('countersign.meta') IS NOT NULL", &[]).await?;
    if !field::<bool>(&there, 0)? {
        return Ok(0);
    }
    let row = client.query_one("SELECT format FROM countersign.meta", &[]).await?;
    Ok(field(&row, 0)?)
}

pub(super) fn too_new(format: i32) -> RegistryError {
    RegistryError::Format(format!(
        "it is of format {format}, and this program knows those up to {FORMAT}: use a newer countersign"
    ))
}
