// Exporters over real HTTP in front of the real decide(): bodies are served by a real server, asked for by the exporter
// source, and what it reports is judged in a domain world, all on one manual clock. One exporter is what a test is about;
// a second one of the same node, always in good health, tells whatever else a node must tell, so that nothing but the
// first decides.
import { existsSync, readFileSync } from 'node:fs';
import type { RequestListener } from 'node:http';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { Quantity, SourceReport } from '../../src/domain/reading.ts';
import type { Action, SafetyResult } from '../../src/domain/result.ts';
import type { NodeSettings } from '../../src/domain/settings.ts';
import { readingStatusesOf } from '../../src/http/status-view.ts';
import { createExporter } from '../../src/sources/exporter.ts';
import { createHttpGetter } from '../../src/sources/http-get.ts';
import type { PowerOutlet } from '../../src/sources/power-series.ts';
import { createSeriesReader } from '../../src/sources/series-reader.ts';
import type { Source } from '../../src/sources/source.ts';
import { DomainWorld, NODE, worldSettings } from './domain-world.ts';
import { ManualClock } from './manual-clock.ts';
import { type StandInExporter, says, standInExporter } from './stand-in-exporter.ts';

/** What the healthy exporter beside the other tells; `null` leaves it to the other. */
export interface Beside {
  cpuC: number | null;
  cpuRatio: number | null;
  memoryRatio: number | null;
  /** Cards by UUID, with the quantities that the other exporter does not tell. */
  cards: Record<string, { temperatureC?: number; powerW?: number; memoryRatio?: number }>;
  /** Further lines. */
  also: string;
}

export interface RigOptions {
  /** What the exporter answers first: a body, or a way to answer. */
  readonly answer: string | RequestListener;
  readonly headers?: Record<string, string>;
  readonly status?: number;
  readonly beside?: Partial<Beside>;
  readonly node?: Partial<NodeSettings>;
  readonly outlets?: readonly PowerOutlet[];
}

/** Long enough for loopback, of a clock that stands still meanwhile. */
export const LOOK_MS = 8_000;

/** The source of an exporter at `url`, as the service makes it. */
export function exporterSource(t: Test, url: string, clock: ManualClock, outlets: readonly PowerOutlet[] = []): Source {
  const http = createHttpGetter({ clock });
  t.teardown(() => http.close());
  const reader = createSeriesReader({ tctlOffsetC: 0, zfsCacheIsAvailable: false, explains: false, outlets });
  const more = { allowedRanges: null, credentials: null, reader, version: '1.2.3' };
  return createExporter({ node: NODE, url, clock, get: http.get, ...more });
}

export class ExporterRig {
  readonly world: DomainWorld;
  readonly clock = new ManualClock();
  /** The exporter that the test is about. */
  readonly exporter: StandInExporter;
  /** What its neighbour tells; may be changed at any time. */
  readonly beside: Beside;
  readonly #startMs = this.clock.now().elapsedMs;
  readonly #sources: readonly [Source, Source];
  readonly #neighbour: StandInExporter;
  #reports: SourceReport[] = [];

