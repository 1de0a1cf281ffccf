// The limits: what a profile may be, and which of two is stricter.
import t from 'tap';
import {
  BIZON1_CONSTRAINTS,
  canonicalText,
  cardTemperatureC,
  DEFAULT_CONSTRAINTS,
  digestOf,
  looserKeys,
  parseConstraints,
  type SafetyConstraints,
  stricterOf,
} from '../../src/domain/constraints.ts';

/** Every limit as a path, its value in the default profile, and the largest value that is plausible. */
const CELLS = [
  ['gpu.temperatureC.warning', 80, 110],
  ['gpu.temperatureC.hardStop', 85, 110],
  ['gpu.powerW.warning', 250, 1500],
  ['gpu.powerW.hardStop', 300, 1500],
  ['gpu.memoryRatio.max', 0.9, 'below 1'],
  ['cpu.temperatureC.warning', 90, 110],
  ['cpu.temperatureC.hardStop', 95, 110],
  ['cpu.utilizationRatio.max', 0.8, 'below 1'],
  ['system.powerW.warning', 2000, 20_000],
  ['system.powerW.hardStop', 2200, 20_000],
  ['system.memoryRatio.max', 0.85, 'below 1'],
  ['workload.intensityRatio.max', 0.8, 'below 1'],
] as const;

type Tree = { [key: string]: Tree | unknown };

/** `{ gpu: { powerW: { warning: 1 } } }` from `gpu.powerW.warning`. */
function nested(key: string, value: unknown): Tree {
  return key.split('.').reduceRight<unknown>((inner, step) => ({ [step]: inner }), value) as Tree;
}

function valueAt(constraints: SafetyConstraints, key: string): unknown {
  return key.split('.').reduce<unknown>((tree, step) => (tree as Tree)[step], constraints);
}

/** A profile in which this one cell has that value, and its partner does not stand in the way. */
function profileWith(key: string, value: number): Tree {
  if (key.endsWith('.hardStop')) {
    const [part = '', quantity = ''] = key.split('.');
    return { [part]: { [quantity]: { warning: value / 2, hardStop: value } } };
  }
  if (key.endsWith('.warning')) {
    const [part = '', quantity = ''] = key.split('.');
    return { [part]: { [quantity]: { warning: value, hardStop: value + 1 } } };
  }
  return nested(key, value);
}

const parsed = (input: unknown): SafetyConstraints => {
  const result = parseConstraints(input);
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  return result.constraints;
};

const problemKeys = (input: unknown): string[] => {
  const result = parseConstraints(input);
  return result.ok ? [] : result.problems.map(({ key }) => key);
};

t.test('DEFAULT_CONSTRAINTS is the table of limits, and every cell of it is frozen', async (t) => {
  for (const [key, value] of CELLS) t.equal(valueAt(DEFAULT_CONSTRAINTS, key), value, key);
  t.same(
    BIZON1_CONSTRAINTS,
    {
      gpu: {
        temperatureC: { warning: 75, hardStop: 80 },
        powerW: { warning: 230, hardStop: 280 },
        memoryRatio: { max: 0.85 },
      },
      cpu: { temperatureC: { warning: 85, hardStop: 90 }, utilizationRatio: { max: 0.7 } },
      system: { powerW: { warning: 1800, hardStop: 2000 }, memoryRatio: { max: 0.8 } },
      workload: { intensityRatio: { max: 0.7 } },
    },
    'bizon1',
  );
  const own = parsed({ gpu: { powerW: { warning: 200 } } });
  for (const profile of [DEFAULT_CONSTRAINTS, BIZON1_CONSTRAINTS, own, stricterOf(own, BIZON1_CONSTRAINTS)]) {
    for (const [key] of CELLS) {
      const path = key.split('.');
      for (let depth = 0; depth < path.length; depth += 1) {
        const inner = path.slice(0, depth).reduce<unknown>((tree, step) => (tree as Tree)[step], profile);
        t.ok(Object.isFrozen(inner), `${path.slice(0, depth).join('.') || 'the profile'} is frozen`);
      }
    }
    t.throws(() => Object.assign(profile.gpu.temperatureC, { hardStop: 200 }), TypeError);
    t.throws(() => Object.assign(profile, { gpu: {} }), TypeError);
  }
});

t.test('parseConstraints() takes each limit up to what is plausible, and nothing beyond', async (t) => {
  for (const [key, , bound] of CELLS) {
    if (bound === 'below 1') {
      t.equal(valueAt(parsed(nested(key, 0.9999)), key), 0.9999, key);
      t.same(problemKeys(nested(key, 1)), [key], `${key} of 1 would be "off"`);
      t.same(problemKeys(nested(key, 1.2)), [key]);
      continue;
    }
    const most = key.endsWith('.warning') ? bound - 1 : bound;
    t.equal(valueAt(parsed(profileWith(key, most)), key), most, key);
    t.ok(problemKeys(profileWith(key, bound + 0.1)).includes(key), `${key} over ${bound}`);
  }
});

t.test(
  'parseConstraints() refuses every value that is no finite number over 0, naming key, value and rule',
  async (t) => {
    for (const [key] of CELLS) {
      for (const value of [0, -1, Number.NaN, Infinity, -Infinity, null, '85', true, [85], {}, undefined]) {
        const result = parseConstraints(nested(key, value));
        if (result.ok) t.fail(`${key} took ${String(value)}`);
        else {
          t.same(result.problems.length, 1, `${key}: ${String(value)}`);
          t.match(result.problems[0], { key, rule: /finite number over 0/ });
          t.ok(Object.is(result.problems[0]?.value, value));
        }
      }
    }
  },
);

