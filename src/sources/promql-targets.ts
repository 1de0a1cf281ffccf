// Series of a Prometheus server sorted by the target that they were scraped from, and each target's made a scrape as if
// this service had scraped it when the server did: the same series engines read both. What the server added to the
// labels is taken off again, so that an engine sees what the exporter wrote.
import { MOST_NODES, MOST_TARGETS_PER_NODE } from './discovery.ts';
import { numberOf, type PromSeries } from './promql-answer.ts';
import type { Held } from './promql-client.ts';
import { type NodeNames, nodeLabelOf } from './promql-nodes.ts';
import { CPU_COUNT, CPU_STAMP, CPU_TIME, UP } from './promql-queries.ts';
import type { Labels, Sample, Scrape } from './scrape.ts';

/**
 * A scrape is all there after this. Its samples are stored, or sent on by remote write, a little after its stamp, and
 * not all at once: a Prometheus sends what it has every 5 s.
 */
const SETTLED_AFTER_MS = 8_000;
const MOST_PROBLEMS = 50;
/** Some 10 ms of work. */
const SERIES_AT_ONCE = 5_000;
/** Exporters that ask a device on behalf of a node: what they call `instance` is a BMC, and no node. */
const OF_DEVICE = /^(ipmi|idrac|redfish)_/;

export interface GroupRules {
  readonly nodeLabels: readonly string[];
  readonly names: NodeNames;
  /**
   * Nodes that a series of a power outlet is read for, by its name: its own labels name the PDU. A node's outlets are
   * one target, since they are on several PDUs and only their sum is a reading.
   */
  readonly outlets: ReadonlyMap<string, readonly string[]>;
  readonly windowMs: number;
}

/** What the server has of one target on one node. */
export interface TargetSeries {
  readonly key: string;
  readonly node: string;
  readonly job: string;
  readonly instance: string;
  readonly of: 'target' | 'outlets';
  /** The newest sample of each series. */
  readonly samples: StampedSample[];
  /** The series `up` of the target: several after it was started anew, or when several servers scrape it. */
  readonly ups: readonly PromSeries[];
}

export interface StampedSample extends Sample {
  readonly timestampMs: number;
}

export interface Grouped {
  readonly targets: ReadonlyMap<string, TargetSeries>;
  readonly byNode: ReadonlyMap<string, readonly TargetSeries[]>;
  /** Series that are nobody's, one line each. */
  readonly problems: readonly string[];
}

/**
 * Sorts an answer.
 *
 * @param pause lets the rest of the service work between two pieces
 */
export async function groupByTarget(
  { raw, cpu, evaluatedAtMs }: Held,
  rules: GroupRules,
  pause: () => Promise<void>,
): Promise<Grouped> {
  const problems = new Map<string, number>();
  const complain = (problem: string): void => {
    const count = problems.get(problem);
    if (count !== undefined || problems.size < MOST_PROBLEMS) problems.set(problem, (count ?? 0) + 1);
  };
  const ups = new Map<string, PromSeries[]>();
  for (const series of raw) {
    if (series.metric['__name__'] !== UP) continue;
    const key = scrapedAs(series.metric);
    ups.set(key, [...(ups.get(key) ?? []), series]);
  }
  const targets = new Map<string, TargetSeries>();
  const byNode = new Map<string, TargetSeries[]>();
  const targetAt = (node: string, metric: PromSeries['metric'], of: TargetSeries['of']): TargetSeries | null => {
    const { job, instance } = of === 'outlets' ? { job: '', instance: '' } : scrapedFrom(metric);
    const key = [of, node, job, instance].join('\0');
    const known = targets.get(key);
    if (known) return known;
    const own = byNode.get(node) ?? [];
    if (own.length === 0 && byNode.size >= MOST_NODES)
      complain(`more than ${MOST_NODES} nodes: the others are not read`);
    else if (own.length >= MOST_TARGETS_PER_NODE)
      complain(`node ${node}: only ${MOST_TARGETS_PER_NODE} targets are read`);
    else {
      const same = of === 'outlets' ? [] : (ups.get(scrapedAs(metric)) ?? []);
      const target = { key, node, job, instance, of, samples: [], ups: upsOfNode(same, metric, rules.nodeLabels) };
      targets.set(key, target);
      byNode.set(node, [...own, target]);
      return target;
    }
    return null;
  };
  const nodeOf = (metric: PromSeries['metric']): readonly string[] => {
    const value = nodeLabelOf(metric, rules.nodeLabels);
    const answer = value === null ? null : rules.names.nodeOf(value);
    if (answer?.ok) return [answer.node];
    const where = `${metric['job'] ?? 'no job'}/${metric['instance'] ?? 'no instance'}`;
    complain(`${where} is nobody's: ${answer?.why ?? `it has none of the labels ${rules.nodeLabels.join(', ')}`}`);
    return [];
  };
  for (const [index, { metric, values }] of raw.entries()) {
    if (index % SERIES_AT_ONCE === SERIES_AT_ONCE - 1) await pause();
    const name = metric['__name__'];
    const newest = values.at(-1);
    if (name === undefined || name === UP || !newest) continue;
    const fed = rules.outlets.get(name);
    for (const node of fed ?? nodeOf(metric)) {
      const target = targetAt(node, metric, fed ? 'outlets' : 'target');
      const labels = fed ? labelsOf(Object.entries(metric)) : ownLabels(metric, target?.ups[0]?.metric ?? {});
      target?.samples.push({ name, labels, value: numberOf(newest[1]), timestampMs: toMs(newest[0]) });
    }
  }
  for (const one of cpuTimes(cpu, evaluatedAtMs - rules.windowMs)) {
    for (const node of nodeOf(one.metric)) targetAt(node, one.metric, 'target')?.samples.push(...one.samples);
  }
  for (const [node, own] of byNode) {
    // A device alone makes no node: nothing else is known of it, and all that is required would be missing for ever.
    if (rules.names.isConfigured(node) || !own.every(isOfDevice)) continue;
    byNode.delete(node);
    for (const { key, job, instance } of own) {
      targets.delete(key);
      complain(`${job}/${instance} tells of a device and not of which node's: it needs a label ${rules.nodeLabels[0]}`);
    }
  }
  const lines = [...problems].map(([problem, count]) => (count > 1 ? `${problem} (${count} series)` : problem));
  return { targets, byNode, problems: lines };
}

