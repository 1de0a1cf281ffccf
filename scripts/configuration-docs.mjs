// Writes docs/configuration.md from the schema that the service checks its configuration against, and from what each key
// is for, below; with --print it only says what it would write. A key that nothing is said of here, or that is no more,
// ends it with an error. A test compares, so a run that was forgotten is found.
import { writeFile } from 'node:fs/promises';
import { ENVIRONMENT_VARIABLES } from '../dist/config.js';
import { DEFAULTS, durationText, SCHEMA } from '../dist/config-schema.js';

const root = new URL('../', import.meta.url);
const inMs = (key) => `\`${durationText(DEFAULTS[key])}\``;
const inCode = (value) => `\`${JSON.stringify(value)}\``;

/** What each key is for, and what applies where it is left out; of a mapping or a list of them, only the first. */
const KEYS = {
  listen: ['Where the service listens. Off loopback it starts only with `auth.tokens` or `auth.kubernetes`.'],
  'listen.host': ['Address, or a name of this machine.', inCode(DEFAULTS.host)],
  'listen.port': ['0 takes any free port, which is told at the start.', inCode(DEFAULTS.port)],
  'listen.hosts': [
    'Names by which it may be asked without a token, beside those of loopback: a Service of a cluster, a proxy.',
    'none',
  ],
  'listen.tls': ['Serves HTTPS; both files are read again when they change.', 'plain HTTP'],
  'listen.tls.certFile': ['Certificate with its chain, PEM.'],
  'listen.tls.keyFile': ['Its key, PEM.'],
  stateDir: [
    'Journal with the latch, history, audit, operator’s token. One process for each folder.',
    '`$XDG_STATE_HOME/vsf-safety`, else `~/.local/state/vsf-safety`',
  ],
  constraints: ['Limits: `default`, `bizon1`, or a profile of your own; see below.', '`default`'],
  interval: ['Between two evaluations.', inMs('intervalMs')],
  fastInterval: [
    'Between two samples of hard limits where a workload is live or something is warm.',
    inMs('fastIntervalMs'),
  ],
  staleAfter: [
    'A source that fails counts so long with its last good readings; a witness that stands still so long is frozen.',
    inMs('staleAfterMs'),
  ],
  blindAbortAfter: [
    'A required reading that is missing so long under a live workload stops its node.',
    inMs('blindAbortAfterMs'),
  ],
  bootGrace: ['As `blindAbortAfter`, after a start of the service or of a node.', inMs('bootGraceMs')],
  tripScope: ['What a hard stop stops: everything, or its node.', '`cluster`'],
  waive: ['Readings whose absence is excused on every node; one that is there is judged all the same.', 'none'],
  require: ['Readings that are required beyond the usual, on every node: `total-power`.', 'none'],
  source: ['Where readings come from: this machine, exporters, a Prometheus, or made up.', '`local`'],
  nodes: ['Machines, and what is particular about each.', 'this machine with `local`, else what is found'],
  'nodes[].name': ['Its identity, in the journal too: another name is another node.'],
  'nodes[].endpoints': ['Exporters of that node; with `source: local` they are read in addition.', 'none'],
  'nodes[].expectGpus': ['It has at least so many; fewer are missing readings.', 'what was seen once'],
  'nodes[].constraints': ['Its own limits, as above.', 'the common ones'],
  'nodes[].waive': ['As `waive`, on this node.', 'none'],
  'nodes[].require': ['As `require`, on this node.', 'none'],
  'nodes[].gpus': ['By UUID or PCI address.', 'none'],
  'nodes[].gpus[].waive': ['As `waive`, of this card.', 'none'],
  'nodes[].gpus[].ignore': ['Takes the card out of everything: a dead one that still shows on the bus.', '`false`'],
  'nodes[].power': [
    'Lets total power be estimated from its parts; an estimate warns and stops, and satisfies no requirement. Needs both keys.',
    'no estimate',
  ],
  'nodes[].power.baseW': ['Of everything that is not measured: board, fans, disks, W.'],
  'nodes[].power.psuEfficiency': ['Share of the wall’s power that arrives.'],
  'nodes[].outlets': ['Outlets of a PDU that feed it, added up to its total power.', 'none'],
  'nodes[].outlets[].series': ['Metric of one outlet, on one of its endpoints or in Prometheus.'],
  'nodes[].outlets[].labels': ['Which of its series.', 'all'],
  'nodes[].outlets[].scale': ['Value × scale is W.', '`1`'],
  'nodes[].staleAfter': ['As `staleAfter`, for a slow exporter.', 'the common one'],
  'nodes[].tctlOffsetC': ['What an AMD CPU’s Tctl reads too high, °C.', '`0`'],
  'nodes[].zfsCacheIsAvailable': ['Counts ZFS’ cache as memory that is free.', '`false`'],
  prometheus: ['For `source: prometheus`.'],
  'prometheus.url': ['The server.'],
  'prometheus.nodeLabels': ['Labels that name a series’ node, the best first.', inCode(DEFAULTS.nodeLabels)],
  'prometheus.match': ['Label matchers for every question: `cluster="x"`.', 'none'],
  discovery: ['Finds exporters.'],
  'discovery.kubernetes': ['By the pods of the cluster.', '`false`'],
  'discovery.allow': ['What is found must lie in here; link-local never is read.', 'nothing'],
  'discovery.files': ['Lists as Prometheus’ file_sd.', 'none'],
  'discovery.http': ['Lists as Prometheus’ http_sd.', 'none'],
  'discovery.nodeLabel': ['Label of a list’s group that names the node.', inCode(DEFAULTS.nodeLabel)],
  'discovery.refresh': ['Between two looks.', inMs('refreshMs')],
  'discovery.exporters': ['Which pods are exporters.', 'those of the usual charts'],
  'discovery.exporters[].selector': ['Label selector of the pods.'],
  'discovery.exporters[].namespace': ['Where they are.', 'everywhere'],
  'discovery.exporters[].port': ['Of their metrics.'],
  'discovery.exporters[].path': ['Of their metrics.', inCode(DEFAULTS.metricsPath)],
  'discovery.exporters[].scheme': ['`http` or `https`.', '`http`'],
  credentials: [
    'Shown to the hosts that each names and to nobody else. Files are read again when they change.',
    'none',
  ],
  'credentials[].hosts': ['With or without a port.'],
  'credentials[].caFile': ['Authority that the host’s certificate must come from, PEM.', 'the system’s'],
  'credentials[].certFile': ['Client certificate, PEM.', 'none'],
  'credentials[].keyFile': ['Its key, PEM.', 'none'],
  'credentials[].serverName': ['Name in the host’s certificate.', 'the host'],
  'credentials[].bearerTokenFile': ['Token.', 'none'],
  'credentials[].username': ['For basic authentication, with `passwordFile`.', 'none'],
  'credentials[].passwordFile': ['Password.', 'none'],
  'credentials[].plain': ['Allows a secret over `http://` to another machine.', '`false`'],
  kubernetes: ['The cluster whose workloads are stopped ([kubernetes.md](kubernetes.md)).'],
  'kubernetes.enabled': ['`auto`: in a pod, its own cluster.', '`auto`'],
  'kubernetes.namespace': ['Of the service’s own objects.', inCode(DEFAULTS.namespace)],
  'kubernetes.namespaces': ['Where workloads are.', 'everywhere'],
  'kubernetes.kubeconfig': ['Outside of a cluster. `KUBECONFIG` and `~/.kube/config` are never read.', '`null`'],
  auth: ['Who may do what ([security.md](security.md)). Tokens are read again when the file changes.'],
  'auth.tokens': ['Made by `vsf-safety token new`.', 'none'],
  'auth.tokens[].role': ['`viewer` reads, `workload` also takes leases and trips, `operator` does everything.'],
  'auth.tokens[].sha256': ['Of the token, in hex: who reads the file learns no token.'],
  'auth.anonymous': ['`viewer` lets everybody read, off loopback too: for init containers.', '`none`'],
  'auth.kubernetes': ['Lets the cluster say who a token is, and what it may do.', '`false`'],
  notify: ['Webhooks that are told of trips, stops, resets and cooldowns ([notify.md](notify.md)).', 'none'],
  'notify[].name': ['In logs, `/status` and metrics.', 'the address’ host'],
  'notify[].url': ['Of the webhook, or of an Alertmanager.'],
  'notify[].format': ['`plain` or `alertmanager`.', '`plain`'],
  'notify[].secretFile': ['Signs what is sent.', 'unsigned'],
  'notify[].events': ['What it is told of.', 'all'],
  history: ['Figures and events on the disk ([history.md](history.md)).'],
  'history.enabled': ['`false` keeps none.', '`true`'],
  'history.keep': ['How long.', inMs('historyKeepMs')],
  'history.maxBytes': ['The oldest goes when it is full.', inCode(DEFAULTS.historyMaxBytes)],
  simulated: ['For `source: simulated`.'],
  'simulated.actOnRealWorkloads': ['Lets a made-up rig stop real pods: without it that start is refused.', '`false`'],
  'simulated.gpus': ['How many cards it has.', inCode(DEFAULTS.simulatedGpus)],
  logLevel: ['Least level that is logged.', '`info`'],
};

