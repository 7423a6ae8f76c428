// The steps of ccxt_live.py with the ccxt of JavaScript: ccxt_live.mjs MODULES PLAN prints a line of JSON for each.
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, file] = process.argv.slice(2);
const entry = path.resolve(modules, 'ccxt/js/ccxt.js');
const { default: ccxt } = await import(pathToFileURL(entry).href);
const plan = JSON.parse(fs.readFileSync(file, 'utf8'));
const hour = 3_600_000;

const moved = (urls, base) => {
  if (typeof urls === 'string') {
    const { pathname } = new URL(urls.replaceAll('{hostname}', 'host'));
    return base + (pathname === '/' ? '' : pathname);
  }
  return Object.fromEntries(Object.entries(urls).map(([name, url]) => [name, moved(url, base)]));
};

class Client {
  constructor(exchange, kind, secret) {
    this.plan = exchange;
    this.exchange = new ccxt[exchange.client]({
      apiKey: exchange.keys.node[kind], secret, password: plan.passphrase, uid: '1', enableRateLimit: false,
    });
    this.exchange.urls.api = moved(this.exchange.urls.api, exchange.base);
    const { hostnames } = this.exchange.urls;
    if (hostnames !== undefined) { // HTX signs the host
      const names = Object.keys(hostnames).map((name) => [name, new URL(exchange.base).host]);
      this.exchange.urls.hostnames = Object.fromEntries(names);
    }
    this.behind = 0;
    this.last = 0;
  }

  parameters(kind, number) {
    const parameters = { ...(this.plan[kind][3] ?? {}) };
    if (kind === 'write') {
      parameters[this.plan.unique] = `${20_000 + number}`;
    }
    return parameters;
  }

  async call(kind, number = 0) {
    const [called, api, method] = this.plan[kind];
    if (this.behind) {
      this.setBack();
    }
    if (this.plan.one_a_second) {
      await this.nextSecond();
    }
    // Before 4.5.85 a single section stands alone.
    return this.exchange.fetch2(called, api.length === 1 ? api[0] : api, method, this.parameters(kind, number));
  }

  setBack() {
    this.exchange.milliseconds = () => Date.now() - this.behind;
    this.exchange.seconds = () => Math.floor((Date.now() - this.behind) / 1000);
  }

  // Where the body is not signed and the clock counts seconds, two writes a second are the same bytes.
  async nextSecond() {
    while (Math.floor(Date.now() / 1000) === this.last) {
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
    this.last = Math.floor(Date.now() / 1000);
  }
}

// A gateway that cannot judge now is asked again with a new signature.
const patiently = async (client, kind, number = 0) => {
  for (let tries = 0; tries < 100; tries += 1) {
    try {
      return await client.call(kind, number);
    } catch (error) {
      if (!(error instanceof ccxt.ExchangeNotAvailable)) {
        throw error;
      }
      await new Promise((resolve) => { setTimeout(resolve, 200); });
    }
  }
  return client.call(kind, number);
};

const outcome = async (call) => {
  try {
    await call();
  } catch (error) { // whatever it is, it is compared
    return { raised: error.constructor.name, message: String(error.message) };
  }
  return { raised: null, message: '' };
};

const drive = async (exchange) => {
  const tell = async (step, condition, call) => {
    console.log(JSON.stringify({ exchange: exchange.name, step, condition, ...(await outcome(call)) }));
  };
  const { secret, wrong } = exchange.secrets;
  const good = new Client(exchange, 'good', secret);
  await tell('read', null, () => patiently(good, 'read'));
  let sent;
  const fetch = good.exchange.fetch.bind(good.exchange);
  good.exchange.fetch = (...request) => {
    sent = request;
    return fetch(...request);
  };
  await tell('write', null, () => patiently(good, 'write', 1));
  await tell('the same write again', 'replayed_write', () => fetch(...sent));
  await tell('a wrong secret', 'bad_signature', () => new Client(exchange, 'good', wrong).call('read'));
  if (exchange.expected.stale_timestamp !== undefined) {
    const late = new Client(exchange, 'good', secret);
    late.behind = hour;
    await tell('a clock an hour behind', 'stale_timestamp', () => late.call('read'));
  }
  await tell('no permission', 'no_permission', () => new Client(exchange, 'reader', secret).call('write', 2));
  const small = new Client(exchange, 'small', secret);
  for (let number = 3; number < 6; number += 1) {
    await tell(`write ${number - 2} of 3`, null, () => patiently(small, 'write', number));
  }
  await tell('a fourth write', 'rate_limited', () => small.call('write', 6));
};

console.log(JSON.stringify({ version: ccxt.version }));
for (const exchange of plan.exchanges) {
  if (exchange.client in ccxt) {
    await drive(exchange);
  }
}
