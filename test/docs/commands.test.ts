// The commands of the documents do what is said. Every command of every `sh` block is run in a shell against the real
// service, in the document's order, and must end with exit status 0 and be answered below 400; a comment that begins with
// a status (`# 423`, `# exit 75`) promises that one. What cannot be run here is listed below with the reason, and what is
// listed and no longer written fails as well. All of them, and those within sentences, must name what exists.
import { readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { faultsOf } from '../support/documented-call.ts';
import { type MarkdownDocument, markdownFiles, readDocument } from '../support/markdown.ts';
import { lacksPrograms, type Outcome, paste, startSession } from '../support/reader-session.ts';
import type { RealService } from '../support/real-service.ts';
import { callsOf, commandsOf, type PastedCommand } from '../support/shell-text.ts';
import { says, standInExporter } from '../support/stand-in-exporter.ts';

t.setTimeout(120_000);

/** Why a command is not run here. What it names is checked all the same. */
const REASONS = {
  'builds or tests': 'is what a build or a whole test run does; scripts/test.sh and .ci/run do it',
  installs: 'installs on the machine; test/end-to-end/install.test.ts and scripts/clean-root.sh do it on a copy of one',
  systemd: 'needs a systemd that runs',
  container: 'needs a container engine',
  cluster: 'needs a cluster of the reader’s; test/end-to-end/cluster-*.test.ts and helm.test.ts have one',
  hardware: 'needs a GPU and its driver',
  certificate: 'needs an exporter with a certificate; test/cli/explain-exposition.test.ts has one',
  network: 'fetches something from elsewhere',
} as const;

type Exception =
  | { readonly why: keyof typeof REASONS }
  /** What else it may end with, as it depends on the machine. */
  | { readonly exits: readonly number[] }
  /** Goes on for ever; what it says. */
  | { readonly says: RegExp };

interface Scene {
  /** Everything is stopped, as it is for a reader who needs this. */
  readonly isTripped?: true;
  /** Its sections do not go on from one another: a shell and a service for each. */
  readonly hasSections?: true;
  /** Files that the reader has, by name. */
  readonly files?: (document: MarkdownDocument) => Readonly<Record<string, string>>;
  /** What stands for what would take minutes. */
  readonly shorter?: Readonly<Record<string, string>>;
  /** By the command as it is written, up to its first line break. */
  readonly exceptions?: Readonly<Record<string, Exception>>;
}

const BUILDS = { why: 'builds or tests' } as const;
const INSTALLS = { why: 'installs' } as const;
const SYSTEMD = { why: 'systemd' } as const;
const CONTAINER = { why: 'container' } as const;
const CLUSTER = { why: 'cluster' } as const;
/** Not safe on a machine without sensors, such as a virtual one. */
const MAYBE_SAFE = { exits: [0, 75] } as const;

/** The first YAML block of a document that says so. */
function yaml({ path, blocks }: MarkdownDocument, part: string): string {
  const found = blocks.find(({ language, text }) => language === 'yaml' && text.includes(part));
  if (found === undefined) throw new Error(`${path} has no YAML with ${part}`);
  return found.text;
}

const GENERATOR = '#!/usr/bin/env bash\nwhile :; do sleep 0.2; done\n';
const ENDS = '#!/usr/bin/env bash\necho trained\n';
const SCENES: Readonly<Record<string, Scene>> = {
  'CONTRIBUTING.md': {
    exceptions: {
      'npm ci': BUILDS,
      'npm run typecheck && npm run lint': BUILDS,
      'npm test': BUILDS,
      'npm run format': BUILDS,
      'npm run metrics': BUILDS,
      'npm run configuration': BUILDS,
      'npm run sbom': BUILDS,
      'sudo scripts/clean-root.sh': BUILDS,
      'node scripts/helm.mjs': { why: 'network' },
      'npm run openapi': BUILDS,
      'npm run api': BUILDS,
      'FUZZ_RUNS=50 npm test -- test/http/fuzz.test.ts': BUILDS,
      'npm run safety-case': BUILDS,
      'npm run mutants -- src/domain/interlock.ts': BUILDS,
      'npm run simulate -- --seeds 1000': BUILDS,
      'npm run bench -- --quick': BUILDS,
      'npm run soak -- --minutes 30': BUILDS,
    },
  },
  'bench/README.md': {
    exceptions: {
      'npm run bench': BUILDS,
      'npm run bench -- parse reaction': BUILDS,
      'npm run bench -- --quick': BUILDS,
      'npm run bench -- --brief': BUILDS,
      'npm run bench -- --write': BUILDS,
      'node bench/parse.mjs': BUILDS,
      'npm run soak -- --minutes 30': BUILDS,
      'npm run soak -- --minutes 30 --results soak.json': BUILDS,
    },
  },
  'docs/mutants.md': {
    exceptions: {
      'npm run mutants': BUILDS,
      'npm run mutants -- src/domain/interlock.ts': BUILDS,
    },
  },
  'docs/simulation.md': {
    exceptions: {
      'npm run simulate -- --seeds 1000 --from 1': BUILDS,
      'npm run simulate -- --seed 4711': BUILDS,
      'npm run simulate -- --seed 4711 --nightly': BUILDS,
      'npm run simulate -- --minutes 10': BUILDS,
      'npm run simulate -- --nightly': BUILDS,
      'npm run simulate -- --results FILE': BUILDS,
      'npm run simulate -- --nightly --add-to FILE': BUILDS,
      'npm run simulate -- --workers 8': BUILDS,
      'npm run simulate -- --planted': BUILDS,
      'npm run simulate -- --hunt 60': BUILDS,
    },
  },
  'README.md': {
    hasSections: true,
    files: (document) => ({
      'cluster.yaml': yaml(document, 'source: exporters'),
      'train.py': 'print("trained")\n',
      generator: GENERATOR,
      URL_FILE_OR_DIR: dcgm(),
    }),
    exceptions: {
      'npm ci && npm start': BUILDS,
      'npm test': BUILDS,
      'npx vsf-safety check': MAYBE_SAFE,
      'curl -s -X POST "$S/estop/restore" -H "authorization: Bearer $TOKEN" -H content-type:application/json \\':
        CLUSTER,
      'npx vsf-safety watch': { says: /PROCEED/ },
      'npx vsf-safety check --config cluster.yaml': MAYBE_SAFE,
    },
  },
  'clients/python/README.md': {
    files: () => ({ 'generator.py': 'print("generated")\n' }),
    exceptions: {
      'pip install ./clients/python': { why: 'network' },
      'npm run build': BUILDS,
      'cd clients/python && python3 -m unittest': BUILDS,
    },
  },
  'docs/api.md': { exceptions: { 'npx vsf-safety watch': { says: /PROCEED/ } } },
  'docs/cluster.md': {
    files: (document) => ({ 'cluster.yaml': yaml(document, 'source: exporters') }),
    exceptions: {
      'npx vsf-safety check --config cluster.yaml': MAYBE_SAFE,
      'npx vsf-safety explain https://10.0.0.7:9100/metrics --config cluster.yaml': { why: 'certificate' },
      'dcgm-exporter -c 1000': { why: 'hardware' },
    },
  },
  'docs/commission.md': {
    shorter: { 'commission --by': 'commission --watch 2 --by', '--watch 300': '--watch 2' },
  },
  'docs/container.md': {
    exceptions: {
      'docker build -t vsf-safety .': CONTAINER,
      'docker run --rm vsf-safety --version': CONTAINER,
      'docker run -d --name vsf-safety --read-only --cap-drop ALL --security-opt no-new-privileges \\': CONTAINER,
      "docker buildx imagetools inspect node:24.21.0-bookworm-slim --format '{{.Manifest.Digest}}'": CONTAINER,
      "sed -i 's|^FROM node:24.21.0-bookworm-slim|&@sha256:…|' Dockerfile": CONTAINER,
    },
  },
  'docs/history.md': {},
  'docs/install.md': {
    isTripped: true,
    files: () => ({ 'etc/safety.yaml': readFileSync('deploy/safety.yaml', 'utf8') }),
    exceptions: {
      'npm ci && npm run build': BUILDS,
      'deploy/install.sh --dry-run': INSTALLS,
      'sudo deploy/install.sh': INSTALLS,
      'systemctl status vsf-safety': SYSTEMD,
      'sudo vsf-safety check --config /etc/vsf-safety/safety.yaml': MAYBE_SAFE,
      'sudo vsf-safety config check /etc/vsf-safety/safety.yaml && sudo systemctl restart vsf-safety': SYSTEMD,
      'journalctl -u vsf-safety -o cat': SYSTEMD,
    },
  },
  'docs/kubernetes.md': {
    isTripped: true,
    exceptions: {
      "secret 'ca\\.crt' > /etc/vsf-safety/ca.crt": CLUSTER,
      'chown -R vsf-safety: /etc/vsf-safety': INSTALLS,
      'vsf-safety restore': CLUSTER,
      'vsf-safety restore --yes': CLUSTER,
    },
  },
  'docs/runbook.md': {
    isTripped: true,
    files: () => ({ 'etc/safety.yaml': readFileSync('deploy/safety.yaml', 'utf8') }),
    exceptions: {
      'vsf-safety check --config /etc/vsf-safety/safety.yaml': MAYBE_SAFE,
      'nvidia-smi --query-gpu=temperature.gpu,power.draw,memory.used --format=csv': { why: 'hardware' },
      'vsf-safety restore': CLUSTER,
      'vsf-safety restore --yes': CLUSTER,
    },
  },
  'docs/security.md': {},
  'docs/workloads.md': {
    files: () => ({ 'train.py': 'print("trained")\n', 'train.sh': ENDS, generator: ENDS }),
    exceptions: { 'systemd-run --user --scope -p Delegate=yes vsf-safety run -- ./generator': SYSTEMD },
  },
  'helm/README.md': {},
};

const CPU = [
  'node_time_seconds 1',
  'node_memory_MemTotal_bytes 6.4e+10',
  'node_memory_MemAvailable_bytes 6e+10',
  'node_cpu_seconds_total{cpu="0",mode="idle"} 100',
  '',
].join('\n');

function dcgm(): string {
  const labels = 'gpu="0",UUID="GPU-5fd4b087-86f3-4b29-9a9f-4a4c0d2b3c11",pci_bus_id="00000000:0B:00.0"';
  return `DCGM_FI_DEV_GPU_TEMP{${labels}} 55\nDCGM_FI_DEV_POWER_USAGE{${labels}} 150.25\n`;
}

const documents = markdownFiles().map((path) => readDocument(path));
const firstLine = ({ text }: PastedCommand): string => text.split('\n')[0] ?? '';

function commandsIn({ blocks }: MarkdownDocument, section?: string): PastedCommand[] {
  const shell = blocks.filter(
    (block) =>
      ['sh', 'bash', 'shell', 'console'].includes(block.language) && (section ?? block.section) === block.section,
  );
  return shell.flatMap(({ text, line }) => commandsOf(text, line));
}

/** Whatever calls these is of the reader's cluster, wherever it is written. */
const isOfCluster = ({ text }: PastedCommand): boolean =>
  callsOf(text).some(([program]) => /^(kubectl|helm|k3s)$/.test(program ?? ''));

function exceptionOf({ exceptions = {} }: Scene, command: PastedCommand): Exception | undefined {
  return exceptions[firstLine(command)] ?? (isOfCluster(command) ? CLUSTER : undefined);
}

/** Variables that a document sets are put where it uses them, as far as they are plain text. */
function expanded(commands: readonly PastedCommand[]): (text: string) => string {
  const variables = new Map<string, string>();
  for (const { text } of commands) {
    const [, name = '', quoted, bare] = /^(\w+)=(?:'([^']*)'|([^\s$;'"]*))$/.exec(text) ?? [];
    if (name !== '') variables.set(name, quoted ?? bare ?? '');
  }
  return (text) => text.replace(/\$(?:(\w+)|\{(\w+)\})/g, (whole, one, other) => variables.get(one ?? other) ?? whole);
}

