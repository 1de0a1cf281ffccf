// The machine in front of the user, through the real service: its /proc and /sys laid out as files, nvidia-smi a program
// on the PATH. What people reported of such machines must come out right at the door that programs use, /preflight, with
// the code, the component and the action that they are told to go by.
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { ADA, ADA_IDLE, ADA_THIRD, NEEDS_RESET, TELLS_TEMPERATURE_ONLY, UUID } from '../fixtures/nvidia-smi-cards.ts';
import { RADEON_CARD, RADEON_HWMON, RADEON_ID, radeonWith } from '../fixtures/sysfs-gpu.ts';
import { pci } from '../fixtures/sysfs-pci.ts';
import {
  cpuAt,
  found,
  isSafe,
  missingOf,
  NODE,
  readingsOf,
  refusal,
  sameSet,
  startMachine,
} from '../support/laid-out-machine.ts';
import { isGroupAlive, type Reply, startWorkload } from '../support/real-service.ts';
import { driverScript, says } from '../support/stand-in-nvidia-smi.ts';
import type { TreeTable } from '../support/sysfs-tree.ts';

// Real processes on a machine that may be busy.
t.setTimeout(900_000);

/** The slots of the cards of the fixtures. */
const BUS: TreeTable = {
  ...pci('0000:0b:00.0', '0x030000', '10de:26b1'),
  ...pci('0000:41:00.0', '0x030000', '10de:26b1'),
};

const ALL = ['temperature', 'power', 'memory'];
const BOTH = [...missingOf(UUID.first, ...ALL), ...missingOf(UUID.second, ...ALL)];
const SILENT = 'reading-missing missing monitor/nvidia-smi/ WAIT_COOLDOWN';

/** How the whole tool fails, and what of it a person is told. */
const FAILURES: readonly (readonly [what: string, script: string, told: RegExp])[] = [
  [
    'the library is newer than the driver, said on stdout',
    says({
      stdout: 'Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 570.86\n',
      status: 18,
    }),
    /status 18 .*version mismatch.*reboot/,
  ],
  [
    'no devices, with a status',
    says({ stdout: 'No devices were found\n', status: 6 }),
    /status 6 .*No devices were found/,
  ],
  ['no devices, as if all were well', says({ stdout: 'No devices were found\n', status: 0 }), /No devices were found/],
  [
    'a container that lost its devices',
    says({ stdout: 'Failed to initialize NVML: Unknown Error\n', status: 255 }),
    /this monitor lost its GPU devices.*restart the container/,
  ],
  [
    'no driver, said on stderr',
    says({
      stdout: '',
      stderr: "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n",
      status: 9,
    }),
    /status 9 \(driver not loaded\)/,
  ],
  ['silence', 'exit 0', /it printed nothing/],
  ['a crash in mid-row', "printf '0, GPU-0c1a'; kill -SEGV $$", /SIGSEGV/],
];

t.test(
  'serve: every card is missing while nvidia-smi fails as a whole, whatever its words and its status',
  async (t) => {
    const machine = await startMachine(t, { nvidiaSmi: driverScript({ cards: [ADA, ADA_IDLE] }), tree: BUS });
    const { nvidiaSmi } = machine;
    await machine.preflight('two cards that are read', isSafe);
    t.match(await readingsOf(machine.service), {
      [`gpu/${UUID.first}/temperature`]: 71,
      [`gpu/${UUID.first}/power`]: 241.37,
      [`gpu/${UUID.second}/memory`]: 0,
      'cpu/coretemp-0/temperature': 52,
      'memory//memory': 0.25,
    });
    for (const [what, script, told] of FAILURES) {
      await nvidiaSmi.become(script);
      const { body } = await refusal(t, machine, BOTH);
      t.match(body.findings[0].message, told, what);
      await nvidiaSmi.become(driverScript({ cards: [ADA, ADA_IDLE] }));
      await machine.preflight(`two cards again after: ${what}`, isSafe);
    }
    await nvidiaSmi.become(says({ stdout: 'No devices were found\n', status: 0 }));
    await machine.restart();
    const { body } = await refusal(t, machine, [...BOTH, SILENT]);
    t.match(body.findings[0].message, /No devices were found/, 'remembered, and not called a lack of sensors');
  },
);

