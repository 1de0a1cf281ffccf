// Leases: who gets one, how long it lasts, what its holder is told, and what ends it.
import t from 'tap';
import { nextWakeMs } from '../../src/domain/decide.ts';
import type { Answer, LeaseRequest } from '../../src/domain/events.ts';
import { intensityCapOf, isLeaseOn, type Lease, type WorkloadInventory } from '../../src/domain/lease.ts';
import type { SafetyResult } from '../../src/domain/result.ts';
import {
  coolGpu,
  coolNode,
  DomainWorld,
  GPU_A,
  GPU_B,
  LEASE_ID,
  NODE,
  nodeSettings,
  profile,
  START,
  worldSettings,
} from '../support/domain-world.ts';

/** A world with one live lease. */
function leased(request: Partial<LeaseRequest> = {}, settings = worldSettings()): DomainWorld {
  const world = DomainWorld.running(settings);
  const answer = world.askLease(request);
  if (answer.kind !== 'granted') throw new Error(`the lease was answered ${answer.kind}`);
  world.effects = [];
  return world;
}

const resultOf = (answer: Answer): SafetyResult => {
  if (!('result' in answer)) throw new Error(`answered ${answer.kind}, without a result`);
  return answer.result;
};

/** Ticks every 10 s and renews after each. */
function runRenewing(world: DomainWorld, seconds: number): SafetyResult {
  for (let left = seconds; left > 0; left -= 10) {
    world.run(10);
    world.renew();
  }
  return resultOf(world.renew());
}

t.test("decide() grants a lease when all is clear, at the profile's maximum unless less was asked", async (t) => {
  const world = leased();
  t.match(world.lease, { intensity: 0.8, identity: 'local', expiresAtMs: world.elapsedMs + 300_000, endsAtMs: null });
  t.match(world.durable.get(`lease/${LEASE_ID}`), { id: LEASE_ID, bootId: 'boot-1' });
  t.equal(leased({ intensity: 0.6 }).lease.intensity, 0.6);
  t.match(DomainWorld.running().askLease({ intensity: 0.8 }), { kind: 'granted' });
});

t.test("decide() takes a node's own maximum for it, be it higher or lower than that of the others", async (t) => {
  for (const max of [0.9, 0.5]) {
    const constraints = profile((copy) => Object.assign(copy, { workload: { intensityRatio: { max } } }));
    const world = DomainWorld.running(worldSettings({}, { constraints }));
    t.match(world.askLease(), { kind: 'granted', lease: { intensity: max } });
    t.match(world.preflight({ intensity: max + 0.01 }).result, { safe: false, intensityCap: max });
  }
});

t.test('decide() refuses an intensity over the maximum, names it, and tells no time to come back', async (t) => {
  const world = DomainWorld.running();
  for (const ask of [() => world.preflight({ intensity: 0.81 }), () => world.askLease({ intensity: 0.81 })]) {
    const answer = ask();
    t.match(answer, {
      kind: 'judged',
      retryAfterSeconds: null,
      result: { safe: false, action: 'REDUCE_INTENSITY', intensityCap: 0.8 },
    });
    t.match(resultOf(answer).findings, [
      { code: 'over-maximum', component: 'workload', quantity: 'intensity', value: 0.81, limit: 0.8 },
    ]);
  }
});

t.test('decide() refuses a lease for whatever a start is refused for', async (t) => {
  const reasons: Record<string, [(world: DomainWorld) => void, string]> = {
    'a power warning': [(world) => Object.assign(world.gpu(), { powerW: 255 }), 'over-warning'],
    'a full memory': [(world) => Object.assign(world.node, { memoryRatio: 0.9 }), 'over-maximum'],
    'a missing reading': [(world) => Object.assign(world.gpu(), { powerW: null }), 'reading-missing'],
    'a source that fails now': [(world) => Object.assign(world.node, { fails: true }), 'reading-missing'],
    'an actuator that is not available': [(world) => world.inventory([], false, false), 'actuator-unavailable'],
    'a journal that cannot be written': [
      (world) => world.submit({ kind: 'journal-reported', ok: false, detail: 'ENOSPC' }),
      'journal-unavailable',
    ],
    'a tick that is late': [(world) => world.pass(15_001), 'tick-late'],
    'an interlock that is cooling': [
      (world) => {
        world.gpu().temperatureC = 80;
        world.run(10);
        world.gpu().temperatureC = 60;
        world.run(10);
      },
      'interlock-cooling',
    ],
    'a trip': [(world) => world.stop(), 'interlock-tripped'],
  };
  for (const [name, [spoil, code]] of Object.entries(reasons)) {
    const world = DomainWorld.running();
    world.pass(2_000);
    spoil(world);
    const answer = world.askLease();
    t.match(answer, { kind: 'judged', isTripped: code === 'interlock-tripped', result: { safe: false } }, name);
    t.ok(
      resultOf(answer).findings.some((finding) => finding.code === code),
      `${name}: ${code}`,
    );
    t.equal(world.state.leases.size, 0, name);
  }
  const onTime = DomainWorld.running();
  onTime.pass(15_000);
  t.match(onTime.askLease(), { kind: 'granted' }, 'one and a half intervals are on time');
  const early = new DomainWorld();
  early.inventory();
  t.ok(
    resultOf(early.askLease()).findings.some(({ code }) => code === 'tick-late'),
    'before the first tick',
  );
});

