// What the hardware says of its own limits, against ours: told with what would resolve it, and changing nothing by itself.
import t from 'tap';
import { limitConflicts } from '../../src/domain/conflicts.ts';
import { EMPTY_REPORT, type HardwareLimits } from '../../src/domain/reading.ts';
import { DomainWorld, GPU_A, NODE } from '../support/domain-world.ts';

/** The conflicts of a cool node whose hardware says this of itself, as `code limit hardware`. */
function conflictsOf(own: Omit<HardwareLimits, 'component'> & Partial<HardwareLimits>): string[] {
  const world = DomainWorld.running();
  const hardwareLimits = [{ component: 'gpu' as const, id: GPU_A, ...own }];
  world.others = [
    (atMs) => ({
      ...EMPTY_REPORT,
      source: 'limits',
      node: NODE,
      startedAtMs: atMs,
      finishedAtMs: atMs,
      outcome: { kind: 'answered' },
      hardwareLimits,
    }),
  ];
  world.pass(10_000);
  world.tick();
  if (!world.result.safe) throw new Error(`a conflict refuses nothing: ${world.result.reason}`);
  return limitConflicts(world.state).map(({ code, limit, hardware }) => `${code} ${limit} ${hardware}`);
}

t.test('limitConflicts() names a card whose own power limit reaches the warning or the hard stop', async (t) => {
  t.same(conflictsOf({ enforcedPowerW: 249.9 }), []);
  t.same(conflictsOf({ enforcedPowerW: 250 }), ['gpu-power-limit-at-warning 250 250']);
  t.same(conflictsOf({ enforcedPowerW: 299.9 }), ['gpu-power-limit-at-warning 250 299.9']);
  t.same(conflictsOf({ enforcedPowerW: 300 }), ['gpu-power-limit-at-hard-stop 300 300']);
  t.same(conflictsOf({ defaultPowerW: 700 }), ['gpu-power-limit-at-hard-stop 300 700']);
  t.same(conflictsOf({ enforcedPowerW: 200, defaultPowerW: 700 }), [], 'capped already');
});

t.test('limitConflicts() names a card that regulates itself to its warning or above', async (t) => {
  t.same(conflictsOf({ targetC: 79 }), []);
  t.same(conflictsOf({ targetC: 80 }), ['gpu-target-temperature-at-warning 80 80']);
  t.same(conflictsOf({ targetC: 84 }), ['gpu-target-temperature-at-warning 80 84']);
});

t.test('limitConflicts() names a CPU that calls our hard stop critical, or less', async (t) => {
  t.same(conflictsOf({ component: 'cpu', criticalC: 95.1 }), []);
  t.same(conflictsOf({ component: 'cpu', criticalC: 95 }), ['cpu-critical-at-hard-stop 95 95']);
});
