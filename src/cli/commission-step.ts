// One step of a commissioning test while it is tried: what was noticed, tables, figures, and the verdict that follows. A
// service takes texts and lists of a bounded length, so they are cut here.
import type { CommissionStep, StepVerdict } from '../domain/commission.ts';
import type { CommissionInputSchema, Told } from '../http/schemas.ts';

export type CommissionInput = Told<typeof CommissionInputSchema>;
export type StepReport = CommissionInput['steps'][number];
export type StepNote = StepReport['notes'][number];
type Table = StepReport['tables'][number];

export const STEP_TITLES: Readonly<Record<CommissionStep, string>> = {
  service: 'The service',
  inventory: 'Nodes and sensors',
  limits: 'Limits against the hardware',
  sensors: 'Dead or frozen sensors',
  intervals: 'Intervals of the sources',
  cluster: 'Rights in the cluster',
  drill: 'Drill',
  canary: 'Live stop of a canary',
};

export const resetCommand = (tripId: string): string => `vsf-safety reset --trip ${tripId} --reason "…"`;

const LEVELS = ['fail', 'warning', 'note'] as const;
/** Of one kind; what is more is counted. */
const MOST_ALIKE = 20;
const MOST_NOTES = 200;
const MOST_ROWS = 200;
const MOST_TEXT = 1_000;
const MOST_CELL = 300;

export class StepDraft {
  readonly id: CommissionStep;
  readonly #notes: StepNote[] = [];
  readonly #tables: Table[] = [];
  readonly #figures: Record<string, number> = {};
  #summary = '';
  #other: Extract<StepVerdict, 'skipped' | 'not-applicable'> | null = null;

  constructor(id: CommissionStep) {
    this.id = id;
  }

  say(summary: string): this {
    this.#summary = summary;
    return this;
  }

  /** There is something to be tried, and it is not. */
  skip(why: string): this {
    this.#other = 'skipped';
    return this.say(why);
  }

  /** There is nothing to be tried here. */
  leaveOut(why: string): this {
    this.#other = 'not-applicable';
    return this.say(why);
  }

  fail = (text: string, remedy?: string | null): void => this.#add('fail', text, remedy);
  warn = (text: string, remedy?: string | null): void => this.#add('warning', text, remedy);
  note = (text: string, remedy?: string | null): void => this.#add('note', text, remedy);

  /** Many of one kind: the first of them, and how many more. */
  each<T>(items: readonly T[], tell: (item: T) => void, level: StepNote['level'] = 'note'): void {
    for (const item of items.slice(0, MOST_ALIKE)) tell(item);
    if (items.length > MOST_ALIKE) this.#add(level, `and ${items.length - MOST_ALIKE} more of this kind`);
  }

  table(title: string, head: readonly string[], rows: readonly (readonly string[])[]): void {
    if (rows.length === 0) return;
    const shown = rows.slice(0, MOST_ROWS).map((row) => row.map((cell) => cut(cell, MOST_CELL)));
    const more = rows.length > MOST_ROWS ? ` (${MOST_ROWS} of ${rows.length})` : '';
    this.#tables.push({ title: `${title}${more}`, head, rows: shown });
  }

  figure(name: string, value: number | null | undefined): void {
    if (value !== null && value !== undefined && Number.isFinite(value)) this.#figures[name] = rounded(value);
  }

  get verdict(): StepVerdict {
    const has = (level: StepNote['level']): boolean => this.#notes.some((note) => note.level === level);
    if (has('fail')) return 'fail';
    return this.#other ?? (has('warning') ? 'warning' : 'pass');
  }

  report(tookMs: number): StepReport {
    return {
      id: this.id,
      title: STEP_TITLES[this.id],
      verdict: this.verdict,
      summary: cut(this.#summary, MOST_TEXT),
      notes: LEVELS.flatMap((level) => this.#notes.filter((note) => note.level === level)).slice(0, MOST_NOTES),
      tables: this.#tables,
      figures: this.#figures,
      tookSeconds: rounded(tookMs / 1000),
    };
  }

  #add(level: StepNote['level'], text: string, remedy?: string | null): void {
    this.#notes.push({
      level,
      text: cut(text, MOST_TEXT),
      ...(remedy !== undefined && remedy !== null && { remedy: cut(remedy, MOST_TEXT) }),
    });
  }
}

const cut = (text: string, most: number): string => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);
const rounded = (value: number): number => Math.round(value * 1000) / 1000;

/** `1 GPU`, `4 GPUs` */
export const counted = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`;