t.test('every command of the documents names commands, options, routes, scripts and files that exist', async (t) => {
  let count = 0;
  for (const document of documents) {
    const commands = commandsIn(document);
    const expand = expanded(commands);
    const inText = document.spans.filter(({ text }) =>
      /^(sudo )?((npx )?vsf-safety [a-z-]+(?= |$)|npm (run|start) |curl .*:8470)/.test(text),
    );
    const spans = inText.map(({ text, line }) => ({ text: text.replace(/\[([^\]]*)\]/g, '$1'), line }));
    for (const { text, line } of [...commands, ...spans]) {
      for (const call of callsOf(expand(text))) {
        count++;
        t.same(await faultsOf(call), [], `${document.path}:${line} ${call.join(' ')}`);
      }
    }
  }
  t.ok(count > 150, `${count} calls`);
});

t.test('faultsOf() names what a call lacks', async (t) => {
  const faults: readonly [text: string, fault: RegExp | null][] = [
    ['vsf-safety statsu', /there is no command "statsu"/],
    ['npx vsf-safety status --nodes gpu1', /Unknown option '--nodes'; did you mean --node/],
    ['vsf-safety estop --reason', /argument is ambiguous/],
    ['sudo vsf-safety run --intensty 0.6 -- ./x --anything', /Unknown option '--intensty'/],
    ['vsf-safety run --intensity 0.6 -- ./x --anything', null],
    ['npm run openaip', /no script "openaip"/],
    ['npm start -- --sauce simulated', /Unknown option '--sauce'/],
    ['curl -f http://127.0.0.1:8470/preflght', /no GET \/preflght/],
    ['curl -X PUT http://127.0.0.1:8470/estop', /no PUT \/estop/],
    ["curl -d '{}' http://127.0.0.1:8470/leases/x", /no POST \/leases\/x/],
    ['kubectl apply -f helm/rbac/role.yaml', /there is no helm\/rbac\/role.yaml/],
    ['helm install x ./helm --set replica=2', /values.yaml has no replica/],
    ['helm install x ./helm --set image.tag=2', null],
  ];
  for (const [text, fault] of faults) {
    const [call = []] = callsOf(text);
    const found = (await faultsOf(call)).join();
    t.ok(fault === null ? found === '' : fault.test(found), `${text}: ${found}`);
  }
});

