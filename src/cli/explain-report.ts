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

/** judged: compared with limits · shown: never judged · refused: a number that is none · missing: no number. */
export type Verdict = 'judged' | 'shown' | 'refused' | 'missing';

export interface ExplainedReading {
  readonly component: HardwareComponent;
  readonly id?: string;
  readonly quantity: Quantity;
  readonly unit: Unit;
  readonly value?: number;
  readonly verdict: Verdict;
  readonly missing?: MissingCause;
  /** Why it was refused. */
  readonly detail?: string;
  readonly origin: string;
}

/** Something that is there and is not read. */
export interface Ignored {
  readonly what: string;
  /** What it says, as far as that was looked at. */
  readonly says?: string;
  readonly why: string;
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
  refused: 'red',
  missing: 'yellow',
};

/** Everything as lines. */
export function explainedLines(path: string, explained: Explained, paint: Paint): string[] {
  const { title, readings, gpus, hardwareLimits, throttledGpus, ignored, notes, advice } = explained;
  const nameGpu = (id: string): string => gpus.find((gpu) => gpu.id === id)?.pciAddress ?? id;
  const section = (heading: string, rows: readonly (readonly Cell[])[]): string[] =>
    rows.length === 0 ? [] : ['', paint(heading, 'bold'), ...tableOf(rows, paint)];
  const head = (...texts: readonly string[]): Cell[] => texts.map((text) => ({ text, colour: 'dim' }));
  return [
    `${printable(path)}: ${title}`,
    ...section(
      'Read',
      readings.length === 0
        ? [['nothing']]
        : [
            head('READING', 'VALUE', 'VERDICT', 'WHERE FROM, OR WHY NOT'),
            ...readings.map((reading): Cell[] => {
              const { value, unit, verdict, missing = '', detail, origin } = reading;
              const word = verdict === 'missing' ? `missing, ${missing}` : verdict;
              return [
                nameOf(reading, { gpus }),
                value === undefined ? '-' : valueText(value, unit),
                { text: word, colour: COLOURS[verdict] },
                detail === undefined ? origin : `${detail}: ${origin}`,
              ];
            }),
          ],
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
      'Looked for, and said',
      notes.map((note) => [`- ${note}`]),
    ),
    ...(advice.length === 0 ? [] : ['', ...advice.map(printable)]),
  ];
}

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
