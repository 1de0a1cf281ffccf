import { execFile } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import {
  type Config,
  type ConfigFlags,
  type ConfigProblem,
  defaultStateDir,
  ENVIRONMENT_VARIABLES,
  type Environment,
  explainProblems,
  isLoopbackHost,
  loadConfig,
  readBootId,
} from '../src/config.ts';
import { BIZON1_CONSTRAINTS, DEFAULT_CONSTRAINTS } from '../src/domain/constraints.ts';
import { tempDir } from './support/temp-dir.ts';

const UUID = 'GPU-8f750be4-dfbc-23b9-b33f-da729a536494';
const HASH = 'ab'.repeat(32);

function load(text: string, more: { env?: Environment; flags?: ConfigFlags; hostname?: string } = {}) {
  const { env = {}, flags = {}, hostname = 'bizon1' } = more;
  return loadConfig({ file: 'safety.yaml', text, env, flags, hostname, homeDir: '/home/ann' });
}

/** The configuration of a text that must be good. */
function good(t: Test, text: string, more?: Parameters<typeof load>[1]): Config {
  const loaded = load(text, more);
  if (!loaded.ok) t.fail(explainProblems(loaded.problems, loaded.file));
  return loaded.ok ? loaded.config : (undefined as never);
}

/** The faults of a text that must be refused. */
function faults(text: string, more?: Parameters<typeof load>[1]): readonly ConfigProblem[] {
  const loaded = load(text, more);
  return loaded.ok ? [] : loaded.problems;
}

t.test('loadConfig() gives the documented defaults for an empty file, a comment, and no file at all', async (t) => {
  const texts = ['', '# nothing yet\n', '---\n', '{}'];
  for (const text of texts) {
    const config = good(t, text);
    t.same(config.listen, { host: '127.0.0.1', port: 8470, hosts: [] });
    t.equal(config.stateDir, '/home/ann/.local/state/vsf-safety');
    t.same(config.auth, { tokens: [], anonymous: 'none', kubernetes: false });
    t.same(config.kubernetes, {
      enabled: 'auto',
      isWrittenOut: false,
      namespace: 'vsf-safety',
      namespaces: [],
      kubeconfig: null,
    });
    t.match(config, {
      source: 'local',
      nodes: [],
      prometheus: null,
      discovery: {
        kubernetes: false,
        allow: [],
        files: [],
        http: [],
        nodeLabel: 'node',
        refreshMs: 30_000,
        exporters: [
          {
            selector: 'app.kubernetes.io/name=prometheus-node-exporter',
            namespace: null,
            port: 9100,
            path: '/metrics',
          },
          { selector: 'app.kubernetes.io/name=dcgm-exporter', namespace: null, port: 9400, scheme: 'http' },
          { selector: 'app=nvidia-dcgm-exporter', namespace: null, port: 9400 },
        ],
      },
      credentials: [],
      history: { keepMs: 86_400_000, maxBytes: 1_073_741_824 },
      simulated: { actOnRealWorkloads: false, gpus: 4 },
      logLevel: 'info',
    });
    t.match(config.settings, {
      localNode: 'bizon1',
      simulated: false,
      intervalMs: 10_000,
      fastIntervalMs: 2_000,
      blindAbortAfterMs: 30_000,
      bootGraceMs: 120_000,
      tripScope: 'cluster',
    });
    t.same(config.settings.defaults, {
      constraints: DEFAULT_CONSTRAINTS,
      profile: 'default',
      waive: [],
      require: [],
      expectGpus: 0,
      gpus: new Map(),
      power: null,
      staleAfterMs: 30_000,
    });
  }
  const none = loadConfig({ file: null, env: {}, hostname: 'h', homeDir: '/home/ann' });
  t.ok(none.ok);
});

