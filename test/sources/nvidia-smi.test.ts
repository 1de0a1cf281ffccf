import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { setInterval as realInterval } from 'node:timers';
import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import type { Child, Launch } from '../../src/sources/bounded-command.ts';
import { createNvidiaSmi } from '../../src/sources/nvidia-smi.ts';
import {
  ADA,
  ADA_IDLE,
  MIG,
  NEEDS_RESET,
  OLD_DRIVER,
  TELLS_TEMPERATURE_ONLY,
  UNIFIED_MEMORY,
  UUID,
} from '../fixtures/nvidia-smi-cards.ts';
import { TEMPERATURE_LIMITS, WHOLE_TOOL_FAILURES } from '../fixtures/nvidia-smi-texts.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { driverScript, says, smiSource, told } from '../support/stand-in-nvidia-smi.ts';

const nowMs = (): number => systemClock.now().elapsedMs;

const ADA_READINGS = { temperature: 71, power: 241.37, memory: 0.25 };
const ADA_IDLE_READINGS = { temperature: 38, power: 21.05, memory: 0 };
const UNREADABLE = { temperature: 'unreadable', power: 'unreadable', memory: 'unreadable' };

t.test('NvidiaSmi.read() reads every card of a healthy machine', async (t) => {
  const { smi, look, program } = await smiSource(
    t,
    driverScript({ cards: [ADA, ADA_IDLE], temperatureLimits: TEMPERATURE_LIMITS }),
  );
  const report = await look();
  t.match(smi, { id: 'nvidia-smi', node: 'bizon1', carriesHeat: true });
  t.match(report, {
    source: 'nvidia-smi',
    node: 'bizon1',
    outcome: { kind: 'answered' },
    gpuSigns: [],
    throttledGpus: [],
  });
  t.ok(report.finishedAtMs >= report.startedAtMs);
  t.strictSame(told(report), { [UUID.first]: ADA_READINGS, [UUID.second]: ADA_IDLE_READINGS });
  t.strictSame(
    report.gpus.map(({ id, pciAddress, vendor, required }) => [id, pciAddress, vendor, required]),
    [
      [UUID.first, '0000:0b:00.0', 'nvidia', true],
      [UUID.second, '0000:41:00.0', 'nvidia', true],
    ],
  );
  const [query] = await program.calls();
  t.match(query, /^--query-gpu=index,uuid,pci\.bus_id,.* --format=csv,noheader,nounits$/);
});

t.test('NvidiaSmi.read() gives the kinds of cards their readings through a real child', async (t) => {
  const { look } = await smiSource(t, driverScript({ cards: [MIG, { ...UNIFIED_MEMORY, uuid: UUID.second }] }));
  const report = await look();
  t.strictSame(told(report), {
    [UUID.first]: { temperature: 53, power: 432.1, memory: 0.25 },
    [UUID.second]: { temperature: 35, power: 11.17, memory: 'not-supported' },
  });
  t.strictSame(
    report.gpus.map(({ unifiedMemory }) => unifiedMemory),
    [false, true],
  );
  const faulty = await smiSource(
    t,
    driverScript({ cards: [NEEDS_RESET, { ...TELLS_TEMPERATURE_ONLY, uuid: UUID.second }] }),
  );
  t.strictSame(told(await faulty.look()), {
    [UUID.first]: UNREADABLE,
    [UUID.second]: { temperature: 52, power: 'not-supported', memory: 'not-supported' },
  });
});

t.test('NvidiaSmi.read() tells the cards’ own limits; temperatures of them are asked for once per start', async (t) => {
  const { look, program } = await smiSource(
    t,
    driverScript({ cards: [ADA, ADA_IDLE], temperatureLimits: TEMPERATURE_LIMITS }),
  );
  const limits = [
    {
      component: 'gpu',
      id: UUID.first,
      enforcedPowerW: 260,
      defaultPowerW: 300,
      slowdownC: 95,
      shutdownC: 98,
      targetC: 83,
    },
    { component: 'gpu', id: UUID.second, enforcedPowerW: 260, defaultPowerW: 300 },
  ];
  t.strictSame((await look()).hardwareLimits, limits);
  t.strictSame((await look()).hardwareLimits, limits);
  const calls = await program.calls();
  t.equal(calls.filter((call) => call === '-q -d TEMPERATURE').length, 1);
  t.equal(calls.length, 3);
});

