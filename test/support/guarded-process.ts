// Programs that a test starts and that must not outlive it, not even when the test's own process is killed; and ports for
// those that come back on the same one.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

export interface Running {
  readonly child: ChildProcess;
  /** The end of what it wrote to stderr. */
  said(): string;
  /** Resolves when nothing of it is left. */
  kill(): Promise<void>;
}

/** A shell waits on a pipe that nobody writes to, and kills its group when the pipe closes, or when the program ends. */
const GUARD = '{ "$@" </dev/null; kill -9 0; } & cat >/dev/null; kill -9 0';

/** Runs a program in a process group of its own that ends with this process, however this one ends. */
export function launch(program: string, args: readonly string[]): Running {
  const child = spawn('/bin/sh', ['-c', GUARD, 'sh', program, ...args], {
    detached: true,
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-4_000);
  });
  const ended = once(child, 'close');
  return {
    child,
    said: () => said,
    kill: async () => {
      // The pipe of stderr closes with the last of the group: then its port is free.
      child.stdin.destroy();
      await ended;
    },
  };
}

/**
 * A loopback port that is free, below those that the kernel gives to outgoing connections: so it is free still when the
 * server that had it starts again.
 */
export async function quietPort(): Promise<number> {
  for (;;) {
    const port = randomInt(20_000, 32_000);
    const server = createServer().listen(port, '127.0.0.1');
    // Rejects where it cannot listen.
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}
