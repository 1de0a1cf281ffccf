import t from 'tap';
import { askLease, askPreflight, releaseLease, waitForLease } from '../../src/sdk/lease-requests.ts';
import type { ServiceAnswer } from '../../src/sdk/safety-service.ts';
import { answered, LEASE_ID, live, PretendService, problem, result, UNREACHABLE } from './pretend-service.ts';

const ASK = { workload: 'train-7', id: LEASE_ID };

/** Lets time pass until the promise has settled. */
async function settled<T>(service: PretendService, work: Promise<T>): Promise<T> {
  let isDone = false;
  const watched = work.finally(() => {
    isDone = true;
  });
  watched.catch(() => undefined);
  for (let second = 0; !isDone && second < 200; second++) await service.clock.advance(1_000);
  return watched;
}

t.test('askLease() sends what is asked and counts the TTL from when it was sent', async (t) => {
  const service = new PretendService();
  service.reply = async () => {
    await service.clock.sleep(3_000);
    return answered(201, live());
  };
  const ask = { ...ASK, intensity: 0.6, nodes: ['bizon1'], constraints: 'bizon1', ttlSeconds: 30 } as const;
  const sentAtMs = service.clock.now().elapsedMs;
  const grant = await settled(service, askLease(service, service.clock, ask));
  t.match(grant, { kind: 'granted', id: LEASE_ID, ttlMs: 30_000, intensityCap: 0.8, expiresAtMs: sentAtMs + 30_000 });
  t.match(service.asked, [{ method: 'POST', path: '/leases', body: ask, timeoutMs: 8_000 }]);
});

t.test('askLease() makes a UUID, a new one for each lease', async (t) => {
  const service = new PretendService();
  service.reply = ({ body }) => answered(201, live('PROCEED', 0.8, 30, (body as { id: string }).id));
  const first = await askLease(service, service.clock, { workload: 'w' });
  const second = await askLease(service, service.clock, { workload: 'w' });
  t.match(first, { kind: 'granted', id: /^[0-9a-f-]{36}$/ });
  t.not((first as { id: string }).id, (second as { id: string }).id);
});

t.test(
  'askLease() asks again by the same id when the answer was lost, and renews before it relies on it',
  async (t) => {
    const service = new PretendService();
    const replies: (ServiceAnswer | 'never')[] = ['never', answered(201, live('PROCEED', 0.8, 15))];
    service.reply = ({ method }) => {
      if (method === 'POST') return replies.shift() ?? UNREACHABLE;
      return method === 'PUT' ? answered(200, live('REDUCE_INTENSITY', 0.4, 15)) : answered(204, {});
    };
    const start = service.clock.now().elapsedMs;
    const grant = await settled(
      service,
      askLease(service, service.clock, { workload: 'w', id: LEASE_ID.toUpperCase() }),
    );
    t.match(service.asks('POST'), [{ body: { id: LEASE_ID } }, { body: { id: LEASE_ID } }]);
    t.match(grant, { kind: 'granted', intensityCap: 0.4, expiresAtMs: start + 8_500 + 15_000 });
  },
);

t.test('askLease() refuses a late grant that cannot be renewed, and gives it back', async (t) => {
  for (const renewal of [UNREACHABLE, problem('lease-ended', 410, { outcome: 'lapsed', reason: 'x' })]) {
    const service = new PretendService();
    const replies: (ServiceAnswer | 'never')[] = ['never', answered(201, live('PROCEED', 0.8, 5))];
    service.reply = ({ method }) => (method === 'POST' ? (replies.shift() ?? UNREACHABLE) : renewal);
    t.match(await settled(service, askLease(service, service.clock, ASK)), {
      kind: 'refused',
      verdict: { safe: false },
      retryAfterSeconds: null,
    });
  }
});

t.test(
  'askLease() gives up on a service that does not answer, and gives back what may have been granted',
  async (t) => {
    const service = new PretendService();
    service.reply = () => 'never';
    const refused = await settled(service, askLease(service, service.clock, ASK));
    t.match(refused, {
      kind: 'refused',
      verdict: { safe: false, local: 'service-unreachable' },
      retryAfterSeconds: null,
    });
    t.equal(service.asks('POST').length, 2);
    t.match(service.asks('DELETE'), [{ path: `/leases/${LEASE_ID}` }]);
  },
);

t.test('askLease() gives the refusal that the service gives, with when to ask again', async (t) => {
  const service = new PretendService();
  service.reply = () => answered(503, { result: result('WAIT_COOLDOWN', { waitSeconds: 60 }) }, 60);
  t.match(await askLease(service, service.clock, ASK), {
    kind: 'refused',
    verdict: { action: 'WAIT_COOLDOWN', waitSeconds: 60, local: undefined },
    retryAfterSeconds: 60,
  });
  service.reply = () => answered(423, { result: result('ABORT') });
  t.match(await askLease(service, service.clock, ASK), { kind: 'refused', retryAfterSeconds: null });
});

