// Limits that a request brings: stricter ones hold, looser ones are named, and none of them stops anybody else.
import t from 'tap';
import { parseConstraints, type SafetyConstraints } from '../../src/domain/constraints.ts';
import type { Answer, LeaseRequest } from '../../src/domain/events.ts';
import type { SafetyResult } from '../../src/domain/result.ts';
import { DomainWorld, GPU_A, GPU_B, LEASE_ID, NODE, worldSettings } from '../support/domain-world.ts';

const constraintsOf = (input: unknown): Pick<LeaseRequest, 'constraints' | 'constraintKeys'> => {
  const parsed = parseConstraints(input);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  return { constraints: parsed.constraints, constraintKeys: parsed.given };
};

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

t.test(
  'decide() judges a preflight by the stricter limit of each cell, names the looser, and trips nothing by them',
  async (t) => {
    const world = DomainWorld.running();
    const asked = constraintsOf({
      gpu: { temperatureC: { warning: 50, hardStop: 54 }, powerW: { warning: 280, hardStop: 290 } },
    });
    const answer = world.preflight(asked);
    t.match(answer, { result: { safe: false, action: 'WAIT_COOLDOWN', interlock: { state: 'clear' } } });
    t.match(answer.result.findings[0], { code: 'over-hard-stop', limit: 54 });
    t.same(
      answer.result.unprotected.filter((item) => item.code === 'constraint-ignored').map((item) => item.name),
      ['gpu.powerW.warning'],
      'only what is looser than the limit in force',
    );
    t.match(
      answer.result.unprotected.find((item) => item.code === 'constraint-ignored')?.message,
      `gpu.powerW.warning of the request is 280 W, looser than 250 W on ${NODE}, and is ignored`,
    );
    t.equal(world.state.trips.size, 0);
    t.ok(world.preflight().result.safe, 'others are judged as before');
    t.notOk(world.preflight(constraintsOf({ gpu: { powerW: { warning: 100, hardStop: 110 } } })).result.safe);
    t.equal(world.state.trips.size, 0, 'a power, too');
  },
);

t.test('decide() still aborts a preflight with constraints of its own by the limits in force', async (t) => {
  const world = DomainWorld.running();
  world.gpu().temperatureC = 86;
  world.pass(2_000);
  t.match(world.preflight(constraintsOf({ gpu: { temperatureC: { warning: 50, hardStop: 54 } } })), {
    isTripped: true,
    result: { action: 'ABORT' },
  });
});

t.test(
  "decide() lets only what is over the limits in force say ABORT, beside what is over a request's own",
  async (t) => {
    const world = DomainWorld.running();
    Object.assign(world.gpu(GPU_A), { temperatureC: 86, powerW: 200.5 });
    Object.assign(world.gpu(GPU_B), { temperatureC: 72.5 });
    world.node.memoryRatio = 0.9;
    world.run(10);
    const { result } = world.preflight(
      constraintsOf({
        gpu: { temperatureC: { warning: 60, hardStop: 70 }, powerW: { warning: 150, hardStop: 190 } },
        cpu: { temperatureC: { warning: 40, hardStop: 50 } },
      }),
    );
    const said = result.findings.map(({ code, component, id, quantity, action }) => [
      code,
      component,
      id,
      quantity,
      action,
    ]);
    t.strictSame(said.filter(([code]) => code !== 'interlock-tripped' && code !== 'interlock-cooling').sort(), [
      ['over-hard-stop', 'cpu', 'coretemp-0', 'temperature', 'WAIT_COOLDOWN'],
      ['over-hard-stop', 'gpu', GPU_A, 'power', 'WAIT_COOLDOWN'],
      ['over-hard-stop', 'gpu', GPU_A, 'temperature', 'ABORT'],
      ['over-hard-stop', 'gpu', GPU_B, 'temperature', 'WAIT_COOLDOWN'],
      ['over-maximum', 'memory', undefined, 'memory', 'REDUCE_INTENSITY'],
    ]);
  },
);

t.test('decide() keeps of a lease which of its limits are looser, and nothing else that is unprotected', async (t) => {
  const world = DomainWorld.running(worldSettings({}, { waive: ['cpu-temperature'] }));
  world.node.cpuC = null;
  world.run(10);
  const answer = world.askLease(constraintsOf({ gpu: { powerW: { warning: 280, hardStop: 290 } } }));
  t.ok(resultOf(answer).unprotected.some(({ code }) => code !== 'constraint-ignored'));
  t.match(answer, { kind: 'granted' });
  t.same(world.lease.looserKeys, ['gpu.powerW.warning']);
});

