// The `ws` library through the gateway: echoes of many sizes, then the gateway's close.
// Arguments: the URL; header fields as JSON; the path of a file to write once all echoes have come.
import { createRequire } from 'node:module';
import { writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';

const require = createRequire(process.env.COUNTERSIGN_NODE_MODULES + '/');
const WebSocket = require('ws');
const [url, headers, told] = process.argv.slice(2);
const socket = new WebSocket(url, { headers: JSON.parse(headers) });
const messages = [0, 1, 125, 126, 65535, 65536, 1 << 20].map((size) => randomBytes(size));
messages.push('text as well');
let next = 0;
socket.on('open', () => socket.send(messages[next]));
socket.on('message', (data, binary) => {
  const sent = messages[next];
  const same = binary ? data.equals(sent) : data.toString() === sent;
  if (!same) {
    console.error(`message ${next} came back otherwise`);
    process.exit(1);
  }
  next += 1;
  if (next < messages.length) {
    socket.send(messages[next]);
  } else {
    socket.ping();
  }
});
socket.on('pong', () => writeFileSync(told, 'echoed'));
socket.on('error', (error) => { console.error(error); process.exit(2); });
socket.on('close', (code) => { console.log(code); process.exit(next === messages.length ? 0 : 3); });