t.test('loadConfig() reads every key', async (t) => {
  const config = good(
    t,
    `
listen: { host: 0.0.0.0, port: 9000, hosts: [ Safety.Lab, 10.0.0.7 ] }
stateDir: /var/lib/vsf-safety
constraints: { extends: bizon1, gpu: { temperatureC: { warning: 70 } } }
interval: 5s
fastInterval: 1000ms
staleAfter: 20s
blindAbortAfter: 1m
bootGrace: 2m
tripScope: node
waive: [ memory ]
require: [ total-power ]
source: simulated
nodes:
  - name: bizon1
    endpoints: [ "http://127.0.0.1:9100/metrics" ]
    expectGpus: 4
    constraints: bizon1
    waive: [ cpu-temperature ]
    require: [ gpu-power ]
    gpus: { "${UUID.toUpperCase()}": { waive: [ gpu-power ] }, "00000000:0B:00.0": { ignore: true } }
    power: { baseW: 120, psuEfficiency: 0.9 }
    staleAfter: 60s
    tctlOffsetC: 27
    zfsCacheIsAvailable: true
    outlets:
      - { series: pdu_outlet_milliwatts, labels: { pdu: a, outlet: "3" }, scale: 0.001 }
      - { series: pdu_outlet_milliwatts, labels: { pdu: b, outlet: "3" }, scale: 0.001 }
      - { series: other_watts }
  - name: other.lab
prometheus: { url: "http://prometheus:9090", nodeLabels: [ host, node, host ], match: 'cluster="x", env!~"a|\\"b"' }
discovery:
  kubernetes: true
  allow: [ "10.0.0.0/8", "fd00::/8" ]
  files: [ /etc/vsf/targets.json, "/etc/vsf/*.yaml" ]
  http: [ "https://cmdb.lab/targets?kind=gpu" ]
  nodeLabel: host
  refresh: 1m
  exporters:
    - { selector: "app in (a, b),!old", namespace: monitoring, port: 9101, path: /node/metrics, scheme: https }
    - { selector: app=x, port: 9400 }
credentials:
  - hosts: [ Node-A.lab, "10.0.0.7:9100", "fd00::7", "[FD00::8]:9100" ]
    caFile: /etc/vsf/ca.pem
    certFile: /etc/vsf/cert.pem
    keyFile: /etc/vsf/key.pem
    serverName: exporters.lab
    bearerTokenFile: /run/token
  - { hosts: [ cmdb.lab ], username: vsf, passwordFile: /run/password, plain: true }
kubernetes: { enabled: true, namespace: safety, namespaces: [ a, b, a ], kubeconfig: /etc/kube.yaml }
auth: { tokens: [ { role: operator, sha256: "${HASH.toUpperCase()}" } ], anonymous: viewer, kubernetes: true }
simulated: { actOnRealWorkloads: true, gpus: 8 }
logLevel: debug
`,
  );
  t.same(config.listen, { host: '0.0.0.0', port: 9000, hosts: ['safety.lab', '10.0.0.7'] });
  t.match(config, {
    stateDir: '/var/lib/vsf-safety',
    source: 'simulated',
    simulated: { actOnRealWorkloads: true, gpus: 8 },
    logLevel: 'debug',
  });
  t.same(config.kubernetes, {
    enabled: true,
    isWrittenOut: true,
    namespace: 'safety',
    namespaces: ['a', 'b'],
    kubeconfig: '/etc/kube.yaml',
  });
  t.same(config.auth, { tokens: [{ role: 'operator', sha256: HASH }], anonymous: 'viewer', kubernetes: true });
  t.same(config.nodes, [
    {
      name: 'bizon1',
      endpoints: ['http://127.0.0.1:9100/metrics'],
      tctlOffsetC: 27,
      zfsCacheIsAvailable: true,
      outlets: [
        { series: 'pdu_outlet_milliwatts', labels: { pdu: 'a', outlet: '3' }, scale: 0.001 },
        { series: 'pdu_outlet_milliwatts', labels: { pdu: 'b', outlet: '3' }, scale: 0.001 },
        { series: 'other_watts', labels: {}, scale: 1 },
      ],
    },
    { name: 'other.lab', endpoints: [], tctlOffsetC: 0, zfsCacheIsAvailable: false, outlets: [] },
  ]);
  t.same(config.prometheus, {
    url: 'http://prometheus:9090',
    nodeLabels: ['host', 'node'],
    match: 'cluster="x", env!~"a|\\"b"',
  });
  t.same(config.discovery, {
    kubernetes: true,
    allow: ['10.0.0.0/8', 'fd00::/8'],
    files: ['/etc/vsf/targets.json', '/etc/vsf/*.yaml'],
    http: ['https://cmdb.lab/targets?kind=gpu'],
    nodeLabel: 'host',
    refreshMs: 60_000,
    exporters: [
      { selector: 'app in (a, b),!old', namespace: 'monitoring', port: 9101, path: '/node/metrics', scheme: 'https' },
      { selector: 'app=x', namespace: null, port: 9400, path: '/metrics', scheme: 'http' },
    ],
  });
  t.same(config.credentials, [
    {
      hosts: ['node-a.lab', '10.0.0.7:9100', 'fd00::7', '[fd00::8]:9100'],
      caFile: '/etc/vsf/ca.pem',
      certFile: '/etc/vsf/cert.pem',
      keyFile: '/etc/vsf/key.pem',
      serverName: 'exporters.lab',
      bearerTokenFile: '/run/token',
    },
    { hosts: ['cmdb.lab'], username: 'vsf', passwordFile: '/run/password', plain: true },
  ]);
  const { settings } = config;
  t.match(settings, {
    simulated: true,
    intervalMs: 5_000,
    fastIntervalMs: 1_000,
    blindAbortAfterMs: 60_000,
    bootGraceMs: 120_000,
    tripScope: 'node',
  });
  t.equal(settings.defaults.constraints.gpu.temperatureC.warning, 70);
  t.equal(settings.defaults.constraints.cpu.temperatureC.warning, 85, 'from what it extends');
  t.equal(settings.defaults.profile, 'custom');
  const bizon1 = settings.nodes.get('bizon1');
  t.equal(bizon1?.constraints, BIZON1_CONSTRAINTS);
  t.equal(bizon1?.profile, 'bizon1');
  t.same(bizon1?.waive, ['memory', 'cpu-temperature'], 'beside what holds for every node');
  t.same(bizon1?.require, ['total-power', 'gpu-power']);
  t.equal(bizon1?.expectGpus, 4);
  t.same(bizon1?.power, { baseW: 120, psuEfficiency: 0.9 });
  t.equal(bizon1?.staleAfterMs, 60_000);
  t.same(
    [...(bizon1?.gpus ?? [])],
    [
      [UUID, { waive: ['gpu-power'], ignore: false }],
      ['0000:0b:00.0', { waive: [], ignore: true }],
    ],
    'cards by their canonical names',
  );
  const other = settings.nodes.get('other.lab');
  t.equal(other?.constraints, settings.defaults.constraints);
  t.equal(other?.staleAfterMs, 20_000);
});

t.test('loadConfig() freezes what it gives', async (t) => {
  const config = good(t, 'nodes: [ { name: a, waive: [ cpu ] } ]');
  const frozen = [
    config,
    config.listen,
    config.listen.hosts,
    config.settings,
    config.settings.defaults,
    config.settings.nodes.get('a'),
    config.settings.nodes.get('a')?.waive,
    config.auth.tokens,
  ];
  for (const part of frozen) t.ok(Object.isFrozen(part));
});

