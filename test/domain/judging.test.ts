// What a node must tell, what it may leave out, and what is made of it: evaluate() behind the real door.
import t from 'tap';
import { BIZON1_CONSTRAINTS } from '../../src/domain/constraints.ts';
import type { RawReading } from '../../src/domain/reading.ts';
import { EMPTY_REPORT } from '../../src/domain/reading.ts';
import type { Action } from '../../src/domain/result.ts';
import type { NodeSettings, RequirementName } from '../../src/domain/settings.ts';
import {
  coolGpu,
  coolNode,
  DomainWorld,
  type FakeNode,
  GPU_A,
  GPU_B,
  NODE,
  nodeSettings,
  START,
  worldSettings,
} from '../support/domain-world.ts';

/** The published verdict of an idle node that says this. */
function verdict(change: (node: FakeNode) => void, settings: Partial<NodeSettings> = {}): DomainWorld {
  const node = coolNode();
  const world = DomainWorld.running(worldSettings({}, settings), { [NODE]: node });
  change(node);
  world.pass(10_000);
  world.tick();
  return world;
}

const gpuOf = (node: FakeNode): NonNullable<FakeNode['gpus'][string]> => {
  const gpu = node.gpus[GPU_A];
  if (!gpu) throw new Error('the node has lost its GPU');
  return gpu;
};

t.test(
  'decide() makes every required reading that is absent, invalid or not a number a reason not to start',
  async (t) => {
    const breakers: Record<string, [(node: FakeNode, value: number | null) => void, string]> = {
      'CPU temperature': [(node, value) => Object.assign(node, { cpuC: value }), 'cpu//temperature'],
      'CPU load': [(node, value) => Object.assign(node, { cpuRatio: value }), 'cpu//utilization'],
      memory: [(node, value) => Object.assign(node, { memoryRatio: value }), 'memory//memory'],
      'GPU temperature': [
        (node, value) => Object.assign(gpuOf(node), { temperatureC: value }),
        `gpu/${GPU_A}/temperature`,
      ],
      'GPU power': [(node, value) => Object.assign(gpuOf(node), { powerW: value }), `gpu/${GPU_A}/power`],
      'GPU memory': [(node, value) => Object.assign(gpuOf(node), { memoryRatio: value }), `gpu/${GPU_A}/memory`],
    };
    for (const [name, [set, subject]] of Object.entries(breakers)) {
      for (const value of [null, Number.NaN, Infinity, -Infinity, -1, 1e12]) {
        const world = verdict((node) => set(node, value));
        t.same(world.codes, [`reading-missing ${subject}`], `${name}: ${value}`);
        t.equal(world.result.action, 'WAIT_COOLDOWN');
        t.notOk(world.preflight().result.safe);
      }
    }
  },
);

t.test('decide() takes 0 °C and 0 W for no reading, but an idle 0 % for one', async (t) => {
  t.same(verdict((node) => Object.assign(gpuOf(node), { temperatureC: 0 })).codes, [
    `reading-missing gpu/${GPU_A}/temperature`,
  ]);
  t.same(verdict((node) => Object.assign(gpuOf(node), { powerW: 0 })).codes, [`reading-missing gpu/${GPU_A}/power`]);
  t.same(verdict((node) => Object.assign(node, { cpuRatio: 0 })).codes, []);
  t.same(verdict((node) => Object.assign(gpuOf(node), { memoryRatio: 0 })).codes, []);
});

t.test('decide() never reads a temperature that is text or blank as cool', async (t) => {
  for (const value of ['9', '86', ' ', '', [] as unknown, {}, true]) {
    const world = verdict((node) => Object.assign(gpuOf(node), { temperatureC: value }));
    t.notOk(world.result.safe, JSON.stringify(value));
  }
  const world = verdict((node) => Object.assign(node, { gpus: {} }));
  t.notOk(world.result.safe, 'a card that was there and is not listed any more');
  t.match(world.result.findings[0], {
    code: 'reading-missing',
    component: 'gpu',
    message: /no source lists it now|gone|no longer/,
  });
});