t.test('decide() grants nothing before a witness was seen to move, nor from a source that is too slow', async (t) => {
  const fresh = new DomainWorld();
  fresh.inventory();
  for (const gpu of Object.values(fresh.node.gpus)) gpu.witness = 5;
  fresh.tick();
  t.match(resultOf(fresh.askLease()).findings[0], {
    code: 'reading-missing',
    message: /has not moved since this service started/,
  });
  for (const gpu of Object.values(fresh.node.gpus)) gpu.witness = 6;
  fresh.run(10);
  t.match(fresh.askLease(), { kind: 'granted' });
  const slow = DomainWorld.running();
  for (let atS = 0; atS < 150; atS += 10) {
    for (const gpu of Object.values(slow.node.gpus)) gpu.witness = 500 + Math.floor(atS / 30);
    slow.run(10);
  }
  t.match(resultOf(slow.askLease()).findings, [
    { code: 'source-too-slow', action: 'WAIT_COOLDOWN', message: /every 30 s.*-c 1000/ },
  ]);
  const patient = DomainWorld.running(worldSettings({}, { staleAfterMs: 60_000 }));
  for (let atS = 0; atS < 150; atS += 10) {
    for (const gpu of Object.values(patient.node.gpus)) gpu.witness = 500 + Math.floor(atS / 30);
    patient.run(10);
  }
  t.match(patient.askLease(), { kind: 'granted' }, "where the node's own staleAfter allows it");
});

t.test('decide() gives the same lease for the same id again, and none of another identity', async (t) => {
  const world = leased({ intensity: 0.6 });
  const { lease } = world;
  world.pass(5_000);
  t.match(
    world.askLease({ intensity: 0.2 }),
    { kind: 'granted', lease: { ...lease, gpus: null } },
    'unchanged, and not extended',
  );
  t.same(world.askLease({}, 'mallory'), { kind: 'lease-forbidden' });
  const renewal = { kind: 'renewal-asked' as const, leaseId: LEASE_ID, intensity: null, reports: [] };
  t.same(world.submit({ ...renewal, identity: 'mallory' }), { kind: 'lease-forbidden' });
  t.same(world.submit({ kind: 'release-asked', leaseId: LEASE_ID, identity: 'mallory' }), { kind: 'lease-forbidden' });
  t.equal(world.state.leases.size, 1);
  t.same(world.submit({ ...renewal, leaseId: 'nobody', identity: 'local' }), { kind: 'lease-unknown' });
  t.same(world.askLease({ id: 'another', nodes: ['mars'] }), { kind: 'unknown-nodes', nodes: ['mars'] });
  const request = { ...START, nodes: [NODE, 'mars'] };
  const asked = world.submit({ kind: 'preflight-asked', request, reports: world.reports() });
  t.same(asked, { kind: 'unknown-nodes', nodes: ['mars'] }, 'nor is a start judged there');
});

t.test('decide() ends a released lease, for good and without a stop', async (t) => {
  const world = leased();
  const release = { kind: 'release-asked' as const, leaseId: LEASE_ID, identity: 'local' };
  t.same(world.submit(release), { kind: 'released' });
  t.same(world.submit(release), { kind: 'released' }, 'twice is once');
  t.match(world.renew(), { kind: 'lease-ended', ended: { outcome: 'released' } });
  t.match(world.askLease(), { kind: 'lease-ended' }, 'its id is used up');
  t.same(world.orders, []);
  t.notOk(world.durable.has(`lease/${LEASE_ID}`));
});