t.test('the table of what is not run lists only what is written', (t) => {
  for (const [path, { exceptions = {} }] of Object.entries(SCENES)) {
    const document = documents.find((one) => one.path === path);
    const written = document ? commandsIn(document).map(firstLine) : [];
    t.same(
      Object.keys(exceptions).filter((command) => !written.includes(command)),
      [],
      path,
    );
  }
  t.end();
});

t.test('every command that can be run does what its document says', { skip: lacksPrograms, jobs: 4 }, async (t) => {
  for (const document of documents) {
    const scene = SCENES[document.path] ?? {};
    const sections = scene.hasSections ? new Set(document.blocks.map(({ section }) => section)) : [undefined];
    for (const section of sections) {
      const commands = commandsIn(document, section).filter(
        (command) => !('why' in (exceptionOf(scene, command) ?? {})),
      );
      if (commands.length === 0) continue;
      const name = section === undefined ? document.path : `${document.path}, ${section}`;
      void t.test(name, { buffered: true }, (t) => follow(t, document, scene, commands));
    }
  }
});

/** Asks no service: works on its own, or on an address that is another one's. A session of such alone needs none. */
const ALONE =
  /^(vsf-safety (check|config|explain|token) |curl .*http:\/\/10\.|(cat|cut|df|du|head|jq|mkdir|printf|sha256sum) )/;

