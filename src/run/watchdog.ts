// A process of its own beside `vsf-safety run`, for the one case that no program can care for itself: its sudden death.
// It hangs on a pipe. When the pipe ends without a farewell (kill -9, out of memory), or when run has said nothing for
// longer than its lease lives (frozen, stopped), it stops the workload: SIGTERM, a short grace, SIGKILL. It is in a session
// of its own and deaf to the signals that end a terminal's programs, since those reach everybody at once.
import { rmdir, unlink } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { systemClock } from '../clock.ts';
import { Workload } from './workload.ts';

/** Its one argument, as JSON. */
export interface WatchdogOrder {
  readonly leaseId: string;
  readonly pgid: number;
  /** Files, and folders that are empty by then, to be removed after a stop. */
  readonly leftovers: readonly string[];
}

const DEAF_TO = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGPIPE', 'SIGTSTP'] as const;

function watch({ leaseId, pgid, leftovers }: WatchdogOrder): void {
  for (const signal of DEAF_TO) process.on(signal, () => undefined);
  let isOver = false;
  let disarm = (): void => undefined;
  const stop = async (why: string): Promise<void> => {
    if (isOver) return;
    isOver = true;
    say(`${why}: stopping its workload, process group ${pgid}`);
    const { left, tookMs } = await new Workload({ leaseId, pgid, clock: systemClock }).stop();
    if (left.length > 0) say(`Still there after SIGKILL: process ${left.join(', ')}`);
    else say(`Its workload is gone, after ${(tookMs / 1000).toFixed(1)} s`);
    for (const path of leftovers) await unlink(path).catch(() => rmdir(path).catch(() => undefined));
    process.exit(0);
  };
  const reader = createInterface({ input: process.stdin });
  reader.on('line', (line) => {
    const [word, ms] = line.split(' ');
    if (isOver) return;
    disarm();
    if (word === 'farewell') process.exit(0);
    const after = Number(ms);
    disarm = systemClock.after(after, () => void stop(`Nothing was heard from run for ${(after / 1000).toFixed(1)} s`));
  });
  reader.on('close', () => void stop('run has ended without a farewell'));
  process.stdout.write('ready\n');
}

/** The terminal may be gone; that must not keep anybody from being stopped. */
function say(message: string): void {
  process.stderr.on('error', () => undefined).write(`vsf-safety: ${message}\n`);
}

watch(JSON.parse(process.argv[2] ?? '') as WatchdogOrder);
