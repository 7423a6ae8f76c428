//! Attacks by repetition: the same signed bytes, dressed otherwise.

use crate::support::{Site, binance, bitget, bybit, seen, wire};

#[tokio::test]
async fn no_spelling_of_a_signature_makes_a_replay_new() {
    let site = Site::start().await;
    let (query, fields) = binance("binance-key", &format!("a=1&timestamp={}", site.now()));
    let (signed, signature) = query.split_once("&signature=").unwrap();
    let escaped =
        signature.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"));
    let (plain, upper) = (signature.to_owned(), signature.to_uppercase());
    let before = site.backend.requests().len();
    for query in [
        format!("{signed}&signature={plain}"),
        format!("{signed}&signature={upper}"),
        format!("{signed}&signature={escaped}"),
        format!("signature={plain}&{signed}"),
        format!("a=1&signature={plain}&{}", signed.strip_prefix("a=1&").unwrap()),
        format!("{signed}&%73ignature={plain}"),
        format!("{signed}&signature={plain}#x"),
    ] {
        for (method, path) in
            [("GET", "order"), ("DELETE", "order"), ("GET", "account"), ("POST", "order")]
        {
            site.send(wire(method, &format!("/api/v3/{path}?{query}"), &fields, "")).await;
        }
        let in_body = query.split('#').next().unwrap();
        site.send(wire("POST", "/api/v3/order", &fields, in_body)).await;
    }
    assert_eq!(site.backend.requests().len(), before + 1);
}

#[tokio::test]
async fn base64_that_decodes_alike_is_the_same_signature() {
    let site = Site::start().await;
    let path = "/api/v2/spot/account/assets";
    let fields = bitget("bitget-key", site.now(), &format!("GET{path}"));
    let signature = fields[2].1.clone();
    let mut spare = signature.clone().into_bytes();
    // The last letter before `=` has two spare bits.
    let last = spare.len() - 2;
    spare[last] += 1;
    let spellings = [
        signature.clone(),
        String::from_utf8(spare).unwrap(),
        signature.trim_end_matches('=').to_owned(),
        signature.replace('=', "%3D"),
        format!("{signature}="),
        signature.replace('+', "-").replace('/', "_"),
    ];
    for spelling in spellings {
        let mut fields = fields.clone();
        fields[2].1 = spelling;
        for target in [path.to_owned(), format!("{path}?")] {
            site.send(wire("GET", &target, &fields, "")).await;
        }
    }
    assert_eq!(site.backend.requests().len(), 1);
    assert_eq!(seen(&site.backend.requests()[0]).0, path);
}

#[tokio::test]
async fn a_capture_passes_once_however_many_connections_race() {
    let site = Site::start().await;
    let fields = bybit("bybit-key", site.now(), "5000", "a=1");
    let attacks = ["/v5/order/realtime", "/v5/position/list"]
        .map(|path| wire("GET", &format!("{path}?a=1"), &fields, ""));
    let racing = (0..200).map(|turn| {
        let (address, attack) = (site.address(), attacks[turn % 2].clone());
        tokio::spawn(async move { crate::support::exchange(address, attack.as_bytes()).await })
    });
    let racing: Vec<_> = racing.collect();
    let mut passed = 0;
    for answer in racing {
        passed += usize::from(answer.await.unwrap().ends_with("fine"));
    }
    assert_eq!((passed, site.backend.requests().len()), (1, 1));
}

