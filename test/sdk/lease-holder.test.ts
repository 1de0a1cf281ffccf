import t from 'tap';
import { type LeaseEvents, LeaseHolder, type LeaseView } from '../../src/sdk/lease-holder.ts';
import type { Grant } from '../../src/sdk/lease-requests.ts';
import { localVerdict, parseVerdict } from '../../src/sdk/verdict.ts';
import { answered, LEASE_ID, live, PretendService, problem, result, UNREACHABLE } from './pretend-service.ts';

interface Held {
  readonly service: PretendService;
  readonly holder: LeaseHolder;
  readonly told: LeaseView[];
  readonly over: LeaseView[];
  readonly missed: string[];
  /** Time passes. */
  pass(ms: number): Promise<void>;
}

/** A lease that was granted now, and its holder at work. */
function hold(ttlSeconds = 30, action = 'PROCEED', events: LeaseEvents = {}): Held {
  const service = new PretendService();
  service.reply = () => answered(200, live('PROCEED', 0.8, ttlSeconds));
  const verdict = parseVerdict(result(action));
  if (!verdict) throw new Error('a result that is none');
  const ttlMs = ttlSeconds * 1000;
  const expiresAtMs = service.clock.now().elapsedMs + ttlMs;
  const grant: Grant = { kind: 'granted', id: LEASE_ID, ttlMs, verdict, intensityCap: 0.8, expiresAtMs };
  const held = { service, told: [] as LeaseView[], over: [] as LeaseView[], missed: [] as string[] };
  const holder = new LeaseHolder({ service, clock: service.clock }, grant, {
    onResult: (view) => held.told.push(view),
    onMissed: (detail) => held.missed.push(detail),
    onOver: (view) => held.over.push(view),
    ...events,
  });
  holder.start();
  return { ...held, holder, pass: (ms) => service.clock.advance(ms) };
}

t.test('LeaseHolder tells the grant at once and renews every 2 s, with a deadline of 5 s', async (t) => {
  const { service, holder, told, pass } = hold();
  t.match(told, [{ state: 'running', intensityCap: 0.8, end: null }]);
  await pass(6_000);
  t.same(
    service.asks('PUT').map(({ atMs }) => atMs),
    [2_000, 4_000, 6_000],
  );
  t.match(service.asked[0], { path: `/leases/${LEASE_ID}`, body: {}, timeoutMs: 5_000 });
  await holder.release();
});

t.test('LeaseHolder renews a short lease every third of its TTL, with that as its deadline', async (t) => {
  const { service, holder, pass } = hold(5.1);
  await pass(3_400);
  t.match(service.asked, [
    { atMs: 1_700, timeoutMs: 1_700 },
    { atMs: 3_400, timeoutMs: 1_700 },
  ]);
  await holder.release();
});

t.test('LeaseHolder pauses on WAIT_COOLDOWN, asks every second then, and runs on PROCEED', async (t) => {
  const { service, holder, told, pass } = hold();
  service.reply = () => answered(200, live('WAIT_COOLDOWN'));
  await pass(4_000);
  t.equal(holder.view.state, 'paused');
  t.same(
    service.asks('PUT').map(({ atMs }) => atMs),
    [2_000, 3_000, 4_000],
  );
  service.reply = () => answered(200, live('PROCEED'));
  await pass(1_000);
  t.equal(holder.view.state, 'running');
  t.same(
    told.map(({ state }) => state),
    ['running', 'paused', 'paused', 'paused', 'running'],
  );
  await holder.release();
});

t.test('LeaseHolder hands on the cap of REDUCE_INTENSITY and runs on', async (t) => {
  const { service, holder, pass } = hold();
  service.reply = () => answered(200, live('REDUCE_INTENSITY', 0.4));
  await pass(2_000);
  t.match(holder.view, { state: 'running', intensityCap: 0.4, verdict: { action: 'REDUCE_INTENSITY' } });
  await holder.release();
});