t.test('decide() tells of an ended lease to its holder alone, and calls only a released one given back', async (t) => {
  const world = leased({ ttlMs: 20_000 });
  world.run(20);
  const release = { kind: 'release-asked' as const, leaseId: LEASE_ID };
  const renewal = { kind: 'renewal-asked' as const, leaseId: LEASE_ID, intensity: null, reports: [] };
  for (const event of [release, renewal]) {
    t.match(world.submit({ ...event, identity: 'local' }), { kind: 'lease-ended', ended: { outcome: 'lapsed' } });
    t.same(world.submit({ ...event, identity: 'mallory' }), { kind: 'lease-forbidden' });
  }
  t.same(world.askLease({}, 'mallory'), { kind: 'lease-forbidden' });
});

t.test('decide() finds the cards of a lease on the nodes that it names, on all where it names none', async (t) => {
  const world = twoNodes();
  t.match(world.askLease({ nodes: ['other'], gpus: [GPU_A] }), { kind: 'gpu-unknown', known: ['GPU-c'] });
  t.match(world.askLease({ gpus: [GPU_A, 'GPU-none'] }), { kind: 'gpu-unknown', known: [GPU_A, GPU_B, 'GPU-c'] });
  t.match(world.askLease({ gpus: ['GPU-c', GPU_A] }), { kind: 'granted', lease: { gpus: ['GPU-c', GPU_A] } });
});

t.test('decide() tells when to ask again: after the cooldown, else at the next tick', async (t) => {
  const world = DomainWorld.running();
  world.node.memoryRatio = 0.9;
  world.pass(2_000);
  t.match(world.preflight(), { retryAfterSeconds: 10, result: { action: 'REDUCE_INTENSITY' } });
  world.node.memoryRatio = 0.4;
  world.gpu().temperatureC = 82;
  world.run(10);
  world.gpu().temperatureC = 60;
  world.run(20);
  t.match(world.preflight(), { retryAfterSeconds: 40 });
  world.run(40);
  t.match(world.preflight(), { retryAfterSeconds: null, result: { safe: true } });
});

t.test('decide() renews nothing after a restart before it has evaluated', async (t) => {
  const world = leased();
  world.restart();
  t.same(world.renew(), { kind: 'evaluation-too-old', ageSeconds: null });
  world.inventory();
  world.tick();
  t.match(world.renew(), { kind: 'renewed' });
});

t.test('decide() extends a lease by its TTL at each renewal, and lapses it when none comes', async (t) => {
  const world = leased({ ttlMs: 30_000 });
  world.run(20);
  t.match(world.renew(), {
    kind: 'renewed',
    lease: { expiresAtMs: world.elapsedMs + 30_000 },
    result: { action: 'PROCEED' },
  });
  t.equal(nextWakeMs(world.state), world.elapsedMs + 30_000);
  world.pass(29_999);
  world.submit({ kind: 'clock-looked' });
  t.equal(world.state.leases.size, 1);
  world.pass(1);
  world.submit({ kind: 'clock-looked' });
  t.equal(world.state.leases.size, 0);
  t.match(world.orders, [
    { orderId: `lapse-${LEASE_ID}`, what: 'leases', targets: [{ leaseId: LEASE_ID, processGroup: { pgid: 4711 } }] },
  ]);
  t.match(world.renew(), { kind: 'lease-ended', ended: { outcome: 'lapsed', reason: /not renewed within 30 s/ } });
  t.equal(world.state.trips.size, 0, 'a lapse trips nothing');
  t.equal(world.told('lapsed-unmarked').length, 0);
});

t.test('decide() extends nothing that has run out already, although no timer came in between', async (t) => {
  const world = leased({ ttlMs: 20_000 });
  world.run(10);
  world.pass(10_000);
  t.match(world.renew(), { kind: 'lease-ended', ended: { outcome: 'lapsed' } });
  t.equal(world.orders.length, 1);
});

t.test(
  'decide() says so when a lapsed lease left nothing marked, and counts its node as live while pods are there',
  async (t) => {
    const world = leased({ processGroup: null, ttlMs: 20_000, nodes: [NODE] });
    world.inventory([{ kind: 'pod', node: NODE, name: 'a/b' }], true);
    world.run(20);
    t.match(world.told('lapsed-unmarked'), [{ leaseId: LEASE_ID }]);
    world.gpu().temperatureC = null;
    world.run(40);
    t.match(world.state.trips.get(world.tripId), { cause: 'blind' });
  },
);

