"""The real ccxt drives every exchange that it knows through one gateway, to a backend that takes whatever comes.

ccxt_live.py --countersign BINARY --errors ERRORS --certificate PEM --key PEM [--node MODULES] [--only NAME ...]

ccxt is changed in one way only: scheme and host of its base URLs. Each exchange has an address of its own on the
loopback network, as it has a name of its own in the world. What is called is in exchanges.json. Each client reads,
writes, and then is refused: a wrong secret, a clock that is off, a missing permission, the same bytes again, a spent
limit; the exception must be the one that the exchange itself causes (see ccxt_refusals.py). An unknown key must raise
what a wrong secret does, and with `imitate` what it does at the exchange. With --node the same happens once more with
the ccxt of JavaScript (ccxt_live.mjs). The exit status is 1 when a check fails.
"""

import argparse
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import ccxt

from ccxt_refusals import CLASSES, CONDITIONS, RECORDED_AS, REPLAYED_WRITE, UNRECORDED, recorded

HERE = pathlib.Path(__file__).parent
# 48 bytes in base64: dialects that decode secrets take it, and all others too.
SECRET = "Y291bnRlcnNpZ24gbGl2ZSB0ZXN0IHNlY3JldCwgNDggYnl0ZXMgbG9uZyAtLS0t"
WRONG = SECRET[:-4] + "AAAA"
PASSPHRASE = "open sesame"
HOUR_MS = 3_600_000
# Each kind of key with what stands in its section.
PERMISSIONS = {"good": '["read", "trade"]', "reader": '["read"]', "small": '["read", "trade"]\nlimits = ["small"]'}

# The newest ccxt of JavaScript is older than that of Python, and its tables lack these codes.
OLDER_TABLES = {
    ("bingx", "replayed_write"): "ExchangeError",
    ("bingx", "no_permission"): "ExchangeError",
    ("kucoin", "rate_limited"): "ExchangeError",
}


class Backend:
    """Answers every request as the exchange at that address would, and remembers it."""

    def __init__(self, success):
        self.seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(handler):
                handler.rfile.read(int(handler.headers.get("content-length", 0)))
                host = handler.headers["host"].partition(":")[0]
                self.seen.append((host, handler.command, handler.path, handler.headers.get("countersign-identity", "")))
                body = json.dumps(success[host]).encode()
                handler.send_response(200)
                handler.send_header("content-type", "application/json")
                handler.send_header("content-length", str(len(body)))
                handler.end_headers()
                handler.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self):
        return "127.0.0.1:%d" % self.server.server_address[1]