/** A scrape of the target at `atMs` (Unix, the server's), or why there is none. */
export type TargetScrape =
  | { readonly kind: 'scraped'; readonly scrape: Scrape; readonly newestMs: number }
  | { readonly kind: 'failed'; readonly detail: string }
  | { readonly kind: 'empty' };

/**
 * The newest scrape of a target, under its own time.
 *
 * @param evaluatedAtMs the server's time of the answer, Unix ms
 * @param elapsedMs monotonic time of the same moment, or a little before
 */
export function scrapeOf(target: TargetSeries, evaluatedAtMs: number, elapsedMs: number): TargetScrape {
  const twice = differenceOf(target.ups);
  if (twice !== null) {
    const detail = `it is there several times at once (${twice}): choose one by prometheus.match`;
    return { kind: 'failed', detail };
  }
  const looks = target.ups
    .flatMap(({ values }) => values)
    .map(([seconds, value]) => ({ atMs: toMs(seconds), isUp: numberOf(value) === 1 }))
    .sort((a, b) => a.atMs - b.atMs);
  if (looks.at(-1)?.isUp === false) {
    const goodMs = looks.findLast(({ isUp }) => isUp)?.atMs;
    const since = goodMs === undefined ? '' : ` for ${Math.round((evaluatedAtMs - goodMs) / 1000)} s`;
    return { kind: 'failed', detail: `the server has not been able to scrape it${since}: up is 0` };
  }
  const samples = withoutEnded(target.samples, looks, evaluatedAtMs);
  if (samples.length === 0) return { kind: 'empty' };
  const newestMs = samples.reduce((newest, { timestampMs }) => Math.max(newest, timestampMs), 0);
  const byName = new Map<string, Sample[]>();
  for (const sample of samples) {
    const same = byName.get(sample.name);
    if (same) same.push(sample);
    else byName.set(sample.name, [sample]);
  }
  const scrapedAtMs = elapsedMs - (evaluatedAtMs - newestMs);
  return {
    kind: 'scraped',
    newestMs,
    scrape: {
      samples: byName,
      rejected: [],
      rejectedCount: 0,
      startedAtMs: scrapedAtMs,
      finishedAtMs: scrapedAtMs,
      sourceWallMs: newestMs,
    },
  };
}

/**
 * Without series that a newer scrape of the target no longer had: a range selector gives their samples to the end of
 * the window, and a card that fell off the bus would be there for as long. A series with stamps of its exporter's own,
 * which are no scrape's, stays until it is stale.
 */
function withoutEnded(
  samples: readonly StampedSample[],
  looks: readonly { readonly atMs: number; readonly isUp: boolean }[],
  evaluatedAtMs: number,
): readonly StampedSample[] {
  const settledMs = looks.findLast(({ atMs, isUp }) => isUp && atMs <= evaluatedAtMs - SETTLED_AFTER_MS)?.atMs;
  if (settledMs === undefined) return samples;
  const scrapesMs = new Set(looks.map(({ atMs }) => atMs));
  return samples.filter(({ timestampMs }) => timestampMs >= settledMs || !scrapesMs.has(timestampMs));
}

