// What the dashboard concludes from what it knows, without a browser: whether it is the present, how readings stand, in
// which order nodes are shown, and what an hour is made of.
import t from 'tap';
import { leadershipNote } from '../../src/dashboard/leadership.ts';
import { type Contact, livenessOf } from '../../src/dashboard/liveness.ts';
import { readable } from '../../src/dashboard/names.ts';
import { levelOf, nearnessOf, summariesOf } from '../../src/dashboard/readings.ts';
import { Recorder, timelineOf } from '../../src/dashboard/timeline.ts';
import { verdictOf } from '../../src/dashboard/verdict.ts';
import type { History, ReadingStatus, SafetyResult, Status } from '../../src/dashboard/wire.ts';

const at = (seconds: number, wallSeconds = seconds) => ({ elapsedMs: seconds * 1000, wallMs: wallSeconds * 1000 });

const contact: Contact = {
  isOpen: true,
  brokenSince: at(0),
  hadContact: true,
  nextTryAt: null,
  refusal: null,
  evaluated: { ageSeconds: 0, at: at(100) },
  read: { tickAgeSeconds: 0, at: at(100), isFailing: false },
  intervalSeconds: 10,
};

t.test('livenessOf() calls nothing the present that is not', async (t) => {
  const kindAt = (change: Partial<Contact>, seconds = 100, wall = seconds) =>
    livenessOf({ ...contact, ...change }, at(seconds, wall)).kind;
  t.equal(kindAt({}), 'live');
  t.equal(kindAt({}, 115.9), 'live', 'a tick may be late by half, and a second for the way');
  t.equal(kindAt({}, 116.1), 'old');
  t.equal(kindAt({}, 100, 170), 'old', 'after a sleep in which the monotonic clock stood still');
  t.equal(kindAt({ evaluated: { ageSeconds: 20, at: at(100) } }), 'old', 'what was old when it came');
  t.equal(kindAt({ read: { tickAgeSeconds: 16, at: at(100), isFailing: false } }), 'old', 'the monitor stalled');
  t.equal(kindAt({ read: { tickAgeSeconds: 0, at: at(80), isFailing: true } }), 'old', 'the status does not come');
  t.equal(kindAt({ evaluated: null }), 'connecting', 'another process judged nothing yet');
  t.equal(kindAt({ isOpen: false }), 'lost');
  t.equal(kindAt({ isOpen: false, hadContact: false, brokenSince: at(99) }), 'connecting', 'a moment for the first');
  t.equal(kindAt({ isOpen: false, hadContact: false, brokenSince: at(90) }), 'lost');
  t.equal(kindAt({ refusal: 'a bearer token is needed' }), 'locked');
});

const result = (change: Partial<SafetyResult> = {}): SafetyResult => ({
  safe: true,
  action: 'PROCEED',
  reason: 'Every check passes',
  scope: { kind: 'all' },
  findings: [],
  findingsTotal: 0,
  unprotected: [],
  interlock: { state: 'clear', nodes: {} },
  sequence: 1,
  evaluatedAt: '2026-01-01T00:00:00.000Z',
  profile: 'default',
  constraintsDigest: '',
  ...change,
});

t.test('verdictOf() is safe for a live PROCEED alone', async (t) => {
  const live = { kind: 'live', ageSeconds: 1 } as const;
  t.equal(verdictOf(live, result(), null).tone, 'safe');
  t.not(verdictOf(live, null, null).tone, 'safe', 'nothing judged yet');
  t.not(verdictOf(live, result({ interlock: { state: 'tripped', nodes: {} } }), null).tone, 'safe');
  for (const action of ['REDUCE_INTENSITY', 'WAIT_COOLDOWN', 'ABORT'] as const) {
    t.not(verdictOf(live, result({ action }), null).tone, 'safe', action);
  }
  const lost = { kind: 'lost', seconds: 1, retrySeconds: null } as const;
  for (const other of [lost, { kind: 'old', why: '' }, { kind: 'connecting' }, { kind: 'locked', why: '' }] as const) {
    t.equal(verdictOf(other, result(), null).tone, 'unknown', other.kind);
  }
});

const reading = (change: Partial<ReadingStatus>): ReadingStatus => ({
  component: 'gpu',
  id: 'GPU-a',
  quantity: 'temperature',
  unit: '°C',
  limits: { warning: 80, hardStop: 85 },
  ...change,
});

t.test('levelOf() stands on the same side of every limit as the service', async (t) => {
  for (const [value, level] of [
    [76.4, 'ok'],
    [76.5, 'near'],
    [79.9, 'near'],
    [80, 'warning'],
    [84.9, 'warning'],
    [85, 'stop'],
  ] as const) {
    t.equal(levelOf(reading({ value })), level, String(value));
  }
  const memory = { quantity: 'memory', unit: 'ratio', limits: { max: 0.9 } } as const;
  t.equal(levelOf(reading({ ...memory, value: 0.9 })), 'near', 'a maximum may be reached');
  t.equal(levelOf(reading({ ...memory, value: 0.901 })), 'warning');
  t.equal(levelOf(reading({ missing: 'gone', required: true })), 'missing');
  t.equal(levelOf(reading({ missing: 'gone', required: false })), 'none');
  t.equal(levelOf(reading({ value: 99, informational: true })), 'none', 'only shown');
  t.equal(nearnessOf(reading({ missing: 'gone' })), null);
});

