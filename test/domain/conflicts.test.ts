// What the hardware says of its own limits, against ours: told with what would resolve it, and changing nothing by itself.
import t from 'tap';
import { limitConflicts } from '../../src/domain/conflicts.ts';
import type { HardwareLimits } from '../../src/domain/reading.ts';
import { answered, DomainWorld, GPU_A, GPU_B, NODE, worldSettings } from '../support/domain-world.ts';

/** A cool node whose hardware says this of itself. */
function limited(hardwareLimits: readonly HardwareLimits[], settings = worldSettings()): DomainWorld {
  const world = DomainWorld.running(settings);
  world.others = [(atMs) => answered('limits', atMs, { hardwareLimits })];
  world.pass(10_000);
  world.tick();
  if (!world.result.safe) throw new Error(`a conflict refuses nothing: ${world.result.reason}`);
  return world;
}

/** The conflicts of a cool node of which one part says this of itself, as `code limit hardware`. */
function conflictsOf(own: Omit<HardwareLimits, 'component'> & Partial<HardwareLimits>): string[] {
  const world = limited([{ component: 'gpu', id: GPU_A, ...own }]);
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

t.test(
  'limitConflicts() tells each conflict of a card once, under its one name, with what would resolve it',
  async (t) => {
    const world = limited([
      { component: 'gpu', id: GPU_A, enforcedPowerW: 320 },
      { component: 'gpu', id: GPU_A, enforcedPowerW: 320, slowdownC: 83 },
      { component: 'gpu', id: GPU_B, enforcedPowerW: 320 },
      { component: 'gpu', id: 'GPU-unknown', enforcedPowerW: 320 },
      { component: 'cpu', id: 'coretemp-0', criticalC: 90 },
      { component: 'cpu', criticalC: 91 },
    ]);
    t.match(limitConflicts(world.state), [
      { code: 'gpu-power-limit-at-hard-stop', id: GPU_A, remedy: /warning: 327, hardStop: 352.*-pl 237/ },
      { code: 'gpu-slowdown-below-hard-stop', id: GPU_A, hardware: 83, remedy: null },
      { code: 'gpu-power-limit-at-hard-stop', id: GPU_B },
      { code: 'cpu-critical-at-hard-stop', id: 'coretemp-0', hardware: 90, remedy: /87/ },
      { code: 'cpu-critical-at-hard-stop', hardware: 91, remedy: /88/ },
    ]);
    t.equal(limitConflicts(world.state).length, 5);
    t.notOk('id' in (limitConflicts(world.state).at(-1) ?? {}), 'a CPU that is not told apart has no name');
    t.same(limitConflicts(world.state, ['another']), []);
    t.equal(limitConflicts(world.state, [NODE]).length, 5);
  },
);

t.test('limitConflicts() says nothing of a card that is left out', async (t) => {
  const settings = worldSettings({}, { gpus: new Map([[GPU_A, { waive: [], ignore: true }]]) });
  const world = limited([{ component: 'gpu', id: GPU_A, enforcedPowerW: 320 }], settings);
  t.same(limitConflicts(world.state), []);
});

t.test('limitConflicts() knows a card by whatever name a source has for it', async (t) => {
  const world = limited([{ component: 'gpu', id: '0000:0b:00.0', enforcedPowerW: 320 }]);
  t.same(limitConflicts(world.state), [], 'no card that is known');
  world.gpu().pciAddress = '0000:0b:00.0';
  world.run(10);
  t.match(limitConflicts(world.state), [{ code: 'gpu-power-limit-at-hard-stop', id: GPU_A }]);
});
