//! `countersign serve`: what keeps it from starting, and how it ends.

use std::net::{TcpListener, TcpStream};
use std::process::Command;

use http::Method;

use crate::backend::{Backend, Mode};
use crate::client::{Call, ask, ask_bytes, ask_on, now, send};
use crate::program::{Program, Said, Served, run, until};
use crate::world::{File, VARIABLES, base, client, key, order, route, world};

fn serve(file: &File, variables: &[(&str, &str)]) -> Said {
    run(&["serve", "--config", &file.path()], variables)
}

/// One route to trade by, and one key.
fn trade(server: &str, backend: &Backend, more: &str) -> String {
    let route = route("binance", "POST", "/api/v3/order", "permission = \"trade\"");
    base(server, &[backend.address], &format!("{route}{}{more}", key("binance", "k", "")))
}

fn order_now(number: usize) -> Call {
    client("binance", "k").sign(Method::POST, "/api/v3/order", &order("binance", number))
}

#[test]
fn what_is_wrong_is_said_with_line_and_cure_and_nothing_starts() {
    let backend = Backend::start();
    let good = trade("", &backend, "");
    for (from, to, at, cure) in [
        ("", "", "IDENTITY_KEY", "set it where the gateway is started"),
        ("{ env = \"CLIENT_SECRET\" }", "{ file = \"no/such\" }", "no/such", "relative"),
        ("workers = 2", "wokers = 2", "wokers", "workers"),
        ("dialect = \"binance\"", "dialect = \"binanse\"", "binanse", "binance"),
    ] {
        let file = File::new(&good.replace(from, to));
        let variables = if from.is_empty() { &VARIABLES[..2] } else { &VARIABLES[..] };
        let said = serve(&file, variables);
        assert_eq!((said.code, &*said.out), (Some(1), ""), "{said:?}");
        let place = format!("gateway.toml:{}:", file.line_of(at));
        assert!(said.err.contains(&place), "{place} {said:?}");
        assert!(said.err.contains(cure), "{cure} {said:?}");
        assert!(said.err.ends_with('\n'), "{said:?}");
        assert!(!said.err.contains("listening"), "{said:?}");
    }
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let said = run(&["serve", "--config", "/no/such/gateway.toml"], &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("/no/such/gateway.toml"), "{said:?}");
}

#[test]
fn warnings_are_shown_and_keep_nothing_from_starting() {
    let backend = Backend::start();
    let text = trade("", &backend, "").replace("{ env = \"IDENTITY_KEY\" }", "\"none\"");
    let file = File::new(&text);
    let mut served = Served::ready(&file.path(), &VARIABLES);
    let log = served.program.err.all();
    assert!(log.contains("\"level\":\"WARN\"") && log.contains("identity_key"), "{log}");
    assert_eq!(send(served.address(), &order_now(1)).status, 200);
    served.program.terminate();
    assert_eq!(served.program.ended(), Some(0));
}

#[test]
fn an_address_in_use_is_named_with_the_cure() {
    let backend = Backend::start();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().to_string();
    let good = trade("", &backend, "");
    for (section, cure) in [("[[listener]]", "`address`"), ("[admin]", "`[admin]`")] {
        let (before, after) = good.split_once(section).unwrap();
        let file =
            File::new(&format!("{before}{section}{}", after.replacen("127.0.0.1:0", &taken, 1)));
        let said = serve(&file, &VARIABLES);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains(&taken) && said.err.contains(cure), "{said:?}");
        assert!(!said.err.contains("\"ready\""), "{said:?}");
    }
}

#[test]
fn a_state_directory_in_use_is_named_with_the_cure() {
    let backend = Backend::start();
    let file = File::new(&trade("", &backend, "[store]\nstate_dir = \"state\"\n"));
    let _first = Served::listening(&file.path(), &VARIABLES);
    let said = serve(&file, &VARIABLES);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("/state is in use by another process"), "{said:?}");
    assert!(said.err.contains("its own directory"), "{said:?}");
}

