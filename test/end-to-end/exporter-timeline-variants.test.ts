// Sequences of bodies that lie in the ways that people reported, in words of our own: other exporters, other numbers.
// Over HTTP and through decide(), like exporter-timelines.test.ts, and with nothing beside this project.
import t, { type Test } from 'tap';
import { AMD_UUID, amd, CARD_A, CARD_B, DCGM_A, DCGM_B, dcgm, intel, nvidiaCard } from '../fixtures/gpu-exporters.ts';
import { cpuTimes, intelSocket } from '../fixtures/node-exporter.ts';
import { NODE } from '../support/domain-world.ts';
import { ExporterRig, findingsOf, type RigOptions } from '../support/exporter-rig.ts';

const MEMORY = { memoryRatio: 0.3 };
const AMD_A = `GPU-${AMD_UUID}`;
const INTEL_A = '0000:03:00.0';

interface Told {
  readonly temp: number | string;
  readonly power: number | string;
}

/** One card as each exporter tells it; by its id. */
const EXPORTERS: readonly (readonly [id: string, body: (card: Told) => string])[] = [
  [
    CARD_A,
    ({ temp, power }) =>
      dcgm('GPU_TEMP', DCGM_A, temp) +
      dcgm('POWER_USAGE', DCGM_A, power) +
      dcgm('FB_USED', DCGM_A, 100) +
      dcgm('FB_FREE', DCGM_A, 900),
  ],
  [
    CARD_B,
    ({ temp, power }) =>
      nvidiaCard(CARD_B, { temperature_gpu: null, power_draw_watts: null, power_draw_average_watts: null }) +
      `nvidia_smi_temperature_gpu{uuid="${CARD_B.slice(4)}"} ${temp}\n` +
      `nvidia_smi_power_draw_watts{uuid="${CARD_B.slice(4)}"} ${power}\n`,
  ],
  [
    AMD_A,
    ({ temp, power }) => {
      const own = { gpu_uuid: AMD_UUID };
      const memory = amd('gpu_used_vram', own, 100) + amd('gpu_free_vram', own, 900);
      return amd('gpu_edge_temperature', own, temp) + amd('gpu_power_usage', own, power) + memory;
    },
  ],
  [
    INTEL_A,
    ({ temp, power }) =>
      intel('hw_temperature_celsius', 'hw_sensor_location="gpu"', Number(temp)) +
      intel('hw_power_watts', 'hw_sensor_location="card"', Number(power)) +
      intel('hw_memory_utilization_ratio', '', 0.3),
  ],
];

/** Starts each exporter well, under a workload, and lets `check` go on. */
function onEach(
  title: string,
  start: Told,
  check: (t: Test, rig: ExporterRig, id: string, serve: (card: Partial<Told>) => void) => Promise<unknown>,
): void {
  for (const [id, body] of EXPORTERS) {
    t.test(`decide() over HTTP: ${title} (${id})`, async (t) => {
      const rig = await ExporterRig.start(t, { answer: body(start) });
      rig.load();
      await check(t, rig, id, (card) => rig.serve(body({ ...start, ...card })));
    });
  }
}

/** Seconds by mode of CPU 0, CPU 1 and so on. */
const timesOf = (cpus: readonly Record<string, number>[]): string =>
  cpuTimes(Object.fromEntries(cpus.map((modes, cpu) => [`${cpu}`, modes])));

const startAt = (t: Test, answer: string, options: Omit<RigOptions, 'answer'> = {}): Promise<ExporterRig> =>
  ExporterRig.start(t, { ...options, answer });

t.test(
  'decide() over HTTP, like B12 to B14: a share of the CPUs is never negative, never over 1, never of what is off',
  async (t) => {
    const at = (idle: number, user: number): Record<string, number> => ({ idle, user });
    for (const [what, from, to, share, action] of [
      ['idle steps back', [at(500, 10), at(500, 10)], [at(509, 11), at(499.5, 19)], 0.526, 'PROCEED'],
      ['more idle than there was time', [at(500, 10)], [at(512, 10)], 0, 'PROCEED'],
      ['one that stands still', [at(500, 10), at(9000, 5)], [at(501, 19), at(9000, 5)], 0.9, 'REDUCE_INTENSITY'],
      ['a reboot', [at(90_000, 80_000)], [at(9, 1)], 'no-sensor', 'WAIT_COOLDOWN'],
    ] as const) {
      const rig = await startAt(t, timesOf(from), { beside: { cpuRatio: null } });
      rig.serve(timesOf(to));
      await rig.run(10);
      const found = rig.shown('cpu', 'utilization');
      if (typeof share === 'number')
        t.ok(typeof found === 'number' && Math.abs(found - share) < 0.002, `${what}: ${found}`);
      else t.equal(typeof found, 'string', `${what}: ${found}`);
      t.equal(rig.world.result.action, action, what);
    }
  },
);