  private constructor(
    exporter: StandInExporter,
    neighbour: StandInExporter,
    makeSource: (url: string, clock: ManualClock) => Source,
    options: RigOptions,
  ) {
    this.exporter = exporter;
    this.#neighbour = neighbour;
    this.beside = { cpuC: 52.125, cpuRatio: 0.2, memoryRatio: 0.4, cards: {}, also: '', ...options.beside };
    this.#sources = [makeSource(exporter.url, this.clock), makeSource(neighbour.url, this.clock)];
    this.world = new DomainWorld(worldSettings({}, options.node ?? {}), {});
    this.world.others = [() => this.#reportOf(0), () => this.#reportOf(1)];
    this.serve(options.answer, options.headers, options.status);
  }

  /**
   * A rig whose first look is made, at 0 s. The neighbour was seen a second earlier, too, so that it has a CPU share and
   * its clock has been seen to move.
   */
  static async start(t: Test, options: RigOptions): Promise<ExporterRig> {
    const unset: RequestListener = (_request, response) => response.destroy();
    const [exporter, neighbour] = [await standInExporter(t, unset), await standInExporter(t, unset)];
    const makeSource = (url: string, clock: ManualClock) => exporterSource(t, url, clock, options.outlets);
    const rig = new ExporterRig(exporter, neighbour, makeSource, options);
    rig.world.inventory();
    rig.#neighbour.answer = rig.#says(rig.#besideText());
    const report = await rig.#sources[1].read(rig.clock.now().elapsedMs + LOOK_MS);
    rig.world.submit({ kind: 'observed', why: 'tick', reports: [report] });
    await rig.#pass(1_000);
    await rig.tick();
    return rig;
  }

  /** From the next look on the exporter answers so. */
  serve(answer: string | RequestListener, headers: Record<string, string> = {}, status = 200): void {
    this.exporter.answer =
      typeof answer === 'function' ? answer : (...args) => this.#says(answer, headers, status)(...args);
  }

  /** Reads both exporters now. */
  async look(): Promise<void> {
    const deadlineMs = this.clock.now().elapsedMs + LOOK_MS;
    this.#neighbour.answer = this.#says(this.#besideText());
    this.#reports = await Promise.all(this.#sources.map((source) => source.read(deadlineMs)));
  }

  /** A tick now. */
  async tick(): Promise<SafetyResult> {
    await this.look();
    return this.world.tick();
  }

  /** Ticks once, so many seconds later. */
  async run(seconds: number): Promise<SafetyResult> {
    await this.#pass(seconds * 1000);
    return this.tick();
  }

  /** Ticks every 10 s for so many seconds; the actions. */
  async actionsFor(seconds: number): Promise<string[]> {
    const actions: string[] = [];
    for (let left = seconds; left > 0; left -= 10) actions.push((await this.run(Math.min(left, 10))).action);
    return actions;
  }

  /** Ticks at so many seconds since the first look; every 10 s on the way. */
  async until(seconds: number): Promise<SafetyResult> {
    while (this.seconds < seconds) await this.run(Math.min(10, seconds - this.seconds));
    return this.world.result;
  }

  /** Since the first look. */
  get seconds(): number {
    return (this.clock.now().elapsedMs - this.#startMs) / 1000 - 1;
  }

  /** Whether a workload may start now, by readings of now. */
  async preflight(): Promise<SafetyResult> {
    await this.look();
    return this.world.preflight().result;
  }

  /** From now on a labelled pod runs on the node. */
  load(): void {
    this.world.inventory([{ kind: 'pod', node: NODE, name: 'vsf/burner-0' }], true);
  }

  /** A second later the machine sleeps, or its clock is set: wall time goes on by so much, monotonic time does not. */
  async jumpWall(ms: number): Promise<void> {
    await this.#pass(1_000);
    this.clock.jumpWall(ms);
    this.world.wallMs += ms;
    this.world.submit({ kind: 'clock-looked' });
  }

  /** What a running workload is judged by: the value, or the cause of its absence. */
  shown(component: string, quantity: Quantity, id?: string): number | string | undefined {
    const reading = this.#statuses().find(
      (r) => r.component === component && r.quantity === quantity && r.id === id && !r.informational,
    );
    return reading?.value ?? reading?.missing;
  }

  /** Everything that is judged of cards and CPU chips and in total, as `gpu/GPU-…/power` to value or cause. */
  all(): Record<string, number | string | undefined> {
    const judged = this.#statuses().filter(({ informational }) => !informational);
    return Object.fromEntries(
      judged.map(({ component, id, quantity, value, missing }) => {
        const rounded = value === undefined ? missing : Math.round(value * 1000) / 1000;
        return [`${component}/${id === undefined ? '' : `${id}/`}${quantity}`, rounded];
      }),
    );
  }

  /** Shown beside what is judged: values of one quantity, or why there is none. */
  informational(quantity: Quantity): (number | string | undefined)[] {
    return this.#statuses().flatMap((r) => (r.informational && r.quantity === quantity ? [r.value ?? r.missing] : []));
  }

  /** How old the sample of a judged reading is, s. */
  ageSeconds(component: string, quantity: Quantity, id?: string): number | undefined {
    return this.#statuses().find((r) => r.component === component && r.quantity === quantity && r.id === id)
      ?.ageSeconds;
  }

  /** What the exporter's last look gave. */
  get report(): SourceReport {
    return this.#reportOf(0);
  }

  get cards(): string[] {
    return [...(this.world.state.nodes.get(NODE)?.watch.gpus.listed.keys() ?? [])];
  }

  #statuses() {
    const { state } = this.world;
    const node = state.nodes.get(NODE);
    return node ? readingStatusesOf(state, node, this.clock.now()) : [];
  }

