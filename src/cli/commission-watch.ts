// The steps of a commissioning test that take time: which readings and witnesses move while the service is watched, and
// how old what it judges by becomes. A reading that never moves is told apart by what it is: a memory share rests when
// nothing runs, a temperature never does for long.
import { firstFew } from '../domain/first-few.ts';
import type { NodeStatus, ReadingStatus, Status } from '../http/status-view.ts';
import { counted, StepDraft } from './commission-step.ts';
import { ageText, valueText } from './layout.ts';
import { nameOf } from './node-table.ts';

type Source = Status['sources'][number];

interface ReadingWatch {
  readonly node: string;
  last: ReadingStatus;
  name: string;
  looks: number;
  missed: number;
  lastMissed: string;
  changes: number;
  value: number | null;
  least: number;
  most: number;
  oldestSeconds: number;
}

interface SourceWatch {
  last: Source;
  staleAfterSeconds: number;
  looks: number;
  failed: number;
  lastFailure: string;
  oldestSeconds: number;
  slowestSeconds: number;
}

/** What was seen of a service during some looks. */
export class CommissionWatch {
  readonly #readings = new Map<string, ReadingWatch>();
  readonly #sources = new Map<string, SourceWatch>();
  readonly #evaluations = new Set<string>();
  /** Nodes with a workload at any of the looks. */
  readonly #loaded = new Set<string>();
  #status: Status | null = null;
  #slowestTickSeconds = 0;

  add(status: Status): void {
    this.#status = status;
    if (status.lastResult) this.#evaluations.add(status.lastResult.evaluatedAt);
    this.#slowestTickSeconds = Math.max(this.#slowestTickSeconds, status.evaluation.lastTickTookSeconds ?? 0);
    const nodes = new Map(status.nodes.map((node) => [node.node, node]));
    for (const node of status.nodes) this.#addNode(node);
    for (const source of status.sources) this.#addSource(source, nodes.get(source.node)?.staleAfterSeconds ?? 30);
  }