t.test('serve: a failing nvidia-smi is a sign of a GPU even where nobody has ever seen one', async (t) => {
  const machine = await startMachine(t, { nvidiaSmi: says({ stdout: 'No devices were found\n', status: 0 }) });
  const { body } = await refusal(t, machine, [...missingOf('', 'temperature'), SILENT]);
  t.match(body.findings[0].message, /a GPU here that nothing reads/);
  t.match(
    (await machine.service.get('/status')).body.sources.find((s: { source: string }) => s.source === 'nvidia-smi'),
    {
      up: false,
      failure: { detail: /No devices were found/ },
    },
  );
});

t.test('serve: cards that only the bus or the configuration knows are required', async (t) => {
  const onBus = await startMachine(t, { tree: pci('0000:0b:00.0', '0x030200', '10de:20b5') });
  await refusal(t, onBus, missingOf('0000:0b:00.0', ...ALL));
  const expected = await startMachine(t, { node: 'expectGpus: 4' });
  const { body } = await refusal(t, expected, missingOf('', 'temperature'));
  t.match(body.findings[0].message, /0 of 4 expected GPUs/);
  t.equal((await expected.service.get('/readyz')).status, 200, 'it does its work, which is to refuse');
});

t.test('serve: a lost card among the rows is named, with the tool\u2019s words, and the others are read', async (t) => {
  const cards = [ADA, ADA_IDLE, ADA_THIRD];
  const machine = await startMachine(t, { nvidiaSmi: driverScript({ cards }) });
  await machine.preflight('three cards', isSafe);
  const words = 'Unable to determine the device handle for GPU0000:41:00.0: GPU is lost.  Reboot the system.';
  for (const status of [15, 0]) {
    await machine.nvidiaSmi.become(`(${driverScript({ cards: [ADA] })})
echo "${words}"
(${driverScript({ cards: [ADA_THIRD] })})
exit ${status}`);
    const { body } = await refusal(t, machine, missingOf(UUID.second, ...ALL));
    t.match(body.findings[0].message, /GPU is lost/);
    t.match(await readingsOf(machine.service), {
      [`gpu/${UUID.first}/temperature`]: 71,
      [`gpu/${UUID.second}/temperature`]: 'unreadable',
      [`gpu/${UUID.third}/temperature`]: 44,
    });
  }
});

t.test('serve: a card that fell off the bus stays missing, through a restart, until it is forgotten', async (t) => {
  const machine = await startMachine(t, { nvidiaSmi: driverScript({ cards: [ADA, ADA_IDLE, ADA_THIRD] }) });
  await machine.preflight('three cards', isSafe);
  await machine.nvidiaSmi.become(driverScript({ cards: [ADA, ADA_THIRD] }));
  const lost = missingOf(UUID.second, ...ALL);
  await refusal(t, machine, lost);
  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    await machine.restart(signal);
    const { body } = await refusal(t, machine, lost);
    t.match(body.findings[0].message, new RegExp(`GPU ${UUID.second} on ${NODE}`));
  }
  const forgotten = await machine.service.operate(`/nodes/${NODE}/forget`, { gpu: UUID.second, reason: 'sold' });
  t.equal(forgotten.status, 200);
  await machine.preflight('two cards, and no other', isSafe);
});

t.test('serve: a card lost under load stops the workload once it has been gone for blindAbortAfter', async (t) => {
  const machine = await startMachine(t, {
    nvidiaSmi: driverScript({ cards: [ADA, ADA_IDLE] }),
    config: 'blindAbortAfter: 4s',
  });
  await machine.preflight('two cards', isSafe);
  const id = randomUUID();
  const pgid = startWorkload(t, id).pid ?? 0;
  const asked = { id, workload: 'train-7', processGroup: { pgid }, ttlSeconds: 300 };
  t.equal((await machine.service.post('/leases', asked)).status, 201);
  await machine.nvidiaSmi.become(driverScript({ cards: [ADA] }));
  const renew = () => machine.service.ask('PUT', `/leases/${id}`, {});
  const waiting = await machine.service.until('a wait', renew, (r) => r.body.result?.action === 'WAIT_COOLDOWN');
  t.same(found({ ...waiting, body: waiting.body.result }), missingOf(UUID.second, ...ALL));
  const over = await machine.service.until('a stop', renew, (r) => r.status === 410);
  t.match(over.body, { outcome: 'stopped', reason: new RegExp(`GPU ${UUID.second} .*missing.*blind for too long`) });
  await machine.service.until(
    'a dead workload',
    () => machine.service.get('/estop'),
    () => !isGroupAlive(pgid),
  );
  t.match((await machine.service.get('/estop')).body, { state: 'tripped', scope: { kind: 'nodes', nodes: [NODE] } });
});