t.test('decide() over HTTP, like C04: a card that repeats itself is frozen, unless its counter counts', async (t) => {
  const [, body] = EXPORTERS[0] ?? [];
  const energy = (mJ: number): string => dcgm('TOTAL_ENERGY_CONSUMPTION', DCGM_A, mJ);
  const frozenAfter = async (answer: (look: number) => string): Promise<number | null> => {
    const rig = await startAt(t, answer(0));
    for (let look = 1; look <= 32; look++) {
      rig.serve(answer(look));
      const { action } = await rig.run(10);
      if (rig.shown('gpu', 'temperature', CARD_A) !== 'frozen') continue;
      t.equal(action, 'WAIT_COOLDOWN');
      t.equal(rig.shown('gpu', 'power', CARD_A), 'frozen');
      return look * 10;
    }
    return null;
  };
  const same = body?.({ temp: 61, power: 187.412 }) ?? '';
  t.equal(await frozenAfter(() => same), 60);
  t.equal(await frozenAfter(() => body?.({ temp: 61, power: 187 }) ?? ''), 300, 'whole watts');
  t.equal(await frozenAfter(() => body?.({ temp: 41, power: 30.5 }) ?? ''), null, 'an idle card stands still');
  t.equal(
    await frozenAfter((look) => `${same}node_time_seconds ${1_700_000_000 + look * 10}\n`),
    60,
    "another program's clock",
  );
  t.equal(await frozenAfter((look) => same + energy(4_000_000 + look)), null, 'a counter that counts vouches for it');
  t.equal(
    await frozenAfter((look) => same + energy(4_000_000 + Math.min(look, 3))),
    60,
    'one that stops since 30 s does not',
  );
});

t.test(
  'decide() over HTTP, like C04: a node whose clock stands still is frozen, and one that never moved starts nothing',
  async (t) => {
    const body = (seconds: number): string => `node_time_seconds ${seconds}\n${intelSocket(0, 50)}`;
    const epoch = 1_767_225_600;
    const rig = await startAt(t, body(epoch), { beside: { cpuC: null } });
    t.equal((await rig.run(10)).action, 'WAIT_COOLDOWN', 'never seen to move: nothing starts');
    rig.serve(body(epoch + 20));
    t.equal((await rig.run(10)).action, 'PROCEED');
    rig.load();
    t.same(await rig.actionsFor(60), [...Array(2).fill('PROCEED'), ...Array(3).fill('WAIT_COOLDOWN'), 'ABORT']);
  },
);

for (const [id, body] of EXPORTERS) {
  t.test(
    `decide() over HTTP, like C05: a card that is no longer listed is missing until it is back (${id})`,
    async (t) => {
      const beside = dcgm('GPU_TEMP', { gpu: 5, uuid: CARD_B.replace('b', 'c') }, 60);
      const rig = await startAt(t, body({ temp: 60, power: 120.5 }) + beside, {
        beside: { cards: { [CARD_B.replace('b', 'c')]: { powerW: 120.5, memoryRatio: 0.3 } } },
      });
      t.equal(rig.world.result.action, 'PROCEED');
      rig.load();
      rig.serve(beside);
      t.equal((await rig.run(10)).action, 'WAIT_COOLDOWN');
      t.same(
        findingsOf(rig.world.result),
        ['memory', 'power', 'temperature'].map((quantity) => `reading-missing gpu/${id}/${quantity} WAIT_COOLDOWN`),
      );
      t.equal((await rig.run(10)).action, 'WAIT_COOLDOWN');
      rig.serve(body({ temp: 61, power: 121.5 }) + beside);
      t.equal((await rig.run(10)).action, 'PROCEED');
      rig.serve(beside);
      t.same((await rig.actionsFor(40)).at(-1), 'ABORT');
      t.match(rig.world.orders, [{ scope: { kind: 'nodes', nodes: [NODE] } }]);
    },
  );
}

