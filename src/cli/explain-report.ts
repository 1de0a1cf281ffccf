// What `explain` found out about a file or a tree, as a table for people and as JSON: every reading with the verdict of
// the one judge of numbers, parseReading, and everything that is there and is not read, with the reason.
import {
  type GpuSighting,
  type HardwareComponent,
  type HardwareLimits,
  type MissingCause,
  parseReading,
  type Quantity,
  type RawReading,
  type SourceReport,
  type Unit,
  unitOf,
} from '../domain/reading.ts';
import { type Cell, type Colour, type Paint, printable, tableOf, valueText } from './layout.ts';
import { nameOf } from './node-table.ts';

/**
 * judged: compared with limits · shown: never judged · covered: another reading of the same thing counts · refused: a
 * number that is none, or too old · missing: no number.
 */
export type Verdict = 'judged' | 'shown' | 'covered' | 'refused' | 'missing';

export interface ExplainedReading {
  readonly component: HardwareComponent;
  readonly id?: string;
  readonly quantity: Quantity;
  readonly unit: Unit;
  readonly value?: number;
  readonly verdict: Verdict;
  readonly missing?: MissingCause;
  /** Why it was refused or does not count. */
  readonly detail?: string;
  /** By its own stamp; negative where that is ahead. */
  readonly ageSeconds?: number;
  readonly origin: string;
}

/** Something that is there and is not read. */
export interface Ignored {
  readonly what: string;
  /** What it says, as far as that was looked at. */
  readonly says?: string;
  readonly why: string;
}

/** A counter or a clock that moves while its source is alive. */
export interface ExplainedWitness {
  /** Of a card; else of the whole source. */
  readonly gpu?: string;
  readonly name: string;
  readonly value: number;
  /** Between two looks; `null` where there was only one. */
  readonly moved: boolean | null;
}

/** How much of an exposition is read. */
export interface ExpositionFigures {
  readonly format: 'text' | 'openmetrics';
  readonly bytes: number;
  readonly samplesRead: number;
  readonly namesRead: number;
  /** What nothing of ours reads; left out of a body too large to be counted. */
  readonly skipped?: {
    readonly samples: number;
    readonly names: number;
    readonly rejectedLines: number;
    /** How names begin, and how many begin so; the most frequent. */
    readonly prefixes: readonly (readonly [prefix: string, names: number])[];
  };
  /** Bad lines of what is read: each one's reading is missing. The first 50 are told. */
  readonly rejectedLines: number;
  readonly rejected: readonly {
    readonly line: number;
    readonly name: string;
    readonly reason: string;
    readonly text: string;
  }[];
}

export interface Explained {
  /** Stable, for programs: `nvidia-smi-query`, `sysfs` and so on. */
  readonly form: string;
  /** The same in words. */
  readonly title: string;
  readonly readings: readonly ExplainedReading[];
  readonly gpus: readonly GpuSighting[];
  readonly hardwareLimits: readonly HardwareLimits[];
  readonly throttledGpus: SourceReport['throttledGpus'];
  /** Only of what is asked over the network. */
  readonly witnesses?: readonly ExplainedWitness[];
  readonly exposition?: ExpositionFigures;
  readonly ignored: readonly Ignored[];
  /** What the readers looked for and found. */
  readonly notes: readonly string[];
  /** What to do instead, or next. */
  readonly advice: readonly string[];
}

/** Nothing found. */
export const NOTHING: Omit<Explained, 'form' | 'title'> = {
  readings: [],
  gpus: [],
  hardwareLimits: [],
  throttledGpus: [],
  ignored: [],
  notes: [],
  advice: [],
};

export function explainReading(raw: RawReading): ExplainedReading {
  const { component, id, quantity, value, cause = 'no-sensor', origin, informational } = raw;
  const what = { component, ...(id !== undefined && { id }), quantity, unit: unitOf(quantity), origin };
  if (value === null) return { ...what, verdict: 'missing', missing: cause };
  const parsed = parseReading(quantity, value);
  if (!parsed.ok) return { ...what, verdict: 'refused', missing: 'invalid', detail: parsed.detail };
  return { ...what, value: parsed.value, verdict: informational ? 'shown' : 'judged' };
}

const COLOURS: Readonly<Record<Verdict, Colour>> = {
  judged: 'green',
  shown: 'dim',
  covered: 'dim',
  refused: 'red',
  missing: 'yellow',
};

