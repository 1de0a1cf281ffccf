// Target lists over HTTP, as Prometheus' `http_sd` reads them: JSON only, in the same form as in files. An answer that
// is not a whole list (an error, a page to log in, a body that was cut) is a failure and says nothing of what was listed
// before. The address itself is named in the configuration; what it lists is held against `discovery.allow` by
// discovery.ts.
import type { Credentials } from './credentials.ts';
import type { HttpGet } from './http-get.ts';
import { type Found, type GroupRules, readTargetGroups, type TargetFinder } from './targets.ts';

/** 20,000 targets in groups of their own are about 3 MiB. */
const LARGEST_LIST_BYTES = 8 * 1024 * 1024;

/** Reads the list at `url`. */
export function createHttpFinder({
  url,
  get,
  credentials,
  refreshMs,
  rules,
}: {
  readonly url: string;
  readonly get: HttpGet;
  readonly credentials: Credentials | null;
  /** Told to the server, as Prometheus does. */
  readonly refreshMs: number;
  readonly rules: Omit<GroupRules, 'origin'>;
}): TargetFinder {
  const headers = {
    accept: 'application/json',
    'x-prometheus-refresh-interval-seconds': `${Math.round(refreshMs / 1000)}`,
  };
  /** The last body and what was made of it: parsed again only when it changed. */
  let last: { readonly body: Buffer; readonly found: Found } | null = null;

  async function find(deadlineMs: number): Promise<Found> {
    const limits = { deadlineMs, maxBytes: LARGEST_LIST_BYTES };
    const answer = await get(url, { ...limits, headers, credentials, allowedRanges: null });
    if (answer.kind === 'failed') return { ok: false, detail: answer.detail };
    const { status, contentType, body, isComplete } = answer;
    if (status !== 200) return { ok: false, detail: `answered with status ${status}` };
    if (!isComplete) return { ok: false, detail: 'answered with a body that was cut off' };
    const type = (contentType ?? '').split(';')[0]?.trim().toLowerCase();
    if (type !== 'application/json') {
      const told = JSON.stringify((contentType ?? 'none').slice(0, 100));
      return { ok: false, detail: `answered with content type ${told}, not application/json` };
    }
    if (!last?.body.equals(body)) last = { body, found: parseBody(body, { ...rules, origin: 'http' }) };
    return last.found;
  }
  return { find };
}

function parseBody(body: Buffer, rules: GroupRules): Found {
  let list: unknown;
  try {
    list = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    return { ok: false, detail: 'answered with a body that is not whole JSON' };
  }
  return readTargetGroups(list, rules);
}
