// One step through the door: the order of what follows, ids, and what goes to the disk.
import t from 'tap';
import { Step } from '../../src/domain/step.ts';
import { DomainWorld } from '../support/domain-world.ts';

const MOMENT = { elapsedMs: 1_000_000, wallMs: Date.UTC(2026, 0, 1), id: '00000000-0000-4000-8000-000000000000' };
const fresh = (): Step => new Step(new DomainWorld().state, MOMENT);

t.test('newId() gives the id of the moment first, then that with a number, each once', async (t) => {
  const step = fresh();
  t.same([step.newId(), step.newId(), step.newId()], [MOMENT.id, `${MOMENT.id}-1`, `${MOMENT.id}-2`]);
});

t.test('record() is one change of the disk, before everything else, with its last word of each key', async (t) => {
  const step = fresh();
  t.same(step.effects(), [], 'nothing follows from nothing');
  step.log('info', 'first');
  step.record('a', 1, 'a came');
  step.record('b', 2, 'b came');
  step.record('b', null, 'b went');
  step.record('c', null, 'c went');
  step.record('c', 3, 'c came back');
  t.same(step.effects(), [
    {
      kind: 'journal',
      change: { set: { a: 1, c: 3 }, delete: ['b'], why: 'a came; b came; b went; c went; c came back' },
      urgent: false,
    },
    { kind: 'log', level: 'info', message: 'first' },
  ]);
  t.throws(() => step.record('', 1, 'nameless'), /key/);
});

t.test('record() is urgent when any of it is, whatever comes after', async (t) => {
  const step = fresh();
  step.record('a', 1, 'a', true);
  step.record('b', 1, 'b');
  t.match(step.effects(), [{ urgent: true }]);
  const deleted = fresh();
  deleted.record('a', null, 'a');
  t.match(deleted.effects(), [{ change: { set: {}, delete: ['a'] } }]);
});

t.test('record() names 20 reasons, in 1,000 characters at most', async (t) => {
  const step = fresh();
  for (let n = 0; n < 30; n++) step.record(`key-${n}`, n, `reason ${n}`);
  const [effect] = step.effects();
  t.equal(effect?.kind === 'journal' ? effect.change.why.split('; ').length : 0, 20);
  const wordy = fresh();
  wordy.record('a', 1, 'x'.repeat(2_000));
  t.match(wordy.effects(), [{ change: { why: 'x'.repeat(1_000) } }]);
});

t.test('setNode() copies the nodes once, and leaves those of the state before alone', async (t) => {
  const world = DomainWorld.running();
  const [[name, node]] = [...world.state.nodes] as [[string, NonNullable<ReturnType<typeof world.state.nodes.get>>]];
  const step = new Step(world.state, MOMENT);
  step.setNode(name, { ...node, findings: [] });
  const copy = step.state.nodes;
  step.setNode('another', node);
  t.equal(step.state.nodes, copy, 'one copy for all of a step');
  t.same([...world.state.nodes.keys()], [name]);
  t.equal(world.state.nodes.get(name), node);
});
