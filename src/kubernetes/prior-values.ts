// The values that a stop overwrites, so that a restore can give them back: in memory at once, in ConfigMap
// `vsf-estop-restore` as soon as it takes them, gathered so that a hundred controllers stopped at the same moment are one
// write. Not in annotations of the controllers: that would need the right to change all of them. The first write wins,
// since a second look at a stopped controller would remember the stop; only after the trip's reset is a newer value taken.

import type { Clock } from '../clock.ts';
import { dropOldest, groupedBy } from '../domain/collections.ts';
import { LAPSE_ORDER } from '../domain/lease-endings.ts';
import type { KubeApi } from './kube-api.ts';
import { type EntryChange, SplitMap } from './split-map.ts';
import type { PriorField, PriorValue } from './stop-latch.ts';

export const RESTORE_MAP = 'vsf-estop-restore';

/** A prior value as it is kept. */
export interface KeptPrior extends PriorValue {
  /** Resets that there had been when it was recorded. */
  readonly epoch: number;
  readonly recordedWallMs: number;
  /** Trips that it was recorded for, and that the present one took over. */
  readonly formerly?: readonly string[];
}

export interface PriorValues {
  /** Resolves once the cluster has it; `false` when the first write failed or was too slow. It is tried on until closed. */
  record(prior: PriorValue): Promise<boolean>;
  priorOf(uid: string): KeptPrior | undefined;
  all(): readonly KeptPrior[];
  /** The trips `from` were taken over by the trip `to`: what their stops overwrote is its to give back. */
  handOver(from: readonly string[], to: string): void;
  /**
   * Takes over what other processes recorded, and drops what they forgot; what this one recorded meanwhile stands. Says
   * why it could not.
   */
  load(timeoutMs: number): Promise<{ readonly ok: true } | { readonly ok: false; readonly detail: string }>;
  /** Forgets values that were given back, or that nothing is left to give back to. */
  forget(uids: readonly string[], timeoutMs: number): Promise<boolean>;
  close(): void;
}

/**
 * Keeps values until the cluster has them: a busy server may take longer than a stop waits, and a process that is killed
 * meanwhile must still know what it has overwritten.
 */
export interface PriorDisk {
  /** What an earlier start left there. */
  readonly earlier: readonly unknown[];
  /** In the page cache when this returns where the disk is idle; resolves with whether it is durable. Never rejects. */
  keep(prior: KeptPrior): Promise<boolean>;
  drop(uids: readonly string[]): void;
}

const WRITE_TIMEOUT_MS = 3_000;
/** Of stops that are over: their ConfigMaps hold some 9,000, and a lapse a day leaves one for each controller. */
const MOST_OF_PAST_STOPS = 2_000;
/** Trips that are remembered as taken over: their stops are at work for seconds more at most. */
const MOST_TAKEN_OVER = 1_000;
/** Between tries while the cluster does not take it. */
const RETRY_MS = [250, 500, 1_000, 2_000] as const;

