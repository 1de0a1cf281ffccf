// Timelines of exporters that lie, over HTTP: bodies one after another, at the times that people reported, and what
// decide() makes of each. A timeline of single numbers is served as dcgm-exporter would have told it. Where the reports'
// table and the contract differ, the contract's word is said. Single bodies are in exporter-cases.test.ts.
import t, { type Test } from 'tap';
import { fastNodes } from '../../src/domain/decide.ts';
import { metricsText, TEXT_TYPE } from '../../src/http/metrics.ts';
import { NODE } from '../support/domain-world.ts';
import {
  ExporterRig,
  findingsOf,
  type RigOptions,
  scrapesIn,
  sharedFile,
  timelineIn,
} from '../support/exporter-rig.ts';
import { metricsContext } from '../support/metrics-context.ts';

const GPU = (n: number): string => `GPU-00000000-0000-0000-0000-${String(n).padStart(12, '0')}`;
const [G0, G1, G2, G3] = [GPU(0), GPU(1), GPU(2), GPU(3)];
const MEMORY = { memoryRatio: 0.3 };
const POWER_AND_MEMORY = { powerW: 240.5, memoryRatio: 0.3 };
const missing = (what: string): string => `reading-missing ${what} WAIT_COOLDOWN`;
const G0_TEMPERATURE_MISSING = missing(`gpu/${G0}/temperature`);

function withCase(id: string, title: string, check: (t: Test, text: string) => Promise<void>): void {
  const text = sharedFile('cases', `${id}.txt`);
  const skip = text === null && `needs ../shared/cases/${id}.txt, which is not part of this repository`;
  t.test(`decide() over HTTP, ${id}: ${title}`, { skip }, (t) => check(t, text ?? ''));
}

/** Serves each body at its time, ticking every 10 s on the way; `each` looks at what came of it. */
async function play(
  t: Test,
  scrapes: readonly { readonly seconds: number; readonly body: string }[],
  options: Omit<RigOptions, 'answer'>,
  each: (rig: ExporterRig, seconds: number) => unknown,
): Promise<ExporterRig> {
  const [first, ...rest] = scrapes;
  if (!first) throw new Error('there is no scrape in it');
  const rig = await ExporterRig.start(t, { ...options, answer: first.body });
  await each(rig, first.seconds);
  for (const { seconds, body } of rest) {
    // What was served before goes on being served until then.
    await rig.until(seconds - Math.min(10, seconds - rig.seconds));
    rig.serve(body);
    await rig.until(seconds);
    await each(rig, seconds);
  }
  return rig;
}

/** Card 0 as dcgm-exporter tells it; a value that is no number stands as it is, and `null` leaves the line out. */
function card(values: {
  temp?: number | string | null;
  power?: number | string | null;
  util?: number | string;
}): string {
  const say = (name: string, value: number | string | null | undefined): string =>
    value === null || value === undefined ? '' : `DCGM_FI_DEV_${name}{gpu="0",UUID="${G0}"} ${value}\n`;
  const rest = say('SM_CLOCK', 1980);
  return say('GPU_TEMP', values.temp) + say('POWER_USAGE', values.power) + say('GPU_UTIL', values.util) + rest;
}

/** A timeline's lines as bodies. */
const bodiesOf = (text: string): { seconds: number; body: string }[] =>
  timelineIn(text).map((at) => {
    const told = at['gpu0.temp'];
    const temp = told === 'MISSING' || told === undefined ? null : told === 'READ_FAILED' ? '' : told;
    return {
      seconds: Number(at['t']),
      body: card({
        temp,
        power: at['gpu0.power'] ?? null,
        ...(at['gpu0.util'] !== undefined && { util: at['gpu0.util'] }),
      }),
    };
  });

const actionOf = (rig: ExporterRig): string => rig.world.result.action;

// --- counters of CPU time ---

for (const [id, title, from, to, action] of [
  ['B12', 'a step back of a counter is no reset', 0.54, 0.56, 'PROCEED'],
  ['B13', 'more idle than time has passed is 0 %', 0, 0, 'PROCEED'],
  ['B14', 'CPUs that are off are left out', 0.984, 0.986, 'REDUCE_INTENSITY'],
] as const) {
  withCase(id, title, async (t, text) => {
    const rig = await play(t, scrapesIn(text), { beside: { cpuRatio: null } }, () => undefined);
    const share = rig.shown('cpu', 'utilization');
    t.ok(typeof share === 'number' && share >= from && share <= to, `${share}`);
    t.equal(actionOf(rig), action);
    t.same(
      findingsOf(rig.world.result),
      action === 'PROCEED' ? [] : ['over-maximum cpu//utilization REDUCE_INTENSITY'],
    );
  });
}

