// The real binary, started on a free port over a state folder of its own, and talked to over the network like anybody.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Tests run compiled, from the project's folder. */
export const ROOT = process.cwd();
const MAIN = join(ROOT, 'dist/bundle/main.js');

interface Test {
  teardown(handler: () => unknown): void;
}

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  // Bodies are looked into by the tests alone, which say what they expect there.
  // biome-ignore lint/suspicious/noExplicitAny: a test matches it against a pattern
  readonly body: any;
}

export interface ServiceOptions {
  /** It must listen by then. Default 20 s. */
  readonly startMs?: number;
  readonly stateDir?: string;
  readonly config?: string;
  readonly args?: readonly string[];
  /** Another program than the product's own, for crashes at a given step. */
  readonly program?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Put before the command: `unshare -m sh -c …`. */
  readonly wrap?: readonly string[];
  /** Default: the project's folder. */
  readonly cwd?: string;
}

/** A folder that is gone after the test. */
export function freshFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'vsf-safety-test-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export class RealService {
  readonly stateDir: string;
  readonly child: ChildProcess;
  readonly output: string[] = [];
  url = '';

  constructor(stateDir: string, child: ChildProcess) {
    this.stateDir = stateDir;
    this.child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => this.output.push(text));
    }
  }

  get token(): string {
    return readFileSync(join(this.stateDir, 'operator-token'), 'utf8').trim();
  }

  /** Resolves with the exit code, or the signal's name. */
  async ended(): Promise<number | string> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'exit');
    return this.child.exitCode ?? this.child.signalCode ?? 'unknown';
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | string> {
    this.child.kill(signal);
    return this.ended();
  }

  async ask(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
    withinMs = 20_000,
  ): Promise<Reply> {
    const response = await fetch(this.url + path, {
      method,
      headers: { ...(body !== undefined && { 'content-type': 'application/json' }), ...headers },
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      signal: AbortSignal.timeout(withinMs),
      redirect: 'error',
    }).catch((error: unknown) => {
      const { message, cause } = error as Error;
      const how = this.child.exitCode ?? this.child.signalCode;
      const ended = how === null ? '' : ` (the service has ended: ${how})\n${this.output.join('')}`;
      throw new Error(`${method} ${this.url}${path}: ${message}: ${String(cause)}${ended}`, { cause: error });
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.includes('json') ?? false;
    return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
  }

  get = (path: string): Promise<Reply> => this.ask('GET', path);
  post = (path: string, body?: unknown): Promise<Reply> => this.ask('POST', path, body);
  /** As the operator. */
  operate = (path: string, body: unknown): Promise<Reply> =>
    this.ask('POST', path, body, { authorization: `Bearer ${this.token}` });

  /** Changes what the simulated rig does or says. */
  async simulate(change: unknown): Promise<void> {
    const reply = await this.operate('/simulation', change);
    if (reply.status !== 200) throw new Error(`simulation: ${reply.status} ${JSON.stringify(reply.body)}`);
  }

  /** Asks again until `isGood`, or fails with the last answer. */
  async until(
    what: string,
    ask: () => Promise<Reply>,
    isGood: (reply: Reply) => boolean,
    withinMs = 15_000,
  ): Promise<Reply> {
    const endMs = performance.now() + withinMs;
    for (;;) {
      const reply = await ask();
      if (isGood(reply)) return reply;
      if (performance.now() > endMs)
        throw new Error(
          `${what} did not come about: ${JSON.stringify(reply.body).slice(0, 20_000)}\n${this.output.join('')}`,
        );
      await new Promise((done) => setTimeout(done, 50));
    }
  }
}

/** Starts the service and waits until it listens; killed after the test. */
export async function startService(t: Test, options: ServiceOptions = {}): Promise<RealService> {
  const stateDir = options.stateDir ?? freshFolder(t);
  const args = ['--port', '0', '--state-dir', stateDir, ...(options.args ?? ['--source', 'simulated'])];
  if (options.config !== undefined) {
    const file = join(freshFolder(t), 'safety.yaml');
    writeFileSync(file, options.config);
    args.push('--config', file);
  }
  const program = options.program ?? [process.execPath, '--enable-source-maps', MAIN, 'serve'];
  const [command = '', ...rest] = [...(options.wrap ?? []), ...program, ...args];
  const child = spawn(command, rest, {
    cwd: options.cwd ?? ROOT,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const service = new RealService(stateDir, child);
  t.teardown(async () => {
    child.kill('SIGKILL');
    await service.ended();
  });
  const endMs = performance.now() + (options.startMs ?? 20_000);
  for (;;) {
    const found = /listening at (https?:\/\/[^"\s]+)/i.exec(service.output.join(''));
    if (found?.[1]) {
      service.url = found[1];
      return service;
    }
    if (child.exitCode !== null || performance.now() > endMs) {
      throw new Error(`the service did not come up (exit ${child.exitCode}): ${service.output.join('')}`);
    }
    await new Promise((done) => setTimeout(done, 20));
  }
}

/** A process group that bears a lease's mark, as a workload generator would run. */
export function startWorkload(t: Test, leaseId: string, script = 'while :; do sleep 1; done'): ChildProcess {
  const child = spawn('bash', ['-c', script], {
    detached: true,
    stdio: 'ignore',
    env: { ...process.env, VSF_LEASE: leaseId },
  });
  t.teardown(() => {
    try {
      if (child.pid) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It is gone, as it should be.
    }
  });
  return child;
}

/** Whether anything of a process group still runs; zombies do not count. */
export function isGroupAlive(pgid: number): boolean {
  try {
    process.kill(-pgid, 0);
  } catch {
    return false;
  }
  try {
    return !/^\d+ \(.*\) [ZX] /.test(readFileSync(`/proc/${pgid}/stat`, 'utf8'));
  } catch {
    return true;
  }
}

/** A load that ignores SIGTERM. */
export const STUBBORN = "trap '' TERM; while :; do sleep 0.2; done";

/** Starts a load, `script` or one that ends when it is told to, and takes a lease for its process group. */
export async function startLeased(
  t: Test & { equal(found: unknown, wanted: unknown, message: string): unknown },
  service: RealService,
  script?: string,
): Promise<{ readonly id: string; readonly pgid: number }> {
  await service.until(
    'a safe preflight',
    () => service.get('/preflight'),
    ({ status }) => status === 200,
  );
  const id = randomUUID();
  const pgid = startWorkload(t, id, script).pid ?? 0;
  const asked = { id, workload: 'train-7', processGroup: { pgid }, ttlSeconds: 300 };
  const lease = await service.post('/leases', asked);
  t.equal(lease.status, 201, JSON.stringify(lease.body));
  return { id, pgid };
}
