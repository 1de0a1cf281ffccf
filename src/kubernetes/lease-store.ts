// Live leases where the next leader finds them: ConfigMap `vsf-leases`, one entry per lease, written when one is granted,
// changed or ended. Several changes within a second are one write, so that a thousand grants are no thousand writes; the
// first is written at once, so that a single grant waits for one request. The journal on the disk is written beside it.
import type { Clock } from '../clock.ts';
import type { DurableChange } from '../domain/events.ts';
import type { KubeApi } from './kube-api.ts';
import { type EntryChange, SplitMap } from './split-map.ts';

export const LEASE_MAP = 'vsf-leases';
/** At most one write in this time. */
const WRITE_EVERY_MS = 1_000;
const WRITE_TIMEOUT_MS = 2_000;
/** A lease in the journal is under `lease/<id>`. */
export const LEASE_KEY = 'lease/';

export type StoredLeases =
  | { readonly kind: 'read'; readonly leases: ReadonlyMap<string, unknown>; readonly problems: readonly string[] }
  | { readonly kind: 'unreachable'; readonly detail: string };

export type StoreOutcome = { readonly ok: true } | { readonly ok: false; readonly detail: string };

export interface LeaseStore {
  /**
   * Takes what of a durable change is about leases. Resolves when the cluster has it, or with the reason when the next
   * write failed; it is written again until it succeeds. Nothing waits longer than {@link WRITE_EVERY_MS} plus one write.
   */
  append(change: DurableChange): Promise<StoreOutcome>;
  /** All leases that are stored, in the journal's own form: for the process that takes over. */
  read(timeoutMs: number): Promise<StoredLeases>;
  /** Why the last write failed; `null` when everything is written. */
  readonly failure: string | null;
  /** Writes what is left, for at most `timeoutMs`, and takes no more. */
  close(timeoutMs: number): Promise<void>;
}

export function createLeaseStore(parts: {
  readonly api: KubeApi;
  readonly clock: Clock;
  readonly namespace: string;
  /** Whether this process may write: only the leader's leases count, and what it wrote before it lost that is its last. */
  readonly mayWrite: () => boolean;
}): LeaseStore {
  const { clock, mayWrite } = parts;
  const map = new SplitMap({ ...parts, name: LEASE_MAP });
  /** What is to be written: the text, or `null` to delete. */
  let pending = new Map<string, string | null>();
  let waiting: ((outcome: StoreOutcome) => void)[] = [];
  let running: Promise<void> | null = null;
  let failure: string | null = null;
  const closing = new AbortController();

  async function writePending(timeoutMs: number): Promise<void> {
    const batch = pending;
    const told = waiting;
    pending = new Map();
    waiting = [];
    const changes = new Map<string, EntryChange>([...batch].map(([id, text]) => [id, () => text]));
    const outcome: StoreOutcome = mayWrite()
      ? await map.change(changes, timeoutMs)
      : { ok: false, detail: 'Cannot write leases: another process leads' };
    failure = outcome.ok ? null : outcome.detail;
    for (const tell of told) tell(outcome);
    // What was not taken is tried again, whatever came since on top of it; who leads no more has nothing left to say.
    if (!outcome.ok && mayWrite()) pending = new Map([...batch, ...pending]);
  }

  async function run(): Promise<void> {
    while (pending.size > 0 && !closing.signal.aborted) {
      const startedMs = clock.now().elapsedMs;
      await writePending(WRITE_TIMEOUT_MS);
      await clock.sleep(WRITE_EVERY_MS - (clock.now().elapsedMs - startedMs), closing.signal);
    }
    running = null;
  }

  return {
    append({ set, delete: deleted }) {
      let isTouched = false;
      const take = (key: string, text: string | null): void => {
        if (!key.startsWith(LEASE_KEY)) return;
        isTouched = true;
        pending.set(key.slice(LEASE_KEY.length), text);
      };
      for (const [key, value] of Object.entries(set)) take(key, JSON.stringify(value));
      for (const key of deleted) take(key, null);
      if (!isTouched) return Promise.resolve({ ok: true });
      if (closing.signal.aborted) return Promise.resolve({ ok: false, detail: 'The lease store is closed' });
      const written = new Promise<StoreOutcome>((resolve) => waiting.push(resolve));
      running ??= run();
      return written;
    },
    async read(timeoutMs) {
      const read = await map.read(timeoutMs);
      if (read.kind === 'unreachable') return read;
      const leases = new Map<string, unknown>();
      const problems: string[] = [];
      for (const [id, text] of read.entries) {
        try {
          leases.set(id, JSON.parse(text));
        } catch {
          problems.push(`ConfigMap ${LEASE_MAP}: ${id} is no JSON`);
        }
      }
      return { kind: 'read', leases, problems };
    },
    get failure() {
      return failure;
    },
    async close(timeoutMs) {
      closing.abort();
      await running;
      if (pending.size > 0) await writePending(timeoutMs);
      for (const tell of waiting) tell({ ok: false, detail: 'The lease store is closed' });
    },
  };
}