#[test]
fn told_to_end_it_answers_what_is_under_way_and_takes_nothing_new() {
    let backend = Backend::start();
    let file = File::new(&trade("", &backend, ""));
    let mut served = Served::ready(&file.path(), &VARIABLES);
    backend.set(Mode::Wait);
    let asked: Vec<_> = (0..8).map(|n| ask(served.address(), &order_now(n))).collect();
    until("all are at the backend", || backend.seen().len() == 8);

    served.program.terminate();
    until("new connections are refused", || TcpStream::connect(served.address()).is_err());
    until("it says that it is not ready", || {
        let answer = send(served.admin, &Call::get("/readyz"));
        answer.status == 503 && answer.body.contains("draining")
    });
    backend.set(Mode::Answer);
    for asked in asked {
        assert_eq!(asked.answer().status, 200);
    }
    assert_eq!(served.program.ended(), Some(0));
    assert_eq!(backend.seen().len(), 8);
}

#[test]
fn told_twice_it_ends_at_once() {
    let backend = Backend::start();
    let file = File::new(&trade("drain_timeout = \"10m\"", &backend, ""));
    let mut served = Served::ready(&file.path(), &VARIABLES);
    backend.set(Mode::Wait);
    let asked = ask(served.address(), &order_now(1));
    until("it is at the backend", || backend.seen().len() == 1);
    served.program.terminate();
    served.program.err.until("draining");
    served.program.terminate();
    assert_eq!(served.program.ended(), Some(0));
    assert_eq!(asked.text(), "");
}

#[test]
fn a_terminal_that_is_closed_cuts_no_request_off() {
    let backend = Backend::start();
    let file = File::new(&trade("", &backend, ""));
    let mut served = Served::ready(&file.path(), &VARIABLES);
    backend.set(Mode::Wait);
    let asked = ask(served.address(), &order_now(1));
    until("it is at the backend", || backend.seen().len() == 1);
    served.program.signal("HUP");
    served.program.err.until("draining");
    backend.set(Mode::Answer);
    assert_eq!(asked.answer().status, 200);
    assert_eq!(served.program.ended(), Some(0));
}

/// The gateway, ready, started under a limit of open files.
fn serve_within(limit: &str, file: &File) -> Served {
    let script = format!("ulimit {limit} && exec \"$0\" serve --config \"$1\" --log-format json");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_countersign"), &file.path()]);
    let mut served = Served::of(Program::of_command(&mut command, &VARIABLES));
    served.program.err.until("\"message\":\"ready\"");
    served
}

