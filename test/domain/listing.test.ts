// Nodes that something finds: watched when they are listed, missing when they are off the list and something runs there,
// set aside when nothing does; and what is remembered of them.
import t from 'tap';
import type { ClusterMachine } from '../../src/domain/cluster.ts';
import { MOST_ASIDE, UNLISTED_FOR_MS } from '../../src/domain/listing.ts';
import type { SourceReport } from '../../src/domain/reading.ts';
import { EMPTY_REPORT } from '../../src/domain/reading.ts';
import type { LiveWorkload } from '../../src/domain/stop.ts';
import { codesOf, DomainWorld, NODE, worldSettings } from '../support/domain-world.ts';
import { OTHER_NODE, twoNodes } from '../support/two-nodes.ts';

const GPU_C = 'GPU-cccccccc-0000-4000-8000-000000000000';
const pod: LiveWorkload = { kind: 'pod', node: OTHER_NODE, name: 'gpu/train-7' };

/** A configured node and a found one, both read. */
function foundWorld(): DomainWorld {
  const world = new DomainWorld(worldSettings(), twoNodes());
  world.inventory([], true);
  list(world, [NODE, OTHER_NODE]);
  world.run(20);
  world.effects = [];
  return world;
}

function list(world: DomainWorld, nodes: readonly string[], source = 'fake', unread: string[] = []): void {
  const sources = new Map(nodes.map((node) => [node, new Set([source])]));
  world.submit({ kind: 'nodes-listed', listing: { nodes: new Set(nodes), sources, problems: [], unread } });
}

/** Off the list, and not read any more. */
function unlist(world: DomainWorld): void {
  delete world.nodes[OTHER_NODE];
  list(world, [NODE]);
}

t.test('takeListing() watches a found node from the moment it is listed, read or not', async (t) => {
  const world = DomainWorld.running();
  list(world, [NODE, 'found']);
  t.equal(world.run(10).safe, false);
  t.ok(world.codes.includes('reading-missing cpu//temperature'), 'nothing has been read of it');
  t.equal(
    world.state.nodes.get('found')?.graceUntilMs,
    world.state.startedAtMs + 120_000,
    'its grace is that of our start',
  );
  t.match(world.preflight({ nodes: [NODE] }).result, { safe: true }, 'the other node is not held up');
});

t.test('settleListing() sets a node aside after a minute off the lists when nothing runs there', async (t) => {
  const world = foundWorld();
  unlist(world);
  world.run(UNLISTED_FOR_MS / 1000 - 10);
  t.equal(world.result.safe, false, 'until then it is missing');
  world.run(20);
  t.equal(world.result.safe, true);
  t.equal(world.told('node-unlisted').length, 1);
  t.ok(codesOf(world.preflight({ nodes: [OTHER_NODE] }).result.findings).includes('node-unmonitored monitor//'));
});

t.test('settleListing() keeps a node under a live workload: it is missing, not gone', async (t) => {
  const world = foundWorld();
  world.inventory([pod], true);
  world.run(10);
  unlist(world);
  world.inventory([pod], true);
  world.run(UNLISTED_FOR_MS / 1000 + 30);
  t.same(world.told('node-unlisted'), []);
  t.match([...world.state.trips.values()], [{ cause: 'blind', scope: { kind: 'nodes', nodes: [OTHER_NODE] } }]);
  world.inventory([], true);
  world.run(120);
  t.same(world.told('node-unlisted'), [], 'and as long as it is tripped');
});

t.test('settleListing() takes a node back when a workload turns up there', async (t) => {
  const world = foundWorld();
  unlist(world);
  world.run(90);
  t.ok(world.state.nodesAside.has(OTHER_NODE));
  world.inventory([pod], true);
  world.run(10);
  t.notOk(world.state.nodesAside.has(OTHER_NODE));
  t.equal(world.result.safe, false);
});

t.test('takeListing() still knows the cards of a node that comes back', async (t) => {
  const world = foundWorld();
  unlist(world);
  world.run(90);
  world.nodes = { ...twoNodes() };
  const back = world.nodes[OTHER_NODE];
  if (back) back.gpus = {};
  list(world, [NODE, OTHER_NODE]);
  world.run(20);
  const lost = world.result.findings.filter(({ id }) => id === GPU_C);
  t.same(codesOf(lost), [
    'reading-missing gpu/GPU-cccccccc-0000-4000-8000-000000000000/temperature',
    'reading-missing gpu/GPU-cccccccc-0000-4000-8000-000000000000/power',
    'reading-missing gpu/GPU-cccccccc-0000-4000-8000-000000000000/memory',
  ]);
});

