// Stands before a real API server and shows the faults that a real one cannot be made to show: 429, pages of HTML, cut
// bodies, silence. Passes on everything else, and remembers what was asked. It bears the API server's own certificate,
// so that whoever trusts the one trusts the other.
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, Agent as HttpsAgent, request as requestHttps } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import type { ControlPlane } from './control-plane.ts';

export interface Asked {
  readonly method: string;
  /** Without its query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly contentType: string;
  readonly authorization: string;
  readonly body: string;
  /** `performance.now()`. */
  readonly atMs: number;
}

export type Fault =
  /** Instead of the server's; an object goes as JSON. */
  | {
      readonly kind: 'answer';
      readonly status: number;
      readonly body?: unknown;
      readonly headers?: Readonly<Record<string, string>>;
    }
  /** The server's answer, and the connection cut after so many bytes of its body. */
  | { readonly kind: 'cut'; readonly afterBytes: number }
  /** Silence; the server is not asked. */
  | { readonly kind: 'hang' }
  /** Silence, after the server has done it. */
  | { readonly kind: 'hang-after' }
  /** The connection is closed without an answer; the server is not asked. */
  | { readonly kind: 'drop' }
  | { readonly kind: 'delay'; readonly ms: number };

/** The fault that a request meets; `null`: none. */
export type Rule = (asked: Asked) => Fault | null;

export interface KubeFaultProxy {
  readonly url: string;
  readonly caFile: string;
  /** Everything that was asked, faulty or not. */
  readonly asked: readonly Asked[];
  /** Connections made so far. */
  readonly connectionsMade: number;
  setRule(rule: Rule): void;
  /** Done by itself after the test. */
  close(): Promise<void>;
}

/** A 429 as a server with too much to do gives it. */
export const tooManyRequests = (retryAfter = '1'): Fault => ({
  kind: 'answer',
  status: 429,
  headers: { 'retry-after': retryAfter },
  body: { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason: 'TooManyRequests', code: 429 },
});

/** A login page, as a proxy that ran out of patience gives it. */
export const loginPage: Fault = {
  kind: 'answer',
  status: 200,
  headers: { 'content-type': 'text/html' },
  body: '<html>login</html>',
};

/** Starts a proxy on loopback; use it by `plane.kubeconfigFor(token, proxy)`. */
export async function startKubeFaultProxy(
  t: Test,
  plane: Pick<ControlPlane, 'url' | 'caFile' | 'keyFile'>,
  rule: Rule = () => null,
): Promise<KubeFaultProxy> {
  const [cert, key] = await Promise.all([readFile(plane.caFile), readFile(plane.keyFile)]);
  const upstream = new HttpsAgent({ keepAlive: true, ca: cert });
  const asked: Asked[] = [];
  const sockets = new Set<Socket>();
  let connectionsMade = 0;
  let current = rule;
  const server = createServer({ cert, key }, (incoming, outgoing) => {
    void answer(incoming, outgoing).catch(() => outgoing.destroy());
  });
  server.on('secureConnection', (socket) => {
    connectionsMade += 1;
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });

  async function answer(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const bytes = await bytesOf(incoming);
    const body = bytes.toString('utf8');
    const { pathname, searchParams } = new URL(incoming.url ?? '/', plane.url);
    const one: Asked = {
      method: incoming.method ?? '',
      path: pathname,
      query: searchParams,
      contentType: incoming.headers['content-type'] ?? '',
      authorization: incoming.headers.authorization ?? '',
      body,
      atMs: performance.now(),
    };
    asked.push(one);
    const fault = current(one);
    if (fault?.kind === 'hang') return;
    if (fault?.kind === 'drop') {
      incoming.socket.destroy();
      return;
    }
    if (fault?.kind === 'answer') {
      const { status, headers = {}, body: said = '' } = fault;
      const text = typeof said === 'string' ? said : JSON.stringify(said);
      outgoing.writeHead(status, { 'content-type': 'application/json', ...headers }).end(text);
      return;
    }
    if (fault?.kind === 'delay') await sleep(fault.ms);
    const real = await ask(incoming, bytes);
    if (fault?.kind === 'hang-after') {
      real.resume();
      return;
    }
    outgoing.writeHead(real.statusCode ?? 502, real.headers);
    if (fault?.kind !== 'cut') {
      real.pipe(outgoing);
      return;
    }
    const whole = await bytesOf(real);
    outgoing.write(whole.subarray(0, fault.afterBytes), () => incoming.socket.destroy());
  }

  /** Passed on as it came: kubectl and Helm send protobuf. */
  async function ask({ method, url, headers }: IncomingMessage, body: Buffer): Promise<IncomingMessage> {
    const asking = requestHttps(`${plane.url}${url}`, { method, headers, agent: upstream });
    asking.end(body);
    const [response] = await once(asking, 'response');
    return response;
  }

  await once(server.listen(0, '127.0.0.1'), 'listening');
  const close = async (): Promise<void> => {
    if (!server.listening) return;
    const closed = once(server, 'close');
    server.close();
    for (const socket of sockets) socket.destroy();
    upstream.destroy();
    await closed;
  };
  t.teardown(close);
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    caFile: plane.caFile,
    asked,
    get connectionsMade() {
      return connectionsMade;
    },
    setRule: (next) => {
      current = next;
    },
    close,
  };
}

async function bytesOf(stream: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}
