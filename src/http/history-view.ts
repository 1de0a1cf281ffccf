// How the history stands, as people and programs read it.
import type { HistoryHealth } from '../history/history.ts';
import type { HistoryStatusSchema, Told } from './schemas.ts';

/** `null`: none is kept. */
export function historyStatusOf(health: HistoryHealth | null): Told<typeof HistoryStatusSchema> {
  if (!health) {
    const detail = 'turned off: history.enabled or history.keep';
    return { state: 'off', detail, sizeBytes: 0, maxBytes: 0, keepSeconds: 0, keptFrom: null, lost: 0 };
  }
  const { state, detail, sizeBytes, maxBytes, keepMs, keptFromMs, lost } = health;
  const keptFrom = keptFromMs === null ? null : new Date(keptFromMs).toISOString();
  return { state, detail, sizeBytes, maxBytes, keepSeconds: keepMs / 1000, keptFrom, lost };
}