t.test('loadConfig() refuses a wrong value of every key, with key, rule and place', async (t) => {
  const node = (inner: string): string => `nodes:\n  - name: a\n    ${inner}\n`;
  const cases: readonly [text: string, key: string, rule: RegExp][] = [
    ['listen: 8470', 'listen', /mapping with host, port, hosts/],
    ['listen: { host: "a b" }', 'listen.host', /host name or an IP address/],
    ['listen: { port: "8470" }', 'listen.port', /whole number from 0 to 65535/],
    ['listen: { port: 65536 }', 'listen.port', /whole number from 0 to 65535/],
    ['listen: { port: -1 }', 'listen.port', /whole number from 0 to 65535/],
    ['listen: { port: 84.7 }', 'listen.port', /whole number from 0 to 65535/],
    ['listen: { hosts: [ "a:8470" ] }', 'listen.hosts[0]', /without a port/],
    ['listen: { hosts: a }', 'listen.hosts', /list of at most 64/],
    ['stateDir: state', 'stateDir', /absolute path/],
    ['stateDir: ""', 'stateDir', /absolute path/],
    ['constraints: bizon', 'constraints', /"default", "bizon1" or an object.*mean bizon1/],
    [
      'constraints: { gpu: { temperatureC: { hardStop: 111 } } }',
      'constraints.gpu.temperatureC.hardStop',
      /at most 110 °C/,
    ],
    [
      'constraints: { gpu: { temperatureC: { warning: 85 } } }',
      'constraints.gpu.temperatureC.warning',
      /below .*hardStop/,
    ],
    ['constraints: { gpu: { temperatureC: { hardStop: .nan } } }', 'constraints.gpu.temperatureC.hardStop', /finite/],
    ['constraints: { system: { memoryRatio: { max: 1 } } }', 'constraints.system.memoryRatio.max', /below 1/],
    ['constraints: { gpu: { temperature: 1 } }', 'constraints.gpu.temperature', /no limit that there is.*temperatureC/],
    ['constraints: { gpu: { powerW: null } }', 'constraints.gpu.powerW', /object of limits/],
    ['constraints: { extends: mine }', 'constraints.extends', /"default" or "bizon1"/],
    ['interval: 10', 'interval', /duration from 1s to 30s/],
    ['interval: 10 s', 'interval', /duration/],
    ['interval: 999ms', 'interval', /from 1s/],
    ['interval: 31s', 'interval', /to 30s/],
    ['interval: -5s', 'interval', /duration/],
    ['interval: 1h', 'interval', /10s, 500ms or 2m/],
    ['interval:', 'interval', /duration/],
    ['fastInterval: 0s', 'fastInterval', /from 1s/],
    ['fastInterval: 11s', 'fastInterval', /at most interval, which is 10s/],
    ['staleAfter: 61s', 'staleAfter', /to 60s/],
    ['staleAfter: 9s', 'staleAfter', /at least interval, which is 10s/],
    ['blindAbortAfter: 0s', 'blindAbortAfter', /from 1s to 2m/],
    ['blindAbortAfter: 121s', 'blindAbortAfter', /from 1s to 2m/],
    ['bootGrace: 11m', 'bootGrace', /from 0s to 10m/],
    ['tripScope: rack', 'tripScope', /cluster or node/],
    ['waive: [ cpu-temp ]', 'waive[0]', /did you mean cpu-temperature/],
    ['waive: cpu', 'waive', /list/],
    ['waive:', 'waive', /list/],
    ['require: [ power ]', 'require[0]', /total-power/],
    ['waive: [ cpu ]\nrequire: [ cpu ]', 'require[0]', /required and waived/],
    ['source: Local', 'source', /did you mean local/],
    ['source: prometheus', 'prometheus.url', /address of the server/],
    ['source: exporters', 'source', /endpoints/],
    ['nodes: { name: a }', 'nodes', /list/],
    ['nodes: [ a ]', 'nodes[0]', /mapping with at least a name/],
    ['nodes: [ {} ]', 'nodes[0].name', /letters, digits/],
    ['nodes: [ { name: a/b } ]', 'nodes[0].name', /letters, digits/],
    ['nodes: [ { name: __proto__ } ]', 'nodes[0].name', /beginning with a letter/],
    ['nodes: [ { name: a }, { name: a } ]', 'nodes[1].name', /another node/],
    [node('endpoints: [ ftp://x ]'), 'nodes[0].endpoints[0]', /http/],
    [node('expectGpus: 65'), 'nodes[0].expectGpus', /0 to 64/],
    [node('expectGpus: 1.5'), 'nodes[0].expectGpus', /whole/],
    [
      node('constraints: { cpu: { utilizationRatio: { max: 80 } } }'),
      'nodes[0].constraints.cpu.utilizationRatio.max',
      /below 1/,
    ],
    [node('waive: [ gpu ]'), 'nodes[0].waive[0]', /must be/],
    [node('waive: [ total-power ]\n    require: [ total-power ]'), 'nodes[0].require[0]', /required and waived/],
    [node('gpus: { "2": { ignore: true } }'), 'nodes[0].gpus[2]', /UUID such as/],
    [node('gpus: { GPU-7b1f: {} }'), 'nodes[0].gpus.GPU-7b1f', /UUID such as/],
    [node('gpus: { "0b:00.0": {}, "0000:0b:00.0": {} }'), 'nodes[0].gpus["0000:0b:00.0"]', /same card/],
    [
      node(`gpus: { ${UUID}: { waive: [ cpu ] } }`),
      `nodes[0].gpus.${UUID}.waive[0]`,
      /gpu-temperature, gpu-power or gpu-memory/,
    ],
    [node(`gpus: { ${UUID}: { ignore: 1 } }`), `nodes[0].gpus.${UUID}.ignore`, /true or false/],
    [node('power: { baseW: 100 }'), 'nodes[0].power.psuEfficiency', /needs baseW and psuEfficiency/],
    [node('power: { baseW: -1, psuEfficiency: 0.9 }'), 'nodes[0].power.baseW', /0 to 5000/],
    [node('power: { baseW: .inf, psuEfficiency: 0.9 }'), 'nodes[0].power.baseW', /0 to 5000/],
    [node('power: { baseW: 100, psuEfficiency: 0 }'), 'nodes[0].power.psuEfficiency', /over 0/],
    [node('power: { baseW: 100, psuEfficiency: 90 }'), 'nodes[0].power.psuEfficiency', /90 % is 0.9/],
    [node('staleAfter: 5s'), 'nodes[0].staleAfter', /at least interval/],
    [node('staleAfter: 90s'), 'nodes[0].staleAfter', /to 60s/],
    [node('tctlOffsetC: 28'), 'nodes[0].tctlOffsetC', /0 to 27/],
    [node('outlets: [ { labels: { a: b } } ]'), 'nodes[0].outlets[0].series', /name of its series/],
    [node('outlets: [ { series: a-b } ]'), 'nodes[0].outlets[0].series', /name of a metric/],
    [node('outlets: [ { series: w, labels: { outlet: 3 } } ]'), 'nodes[0].outlets[0].labels.outlet', /in quotes/],
    [node('outlets: [ { series: w, labels: { a-b: c } } ]'), 'nodes[0].outlets[0].labels.a-b', /name of a label/],
    [node('outlets: [ { series: w, scale: 0 } ]'), 'nodes[0].outlets[0].scale', /0\.001/],
    [node('outlets: [ { series: w, scale: 1001 } ]'), 'nodes[0].outlets[0].scale', /to 1000/],
    [
      node('outlets: [ { series: w, labels: { a: x, b: y } }, { series: w, labels: { b: y, a: x }, scale: 2 } ]'),
      'nodes[0].outlets[1]',
      /counted twice/,
    ],
    ['prometheus: { url: prometheus:9090 }', 'prometheus.url', /http/],
    ['prometheus: { match: "a=\\"b\\"" }', 'prometheus.url', /needs its address/],
    ['prometheus: { nodeLabels: [ node ] }', 'prometheus.url', /needs its address/],
    ['prometheus: { url: "http://p", nodeLabels: [] }', 'prometheus.nodeLabels', /at least one label/],
    ['prometheus: { url: "http://p", nodeLabels: [ a-b ] }', 'prometheus.nodeLabels[0]', /name of a label/],
    ['discovery: { kubernetes: yes }', 'discovery.kubernetes', /true or false/],
    ['discovery: { allow: [ 10.0.0.0 ] }', 'discovery.allow[0]', /address range/],
    ['discovery: { allow: [ 10.0.0.0/33 ] }', 'discovery.allow[0]', /address range/],
    ['discovery: { allow: [ 169.254.169.254/32 ] }', 'discovery.allow[0]', /never a link-local/],
    ['discovery: { allow: [ "fe80::/64" ] }', 'discovery.allow[0]', /never a link-local/],
    ['discovery: { files: [ targets.json ] }', 'discovery.files[0]', /absolute path/],
    ['discovery: { files: [ /etc/targets ] }', 'discovery.files[0]', /\.json, \.yaml or \.yml/],
    ['discovery: { files: [ "/etc/*/a.json" ] }', 'discovery.files[0]', /last part/],
    ['discovery: { files: [ "/etc/*-*.json" ] }', 'discovery.files[0]', /one \*/],
    ['discovery: { http: [ "ftp://a" ] }', 'discovery.http[0]', /http/],
    ['discovery: { http: "http://a" }', 'discovery.http', /list of at most 16/],
    ['discovery: { nodeLabel: a-b }', 'discovery.nodeLabel', /name of a label/],
    ['discovery: { refresh: 4s }', 'discovery.refresh', /from 5s to 5m/],
    ['discovery: { refresh: 301s }', 'discovery.refresh', /from 5s to 5m/],
    ['discovery: { exporters: [ { port: 9100 } ] }', 'discovery.exporters[0].selector', /selector and a port/],
    ['discovery: { exporters: [ { selector: a=b } ] }', 'discovery.exporters[0].port', /selector and a port/],
    ['discovery: { exporters: [ { selector: a=b, port: 0 } ] }', 'discovery.exporters[0].port', /1 to 65535/],
    [
      'discovery: { exporters: [ { selector: a=b, port: 1, path: metrics } ] }',
      'discovery.exporters[0].path',
      /such as \/metrics/,
    ],
    [
      'discovery: { exporters: [ { selector: a=b, port: 1, scheme: ftp } ] }',
      'discovery.exporters[0].scheme',
      /http or https/,
    ],
    [
      'discovery: { exporters: [ { selector: a=b, port: 1, namespace: A } ] }',
      'discovery.exporters[0].namespace',
      /namespace/,
    ],
    ['credentials: { hosts: [ a ] }', 'credentials', /list of at most 100/],
    ['credentials: [ { caFile: /ca } ]', 'credentials[0].hosts', /nobody else sees them/],
    ['credentials: [ { hosts: [], caFile: /ca } ]', 'credentials[0].hosts', /nobody else sees them/],
    ['credentials: [ { hosts: [ "*.lab" ], caFile: /ca } ]', 'credentials[0].hosts[0]', /host name or an IP/],
    ['credentials: [ { hosts: [ "http://a" ], caFile: /ca } ]', 'credentials[0].hosts[0]', /host name or an IP/],
    ['credentials: [ { hosts: [ "a:0" ], caFile: /ca } ]', 'credentials[0].hosts[0]', /host name or an IP/],
    ['credentials: [ { hosts: [ "a:65536" ], caFile: /ca } ]', 'credentials[0].hosts[0]', /host name or an IP/],
    ['credentials: [ { hosts: [ "[a]:1" ], caFile: /ca } ]', 'credentials[0].hosts[0]', /host name or an IP/],
    [
      'credentials: [ { hosts: [ a ], caFile: /ca }, { hosts: [ b, A ], caFile: /ca } ]',
      'credentials[1].hosts[1]',
      /stands in credentials\[0\] already/,
    ],
    ['credentials: [ { hosts: [ a ], caFile: ca.pem } ]', 'credentials[0].caFile', /absolute path/],
    ['credentials: [ { hosts: [ a ], certFile: /c } ]', 'credentials[0].keyFile', /certFile and keyFile/],
    ['credentials: [ { hosts: [ a ], keyFile: /k } ]', 'credentials[0].certFile', /certFile and keyFile/],
    ['credentials: [ { hosts: [ a ], username: u } ]', 'credentials[0].passwordFile', /username and passwordFile/],
    ['credentials: [ { hosts: [ a ], passwordFile: /p } ]', 'credentials[0].username', /username and passwordFile/],
    ['credentials: [ { hosts: [ a ], username: "u:v", passwordFile: /p } ]', 'credentials[0].username', /colon/],
    [
      'credentials: [ { hosts: [ a ], username: u, passwordFile: /p, bearerTokenFile: /t } ]',
      'credentials[0].bearerTokenFile',
      /beside username/,
    ],
    ['credentials: [ { hosts: [ a ], caFile: /ca, plain: true } ]', 'credentials[0].plain', /there is none here/],
    ['credentials: [ { hosts: [ a ] } ]', 'credentials[0]', /must name what is shown/],
    ['credentials: [ { hosts: [ a ], serverName: b } ]', 'credentials[0]', /must name what is shown/],
    ['kubernetes: { enabled: "true" }', 'kubernetes.enabled', /auto, true or false/],
    ['kubernetes: { namespace: A }', 'kubernetes.namespace', /namespace/],
    ['kubernetes: { namespaces: [ "" ] }', 'kubernetes.namespaces[0]', /namespace/],
    ['kubernetes: { kubeconfig: ~/.kube/config }', 'kubernetes.kubeconfig', /absolute path, or null/],
    [`auth: { tokens: [ { role: root, sha256: ${HASH} } ] }`, 'auth.tokens[0].role', /viewer, workload or operator/],
    [`auth: { tokens: [ { sha256: ${HASH} } ] }`, 'auth.tokens[0].role', /role and the SHA-256/],
    ['auth: { tokens: [ { role: viewer, sha256: abc } ] }', 'auth.tokens[0].sha256', /64 hex digits/],
    [
      `auth: { tokens: [ { role: viewer, sha256: ${HASH} }, { role: operator, sha256: ${HASH.toUpperCase()} } ] }`,
      'auth.tokens[1].sha256',
      /twice/,
    ],
    ['auth: { anonymous: operator }', 'auth.anonymous', /none or viewer/],
    ['history: { keep: 745h }', 'history.keep', /from 0s to 744h, written as 90s, 30m or 24h/],
    ['history: { keep: 1d }', 'history.keep', /90s, 30m or 24h/],
    ['history: { maxBytes: 1000 }', 'history.maxBytes', /from 16777216 to/],
    ['history: { enabled: 1 }', 'history.enabled', /true or false/],
    ['simulated: { gpus: 33 }', 'simulated.gpus', /0 to 32/],
    ['simulated: { actOnRealWorkloads: 1 }', 'simulated.actOnRealWorkloads', /true or false/],
    ['source: simulated\nkubernetes: { enabled: true }', 'source', /actOnRealWorkloads/],
    ['source: simulated\nkubernetes: { kubeconfig: /k }', 'source', /actOnRealWorkloads/],
    ['logLevel: verbose', 'logLevel', /trace, debug/],
  ];
  for (const [text, key, rule] of cases) {
    const found = faults(text);
    t.same(
      found.map((fault) => fault.key),
      [key],
      text,
    );
    t.match(found[0], { rule, source: 'file', line: Number, column: Number }, text);
  }
});

