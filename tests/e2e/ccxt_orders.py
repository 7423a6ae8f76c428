#!/usr/bin/env python3
"""Trades through a running `countersign demo` with the real ccxt.

    countersign demo > demo.json &
    python3 tests/e2e/ccxt_orders.py --demo-json demo.json

ccxt is changed in one way only: the scheme and host of its base URLs. Prints a line per check; the exit status is 1
when one of them fails. With --exchange-only the checks that need a gateway in front are left out.
"""

import argparse
import json
import sys
from decimal import Decimal
from urllib.parse import urlsplit

import ccxt

SYMBOL = "BTC/USDT"
failures = 0


def check(title, holds, detail=""):
    global failures
    failures += not holds
    print(("ok    " if holds else "FAIL  ") + title + (f": {detail}" if detail and not holds else ""), flush=True)


def raised_by(call):
    """The exception that `call` raises, or None."""
    try:
        call()
    except Exception as error:  # whatever it is, the check names it
        return error
    return None


def check_raises(title, kind, call, *texts):
    """`call` raises exactly `kind`, not a subclass, and its message has all `texts`. Returns the exception."""
    error = raised_by(call)
    check(title, type(error) is kind and all(text in str(error) for text in texts), repr(error))
    return error


class Demo:
    def __init__(self, facts):
        self.facts = facts
        self.markets = None

    def has(self, name):
        return f"{name}_key" in self.facts and f"{name}_secret" in self.facts

    def client(self, key, secret, fresh_markets=False):
        """An instance that has sent nothing yet. It knows the markets, so its next request is the one under test."""
        client = ccxt.binance({"apiKey": key, "secret": secret})
        gateway = urlsplit(self.facts["gateway"])
        client.urls["api"] = {
            name: urlsplit(url)._replace(scheme=gateway.scheme, netloc=gateway.netloc).geturl()
            for name, url in client.urls["api"].items()
        }
        client.session.trust_env = False  # no proxy of the environment stands between
        if self.markets and not fresh_markets:
            client.set_markets(self.markets)
        return client

    def owner(self, **options):
        return self.client(self.facts["key"], self.facts["secret"], **options)


def total(balance, asset):
    return Decimal(str(balance[asset]["total"]))


def trade(demo):
    client = demo.owner(fresh_markets=True)
    markets = client.load_markets()
    demo.markets = markets
    check("load_markets", {"BTC/USDT", "ETH/USDT", "BNB/USDT"} <= set(markets), sorted(markets))
    btc = markets[SYMBOL]
    check("precision and limits are known", btc["precision"] == {"amount": 1e-5, "price": 0.01, "base": 1e-8, "quote": 1e-8}
          and btc["limits"]["cost"]["min"] == 5 and btc["limits"]["amount"]["min"] == 1e-5, btc["precision"])
    check("currencies are known", "BTC" in client.currencies and "USDT" in client.currencies)
    check("fetch_time", abs(client.fetch_time() - client.milliseconds()) < 60_000)
    check("fetch_ticker", client.fetch_ticker(SYMBOL)["last"] == 60_000)
    book = client.fetch_order_book(SYMBOL)
    check("fetch_order_book", book["bids"][0][0] < 60_000 < book["asks"][0][0])
    check("fetch_trades", len(client.fetch_trades(SYMBOL)) > 0)
    check("fetch_ohlcv", len(client.fetch_ohlcv(SYMBOL, "1h", limit=3)) == 3)

    before = client.fetch_balance()
    check("fetch_balance", total(before, "USDT") > 0 and total(before, "BTC") > 0)

    order = client.create_order(SYMBOL, "limit", "buy", 0.001, 50_000)
    check("create a limit order", order["status"] == "open" and order["filled"] == 0, order)
    check("what it would cost is held back", client.fetch_balance()["USDT"]["used"] == before["USDT"]["used"] + 50)
    check("fetch_order", client.fetch_order(order["id"], SYMBOL)["id"] == order["id"])
    check("fetch_open_orders", order["id"] in [each["id"] for each in client.fetch_open_orders(SYMBOL)])
    check("cancel_order", client.cancel_order(order["id"], SYMBOL)["status"] == "canceled")
    check("it is open no more", order["id"] not in [each["id"] for each in client.fetch_open_orders(SYMBOL)])
    check("nothing is held back for it", client.fetch_balance()["USDT"] == before["USDT"])
    check("fetch_orders", order["id"] in [each["id"] for each in client.fetch_orders(SYMBOL)])

    bought = client.create_order(SYMBOL, "market", "buy", 0.002)
    after = client.fetch_balance()
    check("a market order fills", bought["status"] == "closed" and bought["average"] == 60_000, bought)
    check("it moves both balances",
          total(after, "BTC") - total(before, "BTC") == Decimal("0.002")
          and total(before, "USDT") - total(after, "USDT") == Decimal(120))
    check("fetch_my_trades", bought["id"] in [each["order"] for each in client.fetch_my_trades(SYMBOL)])

    check_raises("too little balance", ccxt.InsufficientFunds,
                 lambda: client.create_order(SYMBOL, "limit", "buy", 150, 50_000) and
                 client.create_order(SYMBOL, "limit", "buy", 150, 50_000), "insufficient balance")
    client.cancel_all_orders(SYMBOL)
    check("cancel_all_orders", client.fetch_open_orders(SYMBOL) == [])
    check_raises("an order that does not exist", ccxt.OrderNotFound,
                 lambda: client.fetch_order("999999999", SYMBOL), "-2013")
    check_raises("cancelling an order twice", ccxt.OrderNotFound,
                 lambda: client.cancel_order(order["id"], SYMBOL), "-2011")
    listen_key = client.public_post_userdatastream()["listenKey"]
    check("a listen key is given and kept alive", client.public_put_userdatastream({"listenKey": listen_key}) == {})