t.test('decide() revokes a lease at the end of its maximum duration, however often it is renewed', async (t) => {
  const world = leased({ maxDurationMs: 60_000 });
  runRenewing(world, 50);
  t.equal(world.state.leases.size, 1);
  t.equal(nextWakeMs(world.state), world.elapsedMs + 10_000);
  world.pass(10_000);
  t.match(world.renew(), { kind: 'lease-ended', ended: { outcome: 'revoked', reason: /maximum duration of 60 s/ } });
  t.match(world.orders, [{ what: 'leases' }]);
});

t.test('decide() renews nothing by an evaluation that is older than 30 s', async (t) => {
  const world = leased();
  const { expiresAtMs } = world.lease;
  world.tick();
  world.pass(30_000);
  t.match(world.renew(), { kind: 'renewed' }, 'exactly 30 s');
  world.pass(1);
  t.match(world.renew(), { kind: 'evaluation-too-old', ageSeconds: 30 });
  t.equal(world.lease.expiresAtMs, (expiresAtMs ?? 0) + 30_000, 'and it extends nothing');
});

t.test('decide() does not take fast samples of one node for an evaluation of another', async (t) => {
  const settings = worldSettings({
    nodes: new Map([
      [NODE, nodeSettings()],
      ['other', nodeSettings()],
    ]),
  });
  const world = DomainWorld.running(settings, {
    [NODE]: coolNode(),
    other: { ...coolNode(), gpus: { 'GPU-c': coolGpu() } },
  });
  world.askLease({ nodes: ['other'] });
  const reports = () => world.reports().filter((report) => report.node === NODE);
  for (let atS = 0; atS < 32; atS += 2) {
    world.pass(2_000);
    world.submit({ kind: 'observed', why: 'fast', reports: reports() });
  }
  t.match(world.renew(), { kind: 'evaluation-too-old' });
});

t.test('decide() judges a raise as a start, and renews unchanged where it refuses', async (t) => {
  const world = leased({ intensity: 0.4 });
  t.match(world.renew(0.6), { kind: 'renewed', lease: { intensity: 0.6 }, result: { safe: true } });
  world.pass(2_000);
  t.match(world.renew(0.9), {
    kind: 'renewed',
    lease: { intensity: 0.6, expiresAtMs: world.elapsedMs + 300_000 },
    result: { safe: false, intensityCap: 0.6, findings: [{ code: 'over-maximum', limit: 0.8 }] },
  });
  world.node.fails = true;
  world.run(10);
  t.match(world.renew(0.7), { kind: 'renewed', lease: { intensity: 0.6 }, result: { action: 'WAIT_COOLDOWN' } });
  t.match(
    world.renew(),
    { kind: 'renewed', result: { action: 'PROCEED' } },
    'for what runs, last good readings still count',
  );
  t.match(world.renew(0.3), { kind: 'renewed', lease: { intensity: 0.3 } }, 'lowering is always allowed');
  t.equal((world.durable.get(`lease/${LEASE_ID}`) as Lease).intensity, 0.3);
});

t.test('decide() refuses a raise while the lease is cut, and names no cap above that of the lease', async (t) => {
  const world = leased({ intensity: 0.2 });
  const refuses = (intensity: number, codes: readonly string[], name: string): void => {
    const answer = world.renew(intensity);
    t.match(answer, { kind: 'renewed', lease: { intensity: 0.2, expiresAtMs: world.elapsedMs + 300_000 } }, name);
    const result = resultOf(answer);
    t.match(result, { safe: false, action: 'REDUCE_INTENSITY', intensityFactor: 0.5, intensityCap: 0.1 }, name);
    t.same(
      result.findings.map(({ code }) => code),
      codes,
      name,
    );
  };
  world.gpu().powerW = 260;
  world.pass(2_000);
  refuses(0.8, ['over-warning'], 'by the reading taken for the question');
  world.run(10);
  refuses(0.8, ['over-warning'], 'while the warning stands');
  refuses(0.9, ['over-warning', 'over-maximum'], 'and while more is asked for than the maximum');
  world.gpu().powerW = 200;
  world.run(10);
  refuses(0.8, ['reduction-held'], 'while the cut is held');
  refuses(0.9, ['reduction-held', 'over-maximum'], 'a maximum does not hide it');
  t.match(world.preflight({ intensity: 0.8 }).result, { safe: true }, 'a start is not held back by it');
  t.equal(intensityCapOf(world.lease), 0.1);
  world.run(60);
  t.match(world.renew(0.8), { kind: 'renewed', lease: { intensity: 0.8 }, result: { safe: true } }, 'then it may');
  t.equal(intensityCapOf(world.lease), 0.8);
});

