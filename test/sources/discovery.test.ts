import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/clock.ts';
import { isNodeName } from '../../src/config-rules.ts';
import { type Discovered, Discovery, type DiscoverySettings, MOST_NODES } from '../../src/sources/discovery.ts';
import { createHttpGetter, type HttpGet } from '../../src/sources/http-get.ts';
import {
  configuredNodeFinder,
  type Found,
  MOST_TARGETS,
  readTargetGroups,
  type TargetFinder,
} from '../../src/sources/targets.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { tempDir } from '../support/temp-dir.ts';

const SETTINGS: DiscoverySettings = {
  nodes: [],
  allow: ['10.0.0.0/8', 'fd00::/8'],
  files: [],
  http: [],
  nodeLabel: 'node',
  refreshMs: 30_000,
};
const NO_HTTP: HttpGet = async () => ({ kind: 'failed', cause: 'failed', detail: 'nobody should have asked' });

function discovery(
  settings: Partial<DiscoverySettings>,
  more: { kubernetes?: TargetFinder; get?: HttpGet; clock?: ManualClock } = {},
): Discovery {
  return new Discovery({
    clock: more.clock ?? systemClock,
    settings: { ...SETTINGS, ...settings },
    get: more.get ?? NO_HTTP,
    credentials: null,
    kubernetes: more.kubernetes ?? null,
    isNodeName,
  });
}

const read = (list: unknown, configured: readonly string[] = []): Found =>
  readTargetGroups(list, {
    origin: 'file',
    nodeLabel: 'node',
    isNodeName,
    configuredNode: configuredNodeFinder(configured),
  });

const group = (node: string, ...targets: string[]) => ({ targets, labels: { node } });
const urls = ({ targets }: Discovered): string[] => targets.map(({ node, url }) => `${node} ${url}`);
const details = ({ problems }: Discovered): string[] => problems.map(({ detail }) => detail);

/** A finder that answers with what stands in `answer` when it is asked. */
function finder(): TargetFinder & { answer: Found | Promise<Found>; asked: number } {
  return {
    answer: { ok: true, targets: [], nodes: [], problems: [] },
    asked: 0,
    async find() {
      this.asked++;
      return this.answer;
    },
  };
}
const found = (...targets: [node: string, url: string][]): Found => ({
  ok: true,
  targets: targets.map(([node, url]) => ({ node, url, origin: 'kubernetes' as const })),
  nodes: [],
  problems: [],
});

t.test('readTargetGroups() makes addresses of targets under Prometheus’ own labels', async (t) => {
  const cases: [target: string, labels: Record<string, string>, url: string | null][] = [
    ['10.0.0.7:9100', {}, 'http://10.0.0.7:9100/metrics'],
    ['gpu-7.lab', {}, 'http://gpu-7.lab/metrics'],
    ['[fd00::7]:9400', {}, 'http://[fd00::7]:9400/metrics'],
    ['a:9100', { __scheme__: 'https', __metrics_path__: '/node/metrics' }, 'https://a:9100/node/metrics'],
    [
      'a:9290',
      { __param_target: '10.0.9.7', __param_module: 'x&y' },
      'http://a:9290/metrics?target=10.0.9.7&module=x%26y',
    ],
    ['a:9100', { __metrics_path__: '/m?x=1#y' }, 'http://a:9100/m%3Fx=1%23y'],
    ['a:9100/metrics', {}, null],
    ['http://a:9100', {}, null],
    ['user:secret@a:9100', {}, null],
    ['a:99999', {}, null],
    ['a b', {}, null],
    ['', {}, null],
    ['a:9100', { __scheme__: 'file' }, null],
    ['a:9100', { __metrics_path__: 'metrics' }, null],
  ];
  for (const [target, labels, url] of cases) {
    const list = read([{ targets: [target], labels: { node: 'n1', ...labels } }]);
    if (!list.ok) t.fail(list.detail);
    else {
      t.same(list.targets, url === null ? [] : [{ node: 'n1', url, origin: 'file' }], target);
      t.same(list.nodes, ['n1'], 'the node is there, whatever became of its target');
      t.equal(list.problems.length, url === null ? 1 : 0);
    }
  }
});