def be_refused(demo):
    key, secret = demo.facts["key"], demo.facts["secret"]
    wrong = secret[:-1] + ("a" if secret[-1] != "a" else "b")
    bad_secret = check_raises("a wrong secret", ccxt.AuthenticationError, demo.client(key, wrong).fetch_balance)
    unknown = check_raises("an unknown key", ccxt.AuthenticationError,
                           demo.client(key[:-1] + ("a" if key[-1] != "a" else "b"), secret).fetch_balance)
    check("nothing tells the two apart", str(bad_secret) == str(unknown), f"{bad_secret} / {unknown}")
    check_raises("a wrong secret stops load_markets", ccxt.AuthenticationError,
                 demo.client(key, wrong, fresh_markets=True).load_markets)

    for title, behind in (("a clock two minutes behind", 120_000), ("a clock two minutes ahead", -120_000)):
        client = demo.owner()
        client.options["timeDifference"] = behind
        check_raises(title, ccxt.InvalidNonce, client.fetch_balance, "-1021")
        client.load_time_difference()
        check(title + ", set right by load_time_difference", raised_by(client.fetch_balance) is None)


def replay(demo):
    client = demo.owner()
    sent, fetch = [], client.fetch

    def recorded(url, method="GET", headers=None, body=None):
        sent.append((url, method, headers, body))
        return fetch(url, method, headers, body)

    client.fetch = recorded
    order = client.create_order(SYMBOL, "limit", "buy", 0.001, 40_000)
    request = sent[-1]
    check("the order that is sent again is open", order["status"] == "open" and request[1] == "POST")

    error = check_raises("the same bytes again", ccxt.InvalidOrder, lambda: fetch(*request),
                         "-2010", "Duplicate order sent.")
    check("ccxt does not retry that by itself",
          error is not None and not isinstance(error, (ccxt.OperationFailed, ccxt.NetworkError)), repr(error))

    once = wire_count(client, request, fetch)
    check("with maxRetriesOnFailure=3 it goes out once", once == 1, once)
    control = wire_count(client, request, fails_in_transit)
    check("a failure in transit goes out four times", control == 4, control)

    client.cancel_order(order["id"], SYMBOL)
    check_raises("the same bytes after the order is cancelled", ccxt.InvalidOrder, lambda: fetch(*request), "-2010")
    check("and no order came of it", client.fetch_open_orders(SYMBOL) == [])


def fails_in_transit(*_):
    raise ccxt.RequestTimeout("lost on the way")


def wire_count(client, request, fetch):
    """How often ccxt sends `request` when it may retry three times."""
    url, method, headers, body = request
    count, sign, before = 0, client.sign, client.fetch

    def counted(*arguments):
        nonlocal count
        count += 1
        return fetch(*arguments)

    client.sign = lambda *_, **__: {"url": url, "method": method, "headers": headers, "body": body}
    client.fetch = counted
    client.options["maxRetriesOnFailure"] = 3
    raised_by(client.private_post_order)
    client.options.pop("maxRetriesOnFailure")
    client.sign, client.fetch = sign, before
    return count


def lack_permission(demo):
    key, secret = demo.facts["read_only_key"], demo.facts["read_only_secret"]
    check("a key that may only read does read", raised_by(demo.client(key, secret).fetch_balance) is None)
    # In an instance that succeeded before, ccxt takes -2015 for a ban and raises DDoSProtection.
    check_raises("a key that may only read does not trade", ccxt.AuthenticationError,
                 lambda: demo.client(key, secret).create_order(SYMBOL, "limit", "buy", 0.001, 50_000), "-2015")


def exceed_limit(demo):
    client = demo.client(demo.facts["small_limit_key"], demo.facts["small_limit_secret"])
    client.enableRateLimit = False
    error = None
    for i in range(1_000):
        # Another window each time: two requests within a millisecond would else be the same bytes.
        error = raised_by(lambda: client.fetch_open_orders(SYMBOL, params={"recvWindow": 5_000 + i}))
        if error is not None:
            break
    check("too many requests", type(error) is ccxt.DDoSProtection and "429" in str(error) and "-1003" in str(error),
          repr(error))
    retry_after = (client.last_response_headers or {}).get("Retry-After", "")
    check("the answer says when to come back", retry_after.isdigit() and int(retry_after) > 0, repr(retry_after))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--demo-json", default="-", help="file with the demo's line of JSON; - is standard input")
    arguments.add_argument("--exchange-only", action="store_true", help="there is no gateway in front")
    chosen = arguments.parse_args()
    if chosen.demo_json == "-":
        line = sys.stdin.readline()
    else:
        with open(chosen.demo_json, encoding="utf-8") as file:
            line = file.readline()
    demo = Demo(json.loads(line))

    parts = [trade]
    if not chosen.exchange_only:
        parts += [be_refused, replay]
        for name, part in (("read_only", lack_permission), ("small_limit", exceed_limit)):
            if demo.has(name):
                parts.append(part)
            else:
                check(f"the demo names {name}_key and {name}_secret", False)
    for part in parts:
        error = raised_by(lambda: part(demo))
        if error is not None:
            check(f"{part.__name__} runs to its end", False, repr(error))
    print("all checks hold" if failures == 0 else f"{failures} checks fail")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
