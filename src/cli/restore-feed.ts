// What `restore` needs of a connection beside what every command does: patience, since the answer comes only when the
// last controller has been given back and Node's own fetch gives up after 300 s without a header; and the events of the
// WebSocket, so that whoever waits sees each controller as it comes back. Events are a comfort: where there are none
// (another port, a proxy that knows no WebSocket) the restore goes on all the same, and the answer tells everything.
import { Agent, fetch as undiciFetch, WebSocket } from 'undici';
import { withDeadline } from '../clock.ts';
import type { MessageSchema, Told } from '../http/schemas.ts';
import type { ServiceClient } from './client.ts';
import type { Io } from './io.ts';
import { printable, writeLines } from './layout.ts';
import { trustedAuthorities } from './trust.ts';

const CONNECT_WITHIN_MS = 2_000;

const trust = (env: Io['env']) => ({ connect: { ca: trustedAuthorities(env) } });

/** A `fetch` without a deadline of its own: the command's counts. */
export class PatientFetch {
  readonly #agent: Agent;

  constructor(env: Io['env']) {
    this.#agent = new Agent({ headersTimeout: 0, bodyTimeout: 0, ...trust(env) });
  }

  readonly fetch: typeof fetch = (input, init) => {
    const asked = { ...init, dispatcher: this.#agent } as Parameters<typeof undiciFetch>[1];
    return undiciFetch(input as string, asked) as unknown as Promise<Response>;
  };

  close(): Promise<void> {
    return this.#agent.destroy();
  }
}

/**
 * Writes a line to standard error for each controller as it is done, with a counter. Resolves once the events are heard,
 * or cannot be; what it gives ends it.
 */
export async function followRestore(
  client: ServiceClient,
  io: Io,
  { tripId, count }: { readonly tripId: string; readonly count: number },
): Promise<() => void> {
  writeLines(io.stderr, [`Giving back, one at a time: ${count} to look at`]);
  let done = 0;
  const { url, headers } = await client.streamRequest();
  const agent = new Agent(trust(io.env));
  const socket = new WebSocket(url, { headers, dispatcher: agent });
  socket.addEventListener('message', ({ data }) => {
    const message = restoreMessage(data, tripId);
    if (message === null) return;
    done += 1;
    writeLines(io.stderr, [`  ${done} of ${count}  ${printable(message)}`]);
  });
  const settled = new Promise<void>((resolve) => {
    socket.addEventListener('open', () => resolve());
    socket.addEventListener('error', () => resolve());
    socket.addEventListener('close', () => resolve());
  });
  await withDeadline(io.clock, CONNECT_WITHIN_MS, settled);
  return () => socket.close();
}

/** What an event says of one controller of this restore; `null` for every other message. */
function restoreMessage(text: unknown, tripId: string): string | null {
  let message: Told<typeof MessageSchema>;
  try {
    message = JSON.parse(String(text));
  } catch {
    return null;
  }
  if (message.type !== 'event' || message.data.name !== 'restore' || message.data.tripId !== tripId) return null;
  return message.data.message.replace(`Restore after trip ${tripId}: `, '');
}
