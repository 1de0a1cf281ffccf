import t from 'tap';
import type { RawReading } from '../../src/domain/reading.ts';
import { ALL_FIELDS, type Card, CORE_FIELDS, withoutField } from '../../src/sources/nvidia-smi-card.ts';
import { explainFailure, parseQuery, parseTemperatureLimits } from '../../src/sources/nvidia-smi-output.ts';
import {
  ADA,
  ADA_IDLE,
  type CardCells,
  LAPTOP,
  LIMIT_FAILS,
  MIG,
  NEEDS_RESET,
  NO_POWER,
  POWER_FAILS,
  TELLS_TEMPERATURE_ONLY,
  UNIFIED_MEMORY,
  UUID,
} from '../fixtures/nvidia-smi-cards.ts';
import { LOST_AT_41, TEMPERATURE_LIMITS, WHOLE_TOOL_FAILURES } from '../fixtures/nvidia-smi-texts.ts';

const row = (cells: CardCells): string => ALL_FIELDS.map((field) => cells[field] ?? '').join(', ');
const parse = (stdout: string, stderr = '') => parseQuery({ stdout, stderr }, ALL_FIELDS);

function cardOf(cells: CardCells): Card {
  const { cards, faults, remarks } = parse(`${row(cells)}\n`);
  const [card] = cards;
  if (!card || cards.length !== 1 || faults.length + remarks.length > 0)
    throw new Error('not one card and nothing else');
  return card;
}

/** quantity -> value, or the cause of its absence; of the judged readings, or of those that are only shown. */
function told(card: Card, shown = false): Record<string, number | string> {
  const readings = card.readings.filter(({ informational }) => (informational ?? false) === shown);
  return Object.fromEntries(readings.map(({ quantity, value, cause }) => [quantity, value ?? cause ?? 'no cause']));
}

const readingOf = (card: Card, quantity: RawReading['quantity']): RawReading | undefined =>
  card.readings.find((reading) => reading.quantity === quantity);

t.test('parseQuery() reads a card: by UUID, with the average power, and memory as used of what can be had', (t) => {
  const card = cardOf(ADA);
  t.strictSame(card.sighting, {
    id: UUID.first,
    uuid: UUID.first,
    pciAddress: '0000:0b:00.0',
    name: 'NVIDIA RTX Example 6000',
    vendor: 'nvidia',
    required: true,
    unifiedMemory: false,
  });
  t.strictSame(told(card), { temperature: 71, power: 241.37, memory: 0.25 });
  t.strictSame(told(card, true), { power: 248.9, utilization: 0.98 });
  t.strictSame(card.limits, { component: 'gpu', id: UUID.first, enforcedPowerW: 260, defaultPowerW: 300 });
  t.ok(card.readings.every(({ component, id }) => component === 'gpu' && id === UUID.first));
  t.end();
});

t.test('parseQuery() puts the index and a T.Limit distance into words only', (t) => {
  t.equal(readingOf(cardOf(ADA_IDLE), 'temperature')?.origin, 'GPU 1 temperature.gpu (T.Limit: 50 °C left)');
  t.end();
});

t.test('parseQuery() tells an honest 0 from nothing', (t) => {
  t.strictSame(told(cardOf(ADA_IDLE)), { temperature: 38, power: 21.05, memory: 0 });
  t.strictSame(told(cardOf(ADA_IDLE), true), { power: 20.77, utilization: 0 });
  t.strictSame(told(cardOf({ ...ADA, 'temperature.gpu': '', 'power.draw': ' ', 'memory.used': '' })), {
    temperature: 'not-supported',
    power: 248.9,
    memory: 'not-supported',
  });
  t.end();
});

