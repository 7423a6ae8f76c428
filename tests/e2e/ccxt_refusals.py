"""Does each refusal of a recipe raise, in the real ccxt, what the exchange's own refusal raises?

ccxt_refusals.py RECIPES ERRORS [--removed]: RECIPES holds what `countersign dialects show NAME --json` prints, one
dialect a line; ERRORS the exchanges' refusals with the exception that each was seen to raise. Every refusal is handed
to ccxt as the answer to a request, so that its own tables judge status and body. With `--removed` only the exchanges
are judged that later versions of ccxt have dropped, without it all others.
"""

import json
import sys

import ccxt
import requests

# Exchanges that ccxt 4.5.90 has no more; an older one, named in requirements-removed.txt, does.
REMOVED = {"bitmex", "coinex"}
# Dialects whose clients are another's, in ccxt and in the recorded errors.
CLASSES = {"coinbase_legacy": "coinbase", "coinbase_jwt": "coinbase", "mexc_contract": "mexc"}
RECORDED_AS = {"coinbase_legacy": "coinbase", "coinbase_jwt": "coinbase"}
# ccxt has tables of its own for Binance's hosts, beside the one for any host.
HOSTS = {"binance": "https://api.binance.com"}

# What the records call a condition, and what recipes call it. All others are called alike.
MISSING = ["missing_key", "missing_signature", "missing_timestamp"]
CONDITIONS = {
    "recv_window_too_large": ["window_too_large"],
    "disabled_key": ["revoked_key"],
    "missing": MISSING,
    "missing_headers": [*MISSING, "missing_passphrase"],
    "any_auth_failure": [*MISSING, "bad_signature", "unknown_key", "stale_timestamp"],
    "stale_expiry": ["stale_timestamp"],
    # A read that comes twice is answered as at the exchange; a write is not, see REPLAYED_WRITE.
    "replay": ["replayed_read"],
    "old_nonce": ["stale_timestamp", "replayed_read"],
    "replay_or_old_nonce": ["stale_timestamp", "replayed_read"],
    "rate_limited_http": ["ip_rate_limited"],
    "overloaded": ["unavailable"],
    "lockout": ["ip_banned"],
}

# Recorded conditions that a gateway's refusals do not have: why.
ABSENT = {
    ("bingx", "stale_timestamp_alt"): "the other body of the same condition is given",
    ("okx", "no_permission_alt"): "the other body of the same condition is given",
    ("gate", "read_only"): "FORBIDDEN says the same",
    ("upbit", "bad_query_hash"): "what the token does not hold for is not proven: bad_signature",
}

# By design, first: an unproven request is answered alike whether or not there is such a key, so that no stranger
# learns which keys exist. With `imitate` the recorded exception is raised; without it bad_signature's, which differs
# for these alone.
UNPROVEN_ALIKE = {
    ("kraken", "unknown_key"): "ExchangeError",
    ("mexc", "unknown_key"): "AuthenticationError",
    ("bitmex", "disabled_key"): "AuthenticationError",
}

# By design, second: a replayed write is a duplicate, and never an exception on which ccxt sends again, for the first
# copy may have been executed.
REPLAYED_WRITE = {
    "binance": "InvalidOrder",
    "bingx": "DuplicateOrderId",
    "bitfinex": "BadRequest",
    "bitget": "ExchangeError",
    "bitmex": "InvalidOrder",
    "bitstamp": "ExchangeError",
    "bybit": "BadRequest",
    "coinbase_jwt": "BadRequest",
    "coinbase_legacy": "BadRequest",
    "coinbaseexchange": "ExchangeError",
    "coinex": "BadRequest",
    "cryptocom": "BadRequest",
    "deribit": "BadRequest",
    "gate": "InvalidOrder",
    "gemini": "BadRequest",
    "htx": "BadRequest",
    "kraken": "InvalidOrder",
    "kucoin": "InvalidOrder",
    "mexc": "BadRequest",
    "mexc_contract": "BadRequest",
    "okx": "InvalidOrder",
    "phemex": "BadRequest",
    "poloniex": "DuplicateOrderId",
    "upbit": "ExchangeError",
    "whitebit": "ExchangeError",
}

# What no exchange's answer was recorded for, but its tables in ccxt decide.
UNRECORDED = {
    ("mexc_contract", "missing_key"): "AuthenticationError",
    ("mexc_contract", "bad_signature"): "AuthenticationError",
    ("mexc_contract", "unknown_key"): "AuthenticationError",
    ("mexc_contract", "expired_key"): "AuthenticationError",
    ("mexc_contract", "stale_timestamp"): "InvalidNonce",
    ("mexc_contract", "ip_not_allowed"): "PermissionDenied",
    ("mexc_contract", "no_permission"): "PermissionDenied",
    ("mexc_contract", "rate_limited"): "RateLimitExceeded",
    ("deribit", "stale_timestamp"): "AuthenticationError",
    ("poloniex", "stale_timestamp"): "ExchangeError",
    ("poloniex", "no_permission"): "PermissionDenied",
    ("coinex", "no_permission"): "PermissionDenied",
}