t.test(
  'settleListing() remembers of a node set aside what must be known when it comes back, and no readings',
  async (t) => {
    const world = foundWorld();
    const before = world.state.nodes.get(OTHER_NODE);
    unlist(world);
    world.run(90);
    const aside = world.state.nodesAside.get(OTHER_NODE);
    t.equal(aside?.watch.sources.size, 0);
    t.same([...(aside?.watch.gpus.known.keys() ?? [])], [GPU_C]);
    t.same(aside?.watch.seen, before?.watch.seen, 'so that its readings have no grace of a first start');
  },
);

t.test(
  'takeListing() takes the first word of a node’s boot for no boot, and a later one for a new start',
  async (t) => {
    const world = foundWorld();
    const see = (isReady: boolean, bootId: string): void => {
      const sources = new Map([NODE, OTHER_NODE].map((node) => [node, new Set(['fake'])]));
      const machines = new Map([[OTHER_NODE, { isReady, bootId, gpus: null }]]) as unknown as Map<
        string,
        ClusterMachine
      >;
      const nodes = new Set([NODE, OTHER_NODE]);
      world.submit({ kind: 'nodes-listed', listing: { nodes, sources, machines, problems: [], unread: [] } });
    };
    const node = () => world.state.nodes.get(OTHER_NODE);
    const seen = node()?.watch.seen;
    see(true, 'k-1');
    t.equal(node()?.graceUntilMs, world.state.startedAtMs + 120_000);
    t.equal(node()?.watch.seen, seen, 'what was read of it was read');
    t.equal(node()?.readySinceMs, null, 'it was never away');
    const startedWallMs = world.wallMs - (world.elapsedMs - world.state.startedAtMs);
    t.match(world.durable.get(`boot/${OTHER_NODE}`), { bootId: 'k-1', startedWallMs });
    world.pass(5_000);
    see(true, 'k-1');
    t.equal(node()?.readySinceMs, null);
    see(false, 'k-1');
    t.equal(node()?.machine?.isReady, false);
    t.equal(node()?.readySinceMs, null);
    see(true, 'k-1');
    t.equal(node()?.readySinceMs, world.elapsedMs, 'back, in the same boot');
    t.equal(node()?.watch.seen, seen);
    world.pass(5_000);
    see(true, 'k-2');
    t.equal(node()?.machine?.bootId, 'k-2');
    t.equal(node()?.readySinceMs, world.elapsedMs - 5_000, 'it was not seen away');
    t.equal(node()?.graceUntilMs, world.elapsedMs + 120_000);
    t.same([...(node()?.watch.seen ?? ['?'])], [], 'in this boot nothing of it has been read');
    t.match(world.durable.get(`boot/${OTHER_NODE}`), { bootId: 'k-2', startedWallMs: world.wallMs });
  },
);

t.test('settleListing() forgets the node that was set aside first when too many are', async (t) => {
  const world = foundWorld();
  unlist(world);
  world.run(90);
  const aside = world.state.nodesAside.get(OTHER_NODE);
  if (!aside) throw new Error('it is not set aside');
  const others = Array.from({ length: MOST_ASIDE - 1 }, (_, index) => [`gone-${index}`, aside] as const);
  world.state = { ...world.state, nodesAside: new Map([[OTHER_NODE, aside], ...others]) };
  t.ok(world.durable.has(`gpu/${OTHER_NODE}/${GPU_C}`));
  list(world, [NODE, 'passing']);
  world.run(10);
  t.ok(world.state.nodesAside.has(OTHER_NODE), 'as many as there may be');
  list(world, [NODE]);
  world.run(90);
  t.equal(world.state.nodesAside.size, MOST_ASIDE);
  t.ok(world.state.nodesAside.has('passing'));
  t.notOk(world.state.nodesAside.has(OTHER_NODE));
  t.notOk(world.durable.has(`gpu/${OTHER_NODE}/${GPU_C}`), 'nor on the disk');
  t.match(world.told('gpu-forgotten'), [{ node: OTHER_NODE, by: 'monitor' }]);
});

