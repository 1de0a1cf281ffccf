// One request to the service: with the token, a deadline, and an answer for everything that can go wrong. Never rejects.
import { after } from './clock.ts';
import { currentToken } from './token.ts';
import type { Problem } from './wire.ts';

export type Answer<Body> =
  | { readonly ok: true; readonly body: Body }
  /** `status` is `null` where no answer came. */
  | { readonly ok: false; readonly status: number | null; readonly problem: Problem | null; readonly why: string };

export interface Asking {
  readonly body?: unknown;
  readonly timeoutMs?: number;
  /** Goes on when the page is closed meanwhile. */
  readonly outlivesPage?: boolean;
  readonly anonymous?: boolean;
}

/** Asks; `body` makes it a JSON body. */
export async function ask<Body>(method: 'GET' | 'POST', path: string, asking: Asking = {}): Promise<Answer<Body>> {
  const { body, timeoutMs = 10_000, outlivesPage = false, anonymous = false } = asking;
  const token = anonymous ? null : currentToken();
  const ending = new AbortController();
  const cancel = after(timeoutMs, () => ending.abort());
  try {
    const response = await fetch(path, {
      method,
      headers: {
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(token !== null && { authorization: `Bearer ${token}` }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      cache: 'no-store',
      credentials: 'omit',
      keepalive: outlivesPage,
      signal: ending.signal,
    });
    const isJson = response.headers.get('content-type')?.includes('json') ?? false;
    const told = isJson ? ((await response.json()) as unknown) : null;
    if (response.ok) return { ok: true, body: told as Body };
    const problem = told as Problem | null;
    return { ok: false, status: response.status, problem, why: problem?.detail ?? `answered ${response.status}` };
  } catch (error) {
    const why = ending.signal.aborted ? `no answer within ${timeoutMs / 1000} s` : wordsOf(error);
    return { ok: false, status: null, problem: null, why };
  } finally {
    cancel();
  }
}

const wordsOf = (error: unknown): string =>
  error instanceof TypeError ? 'the service cannot be reached' : error instanceof Error ? error.message : String(error);

/** One try's deadline; a latched stop answers within 100 ms. */
const STOP_TIMEOUT_MS = 4_000;

/**
 * An emergency stop of everything, or of `nodes`. A token that the service no longer knows must not keep somebody at the
 * machine from stopping it, so a refused one is left out at once.
 */
export async function requestStop(nodes: readonly string[] | null): Promise<Answer<{ readonly tripId: string }>> {
  const body = { reason: 'Emergency stop held on the dashboard', ...(nodes && { nodes }) };
  const asking = { body, timeoutMs: STOP_TIMEOUT_MS, outlivesPage: true };
  const answer = await ask<{ readonly tripId: string }>('POST', '/estop', asking);
  const isTokenRefused = !answer.ok && (answer.status === 401 || answer.status === 403 || answer.status === 503);
  if (!isTokenRefused || currentToken() === null) return answer;
  const again = await ask<{ readonly tripId: string }>('POST', '/estop', { ...asking, anonymous: true });
  return again.ok ? again : answer;
}
