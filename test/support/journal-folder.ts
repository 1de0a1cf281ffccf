// The journal as the tests open it: a manual clock, a made-up product version, no token unless said.
import { type JournalOptions, type OpenedJournal, openJournal } from '../../src/journal.ts';
import { ManualClock } from './manual-clock.ts';

export const JOURNAL_FILE = 'journal.jsonl';

export function open(folder: string, more: Partial<JournalOptions> = {}): Promise<OpenedJournal> {
  return openJournal({ folder, clock: new ManualClock(), productVersion: '1.2.3', tokenExists: false, ...more });
}

/** The opened journal, which must be of that kind. */
export async function expectKind<K extends OpenedJournal['kind']>(
  opened: Promise<OpenedJournal>,
  kind: K,
): Promise<Extract<OpenedJournal, { kind: K }>> {
  const outcome = await opened;
  if (outcome.kind !== kind) throw new Error(`opened as ${outcome.kind}, expected ${kind}: ${JSON.stringify(outcome)}`);
  return outcome as Extract<OpenedJournal, { kind: K }>;
}

/** What a restart replays; never anything but a good journal. */
export async function replay(folder: string): Promise<{ [key: string]: unknown }> {
  const { journal, state } = await expectKind(open(folder), 'replayed');
  await journal.close();
  return Object.fromEntries(state);
}
