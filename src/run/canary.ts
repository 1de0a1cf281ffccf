// The harmless workload of a commissioning test: it waits, loads nothing, and leaves marks in files, so that whoever had
// it stopped can tell when the first signal came. In a process of its own, started by `run` as any workload.
import { writeFileSync } from 'node:fs';
import { systemClock } from '../clock.ts';
import { CANARY_MARKS } from './canary-marks.ts';

/** At the latest; nobody may find one that was forgotten. */
const LONGEST_MS = 10 * 60_000;

const path = process.argv[2] ?? '';
process.once('SIGTERM', () => {
  writeFileSync(path + CANARY_MARKS.signalled, '');
  process.exit(0);
});
writeFileSync(path + CANARY_MARKS.started, String(process.pid));
await systemClock.sleep(LONGEST_MS);