t.test("decide() takes the worst finding's action for the result, and safe only for PROCEED", async (t) => {
  const cases: [(node: FakeNode) => void, Action][] = [
    [() => undefined, 'PROCEED'],
    [(node) => Object.assign(node, { memoryRatio: 0.99 }), 'REDUCE_INTENSITY'],
    [(node) => Object.assign(node, { memoryRatio: 0.99, cpuC: 91 }), 'WAIT_COOLDOWN'],
    [
      (node) =>
        Object.assign(node, { memoryRatio: 0.99, cpuC: 91, gpus: { [GPU_A]: { ...coolGpu(), temperatureC: 85 } } }),
      'ABORT',
    ],
  ];
  for (const [change, action] of cases) {
    const { result } = verdict(change);
    t.equal(result.action, action);
    t.equal(result.safe, action === 'PROCEED');
  }
  const refused = DomainWorld.running();
  refused.node.memoryRatio = 0.99;
  refused.inventory([], false, false);
  refused.run(10);
  t.match(refused.result, { action: 'WAIT_COOLDOWN', findings: [{ level: 'refusal' }, { level: 'warning' }] });
  const { result } = verdict((node) => Object.assign(node, { memoryRatio: 0.99 }));
  t.match(result, { intensityFactor: 0.5 });
  t.equal(verdict((node) => Object.assign(node, { cpuC: 91 })).result.waitSeconds, 60);
});

t.test('decide() excuses by a waiver what is absent, and judges what is there all the same', async (t) => {
  const waivers: [RequirementName, (node: FakeNode) => void, (node: FakeNode) => void][] = [
    ['cpu-temperature', (node) => Object.assign(node, { cpuC: {} }), (node) => Object.assign(node, { cpuC: 96 })],
    [
      'gpu-power',
      (node) => Object.assign(gpuOf(node), { powerW: null }),
      (node) => Object.assign(gpuOf(node), { powerW: 260 }),
    ],
    [
      'gpu-temperature',
      (node) => Object.assign(gpuOf(node), { temperatureC: null }),
      (node) => Object.assign(gpuOf(node), { temperatureC: 86 }),
    ],
    [
      'memory',
      (node) => Object.assign(node, { memoryRatio: null }),
      (node) => Object.assign(node, { memoryRatio: 0.9 }),
    ],
  ];
  for (const [name, absent, bad] of waivers) {
    const world = verdict(absent, { waive: [name] });
    t.same(world.codes, [], `${name} waived and absent`);
    t.ok(
      world.result.unprotected.some((item) => item.code === 'waived' && item.name === name),
      `${name} is listed as unprotected`,
    );
    t.not(verdict(bad, { waive: [name] }).result.action, 'PROCEED', `${name} waived and bad`);
  }
});

t.test('decide() takes a waiver of one card by UUID or PCI address for that card alone', async (t) => {
  for (const key of [GPU_A, '0000:0b:00.0']) {
    const gpus = new Map([[key, { waive: ['gpu-power' as const], ignore: false }]]);
    const blind = (id: string) => (node: FakeNode) => {
      Object.assign(gpuOf(node), { pciAddress: '0000:0b:00.0' });
      Object.assign(node.gpus[id] ?? {}, { powerW: null });
    };
    t.same(verdict(blind(GPU_A), { gpus }).codes, [], key);
    t.same(verdict(blind(GPU_B), { gpus }).codes, [`reading-missing gpu/${GPU_B}/power`], key);
  }
});

t.test('decide() leaves an ignored card out of everything, and says so', async (t) => {
  const ignoring = { gpus: new Map([[GPU_A, { waive: [], ignore: true }]]), expectGpus: 2 };
  const world = verdict(
    (node) => Object.assign(gpuOf(node), { temperatureC: 110, powerW: null, throttled: 'HW slowdown' }),
    ignoring,
  );
  world.pass(10_000);
  world.tick();
  t.same(world.codes, [], 'not judged, not required, not expected');
  t.ok(world.result.unprotected.some((item) => item.code === 'ignored' && item.id === GPU_A));
  t.same(verdict((node) => Object.assign(node, { gpus: { [GPU_B]: coolGpu() } }), ignoring).codes, [], 'nor known');
});

