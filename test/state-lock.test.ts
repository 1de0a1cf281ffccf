// The lock of the state folder, held and fought for by real processes.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs/promises';
import * as net from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t, { type Test } from 'tap';
import { systemClock } from '../src/clock.ts';
import { type LockOutcome, type StateLock, takeStateLock } from '../src/state-lock.ts';
import { ManualClock } from './support/manual-clock.ts';
import { tempDir } from './support/temp-dir.ts';

/** The built product; tests run from the project's folder. */
const BUILT = pathToFileURL('dist/').href;

const take = (folder: string): Promise<LockOutcome> => takeStateLock(folder, systemClock);

async function expectTaken(folder: string): Promise<StateLock> {
  const outcome = await take(folder);
  if (outcome.kind !== 'taken') throw new Error(JSON.stringify(outcome));
  return outcome.lock;
}

/** A process that tries for the lock of `folder`, says how that went, and stays. */
async function contend(
  t: Test,
  folder: string,
  ...before: string[]
): Promise<{ child: ChildProcess; outcome: string }> {
  const script = `
    import { takeStateLock } from '${BUILT}state-lock.js';
    import { systemClock } from '${BUILT}clock.js';
    const outcome = await takeStateLock(${JSON.stringify(folder)}, systemClock);
    console.log(outcome.kind + ' ' + (outcome.holder?.pid ?? outcome.lock?.note ?? outcome.detail ?? ''));
    process.stdin.resume();`;
  const [command = '', ...args] = [...before, process.execPath, '--input-type=module', '-e', script];
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const [output] = (await once(child.stdout, 'data')) as [Buffer];
  return { child, outcome: output.toString().trim() };
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'exit');
}

t.test(
  'takeStateLock() gives the lock to one of two processes and names it to the other, until a kill -9',
  async (t) => {
    const folder = await tempDir(t);
    const [a, b] = await Promise.all([contend(t, folder), contend(t, folder)]);
    const [winner, loser] = a.outcome === 'taken' ? [a, b] : [b, a];
    t.equal(winner.outcome, 'taken');
    t.equal(loser.outcome, `held ${winner.child.pid}`);
    t.same(await take(folder), { kind: 'held', holder: { pid: winner.child.pid, host: hostname() } });
    await kill(winner.child);
    t.same(await fs.readdir(folder), ['lock'], 'its file stays behind');
    const lock = await expectTaken(folder);
    t.equal(lock.note, null);
    t.same(await fs.readdir(folder), ['lock']);
    t.match(await take(folder), { kind: 'held', holder: { pid: process.pid } }, 'not twice in one process either');
    await lock.release();
    t.same(await fs.readdir(folder), []);
  },
);

t.test('takeStateLock() does not keep its process alive, and dies with it whatever it has started', async (t) => {
  const folder = await tempDir(t);
  const script = `
    import { spawn } from 'node:child_process';
    import { takeStateLock } from '${BUILT}state-lock.js';
    import { systemClock } from '${BUILT}clock.js';
    const { kind } = await takeStateLock(${JSON.stringify(folder)}, systemClock);
    const child = spawn('sleep', ['60'], { detached: true, stdio: 'ignore' });
    child.unref();
    console.log(kind + ' ' + child.pid);`;
  const args = ['--input-type=module', '-e', script];
  const holder = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 30_000 });
  const [kind, pid] = holder.stdout.trim().split(' ');
  t.teardown(() => process.kill(Number(pid), 'SIGKILL'));
  t.equal(kind, 'taken', holder.stderr);
  t.equal(holder.status, 0);
  await (await expectTaken(folder)).release();
});

t.test('takeStateLock() counts a stopped holder as a holder', async (t) => {
  const folder = await tempDir(t);
  const { child } = await contend(t, folder);
  child.kill('SIGSTOP');
  t.same(await take(folder), { kind: 'held', holder: { pid: null, host: null } });
  await kill(child);
});

