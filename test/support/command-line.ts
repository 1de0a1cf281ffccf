// Runs the command line in this process, and stands in for a service that answers as a test says.
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Test } from 'tap';
import { runCli } from '../../src/cli/cli.ts';
import type { Io } from '../../src/cli/io.ts';
import { systemClock } from '../../src/clock.ts';

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** One command line; nothing of this machine's environment or home reaches it. */
export async function vsfSafety(
  argv: readonly string[],
  world: Partial<Omit<Io, 'stdout' | 'stderr'>> & { readonly isTTY?: boolean; readonly columns?: number } = {},
): Promise<Ran> {
  const out: string[] = [];
  const err: string[] = [];
  const { isTTY = false, columns, ...rest } = world;
  const code = await runCli(argv, {
    stdout: { write: (text) => out.push(text), isTTY, ...(columns !== undefined && { columns }) } as Io['stdout'],
    stderr: { write: (text) => err.push(text) },
    env: {},
    clock: systemClock,
    hostname: 'bizon1',
    homeDir: '/nonexistent',
    fetch,
    ...rest,
  });
  return { code, out: out.join(''), err: err.join('') };
}

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: unknown;
}

/** What the stand-in answers: status and JSON, text, or whatever it does with the response itself; `null` is nothing, ever. */
export type Reply = readonly [status: number, body: unknown] | ((response: ServerResponse) => void) | null;

/** An HTTP server on a free port of loopback; gives its address and what it was asked. */
export async function standInService(
  t: Test,
  reply: (asked: Asked) => Reply,
): Promise<{ readonly url: string; readonly asked: Asked[] }> {
  const asked: Asked[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const { method = '', url = '', headers } = request;
    const one = { method, path: url, headers, body: text === '' ? undefined : JSON.parse(text) };
    asked.push(one);
    const told = reply(one);
    if (typeof told === 'function') told(response);
    else if (told !== null) {
      const [status, body] = told;
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(typeof body === 'string' ? body : JSON.stringify(body));
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}
