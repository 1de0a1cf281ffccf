#!/usr/bin/env node
// The program `vsf-safety`: hands the real process to the command line, and its answer to the shell.
import { homedir, hostname } from 'node:os';
import { createInterface } from 'node:readline/promises';
import { systemClock } from '../clock.ts';
import { processEnvironment } from '../config.ts';
import { runCli } from './cli.ts';
import { trustingFetch } from './trust.ts';

/** Commands that look after a workload: they go on when nobody reads them any more. */
const GUARDIANS = ['run', 'guard', 'serve'];

// `vsf-safety status | head`: whoever read us has gone, and that is no mistake. A terminal that was closed gives EIO.
for (const output of [process.stdout, process.stderr]) {
  output.on('error', (error: NodeJS.ErrnoException) => {
    if (GUARDIANS.includes(process.argv[2] ?? '')) return;
    if (error.code !== 'EPIPE') throw error;
    process.exit(0);
  });
}

/** A user without a home, as in many containers, has no default state folder; the service then says so itself. */
function homeDir(): string {
  try {
    return homedir();
  } catch {
    return '/';
  }
}

async function confirmAtTerminal(question: string, signal: AbortSignal): Promise<boolean> {
  // Ctrl-C stays a signal, as everywhere else.
  const reader = createInterface({ input: process.stdin, output: process.stderr, terminal: false });
  try {
    return /^y(es)?$/i.test((await reader.question(`${question} [y/N] `, { signal })).trim());
  } catch (error) {
    if (signal.aborted) return false;
    throw error;
  } finally {
    reader.close();
  }
}

process.exitCode = await runCli(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  env: processEnvironment,
  clock: systemClock,
  hostname: hostname(),
  homeDir: homeDir(),
  fetch: trustingFetch(processEnvironment),
  ...(process.stdin.isTTY === true && process.stderr.isTTY === true && { confirm: confirmAtTerminal }),
});