t.test('decide() judges a raise by the readings that came with it', async (t) => {
  const world = leased({ intensity: 0.4 });
  world.gpu().temperatureC = 82;
  world.pass(2_000);
  t.match(world.renew(0.6), {
    kind: 'renewed',
    lease: { intensity: 0.4, expiresAtMs: world.elapsedMs + 300_000 },
    result: { action: 'WAIT_COOLDOWN' },
  });
  world.gpu().temperatureC = 86;
  world.pass(2_000);
  t.match(world.renew(0.6), { kind: 'lease-ended', ended: { outcome: 'stopped' } }, 'a hard stop seen there trips');
  t.equal(world.interlock, 'tripped');
});

t.test('decide() voids a grant that its holder was never told of, as if nobody had asked', async (t) => {
  const world = leased();
  const voided = world.submit({ kind: 'release-asked', leaseId: LEASE_ID, identity: 'local', isUntold: true });
  t.same(voided, { kind: 'released' });
  t.same([world.state.leases.size, world.state.endedLeases.size], [0, 0]);
  t.same(
    [...world.durable.keys()].filter((key) => key.endsWith(LEASE_ID)),
    [],
  );
  t.equal(world.askLease().kind, 'granted', 'and it may be asked for again');
});

t.test('decide() cuts a lease to half of what was granted, and never twice', async (t) => {
  const world = leased({ intensity: 0.6 });
  Object.assign(world.gpu(), { powerW: 260 });
  world.run(10);
  t.match(world.renew(), {
    result: { action: 'REDUCE_INTENSITY', intensityFactor: 0.5, intensityCap: 0.3, suggestedPowerCapW: 237 },
  });
  for (let round = 0; round < 12; round += 1) {
    world.gpu().powerW = 260 + (round % 3) / 10;
    t.match(runRenewing(world, 10), { action: 'REDUCE_INTENSITY', intensityCap: 0.3 });
  }
  t.equal(world.lease.intensity, 0.6);
  t.equal(intensityCapOf(world.lease), 0.3);
  t.equal(world.told('intensity-reduced').length, 1);
  world.gpu().powerW = 120.5;
  runRenewing(world, 70);
  t.equal(intensityCapOf(world.lease), 0.6);
});

t.test("decide() holds a cut for 60 s after the finding has gone, in the lease's own result alone", async (t) => {
  const world = leased();
  world.gpu().powerW = 260;
  world.run(10);
  world.gpu().powerW = 120.5;
  t.match(runRenewing(world, 50), {
    action: 'REDUCE_INTENSITY',
    intensityCap: 0.4,
    findings: [{ code: 'reduction-held', component: 'workload', id: LEASE_ID }],
  });
  t.match(world.result, { action: 'PROCEED' }, 'the published evaluation does not carry it');
  t.ok(world.preflight().result.safe, 'nor does a start');
  t.match(runRenewing(world, 10), { action: 'PROCEED', findings: [] });
  t.equal(world.told('intensity-restored').length, 1);
});

t.test('decide() keeps a cut through a restart', async (t) => {
  const world = leased();
  world.gpu().powerW = 260;
  world.run(10);
  world.gpu().powerW = 120.5;
  world.restart();
  world.inventory();
  world.tick();
  t.match(world.renew(), { kind: 'renewed', result: { action: 'REDUCE_INTENSITY', intensityCap: 0.4 } });
  t.match(runRenewing(world, 60), { action: 'PROCEED' });
});

t.test('decide() says once that a holder does not obey, after 120 s of the same order', async (t) => {
  const world = leased();
  world.gpu().temperatureC = 82;
  runRenewing(world, 120);
  t.equal(world.told('not-obeyed').length, 0);
  runRenewing(world, 10);
  t.match(world.told('not-obeyed'), [{ leaseId: LEASE_ID, message: /WAIT_COOLDOWN/ }]);
  runRenewing(world, 300);
  t.equal(world.told('not-obeyed').length, 1);
  t.equal(world.state.trips.size, 0, 'and it never becomes an abort');
  world.gpu().temperatureC = 60;
  runRenewing(world, 10);
  world.gpu().temperatureC = 82;
  runRenewing(world, 130);
  t.equal(world.told('not-obeyed').length, 2, 'another one is told again');
});

