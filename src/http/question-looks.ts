// Looks at the hardware that were made for questions. Each goes through the door at least once, whoever asked for it and
// whether or not anybody waits for the answer still: it may be the only one that shows a hard stop.
import type { SourceReport } from '../domain/reading.ts';
import type { Supervisor } from '../supervisor.ts';

type Look = readonly SourceReport[];

export class QuestionLooks {
  readonly #supervisor: Pick<Supervisor, 'submit'>;
  readonly #taken = new WeakSet<Look>();

  constructor(supervisor: Pick<Supervisor, 'submit'>) {
    this.#supervisor = supervisor;
  }

  /** It goes through the door with a question, now. */
  take(look: Look): void {
    this.#taken.add(look);
  }

  /** Puts a look that no question brings through the door, unless it has been there; without reports that are in `later`. */
  observe(look: Look, later: Look = []): void {
    if (this.#taken.has(look)) return;
    this.#taken.add(look);
    const brought = new Set(later);
    const reports = look.filter((report) => !brought.has(report));
    if (reports.length > 0) this.#supervisor.submit({ kind: 'observed', why: 'fast', reports });
  }
}