const cell = (text) => text.replaceAll('|', '\\|').replaceAll(/\s+/g, ' ').trim();
const variables = new Map(ENVIRONMENT_VARIABLES.map(({ key, name }) => [key, name]));
const unsaid = [];
const said = new Set();

function rowsOf(path, shape) {
  const meaning = KEYS[path];
  if (meaning) said.add(path);
  else unsaid.push(path);
  const [about = '', whenLeftOut = ''] = meaning ?? [];
  const inner = shape.items?.properties
    ? shape.items
    : (shape.additionalProperties?.properties ?? null) && shape.additionalProperties;
  const members = shape.properties ?? inner?.properties ?? patternOf(shape)?.properties ?? {};
  const prefix = shape.properties ? path : `${path}[]`;
  const isLeaf = Object.keys(members).length === 0;
  const rule = isLeaf ? (shape.rule ?? 'a profile’s name, or its limits').replace(/^must be /, '') : '';
  const name = variables.get(path);
  const row = `| \`${path}\` | ${cell(about)} | ${cell(whenLeftOut)} | ${cell(rule)} | ${name ? `\`${name}\`` : ''} |`;
  return [row, ...Object.entries(members).flatMap(([key, member]) => rowsOf(`${prefix}.${key}`, member))];
}

/** A mapping from names of the user's own to settings. */
function patternOf(shape) {
  return Object.values(shape.patternProperties ?? {}).find(({ properties }) => properties);
}

const rows = Object.entries(SCHEMA.properties).flatMap(([key, shape]) => rowsOf(key, shape));
const gone = Object.keys(KEYS).filter((key) => !said.has(key));
if (unsaid.length + gone.length > 0) {
  throw new Error(
    `Cannot write docs/configuration.md: nothing is said of ${unsaid.join(', ') || 'no key'}; no more there: ${gone.join(', ') || 'none'}`,
  );
}

const text = `# Configuration