t.test('serve: what a card cannot tell is missing, never 0, unless a waiver for that card excuses it', async (t) => {
  const nvidiaSmi = driverScript({ cards: [TELLS_TEMPERATURE_ONLY] });
  const strict = await startMachine(t, { nvidiaSmi });
  await refusal(t, strict, missingOf(UUID.first, 'power', 'memory'));
  t.match(await readingsOf(strict.service), {
    [`gpu/${UUID.first}/temperature`]: 52,
    [`gpu/${UUID.first}/power`]: 'not-supported',
    [`gpu/${UUID.first}/memory`]: 'not-supported',
  });
  const waiving = await startMachine(t, {
    nvidiaSmi,
    node: `gpus: { "${UUID.first}": { waive: [ gpu-power, gpu-memory ] } }`,
  });
  const { body } = await waiving.preflight('a start that is excused', isSafe);
  t.match(
    body.unprotected.filter(({ code }: { code: string }) => code === 'waived'),
    [
      { id: UUID.first, name: 'gpu-power' },
      { id: UUID.first, name: 'gpu-memory' },
    ],
    'said in the answer',
  );
  await waiving.nvidiaSmi.become(driverScript({ cards: [{ ...TELLS_TEMPERATURE_ONLY, 'power.draw': '262.5' }] }));
  await waiving.preflight('a power that is there after all, and judged', (r) =>
    sameSet(found(r), [`over-warning warning gpu/${UUID.first}/power REDUCE_INTENSITY`]),
  );
});

t.test('serve: a card full of errors is missing although the tool says that all is well', async (t) => {
  const machine = await startMachine(t, { nvidiaSmi: driverScript({ cards: [ADA, ADA_IDLE] }) });
  await machine.preflight('two cards', isSafe);
  const broken = { ...NEEDS_RESET, index: '1', uuid: UUID.second, 'pci.bus_id': '00000000:41:00.0' };
  await machine.nvidiaSmi.become(driverScript({ cards: [ADA, broken] }));
  const { body } = await refusal(t, machine, missingOf(UUID.second, ...ALL));
  t.match(body.findings[0].message, /GPU requires reset/);
  const errors = Object.fromEntries(Object.keys(ADA).map((field) => [field, 'ERR!']));
  const identity = { index: '1', uuid: UUID.second, 'pci.bus_id': '00000000:41:00.0', name: 'ERR!' };
  await machine.nvidiaSmi.become(driverScript({ cards: [ADA, { ...errors, ...identity }] }));
  await machine.preflight('the error as it stands there', (r) => /ERR!/.test(r.body.findings[0]?.message));
  // The table of a plain call, where a query was asked.
  const table =
    '|   1  ERR!                Off  | 00000000:41:00.0 Off |                 ERR! |\n|ERR!  ERR! ERR!    ERR! / ERR! |';
  await machine.nvidiaSmi.become(driverScript({ cards: [ADA], all: { stdout: table, status: 0 } }));
  await refusal(t, machine, missingOf(UUID.second, ...ALL));
  t.equal((await readingsOf(machine.service))[`gpu/${UUID.first}/temperature`], 71, 'the other is asked for by itself');
});

t.test('serve: a driver that does not know an optional field loses no reading', async (t) => {
  for (const unknown of [
    ['temperature.memory'],
    ['power.draw.instant', 'temperature.gpu.tlimit', 'mig.mode.current'],
  ]) {
    const card = Object.fromEntries(Object.entries(ADA).filter(([field]) => !unknown.includes(field)));
    const machine = await startMachine(t, { nvidiaSmi: driverScript({ cards: [card] }) });
    await machine.preflight(`a start without ${unknown}`, isSafe);
    t.equal((await readingsOf(machine.service))[`gpu/${UUID.first}/power`], 241.37);
  }
});

