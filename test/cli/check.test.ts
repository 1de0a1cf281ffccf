import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parse } from 'yaml';
import { DCGM_A, dcgmCard } from '../fixtures/gpu-exporters.ts';
import { vsfSafety } from '../support/command-line.ts';
import { lacksNodeExporter, startNodeExporter } from '../support/real-node-exporter.ts';
import { says, standInExporter } from '../support/stand-in-exporter.ts';
import { tempDir } from '../support/temp-dir.ts';

t.test(
  'check calls a simulated rig safe, with every reading against its limits, and says that it is simulated',
  async (t) => {
    const { code, out } = await vsfSafety(['check', '--source', 'simulated']);
    t.equal(code, 0, out);
    t.match(out, /^SAFE: PROCEED {2}SIMULATED/);
    t.match(out, /^ {2}cpu temperature +\d+\.\d °C +90 °C +95 °C/m);
    t.match(out, /^ {2}total power +\d+ W +2000 W +2200 W/m);
    t.match(out, /Limits against the hardware\n.*280 W by its own power limit.*\n {4}to resolve: constraints/);
    t.notMatch(out, /Looked for/);
  },
);

t.test('check says what is missing, where it looked, and which lines would excuse the absence', async (t) => {
  // One card is expected and the rig has none.
  const folder = await tempDir(t);
  const file = join(folder, 'safety.yaml');
  writeFileSync(
    file,
    'source: simulated\nsimulated: { gpus: 0 }\nnodes: [ { name: rig, expectGpus: 1, waive: [ cpu ] } ]\n',
  );
  const { code, out } = await vsfSafety(['check', '--config', file, '--json']);
  t.equal(code, 75);
  const result = JSON.parse(out);
  t.match(result, { safe: false, action: 'WAIT_COOLDOWN', simulated: true, nodes: [{ node: 'rig' }], warnings: [] });
  t.ok(result.findings.some(({ code }: { code: string }) => code === 'reading-missing'));
  const table = await vsfSafety(['check', '--config', file]);
  t.match(table, { code: 75, out: /^NOT SAFE: WAIT_COOLDOWN/ });
  t.match(table.out, /Looked for, and where\n {2}- simulated: /);
});

t.test('check on this machine proposes waivers that a configuration takes and that silence the absence', async (t) => {
  const first = JSON.parse((await vsfSafety(['check', '--json'], { hostname: 'here' })).out);
  const isAbsent = ({ required, missing }: { required?: boolean; missing?: string }): boolean =>
    required === true && (missing === 'no-sensor' || missing === 'not-supported');
  const absent = first.nodes[0].readings.filter(isAbsent);
  t.equal(first.waivers === null, absent.length === 0, 'only where something is absent');
  if (first.waivers === null) return;
  t.type(parse(first.waivers), Object);
  const file = join(await tempDir(t), 'safety.yaml');
  writeFileSync(file, first.waivers);
  const second = JSON.parse((await vsfSafety(['check', '--json', '--config', file], { hostname: 'here' })).out);
  t.equal(second.waivers, null);
  t.same(second.nodes[0].readings.filter(isAbsent), []);
});

t.test('check and serve refuse a configuration with faults before anything is read', async (t) => {
  const file = join(await tempDir(t), 'safety.yaml');
  writeFileSync(file, 'interval: 500ms\nsource: locl\n');
  for (const name of ['check', 'serve']) {
    const ran = await vsfSafety([name, '--config', file]);
    t.match(ran, { code: 1, out: '', err: /2 faults:\n.*safety\.yaml:1:11 .*\n.*safety\.yaml:2:9 / });
    t.match(await vsfSafety([name, '--config', '/nonexistent']), { code: 1, err: /nonexistent {2}does not exist/ });
  }
});

t.test('serve and check refuse a configuration that needs a cluster where there is none', async (t) => {
  const file = join(await tempDir(t), 'safety.yaml');
  for (const [text, names] of [
    ['auth: { kubernetes: true }\n', /Cannot start with auth\.kubernetes: this is no pod/],
    [
      'source: exporters\ndiscovery: { kubernetes: true, allow: [ "10.0.0.0/8" ] }\n',
      /Cannot start with discovery\.kubernetes: /,
    ],
  ] as const) {
    writeFileSync(file, text);
    for (const name of ['check', 'serve']) t.match(await vsfSafety([name, '--config', file]), { code: 1, err: names });
  }
});