t.test('LeaseHolder is over on ABORT, tells it once, renews no more, and still gives the lease back', async (t) => {
  const { service, holder, over, pass } = hold();
  service.reply = () => answered(200, live('ABORT'));
  await pass(60_000);
  t.match(over, [{ state: 'over', intensityCap: 0, end: 'aborted', verdict: { reason: 'it is ABORT' } }]);
  t.equal(service.asks('PUT').length, 1);
  service.reply = () => answered(204, {});
  t.equal(await holder.release(), null);
  t.equal(service.asks('DELETE').length, 1);
});

t.test('LeaseHolder is over when the grant itself says ABORT', async (t) => {
  const { service, over, told, pass } = hold(30, 'ABORT');
  t.match(over, [{ end: 'aborted' }]);
  t.same(told, []);
  await pass(10_000);
  t.same(service.asked, []);
});

t.test('LeaseHolder is over on 410, with the outcome and the reason, and gives nothing back', async (t) => {
  for (const outcome of ['stopped', 'lapsed', 'revoked', 'released'] as const) {
    const { service, holder, over, pass } = hold();
    service.reply = () => problem('lease-ended', 410, { outcome, reason: 'GPU 2 is at 86 °C' });
    await pass(2_000);
    const reason = `The lease was ${outcome}: GPU 2 is at 86 °C`;
    t.match(over, [{ end: outcome, verdict: { action: 'ABORT', local: 'lease-ended', reason } }]);
    await holder.release();
    t.same(service.asks('DELETE'), []);
  }
});

t.test('LeaseHolder takes a lease that nobody knows for a lapsed one', async (t) => {
  const { service, over, pass } = hold();
  service.reply = () => problem('lease-unknown', 404);
  await pass(2_000);
  t.match(over, [{ end: 'lapsed', verdict: { local: 'lease-unknown', reason: /does not know the lease/ } }]);
});

t.test(
  'LeaseHolder is over when nothing was heard for the TTL, counted from when the last renewal was sent',
  async (t) => {
    const { service, over, missed, pass } = hold(30);
    let answers = 0;
    service.reply = async () => {
      // Each answer takes a second and a half; the third never comes.
      if (++answers > 2) await service.clock.sleep(1e9);
      await service.clock.sleep(1_500);
      return answered(200, live());
    };
    await pass(5_500);
    t.equal(service.asks('PUT')[1]?.atMs, 5_500);
    service.reply = () => 'never';
    await pass(1_500);
    t.equal(service.nowMs, 7_000, 'the renewal sent at 5.5 s has been answered');
    await pass(35_499 - 7_000);
    t.same(over, []);
    await pass(1);
    t.match(over, [{ state: 'over', end: 'lost', verdict: { safe: false, action: 'ABORT', local: 'service-lost' } }]);
    t.match(over[0]?.verdict.reason, /Nothing was heard from http:\/\/pretended for 30 s.*no answer within/);
    t.equal(missed.length, 1, 'an outage is told of once');
  },
);

t.test('LeaseHolder keeps trying every second through answers that renew nothing, until the TTL is over', async (t) => {
  const replies = {
    'an evaluation that is too old': problem('evaluation-too-old', 503),
    'a replica that does not lead': problem('not-leader', 503),
    'a state that is not known': problem('state-unknown', 503),
    'a token that is not known any more': problem('token-invalid', 401),
    'a connection refused': UNREACHABLE,
    'an answer of something else': answered(200, {}),
    'another lease': answered(200, live('PROCEED', 0.8, 30, 'b0000000-0000-4000-8000-000000000000')),
    'an action that is not known here': answered(200, live('DANCE')),
    'a cap over 1': answered(200, live('PROCEED', 1.5)),
    'a result that contradicts itself': answered(200, { ...live(), result: { ...result('ABORT'), safe: true } }),
  };
  for (const [what, reply] of Object.entries(replies)) {
    const { service, over, pass } = hold(6);
    service.reply = () => reply;
    await pass(5_999);
    t.same(over, [], what);
    t.same(
      service.asks('PUT').map(({ atMs }) => atMs),
      [2_000, 3_000, 4_000, 5_000],
      what,
    );
    await pass(1);
    t.match(over, [{ end: 'lost' }], what);
  }
});

