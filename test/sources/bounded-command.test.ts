import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { setInterval as realInterval } from 'node:timers';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/clock.ts';
import {
  BoundedCommand,
  type Child,
  type ChildEnd,
  type CommandAnswer,
  type Launch,
} from '../../src/sources/bounded-command.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { type StandIn, standIn } from '../support/stand-in-command.ts';
import { untilTrue } from '../support/sysfs-tree.ts';

const nowMs = (): number => systemClock.now().elapsedMs;

/** The stand-in `tool` as a command on the real clock, since real processes take real time to die. */
async function tool(t: Test, script: string): Promise<{ command: BoundedCommand; program: StandIn }> {
  const program = await standIn(t, 'tool', script);
  return { program, command: new BoundedCommand({ clock: systemClock, command: 'tool', env: program.env }) };
}

/** A run with `allowedMs` to go, and how long it took. */
async function timed(command: BoundedCommand, allowedMs: number): Promise<{ answer: CommandAnswer; tookMs: number }> {
  const startMs = nowMs();
  const answer = await command.run([], startMs + allowedMs);
  return { answer, tookMs: nowMs() - startMs };
}

const isGone = (program: StandIn) => async (): Promise<boolean> => (await program.live()).length === 0;

t.test('BoundedCommand.run() gives status, stdout and stderr apart, whatever the status', async (t) => {
  const { command } = await tool(t, 'echo "no driver"; echo "said twice" >&2; exit 9');
  t.strictSame(await command.run([], nowMs() + 5000), {
    ok: true,
    status: 9,
    stdout: 'no driver\n',
    stderr: 'said twice\n',
  });
});

t.test('BoundedCommand.run() gives all of an output that is larger than a pipe', async (t) => {
  const { command } = await tool(t, 'head -c 300000 /dev/zero | tr "\\0" x');
  const answer = await command.run([], nowMs() + 5000);
  t.equal(answer.ok && answer.stdout.length, 300_000);
});

t.test(
  'BoundedCommand.run() uses no shell, no standard input, the C locale and a process group of its own',
  async (t) => {
    const program = await standIn(
      t,
      'tool',
      'cat; pwd; echo "$LC_ALL $LANG $KEPT"; ps -o pgid= -p $$; echo $$; printf "%s|" "$@"',
    );
    const env = { ...program.env, LC_ALL: 'de_DE.UTF-8', LANG: 'de_DE.UTF-8', KEPT: 'yes' };
    const command = new BoundedCommand({ clock: systemClock, command: 'tool', env });
    const answer = await command.run(['-i', '$(id) ; `id` "*"'], nowMs() + 5000);
    t.ok(answer.ok);
    const [folder, locale, group, pid, args] = answer.ok ? answer.stdout.split('\n') : [];
    t.equal(folder, '/', 'a removed working directory would look like a missing tool');
    t.equal(locale, 'C C yes');
    t.equal(group?.trim(), pid);
    t.equal(args, '-i|$(id) ; `id` "*"|');
  },
);

t.test('BoundedCommand.run() says not-installed where there is no such program', async (t) => {
  const { program } = await tool(t, 'exit 0');
  const command = new BoundedCommand({ clock: systemClock, command: 'other-tool', env: program.env });
  t.match(await command.run([], nowMs() + 5000), { ok: false, cause: 'not-installed', detail: /other-tool/ });
});

t.test('BoundedCommand.run() says failed where the program cannot be started: it is there', async (t) => {
  const { command, program } = await tool(t, 'exit 0');
  await chmod(join(program.folder, 'tool'), 0o644);
  t.match(await command.run([], nowMs() + 5000), { ok: false, cause: 'failed', detail: /EACCES/ });
  t.match(await command.run(['a\0b'], nowMs() + 5000), { ok: false, cause: 'failed', detail: /ERR_INVALID_ARG_VALUE/ });
});

t.test('BoundedCommand.run() trusts no output of a tool that a signal ended', async (t) => {
  const { command } = await tool(t, 'printf "0, 6"; kill -SEGV $$');
  t.match(await command.run([], nowMs() + 5000), { ok: false, cause: 'failed', detail: /SIGSEGV/ });
});

t.test('BoundedCommand.run() starts nothing when no time is left', async (t) => {
  const { command, program } = await tool(t, 'echo started');
  t.match(await command.run([], nowMs() - 1), { ok: false, cause: 'timeout' });
  t.strictSame(await program.calls(), []);
});

t.test(
  'BoundedCommand.run() ends a tool that writes more than is taken, and does not wait for its deadline',
  async (t) => {
    const program = await standIn(t, 'tool', 'exec yes');
    const command = new BoundedCommand({ clock: systemClock, command: 'tool', env: program.env, maxOutputBytes: 5000 });
    const { answer, tookMs } = await timed(command, 20_000);
    t.match(answer, { ok: false, cause: 'failed', detail: /more than 5000 bytes/ });
    t.ok(tookMs < 10_000, `${tookMs} ms`);
    t.strictSame(await program.live(), []);
  },
);

