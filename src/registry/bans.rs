//! Brings bans that operators made from the registry to the guard of a gateway.

use std::net::IpAddr;

use super::book::{Kind, Record, RegistryError};
use super::records::BanRecord;
use crate::admit::Guard;
use crate::checks::limit::network;
use crate::clock::Micros;

/// The id of the record of an address: an IPv4 address, or the first of the /64 of an IPv6 one.
pub fn id(address: IpAddr) -> String {
    network(address).to_string()
}

/// Does what a record says, as it stands or as the feed brings it. Records of other kinds say nothing here.
pub fn heed(guard: &Guard, record: &Record, now: Micros) -> Result<(), RegistryError> {
    if record.kind != Kind::Ban {
        return Ok(());
    }
    let damaged = |why: &str| RegistryError::Damaged(format!("ban {}: {why}", record.id));
    let address: IpAddr = record.id.parse().map_err(|_| damaged("its id is no address"))?;
    let ban: BanRecord =
        serde_json::from_slice(&record.body).map_err(|error| damaged(&error.to_string()))?;
    if ban.lifted {
        guard.lift(address);
    } else if now < ban.until {
        guard.ban(address, ban.until);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = Micros(1_760_000_000_000_000);

    fn record(id: &str, body: &str) -> Record {
        Record {
            kind: Kind::Ban,
            id: id.into(),
            version: 1,
            revision: 1,
            account: None,
            application: None,
            body: body.into(),
        }
    }

    fn said(until: Micros, lifted: bool) -> String {
        let ban = BanRecord { until, lifted, reason: Some("scraping".into()), created: NOW };
        serde_json::to_string(&ban).unwrap()
    }

    #[test]
    fn a_gateway_does_what_the_record_says_as_long_as_it_says_it() {
        let guard = Guard::default();
        let id = id("2001:db8::7".parse().unwrap());
        assert_eq!(id, "2001:db8::");
        let until = Micros(NOW.0 + 1);
        heed(&guard, &record(&id, &said(until, false)), NOW).unwrap();
        assert_eq!(guard.bans(NOW).len(), 1);
        heed(&guard, &record(&id, &said(until, true)), NOW).unwrap();
        assert!(guard.bans(NOW).is_empty());
        heed(&guard, &record(&id, &said(until, false)), until).unwrap();
        assert!(guard.bans(NOW).is_empty(), "it is over");
    }

    #[test]
    fn what_cannot_be_read_is_damaged_and_bans_nobody() {
        let guard = Guard::default();
        for (id, body) in [("nobody", "{}"), ("192.0.2.1", "{}"), ("192.0.2.1", "")] {
            let damaged = heed(&guard, &record(id, body), NOW);
            assert!(matches!(damaged, Err(RegistryError::Damaged(_))), "{id} {body}");
        }
        assert!(guard.bans(NOW).is_empty());
    }
}