t.test(
  'NvidiaSmi.read() loses nothing where the cards’ own temperature limits cannot be had, and rarely asks again',
  async (t) => {
    const clock = new ManualClock();
    const { look, program } = await smiSource(t, driverScript({ cards: [ADA] }), { clock });
    t.strictSame(told(await look()), { [UUID.first]: ADA_READINGS });
    await look();
    t.equal((await program.calls()).filter((call) => call.startsWith('-q')).length, 1);
    await program.become(driverScript({ cards: [ADA], temperatureLimits: TEMPERATURE_LIMITS }));
    await clock.advance(599_000);
    t.equal((await look()).hardwareLimits[0]?.slowdownC, undefined);
    await clock.advance(1_000);
    t.equal((await look()).hardwareLimits[0]?.slowdownC, 95);
  },
);

t.test('NvidiaSmi.read() reports hardware that slows itself down', async (t) => {
  const { look } = await smiSource(
    t,
    driverScript({ cards: [ADA, { ...ADA_IDLE, 'clocks_event_reasons.active': '0x00000000000000C8' }] }),
  );
  t.match((await look()).throttledGpus, [{ gpu: UUID.second, reason: /^HW thermal slowdown and HW power brake/ }]);
});

t.test(
  'NvidiaSmi.read() reads an old driver’s cards in its first look, and learns what that driver knows',
  async (t) => {
    const { look, program } = await smiSource(
      t,
      driverScript({ cards: [OLD_DRIVER], temperatureLimits: TEMPERATURE_LIMITS }),
    );
    const first = await look();
    t.strictSame(told(first), { [UUID.first]: ADA_READINGS });
    t.equal((await program.calls()).length, 4, 'refused twice, then the core, then the temperature limits');

    await look();
    const settled = await look();
    const before = (await program.calls()).length;
    t.strictSame(told(await look()), { [UUID.first]: ADA_READINGS });
    t.equal((await program.calls()).length, before + 1, 'nothing is refused any more');
    t.match(settled.throttledGpus, [{ gpu: UUID.first, reason: /^HW thermal slowdown/ }], 'known by an older name');
    t.match(settled.hardwareLimits, [{ enforcedPowerW: 260, defaultPowerW: 300, slowdownC: 95 }]);
    t.ok(settled.notes.some((note) => /does not know: power\.draw\.instant, temperature\.gpu\.tlimit/.test(note)));
  },
);

t.test('NvidiaSmi.read() asks for the core alone where the driver refuses without saying what', async (t) => {
  const { look, program } = await smiSource(
    t,
    `case "$1" in *power.draw.instant*) ${says({ stdout: 'Invalid combination of input arguments.\n', status: 2 })} ;; esac
     ${driverScript({ cards: [OLD_DRIVER] })}`,
  );
  t.strictSame(told(await look()), { [UUID.first]: ADA_READINGS });
  await look();
  t.equal((await program.calls()).filter((call) => call.startsWith('--query')).length, 3, 'and remembers it');
});

t.test('NvidiaSmi.read() takes every failure of the whole tool for a failure and a sign of a GPU', async (t) => {
  for (const { what, detail, ...failure } of WHOLE_TOOL_FAILURES) {
    const { look } = await smiSource(t, says(failure));
    const report = await look();
    t.match(report.outcome, { kind: 'failed', cause: 'failed', detail }, what);
    t.match(report.gpuSigns, [{ kind: 'nvidia-smi-failed', detail }], what);
    t.strictSame([report.readings, report.gpus], [[], []], what);
  }
  const silent = await smiSource(t, 'exit 0');
  t.match((await silent.look()).outcome, { kind: 'failed', cause: 'empty', detail: /status 0: it printed nothing/ });
});

t.test('NvidiaSmi.read() checks the status before it believes rows', async (t) => {
  const { look, program } = await smiSource(t, `(${driverScript({ cards: [ADA] })})\nexit 18`);
  t.match((await look()).outcome, { kind: 'failed', detail: /status 18/ });
  await program.become(
    `(${driverScript({ cards: [ADA] })})\necho "WARNING: infoROM is corrupted at gpu 0000:0B:00.0"; exit 14`,
  );
  t.strictSame(told(await look()), { [UUID.first]: ADA_READINGS }, 'an infoROM holds no sensors');
});

t.test('NvidiaSmi.read() answers with nothing, and says so, where the tool is not installed', async (t) => {
  const { program } = await smiSource(t, 'exit 0');
  const smi = createNvidiaSmi({ node: 'bizon1', clock: systemClock, env: { PATH: join(program.folder, 'elsewhere') } });
  const report = await smi.read(nowMs() + 5000);
  t.match(report, { outcome: { kind: 'answered' }, readings: [], gpus: [], gpuSigns: [] });
  t.match(report.notes, [/nvidia-smi is not installed/]);
});

