// The systemd unit as it is shipped, and a process started the way that it says, since no systemd runs here.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './real-service.ts';

/** The last value of a key. */
export function unitValue(key: string): string {
  const text = readFileSync(join(ROOT, 'deploy/vsf-safety.service'), 'utf8');
  const value = [...text.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].at(-1)?.[1];
  if (value === undefined) throw new Error(`The unit has no ${key}`);
  return value;
}

/** `ExecStart` or `ExecStopPost` under the unit's user, capabilities and file mask, by util-linux' setpriv. */
export function commandOfUnit(key: 'ExecStart' | 'ExecStopPost'): string[] {
  const capabilities = unitValue('AmbientCapabilities')
    .split(' ')
    .map((name) => `+${name.replace(/^CAP_/, '').toLowerCase()}`)
    .join();
  return [
    'setpriv',
    `--reuid=${unitValue('User')}`,
    `--regid=${unitValue('Group')}`,
    '--clear-groups',
    `--inh-caps=-all,${capabilities}`,
    `--ambient-caps=-all,${capabilities}`,
    `--bounding-set=-all,${capabilities}`,
    '--no-new-privs',
    'sh',
    '-c',
    `umask ${unitValue('UMask')}; exec "$@"`,
    'sh',
    ...unitValue(key).split(' '),
  ];
}
