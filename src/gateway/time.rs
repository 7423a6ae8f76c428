//! The server's time, in the form that each exchange's clients ask for.

use bytes::Bytes;
use http::{HeaderValue, Response, header};

use super::reply::ReplyBody;
use super::routes::TimeAnswer;
use crate::clock::Micros;

/// The answer of a route that tells the time.
pub(super) fn answer(form: TimeAnswer, now: Micros) -> Response<ReplyBody> {
    let mut reply = Response::new(ReplyBody::full(body(form, now)));
    let json = HeaderValue::from_static("application/json");
    reply.headers_mut().insert(header::CONTENT_TYPE, json);
    // A stored time is a wrong time.
    let no_store = HeaderValue::from_static("no-store");
    reply.headers_mut().insert(header::CACHE_CONTROL, no_store);
    reply
}

fn body(form: TimeAnswer, now: Micros) -> Bytes {
    let ms = now.as_millis();
    let text = match form {
        TimeAnswer::Binance => format!(r#"{{"serverTime":{ms}}}"#),
        TimeAnswer::Bybit => format!(
            r#"{{"retCode":0,"retMsg":"OK","result":{{"timeSecond":"{}","timeNano":"{}"}},"retExtInfo":{{}},"time":{ms}}}"#,
            ms / 1_000,
            u128::from(now.0) * 1_000
        ),
        TimeAnswer::Bitget => format!(
            r#"{{"code":"00000","msg":"success","requestTime":{ms},"data":{{"serverTime":"{ms}"}}}}"#
        ),
        TimeAnswer::Empty => return Bytes::from_static(b"{}"),
    };
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_json_that_holds_the_time() {
        let now = Micros(1_700_000_000_123_456);
        for (form, pointer, told) in [
            (TimeAnswer::Binance, "/serverTime", "1700000000123"),
            (TimeAnswer::Bybit, "/time", "1700000000123"),
            (TimeAnswer::Bybit, "/result/timeSecond", "\"1700000000\""),
            (TimeAnswer::Bybit, "/result/timeNano", "\"1700000000123456000\""),
            (TimeAnswer::Bitget, "/data/serverTime", "\"1700000000123\""),
        ] {
            let value: serde_json::Value = serde_json::from_slice(&body(form, now)).unwrap();
            assert_eq!(value.pointer(pointer).unwrap().to_string(), told, "{form:?}");
        }
        assert_eq!(body(TimeAnswer::Empty, now), "{}");
    }
}
