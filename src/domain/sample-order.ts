// Which of two samples of one reading counts, where their stamps and the order in which they were told disagree. A clock
// is set back; or two collectors with clocks of their own, or two servers one of which lags, answer in turn behind one
// address. What was told last may then be the newest there is, or one from before: nobody can tell by a single answer.
// So a higher value counts at once, whatever its stamp, and a lower one takes nothing back until a second one of its line
// follows. How old a stamp may be at all is tracking.ts.

/** The sample that counts so far. */
interface Counting {
  readonly value: number;
  readonly atMs: number;
  /** The stamp of the last lower sample from before this one, told after it; `null` where there was none since. */
  readonly setBackAtMs: number | null;
}

/** Whether a sample takes the place of the one that counts: else it is that one again, or perhaps one from before. */
export function isNews(counting: Counting, value: number, atMs: number): boolean {
  if (atMs > counting.atMs) return true;
  if (atMs === counting.atMs) return value !== counting.value;
  if (value > counting.value) return true;
  // An equal one may be the same sample under a clock that is read coarsely: it must confirm nothing.
  return value < counting.value && counting.setBackAtMs !== null && atMs > counting.setBackAtMs;
}

/** What a sample that is no news leaves to be remembered as {@link Counting.setBackAtMs}. */
export function setBackBy(counting: Counting, value: number, atMs: number): number | null {
  // The one that counts was told again: both lines are still answering.
  if (atMs === counting.atMs) return null;
  return value < counting.value ? atMs : counting.setBackAtMs;
}
