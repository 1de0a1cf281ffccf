// A real HTTP(S) server in place of an exporter, that answers as told, at each request anew: well, slowly, never, cut
// off, compressed, or as a bomb. What was asked, and over which connection, is kept for the test.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer as createHttpServer, type IncomingMessage, type RequestListener } from 'node:http';
import { createServer as createHttpsServer, type ServerOptions as TlsOptions } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { createGzip, gzipSync } from 'node:zlib';
import type { Test } from 'tap';
import { systemClock } from '../../src/clock.ts';

const TEXT = 'text/plain; version=0.0.4; charset=utf-8';

export interface AskedRequest {
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  /** The connection's number, from 1. */
  readonly connection: number;
}

export interface StandInExporter {
  readonly port: number;
  /** Of its metrics. */
  readonly url: string;
  /** What the next requests get. */
  answer: RequestListener;
  readonly requests: readonly AskedRequest[];
  readonly openConnections: number;
  /** Closes all connections from this side, as a restart of the exporter does. */
  cutConnections(): void;
  close(): Promise<void>;
}

/** Starts one on a free loopback port, closed after `t`. */
export async function standInExporter(
  t: Test,
  answer: RequestListener,
  options: { readonly tls?: TlsOptions } = {},
): Promise<StandInExporter> {
  const sockets = new Map<Socket, number>();
  const requests: AskedRequest[] = [];
  let connections = 0;
  const listener: RequestListener = (request, response) => {
    const connection = sockets.get(request.socket) ?? 0;
    requests.push({ path: request.url ?? '', headers: request.headers, connection });
    response.on('error', () => undefined);
    standIn.answer(request, response);
  };
  const server = options.tls ? createHttpsServer(options.tls, listener) : createHttpServer(listener);
  server.on(options.tls ? 'secureConnection' : 'connection', (socket: Socket) => {
    sockets.set(socket, ++connections);
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const standIn: StandInExporter = {
    port,
    url: `${options.tls ? 'https' : 'http'}://127.0.0.1:${port}/metrics`,
    answer,
    requests,
    get openConnections() {
      return sockets.size;
    },
    cutConnections: () => {
      for (const socket of sockets.keys()) socket.destroy();
    },
    close: async () => {
      standIn.cutConnections();
      server.closeAllConnections();
      if (server.listening) await new Promise((resolve) => server.close(resolve));
    },
  };
  t.teardown(() => standIn.close());
  return standIn;
}

/** A whole answer of known length. */
export function says(text: string, headers: Record<string, string> = {}, status = 200): RequestListener {
  return (_request, response) => {
    const length = `${Buffer.byteLength(text)}`;
    response.writeHead(status, { 'content-type': TEXT, 'content-length': length, ...headers });
    response.end(text);
  };
}

export const hangs: RequestListener = () => undefined;

/** Sends the head and a first line, and nothing more. */
export const hangsInBody: RequestListener = (_request, response) => {
  response.writeHead(200, { 'content-type': TEXT });
  response.write('up 1\n');
};

export function isSlow(ms: number, then: RequestListener): RequestListener {
  return (request, response) => void systemClock.sleep(ms).then(() => then(request, response));
}

/** Breaks the connection after the text; `content-length` says more, or the last chunk is missing. */
export function isCutAfter(text: string, framing: 'length' | 'chunked'): RequestListener {
  return (_request, response) => {
    const length = `${Buffer.byteLength(text) + 10}`;
    response.writeHead(200, { 'content-type': TEXT, ...(framing === 'length' && { 'content-length': length }) });
    response.write(text, () => response.socket?.end());
  };
}

export function compresses(text: string): RequestListener {
  return (_request, response) => {
    response.writeHead(200, { 'content-type': TEXT, 'content-encoding': 'gzip' });
    response.end(gzipSync(text));
  };
}

/** Some kilobytes that become `bytes` zeros. */
export function isBombOf(bytes: number): RequestListener {
  return (_request, response) => {
    response.writeHead(200, { 'content-type': TEXT, 'content-encoding': 'gzip' });
    const gzip = createGzip();
    gzip.pipe(response);
    gzip.end(Buffer.alloc(bytes));
  };
}

/** Lines until the other side has had enough. */
export const neverEnds: RequestListener = (_request, response) => {
  response.writeHead(200, { 'content-type': TEXT });
  const line = Buffer.alloc(64 * 1024, 'up 1\n');
  const more = (): void => {
    while (!response.destroyed && response.write(line));
  };
  response.on('drain', more);
  more();
};

export function redirectsTo(location: string, status = 302): RequestListener {
  return (_request, response) => response.writeHead(status, { location }).end();
}

/** Exactly these bytes, and then the end of the connection. */
export function writesRaw(text: string): RequestListener {
  return (_request, response) => response.socket?.end(text);
}

/** What a test of TLS needs, made by openssl in `folder`; every path's file is PEM. */
export interface TestCertificates {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly clientCert: string;
  readonly clientKey: string;
}

/** An authority, a server's certificate for `names` (such as `DNS:exporter`, `IP:127.0.0.1`), and a client's. */
export async function makeCertificates(folder: string, names: string): Promise<TestCertificates> {
  const openssl = (...args: string[]) => promisify(execFile)('openssl', args, { cwd: folder });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  await openssl('req', '-x509', ...newKey, '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2', '-subj', '/CN=test-ca');
  for (const [name, alternative] of Object.entries({ server: names, client: 'DNS:vsf-safety' })) {
    await openssl('req', ...newKey, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
    await writeFile(join(folder, `${name}.ext`), `subjectAltName=${alternative}\n`);
    const authority = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2'];
    await openssl('x509', '-req', '-in', `${name}.csr`, ...authority, '-extfile', `${name}.ext`, '-out', `${name}.pem`);
  }
  const path = (name: string): string => join(folder, name);
  return {
    ca: path('ca.pem'),
    cert: path('server.pem'),
    key: path('server.key'),
    clientCert: path('client.pem'),
    clientKey: path('client.key'),
  };
}

/** The server's side of {@link makeCertificates}. */
export async function serverTls({ cert, key, ca }: TestCertificates, asksForClient = false): Promise<TlsOptions> {
  const [certPem, keyPem, caPem] = await Promise.all([readFile(cert), readFile(key), readFile(ca)]);
  return {
    cert: certPem,
    key: keyPem,
    ...(asksForClient && { ca: caPem, requestCert: true, rejectUnauthorized: true }),
  };
}