t.test('config check explains every fault with its line, or shows the limits', async (t) => {
  const folder = await tempDir(t);
  const bad = join(folder, 'bad.yaml');
  writeFileSync(bad, 'intervall: 5s\nlisten:\n  host: 0.0.0.0\n');
  const refused = await vsfSafety(['config', 'check', bad]);
  t.match(refused, {
    code: 1,
    out: '',
    err: /2 faults:\n {2}\S+bad\.yaml:1:1 .*did you mean interval.*\n {2}\S+bad\.yaml:3:9 /,
  });
  const json = await vsfSafety(['config', 'check', bad, '--json']);
  t.equal(json.code, 1);
  t.match(JSON.parse(json.out), {
    ok: false,
    problems: [
      { key: 'intervall', line: 1 },
      { key: 'listen.host', line: 3 },
    ],
  });
  t.match(await vsfSafety(['config', 'check', join(folder, 'none')]), { code: 1, err: /does not exist/ });

  const good = join(folder, 'good.yaml');
  writeFileSync(good, 'kubernetes: { enabled: false, kubeconfig: /k }\nnodes: [ { name: b, constraints: bizon1 } ]\n');
  const shown = await vsfSafety(['config', 'check', good], { hostname: 'b', env: { VSF_SAFETY_INTERVAL: 'nonsense' } });
  t.match(shown, { code: 0, err: '', out: /good\.yaml: good\n {2}warning: kubernetes\.kubeconfig is not used/ });
  t.match(shown.out, /^ {2}LIMIT +EVERY NODE \(default\) +b \(bizon1\)$/m);
  t.match(shown.out, /^ {2}GPU temperature +80 °C \/ 85 °C +75 °C \/ 80 °C$/m);
  t.match(shown.out, /^ {2}memory +85 % +80 %$/m);
});

/** A configuration of `count` nodes, which one exporter answers for; every tenth is asked where nobody listens. */
async function clusterFile(t: Test, count: number, more = ''): Promise<string> {
  const { url: node } = await startNodeExporter(t);
  const entries = Array.from({ length: count }, (_, index) => {
    const url = index % 10 === 3 ? `http://127.0.0.1:1/metrics` : `${node}/metrics`;
    return `  - { name: n${`${index}`.padStart(2, '0')}, endpoints: [ "${url}" ] }\n`;
  });
  const file = join(await tempDir(t), 'safety.yaml');
  // What this machine happens to lack or to do is not what these tests are about.
  writeFileSync(
    file,
    `waive: [ cpu-temperature ]\nconstraints: { cpu: { utilizationRatio: { max: 0.999 } }, system: { memoryRatio: { max: 0.99 } } }\n${more}nodes:\n${entries.join('')}`,
  );
  return file;
}

t.test('check reads the exporters of one node without a service', { skip: lacksNodeExporter }, async (t) => {
  const file = await clusterFile(t, 1);
  const { out } = await vsfSafety(['check', '--source', 'exporters', '--config', file]);
  t.match(out, /^n00 {2}profile/m);
  t.match(out, /^ {2}cpu utilization +\d+\.\d % .*node_cpu_seconds_total/m);
  t.match(out, /^ {2}memory +\d+\.\d % .*MemAvailable/m);
  t.notMatch(out, /\d nodes,/);
});

t.test(
  'check shows a cluster’s worst nodes first, at most 20, and all as JSON',
  { skip: lacksNodeExporter },
  async (t) => {
    const file = await clusterFile(t, 24);
    const { code, out } = await vsfSafety(['check', '--source', 'exporters', '--config', file]);
    t.equal(code, 75);
    t.match(out, /^NOT SAFE: WAIT_COOLDOWN\n24 nodes, 0 GPUs: 3 WAIT_COOLDOWN, \d+ /);
    const shown = [...out.matchAll(/^(n\d\d) {2}(\w+), profile/gm)].map(([, node]) => node);
    t.equal(shown.length, 20);
    t.same(shown.slice(0, 3), ['n03', 'n13', 'n23']);
    t.match(out, /^4 more nodes, none of them worse: --json shows all$/m);
    const told = JSON.parse((await vsfSafety(['check', '--source', 'exporters', '--config', file, '--json'])).out);
    t.equal(told.nodes.length, 24);
  },
);

t.test('check names what is wrong with a list of targets', { skip: lacksNodeExporter }, async (t) => {
  const list = join(await tempDir(t), 'targets.json');
  writeFileSync(list, '[{"targets":["10.1.1.1:9100"],"labels":{"node":"far"}}]');
  const file = await clusterFile(t, 1, `discovery: { files: [ ${list} ], allow: [ 127.0.0.0/8 ] }\n`);
  const { code, out } = await vsfSafety(['check', '--source', 'exporters', '--config', file]);
  t.equal(code, 75);
  t.match(out, /^Lists of targets\n {2}- .*outside discovery\.allow.*10\.1\.1\.1/m);
});

t.test('check says of a source that stands still between two looks that it may only be slow', async (t) => {
  const { url } = await standInExporter(t, says(dcgmCard(DCGM_A)));
  const file = join(await tempDir(t), 'safety.yaml');
  writeFileSync(file, `source: exporters\nnodes: [ { name: box, endpoints: [ "${url}" ] } ]\n`);
  const { code, out } = await vsfSafety(['check', '--config', file]);
  t.equal(code, 75);
  t.match(out, /TOTAL_ENERGY_CONSUMPTION has not moved since this service started/);
  t.match(out, /^Something has not moved between two looks.*\n.*-c 1000.*vsf-safety status/m);
});