t.test('decide() names the limits that it judged by in preflight, grant and renewal', async (t) => {
  const world = DomainWorld.running();
  const plain = world.preflight().result;
  const by = (input: unknown) => world.preflight({ ...constraintsOf(input), intensity: 0.5 }).result;
  t.match([plain, by('default')], [{ profile: 'default' }, { profile: 'default' }]);
  t.equal(by('default').constraintsDigest, plain.constraintsDigest, 'nothing is stricter');
  t.equal(
    by({ gpu: { powerW: { warning: 280 } } }).constraintsDigest,
    plain.constraintsDigest,
    'what is looser is ignored',
  );
  const strict = by('bizon1');
  t.equal(strict.profile, 'bizon1');
  t.match(by({ gpu: { powerW: { warning: 240 } } }), { profile: 'custom' });
  const digests = [plain, strict, by({ gpu: { powerW: { warning: 240 } } })].map((one) => one.constraintsDigest);
  t.equal(new Set(digests).size, 3);
  t.equal(by('bizon1').constraintsDigest, strict.constraintsDigest, 'the same limits, the same digest');
  const used = { profile: 'bizon1', constraintsDigest: strict.constraintsDigest };
  t.match(world.askLease({ ...constraintsOf('bizon1'), intensity: 0.5 }), { kind: 'granted', result: used });
  t.match([world.renew(), world.renew(0.75)], [{ result: used }, { result: { ...used, safe: false } }]);
  t.match(world.run(10), { profile: 'default', constraintsDigest: plain.constraintsDigest });
});

t.test('decide() names the lease whose own limit stops, and none where the limit is that of the node', async (t) => {
  const strict = {
    gpu: { temperatureC: { warning: 60, hardStop: 65 }, memoryRatio: { max: 0.5 } },
    system: { memoryRatio: { max: 0.5 } },
  };
  const world = leased({ ...constraintsOf(strict), intensity: 0.5 });
  const messages = (): string[] => resultOf(world.renew()).findings.map(({ message }) => message);
  Object.assign(world.gpu(), { temperatureC: 61, memoryRatio: 0.6, powerW: 255 });
  world.node.memoryRatio = 0.6;
  world.run(10);
  const whose = (limit: string): string => `(the limit of lease "train-7", that of ${NODE} is ${limit})`;
  t.match(messages().sort(), [
    `GPU ${GPU_A} on ${NODE} is at 255 W, warning is 250 W`,
    `GPU ${GPU_A} on ${NODE} is at 61 °C, warning is 60 °C ${whose('80 °C')}`,
    `GPU ${GPU_A} on ${NODE}: memory is at 60 %, maximum is 50 % ${whose('0.9')}`,
    `Memory of ${NODE}: use is at 60 %, maximum is 50 % ${whose('0.85')}`,
  ]);
  world.gpu().temperatureC = 66;
  world.run(10);
  const reason = `GPU ${GPU_A} on ${NODE} is at 66 °C, hard stop is 65 °C ${whose('85 °C')}`;
  t.match(world.state.trips.get(world.tripId), { cause: 'hard-stop', reason });
  const own = leased({ ...constraintsOf(strict), intensity: 0.5 });
  own.gpu().temperatureC = 86;
  own.run(10);
  t.match(own.state.trips.get(own.tripId)?.reason, whose('85 °C'), 'the stricter one stops, though both are passed');
});

t.test('decide() protects a live lease by the constraints that it brought, down to their own hard stop', async (t) => {
  const strict = constraintsOf({ gpu: { temperatureC: { warning: 60, hardStop: 65 } } });
  const world = leased({ ...strict, intensity: 0.5 });
  world.gpu().temperatureC = 61;
  world.run(10);
  t.match(world.renew(), { result: { action: 'WAIT_COOLDOWN' } });
  world.gpu().temperatureC = 65;
  world.run(10);
  t.match(world.state.trips.get(world.tripId), { cause: 'hard-stop', reason: /65 °C, hard stop is 65 °C/ });
  t.match(world.renew(), { kind: 'lease-ended', ended: { outcome: 'stopped' } });
});

t.test("decide() drops a lease's constraints with the lease, and keeps looser ones out of force", async (t) => {
  const world = leased(constraintsOf({ gpu: { temperatureC: { warning: 60, hardStop: 100 } } }));
  t.match(resultOf(world.renew()).unprotected, [{ code: 'constraint-ignored', name: 'gpu.temperatureC.hardStop' }]);
  t.same(world.state.nodes.get(NODE)?.limits.constraints.gpu.temperatureC.hardStop, 85);
  world.run(10);
  const inForce = (): SafetyConstraints | undefined => world.state.nodes.get(NODE)?.limits.constraints;
  t.same(inForce()?.gpu.temperatureC, { warning: 60, hardStop: 85 });
  world.submit({ kind: 'release-asked', leaseId: LEASE_ID, identity: 'local' });
  world.run(10);
  t.same(inForce()?.gpu.temperatureC, { warning: 80, hardStop: 85 });
});