t.test('decide() misses cards that are expected and not known', async (t) => {
  t.match(verdict(() => undefined, { expectGpus: 3 }).result.findings, [
    { code: 'reading-missing', component: 'gpu', message: /2 of 3 expected GPUs/ },
  ]);
  t.same(verdict(() => undefined, { expectGpus: 2 }).codes, []);
});

t.test(
  'decide() takes a sign of a GPU that nothing reads for a missing reading, and keeps it while the source fails',
  async (t) => {
    const signs = [{ kind: 'nvidia-smi-failed' as const, detail: 'nvidia-smi exited with 9' }];
    const world = DomainWorld.running(worldSettings(), { [NODE]: { ...coolNode(), gpus: {} } });
    t.same(world.codes, [], 'a node without any sign needs no GPU');
    let sign: SourceSign = 'none';
    type SourceSign = 'none' | 'failing' | 'timeout';
    world.others = [
      (atMs) => ({
        ...EMPTY_REPORT,
        source: 'nvidia-smi',
        node: NODE,
        startedAtMs: atMs,
        finishedAtMs: atMs,
        outcome: sign === 'none' ? { kind: 'answered' } : { kind: 'failed', cause: 'timeout', detail: 'no answer' },
        gpuSigns: sign === 'failing' ? signs : [],
      }),
    ];
    world.run(10);
    t.same(world.codes, []);
    for (sign of ['failing', 'timeout'] as const) {
      world.run(10);
      t.match(
        world.result.findings,
        [{ code: 'reading-missing', component: 'gpu', message: /nvidia-smi exited with 9/ }],
        sign,
      );
    }
    sign = 'none';
    world.run(10);
    t.same(world.codes, []);
  },
);

t.test('decide() starts nothing while a source has never answered, unless its tool is not installed', async (t) => {
  for (const [cause, isSafe] of [
    ['refused', false],
    ['timeout', false],
    ['not-installed', true],
  ] as const) {
    const world = DomainWorld.running();
    world.others = [
      (atMs) => ({
        ...EMPTY_REPORT,
        source: 'http://127.0.0.1:9400/metrics',
        node: NODE,
        startedAtMs: atMs,
        finishedAtMs: atMs,
        outcome: { kind: 'failed', cause, detail: 'no luck' },
      }),
    ];
    world.run(10);
    t.equal(world.result.safe, isSafe, cause);
    t.equal(world.preflight().result.safe, isSafe, cause);
  }
});

t.test("decide() judges the memory of a card without its own by the system's", async (t) => {
  const unified = (node: FakeNode): void => {
    for (const gpu of Object.values(node.gpus)) Object.assign(gpu, { unifiedMemory: true, memoryRatio: null });
  };
  t.same(verdict(unified).codes, []);
  t.same(
    verdict((node) => {
      unified(node);
      node.memoryRatio = null;
    }).codes.sort(),
    [`reading-missing gpu/${GPU_A}/memory`, `reading-missing gpu/${GPU_B}/memory`, 'reading-missing memory//memory'],
  );
});

t.test(
  'decide() misses a CPU chip that fell silent while the other talks on, and judges the hotter of two',
  async (t) => {
    const node = { ...coolNode(), cpuC: { 'coretemp-0': 50, 'coretemp-1': 55 } as Record<string, number | null> };
    const world = DomainWorld.running(worldSettings(), { [NODE]: node });
    t.same(world.codes, []);
    node.cpuC = { 'coretemp-0': 50 };
    world.run(10);
    t.same(world.codes, ['reading-missing cpu//temperature']);
    node.cpuC = { 'chip-a': 50, 'chip-b': 91 };
    world.run(10);
    t.same(
      world.codes.filter((code) => !code.startsWith('interlock')),
      ['over-warning cpu/chip-b/temperature'],
      'renamed chips are still two',
    );
  },
);