/** Where in doubt, yes. */
const asksService = ({ text }: PastedCommand): boolean => {
  const calls = callsOf(text).map((call) => `${call.filter((word) => word !== 'npx' && word !== 'sudo').join(' ')} `);
  return text.includes(':8470') || calls.length === 0 || !calls.every((call) => ALONE.test(call));
};

/** Does as the document says, from its first command to its last. */
async function follow(
  t: Test,
  document: MarkdownDocument,
  scene: Scene,
  commands: readonly PastedCommand[],
): Promise<void> {
  const [node, gpus] = await Promise.all([CPU, dcgm()].map((text) => standInExporter(t, says(text))));
  const session = await startSession(t, {
    files: scene.files?.(document) ?? {},
    shorter: scene.shorter ?? {},
    hasService: scene.isTripped === true || commands.some(asksService),
    exporters: { '10.0.0.7:9100': `127.0.0.1:${node?.port}`, '10.0.0.7:9400': `127.0.0.1:${gpus?.port}` },
  });
  if (scene.isTripped && session.service) await trip(session.service);
  const outcomes = await paste(
    t,
    session,
    commands.map((command) => ({ text: command.text, endless: 'says' in (exceptionOf(scene, command) ?? {}) })),
  );
  for (const [index, command] of commands.entries()) {
    const outcome = outcomes[index] ?? { code: null, out: '', err: '', statuses: [] };
    const name = `${document.path}:${command.line} ${firstLine(command)}`;
    t.same(disappointments(command, exceptionOf(scene, command), outcome), [], name);
  }
}

async function trip(service: RealService): Promise<void> {
  await service.post('/estop', { reason: 'smoke' });
  await service.until(
    'a verified stop',
    () => service.get('/estop'),
    ({ body }) => body.report?.state === 'verified',
  );
}

/** In what a command did not do what the document says; what it wrote is added. */
function disappointments({ comment }: PastedCommand, exception: Exception | undefined, outcome: Outcome): string[] {
  const found: string[] = [];
  const { code, out, err, statuses } = outcome;
  const status = /^(\d{3})\b/.exec(comment)?.[1];
  const exit = /^exit (\d+)\b/.exec(comment)?.[1];
  if (exception !== undefined && 'says' in exception) {
    if (!exception.says.test(out)) found.push(`does not say ${exception.says}`);
  } else {
    const exits = exception !== undefined && 'exits' in exception ? exception.exits : [Number(exit ?? 0)];
    if (code === null || !exits.includes(code)) found.push(`ends with ${code}, not ${exits.join(' or ')}`);
  }
  const wrong = statuses.filter((one) => (status === undefined ? one >= 400 : one !== Number(status)));
  if (wrong.length > 0) found.push(`is answered with ${wrong.join()}, not ${status ?? 'below 400'}`);
  if (status !== undefined && statuses.length === 0) found.push(`asks nothing that could be answered with ${status}`);
  return found.length === 0 ? [] : [...found, out.slice(-1500), err.slice(-1500)];
}
