// How much may be asked of the API server at once, and how long to wait before asking again. On the stop path everything
// is asked again for ever; what differs is only the pause.
import type { KubeFailure } from './kube-api.ts';

/** A line to wait in: at most `most` pieces of work at a time, the rest in order. */
export function limitInFlight(most: number): <T>(work: () => Promise<T>) => Promise<T> {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (running < most) running += 1;
    // Whoever ends hands its place over, so that nobody can slip in between.
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else running -= 1;
    }
  };
}

const FIRST_RETRY_MS = 250;
const LATEST_RETRY_MS = 2000;
const LONGEST_RETRY_AFTER_MS = 1000;

/** ms until a failed request is worth another try: 250 ms to 2 s, half of it by chance; what the server asks, up to 1 s. */
export function retryDelayMs(failure: Pick<KubeFailure, 'retryAfterMs'>, attempt: number): number {
  if (failure.retryAfterMs !== null) return Math.min(failure.retryAfterMs, LONGEST_RETRY_AFTER_MS);
  const fullMs = Math.min(FIRST_RETRY_MS * 2 ** Math.min(attempt, 8), LATEST_RETRY_MS);
  return fullMs / 2 + (Math.random() * fullMs) / 2;
}
