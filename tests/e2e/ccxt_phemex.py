"""Signs one request for each private path and method that ccxt's Phemex knows, with a parameter, as lines of JSON."""

import json

import ccxt

SECRET = "s3cretZyXwVu9876543210fedcbaFEDCBA9876543210"


def main() -> None:
    exchange = ccxt.phemex({"apiKey": "k3yAbCdEf0123456789", "secret": SECRET})
    for method, paths in exchange.api["private"].items():
        for path in paths:
            signed = exchange.sign(path, ["private"], method.upper(), {"symbol": "BTCUSD", "limit": 5})
            host, target = signed["url"].removeprefix("https://").split("/", 1)
            print(
                json.dumps(
                    {
                        "dialect": "phemex",
                        "method": method.upper(),
                        "target": "/" + target,
                        "headers": {**signed["headers"], "Host": host},
                        "body": signed["body"] or "",
                        "key": exchange.apiKey,
                        "secret": SECRET,
                        "now_ms": exchange.milliseconds(),
                        "algorithm": "hmac-sha256",
                    }
                )
            )


if __name__ == "__main__":
    main()