t.test('loadConfig() takes label matchers and nothing else for prometheus.match', async (t) => {
  const load = (match: string) =>
    faults(`prometheus: { url: "http://p", match: ${JSON.stringify(match)} }`).length === 0;
  for (const match of ['cluster="x"', 'a="x",b!="y" , c=~"z.*",d!~"}"', 'a=""', 'a="\\""', 'a="},x{"'])
    t.ok(load(match), match);
  const refused = [
    '',
    ' ',
    'cluster',
    'cluster=x',
    "cluster='x'",
    '{cluster="x"}',
    'a="x",',
    ',a="x"',
    'a="x" b="y"',
    'a="x"}',
    'a="x"} or up{b="y"',
    'a="\\"',
    'a="x\ny"',
    '1a="x"',
    '__name__="up"',
    'a="x", __name__=~".+"',
    `a="${'x'.repeat(1000)}"`,
  ];
  for (const match of refused) t.notOk(load(match), match);
});

t.test('loadConfig() takes Kubernetes’ label selectors and never the empty one', async (t) => {
  const load = (selector: string) =>
    faults(`discovery: { exporters: [ { port: 1, selector: ${JSON.stringify(selector)} } ] }`).length === 0;
  const taken = [
    'app=x',
    'app==x',
    'app!=x',
    'app',
    '!app',
    'app=',
    'app in (x,y)',
    'app notin (x), b=c',
    'a.b/c-d=E_f.g',
  ];
  for (const selector of taken) t.ok(load(selector), selector);
  for (const selector of ['', ' ', ',', 'a=b,', 'a=b c', 'a in x', 'a in (x', '=x', 'a&b', 'a=b&limit=1', '!']) {
    t.notOk(load(selector), selector);
  }
});