export function createPriorValues(parts: {
  readonly api: KubeApi;
  readonly clock: Clock;
  readonly namespace: string;
  /** How many resets there have been by now. */
  readonly epoch: () => number;
  /** Whether this trip's stop still stands. */
  readonly isActive: (orderId: string) => boolean;
  /** Left out: until the cluster has a value it is in memory alone. */
  readonly disk?: PriorDisk;
}): PriorValues {
  const { clock, epoch, isActive, disk } = parts;
  const map = new SplitMap({ ...parts, name: RESTORE_MAP });
  const kept = new Map<string, KeptPrior>();
  const unwritten = new Map<string, KeptPrior>();
  const takenOver = new Map<string, { readonly by: string; readonly formerly: readonly string[] }>();
  const closing = new AbortController();
  let waiting: ((isDurable: boolean) => void)[] = [];
  let isWriting = false;

  /** What is kept once `next` came after `before`. */
  function after(before: KeptPrior | undefined, next: KeptPrior): KeptPrior {
    if (!before) return next;
    const isLapse = before.orderId.startsWith(LAPSE_ORDER);
    const isSameStop =
      before.orderId === next.orderId || isActive(before.orderId) || (!isLapse && before.epoch >= next.epoch);
    if (!isSameStop) return next;
    const fields = joined(before.fields, next.fields);
    const { orderId, formerly } = next;
    if (formerly?.includes(before.orderId)) return { ...before, orderId, formerly, fields };
    return fields.length === before.fields.length ? before : { ...before, fields };
  }

  async function write(): Promise<void> {
    isWriting = true;
    for (let failures = 0; unwritten.size > 0 && !closing.signal.aborted; ) {
      const batch = new Map(unwritten);
      const told = waiting;
      waiting = [];
      const changes = new Map<string, EntryChange>();
      for (const [uid, next] of batch) {
        // What another process wrote first wins there, too.
        changes.set(uid, (text) => JSON.stringify(after(readPrior(text) ?? undefined, next)));
      }
      const written = await map.change(changes, WRITE_TIMEOUT_MS);
      for (const tell of told) tell(written.ok);
      if (!written.ok) {
        await clock.sleep(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)] ?? 2_000, closing.signal);
        failures += 1;
        continue;
      }
      failures = 0;
      const done = [...batch].filter(([uid, next]) => unwritten.get(uid) === next).map(([uid]) => uid);
      for (const uid of done) unwritten.delete(uid);
      if (done.length > 0) disk?.drop(done);
    }
    isWriting = false;
  }

  /** A stop that was taken over may be in the midst of a controller still, which it names by the trip that is gone. */
  function underItsTrip(prior: PriorValue): PriorValue & Pick<KeptPrior, 'formerly'> {
    let [now, formerly]: [string, readonly string[]] = [prior.orderId, []];
    for (let over = takenOver.get(now); over; over = takenOver.get(now)) {
      now = over.by;
      formerly = [...formerly, ...over.formerly];
    }
    return formerly.length === 0 ? prior : { ...prior, orderId: now, formerly };
  }

  /** In memory at once, on the disk in a moment, in the cluster as soon as it takes it; resolves as `disk` does. */
  function keep(next: KeptPrior): Promise<boolean> {
    kept.set(next.uid, next);
    unwritten.set(next.uid, next);
    const onDisk = disk?.keep(next) ?? Promise.resolve(false);
    if (!isWriting) void write();
    return onDisk;
  }

  for (const value of disk?.earlier ?? []) {
    const earlier = readPrior(JSON.stringify(value));
    if (!earlier) continue;
    kept.set(earlier.uid, earlier);
    unwritten.set(earlier.uid, earlier);
  }

  return {
    handOver(from, to) {
      for (const orderId of from) takenOver.set(orderId, { by: to, formerly: from });
      dropOldest(takenOver, MOST_TAKEN_OVER);
      for (const prior of kept.values()) {
        if (from.includes(prior.orderId))
          void keep({ ...prior, orderId: to, formerly: [...(prior.formerly ?? []), ...from] });
      }
    },
    record(prior) {
      const next: KeptPrior = { ...underItsTrip(prior), epoch: epoch(), recordedWallMs: clock.now().wallMs };
      const before = kept.get(prior.uid);
      const now = after(before, next);
      if (now === before && !unwritten.has(prior.uid)) return Promise.resolve(true);
      const inCluster = new Promise<boolean>((resolve) => waiting.push(resolve));
      // Either will do; only when neither took it, it is not durable.
      return keep(now).then((isOnDisk) => isOnDisk || inCluster);
    },
    priorOf: (uid) => kept.get(uid),
    all: () => [...kept.values()],
    async load(timeoutMs) {
      const written = [...kept.keys()].filter((uid) => !unwritten.has(uid));
      const read = await map.read(timeoutMs);
      if (read.kind === 'unreachable') return { ok: false, detail: read.detail };
      // Another process gave it back and forgot it.
      for (const uid of written) if (!read.entries.has(uid)) kept.delete(uid);
      for (const [uid, text] of read.entries) {
        const earlier = readPrior(text);
        if (!earlier) continue;
        const own = kept.get(uid);
        kept.set(uid, own ? after(earlier, own) : earlier);
      }
      if (unwritten.size > 0 && !isWriting) void write();
      const past = pastBeyondBound();
      if (past.length > 0) await forget(past, timeoutMs);
      return { ok: true };
    },
    forget,
    close() {
      closing.abort();
      for (const tell of waiting) tell(false);
      waiting = [];
    },
  };

  async function forget(uids: readonly string[], timeoutMs: number): Promise<boolean> {
    for (const uid of uids) {
      kept.delete(uid);
      unwritten.delete(uid);
    }
    disk?.drop(uids);
    const written = await map.change(new Map(uids.map((uid) => [uid, () => null])), timeoutMs);
    return written.ok;
  }

  /** Of the oldest stops that are over, whole stops: half of one gives nobody back what it was. The newest is kept. */
  function pastBeyondBound(): string[] {
    const stops = groupedBy(kept.values(), ({ orderId }) => (isActive(orderId) ? undefined : orderId));
    const newestOf = (priors: readonly KeptPrior[]): number =>
      priors.reduce((newest, { recordedWallMs }) => Math.max(newest, recordedWallMs), 0);
    const newestFirst = [...stops.values()].sort((a, b) => newestOf(b) - newestOf(a));
    let count = 0;
    return newestFirst.flatMap((priors, index) => {
      count += priors.length;
      return index > 0 && count > MOST_OF_PAST_STOPS ? priors.map(({ uid }) => uid) : [];
    });
  }
}

/** Both, of the same field the first. */
function joined(first: readonly PriorField[], second: readonly PriorField[]): readonly PriorField[] {
  return [...first, ...second.filter(({ path }) => !first.some((other) => isSamePath(other.path, path)))];
}

const isSamePath = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((key, index) => key === b[index]);

const isText = (value: unknown): value is string => typeof value === 'string' && value.length > 0;

/** An entry of the ConfigMap; `null` for one that is none, which a new value may replace. */
export function readPrior(text: string | null): KeptPrior | null {
  if (text === null) return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const told = value as Record<string, unknown>;
  const { orderId, group, version, kind, resource, namespace, name, uid, through, fields, epoch, recordedWallMs } =
    told;
  const texts = [orderId, version, kind, resource, name, uid];
  if (!texts.every(isText) || typeof group !== 'string' || !(namespace === undefined || isText(namespace))) return null;
  if (through !== 'scale' && through !== 'object' && through !== 'command') return null;
  if (typeof epoch !== 'number' || typeof recordedWallMs !== 'number' || !Array.isArray(fields)) return null;
  const isField = (field: unknown): boolean =>
    typeof field === 'object' &&
    field !== null &&
    'path' in field &&
    Array.isArray(field.path) &&
    field.path.length > 0 &&
    field.path.every(isText) &&
    'prior' in field &&
    'stop' in field;
  const { formerly } = told;
  if (formerly !== undefined && !(Array.isArray(formerly) && formerly.every(isText))) return null;
  return fields.length > 0 && fields.every(isField) ? (value as KeptPrior) : null;
}