t.test('decide() estimates total power from its parts, labelled, and warns and stops by it', async (t) => {
  // Seven cards at 249 W say nothing of CPU, board and power supply: the wall is far over 2000 W.
  const gpus = Object.fromEntries(Array.from({ length: 7 }, (_, n) => [`GPU-${n}`, { ...coolGpu(), powerW: 249 }]));
  const node = (): FakeNode => ({ ...coolNode(), totalW: null, gpus });
  const power = { baseW: 120, psuEfficiency: 0.9 };
  const world = DomainWorld.running(worldSettings({}, { power }), { [NODE]: node() });
  t.match(world.result.findings, [
    { code: 'over-warning', quantity: 'total-power', action: 'REDUCE_INTENSITY', message: /estimated/ },
  ]);
  t.ok(Math.abs((world.result.findings[0]?.value ?? 0) - (7 * 249 + 120) / 0.9) < 1e-9);
  const stopping = DomainWorld.running(worldSettings({}, { power: { baseW: 120, psuEfficiency: 0.8 } }), {
    [NODE]: node(),
  });
  t.equal(stopping.interlock, 'tripped');
  const unknown = DomainWorld.running(worldSettings(), { [NODE]: node() });
  t.ok(unknown.result.safe, 'without a configured base there is no estimate');
  t.match(
    unknown.result.unprotected,
    [{ code: 'not-measured', name: 'total-power' }],
    'and it is said that nothing is protected',
  );
});

t.test('decide() never takes an estimate for a required total-power', async (t) => {
  const settings = { require: ['total-power' as const], power: { baseW: 100, psuEfficiency: 0.9 } };
  t.same(verdict((node) => Object.assign(node, { totalW: null }), settings).codes, [
    'reading-missing system//total-power',
  ]);
  t.same(verdict(() => undefined, settings).codes, []);
  const estimated: RawReading = {
    component: 'system',
    quantity: 'total-power',
    value: 900,
    origin: 'sum',
    estimated: true,
  };
  t.same(
    verdict((node) => Object.assign(node, { totalW: undefined, also: [estimated] }), settings).codes,
    ['reading-missing system//total-power'],
    'nor one that a source made',
  );
  t.same(verdict((node) => Object.assign(node, { totalW: null })).codes, [], 'nobody requires it by default');
});

t.test('decide() takes total power from the source that ranks first, not from the highest', async (t) => {
  const psu: RawReading = { component: 'system', quantity: 'total-power', value: 2100, origin: 'psu', rank: 5 };
  t.same(verdict((node) => Object.assign(node, { also: [psu] })).codes, []);
  t.same(verdict((node) => Object.assign(node, { totalW: undefined, also: [psu] })).codes, [
    'over-warning system//total-power',
  ]);
});

t.test(
  'decide() counts hardware throttling from the second sample running on, whatever other sources say',
  async (t) => {
    const world = DomainWorld.running();
    // Another source lists the same cards and knows nothing of throttling.
    world.others = [
      (atMs) => ({
        ...EMPTY_REPORT,
        source: 'another exporter',
        node: NODE,
        startedAtMs: atMs,
        finishedAtMs: atMs,
        outcome: { kind: 'answered' },
        gpus: [{ id: GPU_A, uuid: GPU_A, vendor: 'nvidia', required: true }],
      }),
    ];
    world.gpu().throttled = 'HW thermal slowdown';
    world.run(10);
    t.same(world.codes, [], 'one sample is a blink');
    world.run(10);
    t.match(world.result, {
      action: 'WAIT_COOLDOWN',
      findings: [{ code: 'hardware-throttle', id: GPU_A, message: /HW thermal slowdown/ }],
    });
    delete world.gpu().throttled;
    world.run(10);
    t.same(world.codes, []);
    world.gpu().throttled = 'HW power brake';
    world.run(10);
    t.same(world.codes, [], 'it counts anew');
  },
);

