// What happened in a world: the last lines for people, a digest of all of it, which is the same for the same seed, and
// how often each kind of thing happened, so that a fault that never comes up is noticed.
import { createHash, type Hash } from 'node:crypto';

const LINES_KEPT = 400;
/** Text is hashed in pieces of this length, since each costs more than its text. */
const HASHED_FROM = 16_384;

/** A rule that was broken: why the world failed. */
export interface Violation {
  /** Short and stable: shrinking keeps to it. */
  readonly rule: string;
  readonly detail: string;
  readonly atMs: number;
}

export class Chronicle {
  readonly counts: Record<string, number> = {};
  violation: Violation | null = null;
  readonly #hash: Hash = createHash('sha256');
  readonly #nowMs: () => number;
  readonly #echo: ((line: string) => void) | null;
  #lines: string[] = [];
  #unhashed = '';

  constructor(nowMs: () => number, echo: ((line: string) => void) | null = null) {
    this.#nowMs = nowMs;
    this.#echo = echo;
  }

  tell(who: string, what: string): void {
    const line = `${shownTime(this.#nowMs())} ${who}: ${what}`;
    this.note(line);
    this.#lines.push(line);
    if (this.#lines.length > 2 * LINES_KEPT) this.#lines = this.#lines.slice(-LINES_KEPT);
    this.#echo?.(line);
  }

  /** For the digest alone. */
  note(what: string): void {
    this.#unhashed += what;
    if (this.#unhashed.length >= HASHED_FROM) this.#flush();
  }

  count(what: string, by = 1): void {
    this.counts[what] = (this.counts[what] ?? 0) + by;
  }

  /** The first one counts: what comes after may follow from it. */
  violate(rule: string, detail: string): void {
    if (this.violation) return;
    this.violation = { rule, detail, atMs: this.#nowMs() };
    this.tell('VIOLATION', `${rule}: ${detail}`);
  }

  lastLines(count: number): readonly string[] {
    return this.#lines.slice(-count);
  }

  get digest(): string {
    this.#flush();
    return this.#hash.copy().digest('hex').slice(0, 16);
  }

  #flush(): void {
    this.#hash.update(this.#unhashed);
    this.#unhashed = '';
  }
}

/** `01:02:03.456` */
export function shownTime(ms: number): string {
  const whole = Math.round(ms);
  const part = (value: number, digits = 2): string => String(value).padStart(digits, '0');
  const seconds = Math.floor(whole / 1000);
  return `${part(Math.floor(seconds / 3600))}:${part(Math.floor(seconds / 60) % 60)}:${part(seconds % 60)}.${part(whole % 1000, 3)}`;
}
