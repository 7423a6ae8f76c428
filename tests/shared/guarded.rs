//! A cluster that speaks TLS alone and asks who comes, reached as a configuration says.

use std::io;
use std::path::Path;
use std::sync::LazyLock;

use countersign::config::{Config, Contents, Lookup, System};
use countersign::store::redis::{Options, Trouble};
use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates};
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::cluster::text;
use crate::members::{Gateway, accounts_of, fence, fresh};
use crate::nodes::Nodes;

const PASSWORD: &str = "gateways-only";

/// A certificate that vouches for itself, and its key, in a folder.
struct Papers {
    folder: TempDir,
    cert: String,
}

static PAPERS: LazyLock<Papers> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = TempDir::new().unwrap();
    let cert = made.cert.pem();
    std::fs::write(folder.path().join("cert.pem"), &cert).unwrap();
    std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    Papers { folder, cert }
});

/// As whoever runs the cluster.
fn reach(port: u16) -> Client {
    let host = "127.0.0.1".to_owned();
    let at = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
    let who = RedisConnectionInfo::default().set_username("owner").set_password("owner");
    let info = at.into_connection_info().unwrap().set_redis_settings(who);
    let root_cert = Some(PAPERS.cert.clone().into_bytes());
    Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert }).unwrap()
}

/// Nobody comes in without a name; gateways may do what the manual says that they need.
fn start() -> Nodes {
    let path = |name: &str| PAPERS.folder.path().join(name).display().to_string();
    let (cert, key, password) = (path("cert.pem"), path("key.pem"), format!(">{PASSWORD}"));
    let tls = [
        ["--tls-cert-file", &cert],
        ["--tls-key-file", &key],
        ["--tls-ca-cert-file", &cert],
        ["--tls-auth-clients", "no"],
        ["--tls-cluster", "yes"],
        ["--tls-replication", "yes"],
        ["--masteruser", "owner"],
        ["--masterauth", "owner"],
    ];
    let users = [
        "--user owner on >owner ~* &* +@all".to_owned(),
        format!("--user gateway on {password} {RIGHTS}"),
        "--user default off".to_owned(),
    ];
    let users: Vec<&str> = users.iter().flat_map(|user| user.split(' ')).collect();
    let arguments: Vec<&str> = tls.into_iter().flatten().chain(users).collect();
    Nodes::reached(3, 3, &arguments, Some(reach))
}

/// As the manual has it.
const RIGHTS: &str = "resetchannels ~c2:* -@all +info +time +fcall +function|list +function|load +@hash \
    +@string +exists +del +pexpire +pexpireat +pttl +cluster|nodes +config|get";

/// The environment, and the files there are.
struct Environment(&'static str);

impl Lookup for Environment {
    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        (name == "REDIS_PASSWORD").then(|| self.0.to_owned().into())
    }

    fn file(&self, path: &Path) -> io::Result<Contents> {
        System.file(path)
    }
}

/// What a configuration makes of the first node's address, and of who comes.
fn options(nodes: &Nodes, password: &'static str) -> Options {
    let text = format!(
        r#"version = 1
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[store]
kind = "redis"
[store.redis]
servers = ["127.0.0.1:{}"]
topology = "cluster"
deadline = "400ms"
username = "gateway"
password = {{ env = "REDIS_PASSWORD" }}
tls = {{ ca = "{}" }}
[[upstream]]
name = "exchange"
backends = ["127.0.0.1:1"]
identity_key = "none"
[[route]]
name = "orders"
methods = ["POST"]
path = "/orders"
upstream = "exchange"
dialect = "phemex"
permission = "trade"
"#,
        nodes.all[0].port,
        PAPERS.folder.path().join("cert.pem").display()
    );
    let config = Config::parse(&text, Path::new("gateway.toml"), &Environment(password));
    config.unwrap().config.shared.unwrap()
}

#[test]
fn the_manual_says_what_the_user_of_gateways_may_do() {
    let manual = include_str!("../../docs/shared-store.md");
    let words = manual.split_whitespace().collect::<Vec<_>>().join(" ");
    let (least, of_clusters) = RIGHTS.split_once(" +cluster").unwrap();
    assert!(words.contains(least), "{least}");
    for right in format!("+cluster{of_clusters}").split(' ') {
        assert!(words.contains(&format!("`{right}`")), "{right}");
    }
}

#[tokio::test]
async fn a_cluster_over_tls_that_asks_who_comes_is_used_and_fails_over() {
    let mut nodes = start();
    let start = || Gateway::of(options(&nodes, PASSWORD));
    let (first, second) = (start(), start());
    let account = accounts_of(0)[0];
    first.until_served(&[account]).await;
    second.until_served(&[account]).await;
    let once = first.passes(account).await;
    assert!(!second.accepts(&once).await);

    nodes.all[0].kill();
    nodes.until_primary(3, &[1, 2, 3, 4, 5]).await;
    second.until_served(&[account]).await;
    assert!(!second.ever_accepts(&once, fence()).await);
    first.until_served(&[account]).await;
}

#[tokio::test]
async fn a_cluster_that_does_not_know_who_comes_is_not_used_and_says_so() {
    let nodes = start();
    let stranger = Gateway::of(options(&nodes, "guessed"));
    let says = |(_, trouble): &(String, Trouble)| matches!(trouble, Trouble::Refuses(why) if why.contains("WRONGPASS"));
    let begun = std::time::Instant::now();
    while !stranger.store.troubles().iter().any(says) {
        let troubles = stranger.store.troubles();
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{troubles:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(!stranger.accepts(&fresh(accounts_of(0)[0])).await);
    assert!(text(&nodes.all[0].run(&["ACL", "WHOAMI"])).contains("owner"));
}