t.test('parseQuery() reads each kind of card: what it cannot tell is missing with its cause, never 0', (t) => {
  const kinds: [string, CardCells, Record<string, number | string>, Record<string, number | string>][] = [
    ['MIG', MIG, { temperature: 53, power: 432.1, memory: 0.25 }, { power: 440.02, temperature: 59 }],
    ['no power', NO_POWER, { temperature: 64, power: 'not-supported', memory: 0.25 }, { utilization: 0.98 }],
    ['laptop', LAPTOP, { temperature: 77, power: 88.4, memory: 0.25 }, { power: 248.9, utilization: 0.98 }],
    [
      'unified memory',
      UNIFIED_MEMORY,
      { temperature: 35, power: 11.17, memory: 'not-supported' },
      { power: 11.2, utilization: 0.98 },
    ],
    [
      'temperature only',
      TELLS_TEMPERATURE_ONLY,
      { temperature: 52, power: 'not-supported', memory: 'not-supported' },
      {},
    ],
    ['needs reset', NEEDS_RESET, { temperature: 'unreadable', power: 'unreadable', memory: 'unreadable' }, {}],
    [
      'power fails',
      POWER_FAILS,
      { temperature: 71, power: 'unreadable', memory: 0.25 },
      { power: 248.9, utilization: 0.98 },
    ],
    ['limit fails', LIMIT_FAILS, { temperature: 71, power: 268.82, memory: 0.25 }, { power: 248.9, utilization: 0.98 }],
  ];
  for (const [kind, cells, judged, shown] of kinds) {
    t.strictSame(told(cardOf(cells)), judged, `${kind}: judged`);
    t.strictSame(told(cardOf(cells), true), shown, `${kind}: shown`);
  }
  t.equal(readingOf(cardOf(NEEDS_RESET), 'temperature')?.origin, 'GPU 0 temperature.gpu: [GPU requires reset]');
  t.strictSame(cardOf(LIMIT_FAILS).limits, { component: 'gpu', id: UUID.first, enforcedPowerW: 260 });
  t.strictSame(cardOf(LAPTOP).limits, { component: 'gpu', id: UUID.first });
  t.end();
});

t.test('parseQuery() sorts words: a card that cannot tell, a card at fault, a number that is none', (t) => {
  const causes: [string, string][] = [
    ['[N/A]', 'not-supported'],
    ['N/A', 'not-supported'],
    ['[Not Supported]', 'not-supported'],
    ['[Requested functionality has been deprecated]', 'not-supported'],
    ['[Insufficient Permissions]', 'not-supported'],
    ['[Function Not Found]', 'not-supported'],
    ['[Unknown Error]', 'unreadable'],
    ['[GPU requires reset]', 'unreadable'],
    ['[GPU is lost]', 'unreadable'],
    ['[No data]', 'unreadable'],
    ['ERR!', 'unreadable'],
    ['nan', 'invalid'],
    ['-inf', 'invalid'],
    ['0x3c', 'invalid'],
    ['6e1', 'invalid'],
    ['61 C', 'invalid'],
    ['.5', 'invalid'],
  ];
  for (const [text, cause] of causes) {
    t.match(readingOf(cardOf({ ...ADA, 'temperature.gpu': text }), 'temperature'), { value: null, cause }, text);
    t.match(readingOf(cardOf({ ...NO_POWER, 'power.draw': text }), 'power'), { value: null, cause }, text);
  }
  t.end();
});

t.test('parseQuery() judges a card by its instant power where it has no average, not where that fails', (t) => {
  const instantOnly = cardOf({ ...ADA, 'power.draw': '[N/A]' });
  t.match(readingOf(instantOnly, 'power'), { value: 248.9, origin: 'GPU 0 power.draw.instant (power.draw: [N/A])' });
  t.equal(readingOf(instantOnly, 'power')?.informational, undefined);
  t.match(readingOf(cardOf({ ...ADA, 'power.draw': '[Unknown Error]' }), 'power'), {
    value: null,
    cause: 'unreadable',
  });
  t.end();
});