t.test('takeStateLock() waits 1 s for a holder to answer', async (t) => {
  const folder = await tempDir(t);
  const mute = net.createServer().listen(join(folder, 'lock'));
  t.teardown(() => mute.close());
  await once(mute, 'listening');
  const connected = once(mute, 'connection') as Promise<[net.Socket]>;
  const clock = new ManualClock();
  let outcome: LockOutcome | null = null;
  const taking = takeStateLock(folder, clock).then((answer) => {
    outcome = answer;
  });
  const [socket] = await connected;
  await clock.advance(999);
  t.equal(outcome, null);
  await clock.advance(1);
  await taking;
  t.same(outcome, { kind: 'held', holder: { pid: null, host: null } });
  socket.destroy();
});

t.test('takeStateLock() takes any answer but a refusal for a holder, and believes none that is nonsense', async (t) => {
  for (const answer of ['', 'garbage', 'x'.repeat(600), '{"pid":"7"}']) {
    const folder = await tempDir(t);
    const server = net.createServer((socket) => socket.end(answer)).listen(join(folder, 'lock'));
    await once(server, 'listening');
    t.same(await take(folder), { kind: 'held', holder: { pid: null, host: null } });
    server.close();
  }
});

t.test('takeStateLock() replaces a lock file that nobody listens behind, whatever it is', async (t) => {
  const folder = await tempDir(t);
  await fs.writeFile(join(folder, 'lock'), 'an old pid file');
  const lock = await expectTaken(folder);
  t.ok((await fs.stat(join(folder, 'lock'))).isSocket());
  await lock.release();
});

t.test('takeStateLock() leaves a lock file alone on release that is no longer its own', async (t) => {
  const folder = await tempDir(t);
  const lock = await expectTaken(folder);
  await fs.rm(join(folder, 'lock'));
  await fs.writeFile(join(folder, 'lock'), 'of somebody else');
  await lock.release();
  t.equal(await fs.readFile(join(folder, 'lock'), 'utf8'), 'of somebody else');
});

t.test('takeStateLock() works in a folder whose path is longer than a socket address', async (t) => {
  const folder = join(await tempDir(t), 'long'.repeat(40));
  await fs.mkdir(folder);
  const { child, outcome } = await contend(t, folder);
  t.equal(outcome, 'taken');
  t.match(await take(folder), { kind: 'held', holder: { pid: child.pid } });
  await kill(child);
  await (await expectTaken(folder)).release();
});

t.test('takeStateLock() sees the same folder behind another path', async (t) => {
  const folder = await tempDir(t);
  const alias = join(await tempDir(t), 'alias');
  await fs.symlink(folder, alias);
  const lock = await expectTaken(alias);
  t.match(await take(folder), { kind: 'held' });
  await lock.release();
});

t.test('takeStateLock() tells of a folder that is not there', async (t) => {
  t.match(await take('/nowhere/at/all'), {
    kind: 'unusable',
    detail: /^Cannot take the lock of \/nowhere\/at\/all: ENOENT/,
  });
});

/** Why `unshare` cannot do this here; false: it can. */
function refusal(...args: string[]): string | false {
  const { status, stderr, error } = spawnSync('unshare', args, { encoding: 'utf8', timeout: 60_000 });
  return status === 0 ? false : `not allowed here: ${stderr || error}`;
}

t.test(
  'takeStateLock() keeps out a process of another network namespace that shares the folder',
  { skip: refusal('-n', 'true') },
  async (t) => {
    const folder = await tempDir(t);
    const { child, outcome } = await contend(t, folder, 'unshare', '-n');
    t.equal(outcome, 'taken');
    t.match(await take(folder), { kind: 'held', holder: { pid: child.pid } });
    t.match(await take(folder), { kind: 'held' }, 'and gave back what it had taken of it');
    await kill(child);
    const lock = await expectTaken(folder);
    t.equal((await contend(t, folder, 'unshare', '-n')).outcome, `held ${process.pid}`);
    await lock.release();
  },
);

t.test(
  'takeStateLock() locks a read-only folder by name alone, and says so',
  { skip: refusal('-m', 'mount', '-t', 'tmpfs', 'none', '/tmp') },
  async (t) => {
    const folder = await tempDir(t);
    const mount = 'mount -t tmpfs -o ro none "$0" && exec "$@"';
    const { outcome } = await contend(t, folder, 'unshare', '-m', 'sh', '-c', mount, folder);
    t.match(outcome, /^taken No lock file in .*: another container that shares it is not kept out$/);
  },
);