t.test('LeaseHolder recovers from an outage shorter than the TTL', async (t) => {
  const { service, holder, over, missed, pass } = hold(6);
  service.reply = () => UNREACHABLE;
  await pass(4_500);
  service.reply = () => answered(200, live('PROCEED', 0.8, 6));
  await pass(60_000);
  t.same(over, []);
  service.reply = () => UNREACHABLE;
  await pass(3_000);
  t.equal(missed.length, 2, 'each outage is told of');
  await holder.release();
});

t.test('LeaseHolder gives no request more time than the lease has left', async (t) => {
  const { service, over, pass } = hold(5);
  service.reply = () => 'never';
  await pass(5_000);
  const last = service.asked.at(-1);
  t.ok(last && last.atMs + last.timeoutMs <= 5_000);
  t.equal(over.length, 1);
});

t.test('LeaseHolder.view knows of the lapse before any timer had its turn', async (t) => {
  const { service, holder, over } = hold(5);
  t.equal(holder.view.state, 'running');
  const { elapsedMs, wallMs } = service.clock.now();
  service.clock.now = () => ({ elapsedMs: elapsedMs + 5_000, wallMs });
  t.match(holder.view, { state: 'over', end: 'lost', verdict: { reason: /too busy to renew it/ } });
  t.equal(over.length, 1);
});

t.test('LeaseHolder takes no late answer for a renewal', async (t) => {
  const { service, holder, pass } = hold(5);
  let answer = (): void => undefined;
  service.reply = () =>
    new Promise((resolve) => {
      answer = () => resolve(answered(200, live('PROCEED', 0.8, 5)));
    });
  await pass(2_000);
  const { now } = service.clock;
  service.clock.now = () => ({ ...now.call(service.clock), elapsedMs: now.call(service.clock).elapsedMs + 10_000 });
  answer();
  await pass(0);
  t.equal(holder.view.end, 'lost');
});

t.test('LeaseHolder renews at once on a hint, and listens no longer than it holds', async (t) => {
  const { service, holder, pass } = hold();
  await pass(300);
  service.hint();
  await pass(0);
  t.same(
    service.asks('PUT').map(({ atMs }) => atMs),
    [300],
  );
  await pass(2_000);
  t.equal(service.asks('PUT').length, 2, 'and goes on in its rhythm');
  await holder.release();
  t.equal(service.listeners, 0);
});

t.test('LeaseHolder.release() stops renewing at once, gives back once, and calls no onOver', async (t) => {
  const { service, holder, over, pass } = hold();
  service.reply = () => answered(204, {});
  const releasing = holder.release();
  t.match(holder.view, { state: 'over', end: 'given-back' });
  t.equal(await releasing, null);
  await holder.release();
  await pass(60_000);
  t.match(service.asked, [{ method: 'DELETE', path: `/leases/${LEASE_ID}`, timeoutMs: 5_000 }]);
  t.same(over, []);
});

t.test('LeaseHolder.release() tells why a lease could not be given back', async (t) => {
  const { service, holder } = hold();
  service.reply = () => UNREACHABLE;
  t.match(await holder.release(), /connection refused/);
});

t.test('LeaseHolder.release() ignores a renewal that is still under way, whatever it brings', async (t) => {
  for (const late of [problem('lease-ended', 410, { outcome: 'released', reason: 'x' }), answered(200, live())]) {
    const { service, holder, over, told, pass } = hold();
    let answer = (): void => undefined;
    service.reply = ({ method }) =>
      method === 'DELETE'
        ? answered(204, {})
        : new Promise((resolve) => {
            answer = () => resolve(late);
          });
    await pass(2_000);
    await holder.release();
    answer();
    await pass(10_000);
    t.same(over, []);
    t.equal(told.length, 1);
    t.equal(holder.view.end, 'given-back');
    t.equal(service.asks('PUT').length, 1);
  }
});

t.test('LeaseHolder.end() ends it from this side at once, and the first end stays', async (t) => {
  const { service, holder, over, pass } = hold();
  holder.end(localVerdict('ABORT', 'emergency-stop', 'smoke'));
  holder.end(localVerdict('ABORT', 'emergency-stop', 'fire'));
  await pass(60_000);
  t.match(over, [{ end: 'ended-here', verdict: { reason: 'smoke' } }]);
  t.equal(over.length, 1);
  t.same(service.asks('PUT'), []);
});
