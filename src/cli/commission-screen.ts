// What a commissioning test shows while it goes on: a line when a step begins, what is going on in one line that is
// painted again (on a terminal), and its verdict with notes and tables.
import { STEP_VERDICTS, verdictWords } from '../domain/commission.ts';
import type { CommissionReport } from '../http/parts.ts';
import type { StepReport } from './commission-step.ts';
import type { Io } from './io.ts';
import { ageText, type Cell, type Colour, type Paint, paintFor, printable, tableOf, writeLines } from './layout.ts';

const CLEAR = '\r\u001b[K';
const INDENT = '      ';
/** The report has all. */
const MOST_ROWS = 40;

const STEP_COLOURS: Readonly<Record<StepReport['verdict'], Colour>> = {
  pass: 'green',
  warning: 'yellow',
  fail: 'red',
  skipped: 'yellow',
  'not-applicable': 'dim',
};
const VERDICT_COLOURS: Readonly<Record<CommissionReport['verdict'], Colour>> = {
  accepted: 'green',
  'accepted-with-warnings': 'yellow',
  rejected: 'red',
};

export class CommissionScreen {
  readonly #io: Io;
  readonly #steps: number;
  readonly #paint: Paint;
  readonly #hasLive: boolean;
  #number = 0;
  #title = '';

  constructor(io: Io, steps: number) {
    this.#io = io;
    this.#steps = steps;
    this.#paint = paintFor(io);
    this.#hasLive = io.stdout.isTTY === true && io.env['TERM'] !== 'dumb';
  }

  begin(title: string): void {
    this.#number += 1;
    this.#title = title;
    if (this.#hasLive) this.#io.stdout.write(this.#heading);
    else writeLines(this.#io.stdout, [this.#heading]);
  }

  /** On a terminal alone. */
  live(text: string): void {
    if (this.#hasLive) this.#io.stdout.write(`${CLEAR}${this.#heading}: ${text} …`);
  }

  /** Somebody is asked. */
  pause(): void {
    if (this.#hasLive) this.#io.stdout.write(`${CLEAR}${this.#heading}\n`);
  }

  result({ verdict, summary, notes, tables, tookSeconds }: StepReport): void {
    if (this.#hasLive) this.#io.stdout.write(`${CLEAR}${this.#heading}\n`);
    const word = this.#paint(verdictWords(verdict).toUpperCase(), STEP_COLOURS[verdict]);
    const took = tookSeconds >= 1 ? ` (${ageText(tookSeconds)})` : '';
    writeLines(this.#io.stdout, [
      `${INDENT}${word}  ${printable(summary)}${took}`,
      ...notes.flatMap(({ level, text, remedy }) => [
        `${INDENT}- ${this.#level(level)}${printable(text)}`,
        ...(remedy === undefined ? [] : [`${INDENT}    to do: ${printable(remedy)}`]),
      ]),
      ...tables.flatMap((table) => this.#table(table)),
    ]);
  }

  end({ name, verdict, operator, by, steps, simulated }: CommissionReport, folder: string | undefined): void {
    const words = verdictWords(verdict).toUpperCase();
    const count = (wanted: StepReport['verdict']): number => steps.filter((step) => step.verdict === wanted).length;
    const told = STEP_VERDICTS.filter((one) => count(one) > 0).map((one) => `${count(one)} ${verdictWords(one)}`);
    writeLines(this.#io.stdout, [
      '',
      `${this.#paint(words, VERDICT_COLOURS[verdict])}  ${told.join(', ')}; tested by ${printable(operator)} (${printable(by)})${simulated ? '; SIMULATED' : ''}`,
      `The service keeps the report as ${name}.json and .md, in the folder "commission" of its state folder.`,
      ...(folder === undefined ? [] : [`A copy is in ${printable(folder)}.`]),
    ]);
  }

  get #heading(): string {
    return this.#paint(`[${this.#number}/${this.#steps}] ${this.#title}`, 'bold');
  }

  #level(level: StepReport['notes'][number]['level']): string {
    if (level === 'note') return '';
    return `${this.#paint(level, level === 'fail' ? 'red' : 'yellow')}: `;
  }

  #table({ title, head, rows }: StepReport['tables'][number]): string[] {
    const heading = head.map((text): Cell => ({ text, colour: 'dim' }));
    const shown = tableOf([heading, ...rows.slice(0, MOST_ROWS)], this.#paint);
    const more = rows.length > MOST_ROWS ? [`${INDENT}  and ${rows.length - MOST_ROWS} more, in the report`] : [];
    return ['', `${INDENT}${printable(title)}`, ...shown.map((line) => `${INDENT}${line}`), ...more];
  }
}