t.test(
  'parseConstraints() refuses a warning that is not below its hard stop, also against the profile it extends',
  async (t) => {
    t.same(problemKeys({ gpu: { temperatureC: { warning: 85 } } }), ['gpu.temperatureC.warning']);
    t.same(problemKeys({ gpu: { temperatureC: { warning: 84.9 } } }), []);
    t.same(problemKeys({ gpu: { temperatureC: { hardStop: 80 } } }), ['gpu.temperatureC.warning']);
    t.same(problemKeys({ extends: 'bizon1', gpu: { temperatureC: { warning: 80 } } }), ['gpu.temperatureC.warning']);
    t.same(problemKeys({ system: { powerW: { warning: 2200, hardStop: 2200 } } }), ['system.powerW.warning']);
  },
);

t.test('parseConstraints() refuses what it does not know, and names all of it at once', async (t) => {
  const keys = problemKeys({
    extends: 'strict',
    gpu: { temperatureC: { warning: 70, hardstop: 85 }, fanRpm: { max: 0.5 }, powerW: 300 },
    disk: {},
    cpu: { temperatureC: { warning: { value: 80 } } },
  });
  t.same(keys.sort(), [
    'cpu.temperatureC.warning',
    'disk',
    'extends',
    'gpu.fanRpm',
    'gpu.powerW',
    'gpu.temperatureC.hardstop',
  ]);
  const prototypes = JSON.parse('{"__proto__": {"max": 0.1}, "constructor": {"max": 0.1}}') as unknown;
  t.same(problemKeys(prototypes).sort(), ['__proto__', 'constructor'], 'no name of JavaScript is a limit');
  for (const input of ['off', '', 'toString', 7, null, undefined, [], true]) {
    t.notOk(parseConstraints(input).ok, String(input));
  }
});

t.test('parseConstraints() fills what is left out from the profile that is extended', async (t) => {
  t.match(parseConstraints('default'), { ok: true, profile: 'default', constraints: DEFAULT_CONSTRAINTS });
  t.match(parseConstraints('bizon1'), { ok: true, profile: 'bizon1', constraints: BIZON1_CONSTRAINTS });
  t.same(parsed({}), DEFAULT_CONSTRAINTS);
  t.same(parsed({ extends: 'bizon1' }), BIZON1_CONSTRAINTS);
  const own = parseConstraints({ extends: 'bizon1', gpu: { temperatureC: { warning: 70 } } });
  t.match(own, { ok: true, profile: 'custom', given: ['gpu.temperatureC.warning'] });
  if (own.ok) t.same(own.constraints.gpu.temperatureC, { warning: 70, hardStop: 80 });
});

t.test('stricterOf() takes the lower of every cell, in either order', async (t) => {
  t.same(stricterOf(DEFAULT_CONSTRAINTS, BIZON1_CONSTRAINTS), BIZON1_CONSTRAINTS);
  t.same(stricterOf(BIZON1_CONSTRAINTS, DEFAULT_CONSTRAINTS), BIZON1_CONSTRAINTS);
  const own = parsed({ gpu: { temperatureC: { warning: 60, hardStop: 109 } }, system: { memoryRatio: { max: 0.95 } } });
  const both = stricterOf(own, BIZON1_CONSTRAINTS);
  t.same(both.gpu.temperatureC, { warning: 60, hardStop: 80 });
  t.equal(both.system.memoryRatio.max, 0.8);
});

t.test('looserKeys() names what a request gave and what is looser than the limit in force, nothing else', async (t) => {
  const asked = parsed({
    gpu: { temperatureC: { warning: 82, hardStop: 83 } },
    cpu: { utilizationRatio: { max: 0.7 } },
  });
  const given = ['gpu.temperatureC.warning', 'gpu.temperatureC.hardStop', 'cpu.utilizationRatio.max'];
  t.same(looserKeys(asked, DEFAULT_CONSTRAINTS, given), ['gpu.temperatureC.warning']);
  t.same(looserKeys(asked, BIZON1_CONSTRAINTS, given), ['gpu.temperatureC.warning', 'gpu.temperatureC.hardStop']);
  t.same(looserKeys(DEFAULT_CONSTRAINTS, BIZON1_CONSTRAINTS, []), [], 'what was not given is not looser');
});

t.test(
  'cardTemperatureC() takes a slowdown from 60 °C to below the hard stop, its warning at most 5 °C below',
  async (t) => {
    const profile = { warning: 80, hardStop: 85 };
    const table: [number | undefined, { warning: number; hardStop: number }][] = [
      [undefined, profile],
      [-8, profile],
      [0, profile],
      [59.9, profile],
      [60, { warning: 55, hardStop: 60 }],
      [83, { warning: 78, hardStop: 83 }],
      [84.9, { warning: 79.9, hardStop: 84.9 }],
      [85, profile],
      [97, profile],
      [Number.NaN, profile],
    ];
    for (const [slowdownC, expected] of table)
      t.same(cardTemperatureC(profile, slowdownC), expected, String(slowdownC));
    t.same(
      cardTemperatureC({ warning: 70, hardStop: 85 }, 84),
      { warning: 70, hardStop: 84 },
      'a stricter warning stays',
    );
  },
);

t.test('digestOf() tells every limit apart and is the same for the same limits', async (t) => {
  const digest = (input: unknown): string => digestOf(canonicalText(parsed(input)));
  t.match(digest('default'), /^[0-9a-f]{16}$/);
  t.equal(digest('default'), digest({}));
  const digests = new Set([digest('default'), digest('bizon1')]);
  for (const [key, value] of CELLS) digests.add(digest(nested(key, value * 0.99)));
  t.equal(digests.size, 2 + CELLS.length);
});