t.test('askLease(), askPreflight() and releaseLease() look for the process that leads', async (t) => {
  const service = new PretendService();
  const standby = (body: object): ServiceAnswer => answered(503, body, 10);
  const verdict = result('WAIT_COOLDOWN', { findings: [{ code: 'over-maximum' }, { code: 'not-leader' }] });
  let standbys = 2;
  const behind = (own: ServiceAnswer, leader: ServiceAnswer) => () => (standbys-- > 0 ? own : leader);
  service.reply = behind(standby({ result: verdict }), answered(201, live()));
  t.match(await askLease(service, service.clock, ASK), { kind: 'granted', id: LEASE_ID });
  t.same(
    service.asked.map(({ body }) => (body as { id: string }).id),
    [LEASE_ID, LEASE_ID, LEASE_ID],
    'by the same id, which grants nothing twice',
  );
  standbys = 3;
  service.reply = behind(standby(verdict), answered(200, result('PROCEED')));
  t.match(await askPreflight(service, {}), { safe: true });
  for (const code of ['not-leader', 'state-unknown']) {
    standbys = 3;
    service.reply = behind(problem(code, 503), answered(204, {}));
    t.equal(await releaseLease(service, LEASE_ID, 5_000), null, 'what is given back to nobody would be stopped');
  }

  await t.test('a few times, and where the hardware refuses but once', async (t) => {
    service.asked.length = 0;
    service.reply = () => standby({ result: verdict });
    t.match(await askLease(service, service.clock, ASK), { kind: 'refused', retryAfterSeconds: 10 });
    t.equal(service.asked.length, 4);
    service.asked.length = 0;
    service.reply = () => standby({ result: result('WAIT_COOLDOWN', { findings: [{ code: 'interlock-cooling' }] }) });
    t.match(await askLease(service, service.clock, ASK), { kind: 'refused' });
    service.reply = () => answered(423, { result: result('ABORT', { findings: [{ code: 'not-leader' }] }) });
    t.match(await askLease(service, service.clock, ASK), { kind: 'refused', verdict: { action: 'ABORT' } });
    t.equal(service.asked.length, 2);
  });
});

t.test('askLease() and askPreflight() throw for a mistake in the request, by the code of the problem', async (t) => {
  const service = new PretendService();
  service.reply = () => problem('unknown-node', 400, { nodes: ['x'] });
  const mistake = { name: 'SafetyServiceError', code: 'unknown-node', status: 400, message: 'Cannot: unknown-node' };
  await t.rejects(askLease(service, service.clock, ASK), mistake);
  await t.rejects(askPreflight(service, {}), mistake);
});

t.test('askLease() and askPreflight() take no answer that is not understood for leave to start', async (t) => {
  const replies: Record<string, ServiceAnswer> = {
    'nothing in it': answered(200, {}),
    'a web page': answered(404, {}),
    'safe with a status that is not': answered(503, result('PROCEED')),
    'unsafe with 200': answered(200, result('ABORT')),
    'a refusal that is none': answered(503, { result: result('PROCEED') }),
    'a grant of something else': answered(201, live('PROCEED', 0.8, 30, 'b0000000-0000-4000-8000-000000000000')),
    'a journal that takes nothing': problem('journal-unavailable', 503),
    'a lease that is over already': problem('lease-ended', 410, { outcome: 'stopped', reason: 'x' }),
  };
  for (const [what, reply] of Object.entries(replies)) {
    const service = new PretendService();
    service.reply = () => reply;
    t.match(await askLease(service, service.clock, ASK), { kind: 'refused', verdict: { safe: false } }, what);
    t.match(await askPreflight(service, {}), { safe: false }, what);
  }
});

t.test('waitForLease() asks again when the service says so, every 10 s at least, until it is granted', async (t) => {
  const service = new PretendService();
  const replies = [
    answered(503, { result: result('WAIT_COOLDOWN') }, 60),
    answered(503, { result: result('WAIT_COOLDOWN') }, 4),
    problem('evaluation-too-old', 503),
    answered(201, live()),
  ];
  replies[2] = { ...problem('evaluation-too-old', 503), retryAfterSeconds: 0 } as ServiceAnswer;
  service.reply = () => replies.shift() ?? UNREACHABLE;
  t.match(await settled(service, waitForLease(service, service.clock, ASK, undefined)), { kind: 'granted' });
  t.same(
    service.asks('POST').map(({ atMs }) => atMs),
    [0, 10_000, 14_000, 15_000],
  );
});

t.test('waitForLease() waits neither for a trip nor for a service that does not answer', async (t) => {
  for (const reply of [answered(423, { result: result('ABORT') }), UNREACHABLE]) {
    const service = new PretendService();
    service.reply = () => reply;
    t.match(await settled(service, waitForLease(service, service.clock, ASK, undefined)), { kind: 'refused' });
  }
});

t.test('waitForLease() ends with its signal, and gives back what is granted too late', async (t) => {
  const service = new PretendService();
  service.reply = () => answered(503, { result: result('WAIT_COOLDOWN') }, 60);
  const giveUp = new AbortController();
  const waiting = waitForLease(service, service.clock, ASK, giveUp.signal);
  waiting.catch(() => undefined);
  await service.clock.advance(2_000);
  giveUp.abort(new Error('enough'));
  await t.rejects(waiting, { message: 'enough' });

  const late = new PretendService();
  const gone = new AbortController();
  late.reply = ({ method }) => {
    gone.abort(new Error('enough'));
    return method === 'POST' ? answered(201, live()) : answered(204, {});
  };
  await t.rejects(waitForLease(late, late.clock, ASK, gone.signal), { message: 'enough' });
  t.equal(late.asks('DELETE').length, 1);
});
