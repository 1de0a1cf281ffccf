// What a service leaves behind that has died: process groups that it had given leases to, and nobody who watches the
// hardware for them. Reads its journal, which is not changed, and stops them by the same rules as the service: a group
// whose leader bears the lease's mark and has the recorded start time, and what of it has left the group.
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { StopProgress } from './actuators/actuator.ts';
import { createLocalProcesses } from './actuators/local-processes.ts';
import { createProcessTable } from './actuators/process-table.ts';
import type { Clock } from './clock.ts';
import { loadConfig, readBootId } from './config.ts';
import { restoreState } from './domain/durable.ts';
import { targetOf } from './domain/lease.ts';
import type { SafetySettings } from './domain/settings.ts';
import type { StopTarget } from './domain/stop.ts';
import { diskFiles, errorCode, errorText } from './durable-files.ts';
import { JOURNAL_FILE } from './journal-file.ts';
import { readJournal } from './journal-record.ts';
import { takeStateLock } from './state-lock.ts';

/** TERM, 3 s, KILL, and time for memory that is pinned for a GPU; a service manager does not wait for ever. */
const GIVE_UP_MS = 12_000;

export type FoundOrphans =
  /** A service lives and holds the folder: it watches over them. */
  | { readonly kind: 'watched'; readonly detail: string }
  /** The journal does not tell. Nothing may be touched on a guess. */
  | { readonly kind: 'unknown'; readonly detail: string }
  | {
      readonly kind: 'found';
      readonly targets: readonly StopTarget[];
      /** Ends when all are seen gone, or after 12 s. */
      stop(reason: string): Promise<StopProgress>;
      /** Lets the next service have the folder. */
      release(): Promise<void>;
    };

/**
 * Looks into the state folder of a service that has died, and keeps the next one from starting until `release`. Never
 * rejects.
 *
 * @param options.simulated leases given under `source: simulated` count, too
 */
export async function findOrphans(options: {
  readonly folder: string;
  readonly hostname: string;
  readonly simulated: boolean;
  readonly clock: Clock;
}): Promise<FoundOrphans> {
  const { folder, hostname, clock } = options;
  const locked = await takeStateLock(folder, clock);
  if (locked.kind === 'held') {
    const { pid } = locked.holder;
    return { kind: 'watched', detail: `${pid === null ? 'A process' : `Process ${pid}`} holds ${folder}` };
  }
  if (locked.kind === 'unusable') return { kind: 'unknown', detail: locked.detail };
  const { lock } = locked;
  const found = await readTargets(options);
  if (typeof found === 'string') {
    await lock.release();
    return { kind: 'unknown', detail: found };
  }
  const actuator = createLocalProcesses({
    node: hostname,
    clock,
    table: createProcessTable({ clock }),
    targets: () => found,
  });
  return {
    kind: 'found',
    targets: found,
    async stop(reason) {
      const over = new AbortController();
      const disarm = clock.after(GIVE_UP_MS, () => over.abort());
      let told: StopProgress = { entries: [], verified: false };
      const order = {
        orderId: 'orphans',
        scope: { kind: 'all' as const },
        what: 'leases' as const,
        targets: found,
        reason,
      };
      await actuator.stop(
        order,
        (progress) => {
          told = progress;
          if (progress.verified) over.abort();
        },
        over.signal,
      );
      disarm();
      return told;
    },
    release: () => lock.release(),
  };
}

/** Every process group that the service would stop now, each once; or why that is not known. */
async function readTargets(options: {
  readonly folder: string;
  readonly hostname: string;
  readonly simulated: boolean;
  readonly clock: Clock;
}): Promise<StopTarget[] | string> {
  const { folder, hostname, simulated, clock } = options;
  const path = join(folder, JOURNAL_FILE);
  let bytes: Buffer;
  try {
    bytes = await diskFiles.read(path);
  } catch (error) {
    // Nothing was ever granted from a folder without one.
    return errorCode(error) === 'ENOENT' ? [] : `Cannot read ${path}: ${errorText(error)}`;
  }
  const contents = readJournal(bytes);
  if (contents.kind === 'damaged') return `Cannot replay ${path}: ${contents.detail}`;
  if (contents.kind === 'newer')
    return `Cannot read ${path}: a newer version wrote it (format ${contents.fileVersion})`;
  const defaults = loadConfig({ text: '', env: {}, hostname, homeDir: '/' });
  if (!defaults.ok) throw new Error('The defaults are no configuration');
  const settings: SafetySettings = { ...defaults.config.settings, simulated, instance: '', bootId: readBootId() };
  const map = new Map([...contents.live].map(([key, text]): [string, unknown] => [key, JSON.parse(text)]));
  // A value that is no lease is left out: it names nobody.
  const { state } = restoreState(settings, map, { ...clock.now(), id: randomUUID() });
  const owed = [...state.endedLeases.values()].flatMap(({ owedStop }) => (owedStop ? [owedStop.target] : []));
  const tripped = [...state.trips.values()].flatMap(({ targets }) => targets);
  const leased = [...state.leases.values()].map(targetOf);
  const all = [...owed, ...tripped, ...leased].filter(({ processGroup }) => processGroup !== undefined);
  return [...new Map(all.map((target) => [target.leaseId, target])).values()];
}