// --- cards ---

withCase('C03', 'a mad utilisation is shown as invalid, judges nothing, and is over with the next', async (t, text) => {
  const shown: unknown[] = [];
  await play(t, scrapesIn(text), { beside: { cards: { [G0]: POWER_AND_MEMORY } } }, (rig) => {
    t.equal(actionOf(rig), 'PROCEED');
    t.equal(rig.shown('gpu', 'temperature', G0), 70);
    shown.push(...[rig.informational('utilization')]);
  });
  t.same(shown, [[0.97], ['invalid'], [0.96]]);
});

withCase('C04', 'milliwatts that stand still for 60 s are frozen', async (t, text) => {
  const beside = { cards: { [G0]: MEMORY, [G1]: MEMORY } };
  const rig = await play(t, scrapesIn(text), { beside }, (rig, seconds) => {
    t.equal(actionOf(rig), seconds < 60 ? 'REDUCE_INTENSITY' : 'WAIT_COOLDOWN', `${seconds} s`);
  });
  for (const id of [G0, G1]) {
    t.equal(rig.shown('gpu', 'temperature', id), 'frozen');
    t.equal(rig.shown('gpu', 'power', id), 'frozen');
  }
  t.equal((await rig.preflight()).safe, false);
  rig.load();
  t.same((await rig.actionsFor(40)).at(-1), 'ABORT', 'and stops what runs there');
});

const lostCard = [missing(`gpu/${G2}/power`), missing(`gpu/${G2}/temperature`)];
withCase('C05', 'a card that falls off the bus is missing, over a restart, and stops its node', async (t, text) => {
  const beside = { cards: { [G0]: MEMORY, [G1]: MEMORY, [G2]: MEMORY, [G3]: MEMORY } };
  const missed = (rig: ExporterRig): string[] => findingsOf(rig.world.result).filter((f) => f.startsWith('reading-'));
  const rig = await play(t, scrapesIn(text), { beside }, (rig, seconds) => {
    t.equal(actionOf(rig), seconds === 0 ? 'REDUCE_INTENSITY' : 'WAIT_COOLDOWN');
    t.same(missed(rig), seconds === 0 ? [] : lostCard);
  });
  t.match(rig.world.result.findings.find(({ id }) => id === G2)?.message, /^GPU GPU-0{8}-.*2 on bizon1: .* is missing/);
  delete rig.beside.cards[G2];
  rig.world.restart();
  rig.world.inventory();
  await rig.run(2);
  await rig.run(10);
  t.same(missed(rig), [missing(`gpu/${G2}/memory`), ...lostCard], 'remembered over a restart');
  t.equal((await rig.preflight()).safe, false);
  rig.load();
  const actions = await rig.actionsFor(130);
  t.equal(actions.at(-1), 'ABORT', 'after bootGrace, since this process has never seen it');
  t.match(rig.world.orders, [{ scope: { kind: 'nodes', nodes: [NODE] } }]);
});

withCase('C21', "a card's history follows its UUID", async (t, text) => {
  const beside = { cards: { [GPU(10)]: POWER_AND_MEMORY, [GPU(11)]: POWER_AND_MEMORY } };
  const rig = await play(t, scrapesIn(text), { beside }, (rig, seconds) => {
    t.equal(actionOf(rig), seconds === 0 ? 'WAIT_COOLDOWN' : 'ABORT');
  });
  t.same(findingsOf(rig.world.result), [`over-hard-stop gpu/${GPU(11)}/temperature ABORT`]);
  t.equal(rig.shown('gpu', 'temperature', GPU(10)), 60);
});

const I0 = '0000:21:00.0';
const INTEL_REST = `hw_temperature_celsius{pci_bdf="${I0}"} 55\nhw_memory_utilization_ratio{pci_bdf="${I0}"} 0.3\n`;
withCase('E01', 'one sample of terawatts is invalid, and kills nothing', async (t, text) => {
  const rig = await play(t, scrapesIn(text), { beside: { also: INTEL_REST } }, async (rig, seconds) => {
    const isMad = seconds === 10;
    t.equal(rig.shown('gpu', 'power', I0), isMad ? 'invalid' : seconds === 0 ? 52.03 : 52.1);
    t.equal(actionOf(rig), isMad ? 'WAIT_COOLDOWN' : 'PROCEED');
  });
  t.same(rig.world.orders, []);
  rig.serve(`hw_power_watts{pci_bdf="${I0}"} 3689342859416.54\n`);
  t.same(await rig.actionsFor(20), ['WAIT_COOLDOWN', 'WAIT_COOLDOWN']);
  t.equal((await rig.preflight()).safe, false, 'two in a row');
});