t.test(
  'BoundedCommand.run() gives no part of an output that is too large, even if the tool ended by itself',
  async (t) => {
    const clock = new ManualClock();
    const { launch, started } = scriptedChildren();
    const command = new BoundedCommand({ clock, command: 'tool', env: {}, maxOutputBytes: 10, launch });
    for (const [output, expected] of [
      ['0, 61\n1, 62', { ok: false, cause: 'failed', detail: /more than 10 bytes/ }],
      ['0, 61\n1, ', { ok: true, stdout: '0, 61\n1, ' }],
    ] as const) {
      const run = command.run([], clock.now().elapsedMs + 4000);
      started.at(-1)?.write(output);
      started.at(-1)?.end({ kind: 'exited', status: 0, signal: null });
      t.match(await run, expected, output);
    }
  },
);

t.test('BoundedCommand.run() asks a tool that hangs to go, before its deadline, and lets it tidy up', async (t) => {
  const { command, program } = await tool(t, 'trap "echo asked >> $STAND_IN/calls; exit 0" TERM; sleep 60 & wait');
  const { answer, tookMs } = await timed(command, 1500);
  t.match(answer, { ok: false, cause: 'timeout', detail: /1500 ms/ });
  t.ok(tookMs >= 850 && tookMs < 1900, `${tookMs} ms`);
  t.strictSame(await program.calls(), ['asked'], 'the first call, without arguments, leaves an empty line');
  t.strictSame(await program.live(), [], 'the sleep in its group has gone with it');
});

t.test(
  'BoundedCommand.run() kills a tool that ignores TERM, answers in time and keeps the event loop free',
  async (t) => {
    const { command, program } = await tool(t, 'trap "" TERM; while :; do sleep 1; done');
    let lastMs = nowMs();
    let longestPauseMs = 0;
    const timer = realInterval(() => {
      longestPauseMs = Math.max(longestPauseMs, nowMs() - lastMs);
      lastMs = nowMs();
    }, 10);
    const { answer, tookMs } = await timed(command, 1200);
    clearInterval(timer);
    t.match(answer, { ok: false, cause: 'timeout' });
    t.ok(tookMs >= 900 && tookMs < 1600, `${tookMs} ms`);
    t.ok(longestPauseMs < 500, `a 10 ms timer was held up for ${longestPauseMs} ms`);
    t.strictSame(await program.live(), []);
    await program.become('echo again');
    t.match(await command.run([], nowMs() + 5000), { ok: true, stdout: 'again\n' });
  },
);

t.test('BoundedCommand.run() does not wait for a grandchild that keeps the pipe open, and ends it', async (t) => {
  for (const [kind, grandchild] of [
    ['that obeys', 'sleep 60 &'],
    ['that ignores TERM', '(trap "" TERM; while :; do sleep 1; done) &'],
  ] as const) {
    const { command, program } = await tool(t, `${grandchild} echo answer`);
    const { answer, tookMs } = await timed(command, 20_000);
    t.match(answer, { ok: true, status: 0, stdout: 'answer\n' }, `a grandchild ${kind}`);
    t.ok(tookMs < 5000, `${tookMs} ms`);
    await untilTrue(isGone(program));
    t.strictSame(await program.live(), [], `a grandchild ${kind} is ended`);
  }
});

t.test('BoundedCommand.run() reports a real process that no signal reaches, and starts no second one', async (t) => {
  // A wrapper that dies as told, with the tool proper out of reach in a session of its own, as in uninterruptible sleep.
  const { command, program } = await tool(t, 'setsid sleep 60 & wait');
  t.match((await timed(command, 600)).answer, { ok: false, cause: 'unkillable' });
  const [stuck, ...others] = await program.live();
  t.strictSame(others, []);
  const again = await timed(command, 20_000);
  t.match(again.answer, { ok: false, cause: 'unkillable', detail: /none other is started/ });
  t.ok(again.tookMs < 1000, `${again.tookMs} ms`);
  t.strictSame(await program.live(), [stuck]);

  process.kill(Number(stuck), 'SIGKILL');
  await program.become('echo afresh');
  let last = again.answer;
  await untilTrue(async () => {
    last = await command.run([], nowMs() + 5000);
    return last.ok;
  });
  t.match(last, { ok: true, stdout: 'afresh\n' });
});

interface ScriptedChild {
  readonly signals: string[];
  isLetGo: boolean;
  write(text: string): void;
  end(end: ChildEnd): void;
}

