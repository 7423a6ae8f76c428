"""Does each refusal of a recipe raise, in the real ccxt, what the exchange's own refusal raises?

ccxt_refusals.py RECIPES ERRORS: RECIPES holds what `countersign dialects show NAME --json` prints, one dialect a
line; ERRORS the exchanges' refusals with the exception each was seen to raise.
"""

import json
import sys

import ccxt

# What the exchanges call a condition, and what the recipes call it.
NAMES = {"recv_window_too_large": "window_too_large", "unknown_key": "bad_signature", "replay": "replayed_write"}
# Conditions that one process without bans and order counts does not have.
ABSENT = {("binance", "order_rate_limited"), ("binance", "ip_banned")}
# By design a replayed write is a duplicate, never something to sign again and send.
BY_DESIGN = {("binance", "replay"): "InvalidOrder"}

# ccxt has tables of its own for Binance's hosts, beside the one for any host.
HOSTS = {"binance": "https://api.binance.com"}

def raised(exchange, refusal, host):
    """The name of the exception that ccxt raises on this refusal, when it comes from this host."""
    body = refusal["body"]
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = None
    try:
        exchange.handle_errors(refusal["status"], "", host + "/", "POST", {}, body, parsed, {}, None)
        exchange.handle_http_status_code(refusal["status"], "", host + "/", "POST", body)
    except ccxt.BaseError as error:
        return type(error).__name__
    return None

def main(recipes, errors):
    failed = checked = 0
    dialects = {}
    for line in open(recipes, encoding="utf-8"):
        recipe = json.loads(line)
        dialects[recipe["name"]] = {refusal["condition"]: refusal for refusal in recipe["refusals"]}
    exchanges = {name: getattr(ccxt, name)({"apiKey": "k", "secret": "s", "password": "p"}) for name in dialects}

    def check(name, condition, refusal, expected):
        nonlocal failed, checked
        got = raised(exchanges[name], refusal, HOSTS.get(name, "http://gateway")) if refusal else "no refusal in the recipe"
        checked += 1
        if got != expected:
            failed += 1
            print(f"FAILED {name} {condition}: {got}, not {expected}")

    for line in open(errors, encoding="utf-8"):
        error = json.loads(line)
        name, condition = error["dialect"], error["condition"]
        if name not in dialects or (name, condition) in ABSENT:
            continue
        expected = BY_DESIGN.get((name, condition), error["ccxt_exception"])
        check(name, condition, dialects[name].get(NAMES.get(condition, condition)), expected)
    for name, refusals in dialects.items():
        for condition, again in [("replayed_write", False), ("unavailable", True)]:
            got = raised(exchanges[name], refusals[condition], "http://gateway")
            checked += 1
            if issubclass(getattr(ccxt, got), ccxt.OperationFailed) != again:
                failed += 1
                print(f"FAILED {name} {condition}: ccxt {'does not try' if again else 'tries'} again on {got}")
    print(f"{checked} refusals checked, {failed} failed")
    # Fewer would mean that the files were not read.
    return 1 if failed or checked < 30 else 0

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