t.test('serve: a decimal comma makes a row invalid as a whole, and the tool is asked for points', async (t) => {
  const commas = driverScript({ cards: [{ ...ADA, 'power.draw': '299,90', 'temperature.gpu': '84' }] });
  const machine = await startMachine(t, {
    nvidiaSmi: `if [ "$LC_ALL" = C ]; then ${driverScript({ cards: [ADA] })}\nelse ${commas}\nfi`,
  });
  await machine.preflight('a row in the C locale', isSafe);
  await machine.nvidiaSmi.become(commas);
  const { body } = await refusal(t, machine, missingOf(UUID.first, ...ALL));
  t.match(body.findings[0].message, /17 cells for 16 fields/);
});

t.test('serve: a temperature in words or out of reach is never taken for cool', async (t) => {
  const row = (cell: string): string => driverScript({ cards: [{ ...ADA, 'temperature.gpu': cell }] });
  const machine = await startMachine(t, { nvidiaSmi: row('71') });
  await machine.preflight('a card', isSafe);
  for (const cell of ['', ' ', 'N/A', '[Unknown Error]', 'NaN', 'null', '-', '0', '511', '1e2', '0x56', '86C', '+86']) {
    await machine.nvidiaSmi.become(row(cell));
    await machine.preflight(`"${cell}" as missing`, (r) => sameSet(found(r), missingOf(UUID.first, 'temperature')));
    await machine.nvidiaSmi.become(row('71'));
    await machine.preflight(`a card again after "${cell}"`, isSafe);
  }
  await machine.nvidiaSmi.become(row('9'));
  await machine.preflight('a cold card', isSafe);
  await machine.nvidiaSmi.become(row('80'));
  await machine.preflight('a jump that is a warning', (r) => r.body.action === 'WAIT_COOLDOWN');
  await machine.nvidiaSmi.become(row('86'));
  const { body } = await machine.preflight('86 as a number', (r) => r.status === 423);
  t.match(found({ body } as Reply)[1], `over-hard-stop critical gpu/${UUID.first}/temperature ABORT`);
});

t.test('serve: an AMD card that tells nothing but zeros at full load is missing, and a hot one stops', async (t) => {
  const watts = (power1_average: string): TreeTable => radeonWith({ hwmon: { power1_average } });
  const machine = await startMachine(t, { tree: watts('187000000\n') });
  await machine.preflight('a card', isSafe);
  const put = (file: string, text: string) => machine.tree.put(`${RADEON_HWMON}/${file}`, `${text}\n`);
  await put('power1_average', '3689342859416540000');
  await refusal(t, machine, missingOf(RADEON_ID, 'power'));
  await put('power1_average', '0');
  await put('temp1_input', '0');
  await refusal(t, machine, missingOf(RADEON_ID, 'power', 'temperature'));
  await put('temp1_input', '61000');
  await put('power1_average', '187000000');
  await machine.preflight('the card again', isSafe);
  await machine.tree.remove(`${RADEON_HWMON}/temp1_input`);
  await machine.tree.remove(`${RADEON_HWMON}/temp2_input`);
  await refusal(t, machine, missingOf(RADEON_ID, 'temperature'));
  await put('temp1_input', '85000');
  const { body } = await machine.preflight('a stop', (r) => r.status === 423);
  t.match(found({ body } as Reply)[1], `over-hard-stop critical gpu/${RADEON_ID}/temperature ABORT`);
});

t.test('serve: a start at 250 W or more is refused as too much, not as unknown', async (t) => {
  const machine = await startMachine(t, { tree: { ...RADEON_CARD, ...cpuAt(52_000) } });
  const { body } = await machine.preflight(
    'a refusal',
    (r) => r.status === 503 && r.body.action === 'REDUCE_INTENSITY',
  );
  t.same(found({ body } as Reply), [`over-warning warning gpu/${RADEON_ID}/power REDUCE_INTENSITY`]);
});