t.test('summariesOf() puts first what wants attention first', async (t) => {
  const names = ['cool', 'near', 'warm', 'cooling', 'blind', 'tripped'];
  const nodes = names.map((node) => ({ node, readings: [], gpus: [], live: false }));
  const margin = (node: string, marginRatio: number) =>
    ({ node, component: 'gpu', quantity: 'temperature', value: 50, unit: '°C', limit: 85, marginRatio }) as const;
  const finding = { component: 'gpu', code: 'over-warning', action: 'WAIT_COOLDOWN', message: 'm' } as const;
  const told = result({
    findings: [
      { ...finding, node: 'warm', level: 'warning' },
      { ...finding, node: 'blind', level: 'missing' },
    ],
    findingsTotal: 2,
    interlock: { state: 'tripped', nodes: { tripped: 'tripped', cooling: 'cooling' } },
  });
  const margins = [
    margin('cool', 0.5),
    margin('near', 0.08),
    margin('warm', 0.05),
    margin('cooling', 0.2),
    margin('tripped', 0.4),
  ];
  const summaries = summariesOf({ nodes } as unknown as Status, told, margins);
  t.same(
    summaries.map(({ node }) => node),
    ['tripped', 'warm', 'blind', 'cooling', 'near', 'cool'],
  );
  t.match(summaries[2], { level: 'missing', nearness: null, nearest: 'nothing is read' });
});

t.test('readable() names cards by their slot, and moments by the reader’s clock', async (t) => {
  const id = 'GPU-5f5f0000-0000-4000-8000-000000000002';
  const nodes = [
    { gpus: [{ id, pciAddress: '0000:03:00.0', vendor: 'nvidia', required: true, listed: true, ignored: false }] },
  ] as const;
  t.equal(readable(`GPU ${id} on rig is at 86 °C`, nodes), 'GPU 03:00.0 on rig is at 86 °C');
  t.equal(readable(`${id} draws 200 W`, nodes), 'GPU 03:00.0 draws 200 W');
  t.equal(readable(`GPU ${id} is gone`, []), `GPU ${id} is gone`);
  t.match(readable('stopped since 2026-01-01T10:20:30.123Z: hot', []), /^stopped since \d\d:\d\d:30: hot$/);
});

t.test('timelineOf() goes on where the history ends, and draws no line over what nobody saw', async (t) => {
  const recorder = new Recorder();
  const see = (seconds: number, value: number): void => {
    const nodes = [{ node: 'rig', readings: [reading({ value }), reading({ quantity: 'power' })] }];
    recorder.record({ at: new Date(seconds * 1000).toISOString(), nodes } as unknown as Status);
  };
  const end = 10_000;
  for (const seconds of [9_880, 9_890, 9_890, 9_900, 10_000]) see(seconds, seconds / 100);
  const history: History = {
    from: '',
    to: '',
    stepSeconds: 10,
    store: { state: 'ok', detail: '' },
    at: [6_000_000, 9_870_000, 9_880_000],
    series: [{ node: 'rig', component: 'gpu', id: 'GPU-a', quantity: 'temperature', max: [1, 2, null] }],
    spans: [],
    events: [],
  };
  const { at: moments, columns } = timelineOf(history, recorder.momentsOf('rig'), end, 10);
  t.same(moments, [9_870, 9_880, 9_890, 9_900, 9_910, 10_000], 'within the hour, each once, with a gap of its own');
  t.same([...columns.keys()], ['gpu/GPU-a/temperature']);
  t.same(columns.get('gpu/GPU-a/temperature'), [2, null, 98.9, 99, null, 100]);
  t.equal(recorder.since('rig'), 9_880);
  t.equal(recorder.since('other'), null);
});

t.test('leadershipNote() says what a process that does not lead can do, and who does', async (t) => {
  t.equal(leadershipNote({ mode: 'single', leader: true }), null);
  t.equal(leadershipNote({ mode: 'cluster', leader: true, state: 'leader', identity: 'a', holder: 'a' }), null);
  const standby = { mode: 'cluster', leader: false, state: 'standby', identity: 'a' } as const;
  t.match(leadershipNote({ ...standby, holder: 'b' }), {
    word: 'STANDBY',
    text: /^b leads\. The emergency stop works/,
  });
  t.match(leadershipNote({ ...standby, holder: null }), { text: /^Nobody leads yet/ });
  const unknown = { mode: 'cluster', leader: false, state: 'unknown', holder: null, detail: 'no answer' } as const;
  t.match(leadershipNote(unknown), { word: 'NO LEADER KNOWN', text: /\(no answer\)\. The emergency stop works/ });
});