t.test('loadConfig() takes the bounds themselves', async (t) => {
  const bounds = [
    'interval: 1s',
    'interval: 30s',
    'interval: 1s\nfastInterval: 1s\nstaleAfter: 1s\nblindAbortAfter: 1s\nbootGrace: 0s',
    'staleAfter: 60s\nblindAbortAfter: 120s\nbootGrace: 10m',
    'listen: { port: 0 }',
    'listen: { port: 65535 }',
    'nodes: [ { name: a, expectGpus: 64, tctlOffsetC: 0, power: { baseW: 0, psuEfficiency: 1 } } ]',
    'history: { keep: 0s, maxBytes: 16777216 }',
    'history: { keep: 744h, maxBytes: 68719476736 }',
    'simulated: { gpus: 0 }',
    'discovery: { refresh: 5s }',
    'discovery: { refresh: 5m, files: [ /a.json, /b/c.yml, "/*.yaml" ] }',
    'source: exporters\ndiscovery: { files: [ /a.json ] }',
    'source: exporters\ndiscovery: { http: [ "http://a" ] }',
    'source: exporters\ndiscovery: { kubernetes: true }',
    'source: exporters\nnodes: [ { name: a, endpoints: [ "http://a:9100/metrics" ] } ]',
    'credentials: [ { hosts: [ a, "a:9100" ], caFile: /ca }, { hosts: [ "a:9400" ], bearerTokenFile: /t, plain: false } ]',
    'nodes: [ { name: a, outlets: [ { series: w, scale: 0.000001 }, { series: "a:b", scale: 1000 } ] } ]',
    'kubernetes: { kubeconfig: null, enabled: auto }',
    'constraints: { gpu: { temperatureC: { warning: 109.9, hardStop: 110 } } }',
  ];
  for (const text of bounds) good(t, text);
  t.equal(good(t, 'interval: 1s').settings.fastIntervalMs, 1_000, 'left out, it follows a shorter interval');
});

t.test('loadConfig() tells all faults at once, by line and column', async (t) => {
  const found = faults(
    ['intervall: 5s', 'listen:', '  port: no', '  host: 10.0.0.7', 'interval: 5s', 'fastInterval: 20s'].join('\n'),
  );
  t.same(
    found.map(({ key, line, column }) => [key, line, column]),
    [
      ['intervall', 1, 1],
      ['listen.port', 3, 9],
      ['listen.host', 4, 9],
      ['fastInterval', 6, 15],
    ],
  );
  t.equal(faults(Array.from({ length: 30 }, (_, i) => `k${i}: 1`).join('\n')).length, 30, 'more than typebox tells');
});

t.test('loadConfig() judges no relation with a side that was refused', async (t) => {
  t.same(
    faults('interval: 5\nfastInterval: 20s\nstaleAfter: 1s').map(({ key }) => key),
    ['interval'],
  );
});

t.test('loadConfig() refuses unknown keys with a suggestion', async (t) => {
  const cases = [
    ['stale_after: 30s', 'stale_after', 'did you mean staleAfter?'],
    ['blindAbort: 30s', 'blindAbort', 'did you mean blindAbortAfter?'],
    ['port: 8470', 'port', 'did you mean listen.port?'],
    ['expectGpus: 4', 'expectGpus', 'did you mean nodes[].expectGpus?'],
    ['listen: { adress: x }', 'listen.adress', 'there are host, port, hosts'],
    ['nodes: [ { name: a, waives: [ cpu ] } ]', 'nodes[0].waives', 'did you mean waive?'],
    ['__proto__: { polluted: true }', '__proto__', 'there are listen'],
    ['constructor: 1', 'constructor', 'no such key'],
  ] as const;
  for (const [text, key, rule] of cases) {
    const [fault, ...others] = faults(text);
    t.equal(fault?.key, key);
    t.match(fault?.rule, rule, text);
    t.same(others, []);
  }
  t.equal(Object.hasOwn(Object.prototype, 'polluted'), false);
});