t.test('takeListing() tells of a node that is listed again, and of no other', async (t) => {
  const world = foundWorld();
  list(world, [NODE, OTHER_NODE]);
  t.same(world.told('node-listed'), [], 'it was there all the time');
  unlist(world);
  world.run(90);
  list(world, [NODE, OTHER_NODE, 'new']);
  t.match(world.told('node-listed'), [{ node: OTHER_NODE, message: /listed again/ }]);
  t.equal(world.told('node-listed').length, 1);
  t.notOk(world.state.nodesAside.has(OTHER_NODE));
});

t.test('settleListing() waits for 60 s off the lists, and not less', async (t) => {
  const world = foundWorld();
  unlist(world);
  world.pass(UNLISTED_FOR_MS - 1);
  world.tick();
  t.ok(world.state.nodes.has(OTHER_NODE));
  world.pass(1);
  world.tick();
  t.ok(world.state.nodesAside.has(OTHER_NODE));
});

t.test('takeListing() keeps a source that is off the list while what it said last is not stale', async (t) => {
  const world = DomainWorld.running();
  const names = (): string[] => [...(world.state.nodes.get(NODE)?.watch.sources.keys() ?? [])];
  world.pass(30_000);
  list(world, [NODE], 'another');
  t.same(names(), ['fake'], '30 s old');
  world.pass(1);
  list(world, [NODE], 'another');
  t.same(names(), []);
});

t.test('forget() takes a node that is set aside', async (t) => {
  const world = foundWorld();
  unlist(world);
  world.run(90);
  const answer = world.submit({ kind: 'forget-requested', node: OTHER_NODE, gpu: null, reason: 'sold', by: 'ada' });
  t.match(answer, { kind: 'forgotten', gpus: [GPU_C] });
  t.notOk(world.state.nodesAside.has(OTHER_NODE));
  t.notOk(world.durable.has(`gpu/${OTHER_NODE}/${GPU_C}`));
});

t.test(
  'takeListing() drops a source that is off the list: at once if it never answered, else when it is stale',
  async (t) => {
    const world = DomainWorld.running();
    const silent = (atMs: number): SourceReport => ({
      ...EMPTY_REPORT,
      source: 'http://10.0.0.7:9400/metrics',
      node: NODE,
      startedAtMs: atMs,
      finishedAtMs: atMs,
      outcome: { kind: 'failed', cause: 'refused', detail: 'connection refused' },
    });
    world.others = [silent];
    world.run(10);
    t.equal(world.result.safe, false, 'a source that has never answered refuses starts');
    world.others = [];
    list(world, [NODE]);
    t.equal(world.run(10).safe, true);
    const names = (): string[] => [...(world.state.nodes.get(NODE)?.watch.sources.keys() ?? [])];
    list(world, [NODE], 'another');
    t.same(names(), ['fake'], 'its last readings count like those of a source that fails');
    world.node.fails = true;
    world.run(40);
    list(world, [NODE], 'another');
    t.same(names(), []);
  },
);

t.test('unmonitoredFindings() refuses starts while a workload runs on a node that nothing watches', async (t) => {
  const world = DomainWorld.running();
  world.inventory([{ ...pod, node: 'elsewhere' }], true);
  world.run(10);
  t.match(world.preflight().result, { safe: false, findings: [{ code: 'node-unmonitored', node: 'elsewhere' }] });
  t.equal(world.preflight({ nodes: [NODE] }).result.safe, true);
});

t.test('unmonitoredFindings() names each node that nothing watches once, in order, and why', async (t) => {
  const world = foundWorld();
  unlist(world);
  world.run(90);
  const unmonitored = (nodes: readonly string[] | null): string[] =>
    world
      .preflight({ nodes })
      .result.findings.filter(({ code }) => code === 'node-unmonitored')
      .map(({ message }) => message);
  t.match(unmonitored([OTHER_NODE, NODE]), [/^other is listed no longer/]);
  const runs = (node: string): LiveWorkload => ({ ...pod, node });
  world.inventory([runs('zeta'), runs('alpha'), runs('zeta')], true);
  t.match(unmonitored(null), [/^alpha is not configured and not found/, /^zeta is not configured and not found/]);
  t.same(unmonitored([NODE]), [], 'what runs elsewhere holds no start up here');
});

