// What a process has truly been told of a machine, and when it was told well last.
import type { Exporter } from './exporters.ts';
import type { Machine } from './machine.ts';
import type { Life } from './replica.ts';

/** A look is judged with its round, or, where others of the round take long, half a second after it. */
export const ROUND_MS = 700;

/** Those that tell of the cards, or of the rest of a machine. */
export const carriersOf = ({ exporters }: Machine, isCard: boolean): readonly Exporter[] =>
  exporters.filter(({ kind }) => kind === 'merged' || (kind === 'node') !== isCard);

/** Whether a process has judged no good word of the cards, or of the rest, since it started. */
export const isUnread = (life: Life, machine: Machine, nowMs: number): boolean =>
  [true, false].some((isCard) => areUnread(carriersOf(machine, isCard), life, nowMs));

/** Whether none of these has given a process a good word that is judged by now. */
export const areUnread = (carriers: readonly Exporter[], life: Life, nowMs: number): boolean =>
  carriers.every((exporter) => lastGoodMs(exporter, life, nowMs) === Number.NEGATIVE_INFINITY);

/**
 * Whether its last good answer is young: almost always, and then nobody is blind. One that is not judged yet ends a
 * blindness; had that been too long, it was told before.
 */
export function isJustGood({ lastGoodAtMs }: Exporter, { number }: Life, nowMs: number, youngMs: number): boolean {
  return nowMs - (lastGoodAtMs.get(number) ?? Number.NEGATIVE_INFINITY) < youngMs;
}

/** When an exporter last gave a process a good answer that has arrived and been judged by now. */
export function lastGoodMs(
  { lastGoodAtMs, deliveries, goodBeforeAtMs }: Exporter,
  { number }: Life,
  nowMs: number,
): number {
  const last = lastGoodAtMs.get(number) ?? Number.NEGATIVE_INFINITY;
  if (nowMs - last > ROUND_MS) return last;
  const before = deliveries.get(number)?.findLast(({ atMs, isGood }) => isGood && nowMs - atMs > ROUND_MS);
  return before?.atMs ?? goodBeforeAtMs.get(number) ?? Number.NEGATIVE_INFINITY;
}