/** Everything as lines. */
export function explainedLines(path: string, explained: Explained, paint: Paint): string[] {
  const {
    title,
    readings,
    gpus,
    hardwareLimits,
    throttledGpus,
    witnesses = [],
    exposition,
    ignored,
    notes,
    advice,
  } = explained;
  const nameGpu = (id: string): string => gpus.find((gpu) => gpu.id === id)?.pciAddress ?? id;
  const section = (heading: string, rows: readonly (readonly Cell[])[]): string[] =>
    rows.length === 0 ? [] : ['', paint(heading, 'bold'), ...tableOf(rows, paint)];
  const head = (...texts: readonly string[]): Cell[] => texts.map((text) => ({ text, colour: 'dim' }));
  return [
    `${printable(path)}: ${title}`,
    ...(exposition ? figureLines(exposition) : []),
    ...section(
      'Read',
      readings.length === 0
        ? [['nothing']]
        : [
            head('READING', 'VALUE', 'VERDICT', 'WHERE FROM, OR WHY NOT'),
            ...readings.map((reading): Cell[] => {
              const { value, unit, verdict, missing = '', detail, origin } = reading;
              const word = verdict === 'missing' || missing === 'stale' ? `${verdict}, ${missing}` : verdict;
              return [
                nameOf(reading, { gpus }),
                value === undefined ? '-' : valueText(value, unit),
                { text: word, colour: COLOURS[verdict] },
                [detail, origin].filter((part) => part !== undefined).join(': ') + ageOf(reading),
              ];
            }),
          ],
    ),
    ...section(
      'Lines that cannot be read: what they would have told is missing',
      exposition ? rejectedRows(exposition) : [],
    ),
    ...section(
      'There, and not read',
      ignored.map(({ what, says = '', why }) => [what, says, why]),
    ),
    ...section(
      'GPUs',
      gpus.map(({ id, pciAddress = '', name = '', required }) => [
        pciAddress,
        id === pciAddress ? '' : id,
        name,
        required ? 'must be measured' : 'need not be measured',
      ]),
    ),
    ...section(
      'Slowed down by its hardware',
      throttledGpus.map(({ gpu, reason }) => [nameGpu(gpu), reason]),
    ),
    ...section(
      'Limits that the hardware tells of itself',
      hardwareLimits.flatMap((limits) => limitRows(limits, nameGpu)),
    ),
    ...section(
      'Signs of life: what stands still here may be repeated, not measured',
      witnesses.map(({ gpu, name, value, moved }) => [
        gpu === undefined ? 'source' : nameGpu(gpu),
        name,
        `${value}`,
        moved === null ? 'one look tells nothing' : moved ? 'moved' : { text: 'has not moved', colour: 'yellow' },
      ]),
    ),
    ...section(
      'Looked for, and said',
      notes.map((note) => [`- ${note}`]),
    ),
    ...(advice.length === 0 ? [] : ['', ...advice.map(printable)]),
  ];
}

/** Only where it tells something: an exporter that stamps what it measures now is as good as one without stamps. */
const ageOf = ({ ageSeconds = 0 }: ExplainedReading): string =>
  Math.abs(ageSeconds) < 1 ? '' : `, ${Math.abs(ageSeconds)} s ${ageSeconds < 0 ? 'ahead' : 'old'}`;

/** Of thousands of bad lines the first say enough. */
const MOST_REJECTED_SHOWN = 20;

function rejectedRows({ rejected, rejectedLines }: ExpositionFigures): Cell[][] {
  const shown = rejected.slice(0, MOST_REJECTED_SHOWN);
  const rest = rejectedLines - shown.length;
  return [
    ...shown.map(({ line, reason, text }): Cell[] => [`line ${line}`, { text: reason, colour: 'red' }, text]),
    ...(rest > 0 ? [[`and ${rest} more`]] : []),
  ];
}

function figureLines({ format, bytes, samplesRead, namesRead, skipped, rejectedLines }: ExpositionFigures): string[] {
  const name = format === 'text' ? 'Prometheus text' : 'OpenMetrics';
  const bad = rejectedLines === 0 ? '' : `; of these names ${countOf(rejectedLines, 'line')} cannot be read`;
  const read = `${countOf(samplesRead, 'sample')} of ${countOf(namesRead, 'name')}`;
  const lines = [`  ${name}, ${bytes} bytes; read: ${read}${bad}`];
  if (!skipped) return [...lines, '  skipped: more than could be counted'];
  const prefixes = skipped.prefixes.map(([prefix, names]) => `${prefix}* ${names}`).join(', ');
  const list = prefixes === '' ? '' : ` (${prefixes})`;
  const others =
    skipped.rejectedLines === 0
      ? ''
      : `; ${countOf(skipped.rejectedLines, 'line')} that cannot be read, which costs nothing`;
  return [
    ...lines,
    `  skipped: ${countOf(skipped.samples, 'sample')} of ${countOf(skipped.names, 'name')}${list}${others}`,
  ];
}

const countOf = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;

function limitRows({ component, id, ...limits }: HardwareLimits, nameGpu: (id: string) => string): Cell[][] {
  const device = [component, ...(id === undefined ? [] : [component === 'gpu' ? nameGpu(id) : id])].join(' ');
  const { slowdownC, targetC, enforcedPowerW, defaultPowerW, criticalC } = limits;
  const row = (what: string, value: number | undefined, unit: string): Cell[][] =>
    value === undefined ? [] : [[device, what, `${value} ${unit}`]];
  return [
    ...row('slows down at', slowdownC, '°C'),
    ...row('regulates to', targetC, '°C'),
    ...row('power limit in force', enforcedPowerW, 'W'),
    ...row('power limit by default', defaultPowerW, 'W'),
    ...row('critical at', criticalC, '°C'),
  ];
}
