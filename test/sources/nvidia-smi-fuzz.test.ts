// Random answers of nvidia-smi: each card's numbers are its own cells or nothing, and no bytes make the reader throw, or
// make up a number.
import * as fc from 'fast-check';
import t from 'tap';
import { ALL_FIELDS, CORE_FIELDS } from '../../src/sources/nvidia-smi-card.ts';
import { parseQuery, parseTemperatureLimits, type QueryAnswer } from '../../src/sources/nvidia-smi-output.ts';
import { ADA, ADA_IDLE, MIG } from '../fixtures/nvidia-smi-cards.ts';
import { TEMPERATURE_LIMITS } from '../fixtures/nvidia-smi-texts.ts';
import { fuzz, garbled } from '../support/fuzz.ts';
import { nastyText } from '../support/schema-arbitrary.ts';

const hex = fc.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/);
const word = fc.constantFrom('[N/A]', 'N/A', '[Not Supported]', '[Unknown Error]', 'ERR!', '[GPU is lost]', '');
/** A cell holds neither a comma nor the end of a line, or it is two. */
const junk = nastyText.map((text) => text.replace(/[,\n\r]/g, '').trim());
const number = fc.oneof(
  fc.integer({ min: -10, max: 2_000 }).map(String),
  fc.double({ min: 0, max: 999, noNaN: true }).map((n) => n.toFixed(2)),
);
const cell = fc.oneof({ weight: 4, arbitrary: number }, { weight: 2, arbitrary: word }, { weight: 1, arbitrary: junk });
const isNumber = (text: string): boolean => /^-?\d{1,12}(\.\d{1,12})?$/.test(text);

const card = fc.record({
  uuid: hex.map((text) => `GPU-${text}`),
  slot: fc
    .integer({ min: 1, max: 255 })
    .map((bus) => `00000000:${bus.toString(16).padStart(2, '0').toUpperCase()}:00.0`),
  cells: fc.dictionary(
    fc.constantFrom(...ALL_FIELDS.filter((field) => !['uuid', 'pci.bus_id', 'index'].includes(field))),
    cell,
  ),
});
const machine = fc.uniqueArray(card, { maxLength: 5, selector: ({ uuid }) => uuid });

t.test('parseQuery() gives each card the numbers of its own cells, and none where a cell is no number', async () => {
  fc.assert(
    fc.property(machine, fc.boolean(), (cards, isCore) => {
      const fields = isCore ? CORE_FIELDS : ALL_FIELDS;
      const lines = cards.map(({ uuid, slot, cells }, index) =>
        fields
          .map((field) => ({ uuid, 'pci.bus_id': slot, index: `${index}` })[field] ?? cells[field] ?? '[N/A]')
          .join(', '),
      );
      const { cards: read } = parseQuery({ stdout: lines.map((line) => `${line}\n`).join(''), stderr: '' }, fields);
      if (read.length !== cards.length) throw new Error(`${read.length} of ${cards.length} cards`);
      for (const [index, { uuid, cells }] of cards.entries()) {
        const one = read[index];
        if (one?.sighting.id !== uuid) throw new Error(`${one?.sighting.id} stands where ${uuid} should`);
        for (const reading of one.readings) {
          if (reading.id !== uuid) throw new Error(`${uuid} has a reading of ${reading.id}`);
          if (reading.informational) continue;
          const field = { temperature: 'temperature.gpu', power: 'power.draw' }[String(reading.quantity)];
          const text = field === undefined ? undefined : (cells[field] ?? '[N/A]');
          const isInstant = reading.origin.includes('power.draw.instant');
          if (text !== undefined && !isInstant && reading.value !== (isNumber(text) ? Number(text) : null)) {
            throw new Error(`${field} is ${JSON.stringify(text)}, read as ${reading.value}`);
          }
          if (isInstant && reading.value !== Number(cells['power.draw.instant']))
            throw new Error('another instant power');
          if (reading.value === null && reading.cause === undefined) throw new Error('nothing, without a cause');
        }
      }
    }),
    fuzz(400),
  );
});

/** What must hold of any answer at all. */
function check({ cards, faults, remarks }: QueryAnswer, said: string): void {
  for (const { sighting, readings } of cards) {
    if (!/^(GPU-[0-9a-f-]+|[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])$/.test(sighting.id))
      throw new Error(sighting.id);
    for (const { value, cause, origin, informational } of readings) {
      if (value === null ? cause === undefined : !Number.isFinite(value)) throw new Error(`${origin}: ${value}`);
      if (origin.length > 120) throw new Error(`an origin of ${origin.length} characters`);
      const isTold =
        value === null || informational || /memory/.test(origin) || said.includes(String(Math.trunc(Math.abs(value))));
      if (!isTold) throw new Error(`${value} stands nowhere in the answer`);
    }
  }
  for (const text of [...remarks, ...faults.map(({ text: words }) => words)]) {
    if (!/^[\x20-\x7e°]{0,120}$/.test(text)) throw new Error(JSON.stringify(text));
  }
}

t.test('parseQuery() and parseTemperatureLimits() take any bytes, and make up no number', async () => {
  const good = [ADA, ADA_IDLE, MIG].map((cells) => ALL_FIELDS.map((field) => cells[field] ?? '').join(', ')).join('\n');
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array)),
    garbled(fc.constant(Buffer.from(`${good}\n`))),
  );
  const limits = garbled(fc.constant(Buffer.from(TEMPERATURE_LIMITS)));
  fc.assert(
    fc.property(bytes, bytes, limits, (stdout, stderr, log) => {
      const [out, err] = [stdout.toString('utf8'), stderr.toString('latin1')];
      check(parseQuery({ stdout: out, stderr: err }, ALL_FIELDS), out + err);
      for (const { slowdownC, targetC } of parseTemperatureLimits(log.toString('utf8')).values()) {
        for (const celsius of [slowdownC, targetC]) {
          if (celsius !== undefined && !(celsius > 0 && celsius <= 125)) throw new Error(`a limit of ${celsius} °C`);
        }
      }
    }),
    fuzz(1_500),
  );
});