# Where a recipe has no word for a condition, the one that is used instead.
INSTEAD = {"unknown_key": "bad_signature", "revoked_key": "unknown_key", "ip_rate_limited": "rate_limited"}

# On these ccxt may send again, where nothing was recorded.
AGAIN = {"ip_banned", "unavailable", "rate_limited", "ip_rate_limited"}
ABOUT_TIME = {"missing_timestamp", "malformed_timestamp", "stale_timestamp", "future_timestamp", "window_too_large", "replayed_read"}


def raised(exchange, refusal, host):
    """The exception that ccxt raises when this refusal is the answer to a request."""
    answer = requests.Response()
    answer.status_code = refusal["status"]
    answer.reason = ""
    answer.headers["Content-Type"] = "application/json" if refusal["body"][:1] in "{[" else "text/plain"
    answer._content = refusal["body"].encode()
    exchange.session.request = lambda *_, **__: answer
    try:
        exchange.fetch(host + "/", "POST", {}, "{}")
    except Exception as error:  # whatever it is, it is compared
        return type(error)
    return None


class Judge:
    def __init__(self, name, refusals):
        self.name = name
        self.refusals = refusals
        self.exchange = getattr(ccxt, CLASSES.get(name, name))({"apiKey": "k", "secret": "s", "password": "p"})
        self.checked = 0
        self.failed = 0

    def raised(self, condition):
        while condition not in self.refusals and condition in INSTEAD:
            condition = INSTEAD[condition]
        if condition not in self.refusals:
            return None
        return raised(self.exchange, self.refusals[condition], HOSTS.get(self.name, "http://gateway"))

    def check(self, condition, holds, got, wanted):
        self.checked += 1
        if not holds:
            self.failed += 1
            print(f"FAILED {self.name} {condition}: {got and got.__name__}, not {wanted}")

    def raises(self, condition, wanted):
        got = self.raised(condition)
        self.check(condition, got is not None and got.__name__ == wanted, got, wanted)

    def recorded(self, records):
        """Each recorded condition, and which conditions of the recipe it settled."""
        settled = set()
        for condition, wanted in records:
            if (self.name, condition) in ABSENT:
                continue
            for ours in CONDITIONS.get(condition, [condition]):
                self.raises(ours, wanted)
                settled.add(ours)
            if condition in ("unknown_key", "disabled_key"):
                self.raises("bad_signature", UNPROVEN_ALIKE.get((self.name, condition), wanted))
        return settled

    def unrecorded(self, settled):
        for (name, condition), wanted in UNRECORDED.items():
            if name == self.name:
                self.raises(condition, wanted)
        if self.name in REPLAYED_WRITE:
            self.raises("replayed_write", REPLAYED_WRITE[self.name])
        for condition in self.refusals.keys() - settled:
            got = self.raised(condition)
            again = got is not None and issubclass(got, ccxt.OperationFailed)
            if condition in AGAIN:
                self.check(condition, again, got, "one on which ccxt sends again")
            elif condition in ABOUT_TIME:
                self.check(condition, not again or got is ccxt.InvalidNonce, got, "InvalidNonce or one on which ccxt gives up")
            else:
                self.check(condition, got is not None and not again, got, "one on which ccxt gives up")
        # Whatever was recorded: a duplicate must not be sent again, and what was not judged may be.
        for condition, again in [("replayed_write", False), ("unavailable", True)]:
            got = self.raised(condition)
            self.check(condition, got and issubclass(got, ccxt.OperationFailed) == again, got, f"sent again: {again}")


def recorded(errors):
    """Each exchange's conditions with the exception that ccxt was seen to raise."""
    records = {}
    for line in open(errors, encoding="utf-8"):
        error = json.loads(line)
        records.setdefault(error["dialect"], []).append((error["condition"], error["ccxt_exception"]))
    return records


def main(recipes, errors, removed=None):
    dialects = {}
    for line in open(recipes, encoding="utf-8"):
        recipe = json.loads(line)
        dialects[recipe["name"]] = {refusal["condition"]: refusal for refusal in recipe["refusals"]}
    records = recorded(errors)
    checked = failed = judged = 0
    for name, refusals in dialects.items():
        if (name in REMOVED) != (removed is not None):
            continue
        if not hasattr(ccxt, CLASSES.get(name, name)):
            print(f"{name}: no client in ccxt")
            continue
        judge = Judge(name, refusals)
        settled = judge.recorded(records.get(RECORDED_AS.get(name, name), []))
        judge.unrecorded(settled)
        judged, checked, failed = judged + 1, checked + judge.checked, failed + judge.failed
    print(f"ccxt {ccxt.__version__}: {judged} dialects, {checked} refusals checked, {failed} failed")
    # Fewer would mean that the files were not read.
    return 1 if failed or checked < 10 * judged or not dialects or not records else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
