// `vsf-safety commission`: the acceptance test of a new machine or cluster, step by step, by the running service's own
// answers, since that is what will protect. It ends in a report that the service keeps. What each step looks at is in
// commission-looks.ts, commission-watch.ts and commission-canary.ts.
import { mkdir, writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { COMMISSION_NAME, COMMISSION_STEPS, type CommissionVerdict, commissionVerdict } from '../domain/commission.ts';
import { commissionText } from '../http/commission-text.ts';
import type { CommissionReport } from '../http/parts.ts';
import type { DrillAnswerSchema, Told } from '../http/schemas.ts';
import type { Status } from '../http/status-view.ts';
import { VERSION } from '../version.ts';
import { CLIENT_HELP, CLIENT_OPTIONS, ServiceClient } from './client.ts';
import { othersOf, stopCanary } from './commission-canary.ts';
import { clusterStep, inventoryStep, limitsStep, type Readiness, serviceStep } from './commission-looks.ts';
import { CommissionScreen } from './commission-screen.ts';
import {
  type CommissionInput,
  counted,
  resetCommand,
  STEP_TITLES,
  StepDraft,
  type StepReport,
} from './commission-step.ts';
import { CommissionWatch } from './commission-watch.ts';
import { type Command, CommandFailed, EXIT, type Io, readArguments, readSeconds } from './io.ts';
import { printable, writeJson, writeLines } from './layout.ts';
import { isStatus } from './status.ts';

const DEFAULT_WATCH_SECONDS = 60;
/** Often enough to see each evaluation; the status of a large cluster is large. */
const LOOK_EVERY_MS = 1_000;
const LOOK_EVERY_LARGE_MS = 5_000;
const LARGE_NODES = 100;
const MOST_NODES_TOLD = 300;

const help = `\
Usage: vsf-safety commission [--watch SECONDS] [--yes] [--by NAME] [options]

The acceptance test of a new machine or cluster, by its running service, in 8 steps: the service,
nodes and sensors, limits against what the hardware says of itself, dead or frozen sensors, intervals
of the sources, rights in the cluster, a drill, and a live stop of a canary: a process that does
nothing, started under a lease of its own, stopped by a real emergency stop, with times. Its trip is
reset at once. The service keeps the report, as JSON and in words, and /status refers to it.

The live stop trips the canary's node. It is left out where anything else runs there, and is done only
when you say yes. Needs the operator's token. Takes about two minutes, in a cluster three.

Options:
  --watch SECONDS    how long sensors are watched, 1 to 3600 (default ${DEFAULT_WATCH_SECONDS})
  --canary SCOPE     node (default): trip the canary's node; all: trip everything; none: no live stop
  --node NODE        the node that this machine is, where its name does not tell
  --yes              do not ask before the live stop
  --by NAME          who tests (default: the user's name)
  --output DIR       write the report there, too
  --dry-run          list the steps and touch nothing
${CLIENT_HELP.replace("print the service's answer as JSON", 'print the report as JSON; what happens goes to standard error')}

Exit code: 0 accepted, with warnings or without; 75 rejected; 1 not finished, or the report not kept.

Examples:
  vsf-safety commission --by "J. Doe"
  vsf-safety commission --yes --watch 300 --output ./acceptance
  vsf-safety commission --canary none --json | jq .verdict
`;

const OPTIONS = {
  ...CLIENT_OPTIONS,
  watch: { type: 'string', default: String(DEFAULT_WATCH_SECONDS) },
  canary: { type: 'string', default: 'node' },
  node: { type: 'string' },
  yes: { type: 'boolean' },
  by: { type: 'string' },
  output: { type: 'string' },
  'dry-run': { type: 'boolean' },
} as const;

/** A terminal that is closed interrupts, too: the trip of a test must not be left behind without a word. */
const INTERRUPTIONS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const SCOPES = ['node', 'all', 'none'] as const;

export const command: Command = {
  help,
  async run(args, io) {
    const { values } = readArguments(args, OPTIONS);
    const watchSeconds = readSeconds('watch', values.watch, 1, 3600);
    const scope = SCOPES.find((one) => one === values.canary);
    if (scope === undefined) {
      throw new CommandFailed(`--canary is ${JSON.stringify(values.canary)}: must be node, all or none`, EXIT.usage);
    }
    const operator = printable(values.by ?? userName(io))
      .trim()
      .slice(0, 200);
    if (operator === '') throw new CommandFailed('--by is empty: say who tests', EXIT.usage);
    const client = await ServiceClient.from(values, io);
    if (values['dry-run']) {
      writeLines(io.stdout, planLines(client.url, watchSeconds, scope));
      return EXIT.ok;
    }
    const interruption = new AbortController();
    const interrupt = (): void => interruption.abort();
    for (const signal of INTERRUPTIONS) process.on(signal, interrupt);
    try {
      if (values.output !== undefined) await makeFolder(values.output);
      const screen = new CommissionScreen(values.json ? { ...io, stdout: io.stderr } : io, COMMISSION_STEPS.length);
      const { node = null, yes = false } = values;
      const test = new Commission({ client, io, screen, watchSeconds, scope, node, yes, signal: interruption.signal });
      const found = await test.run(operator);
      const kept = await keep(client, found);
      if (values.output !== undefined) await writeTo(values.output, kept);
      if (values.json) writeJson(io.stdout, kept);
      screen.end(kept, values.output);
      return kept.verdict === 'rejected' ? EXIT.refused : EXIT.ok;
    } finally {
      for (const signal of INTERRUPTIONS) process.off(signal, interrupt);
    }
  },
};

interface Parts {
  readonly client: ServiceClient;
  readonly io: Io;
  readonly screen: CommissionScreen;
  readonly watchSeconds: number;
  readonly scope: (typeof SCOPES)[number];
  readonly node: string | null;
  readonly yes: boolean;
  readonly signal: AbortSignal;
}

class Commission {
  readonly #parts: Parts;
  readonly #steps: StepReport[] = [];
  readonly #watch = new CommissionWatch();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async run(operator: string): Promise<CommissionInput> {
    const { client, io, signal } = this.#parts;
    const startedAt = stamp(io);
    const first = await this.#status();
    // A mistake is told now, and not after minutes.
    this.#nodeOf(first);
    await this.#step('service', async () => serviceStep(first, client.url, await this.#readiness()));
    await this.#step('inventory', async () => inventoryStep(first));
    await this.#step('limits', async () => limitsStep(first));
    await this.#step('sensors', () => this.#watchSensors());
    await this.#step('intervals', async () => this.#watch.intervals());
    await this.#step('cluster', async () => clusterStep(await this.#status()));
    await this.#step('drill', () => this.#drill());
    await this.#step('canary', () => this.#stopCanary());
    if (signal.aborted) throw interrupted(null);
    const { nodes, constraints } = first;
    return {
      verdict: commissionVerdict(this.#steps),
      operator,
      host: io.hostname,
      clientVersion: VERSION,
      startedAt,
      finishedAt: stamp(io),
      profile: constraints.profile,
      constraintsDigest: constraints.digest,
      nodes: nodes.slice(0, MOST_NODES_TOLD).map(({ node }) => node),
      nodesTotal: nodes.length,
      steps: this.#steps,
    };
  }

  async #step(id: StepReport['id'], attempt: () => Promise<StepDraft>): Promise<void> {
    const { io, screen, signal } = this.#parts;
    if (signal.aborted) throw interrupted(null);
    screen.begin(STEP_TITLES[id]);
    const startMs = io.clock.now().elapsedMs;
    const draft = await attempt();
    if (signal.aborted && id !== 'canary') throw interrupted(null);
    const report = draft.report(io.clock.now().elapsedMs - startMs);
    this.#steps.push(report);
    screen.result(report);
  }

  async #status(): Promise<Status> {
    const { client } = this.#parts;
    const { body } = await client.ask({ method: 'GET', path: '/status', needs: 'operator', expects: [200] });
    if (!isStatus(body)) throw new CommandFailed(`${client.url} did not answer with a status; is it vsf-safety?`);
    return body;
  }

  async #readiness(): Promise<Readiness> {
    const { client } = this.#parts;
    const answer = await client.ask({ method: 'GET', path: '/readyz', needs: 'anybody', expects: [200, 503] });
    const { reasons = [] } = answer.body as { readonly reasons?: readonly string[] };
    return { ready: answer.status === 200, reasons };
  }

  async #watchSensors(): Promise<StepDraft> {
    const { io, screen, watchSeconds, signal } = this.#parts;
    const startMs = io.clock.now().elapsedMs;
    const passedSeconds = (): number => (io.clock.now().elapsedMs - startMs) / 1000;
    while (!signal.aborted) {
      const status = await this.#status();
      this.#watch.add(status);
      const left = watchSeconds - passedSeconds();
      if (left <= 0) break;
      screen.live(`watching, ${Math.ceil(left)} s to go`);
      const everyMs = status.nodes.length > LARGE_NODES ? LOOK_EVERY_LARGE_MS : LOOK_EVERY_MS;
      await io.clock.sleep(Math.min(everyMs, left * 1000), signal);
    }
    return this.#watch.sensors(passedSeconds());
  }

  async #drill(): Promise<StepDraft> {
    const { client, io } = this.#parts;
    const step = new StepDraft('drill');
    const status = await this.#status();
    for (const [name, { available, detail }] of Object.entries(status.actuators)) {
      if (!available) step.fail(`Workloads cannot be stopped by ${name}: ${detail}`);
    }
    const startMs = io.clock.now().elapsedMs;
    const body = { drill: true };
    const expects = [200, 401, 403];
    const answer = await client.ask({ method: 'POST', path: '/estop', body, needs: 'operator', expects });
    if (answer.status !== 200) return step.skip(`it is an operator’s: ${detailOf(answer.body)}`);
    const tookMs = io.clock.now().elapsedMs - startMs;
    const { entries } = answer.body as Told<typeof DrillAnswerSchema>;
    for (const { name, detail, state } of entries) {
      if (state === 'failed') step.fail(`It is not known what ${name} would stop: ${detail ?? ''}`);
    }
    const targets = entries.filter(({ state }) => state !== 'failed');
    step.figure('tookMs', tookMs);
    step.figure('targets', targets.length);
    step.table(
      'What a stop would end',
      ['KIND', 'NAME', 'NODE', 'HOW', 'TOOK'],
      targets.map(({ kind, name, node = '', how, tookMs: each }) => [kind, name, node, how, `${each} ms`]),
    );
    const what = targets.length === 0 ? 'nothing, since nothing runs' : counted(targets.length, 'target');
    const ways = Object.keys(status.actuators).join(' and ') || 'nothing';
    return step.say(`a stop of everything would end ${what}; ${ways} answered within ${Math.round(tookMs)} ms`);
  }

  async #stopCanary(): Promise<StepDraft> {
    const { client, io, screen, scope, yes, signal } = this.#parts;
    const step = new StepDraft('canary');
    if (scope === 'none') return step.skip('by --canary none; pods and processes are covered by the drill alone');
    const status = await this.#status();
    const node = this.#nodeOf(status);
    if (status.caller && status.caller.role !== 'operator') return step.skip('it is an operator’s');
    if (status.interlock.state !== 'clear')
      return step.skip(`the interlock is ${status.interlock.state}: nothing may start`);
    if (node === null) {
      return step.skip(
        `this machine, ${io.hostname}, is none of its nodes: run it on one of them, or say which by --node`,
      );
    }
    const others = othersOf(status, { node, scope }, null);
    if (others.length > 0) {
      const named = others.slice(0, 3).join(', ');
      const where = scope === 'all' ? 'anywhere' : `on ${node}`;
      return step.skip(
        `it would end what is no canary: ${counted(others.length, 'workload')} may run ${where} (${named}); again when nothing runs`,
      );
    }
    if (!yes) {
      if (!io.confirm)
        return step.skip('nobody was asked, since there is no terminal: --yes does it without a question');
      screen.pause();
      const what = scope === 'all' ? 'everything' : node;
      const question = `      The live stop trips ${what} for some seconds: nothing may start there meanwhile, and the canary alone is ended. Go on?`;
      const isWanted = await io.confirm(question, signal);
      if (signal.aborted) throw interrupted(null);
      if (!isWanted) return step.skip('not wanted by who was asked');
    }
    screen.live('a canary is started, stopped, and the stop verified');
    const { step: tried, tripLeft, isInterrupted } = await stopCanary({ client, io, node, scope, signal });
    if (isInterrupted) throw interrupted(tripLeft);
    if (status.cluster) tried.note('No pod was stopped live: the drill covers pods and their controllers');
    return tried;
  }

  /** The node that this machine is, as far as can be told. */
  #nodeOf({ nodes }: Status): string | null {
    const { node, io } = this.#parts;
    const names = nodes.map((one) => one.node);
    if (node !== null && !names.includes(node)) {
      throw new CommandFailed(
        `--node is ${JSON.stringify(node)}: the service knows ${names.slice(0, 10).join(', ')}`,
        EXIT.usage,
      );
    }
    if (node !== null) return node;
    return names.length === 1 ? (names[0] ?? null) : (names.find((name) => name === io.hostname) ?? null);
  }
}

