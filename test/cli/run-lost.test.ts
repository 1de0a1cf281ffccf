// Whoever dies, freezes or is cut off: the load is gone within the lease's TTL + 5 s, and somebody says why.
import t from 'tap';
import { networkTo } from '../sdk/cut-network.ts';
import { startRig, until } from '../sdk/real-rig.ts';
import { isAlive, type Started, start } from './run-started.ts';

t.setTimeout(120_000);
const rigs = await Promise.all([startRig(t), startRig(t)]);
const TTL_SECONDS = 5;
const LIMIT_MS = TTL_SECONDS * 1000 + 5_000;
/** Deaf to SIGTERM, and with a child in a session of its own. */
const STUBBORN =
  'trap "" TERM; setsid sh -c \'trap "" TERM; echo $$; while :; do sleep 1; done\' & echo $$; while :; do sleep 1; done';

type Test = Parameters<typeof start>[0];
interface Load {
  readonly run: Started;
  readonly pids: readonly number[];
}

async function startLoad(t: Test, url: string): Promise<Load> {
  const args = ['run', '--ttl', String(TTL_SECONDS), '--', 'sh', '-c', STUBBORN];
  const run = start(t, args, { VSF_SAFETY_URL: url });
  await until('a load', () => run.out().split('\n').length > 2);
  const pids = run.out().trim().split('\n').map(Number);
  t.ok(pids.every(isAlive));
  t.teardown(() => {
    for (const pid of pids) if (isAlive(pid)) process.kill(pid, 'SIGKILL');
  });
  return { run, pids };
}

async function goneIn({ pids }: Load): Promise<number> {
  const startMs = performance.now();
  await until('the end of the load', () => !pids.some(isAlive), 30_000);
  return performance.now() - startMs;
}

t.test('run leaves nothing behind when it is killed with -9 or frozen itself', async (t) => {
  const [{ url }] = rigs;
  const [killed, frozen] = await Promise.all([startLoad(t, url), startLoad(t, url)]);
  killed.run.child.kill('SIGKILL');
  const killedMs = await goneIn(killed);
  t.ok(killedMs <= LIMIT_MS, `gone ${Math.round(killedMs)} ms after kill -9`);
  t.match(killed.run.err(), /run has ended without a farewell: stopping its workload/);
  frozen.run.child.kill('SIGSTOP');
  const frozenMs = await goneIn(frozen);
  t.ok(frozenMs <= LIMIT_MS, `gone ${Math.round(frozenMs)} ms after SIGSTOP`);
  frozen.run.child.kill('SIGCONT');
  t.equal(await frozen.run.ended, 76);
});

t.test('run is not fooled by a command that is killed: its code says so', async (t) => {
  const [{ url }] = rigs;
  const { run, pids } = await startLoad(t, url);
  const leader = Number(pids.find((pid) => pid === Math.min(...pids)));
  process.kill(leader, 'SIGKILL');
  t.equal(await run.ended, 137);
  t.same(pids.filter(isAlive), []);
});

t.test('run stops its command within TTL + 5 s of a service that is killed, frozen, or cut off', async (t) => {
  const [killed, frozen] = rigs;
  const network = await networkTo(t, killed.url);
  const cut = await startLoad(t, network.url);
  network.cut();
  const ends = [goneIn(cut)];
  const [first, second] = await Promise.all([startLoad(t, killed.url), startLoad(t, frozen.url)]);
  killed.child.kill('SIGKILL');
  frozen.child.kill('SIGSTOP');
  ends.push(goneIn(first), goneIn(second));
  const why = [/no answer within/, /refused|cut/, /no answer within/];
  for (const [index, { run }] of [cut, first, second].entries()) {
    const ms = (await ends[index]) ?? Number.NaN;
    t.ok(ms <= LIMIT_MS, `gone after ${Math.round(ms)} ms`);
    t.equal(await run.ended, 76);
    t.match(run.err(), /stopping for safety: Nothing was heard from .* for 5 s/);
    t.match(run.err(), why[index] ?? /never/);
  }
});