#[test]
fn strangers_who_hold_connections_leave_room_for_orders_and_health() {
    let backend = Backend::start();
    let file = File::new(&trade("", &backend, ""));
    let mut served = serve_within("-n 256", &file);
    assert!(served.program.err.all().contains("LimitNOFILE"), "the cure is told");
    let honest: Vec<_> = (0..10).map(|_| TcpStream::connect(served.address()).unwrap()).collect();
    let hold = || ask_bytes(served.address(), "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut strangers = Vec::new();
    until("no more are let in", || {
        let mut stranger = hold();
        let is_in = stranger.begins();
        strangers.extend(is_in.then_some(stranger));
        !is_in
    });
    assert!((20..200).contains(&strangers.len()), "{}", strangers.len());
    for (number, connection) in honest.into_iter().enumerate() {
        let answer = ask_on(connection, &order_now(number).bytes()).answer();
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(send(served.admin, &Call::get("/livez")).status, 200);
    }
    drop(strangers);
    served.program.terminate();
    assert_eq!(served.program.ended(), Some(0));
}

#[test]
fn the_limit_of_open_files_is_raised_as_far_as_it_may_be() {
    let backend = Backend::start();
    let file = File::new(&trade("max_connections = 100", &backend, ""));
    let served = serve_within("-Sn 64", &file);
    let limits = format!("/proc/{}/limits", served.program.id());
    let limits = std::fs::read_to_string(limits).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let of: Vec<_> = files.split_whitespace().skip(3).take(2).collect();
    assert!(of[0] == of[1] && of[0] != "64", "{files}");
    assert!(!served.program.err.all().contains("LimitNOFILE"), "there is room for all");
}

#[test]
fn what_was_accepted_before_a_kill_is_refused_after_it() {
    restart_remembers(Program::kill);
}

#[test]
fn what_was_accepted_before_a_clean_end_is_refused_after_it() {
    restart_remembers(|program| {
        program.terminate();
        assert_eq!(program.ended(), Some(0));
    });
}

fn restart_remembers(end: impl Fn(&mut Program)) {
    let backend = Backend::start();
    let file = File::new(&trade("", &backend, "[store]\nstate_dir = \"state\"\n"));
    let mut accepted = Vec::new();
    let mut served = Served::ready(&file.path(), &VARIABLES);
    // A disk that is slow to note the mark has orders refused, and signed again.
    let mut number = 0;
    while accepted.len() < 20 {
        until("an order is accepted", || {
            number += 1;
            let call = order_now(number);
            let taken = send(served.address(), &call).status == 200;
            accepted.extend(taken.then_some(call));
            taken
        });
    }
    until("an order that is signed ahead of the clock, as far as may be, is accepted", || {
        number += 1;
        let ahead = now() + std::time::Duration::from_millis(800);
        let query = format!("symbol=AHEAD{number}");
        let call = client("binance", "k").sign_at(ahead, Method::POST, "/api/v3/order", &query);
        let taken = send(served.address(), &call).status == 200;
        accepted.extend(taken.then_some(call));
        taken
    });
    end(&mut served.program);

    let mut served = Served::listening(&file.path(), &VARIABLES);
    for call in &accepted {
        assert_ne!(send(served.address(), call).status, 200, "{call:?}");
    }
    served.program.err.until("\"message\":\"ready\"");
    for call in &accepted {
        let answer = send(served.address(), call);
        assert_eq!((answer.status, answer.body.contains("-1001")), (503, true), "{answer:?}");
    }
    assert_eq!(backend.seen().len(), accepted.len());
    until("fresh requests are accepted", || {
        number += 1;
        send(served.address(), &order_now(number)).status == 200
    });
}

#[test]
fn a_disk_that_takes_no_mark_is_no_readiness() {
    let backend = Backend::start();
    let file = File::new(&trade("", &backend, "[store]\nstate_dir = \"state\"\n"));
    let mut served = Served::ready(&file.path(), &VARIABLES);
    let state = std::path::PathBuf::from(file.path()).with_file_name("state");
    let gone = state.with_file_name("gone");
    std::fs::rename(&state, &gone).unwrap();
    let admin = served.admin;
    let is_ready = || send(admin, &Call::get("/readyz")).status == 200;
    until("it is not ready", || !is_ready());
    let reasons = send(admin, &Call::get("/readyz")).body;
    assert!(reasons.contains("state directory not writable"), "{reasons}");
    served.program.err.until("the state directory cannot be written");
    assert_eq!(send(served.address(), &order_now(1)).status, 503);
    std::fs::rename(&gone, &state).unwrap();
    until("it is ready", is_ready);
    served.program.err.until("the state directory can be written again");
    let mut number = 1;
    until("an order is accepted", || {
        number += 1;
        send(served.address(), &order_now(number)).status == 200
    });
}

#[test]
fn readiness_follows_the_fence() {
    let backend = Backend::start();
    let file = File::new(&world(&[backend.address]));
    // The fence lasts about a second, so one look in a few starts comes in time on the busiest machine.
    let fenced = (0..5).any(|_| {
        let served = Served::listening(&file.path(), &VARIABLES);
        let answer = send(served.admin, &Call::get("/readyz"));
        answer.status == 503 && answer.body.contains("fence not passed")
    });
    assert!(fenced);
    let served = Served::ready(&file.path(), &VARIABLES);
    until("it is ready", || send(served.admin, &Call::get("/readyz")).status == 200);
}