t.test('decide() counts a cut as an order to obey, and leave to go on as none', async (t) => {
  const world = leased({ intensity: 0.6 });
  runRenewing(world, 300);
  t.equal(world.told('not-obeyed').length, 0, 'nothing was asked of it');
  for (let atS = 0; atS <= 130; atS += 10) {
    Object.assign(world.gpu(), { powerW: 260 + (atS % 3) / 10, temperatureC: 60 + (atS % 3) / 10 });
    runRenewing(world, 10);
  }
  t.match(world.told('not-obeyed'), [{ leaseId: LEASE_ID, message: /REDUCE_INTENSITY/ }]);
});

t.test('decide() ends a lease on one of the nodes of a stop, and leaves the others', async (t) => {
  const world = twoNodes();
  world.askLease({ nodes: [NODE] });
  world.askLease({ id: idOf(2), nodes: ['other'] });
  world.submit({ kind: 'stop-requested', nodes: [NODE, 'mars'], cause: 'manual', reason: 'smoke', by: 'ada' });
  t.same([...world.state.leases.keys()], [idOf(2)]);
  const both = twoNodes();
  both.askLease({ nodes: [NODE] });
  both.stop([NODE, 'other']);
  t.equal(both.state.leases.size, 0);
});

t.test('decide() tells a holder whom nothing can stop so', async (t) => {
  t.match(resultOf(leased({ processGroup: null }).renew()).unprotected, [{ code: 'no-actuator', id: LEASE_ID }]);
  t.same(resultOf(leased().renew()).unprotected, []);
});

t.test(
  'decide() keeps live leases through a restart: one full TTL from the first evaluation, once per start',
  async (t) => {
    const world = leased({ ttlMs: 60_000, maxDurationMs: 120_000 });
    world.run(50);
    world.restart({ downMs: 45_000 });
    t.match(world.renew(), { kind: 'evaluation-too-old', ageSeconds: null }, 'nothing was evaluated yet');
    world.inventory();
    world.tick();
    t.equal(world.lease.expiresAtMs, world.elapsedMs + 60_000);
    t.equal(world.lease.endsAtMs, world.elapsedMs + 25_000, 'its maximum duration ran on');
    world.run(20);
    t.equal(world.lease.expiresAtMs, world.elapsedMs + 40_000, 'the second evaluation gives nothing');
    world.run(10);
    t.match(world.renew(), { kind: 'lease-ended', ended: { outcome: 'revoked' } });
  },
);

t.test("decide() lapses a lease from before the machine's reboot", async (t) => {
  const world = leased();
  world.restart({ settings: { bootId: 'boot-2' } });
  t.match(world.renew(), { kind: 'lease-ended', ended: { outcome: 'lapsed', reason: /machine was started anew/ } });
  t.match(
    [...world.durable.keys()].filter((key) => key.includes(LEASE_ID)),
    [`ended/${LEASE_ID}`],
  );
});

t.test('decide() grants no more than 5,000 leases at once, and a stop ends them all in one short step', async (t) => {
  const world = leased({ ttlMs: 20_000 });
  const many = (): Map<string, Lease> =>
    new Map(Array.from({ length: 5_000 }, (_, n) => [`lease-${n}`, { ...lease, id: `lease-${n}` }]));
  const { lease } = world;
  world.state = { ...world.state, leases: many() };
  t.same(world.askLease({ id: 'one more' }), { kind: 'lease-limit', limit: 5_000 });
  const full = world.state;
  // Nothing is stopped before the step is decided: work that grows with the square of the leases would delay the kill.
  for (const end of ['lapse', 'stop'] as const) {
    world.state = full;
    const startedMs = performance.now();
    if (end === 'stop') world.stop();
    else {
      world.pass(20_000);
      world.submit({ kind: 'clock-looked' });
    }
    const tookMs = performance.now() - startedMs;
    t.equal(world.state.leases.size, 0, end);
    // Of those that a trip stopped the trip takes care; lapsed ones are remembered until they are seen gone.
    t.equal(world.state.endedLeases.size, end === 'stop' ? 1_000 : 5_000, 'what is remembered of them is bounded');
    t.ok(tookMs < 2_000, `${end} took ${Math.round(tookMs)} ms`);
    t.comment(`${end} took ${Math.round(tookMs)} ms`);
    world.elapsedMs = full.lastNowMs;
  }
});

