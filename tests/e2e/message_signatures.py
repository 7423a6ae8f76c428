"""HTTP message signatures made and checked by the library http-message-signatures, an implementation that is not ours.

message_signatures.py sign DIALECT      prints signed requests, one JSON object a line, as in tests/vectors/
message_signatures.py verify FILE       checks requests that `countersign sign --json` made: one JSON object a line,
                                        {"algorithm", "secret", "tag", "at", "method", "url", "headers", "body"}
"""

import base64
import datetime
import hashlib
import json
import sys

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    algorithms,
)

ALGORITHMS = {
    "hmac-sha256": algorithms.HMAC_SHA256,
    "ed25519": algorithms.ED25519,
    "ecdsa-p256-sha256": algorithms.ECDSA_P256_SHA256,
    "rsa-pss-sha512": algorithms.RSA_PSS_SHA512,
}
NOW = 1_700_000_000
SHARED = "s3cretZyXwVu9876543210fedcbaFEDCBA9876543210"
EVERYTHING = ("@method", "@authority", "@path", "@query")
LEAST = ("@method", "@path", "@query")


class Message:
    """What the library asks of a request."""

    def __init__(self, method, url, headers):
        self.method, self.url, self.headers = method, url, headers


class Resolver(HTTPSignatureKeyResolver):
    """One key, whatever its name."""

    def __init__(self, secret):
        self.secret = secret.encode()

    def key(self, public):
        if not self.secret.startswith(b"-----BEGIN"):
            return self.secret
        private = serialization.load_pem_private_key(self.secret, password=None)
        return private.public_key() if public else private

    def resolve_public_key(self, key_id):
        return self.key(public=True)

    def resolve_private_key(self, key_id):
        return self.key(public=False)


def new_secret(algorithm):
    """A new private key in PEM, or the shared secret."""
    if algorithm == "hmac-sha256":
        return SHARED
    made = {
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "ecdsa-p256-sha256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "rsa-pss-sha512": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    }[algorithm]()
    pem = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.decode()


def digest(body, *names):
    hashers = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
    members = [f"{name}=:{base64.b64encode(hashers[name](body.encode()).digest()).decode()}:" for name in names]
    return ", ".join(members)


def requests(dialect):
    """(note, method, target, body, covered components, header fields, further arguments of `sign`)"""
    least = EVERYTHING if dialect == "native" else LEAST
    order = '{"symbol":"BTCUSDT","side":"buy","price":"20000.5","quantity":"0.01"}'
    json_type = {"Content-Type": "application/json"}
    yield "no query", "GET", "/v1/account", "", least, {}, {}
    yield "a query", "GET", "/v1/orders?symbol=BTCUSDT&limit=10", "", least, {}, {}
    yield "an encoded query", "GET", "/v1/orders?memo=a%2Bb%20c+d&x=%E6%BC%A2&y=a/b:c", "", least, {}, {}
    yield "an empty query", "GET", "/v1/orders?", "", least, {}, {}
    yield "an order", "POST", "/v1/orders", order, least, json_type, {}
    yield "an order with a nonce", "POST", "/v1/orders", order, least, json_type, {"nonce": "b3k2pp5k7z-50gnwp.yemd"}
    yield "a nonce with quotes", "DELETE", "/v1/orders/17", "", least, {}, {"nonce": 'a"b\\c;keyid="x"'}
    yield "an order that expires", "POST", "/v1/orders", order, least, json_type, {"expires": 30}
    yield "the algorithm said", "PUT", "/v1/orders/17", order, least, json_type, {"include_alg": True}
    yield "both digests", "POST", "/v1/orders", order, least, {
        **json_type, "Content-Digest": digest(order, "sha-512", "sha-256"),
    }, {}
    yield "sha-512", "POST", "/v1/orders", order, least, {**json_type, "Content-Digest": digest(order, "sha-512")}, {}
    yield "another type", "POST", "/v1/import", "a,b\r\n1,2\r\n", (*least, "content-type"), {"Content-Type": "text/csv"}, {}
    yield "another order of components", "POST", "/v1/orders?dry=1", order, tuple(reversed(least)), json_type, {}
    yield "a digest of nothing", "DELETE", "/v1/orders", "", (*least, "content-digest"), {
        "Content-Digest": digest("", "sha-256"),
    }, {}
    yield "a label of its own", "GET", "/v1/account", "", least, {}, {"label": "my-sig_1"}
    yield "a host in capitals with its port", "GET", "/v1/account", "", EVERYTHING, {"Host": "API.Example.COM:443"}, {}
    yield "another port", "GET", "/v1/account", "", EVERYTHING, {"Host": "api.example.com:8443"}, {}
    if dialect == "native":
        return
    yield "a target for path and query", "GET", "/v1/orders?a=1", "", ("@method", "@request-target"), {}, {}
    yield "the whole address", "GET", "/v1/orders?a=1", "", ("@target-uri", "@method"), {}, {}
    yield "a tag", "GET", "/v1/orders?a=1", "", least, {}, {"tag": "some-app"}
    yield "more header fields", "POST", "/v1/orders", order, ("date", *least, "content-type", "content-length", "host"), {
        **json_type, "Date": "Tue, 14 Nov 2023 22:13:20 GMT", "Content-Length": str(len(order)),
    }, {}


def sign(dialect):
    for algorithm in ALGORITHMS if dialect == "rfc9421" else ("hmac-sha256", "ed25519"):
        secret = new_secret(algorithm)
        signer = HTTPMessageSigner(signature_algorithm=ALGORITHMS[algorithm], key_resolver=Resolver(secret))
        for note, method, target, body, covered, headers, more in requests(dialect):
            headers = {"Host": "api.example.com", "Accept": "*/*", **headers}
            message = Message(method, "https://" + headers["Host"] + target, headers)
            created = datetime.datetime.fromtimestamp(NOW, tz=datetime.timezone.utc)
            if "expires" in more:
                more = {**more, "expires": created + datetime.timedelta(seconds=more["expires"])}
            if dialect == "native":
                more = {**more, "tag": "countersign-1"}
            signer.sign(
                message,
                key_id="k3y-" + algorithm,
                created=created,
                covered_component_ids=covered,
                body=body.encode() or None,
                use_existing_digest="Content-Digest" in headers,
                **{"include_alg": False, "label": "sig", **more},
            )
            print(json.dumps({
                "dialect": dialect, "client": "http-message-signatures 3.0.0", "note": note, "method": method,
                "target": target, "headers": headers, "body": body, "key": "k3y-" + algorithm, "secret": secret,
                "passphrase": None, "now_ms": NOW * 1000 + 250, "algorithm": algorithm, "expect": "valid",
            }))


def verify(file):
    count = 0
    for line in open(file, encoding="utf-8"):
        made = json.loads(line)
        verifier = HTTPMessageVerifier(
            signature_algorithm=ALGORITHMS[made["algorithm"]], key_resolver=Resolver(made["secret"])
        )
        age = datetime.datetime.now(datetime.timezone.utc).timestamp() - made["at"]
        verifier.max_clock_skew = datetime.timedelta(seconds=abs(age) + 60)
        body = made["body"].encode()
        required = EVERYTHING if made["tag"] else LEAST
        [result] = verifier.verify(
            Message(made["method"], made["url"], made["headers"]),
            expect_tag=made["tag"],
            require_components=(*required, "content-digest") if body else required,
            body=body,
        )
        if body and result.body != body:
            sys.exit("the body was not verified")
        count += 1
    print(f"{count} verified")


if __name__ == "__main__":
    {"sign": sign, "verify": verify}[sys.argv[1]](sys.argv[2])
