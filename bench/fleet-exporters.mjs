// A fleet to scrape, in a process of its own: for each node one path with a node_exporter's body and one with a
// dcgm-exporter's for eight GPUs. `node fleet-exporters.mjs NODES [WARM SHARE]`; prints its port.
// Of the warm nodes one GPU is within 5 °C of its warning, so that they are sampled fast. `/sent` tells the bytes that were
// sent so far, by the first word of who asked (`Prometheus`, `vsf-safety`).
import { createServer } from 'node:http';
import { gpuBody, nodeBody } from './expositions.mjs';

const nodes = Number(process.argv[2]);
const warmShare = Number(process.argv[3] ?? 0);
const WARM_C = 77;
const isWarm = (node) => Math.floor((node + 1) * warmShare) > Math.floor(node * warmShare);
const bodyOf = (node, kind) => (kind === 'gpu' ? gpuBody(node, isWarm(node) ? WARM_C : null) : nodeBody(node));

const sent = {};
const server = createServer((request, response) => {
  const [, node = '', kind] = (request.url ?? '').split('?')[0].split('/');
  if (node === 'sent') {
    response.end(JSON.stringify(sent));
    return;
  }
  const body = Buffer.from(bodyOf(Number(node), kind));
  const [who = ''] = (request.headers['user-agent'] ?? '').split('/');
  sent[who] = (sent[who] ?? 0) + body.length;
  response.setHeader('content-type', 'text/plain; version=0.0.4; charset=utf-8');
  response.setHeader('content-length', body.length);
  response.end(body);
});
server.keepAliveTimeout = 120_000;
server.listen(0, '127.0.0.1', 8192, () => {
  const [nodeBytes, gpuBytes] = ['node', 'gpu'].map((kind) => Buffer.byteLength(bodyOf(1, kind)));
  process.stdout.write(`${JSON.stringify({ port: server.address().port, nodes, nodeBytes, gpuBytes })}\n`);
});
