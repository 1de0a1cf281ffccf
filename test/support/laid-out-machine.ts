// A machine of files and a stand-in nvidia-smi, and the real service that watches it: another process, over its network.
// Its CPU's counters move by themselves, as those of a running machine do; everything else stands until a test says so.
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { chip } from '../fixtures/sysfs-cpu.ts';
import { MEMINFO, stat } from '../fixtures/sysfs-machine.ts';
import { freshFolder, type RealService, type Reply, ROOT, startService } from './real-service.ts';
import { type StandIn, standIn } from './stand-in-command.ts';
import { layOut, type SysfsTree, type TreeTable } from './sysfs-tree.ts';

const PROGRAM = [process.execPath, join(ROOT, 'test/support/machine-service.mjs')];
export const NODE = 'bizon1';

/** A CPU of one socket at so many °C, in thousandths. */
export const cpuAt = (millidegrees: number): TreeTable =>
  chip('hwmon0', 'coretemp', { temp1_label: 'Package id 0', temp1_input: String(millidegrees) });

export interface MachineOptions {
  /** Files beside the CPU's counters, the memory and {@link cpuAt} 52 °C; with `cpu: false` without the latter. */
  readonly tree?: TreeTable;
  readonly cpu?: false;
  /** What nvidia-smi does, as a shell script; without it there is none. */
  readonly nvidiaSmi?: string;
  /** Lines of YAML for the node, and for the service beside intervals of a second. */
  readonly node?: string;
  readonly config?: string;
}

export interface LaidOutMachine {
  readonly tree: SysfsTree;
  readonly nvidiaSmi: StandIn;
  /** The service of now. */
  readonly service: RealService;
  /** Ends it by `signal` and starts another over the same record. */
  restart(signal?: NodeJS.Signals): Promise<void>;
  /** Asks for a preflight again and again until it says so. */
  preflight(what: string, isGood: (reply: Reply) => boolean): Promise<Reply>;
}

/** Lays the machine out and starts the service over it. */
export async function startMachine(t: Test, options: MachineOptions = {}): Promise<LaidOutMachine> {
  const { tree: files = {}, cpu, nvidiaSmi: script, node = '', config = '' } = options;
  const tree = await layOut(t, {
    '/proc/stat': stat({ cpu0: '100 0 0 1000 0 0 0 0 0 0' }),
    '/proc/meminfo': MEMINFO,
    '/proc/sys/kernel/random/boot_id': '3f0c8c0e-5a61-4a0e-9d0b-6f1f0d2b7a11\n',
    ...(cpu === false ? {} : cpuAt(52_000)),
    ...files,
  });
  runTheCpu(t, tree.root);
  const nvidiaSmi = await standIn(t, 'nvidia-smi', script ?? 'exit 9');
  const env = { ...nvidiaSmi.env, MACHINE_ROOT: tree.root, ...(script === undefined && { PATH: '/nonexistent' }) };
  const yaml = `interval: 1s\nfastInterval: 1s\n${config}\nnodes:\n  - name: ${NODE}\n${node.replace(/^(?=.)/gm, '    ')}`;
  const start = (stateDir: string): Promise<RealService> =>
    startService(t, { program: PROGRAM, args: ['--source', 'local'], stateDir, config: yaml, env });
  let service = await start(freshFolder(t));
  return {
    tree,
    nvidiaSmi,
    get service() {
      return service;
    },
    async restart(signal = 'SIGTERM') {
      await service.stop(signal);
      service = await start(service.stateDir);
    },
    preflight: (what, isGood) => service.until(what, () => service.get('/preflight'), isGood),
  };
}

/** One CPU, a tenth of it at work, for as long as the test runs. */
function runTheCpu(t: Test, root: string): void {
  let ticks = 0;
  const timer = setInterval(() => {
    ticks += 10;
    const draft = join(root, 'proc/stat.next');
    writeFileSync(draft, stat({ cpu0: `${100 + ticks} 0 0 ${1000 + 9 * ticks} 0 0 0 0 0 0` }));
    renameSync(draft, join(root, 'proc/stat'));
  }, 100);
  t.teardown(() => clearInterval(timer));
}

/** The readings of /status, as `component/id/quantity` -> value, or the cause of its absence. Shown ones are left out. */
export async function readingsOf(service: RealService): Promise<Record<string, number | string>> {
  const { body } = await service.get('/status');
  const all: Record<string, number | string> = {};
  for (const { component, id = '', quantity, value, missing, informational } of body.nodes[0].readings) {
    if (!informational) all[`${component}/${id}/${quantity}`] = value ?? missing;
  }
  return all;
}

/** A start is safe. */
export const isSafe = (reply: Reply): boolean => reply.status === 200;

/** All findings as `code level component/id/quantity action`. */
export const found = ({ body }: Reply): string[] =>
  body.findings.map(
    // biome-ignore lint/suspicious/noExplicitAny: an answer as it comes
    ({ code, level, component, id = '', quantity = '', action }: any) =>
      `${code} ${level} ${component}/${id}/${quantity} ${action}`,
  );

/** What {@link found} says of a card that these are missing of. */
export const missingOf = (id: string, ...quantities: string[]): string[] =>
  quantities.map((quantity) => `reading-missing missing gpu/${id}/${quantity} WAIT_COOLDOWN`);

/** The answer once it says exactly that: 503 and nothing but these findings. */
export async function refusal(t: Test, machine: LaidOutMachine, findings: readonly string[]): Promise<Reply> {
  const reply = await machine.preflight(findings.join(', '), (r) => r.status === 503 && sameSet(found(r), findings));
  t.match(reply.body, { safe: false, action: 'WAIT_COOLDOWN' });
  t.ok(Number(reply.headers.get('retry-after')) > 0);
  return reply;
}

/** The same findings, in whatever order. */
export const sameSet = (a: readonly string[], b: readonly string[]): boolean =>
  `${[...a].sort()}` === `${[...b].sort()}`;
