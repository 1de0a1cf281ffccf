// HTTP written byte by byte, for requests that no client library would send.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

export interface RawAnswer {
  readonly status: number;
  readonly head: string;
  readonly body: string;
}

/** Opens a connection, closed after `t`. */
export async function dial(t: { teardown(end: () => void): void }, port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  // A server may cut a connection that it has answered.
  socket.on('error', () => undefined);
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** Reads the next answer: head, and as much body as its content-length says. */
export async function readAnswer(socket: Socket): Promise<RawAnswer> {
  let text = '';
  for (;;) {
    text = text.replace('HTTP/1.1 100 Continue\r\n\r\n', '');
    const [head, body] = text.split(/\r\n\r\n(.*)/s);
    const length = Number(/content-length: (\d+)/i.exec(head ?? '')?.[1] ?? 0);
    if (head !== undefined && body !== undefined && Buffer.byteLength(body) >= length) {
      return { status: Number(head.slice(9, 12)), head, body };
    }
    const [chunk] = (await Promise.race([once(socket, 'data'), once(socket, 'close')])) as [Buffer | boolean];
    if (typeof chunk === 'boolean') throw new Error(`the connection was closed after: ${text}`);
    text += chunk.toString();
  }
}

/** Sends one request and reads its answer. */
export async function sendRaw(
  t: { teardown(end: () => void): void },
  port: number,
  request: string,
): Promise<RawAnswer> {
  const socket = await dial(t, port);
  socket.write(request);
  return readAnswer(socket);
}