  #reportOf(place: number): SourceReport {
    const report = this.#reports[place];
    if (!report) throw new Error('nothing has been read yet');
    return report;
  }

  async #pass(ms: number): Promise<void> {
    await this.clock.advance(ms);
    this.world.pass(ms);
  }

  /** With the manual clock's `Date`. */
  #says(text: string, headers: Record<string, string> = {}, status = 200): RequestListener {
    const date = new Date(this.clock.now().wallMs).toUTCString();
    return says(text, { date, ...headers }, status);
  }

  #besideText(): string {
    const { cpuC, cpuRatio, memoryRatio, cards, also } = this.beside;
    const { elapsedMs, wallMs } = this.clock.now();
    const seconds = elapsedMs / 1000;
    const lines = [`node_time_seconds ${wallMs / 1000}`];
    if (cpuC !== null) {
      lines.push('node_hwmon_chip_names{chip="platform_coretemp_0",chip_name="coretemp"} 1');
      lines.push(`node_hwmon_temp_celsius{chip="platform_coretemp_0",sensor="temp1"} ${cpuC}`);
    }
    if (cpuRatio !== null) {
      lines.push(`node_cpu_seconds_total{cpu="0",mode="user"} ${seconds * cpuRatio}`);
      lines.push(`node_cpu_seconds_total{cpu="0",mode="idle"} ${seconds * (1 - cpuRatio)}`);
    }
    if (memoryRatio !== null) {
      lines.push('node_memory_MemTotal_bytes 1e11', `node_memory_MemAvailable_bytes ${1e11 * (1 - memoryRatio)}`);
    }
    for (const [uuid, card] of Object.entries(cards)) {
      const say = (name: string, value: number): number => lines.push(`DCGM_FI_DEV_${name}{UUID="${uuid}"} ${value}`);
      if (card.temperatureC !== undefined) say('GPU_TEMP', card.temperatureC);
      if (card.powerW !== undefined) say('POWER_USAGE', card.powerW);
      if (card.memoryRatio !== undefined) {
        say('FB_USED', 24_000 * card.memoryRatio);
        say('FB_FREE', 24_000 * (1 - card.memoryRatio));
      }
    }
    return `${lines.join('\n')}\n${also}`;
  }
}

/** Findings as `code component/id/quantity action`, sorted; without those of the interlock, which follow from them. */
export function findingsOf(result: SafetyResult): string[] {
  return result.findings
    .filter(({ component }) => component !== 'interlock')
    .map((f) => {
      // A source's name is its URL, with a port of this run.
      const what = f.component === 'monitor' ? 'monitor' : `${f.component}/${f.id ?? ''}/${f.quantity ?? ''}`;
      return `${f.code} ${what} ${f.action}`;
    })
    .sort();
}

/** What a body must come to. */
export interface Outcome extends Omit<RigOptions, 'answer'> {
  /** With another type or status than an exporter's. */
  readonly contentType?: string;
  readonly status?: number;
  readonly action: Action;
  /** As {@link findingsOf} tells them; none unless given. */
  readonly findings?: readonly string[];
  /** Of what is judged: value, or cause of absence; `undefined` for what must not be there. */
  readonly shown?: Record<string, number | string | undefined>;
  /** What is to be seen besides. */
  readonly also?: (t: Test, rig: ExporterRig) => unknown;
}

/** Serves `body` for three looks: what the node is judged by then, and what a start is told. */
export async function comesOut(t: Test, body: string, outcome: Outcome): Promise<void> {
  const headers = outcome.contentType === undefined ? {} : { 'content-type': outcome.contentType };
  const rig = await ExporterRig.start(t, { ...outcome, answer: body, headers, status: outcome.status ?? 200 });
  await rig.run(2);
  const { action, safe } = await rig.run(2);
  t.equal(action, outcome.action);
  t.equal(safe, action === 'PROCEED');
  t.same(findingsOf(rig.world.result), [...(outcome.findings ?? [])].sort());
  const all = rig.all();
  for (const [key, value] of Object.entries(outcome.shown ?? {})) t.equal(all[key], value, key);
  t.equal((await rig.preflight()).safe, action === 'PROCEED', 'a start is told the same');
  t.equal(rig.world.state.trips.size > 0, action === 'ABORT', 'tripped by a hard stop and by nothing else');
  await outcome.also?.(t, rig);
}

/** Bodies that are wrong in one way, each of which must come to the same. */
export interface Variant extends Outcome {
  /** The reports that they are like. */
  readonly kinds: string;
  readonly title: string;
  readonly bodies: readonly string[];
}

/** A test of each, with a subtest of each body. */
export function comeOut(t: Test, variants: readonly Variant[]): void {
  for (const { kinds, title, bodies, ...outcome } of variants) {
    t.test(`decide() over HTTP, like ${kinds}: ${title}`, async (t) => {
      for (const body of bodies) {
        await t.test(JSON.stringify(body.slice(0, 150)), (t) => comesOut(t, body, outcome));
      }
    });
  }
}

/** A file beside the project that is no part of it; `null` where it is not there. */
export function sharedFile(folder: 'cases' | 'recordings', file: string): string | null {
  const path = join(process.cwd(), '../shared', folder, file);
  return existsSync(path) ? readFileSync(path, 'utf8') : null;
}

/** A file of several bodies, split at its lines `# @scrape t=+10s`: seconds and body of each. */
export function scrapesIn(text: string): { readonly seconds: number; readonly body: string }[] {
  return [...text.matchAll(/^# @scrape t=\+(\d+)s\n([\s\S]*?)(?=^# @scrape|$(?![\s\S]))/gm)].map(
    ([, seconds = '', body = '']) => ({ seconds: Number(seconds), body }),
  );
}

/** A timeline of lines `t=10 gpu0.temp=78`: each line's pairs. */
export function timelineIn(text: string): Record<string, string>[] {
  return text
    .trim()
    .split('\n')
    .map((line) => Object.fromEntries(line.split(' ').map((pair) => pair.split('='))));
}
