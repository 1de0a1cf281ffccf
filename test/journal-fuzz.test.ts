// Random damage to the durable record. Of bytes: what is replayed is what was written up to some line, or it is called damage.
// Of meaning: whatever stands in a record, a restart neither throws nor loses a trip without a word, and what it made of
// it can be decided on.
import * as fc from 'fast-check';
import t from 'tap';
import { decide } from '../src/domain/decide.ts';
import { restoreState } from '../src/domain/durable.ts';
import {
  applyChange,
  changeJson,
  changeText,
  encodeLines,
  encodeSnapshot,
  type LiveKeys,
  readJournal,
} from '../src/journal-record.ts';
import { DomainWorld, NODE } from './support/domain-world.ts';
import { broken, fuzz, garbled } from './support/fuzz.ts';
import { anyJson, nastyText } from './support/schema-arbitrary.ts';

const AT = '2026-01-01T00:00:00.000Z';
const key = fc.oneof(
  fc.constantFrom('trip/1', 'epoch', 'lease/a', 'gpu/n/x'),
  nastyText.map((text) => Buffer.from(text).toString()),
);
const change = fc.record({
  set: fc.dictionary(key, fc.jsonValue({ maxDepth: 2 }), { maxKeys: 3 }),
  delete: fc.array(key, { maxLength: 2 }),
});

interface Written {
  readonly bytes: Buffer;
  /** What the file says after each of its lines, and the offset behind that. */
  readonly states: readonly { readonly end: number; readonly said: string }[];
}

const sorted = (live: LiveKeys): string => JSON.stringify([...live].sort(([a], [b]) => (a < b ? -1 : 1)));

const file: fc.Arbitrary<Written> = fc.array(change, { maxLength: 6 }).map((changes) => {
  const live: LiveKeys = new Map();
  let { bytes, checksum } = encodeSnapshot(live, null, '1.2.3', AT);
  const states = [{ end: bytes.length, said: sorted(live) }];
  for (const one of changes) {
    const text = changeText({ ...one, why: 'by chance' });
    if (!text) continue;
    const lines = encodeLines([changeJson(text, 'by chance', AT)], checksum);
    bytes = Buffer.concat([bytes, lines.bytes]);
    checksum = lines.checksum;
    applyChange(live, text);
    states.push({ end: bytes.length, said: sorted(live) });
  }
  return { bytes, states };
});

t.test('readJournal() gives back what was written', async () => {
  fc.assert(
    fc.property(file, ({ bytes, states }) => {
      const read = readJournal(bytes);
      if (read.kind !== 'read' || sorted(read.live) !== states.at(-1)?.said) throw new Error(JSON.stringify(read));
    }),
    fuzz(200),
  );
});

t.test('readJournal() of damaged bytes gives what stood up to some line, or calls it damage', async (t) => {
  let damaged = 0;
  const wounded = file.chain((written) => garbled(fc.constant(written.bytes)).map((bytes) => ({ ...written, bytes })));
  fc.assert(
    fc.property(wounded, ({ bytes, states }) => {
      const read = readJournal(bytes);
      damaged += read.kind === 'damaged' ? 1 : 0;
      if (read.kind === 'newer') throw new Error('taken for a newer one');
      if (read.kind !== 'read') return;
      const state = states.find(({ end }) => end === read.goodBytes);
      if (state?.said !== sorted(read.live)) throw new Error('something else than what stood at that line');
      if (bytes.indexOf('\n', read.goodBytes) >= 0) throw new Error('a whole line behind it was passed over');
    }),
    fuzz(800),
  );
  t.ok(damaged > 100, `${damaged} were found to be damaged`);
});

t.test('readJournal() takes any bytes', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const read = readJournal(Buffer.from(bytes));
      if (read.kind === 'read') throw new Error('read out of nothing');
    }),
    fuzz(300),
  );
});

/** A record with everything in it: trips of a node, a lease, ended ones, a cooldown, cards, blindness, a last trip. */
function record(): DomainWorld {
  const world = DomainWorld.lived({ maxDurationMs: 600_000 });
  const lease = [...world.durable].filter(([name]) => name.startsWith('lease/'));
  world.submit({ kind: 'stop-requested', nodes: [NODE], cause: 'manual', reason: 'x', by: 'ada' });
  for (const [name, value] of lease) world.durable.set(name, value);
  return world;
}

t.test('restoreState() of any values never throws, loses no trip without a word, and can be decided on', async (t) => {
  const world = record();
  const durable = [...world.durable];
  let faults = 0;
  const wound = fc.record({
    entry: fc.nat(durable.length - 1),
    pick: fc.nat(),
    junk: fc.oneof(
      anyJson,
      fc.constant(undefined),
      fc.double(),
      fc.constantFrom(-1, Number.MAX_VALUE, '', 'all', NODE),
    ),
    name: fc.option(fc.oneof(nastyText, fc.constantFrom('trip/', 'lease/', 'cooling/', '//', '__proto__/x')), {
      freq: 10,
    }),
  });
  fc.assert(
    fc.property(fc.array(wound, { minLength: 1, maxLength: 4 }), (wounds) => {
      const map = new Map(durable);
      for (const { entry, pick, junk, name } of wounds) {
        const [old = ''] = durable[entry] ?? [];
        // As the journal would hold it.
        map.set(name ?? old, JSON.parse(JSON.stringify(broken(map.get(old), pick, junk) ?? null)));
      }
      const moment = { elapsedMs: 5_000, wallMs: world.wallMs + 60_000, id: 'restore' };
      const { state, problems } = restoreState(world.settings, map, moment);
      faults += problems.length > 0 ? 1 : 0;
      for (const [name, value] of map) {
        if (!name.startsWith('trip/') || (value as { simulated?: unknown } | null)?.simulated === true) continue;
        const { tripId } = (value ?? {}) as { tripId?: string };
        const isHeld = tripId !== undefined && state.trips.has(tripId);
        if (!isHeld && !problems.some((problem) => problem.startsWith(name))) throw new Error(`${name} is lost`);
      }
      const started = decide(state, { kind: 'started' }, { ...moment, id: 'started' });
      const ticked = decide(
        started.state,
        { kind: 'observed', why: 'tick', reports: [] },
        { ...moment, elapsedMs: 6_000, id: 'tick' },
      );
      decide(ticked.state, { kind: 'clock-looked' }, { ...moment, elapsedMs: 700_000, id: 'look' });
    }),
    fuzz(400),
  );
  t.ok(faults > 50, `${faults} had faults that were told`);
});
