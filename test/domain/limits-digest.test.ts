// One digest over every limit in force: the same for the same limits, whatever the order in which they were learnt.
import t from 'tap';
import { DEFAULT_CONSTRAINTS } from '../../src/domain/constraints.ts';
import { limitsDigest } from '../../src/domain/limits-digest.ts';
import { coolNode, DomainWorld, GPU_A, GPU_B, nodeSettings, profile, worldSettings } from '../support/domain-world.ts';

const STRICT = profile((copy) => {
  copy.gpu = { ...copy.gpu, temperatureC: { warning: 70, hardStop: 75 } };
});

/** The digest of nodes with these profiles, whose cards slow down at these temperatures. */
function digest(
  profiles: Readonly<Record<string, typeof DEFAULT_CONSTRAINTS>>,
  slowdowns: Readonly<Record<string, Readonly<Record<string, number>>>> = {},
): string {
  const nodes = Object.keys(profiles).map(
    (name) => [name, nodeSettings({ constraints: profiles[name] as never })] as const,
  );
  const world = new DomainWorld(worldSettings({ nodes: new Map(nodes) }), {});
  world.nodes = Object.fromEntries(
    Object.entries(slowdowns).map(([name, cards]) => {
      const gpus = Object.entries(cards).map(([id, slowdownC]) => [id, { temperatureC: 50, slowdownC }]);
      return [name, { ...coolNode(), gpus: Object.fromEntries(gpus) }];
    }),
  );
  world.tick();
  return limitsDigest(world.state);
}

const a = DEFAULT_CONSTRAINTS;

t.test('limitsDigest() tells limits apart, and nothing else', async (t) => {
  const plain = digest({ one: a, two: a });
  t.match(plain, /^[0-9a-f]{16}$/);
  t.equal(digest({ two: a, one: a }), plain, 'the order of the nodes is nothing');
  t.not(digest({ one: STRICT, two: a }), plain);
  t.not(digest({ one: STRICT, two: a }), digest({ one: a, two: STRICT }), 'whose limit it is');
  const own = digest({ one: a, two: a }, { one: { [GPU_A]: 82 } });
  t.not(own, plain, 'a card with a limit of its own');
  t.not(own, digest({ one: a, two: a }, { one: { [GPU_A]: 81 } }));
  t.not(own, digest({ one: a, two: a }, { two: { [GPU_A]: 82 } }));
  t.not(own, digest({ one: a, two: a }, { one: { [GPU_B]: 82 } }));
  t.equal(digest({ one: a, two: a }, { one: { [GPU_A]: 98 } }), plain, 'one above the hard stop changes nothing');
  t.equal(
    digest({ one: STRICT, two: a }, { one: { [GPU_A]: 82 } }),
    digest({ one: STRICT, two: a }),
    'nor one above its node’s',
  );
});

t.test('limitsDigest() is the same in whatever order cards and nodes were seen', async (t) => {
  const profiles = { one: a, two: a };
  t.equal(
    digest(profiles, { one: { [GPU_A]: 82, [GPU_B]: 81 }, two: { [GPU_A]: 80 } }),
    digest(profiles, { two: { [GPU_A]: 80 }, one: { [GPU_B]: 81, [GPU_A]: 82 } }),
  );
});