class Gateway:
    """`countersign serve`, ended with the block."""

    def __init__(self, countersign, configuration):
        command = [countersign, "serve", "--config", configuration, "--log-format", "json"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.listening = {}
        self.said = []
        for line in self.process.stderr:
            self.said.append(line)
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("message") == "listening":
                host, _, port = event["address"].rpartition(":")
                self.listening[host] = int(port)
            if event.get("message") == "ready":
                break
        else:
            raise SystemExit("the gateway does not start:\n" + "".join(self.said))
        # Read on, so that it is never blocked.
        threading.Thread(target=lambda: self.said.extend(self.process.stderr), daemon=True).start()

    def base(self, exchange):
        return f"https://{exchange['host']}:{self.listening[exchange['host']]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def shown(countersign, name):
    said = subprocess.run([countersign, "dialects", "show", name, "--json"], capture_output=True, text=True, check=True)
    return json.loads(said.stdout)


def plan(arguments):
    """What each exchange's client is to do, and what it is to raise."""
    exchanges = json.loads((HERE / "exchanges.json").read_text(encoding="utf-8"))
    records = recorded(arguments.errors)
    listed = subprocess.run([arguments.countersign, "dialects", "list", "--json"], capture_output=True, text=True, check=True)
    builtin = [json.loads(line)["name"] for line in listed.stdout.splitlines()]
    chosen = []
    for place, name in enumerate(exchanges):
        exchange = exchanges[name]
        if name not in builtin or (arguments.only and name not in arguments.only):
            continue
        exchange["name"] = name
        exchange["client"] = CLASSES.get(name, name)
        exchange["host"] = f"127.0.0.{place + 11}"
        recipe = shown(arguments.countersign, name)
        exchange["has_passphrase"] = "passphrase" in recipe["places"]
        # The limit here is one of weight, by the hour; none counts orders.
        exchange["used_limit"] = [field.replace("<interval>", "1h") for field in recipe["reply_headers"] if "order-count" not in field]
        exchange["words_unknown_key"] = any(refusal["condition"] == "unknown_key" for refusal in recipe["refusals"])
        exchange["expected"] = expected(name, records.get(RECORDED_AS.get(name, name), []))
        prefix = exchange.get("key", f"{name}-")
        exchange["keys"] = {who: {kind: f"{prefix}{who}-{kind}" for kind in (*PERMISSIONS, "nobody")} for who in ("python", "node")}
        chosen.append(exchange)
    return chosen


def expected(name, records):
    found = {condition: wanted for (dialect, condition), wanted in UNRECORDED.items() if dialect == name}
    for condition, wanted in records:
        for ours in CONDITIONS.get(condition, [condition]):
            found.setdefault(ours, wanted)
    found["replayed_write"] = REPLAYED_WRITE[name]
    return found


def credentials(folder, exchange):
    """Files with the secrets of one exchange's keys, the lines of a key's section that name them, and what clients get."""
    if exchange.get("algorithm") == "ecdsa-p256-sha256":
        return ecdsa(folder, exchange)
    (folder / "secret").write_text(SECRET)
    (folder / "passphrase").write_text(PASSPHRASE)
    lines = 'secret = { file = "secret" }\n'
    if exchange["has_passphrase"]:
        lines += 'passphrase = { file = "passphrase" }\n'
    return lines, {"secret": SECRET, "wrong": WRONG}


def ecdsa(folder, exchange):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    public = keys[0].public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{exchange['name']}.pem").write_bytes(public)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    right, wrong = [key.private_bytes(*form).decode() for key in keys]
    return f'algorithm = "ecdsa-p256-sha256"\npublic_key = {{ file = "{exchange["name"]}.pem" }}\n', {"secret": right, "wrong": wrong}


def configuration(folder, arguments, exchanges, backend, imitate):
    folder.mkdir()
    (folder / "state").mkdir()
    (folder / "identity").write_text("shared by the gateway and its backend, 32 bytes or more")
    parts = [
        "version = 1",
        "[server]\nworkers = 2",
        '[store]\nstate_dir = "state"',
        '[admin]\naddress = "127.0.0.1:0"',
        f'[[upstream]]\nname = "echo"\nbackends = ["{backend}"]\nidentity_key = {{ file = "identity" }}',
        '[[limit]]\nname = "small"\nquota = 3\nper = "1h"',
    ]
    for exchange in exchanges:
        name, host = exchange["name"], exchange["host"]
        lines, exchange["secrets"] = credentials(folder, exchange)
        if imitate:
            parts.append(f"[dialect.{name}]\nimitate = true")
        parts.append(
            f'[[listener]]\nname = "{name}"\naddress = "{host}:0"\n'
            f'tls = {{ cert = "{arguments.certificate}", key = "{arguments.key}" }}'
        )
        for kind, extra in (("read", 'effect = "read"'), ("write", 'effect = "write"\npermission = "trade"')):
            if "lead" in exchange:
                extra += f'\nlead = "{exchange["lead"]}"'
            path, method = called(exchange, kind)
            parts.append(
                f'[[route]]\nname = "{name}-{kind}"\nhost = "{host}"\nmethods = ["{method}"]\npath = "{path}"\n'
                f'upstream = "echo"\ndialect = "{name}"\n{extra}'
            )
        for keys in exchange["keys"].values():
            for kind, permissions in PERMISSIONS.items():
                parts.append(
                    f'[[key]]\nid = "{keys[kind]}"\naccount = "{name}"\ndialect = "{name}"\n{lines}permissions = {permissions}'
                )
    file = folder / "gateway.toml"
    file.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return str(file)


def called(exchange, kind):
    """The path and method that a call has on the wire."""
    client = Client(exchange, "good", exchange["secrets"]["secret"], "https://gateway")
    path, api, method, *_ = exchange[kind]
    request = client.exchange.sign(path, api, method, client.parameters(kind, 0))
    return urllib.parse.urlsplit(request["url"]).path, method


def moved(urls, base):
    """The same URLs with another scheme and host."""
    if isinstance(urls, dict):
        return {name: moved(url, base) for name, url in urls.items()}
    return base + urllib.parse.urlsplit(urls.replace("{hostname}", "host")).path if isinstance(urls, str) else urls


class Client:
    """A ccxt client of one exchange, pointed at the gateway."""

    def __init__(self, exchange, kind, secret, base):
        self.plan = exchange
        options = {"apiKey": exchange["keys"]["python"][kind], "secret": secret, "password": PASSPHRASE, "uid": "1", "enableRateLimit": False}
        self.exchange = getattr(ccxt, exchange["client"])(options)
        self.exchange.session.trust_env = True  # for the certificate
        self.exchange.urls["api"] = moved(self.exchange.urls["api"], base)
        if "hostnames" in self.exchange.urls:  # HTX signs the host
            netloc = urllib.parse.urlsplit(base).netloc
            self.exchange.urls["hostnames"] = dict.fromkeys(self.exchange.urls["hostnames"], netloc)
        self.behind = self.last = 0

    def parameters(self, kind, number):
        parameters = dict((self.plan[kind] + [{}])[3])
        if kind == "write":
            parameters[self.plan["unique"]] = f"{10_000 + number}"
        return parameters

    def call(self, kind, number=0):
        path, api, method, *_ = self.plan[kind]
        if self.behind:
            self.set_back()
        if self.plan.get("one_a_second"):
            self.next_second()
        return self.exchange.fetch2(path, api, method, self.parameters(kind, number))

    def set_back(self):
        milliseconds = type(self.exchange).milliseconds
        self.exchange.milliseconds = lambda: milliseconds() - self.behind
        self.exchange.seconds = lambda: (milliseconds() - self.behind) // 1_000

    def next_second(self):
        """Where the body is not signed and the clock counts seconds, two writes a second are the same bytes."""
        while time.time() // 1 == self.last // 1:
            time.sleep(0.05)
        self.last = time.time()


def outcome(call):
    """The name of the exception, or None."""
    try:
        call()
    except Exception as error:  # whatever it is, it is compared
        return type(error).__name__, f"{error} {error.__cause__!r}"
    return None, ""


def patiently(client, kind, number=0):
    """A gateway that cannot judge now, as when it has just started, is asked again with a new signature."""
    for _ in range(100):
        try:
            return client.call(kind, number)
        except ccxt.ExchangeNotAvailable:
            time.sleep(0.2)
    return client.call(kind, number)


def scenario(exchange):
    """What each step raised, by its name."""
    right, wrong, base = exchange["secrets"]["secret"], exchange["secrets"]["wrong"], exchange["base"]
    good = Client(exchange, "good", right, base)
    yield "read", None, outcome(lambda: patiently(good, "read"))
    sent, fetch = [], good.exchange.fetch

    def kept(*request):
        sent.append(request)
        return fetch(*request)

    good.exchange.fetch = kept
    yield "write", None, outcome(lambda: patiently(good, "write", 1))
    good.exchange.fetch = fetch
    yield "the same write again", "replayed_write", outcome(lambda: fetch(*sent[-1]))
    yield "a wrong secret", "bad_signature", outcome(lambda: Client(exchange, "good", wrong, base).call("read"))
    if "stale_timestamp" in exchange["expected"]:
        late = Client(exchange, "good", right, base)
        late.behind = HOUR_MS
        yield "a clock an hour behind", "stale_timestamp", outcome(lambda: late.call("read"))
    yield "no permission", "no_permission", outcome(lambda: Client(exchange, "reader", right, base).call("write", 2))
    small = Client(exchange, "small", right, base)
    for number in range(3, 6):
        yield f"write {number - 2} of 3", None, outcome(lambda: patiently(small, "write", number))
        yield "how much of the limit is used", None, outcome(lambda: told(small.exchange, exchange["used_limit"]))
    yield "a fourth write", "rate_limited", outcome(lambda: small.call("write", 6))
    yield "that nothing is left", None, outcome(lambda: told(small.exchange, exchange["used_limit"]))
    yield "when to come back", None, outcome(lambda: told(small.exchange, ["retry-after"]))


def told(client, fields):
    """The last answer has these fields, and something in each."""
    for field in fields:
        if not (client.last_response_headers or {}).get(field):
            raise KeyError(f"{field}: {client.last_response_headers}")


class Report:
    def __init__(self):
        self.checked = self.failed = 0

    def check(self, holds, text):
        self.checked += 1
        if not holds:
            self.failed += 1
            print("FAILED", text, flush=True)

    def step(self, who, exchange, step, condition, raised, message):
        wanted = exchange["expected"][condition] if condition else None
        if who == "node":
            wanted = OLDER_TABLES.get((exchange["name"], condition), wanted)
        self.check(raised == wanted, f"{who} {exchange['name']}: {step}: {raised}, not {wanted}: {message[-600:]}")

    def forwarded(self, who, exchange, backend):
        """A read, a write and three writes of the key with a limit; and every one names its key."""
        seen = [request for request in backend.seen if request[0] == exchange["host"]]
        backend.seen = [request for request in backend.seen if request[0] != exchange["host"]]
        self.check(len(seen) == 5, f"{who} {exchange['name']}: {len(seen)} requests reached the backend, not 5: {seen}")
        self.check(all("; key=" in identity for *_, identity in seen), f"{who} {exchange['name']}: {seen}")

    def unproven(self, exchange):
        """What an unknown key and a wrong secret raise."""
        right, wrong = exchange["secrets"]["secret"], exchange["secrets"]["wrong"]
        nobody, liar = Client(exchange, "nobody", right, exchange["base"]), Client(exchange, "good", wrong, exchange["base"])
        return outcome(lambda: nobody.call("read")), outcome(lambda: liar.call("read"))

    def alike(self, exchange):
        (unknown, _), (wrong, _) = self.unproven(exchange)
        self.check(unknown == wrong, f"{exchange['name']}: an unknown key raises {unknown}, a wrong secret {wrong}")

    def told_apart(self, exchange):
        (unknown, said), (wrong, _) = self.unproven(exchange)
        wanted = exchange["expected"]
        self.check(unknown == wanted["unknown_key"], f"{exchange['name']} imitates: {unknown}, not {wanted['unknown_key']}: {said}")
        self.check(wrong == wanted["bad_signature"], f"{exchange['name']} imitates: {wrong}, not {wanted['bad_signature']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--countersign", "--errors", "--certificate", "--key"):
        parser.add_argument(name, required=True)
    parser.add_argument("--node", help="a node_modules directory with ccxt")
    parser.add_argument("--only", nargs="*")
    arguments = parser.parse_args()
    os.environ.update(REQUESTS_CA_BUNDLE=arguments.certificate, NODE_EXTRA_CA_CERTS=arguments.certificate, NO_PROXY="*", no_proxy="*")
    report = Report()
    exchanges = [exchange for exchange in plan(arguments) if hasattr(ccxt, exchange["client"])]
    if not exchanges:
        print(f"ccxt {ccxt.__version__} knows none of these exchanges")
        return 0
    backend = Backend({exchange["host"]: exchange["success"] for exchange in exchanges})
    os.umask(0o077)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        file = configuration(folder / "strict", arguments, exchanges, backend.address, imitate=False)
        with Gateway(arguments.countersign, file) as gateway:
            for exchange in exchanges:
                exchange["base"] = gateway.base(exchange)
                for step, condition, (raised, message) in scenario(exchange):
                    report.step("python", exchange, step, condition, raised, message)
                report.forwarded("python", exchange, backend)
                report.alike(exchange)
            if arguments.node:
                javascript(arguments, exchanges, backend, report, folder)
        able = [exchange for exchange in exchanges if exchange["words_unknown_key"]]
        file = configuration(folder / "imitating", arguments, able, backend.address, imitate=True)
        with Gateway(arguments.countersign, file) as gateway:
            for exchange in able:
                exchange["base"] = gateway.base(exchange)
                report.told_apart(exchange)
        report.check(not backend.seen, f"these reached the backend unproven: {backend.seen}")
    print(f"ccxt {ccxt.__version__}: {', '.join(exchange['name'] for exchange in exchanges)}")
    print(f"{len(exchanges)} exchanges, {report.checked} checks, {report.failed} failed")
    return 1 if report.failed else 0


def javascript(arguments, exchanges, backend, report, folder):
    file = folder / "plan.json"
    file.write_text(json.dumps({"exchanges": exchanges, "passphrase": PASSPHRASE}), encoding="utf-8")
    command = ["node", str(HERE / "ccxt_live.mjs"), arguments.node, str(file)]
    said = subprocess.run(command, capture_output=True, text=True)
    report.check(said.returncode == 0, f"node ended with {said.returncode}: {said.stderr}")
    driven = {}
    for line in said.stdout.splitlines():
        step = json.loads(line)
        if "version" in step:
            print(f"ccxt {step['version']} of JavaScript")
            continue
        exchange = next(exchange for exchange in exchanges if exchange["name"] == step["exchange"])
        driven[exchange["name"]] = exchange
        report.step("node", exchange, step["step"], step["condition"], step["raised"], step["message"])
    for exchange in driven.values():
        report.forwarded("node", exchange, backend)
    print(f"{len(driven)} exchanges driven by JavaScript")


if __name__ == "__main__":
    sys.exit(main())