t.test(
  'decide() over HTTP, like C21: two cards that change their slots and numbers keep their temperatures',
  async (t) => {
    const [swappedA, swappedB] = [
      { ...DCGM_A, gpu: 1 },
      { ...DCGM_B, gpu: 0 },
    ];
    const cards = { [CARD_A]: { powerW: 120.5, ...MEMORY }, [CARD_B]: { powerW: 130.5, ...MEMORY } };
    const rig = await startAt(t, dcgm('GPU_TEMP', DCGM_A, 30) + dcgm('GPU_TEMP', DCGM_B, 79), { beside: { cards } });
    rig.serve(dcgm('GPU_TEMP', swappedA, 31) + dcgm('GPU_TEMP', swappedB, 78));
    t.equal((await rig.run(10)).action, 'PROCEED', 'neither rose nor fell by 48 °C');
    t.same([rig.shown('gpu', 'temperature', CARD_A), rig.shown('gpu', 'temperature', CARD_B)], [31, 78]);
  },
);

onEach(
  'like E01, one mad power is missing, and standing so stops the node',
  { temp: 60, power: 150.5 },
  async (t, rig, id, serve) => {
    serve({ power: 3_689_342_859_416.54 });
    t.equal((await rig.run(10)).action, 'WAIT_COOLDOWN');
    t.equal(rig.shown('gpu', 'power', id), 'invalid');
    serve({ power: 151.5 });
    t.equal((await rig.run(10)).action, 'PROCEED');
    serve({ power: 1501 });
    t.same(await rig.actionsFor(40), ['WAIT_COOLDOWN', 'WAIT_COOLDOWN', 'WAIT_COOLDOWN', 'ABORT']);
  },
);

onEach('like K01 and K03, 511 °C is no heat and no calm', { temp: 45, power: 100.5 }, async (t, rig, id, serve) => {
  serve({ temp: 511 });
  t.equal((await rig.run(10)).action, 'WAIT_COOLDOWN');
  t.equal(rig.shown('gpu', 'temperature', id), 'invalid');
  serve({ temp: 46 });
  t.equal((await rig.run(2)).action, 'PROCEED');
  serve({ temp: 255, power: 0 });
  t.same(await rig.actionsFor(40), ['WAIT_COOLDOWN', 'WAIT_COOLDOWN', 'WAIT_COOLDOWN', 'ABORT']);
});

onEach(
  'like K08, heat that comes by a possible rise stops at once',
  { temp: 62, power: 100.5 },
  async (t, rig, _id, serve) => {
    serve({ temp: 99 });
    t.equal((await rig.run(10)).action, 'ABORT');
  },
);

onEach(
  'like K01, an impossible rise waits for a second sample',
  { temp: 41, power: 60.5 },
  async (t, rig, id, serve) => {
    serve({ temp: 110 });
    t.equal((await rig.run(10)).action, 'WAIT_COOLDOWN');
    serve({ temp: 109 });
    t.equal((await rig.run(1)).action, 'ABORT');
    t.same(findingsOf(rig.world.result), [`over-hard-stop gpu/${id}/temperature ABORT`]);
  },
);

onEach(
  'like K04 and L01, nothing that a sensor says lifts a trip',
  { temp: 75, power: 100.5 },
  async (t, rig, _id, serve) => {
    serve({ temp: 86 });
    t.equal((await rig.run(10)).action, 'ABORT');
    for (const temp of [0, -1, 511, 20, 70]) {
      serve({ temp });
      t.equal((await rig.run(10)).action, 'ABORT', `${temp}`);
    }
    rig.serve('');
    t.equal((await rig.run(10)).action, 'ABORT', 'nor its silence');
    t.equal(rig.world.orders.length, 1, 'one trip, one order');
  },
);

onEach(
  'like K11, a sensor that falls off is not believed at first',
  { temp: 78, power: 240.5 },
  async (t, rig, id, serve) => {
    serve({ temp: 24, power: 241.5 });
    t.equal((await rig.run(10)).action, 'WAIT_COOLDOWN');
    t.equal(rig.shown('gpu', 'temperature', id), 'implausible-fall');
  },
);

onEach('like L04, a jump of the clock makes old what was read', { temp: 60, power: 100.5 }, async (t, rig, id) => {
  await rig.jumpWall(3_600_000);
  t.equal(rig.shown('gpu', 'temperature', id), 'stale');
  t.equal((await rig.run(1)).action, 'PROCEED');
});