t.test(
  'readTargetGroups() refuses a group that does not name its node, but for hosts of configured nodes',
  async (t) => {
    const list = read([{ targets: ['10.0.0.7:9100', 'BIZON1:9400', 'bizon1.lab:9400'] }, group('', 'x:1')], ['bizon1']);
    t.same(list, {
      ok: true,
      targets: [{ node: 'bizon1', url: 'http://bizon1:9400/metrics', origin: 'file' }],
      nodes: ['bizon1'],
      problems: [
        'group 1 has no label node, so nobody knows which node it is; not read: "10.0.0.7:9100", "bizon1.lab:9400"',
        'group 2 has no label node, so nobody knows which node it is; not read: "x:1"',
      ],
    });
  },
);

t.test('readTargetGroups() refuses names that cannot name a node, on one line', async (t) => {
  for (const name of ['a/b', '__proto__', '-x', 'a\nb', 'x'.repeat(254)]) {
    const list = read([group(name, 'a:1'), group('good', 'b:1')]);
    t.match(list, {
      ok: true,
      nodes: ['good'],
      problems: [/^group 1 is refused: its label node is ".*; not read: "a:1"$/],
    });
  }
});

t.test('readTargetGroups() takes a configured node’s own spelling, unless it could be two', async (t) => {
  const spelt = (label: string, configured: string[]): unknown => {
    const list = read([group(label, 'a:1')], configured);
    return list.ok && list.nodes;
  };
  t.same(spelt('bizon1', ['Bizon1']), ['Bizon1']);
  t.same(spelt('bizon1', ['Bizon1', 'BIZON1']), ['bizon1']);
  t.same(spelt('Bizon1', ['Bizon1', 'BIZON1']), ['Bizon1']);
  t.same(spelt('bizon1.lab', ['bizon1']), ['bizon1.lab'], 'a longer name may be another machine');
});

t.test('readTargetGroups() fails as a whole on another shape', async (t) => {
  const shapes = [
    [null, /not a list/],
    [{ targets: ['a:1'] }, /not a list/],
    [['a:1'], /group 1 is not a mapping/],
    [[group('a', 'a:1'), { labels: { node: 'b' } }], /group 2 has no list of targets/],
    [[{ targets: 'a:1', labels: { node: 'a' } }], /group 1 has no list of targets/],
    [[{ targets: [9100] }], /group 1 has no list of targets/],
    [[{ targets: ['a:1'], labels: [] }], /labels that are not a mapping/],
    [[{ targets: ['a:1'], labels: { node: 7 } }], /not text: "node"/],
    [[group('a', ...Array.from({ length: MOST_TARGETS + 1 }, (_, i) => `h${i}:1`))], /more than 20000 targets/],
  ] as const;
  for (const [list, detail] of shapes) t.match(read(list), { ok: false, detail });
});

t.test('Discovery has the configured targets before anything was asked', async (t) => {
  const nodes = [
    { name: 'bizon1', endpoints: ['http://127.0.0.1:9100/metrics', 'http://127.0.0.1:9400/metrics'] },
    { name: 'bizon2', endpoints: [] },
  ];
  const here = discovery({ nodes, http: ['http://sd.lab/list'] }).current();
  t.same(urls(here), ['bizon1 http://127.0.0.1:9100/metrics', 'bizon1 http://127.0.0.1:9400/metrics']);
  t.same(here.nodes, ['bizon1', 'bizon2']);
  t.same(here.problems, [
    { origin: 'http://sd.lab/list', detail: 'has not been asked yet; no list of it has been read yet' },
  ]);
});

t.test('Discovery reads JSON and YAML files, by name and by pattern', async (t) => {
  const folder = await tempDir(t);
  writeFileSync(join(folder, 'one.json'), JSON.stringify([group('n1', '10.0.0.1:9100')]));
  writeFileSync(
    join(folder, 'rack-a.yaml'),
    '- targets: [ "10.0.0.2:9100" ]\n  labels: { node: 007 }\n- targets: [ "10.0.0.3:9100" ]\n  labels: { node: no }\n',
  );
  writeFileSync(join(folder, 'rack-b.yaml'), '# none\n[]\n');
  writeFileSync(join(folder, '.rack-c.yaml'), '- half');
  writeFileSync(join(folder, 'other.txt'), 'x');
  const paths = [join(folder, 'one.json'), join(folder, '*.yaml')];
  const lists = discovery({ files: paths });
  await lists.refresh();
  const here = lists.current();
  t.same(here.problems, []);
  t.same(urls(here), [
    '007 http://10.0.0.2:9100/metrics',
    'n1 http://10.0.0.1:9100/metrics',
    'no http://10.0.0.3:9100/metrics',
  ]);
  t.ok(here.targets.every(({ origin }) => origin === 'file'));

  rmSync(join(folder, 'rack-a.yaml'));
  await lists.refresh();
  t.same(lists.current().nodes, ['n1'], 'a file that is gone beside others lists nothing');
  rmSync(join(folder, 'rack-b.yaml'));
  await lists.refresh();
  t.match(details(lists.current()), [/\*\.yaml finds no file; write \[\] into one/]);
});

t.test('Discovery keeps what a file listed while it is half-written, empty, unreadable or gone', async (t) => {
  const folder = await tempDir(t);
  const json = join(folder, 'a.json');
  const yaml = join(folder, 'b.yml');
  const lists = discovery({ files: [json, join(folder, '*.yml')] });
  const whole = JSON.stringify([group('n1', '10.0.0.1:9100'), group('n2', '10.0.0.2:9100')]);
  const wholeYaml = '- targets: [ "10.0.0.3:9100" ]\n  labels:\n    node: gpu-12\n';
  writeFileSync(json, whole);
  writeFileSync(yaml, wholeYaml);
  await lists.refresh();
  const before = lists.current();
  t.same(before.nodes, ['gpu-12', 'n1', 'n2']);

  const faults: [file: string, change: () => void, detail: RegExp][] = [
    [json, () => writeFileSync(json, ''), /a\.json is empty; \[\] lists nothing; what it listed before stays/],
    [json, () => writeFileSync(json, whole.slice(0, -8)), /a\.json is not whole JSON/],
    [json, () => writeFileSync(json, '{}'), /a\.json is not a list/],
    [json, () => writeFileSync(json, Buffer.from([0x5b, 0xff, 0x5d])), /a\.json is not UTF-8/],
    [json, () => writeFileSync(json, ' '.repeat(8 * 1024 * 1024 + 1)), /a\.json has 8388609 bytes, at most 8388608/],
    [json, () => rmSync(json), /a\.json does not exist/],
    [json, () => mkdirSync(json), /a\.json is not a file/],
    [yaml, () => writeFileSync(yaml, wholeYaml.slice(0, -2)), /b\.yml does not end with a line break/],
    [yaml, () => writeFileSync(yaml, '- targets: [ "10.0.0.3:9\n'), /b\.yml is not whole YAML/],
    [yaml, () => writeFileSync(yaml, '- targets: *x\n'), /b\.yml is not whole YAML/],
    // This one ended the process.
    [yaml, () => writeFileSync(yaml, `${'['.repeat(20_000)}${']'.repeat(20_000)}\n`), /b\.yml.*nested too deeply/],
    [yaml, () => writeFileSync(yaml, `${'#'.repeat(256 * 1024)}\n`), /b\.yml has 262145 bytes.*read as JSON/],
    [yaml, () => rmSync(yaml), /\*\.yml finds no file/],
    [yaml, () => renameSync(folder, `${folder}-away`), /\*\.yml names a folder that does not exist/],
  ];
  t.teardown(() => rmSync(`${folder}-away`, { recursive: true, force: true }));
  for (const [file, change, detail] of faults) {
    change();
    await lists.refresh();
    t.same(lists.current().targets, before.targets, String(detail));
    t.same(lists.current().nodes, before.nodes);
    t.ok(
      details(lists.current()).some((line) => detail.test(line)),
      `${detail} in ${JSON.stringify(details(lists.current()))}`,
    );
    if (details(lists.current()).length === 1) t.equal(lists.current().problems[0]?.origin, 'files');
    if (file === json && !/exist|not a file/.test(String(detail))) writeFileSync(json, whole);
  }
});

t.test('Discovery names each list that was never read, also one file of several', async (t) => {
  const folder = await tempDir(t);
  const cluster = finder();
  cluster.answer = { ok: false, detail: 'refused' };
  const [good, torn, none] = [join(folder, 'good.json'), join(folder, 'torn.json'), join(folder, '*.yaml')];
  writeFileSync(good, '[]');
  writeFileSync(torn, '[');
  const lists = discovery({ files: [good, torn, none] }, { kubernetes: cluster });
  t.same(lists.current().unread, ['files', 'kubernetes'], 'before anything was asked');
  await lists.refresh();
  t.same(lists.current().unread, [torn, none, 'kubernetes']);
  writeFileSync(torn, '[]');
  writeFileSync(join(folder, 'late.yaml'), '[]\n');
  cluster.answer = found();
  await lists.refresh();
  t.same(lists.current().unread, []);
  writeFileSync(torn, '[');
  rmSync(join(folder, 'late.yaml'));
  cluster.answer = { ok: false, detail: 'refused' };
  await lists.refresh();
  t.equal(lists.current().problems.length, 3);
  t.same(lists.current().unread, [], 'what each listed once stays');
});

t.test('Discovery takes a file that was mended, also one of the same length', async (t) => {
  const file = join(await tempDir(t), 'a.json');
  const lists = discovery({ files: [file] });
  for (const node of ['n1', 'n2']) {
    writeFileSync(file, JSON.stringify([group(node, '10.0.0.1:9100')]));
    await lists.refresh();
    t.same(lists.current().nodes, [node]);
  }
});

/** A server of lists on loopback. */
async function listServer(t: Test, answer: RequestListener): Promise<{ url: string; get: HttpGet }> {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const getter = createHttpGetter({ clock: systemClock });
  t.teardown(() => {
    getter.close();
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/list`, get: getter.get };
}

t.test('Discovery reads a list over HTTP, and keeps it while the server answers otherwise', async (t) => {
  const list = JSON.stringify([group('n1', '10.0.0.1:9100')]);
  const json = { 'content-type': 'application/json; charset=utf-8' };
  let answer: RequestListener = (_request, response) => response.writeHead(200, json).end(list);
  const seen: unknown[] = [];
  const { url, get } = await listServer(t, (request, response) => {
    seen.push(request.headers.accept, request.headers['x-prometheus-refresh-interval-seconds']);
    answer(request, response);
  });
  // Loopback lies outside `allow`: the list's own address is configured and need not be in it.
  const lists = discovery({ http: [url] }, { get });
  await lists.refresh();
  const before = lists.current();
  t.same(before.targets, [{ node: 'n1', url: 'http://10.0.0.1:9100/metrics', origin: 'http' }]);
  t.same(before.problems, []);
  t.same(seen, ['application/json', '30']);

  const faults: [answer: RequestListener, detail: RegExp][] = [
    [
      (_, response) => response.writeHead(503, json).end(list),
      /answered with status 503; its last list of 1 targets stays/,
    ],
    [(_, response) => response.writeHead(200, { 'content-type': 'text/html' }).end(list), /content type "text\/html"/],
    [(_, response) => response.writeHead(200).end(list), /content type "none"/],
    [(_, response) => response.writeHead(200, json).end(list.slice(1)), /not whole JSON/],
    [(_, response) => response.writeHead(200, json).end('{"targets":[]}'), /not a list/],
    [(_, response) => response.writeHead(302, { location: '/other' }).end(), /redirect/],
    [(_, response) => response.writeHead(200, json).end(' '.repeat(8 * 1024 * 1024 + 1)), /./],
    [
      (_, response) => {
        response.writeHead(200, { ...json, 'content-length': list.length + 9 });
        response.write(list, () => response.destroy());
      },
      /./,
    ],
  ];
  for (const [other, detail] of faults) {
    answer = other;
    await lists.refresh();
    t.same(lists.current().targets, before.targets);
    t.match(lists.current().problems, [{ origin: url, detail }]);
    t.equal(lists.current().problems.length, 1);
  }
  answer = (_, response) => response.writeHead(200, json).end('[]');
  await lists.refresh();
  t.same(lists.current(), { targets: [], nodes: [], problems: [], unread: [] }, 'a list of nothing is a list');
});

t.test('Discovery ends a refresh in time though a finder hangs, and asks it once', async (t) => {
  const clock = new ManualClock();
  const cluster = finder();
  const lists = discovery({}, { kubernetes: cluster, clock });
  cluster.answer = found(['n1', 'http://10.0.0.1:9100/metrics']);
  await lists.refresh();
  let answer = (_: Found): void => undefined;
  cluster.answer = new Promise((resolve) => (answer = resolve));
  const hanging = lists.refresh();
  await clock.advance(5_000);
  await hanging;
  t.same(urls(lists.current()), ['n1 http://10.0.0.1:9100/metrics']);
  t.same(lists.current().problems, [
    { origin: 'kubernetes', detail: 'did not answer within 5 s; its last list of 1 targets stays' },
  ]);
  const again = lists.refresh();
  answer(found(['n2', 'http://10.0.0.2:9100/metrics']));
  await again;
  t.equal(cluster.asked, 2, 'the look that hung was joined');
  t.same(urls(lists.current()), ['n2 http://10.0.0.2:9100/metrics']);
});

t.test('Discovery names a finder that breaks off, and keeps its list', async (t) => {
  const cluster = finder();
  const lists = discovery({}, { kubernetes: cluster });
  cluster.answer = { ok: false, detail: 'the API server refused: 403' };
  await lists.refresh();
  t.same(details(lists.current()), ['the API server refused: 403; no list of it has been read yet']);
  cluster.answer = found(['n1', 'http://10.0.0.1:9100/metrics']);
  await lists.refresh();
  for (const broken of [Promise.reject(new Error('gone')), found(['n1', 'not an address'])]) {
    cluster.answer = broken;
    await lists.refresh();
    t.match(details(lists.current()), [/^broke off: .*; its last list of 1 targets stays$/]);
    t.same(urls(lists.current()), ['n1 http://10.0.0.1:9100/metrics']);
  }
});

t.test('Discovery.refreshIfDue() asks once per refresh interval', async (t) => {
  const clock = new ManualClock();
  const cluster = finder();
  const lists = discovery({ refreshMs: 30_000 }, { kubernetes: cluster, clock });
  for (const asked of [1, 1, 1, 2, 2]) {
    await lists.refreshIfDue();
    t.equal(cluster.asked, asked);
    await clock.advance(10_000);
  }
});

t.test('Discovery drops what lies outside discovery.allow, and keeps its node', async (t) => {
  const cluster = finder();
  const all: [string, string][] = [
    ['n1', 'http://10.0.0.1:9100/metrics'],
    ['n2', 'http://192.168.0.1:9100/metrics'],
    ['n3', 'http://169.254.169.254/metrics'],
    ['n4', 'http://[fd00::4]:9100/metrics'],
    ['n5', 'http://[fe80::5]:9100/metrics'],
    ['n6', 'http://[::ffff:192.168.0.6]:9100/metrics'],
    ['n7', 'http://0xc0a80007:9100/metrics'],
    ['n8', 'http://n8.lab:9100/metrics'],
  ];
  cluster.answer = found(...all);
  const nodes = [{ name: 'n2', endpoints: ['http://192.168.0.1:9100/metrics'] }];
  const lists = discovery({ nodes }, { kubernetes: cluster });
  await lists.refresh();
  t.same(
    lists.current().targets.map(({ node, origin }) => `${node} ${origin}`),
    ['n2 configured', 'n1 kubernetes', 'n4 kubernetes', 'n8 kubernetes'],
    'a configured address may lie anywhere, and a name is judged when it is an address',
  );
  t.same(
    [...lists.current().nodes].sort(),
    all.map(([node]) => node),
  );
  t.match(details(lists.current()), [/^lists addresses outside discovery\.allow; not read: "http:\/\/169\.254/]);

  const closed = discovery({ allow: [] }, { kubernetes: cluster });
  await closed.refresh();
  t.same(closed.current().targets, []);
  t.match(details(closed.current()), [/discovery\.allow, which is empty; not read: .* and 3 more$/]);
});

t.test('Discovery joins what is listed twice, and reads no address for two nodes', async (t) => {
  const file = join(await tempDir(t), 'a.json');
  writeFileSync(
    file,
    JSON.stringify([
      group('n1', '10.0.0.1:9100', '10.0.0.1:9100', '10.0.0.9:9100'),
      group('n2', '10.0.0.9:9100', '10.0.0.2:80', '10.0.0.1:9400'),
    ]),
  );
  const cluster = finder();
  cluster.answer = found(['n2', 'http://10.0.0.2/metrics'], ['N1', 'http://10.0.0.1:9400/metrics']);
  const nodes = [{ name: 'n1', endpoints: ['http://10.0.0.1:9400/metrics', 'http://10.0.0.1:9400//../metrics'] }];
  const lists = discovery({ nodes, files: [file] }, { kubernetes: cluster });
  await lists.refresh();
  t.same(
    lists.current().targets.map(({ node, url, origin }) => `${node} ${url} ${origin}`),
    [
      'n1 http://10.0.0.1:9400/metrics configured',
      'n1 http://10.0.0.1:9100/metrics file',
      'n2 http://10.0.0.2/metrics file',
    ],
    'port 80 or none is one address; a configured one beats the list that gives it to another node',
  );
  t.same(lists.current().problems, [
    {
      origin: 'files',
      detail:
        'lists addresses that stand for several nodes; not read: "http://10.0.0.9:9100/metrics of n1", ' +
        '"http://10.0.0.1:9400/metrics of n2", "http://10.0.0.9:9100/metrics of n2"',
    },
  ]);
  t.same(lists.current().nodes, ['n1', 'n2']);
});

t.test('Discovery watches 5000 nodes and 64 targets of each at most; what was there stays', async (t) => {
  const cluster = finder();
  const name = (i: number): string => `n${`${i}`.padStart(4, '0')}`;
  const many = Array.from({ length: MOST_NODES }, (_, i): [string, string] => [
    name(i + 1),
    `http://10.0.${i >> 8}.${i & 255}:9100/m`,
  ]);
  cluster.answer = found(...many);
  const lists = discovery({}, { kubernetes: cluster });
  await lists.refresh();
  t.equal(lists.current().targets.length, MOST_NODES);
  t.same(lists.current().problems, []);
  cluster.answer = found(['a-new-one', 'http://10.9.0.1:9100/m'], ...many);
  await lists.refresh();
  t.equal(lists.current().nodes.length, MOST_NODES);
  t.notOk(lists.current().nodes.includes('a-new-one'), 'though it comes first by name');
  t.same(details(lists.current()), ['lists more nodes than the 5000 that are watched; refused: "a-new-one"']);

  const ports = Array.from({ length: 64 }, (_, i): [string, string] => ['n1', `http://10.0.0.1:${2000 + i}/m`]);
  cluster.answer = found(...ports);
  await lists.refresh();
  t.equal(lists.current().targets.length, 64);
  cluster.answer = found(['n1', 'http://10.0.0.1:1999/m'], ...ports);
  await lists.refresh();
  t.equal(lists.current().targets.length, 64);
  t.notOk(urls(lists.current()).includes('n1 http://10.0.0.1:1999/m'));
  t.match(details(lists.current()), [/more than 64 targets of one node.*not read: "http:\/\/10\.0\.0\.1:1999\/m"$/]);
});

t.test('Discovery refuses names of a cluster that cannot name a node', async (t) => {
  const cluster = finder();
  cluster.answer = { ...found(['a/b', 'http://10.0.0.1:9100/m']), nodes: ['ready', '__proto__'] } as Found;
  const lists = discovery({}, { kubernetes: cluster });
  await lists.refresh();
  t.same(lists.current().nodes, ['ready']);
  t.same(lists.current().targets, []);
  t.match(details(lists.current()), [/cannot name a node: "__proto__", "a\/b"|cannot name a node/]);
});