t.test("isLeaseOn() is where the lease's nodes are, else its pods, its process group, or everywhere", async (t) => {
  const base = leased().lease;
  const pod = (node: string, leaseId?: string) => ({
    kind: 'pod' as const,
    node,
    name: 'a/b',
    ...(leaseId && { leaseId }),
  });
  const sees = (...workloads: WorkloadInventory['workloads']): WorkloadInventory => ({ workloads, seesPods: true });
  const blind: WorkloadInventory = { workloads: [], seesPods: false };
  const free = { ...base, processGroup: null };
  const rows: [string, Lease, WorkloadInventory, string[]][] = [
    ['named nodes count as they are', { ...free, nodes: ['b'] }, sees(pod('c', base.id)), ['b']],
    ['its own pods', free, sees(pod('b', base.id), pod('c'), pod('d', 'another')), ['b']],
    ['each of its own pods', free, sees(pod('b', base.id), pod('c', base.id)), ['b', 'c']],
    ['no process group of another', free, sees({ kind: 'process-group', node: 'c', name: '7' }), []],
    ['else labelled ones', free, sees(pod('b'), pod('c')), ['b', 'c']],
    ['nowhere while there are none', free, sees(), []],
    ['its process group', base, blind, ['local']],
    ['its process group, although pods are seen', base, sees(pod('b')), ['local']],
    ['both', base, sees(pod('b', base.id)), ['b', 'local']],
    ['everywhere where no inventory can tell', free, blind, ['b', 'c', 'd', 'local']],
  ];
  for (const [name, lease, inventory, expected] of rows) {
    t.same(
      ['b', 'c', 'd', 'local'].filter((node) => isLeaseOn(lease, node, inventory, 'local')),
      expected,
      name,
    );
  }
});

t.test("decide() tells the holder of a node's lease nothing of other nodes", async (t) => {
  const settings = worldSettings({
    nodes: new Map([
      [NODE, nodeSettings()],
      ['other', nodeSettings()],
    ]),
  });
  const world = DomainWorld.running(settings, {
    [NODE]: coolNode(),
    other: { ...coolNode(), gpus: { 'GPU-c': coolGpu() } },
  });
  world.askLease({ nodes: ['other'] });
  world.gpu(GPU_A).temperatureC = 82;
  world.run(10);
  t.match(world.renew(), { result: { action: 'PROCEED', scope: { kind: 'nodes', nodes: ['other'] } } });
  t.match(world.result, { action: 'WAIT_COOLDOWN' });
});

const twoNodes = (change = {}) =>
  DomainWorld.running(
    worldSettings({
      ...change,
      nodes: new Map([
        [NODE, nodeSettings()],
        ['other', nodeSettings()],
      ]),
    }),
    { [NODE]: coolNode(), other: { ...coolNode(), gpus: { 'GPU-c': coolGpu() } } },
  );
const idOf = (n: number): string => `${LEASE_ID.slice(0, -1)}${n}`;

t.test('decide() keeps several leases apart: each lapses, is cut and is stopped by itself', async (t) => {
  const world = twoNodes();
  world.askLease({ id: idOf(2), ttlMs: 20_000, nodes: ['other'], processGroup: { pgid: 2, startTicks: 9 } });
  world.askLease({ id: idOf(3), nodes: ['other'], processGroup: { pgid: 3, startTicks: 9 } });
  world.askLease({ id: idOf(4), nodes: [NODE], processGroup: { pgid: 4, startTicks: 9 } });
  world.gpu().powerW = 260;
  world.run(10);
  t.match(world.renew(null, idOf(3)), { result: { action: 'PROCEED' } });
  t.match(world.renew(null, idOf(4)), { result: { action: 'REDUCE_INTENSITY', intensityCap: 0.4 } });
  world.effects = [];
  world.run(10);
  t.same([...world.state.leases.keys()], [idOf(3), idOf(4)]);
  t.match(world.orders, [{ what: 'leases', targets: [{ leaseId: idOf(2) }] }]);
  t.equal(world.orders.length, 1, 'nobody else is touched');
});

t.test('decide() stops by tripScope node the leases that are there, and leaves the others their leave', async (t) => {
  const world = twoNodes({ tripScope: 'node' });
  world.askLease({ id: idOf(2), nodes: ['other'] });
  world.askLease({ id: idOf(3), nodes: [NODE] });
  world.askLease({ id: idOf(4), nodes: [NODE, 'other'] });
  world.gpu().temperatureC = 85;
  world.run(10);
  t.same([...world.state.leases.keys()], [idOf(2)]);
  t.match(world.renew(null, idOf(2)), { kind: 'renewed', result: { action: 'PROCEED' } });
  for (const id of [idOf(3), idOf(4)]) {
    t.match(world.renew(null, id), { kind: 'lease-ended', ended: { outcome: 'stopped', reason: /85/ } });
  }
});

