//! TLS, HTTP/2 and several backends, one of which dies.

use std::collections::HashMap;

use http::Method;
use rustls::pki_types::CertificateDer;

use crate::backend::{Backend, Mode};
use crate::client::{Wire, send_by};
use crate::program::Served;
use crate::world::{File, VARIABLES, base, client, key, order, route};

fn start(backends: &[&Backend]) -> (Served, File, CertificateDer<'static>) {
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let routes = route("binance", "POST", "/api/v3/order", "permission = \"trade\"");
    let text = base("", &addresses, &format!("{routes}{}", key("binance", "k", "")));
    let listener = "name = \"public\"";
    let tls = format!("{listener}\ntls = {{ cert = \"cert.pem\", key = \"key.pem\" }}");
    let file = File::new(&text.replace(listener, &tls));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    file.write("cert.pem", &made.cert.pem());
    file.write("key.pem", &made.signing_key.serialize_pem());
    (Served::ready(&file.path(), &VARIABLES), file, made.cert.der().clone())
}

fn sign(number: usize) -> crate::client::Call {
    client("binance", "k").sign(Method::POST, "/api/v3/order", &order("binance", number))
}

#[test]
fn orders_over_tls_arrive_by_either_version_of_http() {
    let backend = Backend::start();
    let (served, _file, trusted) = start(&[&backend]);
    let wires = [Wire::Tls2(trusted.clone()), Wire::Tls1(trusted)];
    for (number, wire) in wires.iter().enumerate() {
        let call = sign(number);
        let answer = send_by(wire, served.address(), &call);
        assert_eq!((answer.status, &*answer.body), (200, "backend"), "{wire:?}");
        assert_eq!(answer.field("x-request-id").unwrap().len(), 36);
        let again = send_by(wire, served.address(), &call);
        assert!(again.body.contains("-2010"), "{again:?}");
    }
    assert_eq!(backend.seen().len(), 2);
    assert_eq!(backend.last().field("x-forwarded-proto"), Some("https"));
}

#[test]
fn a_backend_that_dies_gets_no_order_twice_and_each_outcome_is_told() {
    let backends = ["one", "two", "three"].map(Backend::named);
    let (served, _file, trusted) = start(&backends.each_ref());
    let wire = Wire::Tls2(trusted);
    let send = |number| send_by(&wire, served.address(), &sign(number));
    for number in 0..30 {
        assert_eq!(send(number).status, 200);
    }
    for backend in &backends {
        assert!(!backend.seen().is_empty(), "one backend got nothing");
    }
    // One takes requests and closes without an answer, then is gone altogether.
    backends[0].set(Mode::Drop);
    let mut told: HashMap<u16, usize> = HashMap::new();
    for number in 30..60 {
        let answer = send(number);
        *told.entry(answer.status).or_default() += 1;
        if answer.status != 200 {
            assert_eq!(answer.status, 504, "{answer:?}");
            assert!(answer.body.contains("outcome_unknown"), "{answer:?}");
        }
    }
    assert!(told.contains_key(&504), "{told:?}");
    backends[0].kill();
    for number in 60..90 {
        let answer = send(number);
        assert!([200, 503].contains(&answer.status), "{answer:?}");
    }
    let after = (90..120).filter(|number| send(*number).status == 200).count();
    assert!(after >= 25, "{after} of 30 once the dead one is known");

    let mut times: HashMap<String, usize> = HashMap::new();
    for seen in backends.iter().flat_map(Backend::seen) {
        *times.entry(seen.body.split('&').nth(1).unwrap().to_owned()).or_default() += 1;
    }
    assert!(times.values().all(|times| *times == 1), "{times:?}");
}