withCase('J03', 'our own gauge of a card that is gone says nothing more', async (t, text) => {
  const beside = { cards: { [G0]: MEMORY, [G1]: MEMORY } };
  const rig = await play(t, scrapesIn(text), { beside }, () => undefined);
  delete rig.beside.cards[G1];
  await rig.run(10);
  const context = metricsContext({ now: rig.clock.now() });
  const lines = String(await metricsText(rig.world.state, context, TEXT_TYPE)).split('\n');
  const temperatures = (name: string): string[] =>
    lines.filter(
      (line) =>
        line.startsWith(`vsf_safety_${name}{`) &&
        line.includes('component="gpu"') &&
        line.includes('quantity="temperature"'),
    );
  t.match(temperatures('reading'), [new RegExp(`id="${G0}".* 60$`)]);
  t.match(
    temperatures('reading_missing').filter((line) => line.includes(G1)),
    [/ 1$/],
  );
});

// --- timelines of one card ---

withCase('K01', 'one impossible temperature is a glitch', async (t, text) => {
  const beside = { cards: { [G0]: MEMORY } };
  const rig = await play(t, bodiesOf(text), { beside }, (rig, seconds) => {
    t.equal(actionOf(rig), seconds === 10 ? 'WAIT_COOLDOWN' : 'PROCEED', `${seconds} s`);
    t.equal(rig.shown('gpu', 'temperature', G0), seconds === 10 ? 'invalid' : 41);
  });
  t.same(rig.world.orders, []);
});

withCase(
  'K03',
  '511 °C is a lost sensor; (contract 4) it stops the node once it has stood for 30 s',
  async (t, text) => {
    const rig = await play(t, bodiesOf(text), { beside: { cards: { [G0]: MEMORY } } }, (rig, seconds) => {
      if (seconds === 0) rig.load();
      t.equal(actionOf(rig), seconds === 0 ? 'PROCEED' : 'WAIT_COOLDOWN');
      const lost = seconds >= 20 ? [missing(`gpu/${G0}/power`), G0_TEMPERATURE_MISSING] : [G0_TEMPERATURE_MISSING];
      t.same(findingsOf(rig.world.result), seconds === 0 ? [] : lost);
    });
    t.equal((await rig.run(10)).action, 'ABORT', '30 s after it was lost');
  },
);

for (const [id, lastIsCool] of [
  ['K04', true],
  ['L01', false],
] as const) {
  withCase(id, 'a trip outlives whatever the sensor says next', async (t, text) => {
    const rig = await play(
      t,
      bodiesOf(text),
      { beside: { cards: { [G0]: { ...POWER_AND_MEMORY, powerW: 30.5 } } } },
      (rig) => {
        t.equal(actionOf(rig), 'ABORT');
        t.equal(rig.world.interlock, 'tripped');
      },
    );
    rig.world.stopReported();
    await rig.run(10);
    await rig.look();
    const answer = rig.world.reset();
    t.equal(answer.kind, lastIsCool ? 'reset-done' : 'reset-refused', JSON.stringify(answer));
    t.equal((await rig.run(10)).action, lastIsCool ? 'WAIT_COOLDOWN' : 'ABORT', 'still cooling down');
    t.equal((await rig.run(10)).action, lastIsCool ? 'PROCEED' : 'ABORT');
  });
}

withCase(
  'K08',
  'a fast rise is looked at more often, and stopped at the first look over the hard stop',
  async (t, text) => {
    await play(t, bodiesOf(text), { beside: { cards: { [G0]: POWER_AND_MEMORY } } }, (rig, seconds) => {
      t.equal(actionOf(rig), seconds === 20 ? 'ABORT' : 'PROCEED');
      if (seconds < 20) t.same(fastNodes(rig.world.state), seconds === 10 ? [NODE] : []);
    });
  },
);

withCase(
  'K09',
  'a temperature that stands still under a load is never safe, and found to be frozen',
  async (t, text) => {
    // A machine that was cold before: the rule compares a minute with the one before.
    const before = [-60, -50, -40, -30, -20, -10].map((seconds) => ({
      seconds,
      body: card({ temp: 28, power: 30, util: 0 }),
    }));
    const scrapes = [...before, ...bodiesOf(text)].map(({ seconds, body }) => ({ seconds: seconds + 60, body }));
    const rig = await play(t, scrapes, { beside: { cards: { [G0]: MEMORY } } }, async (rig, seconds) => {
      if (seconds > 60) t.equal((await rig.preflight()).safe, false);
    });
    t.equal(rig.shown('gpu', 'temperature', G0), 'frozen');
    t.equal(actionOf(rig), 'WAIT_COOLDOWN');
  },
);

