// Debian's node_exporter, started on a free loopback port; it reads this machine's own /proc and /sys. And what a test
// needs to start any such program: a free port, and waiting until it answers.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';

const PROGRAM = '/usr/bin/prometheus-node-exporter';
/** A program that has not answered by then will not; a busy machine of two cores needs a few seconds. */
const READY_WITHIN_MS = 30_000;

/** Whether a program is there to be started. */
export function isInstalled(program: string): boolean {
  try {
    accessSync(program, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Why a test that needs a node_exporter is skipped; `false` where it is installed. */
export const lacksNodeExporter = isInstalled(PROGRAM)
  ? false
  : `needs ${PROGRAM} (apt install prometheus-node-exporter)`;

/** A loopback port that nobody listened on a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('Cannot find a free port');
  return address.port;
}

/** A program of the operating system's, gone after the test. */
export interface Program {
  readonly url: string;
  /** Ends it at once, as a crash does. */
  kill(): Promise<void>;
}

/** Starts `program` and waits until `readyUrl` is answered with 200. */
export async function startProgram(
  t: Test,
  program: string,
  args: readonly string[],
  { url, readyUrl }: { readonly url: string; readonly readyUrl: string },
): Promise<Program> {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-4_000);
  });
  const kill = (): Promise<void> => killed(child);
  t.teardown(kill);
  const untilMs = Date.now() + READY_WITHIN_MS;
  while (!(await isAnswered(readyUrl))) {
    if (child.exitCode !== null || Date.now() > untilMs) throw new Error(`${program} does not answer: ${said}`);
    await sleep(50);
  }
  return { url, kill };
}

async function isAnswered(url: string): Promise<boolean> {
  try {
    const answer = await fetch(url);
    await answer.arrayBuffer();
    return answer.status === 200;
  } catch {
    return false;
  }
}

async function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

/** Starts node_exporter on `port`, by default a free one. `url` has no path: the series are at `/metrics`. */
export async function startNodeExporter(t: Test, port?: number): Promise<Program & { readonly port: number }> {
  const ownPort = port ?? (await freePort());
  const url = `http://127.0.0.1:${ownPort}`;
  const program = await startProgram(
    t,
    PROGRAM,
    [`--web.listen-address=127.0.0.1:${ownPort}`, '--collector.textfile.directory='],
    { url, readyUrl: `${url}/metrics` },
  );
  return { ...program, port: ownPort };
}