/** Children that end when a test says so; nothing is really started. */
function scriptedChildren(): { launch: Launch; started: ScriptedChild[] } {
  const started: ScriptedChild[] = [];
  const launch: Launch = () => {
    const { promise, resolve } = deferred<ChildEnd>();
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const record: ScriptedChild = {
      signals: [],
      isLetGo: false,
      write: (text) => stdout.write(text),
      end(end: ChildEnd) {
        resolve(end);
        stdout.end();
        stderr.end();
      },
    };
    started.push(record);
    const child: Child = {
      pid: 4711,
      stdout,
      stderr,
      ended: promise,
      signal: (signal) => record.signals.push(signal),
      letGo: () => {
        record.isLetGo = true;
      },
    };
    return child;
  };
  return { launch, started };
}

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((fulfil) => {
    resolve = fulfil;
  });
  return { promise, resolve };
}

t.test('BoundedCommand.run() abandons a child whose exit never comes, at its deadline, until it is gone', async (t) => {
  const clock = new ManualClock();
  const { launch, started } = scriptedChildren();
  const command = new BoundedCommand({ clock, command: 'tool', env: {}, launch });
  const startMs = clock.now().elapsedMs;
  let answer: CommandAnswer | undefined;
  void command.run([], startMs + 4000).then((given) => {
    answer = given;
  });

  await clock.advance(3399);
  t.strictSame(started[0]?.signals, [], 'nothing is sent while it may still answer');
  await clock.advance(1);
  t.strictSame(started[0]?.signals, ['SIGTERM'], '600 ms before the deadline');
  await clock.advance(399);
  t.strictSame(started[0]?.signals, ['SIGTERM']);
  await clock.advance(1);
  t.strictSame(started[0]?.signals, ['SIGTERM', 'SIGKILL'], '200 ms before the deadline');
  await clock.advance(199);
  t.equal(answer, undefined);
  await clock.advance(1);
  t.match(answer, { ok: false, cause: 'unkillable', detail: /process 4711 did not end within 4000 ms/ });
  t.equal(started[0]?.isLetGo, true, 'it does not keep the service from ending');

  await clock.advance(33_000);
  const later = await command.run([], clock.now().elapsedMs + 4000);
  t.match(later, { ok: false, cause: 'unkillable', detail: /process 4711 has hung for 37 s/ });
  t.equal(started.length, 1, 'no second child');

  started[0]?.end({ kind: 'exited', status: null, signal: 'SIGKILL' });
  await clock.advance(0);
  const afresh = command.run([], clock.now().elapsedMs + 4000);
  t.equal(started.length, 2);
  started[1]?.end({ kind: 'exited', status: 0, signal: null });
  t.match(await afresh, { ok: true, status: 0 });
});

t.test('BoundedCommand.run() refuses a second run beside one under way', async (t) => {
  const clock = new ManualClock();
  const { launch, started } = scriptedChildren();
  const command = new BoundedCommand({ clock, command: 'tool', env: {}, launch });
  const first = command.run([], clock.now().elapsedMs + 4000);
  t.match(await command.run([], clock.now().elapsedMs + 4000), { ok: false, cause: 'failed', detail: /none other/ });
  t.equal(started.length, 1);
  started[0]?.end({ kind: 'exited', status: 0, signal: null });
  t.match(await first, { ok: true });
});

t.test('BoundedCommand.run() divides a short time in the same order: TERM, KILL, answer', async (t) => {
  const clock = new ManualClock();
  const { launch, started } = scriptedChildren();
  const command = new BoundedCommand({ clock, command: 'tool', env: {}, launch });
  const run = command.run([], clock.now().elapsedMs + 300);
  await clock.advance(149);
  t.strictSame(started[0]?.signals, []);
  await clock.advance(1);
  t.strictSame(started[0]?.signals, ['SIGTERM']);
  await clock.advance(100);
  t.strictSame(started[0]?.signals, ['SIGTERM', 'SIGKILL']);
  await clock.advance(50);
  t.match(await run, { ok: false, cause: 'unkillable' });
});

t.test(
  'BoundedCommand.close() asks the tool to go, never kills it, answers at once and refuses further runs',
  async (t) => {
    const clock = new ManualClock();
    const { launch, started } = scriptedChildren();
    const command = new BoundedCommand({ clock, command: 'tool', env: {}, launch });
    const run = command.run([], clock.now().elapsedMs + 4000);
    command.close();
    t.match(await run, { ok: false, cause: 'failed', detail: /closed/ });
    t.equal(started[0]?.isLetGo, true);
    await clock.advance(60_000);
    t.strictSame(started[0]?.signals, ['SIGTERM']);
    t.match(await command.run([], clock.now().elapsedMs + 4000), { ok: false, cause: 'failed', detail: /closed/ });
    t.equal(started.length, 1);
  },
);