t.test('loadConfig() answers the traps of YAML as faults', async (t) => {
  const cases = [
    [
      'interval: 5s\ninterval: 6s\nlogLevel: loud',
      [
        [2, /twice/],
        [3, /trace, debug/],
      ],
    ],
    ['listen:\n\tport: 1', [[2, /tabs/]]],
    ['interval: 5s\n---\ninterval: 6s', [[2, /one document/]]],
    ['- interval: 5s', [[1, /mapping of keys/]]],
    ['interval', [[1, /mapping of keys/]]],
    ['waive: [ cpu', [[1, /flow sequence/]]],
    ['waive: !!python/object [ cpu ]', [[1, /tag/]]],
    ['constraints: *mine', [[1, /no anchor &mine/]]],
    ['? { a: 1 }\n: 2', [[1, /keys must be strings/]]],
    [`nodes: ${'['.repeat(10_000)}`, [[1, /nested too deeply/]]],
    // At some depth between these the process ended.
    ...[2_000, 20_000, 200_000].flatMap((depth) => [
      [`\nnodes: ${'['.repeat(depth)}${']'.repeat(depth)}`, [[2, /nested too deeply/]]] as const,
      [`\nnodes:\n${'- '.repeat(depth)}x`, [[3, /nested too deeply/]]] as const,
    ]),
    ['constraints: &c { gpu: *c }', [[1, /no limit that there is/]]],
  ] as const;
  for (const [text, expected] of cases) {
    const found = faults(text);
    t.equal(found.length, expected.length, text.slice(0, 60));
    for (const [index, [line, rule]] of expected.entries()) t.match(found[index], { line, rule }, text.slice(0, 60));
  }
  const bomb = ['a: &a0 [1,1,1,1,1,1,1,1,1,1]'];
  for (let i = 1; i < 9; i++)
    bomb.push(
      `b${i}: &a${i} [${Array(10)
        .fill(`*a${i - 1}`)
        .join(',')}]`,
    );
  t.match(faults(bomb.join('\n'))[0]?.rule, /aliases must not stand for more than 5000/);
  t.match(faults(`# ${'x'.repeat(1024 * 1024)}\n`)[0]?.rule, /at most 1048576/);
  const shared = good(
    t,
    'nodes:\n  - { name: a, constraints: &own { gpu: { powerW: { warning: 200 } } } }\n  - { name: b, constraints: *own }',
  );
  t.equal(shared.settings.nodes.get('b')?.constraints.gpu.powerW.warning, 200, 'an honest alias works');
});

t.test('loadConfig() reads a file, and says why it cannot', async (t) => {
  const folder = await tempDir(t);
  const read = (file: string) => loadConfig({ file, env: {}, hostname: 'h', homeDir: '/' });
  const path = join(folder, 'safety.yaml');
  writeFileSync(path, '\ufeffinterval: 3s\n');
  const loaded = read(path);
  t.ok(loaded.ok && loaded.config.settings.intervalMs === 3_000, 'a byte order mark does no harm');
  t.equal(loaded.file, path);
  mkdirSync(join(folder, 'dir'));
  writeFileSync(join(folder, 'latin1'), Buffer.from([0x61, 0xe9]));
  writeFileSync(join(folder, 'large'), 'x'.repeat(1024 * 1024 + 1));
  const cases = [
    ['absent', /does not exist/],
    ['dir', /not a file/],
    ['latin1', /not UTF-8/],
    ['large', /at most 1048576/],
  ] as const;
  for (const [name, rule] of cases) {
    const refused = read(join(folder, name));
    t.match(refused, { ok: false, problems: [{ key: '', rule }] });
  }
  const named = loadConfig({ env: { VSF_SAFETY_CONFIG: path }, hostname: 'h', homeDir: '/' });
  t.ok(named.ok && named.config.settings.intervalMs === 3_000, 'VSF_SAFETY_CONFIG names a file');
  const none = loadConfig({ file: null, env: { VSF_SAFETY_CONFIG: path }, hostname: 'h', homeDir: '/' });
  t.ok(none.ok && none.config.settings.intervalMs === 10_000, 'null reads none');
});

t.test('loadConfig() lets the environment win over the file, and flags over both', async (t) => {
  const text =
    'listen: { port: 1, host: "::1" }\nsource: local\nlogLevel: warn\nwaive: [ cpu ]\nkubernetes: { enabled: auto }';
  const env = {
    VSF_SAFETY_LISTEN_PORT: '2',
    VSF_SAFETY_SOURCE: 'simulated',
    VSF_SAFETY_WAIVE: 'memory, gpu-power',
    VSF_SAFETY_KUBERNETES_ENABLED: 'false',
    VSF_SAFETY_INTERVAL: '4s',
    VSF_SAFETY_CONSTRAINTS: 'bizon1',
    VSF_SAFETY_STATE_DIR: '/srv/state',
  };
  const config = good(t, text, { env, flags: { port: '3', 'log-level': 'error', 'state-dir': '/srv/other' } });
  t.same(config.listen, { host: '::1', port: 3, hosts: [] });
  t.equal(config.source, 'simulated');
  t.equal(config.logLevel, 'error');
  t.same(config.settings.defaults.waive, ['memory', 'gpu-power']);
  t.match(config.kubernetes, { enabled: false, isWrittenOut: true });
  t.equal(config.settings.intervalMs, 4_000);
  t.equal(config.settings.defaults.constraints, BIZON1_CONSTRAINTS);
  t.equal(config.stateDir, '/srv/other');
  t.equal(
    good(t, '', { flags: { 'state-dir': 'state' } }).stateDir,
    join(process.cwd(), 'state'),
    'from the shell’s folder',
  );
  t.equal(good(t, text, { env: { VSF_SAFETY_WAIVE: '' } }).settings.defaults.waive.length, 0, 'an empty list is one');
});

