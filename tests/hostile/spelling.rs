//! Attacks by spelling: a path that the routes read otherwise than the backend.

use crate::support::{Site, binance, wire};

/// A key that may trade must not withdraw, however it writes the path.
#[tokio::test]
async fn no_spelling_of_a_guarded_path_falls_through_to_a_weaker_route() {
    let site = Site::start().await;
    for (place, path) in [
        "/sapi/v1/capital/withdraw/apply",
        "/sapi/v1/capital/withdra%77/apply",
        "/sapi/v1/capital/%77ithdraw/apply",
        "/sapi/v1/capital/withdraw/%61pply",
        "/sapi/v1/capital/withdraw/apply%3F",
        "/sapi/v1/capital/withdraw/apply%23",
        "/sapi/v1/capital/withdraw/apply%00",
        "/sapi/v1/capital/withdraw/apply/",
        "/sapi/v1/capital/withdraw/Apply",
        "/SAPI/v1/capital/withdraw/apply",
        "/sapi/V1/Capital/Withdraw/Apply/",
        "/sapi//v1/capital/withdraw/apply",
        "/sapi/v1/./capital/withdraw/apply",
        "/sapi/v1/x/../capital/withdraw/apply",
        "/sapi/v1/x/%2e%2e/capital/withdraw/apply",
        "/sapi/v1/capital%2fwithdraw/apply",
        "/sapi/v1/capital/withdraw/apply;x=1",
        "/sapi/v1/capital\\withdraw/apply",
    ]
    .into_iter()
    .enumerate()
    {
        let time = site.now() + u64::try_from(place).unwrap();
        let (query, fields) = binance("binance-key", &format!("amount=1&timestamp={time}"));
        let wire = wire("POST", &format!("{path}?{query}"), &fields, "");
        assert_eq!(site.forwards(wire).await, None, "{path}");
    }
    let (query, fields) = binance("binance-key", &format!("timestamp={}", site.now()));
    let other = wire("POST", &format!("/sapi/v1/capital/Other?{query}"), &fields, "");
    assert!(site.forwards(other).await.is_some());
}
