// One ConfigMap of the service's own namespace, read whole and written by compare-and-swap: nobody's change is ever
// written over unseen. What its keys mean is the business of whoever holds it (the latch, the prior values, the
// leases). It is made at run time and never by the chart, so that no upgrade can put an old one back.
import type { Clock } from '../clock.ts';
import { retryDelayMs } from './in-flight.ts';
import { type KubeApi, type KubeFailure, type KubeObject, pathOf } from './kube-api.ts';

export type MapData = Readonly<Record<string, string>>;

export type MapRead =
  | { readonly kind: 'found'; readonly data: MapData }
  | { readonly kind: 'absent' }
  | { readonly kind: 'unreachable'; readonly detail: string };

/** What an edit makes of the data it was shown: the new data, or `null` for "leave it". */
export interface MapEdit<T> {
  readonly data: MapData | null;
  readonly value: T;
}

export type MapSwap<T> =
  | { readonly ok: true; readonly value: T; readonly isWritten: boolean }
  | { readonly ok: false; readonly detail: string };

export interface ConfigMapCell {
  readonly name: string;
  read(timeoutMs: number): Promise<MapRead>;
  /**
   * Shows `edit` what is there now (`null`: no such ConfigMap) and writes what it answers, if nobody wrote in between;
   * else shows it the newer one, until `timeoutMs` is over. `edit` may be called several times and must be pure.
   */
  swap<T>(edit: (data: MapData | null) => MapEdit<T>, timeoutMs: number): Promise<MapSwap<T>>;
}

/** No single request of a swap may use up its whole time. */
const REQUEST_TIMEOUT_MS = 2_500;
/** Between two tries that somebody else's write spoiled. */
const AGAIN_AFTER_MS = 20;
const LABELS = { 'app.kubernetes.io/name': 'vsf-safety', 'app.kubernetes.io/managed-by': 'vsf-safety' };
const CONFIG_MAPS = { group: '', version: 'v1', resource: 'configmaps', namespaced: true } as const;

export function createConfigMapCell(parts: {
  readonly api: KubeApi;
  readonly clock: Clock;
  readonly namespace: string;
  readonly name: string;
}): ConfigMapCell {
  const { api, clock, namespace, name } = parts;
  const all = pathOf(CONFIG_MAPS, { namespace });
  const one = pathOf(CONFIG_MAPS, { namespace, name });

  async function find(timeoutMs: number): Promise<KubeObject | null | KubeFailure> {
    const answer = await api.get(one, Math.min(timeoutMs, REQUEST_TIMEOUT_MS));
    if (answer.ok) return answer.value;
    return answer.kind === 'not-found' ? null : answer;
  }

  function write(found: KubeObject | null, data: MapData, timeoutMs: number) {
    const limitMs = Math.min(timeoutMs, REQUEST_TIMEOUT_MS);
    if (found) return api.replace(one, { ...found, apiVersion: 'v1', kind: 'ConfigMap', data }, limitMs);
    const metadata = { name, namespace, labels: LABELS };
    return api.create(all, { apiVersion: 'v1', kind: 'ConfigMap', metadata, data }, limitMs);
  }

  return {
    name,
    async read(timeoutMs) {
      const found = await find(timeoutMs);
      if (found === null) return { kind: 'absent' };
      if (isFailure(found)) return { kind: 'unreachable', detail: found.detail };
      return { kind: 'found', data: found.data ?? {} };
    },
    async swap(edit, timeoutMs) {
      const untilMs = clock.now().elapsedMs + timeoutMs;
      const leftMs = (): number => untilMs - clock.now().elapsedMs;
      let detail = `Cannot write ConfigMap ${name}: no time was given`;
      for (let failures = 0; leftMs() > 0; ) {
        let failure: KubeFailure | null = null;
        const found = await find(leftMs());
        if (found !== null && isFailure(found)) {
          failure = found;
        } else {
          const { data, value } = edit(found ? (found.data ?? {}) : null);
          if (data === null) return { ok: true, value, isWritten: false };
          if (leftMs() <= 0) break;
          const written = await write(found, data, leftMs());
          if (written.ok) return { ok: true, value, isWritten: true };
          detail = written.detail;
          if (written.kind !== 'conflict') failure = written;
        }
        if (failure) {
          detail = failure.detail;
          if (!isWorthAgain(failure)) break;
          // A server that is away or has too much to do is not asked fifty times a second.
          await clock.sleep(Math.max(AGAIN_AFTER_MS, Math.min(retryDelayMs(failure, failures++), leftMs())));
        } else await clock.sleep(AGAIN_AFTER_MS);
      }
      return { ok: false, detail };
    },
  };
}

function isFailure(found: KubeObject | KubeFailure): found is KubeFailure {
  return found['ok'] === false;
}

/** What may be over in a moment. A lost answer, too: reading again shows whether the write arrived. */
function isWorthAgain({ kind }: KubeFailure): boolean {
  return kind === 'timeout' || kind === 'unreachable' || kind === 'server-error' || kind === 'too-many-requests';
}