function interrupted(tripLeft: string | null): CommandFailed {
  const left =
    tripLeft === null ? 'nothing is left behind' : `the trip of this test is still on: ${resetCommand(tripLeft)}`;
  return new CommandFailed(`Interrupted, no report was made; ${left}`);
}

/** Hands the report in. */
async function keep(client: ServiceClient, found: CommissionInput): Promise<CommissionReport> {
  const asked = { method: 'POST', path: '/commission', body: found, needs: 'operator', expects: [201] } as const;
  try {
    return (await client.ask(asked)).body as CommissionReport;
  } catch (error) {
    if (!(error instanceof CommandFailed)) throw error;
    const verdict: CommissionVerdict = found.verdict;
    throw new CommandFailed(`The test ended with "${verdict}", and the report was not kept: ${error.message}`);
  }
}

async function makeFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true }).catch((error: NodeJS.ErrnoException) => {
    throw new CommandFailed(`Cannot make --output ${folder}: ${error.code ?? error.message}`);
  });
}

async function writeTo(folder: string, report: CommissionReport): Promise<void> {
  // A file's name that somebody else says, written where the operator may write.
  if (!COMMISSION_NAME.test(report.name)) {
    throw new CommandFailed(
      `The report is not written to ${folder}: the service calls it ${JSON.stringify(report.name)}`,
    );
  }
  const path = join(folder, report.name);
  try {
    await writeFile(`${path}.json`, `${JSON.stringify(report, null, 2)}\n`);
    await writeFile(`${path}.md`, commissionText(report));
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new CommandFailed(`The report is kept by the service, and cannot be written to ${path}.json: ${why}`);
  }
}