#[tokio::test]
async fn timestamps_at_the_ends_of_numbers_neither_pass_nor_panic() {
    let site = Site::start().await;
    let now = site.now();
    for time in [
        "0".into(),
        "-1".into(),
        "+1".into(),
        String::new(),
        " ".into(),
        "1e13".into(),
        "0x1".into(),
        i64::MAX.to_string(),
        i64::MIN.to_string(),
        u64::MAX.to_string(),
        "9".repeat(20),
        "9".repeat(4_000),
        "18446744073709551616".into(),
        format!("{now}.0"),
        format!("{}", now * 1_000_000),
        format!("{}", now / 1_000),
        format!("{}", now + 1_500),
        format!("{}", now - 60_001),
        "\u{661}".repeat(13),
        format!("{now}%30"),
    ] {
        let (query, fields) = binance("binance-key", &format!("timestamp={time}"));
        for (method, target, body) in [
            ("GET", format!("/api/v3/order?{query}"), ""),
            ("POST", "/api/v3/order".to_owned(), &*query),
        ] {
            let answer = site.send(wire(method, &target, &fields, body)).await;
            assert!(answer.starts_with("HTTP/1.1 4"), "{time} {answer}");
        }
    }
    for window in
        ["0", "-1", "60001", "5000.1234", "5e3", "9".repeat(30).as_str(), ".5", "5.", "1.2.3"]
    {
        let text = format!("recvWindow={window}&timestamp={}", now - 1_000);
        let (query, fields) = binance("binance-key", &text);
        let answer = site.send(wire("GET", &format!("/api/v3/order?{query}"), &fields, "")).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{window} {answer}");
    }
    assert_eq!(site.backend.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_capture_does_not_outlive_a_restart() {
    for settings in ["", "state_dir"] {
        let directory = tempfile::tempdir().unwrap();
        let settings = match settings {
            "" => String::new(),
            _ => format!("[store]\nstate_dir = \"{}\"\n", directory.path().display()),
        };
        let site = Site::with(&settings, crate::support::ROUTES).await;
        let fields = bybit("bybit-key", site.now() + 900, "60000", "a=1");
        let capture = wire("GET", "/v5/order/realtime?a=1", &fields, "");
        assert!(site.forwards(&capture).await.is_some());
        let Site { service, backend } = site;
        service.drain_unless(std::future::ready(())).await;
        let site = Site::before(backend, &settings, crate::support::ROUTES).await;
        let answer = site.send(&capture).await;
        assert!(!answer.ends_with("fine"), "{answer}");
        assert_eq!(site.backend.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_capture_does_not_pass_again_over_http_2() {
    let site = Site::start().await;
    let fields = bybit("bybit-key", site.now(), "5000", "a=1");
    let target = "/v5/order/realtime?a=1";
    assert!(site.forwards(wire("GET", target, &fields, "")).await.is_some());

    let socket = tokio::net::TcpStream::connect(site.address()).await.unwrap();
    let runtime = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(socket);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(runtime, io).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::get(format!("http://api.test{target}"));
    for (name, value) in &fields {
        request = request.header(name, value);
    }
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    let answered = tokio::time::timeout(crate::support::BOUND, sender.send_request(request));
    assert!(answered.await.unwrap().is_ok());
    assert_eq!(site.backend.requests().len(), 1);
}

#[tokio::test]
async fn two_gateways_never_share_a_state_directory() {
    let directory = tempfile::tempdir().unwrap();
    let settings = format!("[store]\nstate_dir = \"{}\"\n", directory.path().display());
    let site = Site::with(&settings, crate::support::ROUTES).await;
    let again = crate::support::config(site.backend.address, &settings, crate::support::ROUTES);
    let refused = countersign::service::Service::start(again).unwrap_err();
    assert!(matches!(refused, countersign::service::StartError::Store(_)), "{refused}");
}

#[tokio::test]
async fn a_capture_under_the_id_of_another_key_with_the_same_secret_is_a_replay() {
    let site = Site::start().await;
    let (query, _) = binance("binance-key", &format!("a=1&timestamp={}", site.now()));
    for key in ["binance-key", "binance-narrow", "binance-key"] {
        let fields = vec![("X-MBX-APIKEY".to_owned(), key.to_owned())];
        site.send(wire("DELETE", &format!("/api/v3/order?{query}"), &fields, "")).await;
    }
    assert_eq!(site.backend.requests().len(), 1);
}