t.test('decide() does not take one throttled sample that is read twice for two', async (t) => {
  const world = DomainWorld.running();
  world.gpu().witness = 5;
  world.run(10);
  Object.assign(world.gpu(), { throttled: 'HW power brake', witness: 6 });
  world.run(10);
  world.pass(2_000);
  world.fast();
  world.pass(2_000);
  world.tick();
  t.same(world.codes, [], 'the counter has not moved: it is the same sample');
  world.gpu().witness = 7;
  world.pass(6_000);
  world.tick();
  t.same(world.codes, [`hardware-throttle gpu/${GPU_A}/`]);
});

t.test('decide() takes reports once that answer several questions, and judges anew each time', async (t) => {
  const world = DomainWorld.running();
  const reports = world.reports();
  const ask = (): void => {
    const answer = world.submit({ kind: 'preflight-asked', request: START, reports });
    t.match(answer, { kind: 'judged', result: { safe: true } });
  };
  ask();
  const { watch } = world.state.nodes.get(NODE) ?? {};
  ask();
  t.equal(world.state.nodes.get(NODE)?.watch, watch);
  world.pass(31_000);
  const late = world.submit({ kind: 'preflight-asked', request: START, reports });
  t.match(late, { kind: 'judged', result: { safe: false } }, 'what was young at the first question is too old by now');
});

t.test('decide() judges each node by its own profile', async (t) => {
  const settings = worldSettings({
    nodes: new Map([
      [NODE, nodeSettings({ constraints: BIZON1_CONSTRAINTS, profile: 'bizon1' })],
      ['other', nodeSettings()],
    ]),
  });
  const warm = (): FakeNode => ({ ...coolNode(), gpus: { [GPU_A]: { ...coolGpu(), temperatureC: 76 } } });
  const other = warm();
  other.gpus = { [GPU_B]: { ...coolGpu(), temperatureC: 76 } };
  const world = DomainWorld.running(settings, { [NODE]: warm(), other });
  t.same(world.codes, [`over-warning gpu/${GPU_A}/temperature`, 'interlock-cooling interlock//']);
  t.ok(world.preflight({ nodes: ['other'] }).result.safe);
  t.notOk(world.preflight({ nodes: [NODE] }).result.safe);
});

t.test("decide() takes a card's slowdown temperature once per start, and shows it in the digest", async (t) => {
  const plain = DomainWorld.running();
  const world = new DomainWorld();
  world.gpu().slowdownC = 75;
  world.tick();
  world.gpu().slowdownC = 84;
  world.gpu().temperatureC = 75;
  world.run(10);
  t.equal(world.interlock, 'tripped', 'the first word stands');
  t.not(world.result.constraintsDigest, plain.result.constraintsDigest);
  for (const slowdownC of [59.9, 85, Number.NaN, -3]) {
    const hot = new DomainWorld();
    Object.assign(hot.gpu(), { slowdownC, temperatureC: 85 });
    hot.tick();
    t.equal(hot.interlock, 'tripped', `a slowdown of ${slowdownC} °C changes nothing`);
  }
});

t.test('decide() counts the last readings of a failing source for running work, and never for a start', async (t) => {
  const world = verdict((node) => Object.assign(node, { fails: true }));
  t.notOk(world.preflight().result.safe, 'nothing may start on what was read a moment ago');
  t.match(world.preflight().result.findings, [{ code: 'reading-missing' }]);
  const node = coolNode();
  const loaded = DomainWorld.running(worldSettings(), { [NODE]: node });
  loaded.inventory([{ kind: 'pod', node: NODE, name: 'vsf/burner-0' }], true);
  node.fails = true;
  loaded.pass(10_000);
  loaded.tick();
  t.equal(loaded.result.action, 'PROCEED', 'what runs goes on for staleAfter');
  loaded.pass(25_000);
  loaded.tick();
  t.equal(loaded.result.action, 'WAIT_COOLDOWN');
});
