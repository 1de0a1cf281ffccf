// `vsf-safety run` and `guard` as a shell would start them: the real program, over the network, with what it said kept.
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { ROOT } from '../support/real-service.ts';

export interface Started {
  readonly child: ChildProcess;
  /** What the command wrote. */
  readonly out: () => string;
  /** What `run` and the command told. */
  readonly err: () => string;
  /** The exit code, or the signal's name. */
  readonly ended: Promise<number | string>;
}

export function start(t: Test, args: readonly string[], env: Readonly<Record<string, string>> = {}): Started {
  const child = spawn(process.execPath, [join(ROOT, 'dist/bundle/main.js'), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  const [out, err]: [string[], string[]] = [[], []];
  child.stdout.setEncoding('utf8').on('data', (text: string) => out.push(text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => err.push(text));
  const ended = new Promise<number | string>((resolve) => {
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  });
  t.teardown(() => child.kill('SIGKILL'));
  return { child, out: () => out.join(''), err: () => err.join(''), ended };
}

/** R, S, T, Z …; empty when there is none. */
export function stateOf(pid: number): string {
  try {
    return /\) (\S) /.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1] ?? '';
  } catch {
    return '';
  }
}

/** Whether a process runs; zombies do not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  return stateOf(pid) !== 'Z';
}