t.test('loadConfig() tells a wrong value where it stands, even where a later layer covers it', async (t) => {
  const found = faults('listen: { port: x }', {
    env: { VSF_SAFETY_LISTEN_PORT: 'y', VSF_SAFETY_SIMULATED_GPUS: '1e3', VSF_SAFETY_BOOT_GRACE: '' },
    flags: { port: '8470', source: 'nowhere', 'state-dir': '' },
  });
  t.same(
    found.map(({ key, value, source, line }) => [key, value, source, line]),
    [
      ['listen.port', 'x', 'file', 1],
      ['VSF_SAFETY_LISTEN_PORT', 'y', 'environment', undefined],
      ['VSF_SAFETY_BOOT_GRACE', '', 'environment', undefined],
      ['VSF_SAFETY_SIMULATED_GPUS', '1e3', 'environment', undefined],
      ['--state-dir', '', 'flag', undefined],
      ['--source', 'nowhere', 'flag', undefined],
    ],
  );
});

t.test('loadConfig() names the layer that broke a relation', async (t) => {
  const env = { VSF_SAFETY_FAST_INTERVAL: '20s' };
  t.match(faults('interval: 5s\nfastInterval: 2s', { env }), [
    { key: 'VSF_SAFETY_FAST_INTERVAL', source: 'environment' },
  ]);
  t.match(faults('', { flags: { host: '0.0.0.0' } }), [{ key: '--host', value: '0.0.0.0', source: 'flag' }]);
});

t.test('loadConfig() refuses unknown VSF_SAFETY_ variables and never shows their values', async (t) => {
  const found = faults('', {
    env: { VSF_SAFETY_PORT: 'hunter2', VSF_SAFETY_INTERVALL: 'hunter2', VSF_SAFETY_ZZZ: 'x' },
  });
  t.same(
    found.map(({ rule }) => rule),
    [
      'no such variable; did you mean VSF_SAFETY_LISTEN_PORT?',
      'no such variable; did you mean VSF_SAFETY_INTERVAL?',
      'no such variable',
    ],
  );
  t.notMatch(explainProblems(found, null), /hunter2/);
});

t.test('loadConfig() leaves the variables of clients and of Kubernetes services alone', async (t) => {
  const env = {
    VSF_SAFETY_URL: 'http://x',
    VSF_SAFETY_TOKEN: 'secret',
    VSF_SAFETY_SERVICE_HOST: '10.0.0.1',
    VSF_SAFETY_SERVICE_PORT: '8470',
    VSF_SAFETY_SERVICE_PORT_HTTP: '8470',
    VSF_SAFETY_PORT: 'tcp://10.0.0.1:8470',
    VSF_SAFETY_PORT_8470_TCP: 'tcp://10.0.0.1:8470',
    VSF_SAFETY_PORT_8470_TCP_PROTO: 'tcp',
    VSF_SAFETY_METRICS_SERVICE_HOST: '10.0.0.2',
    VSF_SAFETY_METRICS_PORT: 'tcp://10.0.0.2:9000',
    OTHER: 'x',
  };
  t.equal(good(t, '', { env }).listen.port, 8470);
});

t.test(
  'loadConfig() keeps a history of a day unless it is told otherwise, and none for 0s or enabled: false',
  async (t) => {
    t.same(good(t, 'history: { keep: 90m, maxBytes: 16777216 }').history, { keepMs: 5_400_000, maxBytes: 16_777_216 });
    t.same(good(t, 'history: { keep: 48h }').history, { keepMs: 172_800_000, maxBytes: 1_073_741_824 });
    t.equal(good(t, 'history: { keep: 0s }').history, null);
    t.equal(good(t, 'history: { enabled: false, keep: 24h }').history, null);
    t.equal(good(t, '', { env: { VSF_SAFETY_HISTORY_ENABLED: 'false' } }).history, null);
  },
);

t.test('ENVIRONMENT_VARIABLES lists one variable for each key that is no list of mappings', async (t) => {
  const names = ENVIRONMENT_VARIABLES.map(({ name, key }) => `${name} ${key}`);
  t.equal(names.length, 37);
  for (const name of [
    'VSF_SAFETY_LISTEN_PORT listen.port',
    'VSF_SAFETY_LISTEN_TLS_CERT_FILE listen.tls.certFile',
    'VSF_SAFETY_KUBERNETES_KUBECONFIG kubernetes.kubeconfig',
    'VSF_SAFETY_DISCOVERY_NODE_LABEL discovery.nodeLabel',
    'VSF_SAFETY_PROMETHEUS_NODE_LABELS prometheus.nodeLabels',
    'VSF_SAFETY_HISTORY_KEEP history.keep',
  ]) {
    t.ok(names.includes(name), name);
  }
  t.notMatch(names.join(), /NODES|TOKENS|CREDENTIALS|EXPORTERS/);
  const env = { VSF_SAFETY_DISCOVERY_FILES: '/a.json, /b/*.yaml', VSF_SAFETY_DISCOVERY_HTTP: 'http://a,http://b' };
  t.match(good(t, '', { env }).discovery, { files: ['/a.json', '/b/*.yaml'], http: ['http://a', 'http://b'] });
});

t.test('loadConfig() refuses to listen off loopback where nobody could say who they are', async (t) => {
  for (const host of ['0.0.0.0', '::', '10.0.0.7', 'safety.lab']) {
    const [fault, ...others] = faults(`listen: { host: "${host}" }`);
    t.match(fault, { key: 'listen.host', value: host, rule: /sha256sum.*auth.kubernetes.*127\.0\.0\.1/ });
    t.same(others, []);
    good(t, `listen: { host: "${host}" }\nauth: { tokens: [ { role: viewer, sha256: ${HASH} } ] }`);
    good(t, `listen: { host: "${host}" }\nauth: { kubernetes: true }`);
  }
  t.equal(faults('listen: { host: 0.0.0.0 }\nauth: { anonymous: viewer }').length, 1, 'readers alone are not enough');
  for (const host of ['127.0.0.1', '127.1.2.3', '::1', 'localhost']) good(t, `listen: { host: "${host}" }`);
});

t.test('isLoopbackHost() is true only for what only this machine can reach', async (t) => {
  for (const host of ['127.0.0.1', '127.255.0.1', '::1', '[::1]', 'localhost', 'LOCALHOST'])
    t.ok(isLoopbackHost(host), host);
  for (const host of ['0.0.0.0', '::', '128.0.0.1', '127.example.com', 'localhost.example.com', '']) {
    t.notOk(isLoopbackHost(host), host);
  }
});

