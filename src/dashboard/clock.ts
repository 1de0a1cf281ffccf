// The page's only file that touches timers and clocks. A laptop that slept stops the monotonic clock of some browsers,
// and the wall clock may be set; an age takes the larger of both, so that what is old never looks young.

/** Both times of one moment, in ms. */
export interface Now {
  readonly elapsedMs: number;
  readonly wallMs: number;
}

/** This moment. */
export const now = (): Now => ({ elapsedMs: performance.now(), wallMs: Date.now() });

/** Seconds from one moment to another by whichever clock says more; never negative. */
export function secondsBetween(then: Now, moment: Now): number {
  return Math.max(0, moment.elapsedMs - then.elapsedMs, moment.wallMs - then.wallMs) / 1000;
}

/** Calls `fire` once after `ms`; the returned function cancels it. */
export function after(ms: number, fire: () => void): () => void {
  const timer = setTimeout(fire, ms);
  return () => clearTimeout(timer);
}

/** Calls `fire` every `ms`; the returned function ends it. */
export function every(ms: number, fire: () => void): () => void {
  const timer = setInterval(fire, ms);
  return () => clearInterval(timer);
}
