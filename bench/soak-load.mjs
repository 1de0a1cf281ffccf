// What a service of 200 nodes has to bear from others, all day long: holders of leases that renew, give back and fall silent;
// subscribers that come, go, come back and stop reading; readers of every page; gates, drills, stops and resets; exporters
// that hang, fail and come back; tokens that are rotated. Each of them is a loop with pauses by chance.
import { createHash, randomBytes } from 'node:crypto';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, request } from 'undici';
import WebSocket from 'ws';

/** What is filled up to a bound (ended leases, messages to come back to) is filled at once: so many leases in a row. */
const FIRST_LEASES = 1_200;
const HOLDERS = 30;
const SUBSCRIBERS = 24;
const READERS = 2;
/** A client gives up then, as most do; that is counted and no fault: the machine may be busy. */
const PATIENCE_MS = 20_000;
/** What a message is stands in its first bytes; evaluations of 200 nodes are large, and nobody here reads them. */
const HEAD_BYTES = 400;
const HEAD = /"type":"(\w+)","instance":"([^"]+)","sequence":(\d+)/;
const OLDEST = /"oldest":(\d+)/;

const chance = (share) => Math.random() < share;
const between = (low, high) => low + Math.random() * (high - low);
const oneOf = (list) => list[Math.floor(Math.random() * list.length)];

/**
 * Starts all of it against `service`, which watches `fleet` by the configuration `file`. `signal` ends it; `counts` tells what
 * was answered: by route and status, and what no service should answer, as `strange`.
 */
