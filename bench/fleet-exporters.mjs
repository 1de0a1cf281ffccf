// A fleet to scrape, in a process of its own: for each node one path with a node_exporter's body and one with a
// dcgm-exporter's for eight GPUs. `node fleet-exporters.mjs NODES [WARM SHARE] [PORTS]`; prints its port, or of several all of
// them: as many machines, as connections see it.
// Of the warm nodes one GPU is within 5 °C of its warning, so that they are sampled fast. `/sent` tells the bytes that were
// sent so far, by the first word of who asked (`Prometheus`, `vsf-safety`). `/ail?node=N&how=hang|fail|cut&seconds=S` lets
// both exporters of a node fail for a while, and `/hook` takes whatever is posted to it.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { gpuBody, nodeBody } from './expositions.mjs';

const nodes = Number(process.argv[2]);
const warmShare = Number(process.argv[3] ?? 0);
const portCount = Number(process.argv[4] ?? 1);
const WARM_C = 77;
const isWarm = (node) => Math.floor((node + 1) * warmShare) > Math.floor(node * warmShare);
const bodyOf = (node, kind) => (kind === 'gpu' ? gpuBody(node, isWarm(node) ? WARM_C : null) : nodeBody(node));

const sent = {};
/** Of nodes that fail, by number: how, and until when (`Date.now()`). */
const ailing = new Map();

function ail(query) {
  const [node, how, seconds] = ['node', 'how', 'seconds'].map((name) => query.get(name));
  ailing.set(node, { how, untilMs: Date.now() + Number(seconds) * 1_000 });
}

/** Answers as a node that fails does; `false`: it is well. A hung one says nothing, and its connection stays open. */
function answersIll(node, body, response) {
  const found = ailing.get(node);
  if (!found) return false;
  if (found.untilMs <= Date.now()) {
    ailing.delete(node);
    return false;
  }
  if (found.how === 'fail') response.writeHead(503).end('ill');
  if (found.how === 'cut') {
    response.writeHead(200, { 'content-length': body.length });
    response.write(body.subarray(0, body.length / 2), () => response.destroy());
  }
  return true;
}

function answer(request, response) {
  const { pathname, searchParams } = new URL(request.url ?? '', 'http://fleet');
  const [, node = '', kind] = pathname.split('/');
  if (node === 'sent') {
    response.end(JSON.stringify(sent));
    return;
  }
  if (node === 'ail' || node === 'hook') {
    if (node === 'ail') ail(searchParams);
    request.resume().on('end', () => response.end());
    return;
  }
  const body = Buffer.from(bodyOf(Number(node), kind));
  if (answersIll(node, body, response)) return;
  const [who = ''] = (request.headers['user-agent'] ?? '').split('/');
  sent[who] = (sent[who] ?? 0) + body.length;
  response.setHeader('content-type', 'text/plain; version=0.0.4; charset=utf-8');
  response.setHeader('content-length', body.length);
  response.end(body);
}

async function listen() {
  const server = createServer(answer);
  server.keepAliveTimeout = 120_000;
  await once(server.listen(0, '127.0.0.1', 8192), 'listening');
  return server.address().port;
}

const ports = [];
while (ports.length < portCount) ports.push(await listen());
const [nodeBytes, gpuBytes] = ['node', 'gpu'].map((kind) => Buffer.byteLength(bodyOf(1, kind)));
process.stdout.write(`${JSON.stringify({ port: ports[0], ports, nodes, nodeBytes, gpuBytes })}\n`);