t.test(
  'decide() judges a lease of one GPU by its whole node: the heat of the next card is in the same box',
  async (t) => {
    const world = leased({ gpus: [GPU_A] });
    t.same(world.lease.gpus, [GPU_A]);
    world.gpu(GPU_B).temperatureC = 82;
    world.run(10);
    t.match(world.renew(), { kind: 'renewed', result: { action: 'WAIT_COOLDOWN', findings: [{ id: GPU_B }] } });
    t.match(DomainWorld.running().askLease({ gpus: [GPU_A, 'GPU-unknown'] }), { kind: 'gpu-unknown' });
  },
);

t.test('decide() counts a TTL and a maximum duration on monotonic time, wherever the wall clock goes', async (t) => {
  for (const jumpMs of [86_400_000, -86_400_000]) {
    const world = leased({ ttlMs: 60_000, maxDurationMs: 90_000 });
    const { expiresAtMs, endsAtMs } = world.lease;
    world.pass(2_000);
    world.wallMs += jumpMs;
    world.submit({ kind: 'clock-looked' });
    t.match(world.lease, { expiresAtMs, endsAtMs }, String(jumpMs));
    // Readings of before the jump are stale, so the holder waits; it loses nothing but that.
    t.match(world.renew(), { kind: 'renewed', result: { action: 'WAIT_COOLDOWN' } });
    t.match(runRenewing(world, 10), { action: 'PROCEED' });
    world.run(50);
    world.renew();
    t.equal(world.state.leases.size, 1);
    world.run(30);
    t.match(world.renew(), { kind: 'lease-ended', ended: { outcome: 'revoked' } }, 'at its 90 s');
  }
});

t.test('decide() never grants more than the maximum duration anew when the wall clock was set back', async (t) => {
  const world = leased({ maxDurationMs: 120_000 });
  world.run(60);
  world.wallMs -= 86_400_000;
  world.restart();
  world.inventory();
  world.tick();
  t.ok((world.lease.endsAtMs ?? Infinity) - world.elapsedMs <= 120_000);
});

t.test(
  'decide() remembers what of a lapsed workload is still to be stopped until every actuator has seen it gone',
  async (t) => {
    const world = leased({ ttlMs: 20_000 });
    world.run(20);
    const key = `ended/${LEASE_ID}`;
    const owed = { target: { leaseId: LEASE_ID, processGroup: { pgid: 4711 } }, bootId: 'boot-1' };
    t.match(world.durable.get(key), { outcome: 'lapsed', owedStop: owed });
    const orderId = `lapse-${LEASE_ID}`;
    world.stopReported(false, orderId);
    world.stopReported(true, 'lapse-nobody');
    t.match(world.durable.get(key), { owedStop: owed });
    world.effects = [];
    world.stopReported(true, orderId);
    t.match(world.durable.get(key), { outcome: 'lapsed', owedStop: null });
    t.match(world.told('stop-verified'), [{ leaseId: LEASE_ID }]);
    t.ok(world.effects.some((effect) => effect.kind === 'withdraw-order' && effect.orderId === orderId));
    world.effects = [];
    world.stopReported(true, orderId);
    t.same(world.effects, [], 'once is enough');
    const released = leased();
    released.submit({ kind: 'release-asked', leaseId: LEASE_ID, identity: 'local' });
    t.match(released.durable.get(key), { outcome: 'released', owedStop: null });
    const stopped = leased();
    stopped.stop();
    t.match(stopped.durable.get(key), { outcome: 'stopped', owedStop: null }, 'that is the trip’s to see to');
  },
);

t.test('decide() takes a lapsed workload that may still run into a trip of its nodes', async (t) => {
  const world = twoNodes();
  world.askLease({ id: idOf(2), ttlMs: 20_000, nodes: ['other'] });
  world.askLease({ id: idOf(3), ttlMs: 20_000, nodes: [NODE] });
  world.run(20);
  world.stopReported(true, `lapse-${idOf(3)}`);
  world.stop([NODE]);
  t.same(
    [...world.state.trips.values()].map(({ targets }) => targets),
    [[]],
  );
  world.stop();
  t.match(world.state.trips.get(world.tripId)?.targets, [{ leaseId: idOf(2) }]);
});