export function startLoad({ service, fleet, file, signal }) {
  const counts = { answers: {}, strange: [], requests: 0, leases: 0, lapses: 0, sockets: 0, messages: 0, dropped: 0 };
  const agent = new Agent({ connections: 64, headersTimeout: PATIENCE_MS, bodyTimeout: PATIENCE_MS });
  const pause = (ms) => sleep(ms, undefined, { signal }).catch(() => undefined);
  const nodes = Array.from({ length: fleet.nodes }, (_, i) => `node-${i}`);
  // Blind nodes with a workload are stopped: who falls ill has none.
  const [busy, sickly] = [nodes.slice(0, fleet.nodes * 0.8), nodes.slice(fleet.nodes * 0.8)];

  async function ask(method, path, { body, token, usual = [200] } = {}) {
    const route = `${method} ${path.split('?')[0].replace(/[0-9a-f-]{36}/, ':id')}`;
    try {
      const answer = await request(service.url + path, {
        method,
        dispatcher: agent,
        signal: AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]),
        headers: { ...(body && { 'content-type': 'application/json' }), ...(token && { authorization: `Bearer ${token}` }) },
        body: body ? JSON.stringify(body) : null,
      });
      const text = await answer.body.text();
      // 408: the request itself took too long to arrive, from a process that got no CPU.
      note(route, answer.statusCode, [...usual, 408].includes(answer.statusCode) ? null : text);
      return { status: answer.statusCode, body: answer.headers['content-type']?.includes('json') && text ? JSON.parse(text) : text };
    } catch (error) {
      // The code of an aborted request is a number.
      const code = typeof error.code === 'string' ? error.code : error.name;
      if (!signal.aborted) note(route, code, /Timeout/i.test(code) ? null : error.message);
      return { status: 0, body: null };
    }
  }

  function note(route, status, strangeText) {
    const key = `${route} ${status}`;
    counts.requests += 1;
    counts.answers[key] = (counts.answers[key] ?? 0) + 1;
    if (strangeText !== null && counts.strange.length < 20) counts.strange.push(`${key}: ${strangeText.slice(0, 200)}`);
  }

  const lease = (ttlSeconds) =>
    ask('POST', '/leases', {
      body: { workload: 'soak', nodes: [oneOf(busy)], intensity: 0.5, ttlSeconds },
      usual: [201, 423, 503],
    });

  async function hold() {
    while (!signal.aborted) {
      await pause(between(200, 4_000));
      const { status, body } = await lease(5);
      if (status !== 201) continue;
      counts.leases += 1;
      const { id } = body.lease;
      const isForgotten = chance(0.15);
      let isOver = false;
      for (let renewals = Math.floor(between(0, 12)); renewals > 0 && !isOver && !signal.aborted; renewals -= 1) {
        await pause(between(1_000, 2_000));
        isOver = (await ask('PUT', `/leases/${id}`, { body: {}, usual: [200, 410, 503] })).status !== 200;
      }
      if (isForgotten) counts.lapses += 1;
      else if (!isOver) await ask('DELETE', `/leases/${id}`, { usual: [204, 410] });
    }
  }

  /** A subscriber's life: it reads, or stops reading, and goes with a word, without one, or when it is thrown out. */
  function subscribe(since) {
    const socket = new WebSocket(`${service.url.replace('http', 'ws')}/ws${since}`);
    const ends = new Promise((done) => socket.on('close', done));
    let [oldest, newest] = ['', ''];
    counts.sockets += 1;
    socket.on('error', () => undefined);
    socket.on('message', (bytes) => {
      counts.messages += 1;
      const text = bytes.toString('latin1', 0, HEAD_BYTES);
      const [, type, instance, sequence] = HEAD.exec(text) ?? [];
      newest = `?since=${sequence}&instance=${instance}`;
      if (type === 'hello') oldest = `?since=${Math.max(0, Number(OLDEST.exec(text)?.[1] ?? 1) - 1)}&instance=${instance}`;
    });
    return { socket, ends, since: () => (chance(0.1) ? oldest : newest) };
  }

  async function watch() {
    let since = '';
    while (!signal.aborted) {
      const { socket, ends, since: missed } = subscribe(since);
      await Promise.race([ends, pause(between(500, 2_000))]);
      const stalls = chance(0.25);
      if (stalls) socket.pause();
      await Promise.race([ends, pause(stalls ? between(20_000, 120_000) : between(1_000, 60_000))]);
      if (socket.readyState === WebSocket.CLOSED) counts.dropped += 1;
      else if (!stalls && chance(0.5)) socket.close();
      else socket.terminate();
      // A third comes back for what it missed; a few for everything that there still is.
      since = chance(0.33) ? missed() : '';
      await pause(between(0, 3_000));
    }
  }

  const PAGES = ['/status', '/status?node=', '/metrics', '/history?from=-10m', '/history?from=-1h&node=', '/estop', '/healthz', '/readyz', '/openapi.json', '/'];
  async function read() {
    while (!signal.aborted) {
      await pause(between(1_000, 4_000));
      const page = oneOf(PAGES);
      await ask('GET', page.endsWith('=') ? page + oneOf(nodes) : page, { usual: [200, 503] });
    }
  }

  async function gate() {
    while (!signal.aborted) {
      await pause(between(500, 3_000));
      const query = chance(0.2) ? '' : `?nodes=${oneOf(nodes)},${oneOf(nodes)}`;
      await ask('GET', `/preflight${query}`, { usual: [200, 423, 503] });
    }
  }

  async function drill() {
    while (!signal.aborted) {
      await pause(between(10_000, 30_000));
      await ask('POST', '/estop', { body: { drill: true, reason: 'soak' }, token: service.operatorToken() });
    }
  }

  async function stopAndReset() {
    while (!signal.aborted) {
      await pause(between(40_000, 80_000));
      const stopped = await ask('POST', '/estop', { body: { reason: 'soak', nodes: [oneOf(busy)] }, usual: [202] });
      if (stopped.status !== 202) continue;
      await pause(between(1_000, 8_000));
      const body = { tripId: stopped.body.tripId, reason: 'soak', acknowledgeUnverified: true };
      for (let isReset = false; !isReset && !signal.aborted; await pause(500)) {
        isReset = (await ask('POST', '/estop/reset', { body, token: service.operatorToken(), usual: [200, 409] })).status === 200;
      }
    }
  }

  const ail = (node, how, seconds) =>
    request(`${fleet.base}/ail?node=${node.slice('node-'.length)}&how=${how}&seconds=${seconds}`)
      .then(({ body }) => body.dump())
      .catch(() => undefined);

  async function makeIll() {
    while (!signal.aborted) {
      await pause(between(2_000, 12_000));
      await ail(oneOf(sickly), oneOf(['hang', 'fail', 'cut']), Math.ceil(between(5, 60)));
    }
  }

  /** Sometimes all of them at once: a switch that is down for a moment. */
  async function makeAllIll() {
    while (!signal.aborted) {
      await pause(between(100_000, 200_000));
      for (const node of sickly) await ail(node, 'fail', 15);
    }
  }

  async function rotateTokens() {
    const before = readFileSync(file, 'utf8');
    while (!signal.aborted) {
      await pause(between(20_000, 40_000));
      const sha256 = createHash('sha256').update(randomBytes(32)).digest('hex');
      writeFileSync(file, before);
      appendFileSync(file, `auth: { tokens: [ { role: viewer, sha256: "${sha256}" } ] }\n`);
      if (!signal.aborted) service.child.kill('SIGHUP');
    }
  }

  async function fillUp() {
    for (let i = 0; i < FIRST_LEASES && !signal.aborted; i += 1) {
      const { status, body } = await lease(5);
      if (status === 201) await ask('DELETE', `/leases/${body.lease.id}`, { usual: [204, 410] });
    }
  }

  const many = (count, work) => Array.from({ length: count }, work);
  const work = [fillUp(), ...many(HOLDERS, hold), ...many(SUBSCRIBERS, watch), ...many(READERS, read), ...many(2, gate), drill(), stopAndReset(), makeIll(), makeAllIll(), rotateTokens()];
  const ended = Promise.all(work).then(() => agent.destroy());
  return { counts, ended };
}