function planLines(url: string, watchSeconds: number, scope: Parts['scope']): string[] {
  const what: Readonly<Record<StepReport['id'], string>> = {
    service: 'version, readiness, interlock, journal, who asks',
    inventory: 'each GPU, CPU sensor, total power and memory; what is expected and missing',
    limits: 'hard stops against each card’s own slowdown and power limits',
    sensors: `${watchSeconds} s: which readings move, which witnesses advance`,
    intervals: 'ages of readings against the interval and the bounds',
    cluster: 'what a stop may do there, the latch, the deny rule; where Kubernetes is on',
    drill: 'what an emergency stop would end now, with times; touches nothing',
    canary:
      scope === 'none'
        ? 'left out (--canary none)'
        : `starts a process that does nothing, trips ${scope === 'all' ? 'everything' : 'its node'}, resets; only where nothing else runs, after a question`,
  };
  const rows = COMMISSION_STEPS.map(
    (id, index) => `[${index + 1}/${COMMISSION_STEPS.length}] ${STEP_TITLES[id]}: ${what[id]}`,
  );
  return [`Would test the service at ${url}:`, ...rows, 'Nothing was asked and nothing was touched.'];
}

const detailOf = (body: unknown): string => String((body as { readonly detail?: unknown }).detail ?? '');
const stamp = ({ clock }: Io): string => new Date(clock.now().wallMs).toISOString();

function userName({ env }: Io): string {
  try {
    return env['SUDO_USER'] || userInfo().username;
  } catch {
    return 'unknown';
  }
}