withCase('K11', 'an impossible fall is invalid; (contract 4) a second, newer sample confirms it', async (t, text) => {
  await play(t, bodiesOf(text), { beside: { cards: { [G0]: MEMORY } } }, async (rig, seconds) => {
    t.equal(actionOf(rig), seconds === 10 ? 'WAIT_COOLDOWN' : 'REDUCE_INTENSITY');
    t.equal(rig.shown('gpu', 'temperature', G0), seconds === 0 ? 78 : seconds === 10 ? 'implausible-fall' : 23);
    t.equal((await rig.preflight()).safe, false);
  });
});

withCase('K12', 'hot and stable waits, for as long as it lasts', async (t, text) => {
  const rig = await play(t, bodiesOf(text), { beside: { cards: { [G0]: POWER_AND_MEMORY } } }, (rig, seconds) => {
    if (seconds === 0) rig.load();
    t.equal(actionOf(rig), 'WAIT_COOLDOWN', `${seconds} s`);
  });
  t.same(rig.world.orders, []);
});

withCase('L04', 'what was read before the machine slept is stale', async (t, text) => {
  const [first, suspend] = timelineIn(text);
  const rig = await ExporterRig.start(t, {
    answer: card({ temp: first?.['gpu0.temp'] ?? null }),
    beside: { cards: { [G0]: POWER_AND_MEMORY } },
  });
  await rig.run(2);
  await rig.jumpWall(Number(suspend?.['wall+']) * 1000);
  t.equal(rig.shown('gpu', 'temperature', G0), 'stale');
  t.equal(rig.shown('memory', 'memory'), 'stale');
  t.equal((await rig.run(1)).action, 'PROCEED', 'the next look counts again');
});

withCase('L11', 'nothing, words and blanks are never cool', async (t, text) => {
  for (const line of text.trim().split('\n')) {
    const { gpus } = JSON.parse(line) as { gpus: { temp: unknown }[] };
    const temp = gpus[0]?.temp;
    const listed = gpus.length > 0;
    // As text in the value's place, with its quotes and without.
    for (const value of [JSON.stringify(temp ?? null), String(temp ?? '')]) {
      const rig = await ExporterRig.start(t, {
        answer: listed ? card({ temp: value }) : '# TYPE DCGM_FI_DEV_GPU_TEMP gauge\n',
        node: { expectGpus: 1 },
        beside: { cards: listed ? { [G0]: POWER_AND_MEMORY } : {} },
      });
      const { action } = await rig.run(2);
      const plain = value === '86' ? 'ABORT' : value === '9' ? 'PROCEED' : 'WAIT_COOLDOWN';
      t.equal(action, plain, `${line} as ${value}`);
      if (plain === 'WAIT_COOLDOWN')
        t.ok(findingsOf(rig.world.result).some((f) => /^reading-missing gpu\/.*temperature/.test(f)));
    }
  }
});

withCase(
  'D17',
  'seven cards are no total: where it is required it is missing, and an estimate says what it holds',
  async (t, text) => {
    const powers = (timelineIn(text)[0]?.['gpu_power'] ?? '').split(',').map(Number);
    t.equal(powers.length, 7);
    const cards = Object.fromEntries(
      powers.map((powerW, n) => [GPU(n), { temperatureC: 60, powerW: powerW - 0.5, memoryRatio: 0.3 }]),
    );
    const answer = 'ipmi_up{collector="dcmi"} 0\n';
    const rig = await ExporterRig.start(t, { answer, beside: { cards }, node: { require: ['total-power'] } });
    t.equal((await rig.run(2)).action, 'WAIT_COOLDOWN');
    t.same(findingsOf(rig.world.result), [missing('system//total-power')]);
    const power = { baseW: 250, psuEfficiency: 0.9 };
    const estimated = await ExporterRig.start(t, { answer, beside: { cards }, node: { power } });
    t.equal((await estimated.run(2)).action, 'ABORT', 'an estimate can stop');
    t.match(
      estimated.world.result.findings.find(({ code }) => code === 'over-hard-stop'),
      {
        quantity: 'total-power',
        message: /2218.3 W \(estimated\)/,
      },
    );
  },
);