t.test('unmonitoredFindings() refuses starts on all nodes while a list of nodes has not been read once', async (t) => {
  const world = DomainWorld.running();
  list(world, [NODE], 'fake', ['files']);
  t.match(world.preflight().result, { safe: false, findings: [{ code: 'node-unmonitored', id: 'files' }] });
  t.equal(world.preflight({ nodes: [NODE] }).result.safe, true);
  list(world, [NODE]);
  t.equal(world.preflight().result.safe, true);
});

/** An exporter that tells the time, or `null` for one that does not. */
const exporter = (port: number, atMs: number, sourceWallAheadMs: number | null): SourceReport => ({
  ...EMPTY_REPORT,
  source: `http://127.0.0.1:${port}/metrics`,
  node: NODE,
  startedAtMs: atMs,
  finishedAtMs: atMs,
  outcome: { kind: 'answered' },
  scrape: { url: '', tookMs: 1, bytes: 1, samples: 1, rejectedLines: 0, rejected: [], sourceWallAheadMs },
});

t.test(
  'tellClockSkew() tells once of a wrong clock and once when it is right again, and refuses nothing',
  async (t) => {
    const world = DomainWorld.running();
    let aheadMs = 90_000;
    world.others = [(atMs) => exporter(9100, atMs, aheadMs)];
    world.run(30);
    t.equal(world.result.safe, true);
    t.match(world.told('clock-skew'), [
      { node: NODE, message: 'The clock of bizon1 is 90 s ahead of ours; ages are taken by its own time' },
    ]);
    aheadMs = -3_001;
    world.run(10);
    t.equal(world.told('clock-skew').length, 1, 'well below the threshold only');
    aheadMs = -3_000;
    world.run(10);
    t.match(world.told('clock-skew')[1], { message: 'The clock of bizon1 is right again' });
    aheadMs = 5_000;
    world.run(10);
    t.equal(world.told('clock-skew').length, 2, 'as much as a stamp may be ahead');
    aheadMs = -5_001;
    world.run(10);
    t.match(world.told('clock-skew')[2], {
      message: 'The clock of bizon1 is 5 s behind ours; ages are taken by its own time',
    });
  },
);

t.test('tellClockSkew() takes a clock for wrong until the source that told it so tells otherwise', async (t) => {
  const world = DomainWorld.running();
  const told = (): string[] => world.told('clock-skew').map(({ message }) => message.replace(/;.*/, ''));
  const ahead: Record<number, number | null> = { 9100: -20_000, 9400: 0 };
  const say = (port: number) => (atMs: number) => exporter(port, atMs, ahead[port] ?? null);
  world.others = [say(9100), say(9400)];
  world.run(60);
  t.same(told(), ['The clock of bizon1 is 20 s behind ours'], 'another exporter beside it, whose clock is right');
  world.others = [say(9400), say(9100)];
  world.run(30);
  world.others = [say(9400)];
  world.run(30);
  ahead[9100] = null;
  world.others = [say(9400), say(9100)];
  world.run(30);
  t.equal(told().length, 1, 'in whatever order, and while the one says nothing of the time');
  for (const hovering of [-4_000, -5_500, -4_900, -5_100]) {
    ahead[9100] = hovering;
    world.run(10);
  }
  t.equal(told().length, 1, 'nor where it hovers at the limit');
  ahead[9400] = 30_000;
  world.run(10);
  ahead[9100] = 0;
  world.run(10);
  t.equal(told().length, 1, 'the other one is wrong by now');
  ahead[9400] = 0;
  world.run(30);
  t.same(told().slice(1), ['The clock of bizon1 is right again']);

  ahead[9100] = -20_000;
  world.run(10);
  list(world, [NODE], 'fake');
  world.others = [];
  world.run(40);
  t.equal(told().length, 3);
  list(world, [NODE], 'fake');
  world.others = [say(9400)];
  world.run(10);
  t.match(told().slice(3), ['The clock of bizon1 is right again'], 'one that is off the list is waited for no more');
});