t.test('parseQuery() takes memory for the system’s only where all of it is [N/A] beside a working temperature', (t) => {
  t.equal(cardOf(UNIFIED_MEMORY).sighting.unifiedMemory, true);
  t.equal(cardOf(UNIFIED_MEMORY).sighting.pciAddress, '000f:01:00.0');
  for (const [what, cells] of [
    ['not supported', TELLS_TEMPERATURE_ONLY],
    ['failing', NEEDS_RESET],
    ['no temperature', { ...UNIFIED_MEMORY, 'temperature.gpu': '[N/A]' }],
    ['half told', { ...UNIFIED_MEMORY, 'memory.free': '100' }],
    ['split up', { ...UNIFIED_MEMORY, 'mig.mode.current': 'Enabled' }],
  ] as const) {
    t.equal(cardOf(cells).sighting.unifiedMemory, undefined, what);
  }
  t.end();
});

t.test('parseQuery() gives no share of memory that is none', (t) => {
  for (const cells of [
    { 'memory.used': '0', 'memory.free': '0' },
    { 'memory.used': '-1', 'memory.free': '48000' },
    { 'memory.used': '1', 'memory.free': '-48000' },
  ]) {
    t.match(readingOf(cardOf({ ...ADA, ...cells }), 'memory'), { value: null, cause: 'invalid' });
  }
  t.end();
});

t.test('parseQuery() takes HW thermal slowdown and HW power brake for throttling, and no other clock event', (t) => {
  const throttle = (mask: string) => cardOf({ ...ADA, 'clocks_event_reasons.active': mask }).throttle;
  for (const mask of ['0x0000000000000000', '0x000000000000013F', '0x8', '[N/A]', '[Unknown Error]', '64', '']) {
    t.equal(throttle(mask), undefined, mask);
  }
  t.match(throttle('0x0000000000000040'), /^HW thermal slowdown/);
  t.match(throttle('0x0000000000000080'), /^HW power brake/);
  t.match(throttle('0x00000000000001FF'), /^HW thermal slowdown and HW power brake/);
  const older = ALL_FIELDS.map((field) => field.replace('clocks_event', 'clocks_throttle'));
  const [card] = parseQuery(
    { stdout: row({ ...ADA, 'clocks_event_reasons.active': '0x48' }), stderr: '' },
    older,
  ).cards;
  t.match(card?.throttle, /^HW thermal slowdown/, 'by its older name');
  t.end();
});

t.test(
  'parseQuery() takes a row with a wrong number of cells for invalid as a whole, and still tells whose it is',
  (t) => {
    const decimalComma = row(ADA).replace('241.37', '241,37');
    const cutOff = row(ADA).split(', ').slice(0, 6).join(', ');
    for (const line of [decimalComma, cutOff]) {
      const { cards } = parse(`${line}\n${row(ADA_IDLE)}\n`);
      t.equal(cards.length, 2);
      t.equal(cards[0]?.sighting.id, UUID.first);
      t.strictSame(cards[0] && told(cards[0]), { temperature: 'invalid', power: 'invalid', memory: 'invalid' });
      t.strictSame(cards[1] && told(cards[1])['temperature'], 38, 'the other row is whole');
    }
    t.match(parse(decimalComma).cards[0]?.readings[0]?.origin, /17 cells for 16 fields: 71, 241, 37/);
    t.end();
  },
);

t.test('parseQuery() names a card without UUID by its place on the bus, and takes a row without both for none', (t) => {
  const noUuid = cardOf({ ...ADA, uuid: '[N/A]', name: 'ERR!' });
  t.strictSame(noUuid.sighting, {
    id: '0000:0b:00.0',
    pciAddress: '0000:0b:00.0',
    vendor: 'nvidia',
    required: true,
    unifiedMemory: false,
  });
  const nameless = parse(row({ ...ADA, uuid: '[Unknown Error]', 'pci.bus_id': '[Unknown Error]' }));
  t.equal(nameless.cards.length, 0);
  t.equal(nameless.remarks.length, 1, 'it is not lost without a word');
  t.end();
});