/** Labels in which two `up` differ that were written at the same time; `null` where there is one at a time. */
function differenceOf(ups: readonly PromSeries[]): string | null {
  const spans = ups
    .map(({ metric, values }) => ({ metric, fromMs: values[0]?.[0] ?? 0, toMs: values.at(-1)?.[0] ?? 0 }))
    .sort((a, b) => a.fromMs - b.fromMs);
  for (const [index, span] of spans.entries()) {
    const next = spans[index + 1];
    if (!next || next.fromMs > span.toMs) continue;
    const labels = new Set([...Object.keys(span.metric), ...Object.keys(next.metric)]);
    const different = [...labels].filter((label) => span.metric[label] !== next.metric[label]);
    return different
      .map((label) => `${label}="${span.metric[label] ?? ''}" and "${next.metric[label] ?? ''}"`)
      .join(', ')
      .slice(0, 200);
  }
  return null;
}

/** Of the same node, where its labels tell; a label that a series got after its scrape is not on `up`. */
function upsOfNode(
  ups: readonly PromSeries[],
  metric: PromSeries['metric'],
  nodeLabels: readonly string[],
): readonly PromSeries[] {
  const node = nodeLabelOf(metric, nodeLabels);
  const same = ups.filter((up) => nodeLabelOf(up.metric, nodeLabels) === node);
  return same.length > 0 ? same : ups;
}

/**
 * CPU times as one CPU's, named for how many it stands for: when one goes on- or offline, this is another CPU, and the
 * jump between the two sums is nobody's load.
 */
function cpuTimes(
  cpu: readonly PromSeries[],
  oldestMs: number,
): { metric: PromSeries['metric']; samples: StampedSample[] }[] {
  const byTarget = new Map<string, Map<string, PromSeries>>();
  for (const series of cpu) {
    const { mode = '', ...target } = series.metric;
    const key = JSON.stringify(Object.entries(target).sort());
    const modes = byTarget.get(key) ?? new Map<string, PromSeries>();
    byTarget.set(key, modes.set(mode, series));
  }
  return [...byTarget.values()].flatMap((modes) => {
    const sumOf = (mode: string): number => numberOf(modes.get(mode)?.values.at(-1)?.[1] ?? '');
    const count = sumOf(CPU_COUNT);
    const timestampMs = toMs(sumOf(CPU_STAMP));
    const metric = modes.get(CPU_COUNT)?.metric;
    // An instant selector finds samples of up to five minutes ago.
    if (!metric || !(timestampMs >= oldestMs)) return [];
    const samples = [...modes.keys()]
      .filter((mode) => mode !== CPU_COUNT && mode !== CPU_STAMP)
      .map((mode) => ({
        name: CPU_TIME,
        labels: labelsOf([
          ['cpu', `all ${count}`],
          ['mode', mode],
        ]),
        value: sumOf(mode),
        timestampMs,
      }));
    return [{ metric, samples }];
  });
}

/**
 * As the exporter wrote them: without what the server gave to all of the target's series, `up` among them, and what it
 * had to rename for that under its own name again.
 */
function ownLabels(metric: PromSeries['metric'], up: PromSeries['metric']): Labels {
  const EXPORTED = 'exported_';
  const entries: [string, string][] = [];
  for (const [label, value] of Object.entries(metric)) {
    const own = label.startsWith(EXPORTED) ? label.slice(EXPORTED.length) : '';
    if (own !== '' && Object.hasOwn(metric, own)) entries.push([own, value]);
    else if (!isServersOwn(label) && up[label] !== value && !Object.hasOwn(metric, EXPORTED + label))
      entries.push([label, value]);
  }
  return labelsOf(entries);
}

const isServersOwn = (label: string): boolean => label === '__name__' || label === 'job' || label === 'instance';

function labelsOf(entries: readonly (readonly [string, string])[]): Labels {
  const labels: Record<string, string> = Object.create(null);
  for (const [label, value] of entries) labels[label] = value;
  return labels;
}

const isOfDevice = ({ samples }: TargetSeries): boolean => samples.every(({ name }) => OF_DEVICE.test(name));
const scrapedFrom = ({ job = '', instance = '' }: PromSeries['metric']) => ({ job, instance });
const scrapedAs = (metric: PromSeries['metric']): string => Object.values(scrapedFrom(metric)).join('\0');
/** Whole milliseconds: the server's own unit. */
const toMs = (seconds: number): number => Math.round(seconds * 1000);