t.test('NvidiaSmi.read() takes a tool that is there and may not be run for a failure', async (t) => {
  const { look, program } = await smiSource(t, 'exit 0');
  await chmod(join(program.folder, 'nvidia-smi'), 0o644);
  const report = await look();
  t.match(report.outcome, { kind: 'failed', cause: 'failed', detail: /EACCES/ });
  t.equal(report.gpuSigns.length, 1);
});

t.test(
  'NvidiaSmi.read() answers in time while the tool hangs and ignores TERM, and keeps the event loop free',
  async (t) => {
    const { look, program } = await smiSource(t, 'trap "" TERM; while :; do sleep 1; done');
    let lastMs = nowMs();
    let longestPauseMs = 0;
    const timer = realInterval(() => {
      longestPauseMs = Math.max(longestPauseMs, nowMs() - lastMs);
      lastMs = nowMs();
    }, 10);
    const startMs = nowMs();
    const report = await look(1500);
    const tookMs = nowMs() - startMs;
    clearInterval(timer);
    t.match(report.outcome, {
      kind: 'failed',
      cause: 'timeout',
      detail: /nvidia-smi: it did not answer within 1450 ms/,
    });
    t.match(report.gpuSigns, [{ kind: 'nvidia-smi-failed' }]);
    t.match(report.notes, [/persistence/]);
    t.ok(tookMs < 1900, `${tookMs} ms`);
    t.ok(longestPauseMs < 500, `a 10 ms timer was held up for ${longestPauseMs} ms`);
    t.strictSame(await program.live(), []);
  },
);

t.test('NvidiaSmi.read() is not held up by a grandchild that keeps the pipe open', async (t) => {
  const { look } = await smiSource(
    t,
    `sleep 60 &\n${driverScript({ cards: [ADA], temperatureLimits: TEMPERATURE_LIMITS })}`,
  );
  const startMs = nowMs();
  t.strictSame(told(await look()), { [UUID.first]: ADA_READINGS });
  t.ok(nowMs() - startMs < 5000);
});

t.test('NvidiaSmi.read() reports a child that cannot be ended, and starts no second one', async (t) => {
  const clock = new ManualClock();
  let launches = 0;
  const launch: Launch = () => {
    launches++;
    const child: Child = {
      pid: 4711,
      stdout: new PassThrough(),
      stderr: new PassThrough(),
      ended: new Promise(() => undefined),
      signal: () => undefined,
      letGo: () => undefined,
    };
    return child;
  };
  const smi = createNvidiaSmi({ node: 'bizon1', clock, env: {}, launch });
  const first = smi.read(clock.now().elapsedMs + 4000);
  await clock.advance(4000);
  t.match(await first, { outcome: { kind: 'failed', cause: 'unkillable' }, gpuSigns: [{ detail: /process 4711/ }] });
  await clock.advance(26_000);
  const later = await smi.read(clock.now().elapsedMs + 4000);
  t.match(later.outcome, { kind: 'failed', cause: 'unkillable', detail: /process 4711 has hung for 30 s/ });
  t.equal(launches, 1);
});

t.test('NvidiaSmi.read() joins a look under way, each caller within its own deadline', async (t) => {
  const { smi, program } = await smiSource(
    t,
    `case "$1" in --query*) sleep 1 ;; esac\n${driverScript({ cards: [ADA], temperatureLimits: TEMPERATURE_LIMITS })}`,
  );
  const startMs = nowMs();
  const [whole, joined, hasty] = await Promise.all([
    smi.read(startMs + 10_000),
    smi.read(startMs + 10_000),
    smi.read(startMs + 300),
  ]);
  t.strictSame(told(whole), { [UUID.first]: ADA_READINGS });
  t.equal(joined, whole);
  t.match(hasty.outcome, { kind: 'failed', cause: 'timeout', detail: /did not answer within [23]\d\d ms/ });
  t.equal((await program.calls()).length, 2, 'one query and one question for limits');
});

t.test('NvidiaSmi.close() asks the child to go and does not wait; a closed source answers that it is', async (t) => {
  const { smi, look, program } = await smiSource(t, 'echo "$$" >> "$STAND_IN/started"; exec sleep 60');
  const looking = look(20_000);
  while ((await program.calls()).length === 0 && (await program.live()).length === 0) await systemClock.sleep(5);
  const startMs = nowMs();
  await smi.close();
  t.match((await looking).outcome, { kind: 'failed', detail: /closed/ });
  t.ok(nowMs() - startMs < 1000);
  t.match((await look()).outcome, { kind: 'failed', detail: /closed/ });
});