t.test(
  'parseQuery() finds the lost card in every wording, on stdout or stderr, among the rows or in their place',
  (t) => {
    for (const text of LOST_AT_41) {
      const shown = text.replaceAll(/ {2,}/g, ' ');
      const fault = { pciAddress: '0000:41:00.0', text: shown };
      t.strictSame(parse(`${text}\n`).faults, [fault], text);
      const among = parse(`${row(ADA)}\r\n${text}\r\n`);
      t.strictSame(among.faults, [fault], `among rows: ${text}`);
      t.equal(among.cards.length, 1);
      t.strictSame(parse(`${row(ADA)}\n`, `${text}\n`).faults, [fault], `on stderr: ${text}`);
    }
    const unnamed = 'Unable to determine the device handle for GPU2: Unknown Error';
    t.strictSame(parse(`${row(ADA)}\n${unnamed}\n`).faults, [{ text: unnamed }]);
    const inTable = '|   0  ERR!                Off  | 00000000:41:00.0 Off |                 ERR! |';
    t.match(parse(inTable).faults, [{ pciAddress: '0000:41:00.0' }], 'a table in place of the rows');
    t.end();
  },
);

t.test('parseQuery() does not take a warning beside a row for the loss of that card', (t) => {
  const warning = 'WARNING: infoROM is corrupted at gpu 0000:0B:00.0';
  const answer = parse(`${row(ADA)}\n${warning}\n`);
  t.strictSame(answer.faults, []);
  t.strictSame(answer.remarks, [warning]);
  t.match(
    parse(`${row(ADA_IDLE)}\n${warning}\n`).faults,
    [{ pciAddress: '0000:0b:00.0' }],
    'without its row it is lost',
  );
  t.end();
});

t.test('parseQuery() reads no card from the words of a failing tool', (t) => {
  for (const { what, stdout, stderr, status, detail } of WHOLE_TOOL_FAILURES) {
    const answer = parse(stdout, stderr);
    t.strictSame(answer.cards, [], what);
    t.match(explainFailure(status, answer), detail, what);
  }
  t.end();
});

t.test('explainFailure() gives the tool’s words as one short printable line', (t) => {
  const text = explainFailure(1, parse(`\u001b[31mError:\t${'long '.repeat(100)}`));
  t.match(text, /^nvidia-smi ended with status 1: \[31mError: long /);
  t.ok(text.length < 160, `${text.length} characters`);
  t.match(explainFailure(7, parse(row(ADA))), /status 7: rows without a word of why/);
  t.end();
});

t.test(
  'parseQuery() names the field that the driver refuses; withoutField() asks by its older name, then without',
  (t) => {
    t.equal(parse('Field "temperature.memory" is not a valid field to query.\n\n').rejectedField, 'temperature.memory');
    t.equal(parse('', 'Field "memory.free" is not a valid field to query.').rejectedField, 'memory.free');
    t.equal(parse(row(ADA)).rejectedField, undefined);

    const renamed = withoutField(ALL_FIELDS, 'clocks_event_reasons.active');
    t.equal(renamed.length, ALL_FIELDS.length);
    t.ok(renamed.includes('clocks_throttle_reasons.active'));
    const dropped = withoutField(renamed, 'clocks_throttle_reasons.active');
    t.strictSame(dropped, ALL_FIELDS.slice(0, -1));
    t.strictSame(withoutField(dropped, undefined), CORE_FIELDS, 'it does not say which');
    t.strictSame(withoutField(dropped, 'fan.speed'), CORE_FIELDS, 'one that was not asked for');
    t.strictSame(withoutField(dropped, 'power.draw'), CORE_FIELDS, 'one that is needed');
    t.end();
  },
);

t.test('parseTemperatureLimits() reads absolute limits, never a T.Limit distance', (t) => {
  const limits = parseTemperatureLimits(TEMPERATURE_LIMITS);
  t.strictSame(
    [...limits],
    [
      ['0000:0b:00.0', { slowdownC: 95, shutdownC: 98, targetC: 83 }],
      ['0000:41:00.0', {}],
    ],
  );
  const absurd = TEMPERATURE_LIMITS.replace('95 C', '0 C').replace('98 C', '126 C').replace('83 C', '255 C');
  t.strictSame(parseTemperatureLimits(absurd).get('0000:0b:00.0'), {});
  t.equal(parseTemperatureLimits('No devices were found\n').size, 0);
  t.end();
});
