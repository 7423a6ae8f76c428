//! The parameters of a request: from the query and from a form in the body, the query first.

use std::str::FromStr;

use http::Uri;

use crate::identity::percent_decode;

use super::amount::Amount;
use super::fault::Fault;
use super::market::{self, Market};

/// The parameters of one request, in the order they were sent.
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads both places; what cannot be decoded counts as not sent.
    pub(super) fn read(uri: &Uri, body: &[u8]) -> Self {
        let form = str::from_utf8(body).unwrap_or_default();
        let pairs = uri.query().unwrap_or_default().split('&').chain(form.split('&'));
        Self(
            pairs
                .filter_map(|pair| pair.split_once('='))
                .filter_map(decode)
                .take(MAX_PARAMS)
                .collect(),
        )
    }

    /// The first value of `name` that is not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(sent, value)| sent == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn required(&self, name: &'static str) -> Result<&str, Fault> {
        self.text(name).ok_or(Fault::Missing(name))
    }

    pub(super) fn number<N: FromStr>(&self, name: &'static str) -> Result<Option<N>, Fault> {
        self.text(name)
            .map(|value| value.parse().map_err(|_| Fault::Garbled(name, "^[0-9]{1,20}$")))
            .transpose()
    }

    pub(super) fn amount(&self, name: &'static str) -> Result<Option<Amount>, Fault> {
        let read = |value| {
            Amount::parse(value).ok_or(Fault::Garbled(name, "^([0-9]{1,10})(\\.[0-9]{0,8})?$"))
        };
        self.text(name).map(read).transpose()
    }

    pub(super) fn required_amount(&self, name: &'static str) -> Result<Amount, Fault> {
        self.amount(name)?.ok_or(Fault::Missing(name))
    }

    /// The market that `symbol` names, if it is sent.
    pub(super) fn market(&self) -> Result<Option<&'static Market>, Fault> {
        self.text("symbol")
            .map(|symbol| market::find(symbol).ok_or(Fault::UnknownSymbol))
            .transpose()
    }

    pub(super) fn required_market(&self) -> Result<&'static Market, Fault> {
        self.market()?.ok_or(Fault::Missing("symbol"))
    }

    /// How many rows to answer with.
    pub(super) fn limit(&self) -> Result<usize, Fault> {
        Ok(self.number("limit")?.unwrap_or(500).clamp(1, 1_000))
    }
}

fn decode((name, value): (&str, &str)) -> Option<(String, String)> {
    let plain = |text: &str| String::from_utf8(percent_decode(&text.replace('+', " "))?).ok();
    Some((plain(name)?, plain(value)?))
}

const MAX_PARAMS: usize = 64;