  #addNode(node: NodeStatus): void {
    if (node.live) this.#loaded.add(node.node);
    for (const reading of node.readings) {
      if (reading.informational) continue;
      const key = `${node.node}/${reading.component}/${reading.id ?? ''}/${reading.quantity}`;
      const { value = null, ageSeconds = 0, missing = '', detail = '' } = reading;
      const seen = this.#readings.get(key) ?? {
        node: node.node,
        last: reading,
        name: nameOf(reading, node),
        looks: 0,
        missed: 0,
        lastMissed: '',
        changes: 0,
        value: null,
        least: Number.POSITIVE_INFINITY,
        most: Number.NEGATIVE_INFINITY,
        oldestSeconds: 0,
      };
      this.#readings.set(key, seen);
      seen.last = reading;
      seen.looks += 1;
      if (value === null) {
        seen.missed += 1;
        seen.lastMissed = `${missing}: ${detail}`;
        continue;
      }
      if (seen.value !== null && value !== seen.value) seen.changes += 1;
      seen.value = value;
      seen.least = Math.min(seen.least, value);
      seen.most = Math.max(seen.most, value);
      seen.oldestSeconds = Math.max(seen.oldestSeconds, ageSeconds);
    }
  }

  #addSource(source: Source, staleAfterSeconds: number): void {
    const key = `${source.node}/${source.source}`;
    const seen = this.#sources.get(key);
    const failed = source.failure === null ? 0 : 1;
    this.#sources.set(key, {
      last: source,
      staleAfterSeconds,
      looks: (seen?.looks ?? 0) + 1,
      failed: (seen?.failed ?? 0) + failed,
      lastFailure: source.failure ? `${source.failure.cause}: ${source.failure.detail}` : (seen?.lastFailure ?? ''),
      oldestSeconds: Math.max(seen?.oldestSeconds ?? 0, source.oldestReadingAgeSeconds ?? 0),
      slowestSeconds: Math.max(seen?.slowestSeconds ?? 0, source.scrape?.latencySeconds ?? 0),
    });
  }

  /** Dead or frozen sensors, after `tookSeconds` of looks. */
  sensors(tookSeconds: number): StepDraft {
    const step = new StepDraft('sensors');
    const readings = [...this.#readings.values()];
    const isWanted = ({ last: { required, waived } }: ReadingWatch): boolean => required === true && waived !== true;
    const dead = readings.filter(
      (one) => one.last.value === undefined && (isWanted(one) || one.last.missing === 'frozen'),
    );
    step.each(
      dead,
      ({ name, node, lastMissed }) => step.fail(`${name} of ${node} is not there: ${lastMissed}`),
      'fail',
    );
    const gaps = readings.filter(({ missed, last }) => missed > 0 && last.value !== undefined);
    step.each(
      gaps,
      ({ name, node, missed, looks, lastMissed }) =>
        step.warn(`${name} of ${node} was missing at ${missed} of ${looks} looks: ${lastMissed}`),
      'warning',
    );
    const still = readings.filter(
      ({ value, changes, missed, looks }) => value !== null && changes === 0 && looks - missed > 1,
    );
    const suspect = still.filter(
      ({ last }) => last.quantity === 'temperature' || (last.component === 'cpu' && last.quantity === 'utilization'),
    );
    step.each(suspect, (one) => step.warn(this.#stillText(one, tookSeconds), REMEDY_STILL), 'warning');
    const resting = still.filter((one) => !suspect.includes(one));
    if (resting.length > 0) {
      const names = resting.map(({ name, node }) => `${name} of ${node}`);
      step.note(`No fault, since they rest when nothing runs; never changed: ${firstFew(names, 4)}`);
    }
    const witnesses = this.#witnesses(step, tookSeconds);
    const evaluations = this.#evaluations.size;
    if (evaluations < 3) {
      step.warn(
        `Only ${counted(evaluations, 'evaluation')} in ${ageText(tookSeconds)}`,
        'watch for longer: --watch SECONDS',
      );
    }
    step.figure('watchedSeconds', tookSeconds);
    step.figure('evaluations', evaluations);
    step.figure('readings', readings.length);
    step.figure('readingsThatMoved', readings.filter(({ changes }) => changes > 0).length);
    step.figure('readingsThatNeverMoved', still.length);
    step.figure('readingsMissing', dead.length);
    step.table(
      'Readings',
      ['NODE', 'READING', 'LEAST', 'MOST', 'CHANGES', 'OLDEST'],
      readings
        .filter(({ value }) => value !== null)
        .map(({ node, name, least, most, changes, oldestSeconds, last: { unit } }) => [
          node,
          name,
          valueText(least, unit),
          valueText(most, unit),
          String(changes),
          ageText(oldestSeconds),
        ]),
    );
    const moved = `${readings.length - still.length - dead.length} of ${counted(readings.length, 'reading')} moved`;
    return step.say(`${counted(evaluations, 'evaluation')} in ${ageText(tookSeconds)}: ${moved}, ${witnesses}`);
  }

  #stillText({ name, node, value, last: { unit } }: ReadingWatch, tookSeconds: number): string {
    const load = this.#loaded.has(node) ? 'under load' : 'at rest, which a sensor of whole degrees may do';
    return `${name} of ${node} stayed at exactly ${valueText(value ?? 0, unit)} for ${ageText(tookSeconds)}, ${load}`;
  }

  /** Counters and clocks that must move while their source lives. */
  #witnesses(step: StepDraft, tookSeconds: number): string {
    const all = (this.#status?.sources ?? []).flatMap(({ node, source, witnesses = [] }) =>
      witnesses.map((witness) => ({ node, source, ...witness })),
    );
    const nameOfWitness = ({ node, source, name, gpu }: (typeof all)[number]): string =>
      `${name}${gpu === undefined ? '' : ` of GPU ${gpu}`} of ${source} on ${node}`;
    const counting = all.filter(({ counts }) => counts);
    // It may have moved just before the first look, and a look takes its time.
    const isMoving = ({ changedAgeSeconds }: (typeof all)[number]): boolean =>
      changedAgeSeconds !== null && changedAgeSeconds < Math.max(tookSeconds, 1);
    step.each(
      counting.filter((witness) => !isMoving(witness)),
      (witness) => {
        const { changedAgeSeconds } = witness;
        const since = changedAgeSeconds === null ? 'since the service started' : `for ${ageText(changedAgeSeconds)}`;
        step.warn(`${nameOfWitness(witness)} has not advanced ${since}`);
      },
      'warning',
    );
    const silent = all.filter(({ counts }) => !counts);
    step.each(silent, (witness) => step.note(`${nameOfWitness(witness)} stands still or at 0 and vouches for nothing`));
    step.figure('witnesses', all.length);
    step.figure('witnessesThatAdvance', counting.filter(isMoving).length);
    return all.length === 0
      ? 'no source has a witness (a counter or a clock that must move)'
      : `${counting.filter(isMoving).length} of ${counted(all.length, 'witness', 'witnesses')} advanced`;
  }

  /** How old what is judged by becomes, against the evaluation's interval and the bound of each node. */
  intervals(): StepDraft {
    const step = new StepDraft('intervals');
    const sources = [...this.#sources.values()];
    const {
      intervalSeconds = 0,
      fastIntervalSeconds = 0,
      effectiveFastIntervalSeconds = 0,
    } = this.#status?.evaluation ?? {};
    if (sources.length === 0) step.fail('It has no source: nothing is read');
    for (const { last, staleAfterSeconds, looks, failed, lastFailure, oldestSeconds } of sources) {
      const what = `${last.source} on ${last.node}`;
      const { updatePeriodSeconds, scrape, failure } = last;
      if (failure) step.fail(`${what} fails: ${lastFailure}`);
      else if (failed > 0) step.warn(`${what} failed at ${failed} of ${looks} looks: ${lastFailure}`);
      if (updatePeriodSeconds !== null && updatePeriodSeconds + intervalSeconds > staleAfterSeconds) {
        step.fail(
          `${what} has something new every ${ageText(updatePeriodSeconds)} only; with the interval of ${intervalSeconds} s that is over ` +
            `its bound of ${staleAfterSeconds} s, and starts are refused`,
          'make it quicker (dcgm-exporter: -c 1000), or raise staleAfter of that node, 60 s at most',
        );
      } else if (!failure && oldestSeconds > staleAfterSeconds) {
        step.warn(`${what}: readings became ${ageText(oldestSeconds)} old, over the bound of ${staleAfterSeconds} s`);
      } else if (!failure && oldestSeconds + intervalSeconds > staleAfterSeconds) {
        step.warn(
          `${what}: readings became ${ageText(oldestSeconds)} old; one missed look more and they are over the bound of ${staleAfterSeconds} s`,
        );
      }
      const ahead = scrape?.clockAheadSeconds ?? 0;
      if (Math.abs(ahead) > MOST_SKEW_SECONDS) {
        step.warn(
          `The clock of ${what} is ${ageText(Math.abs(ahead))} ${ahead > 0 ? 'ahead' : 'behind'}`,
          'let NTP set both clocks',
        );
      }
      if (scrape && scrape.rejectedLines > 0) {
        step.warn(
          `${what}: ${scrape.rejectedLines} lines could not be read since the start`,
          `vsf-safety explain ${scrape.url}`,
        );
      }
    }
    if (this.#slowestTickSeconds > intervalSeconds / 2) {
      step.warn(
        `An evaluation took ${ageText(this.#slowestTickSeconds)}, over half of the interval of ${intervalSeconds} s`,
      );
    }
    if (effectiveFastIntervalSeconds > fastIntervalSeconds) {
      step.note(
        `Under load it samples every ${effectiveFastIntervalSeconds} s instead of every ${fastIntervalSeconds} s: a source is slow`,
      );
    }
    const oldest = Math.max(0, ...sources.map(({ oldestSeconds }) => oldestSeconds));
    step.figure('sources', sources.length);
    step.figure('intervalSeconds', intervalSeconds);
    step.figure('fastIntervalSeconds', effectiveFastIntervalSeconds);
    step.figure('slowestEvaluationSeconds', this.#slowestTickSeconds);
    step.figure('oldestReadingSeconds', oldest);
    step.table(
      'Sources',
      ['NODE', 'SOURCE', 'NEW EVERY', 'OLDEST READING', 'BOUND', 'TOOK', 'CLOCK'],
      sources.map(({ last, staleAfterSeconds, oldestSeconds, slowestSeconds }) => [
        last.node,
        last.source,
        last.updatePeriodSeconds === null
          ? last.witnesses.length > 0
            ? 'each look'
            : '-'
          : ageText(last.updatePeriodSeconds),
        last.oldestReadingAgeSeconds === null ? '-' : ageText(oldestSeconds),
        `${staleAfterSeconds} s`,
        last.scrape ? `${Math.round(slowestSeconds * 1000)} ms` : '-',
        last.scrape?.clockAheadSeconds == null ? '-' : `${last.scrape.clockAheadSeconds.toFixed(1)} s ahead`,
      ]),
    );
    return step.say(
      `${counted(sources.length, 'source')}, judged every ${intervalSeconds} s, under load every ${effectiveFastIntervalSeconds} s; ` +
        `the oldest reading was ${ageText(oldest)} old`,
    );
  }
}

const REMEDY_STILL = 'load the machine and look whether it moves: vsf-safety watch';
/** Stamps that are further ahead are not believed. */
const MOST_SKEW_SECONDS = 5;