t.test('loadConfig() never shows what may be a secret', async (t) => {
  const texts = [
    'auth: hunter2',
    'auth: { tokens: hunter2 }',
    'auth: { tokens: [ hunter2 ] }',
    'auth: { tokens: [ { role: viewer, token: hunter2 } ] }',
    'auth: { tokens: [ { role: viewer, sha256: hunter2 } ] }',
    'auth: { password: hunter2 }',
    'credentials: [ { hosts: [ a ], bearerTokenFile: hunter2 } ]',
    'credentials: [ { hosts: [ a ], password: hunter2 } ]',
    'credentials: hunter2',
    'password: hunter2',
    'prometheus: { url: "ftp://ann:hunter2@host/" }',
    'nodes: [ { name: a, endpoints: [ "http://ann:hunter2@host/metrics" ] } ]',
  ];
  for (const text of texts) {
    const found = faults(text);
    t.not(found.length, 0, text);
    t.notMatch(JSON.stringify(found) + explainProblems(found, 'f'), /hunter2/, text);
  }
});

t.test(
  'loadConfig() finds the local node by the host name, in full or up to the first dot, else the only one',
  async (t) => {
    const cases = [
      ['', 'box', 'box'],
      ['nodes: [ { name: other }, { name: box } ]', 'box', 'box'],
      ['nodes: [ { name: Box }, { name: other } ]', 'box', 'Box'],
      ['nodes: [ { name: box }, { name: other } ]', 'box.lab', 'box'],
      ['nodes: [ { name: box.lab }, { name: other } ]', 'box', 'box.lab'],
      ['nodes: [ { name: bizon1 } ]', 'ip-10-0-0-7', 'bizon1'],
      ['nodes: [ { name: bizon1, endpoints: [ "http://127.0.0.1:9100/metrics" ] } ]', 'x', 'bizon1'],
      ['nodes: [ { name: far, endpoints: [ "http://10.0.0.7:9100/metrics" ] } ]', 'x', 'x'],
      ['nodes: [ { name: a }, { name: b } ]', 'x', 'x'],
    ] as const;
    for (const [text, hostname, expected] of cases)
      t.equal(good(t, text, { hostname }).settings.localNode, expected, text);
    t.match(faults('', { hostname: 'a b' }), [{ key: 'nodes', rule: /cannot be a node's/ }]);
    t.equal(good(t, 'nodes: [ { name: mine } ]', { hostname: 'a b' }).settings.localNode, 'mine');
  },
);

t.test('loadConfig() warns of what is allowed and may surprise', async (t) => {
  const warnings = (text: string, hostname = 'bizon1'): readonly string[] => {
    const loaded = load(text, { hostname });
    return loaded.ok ? loaded.warnings : ['refused'];
  };
  t.same(warnings('constraints: bizon1'), []);
  t.match(warnings('constraints: { gpu: { powerW: { warning: 250, hardStop: 400 } } }'), [
    /^constraints is looser .*gpu\.powerW\.hardStop$/,
  ]);
  t.match(warnings('nodes: [ { name: bizon1, constraints: { cpu: { utilizationRatio: { max: 0.9 } } } } ]'), [
    /^nodes\[0\]\.constraints/,
  ]);
  t.match(warnings('nodes: [ { name: a }, { name: b } ]'), [/\(a, b\) is named like this machine, bizon1/]);
  t.match(warnings('discovery: { kubernetes: true }'), [/discovery\.allow is empty/]);
  t.same(warnings('discovery: { files: [ /a.json ], http: [ "http://a" ] }'), [
    'discovery.allow is empty, so that discovery.files and discovery.http find nothing that may be read',
  ]);
  t.match(warnings('discovery: { exporters: [ { selector: a=b, port: 1 } ] }'), [/exporters is not used/]);
  t.match(warnings('discovery: { kubernetes: true, allow: [ 10.0.0.0/8 ], exporters: [] }'), [/exporters is empty/]);
  t.match(warnings('kubernetes: { enabled: false, kubeconfig: /k }'), [/kubeconfig is not used/]);
});

t.test('explainProblems() shows place, key, value and rule in one line each', async (t) => {
  const found = faults('interval: 500ms\nnodes: [ {} ]', { flags: { port: 'x' } });
  t.equal(
    explainProblems(found, 'safety.yaml'),
    [
      'Cannot use the configuration, 3 faults:',
      "  safety.yaml:1:11  interval is '500ms': must be a duration from 1s to 30s, written as 10s, 500ms or 2m",
      '  safety.yaml:2:10  nodes[0].name is missing: must be 1 to 253 letters, digits, dots, dashes and underscores, beginning with a letter or digit',
      "  flag              --port is 'x': must be a whole number from 0 to 65535",
    ].join('\n'),
  );
  const many = faults(Array.from({ length: 60 }, (_, i) => `k${i}: 1`).join('\n'));
  t.match(explainProblems(many, null), /60 faults:[\s\S]*and 10 more$/);
});

t.test('defaultStateDir() follows XDG_STATE_HOME where it is absolute', async (t) => {
  t.equal(defaultStateDir({}, '/home/ann'), '/home/ann/.local/state/vsf-safety');
  t.equal(defaultStateDir({ XDG_STATE_HOME: '/srv' }, '/home/ann'), '/srv/vsf-safety');
  t.equal(defaultStateDir({ XDG_STATE_HOME: 'srv' }, '/home/ann'), '/home/ann/.local/state/vsf-safety');
  t.equal(defaultStateDir({ XDG_STATE_HOME: '' }, '/home/ann'), '/home/ann/.local/state/vsf-safety');
});

t.test('readBootId() gives the kernel’s id, and a fresh one where there is none', async (t) => {
  const root = await tempDir(t);
  const folder = join(root, 'proc/sys/kernel/random');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'boot_id'), '0d1e1c4e-9a52-4b7a-8f7e-5b8d3f1f8a11\n');
  t.equal(readBootId(root), '0d1e1c4e-9a52-4b7a-8f7e-5b8d3f1f8a11');
  writeFileSync(join(folder, 'boot_id'), '');
  const [first, second] = [readBootId(root), readBootId(root)];
  t.match(first, /^[0-9a-f-]{36}$/);
  t.not(first, second, 'unknown is never the same boot');
  t.match(readBootId(join(root, 'nowhere')), /^[0-9a-f-]{36}$/);
});

t.test('docs/configuration.md tells every key; npm run configuration writes it anew', async (t) => {
  const run = promisify(execFile);
  const { stdout } = await run(process.execPath, ['scripts/configuration-docs.mjs', '--print'], { maxBuffer: 2 ** 24 });
  t.equal(await readFile('docs/configuration.md', 'utf8'), stdout);
});
