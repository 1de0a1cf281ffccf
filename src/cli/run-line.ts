// What `run` tells: lines on standard error, each when something changes. On a terminal there is beside that one live
// line, but only while the workload does not write there itself: a line that is painted again and again would tear apart
// what the workload shows.
import type { Io } from './io.ts';
import { ageText, printable } from './layout.ts';

const REPAINT_MS = 1_000;
const CLEAR = '\r\u001b[K';

export class RunLine {
  readonly #io: Io;
  readonly #hasLive: boolean;
  #live: { readonly text: string; readonly sinceMs: number } | null = null;
  #cancel: () => void = () => undefined;

  constructor(io: Io) {
    this.#io = io;
    this.#hasLive = io.stderr.isTTY === true && io.env['TERM'] !== 'dumb';
  }

  say(text: string): void {
    const clear = this.#live && this.#hasLive ? CLEAR : '';
    this.#io.stderr.write(`${clear}vsf-safety: ${printable(text)}\n`);
    this.#paint();
  }

  /** Shows `text`, with how long it has been so; `null` ends it. On anything but a terminal nothing. */
  live(text: string | null): void {
    if (!this.#hasLive || text === (this.#live?.text ?? null)) return;
    this.#cancel();
    if (this.#live) this.#io.stderr.write(CLEAR);
    this.#live = text === null ? null : { text, sinceMs: this.#io.clock.now().elapsedMs };
    this.#paint();
  }

  /** The same for a workload that runs: not where it writes on the terminal. */
  liveUnlessShown(text: string): void {
    this.live(this.#io.stdout.isTTY === true ? null : text);
  }

  #paint(): void {
    this.#cancel();
    if (!this.#live || !this.#hasLive) return;
    const { text, sinceMs } = this.#live;
    const age = ageText(Math.round((this.#io.clock.now().elapsedMs - sinceMs) / 1000));
    const { columns = 80 } = this.#io.stderr as { readonly columns?: number };
    const line = printable(`vsf-safety: ${age} ${text}`);
    this.#io.stderr.write(`${CLEAR}${line.slice(0, Math.max(20, columns - 1))}`);
    this.#cancel = this.#io.clock.after(REPAINT_MS, () => this.#paint());
  }
}
