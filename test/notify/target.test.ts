import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { EventName, Message } from '../../src/domain/events.ts';
import { NoticeQueue } from '../../src/notify/notice-queue.ts';
import { NotifyTarget } from '../../src/notify/target.ts';
import type { HttpAnswer, HttpPost } from '../../src/sources/http-get.ts';
import { DomainWorld } from '../support/domain-world.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { freshFolder } from '../support/real-service.ts';

const EVENTS: readonly EventName[] = ['tripped', 'reset', 'cooling-started'];

const answered = (status: number): HttpAnswer => ({
  kind: 'answered',
  status,
  statusText: '',
  contentType: undefined,
  dateMs: null,
  body: Buffer.alloc(0),
  isComplete: true,
  hasDeclaredEnd: true,
});
const broken = (detail: string): HttpAnswer => ({ kind: 'failed', cause: 'refused', detail });

interface Sent {
  readonly atMs: number;
  readonly message: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** A target whose webhook answers as a test says; the jitter is none. */
function rig(t: Test, options: { readonly secretFile?: string; readonly random?: () => number } = {}) {
  const clock = new ManualClock();
  const startMs = clock.now().elapsedMs;
  const { state } = DomainWorld.running();
  const sent: Sent[] = [];
  const logged: string[] = [];
  const webhook = { answer: (): HttpAnswer | Promise<HttpAnswer> => answered(204) };
  const post: HttpPost = async (_url, { body, headers = {} }) => {
    sent.push({ atMs: clock.now().elapsedMs - startMs, message: JSON.parse(body).message, headers });
    return webhook.answer();
  };
  const target = new NotifyTarget(
    {
      name: 'ops',
      url: 'https://hooks.lab/services/T0/SECRETPATH',
      format: 'plain',
      secretFile: options.secretFile ?? null,
      events: EVENTS,
    },
    new NoticeQueue(new Set(EVENTS)),
    {
      clock,
      post,
      credentials: null,
      state: () => state,
      log: { warn: (text) => logged.push(text), info: (text) => logged.push(text) },
      random: options.random ?? (() => 1),
    },
  );
  t.teardown(() => target.close());
  let sequence = 0;
  const tell = (name: EventName, text: string): void => {
    sequence += 1;
    const data = { name, message: text };
    target.take({ type: 'event', sequence, at: '2026-01-01T00:00:00.000Z', data } as Message);
  };
  return { clock, sent, logged, webhook, target, tell };
}

t.test('NotifyTarget tries again with growing pauses, keeps the order, and says so once', async (t) => {
  const { clock, sent, logged, webhook, target, tell } = rig(t);
  webhook.answer = () => broken('the connection was refused');
  tell('reset', 'first');
  tell('cooling-started', 'second');
  await clock.advance(100_000);
  t.same(
    sent.map(({ atMs }) => atMs),
    [0, 1_000, 3_000, 7_000, 15_000, 31_000, 61_000, 91_000],
  );
  t.same(new Set(sent.map(({ message }) => message)), new Set(['first']));
  t.match(target.status(), { ok: false, pending: 2, sent: 0, failed: 8, dropped: 0, host: 'hooks.lab' });
  t.match(target.status().lastError, { detail: 'the connection was refused' });
  webhook.answer = () => answered(200);
  sent.length = 0;
  await clock.advance(60_000);
  t.same(
    sent.map(({ message }) => message),
    ['first', 'second'],
  );
  t.match(target.status(), { ok: true, pending: 0, sent: 2 });
  t.same(logged, [
    'Cannot tell webhook ops, tried again until it works: the connection was refused',
    'Webhook ops takes what it is told again',
  ]);
  t.notMatch(JSON.stringify([logged, target.status()]), /SECRETPATH/);
});

t.test('NotifyTarget tries a trip at once, whatever pause it is in, and everything else after it', async (t) => {
  const { clock, sent, webhook, tell } = rig(t);
  webhook.answer = () => broken('down');
  tell('reset', 'first');
  await clock.advance(65_000);
  const before = sent.length;
  tell('cooling-started', 'second');
  await clock.advance(1);
  t.equal(sent.length, before, 'a cooldown waits');
  webhook.answer = () => answered(202);
  tell('tripped', 'third');
  await clock.advance(1);
  t.same(
    sent.slice(before).map(({ message }) => message),
    ['first', 'second', 'third'],
  );
});

t.test('NotifyTarget gives up only what will never be taken', async (t) => {
  const { clock, sent, webhook, target, tell } = rig(t);
  for (const status of [400, 413, 415, 422]) {
    webhook.answer = () => answered(status);
    tell('reset', `refused ${status}`);
    await clock.advance(100_000);
    t.match(target.status(), { pending: 0, lastError: { detail: `it answered ${status}` } });
  }
  t.equal(target.status().dropped, 4);
  t.equal(sent.length, 4);
  for (const status of [401, 403, 404, 408, 429, 500, 503]) {
    webhook.answer = () => answered(status);
    tell('reset', `kept ${status}`);
    await clock.advance(1_500);
    t.match(target.status(), { ok: false, pending: 1 }, `${status}`);
    webhook.answer = () => answered(200);
    await clock.advance(30_000);
    t.equal(target.status().pending, 0);
  }
});

t.test('NotifyTarget pauses between half of the time and all of it', async (t) => {
  const { clock, sent, webhook, tell } = rig(t, { random: () => 0 });
  webhook.answer = () => broken('down');
  tell('reset', 'x');
  await clock.advance(3_400);
  t.same(
    sent.map(({ atMs }) => atMs),
    [0, 500, 1_500],
  );
});

t.test('NotifyTarget sends nothing unsigned when its secret cannot be read, and signs once it can', async (t) => {
  const secretFile = join(freshFolder(t), 'secret');
  const { clock, sent, target, tell } = rig(t, { secretFile });
  // The disk takes real time, the pauses do not: a busy machine may need some tries.
  const until = async (holds: () => boolean): Promise<void> => {
    for (let i = 0; i < 3_000 && !holds(); i++) {
      await clock.advance(50);
      await new Promise((done) => setTimeout(done, 2));
    }
  };
  const isToldOf = (words: RegExp) => () => words.test(target.status().lastError?.detail ?? '');
  tell('reset', 'x');
  await until(isToldOf(/no such file/));
  t.match(target.status().lastError, { detail: /secret cannot be read: no such file/ });
  writeFileSync(secretFile, 'short\n');
  await until(isToldOf(/16 bytes/));
  t.match(target.status().lastError, { detail: /holds no secret: it needs 16 bytes or more/ });
  t.equal(sent.length, 0);
  writeFileSync(secretFile, 'a secret of more than sixteen bytes\n');
  await until(() => sent.length > 0);
  t.match(sent[0]?.headers, { 'webhook-id': /^instance-1-1$/, 'webhook-signature': /^v1,/ });
});

t.test('NotifyTarget lets go of a request that hangs when it is closed', async (t) => {
  const { clock, webhook, target, tell } = rig(t);
  let end: (answer: HttpAnswer) => void = () => undefined;
  webhook.answer = () => new Promise((resolve) => (end = resolve));
  tell('tripped', 'x');
  await clock.advance(1);
  const closing = target.close();
  end(broken('the question was broken off'));
  await closing;
  t.equal(target.status().pending, 1);
});