Written from the schema by \`npm run configuration\`. \`--config safety.yaml\` (or \`VSF_SAFETY_CONFIG\`), then the variables named
here, then flags; what comes later counts. Unknown keys are refused, and \`vsf-safety config check FILE\` explains every fault
with its line. Everything but tokens, certificates and secrets is read once, at the start. Durations: \`10s\`, \`500ms\`, \`2m\`,
\`24h\`. In a variable a list is written with commas; lists of mappings have no variable.

## Limits

\`constraints\` is \`default\`, \`bizon1\` (stricter), or limits of your own, of which those left out come from \`extends\`:

\`\`\`yaml
constraints:
  extends: default
  gpu:
    temperatureC: { warning: 80, hardStop: 85 }
    powerW: { warning: 250, hardStop: 300 }
    memoryRatio: { max: 0.9 }
  cpu:
    temperatureC: { warning: 90, hardStop: 95 }
    utilizationRatio: { max: 0.8 }
  system:
    powerW: { warning: 2000, hardStop: 2200 }
    memoryRatio: { max: 0.85 }
  workload:
    intensityRatio: { max: 0.8 }
\`\`\`

Each warning must be below its hard stop, and all inside what hardware can be: temperatures up to 110 °C, a GPU up to 1500 W, a
machine up to 20 kW, shares below 1. No value means "off".

## Every key

| key | what for | left out | must be | variable |
|---|---|---|---|---|
${rows.join('\n')}
`;

if (process.argv.includes('--print')) process.stdout.write(text);
else await writeFile(new URL('docs/configuration.md', root), text);
