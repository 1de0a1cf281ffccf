// `vsf-safety guard`: the companion of a workload in a pod. It holds the pod's lease, and is told what the workload must
// do. What it can do itself depends on the pod: with a shared process namespace it pauses and stops every process that
// bears the lease's mark; without, it tells by its files and its exit code, and the service's own actuator ends the pod.
// Meant as a native sidecar, whose startup probe keeps the workload from starting before there is leave to.
import { randomUUID } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { IntensityFile } from '../run/intensity-file.ts';
import { Workload } from '../run/workload.ts';
import { LeaseHolder, type LeaseView } from '../sdk/lease-holder.ts';
import { askLease, type Grant, type LeaseAsk, type Refusal, waitForLease } from '../sdk/lease-requests.ts';
import type { SafetyService } from '../sdk/safety-service.ts';
import { type Command, CommandFailed, EXIT, type Io, readArguments } from './io.ts';
import { ageText, printable, writeLines } from './layout.ts';
import {
  httpService,
  LEASE_HELP,
  LEASE_OPTIONS,
  orFail,
  readLeaseAsk,
  SERVICE_HELP,
  STOPPED_FOR_SAFETY,
} from './run-options.ts';

/** A service that is replaced or moved to another node is back within it; a shorter one would end pods for that. */
const DEFAULT_TTL_SECONDS = 120;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const help = `\
Usage: vsf-safety guard [--lease FILE] [--ready-file FILE] [--intensity-file FILE] [options]

Holds the lease of a pod for as long as it runs, and renews it while the service restarts. With a
shared process namespace it pauses and stops every process that has VSF_LEASE=<id> in its
environment; the service ends the pods that are labelled vsf-lease=<id>. Ends with SIGTERM, and
gives the lease back.

Options:
${LEASE_HELP}
  --name NAME        what people see of it (default: POD_NAMESPACE/POD_NAME)
  --wait             ask again as long as a cooldown or a missing reading lasts
  --ttl SECONDS      how long the lease lives without the service, 5 to 300 (default ${DEFAULT_TTL_SECONDS})
  --lease FILE       the lease's id, a UUID: read where the file is there, else written
  --ready-file FILE  is there for as long as there is leave to run
  --intensity-file FILE  holds the share of full load that may be used now
${SERVICE_HELP}
  VSF_LEASE          the lease's id, over --lease; without both a new one is made
  POD_NAME, POD_NAMESPACE

Exit code: 0 after SIGTERM; 75 refused; 76 stopped for safety; 1 error; 2 wrong usage.

Examples:
  vsf-safety guard --wait --ready-file /run/vsf/ready
  vsf-safety guard --nodes "$NODE_NAME" --intensity 0.6 --intensity-file /run/vsf/intensity
`;

export const command: Command = {
  help,
  async run(args, io) {
    const { values } = readArguments(args, {
      ...LEASE_OPTIONS,
      lease: { type: 'string' },
      'ready-file': { type: 'string' },
      'intensity-file': { type: 'string' },
    });
    const pod = [io.env['POD_NAMESPACE'], io.env['POD_NAME'] ?? io.hostname].filter(Boolean).join('/');
    const ask = readLeaseAsk(values, values.name ?? pod, DEFAULT_TTL_SECONDS);
    const service = httpService(values, io);
    const id = await leaseId(values.lease, io);
    const readyFile = values['ready-file'] ?? null;
    const intensityFile = values['intensity-file'] === undefined ? null : IntensityFile.at(values['intensity-file']);
    const parts = { io, service, ask: { ...ask, id }, wait: values.wait === true, id, readyFile, intensityFile };
    const ending = new AbortController();
    const end = (): void => ending.abort();
    process.on('SIGTERM', end).on('SIGINT', end);
    try {
      // One that was killed with -9 has left its own.
      await unready(readyFile);
      return await guard(parts, ending.signal);
    } finally {
      process.off('SIGTERM', end).off('SIGINT', end);
      await unready(readyFile);
    }
  },
};

interface Parts {
  readonly io: Io;
  readonly service: SafetyService;
  readonly ask: LeaseAsk;
  readonly wait: boolean;
  readonly id: string;
  readonly readyFile: string | null;
  readonly intensityFile: IntensityFile | null;
}

/** Holds the lease until it is over or `ending`; gives the exit code. */
async function guard(parts: Parts, ending: AbortSignal): Promise<number> {
  const { io, service, id } = parts;
  const workload = new Workload({ leaseId: id, pgid: null, clock: io.clock });
  // After a restart of this container the workload may be there. Without a lease, for whatever reason, it is stopped.
  const grant = await orFail(() => askForLeave(parts, ending)).catch(async (error: unknown) => {
    await stopMarked(workload, io);
    throw error;
  });
  if (grant === null) return EXIT.ok;
  if (grant.kind === 'refused') {
    const { action, reason } = grant.verdict;
    say(io, `refused: ${action}: ${reason}`);
    await stopMarked(workload, io);
    return action === 'ABORT' ? STOPPED_FOR_SAFETY : EXIT.refused;
  }
  let conclude = (_view: LeaseView | null): void => undefined;
  const concluded = new Promise<LeaseView | null>((resolve) => {
    conclude = resolve;
  });
  let told: LeaseView | null = null;
  const holder = new LeaseHolder({ service, clock: io.clock }, grant, {
    onResult: (view) => {
      obey(parts, workload, view, told);
      told = view;
    },
    onMissed: (detail, leftMs) =>
      say(io, `${detail}; the workload is stopped in ${ageText(leftMs / 1000)} unless that ends`),
    onOver: conclude,
  });
  const end = (): void => conclude(null);
  if (ending.aborted) end();
  ending.addEventListener('abort', end, { once: true });
  try {
    say(io, `holds lease ${id} of ${service.place} at intensity ${grant.intensityCap}`);
    await parts.intensityFile?.write(grant.intensityCap).then((failure) => failure !== null && say(io, failure));
    if (parts.readyFile !== null) await write(parts.readyFile, `${id}\n`);
    holder.start();
    const over = await concluded;
    if (over === null) return EXIT.ok;
    say(io, `stopping for safety: ${over.verdict.reason}`);
    // First, so that nothing is started while the rest is stopped.
    await unready(parts.readyFile).catch((error: Error) => say(io, error.message));
    await stopMarked(workload, io);
    return STOPPED_FOR_SAFETY;
  } finally {
    const failed = await holder.release();
    if (failed !== null) say(io, `the lease could not be given back and will lapse: ${failed}`);
  }
}

/** `null`: told to end meanwhile. */
async function askForLeave({ io, service, ask, wait }: Parts, ending: AbortSignal): Promise<Grant | Refusal | null> {
  const first = await askLease(service, io.clock, ask);
  if (first.kind === 'granted' || first.retryAfterSeconds === null || !wait) return first;
  say(io, `waits for leave to start: ${first.verdict.reason}`);
  return waitForLease(service, io.clock, ask, ending).catch((error: unknown) => {
    if (ending.aborted) return null;
    throw error;
  });
}

function obey({ io, intensityFile }: Parts, workload: Workload, view: LeaseView, told: LeaseView | null): void {
  const { state, intensityCap, verdict } = view;
  const isPaused = state === 'paused';
  // At each answer: what was born while the others were stopped is seen the next time.
  if (isPaused) void workload.pause();
  // A guard of before, killed while it paused, has left the workload as it was: the first answer lets it go on, too.
  else if (told?.state !== 'running') void workload.resume();
  void intensityFile?.write(intensityCap).then((failure) => failure !== null && say(io, failure));
  if (isPaused && told?.state !== 'paused') say(io, `paused: ${verdict.reason}`);
  if (!isPaused && told?.state === 'paused') say(io, 'goes on');
  if (told && told.intensityCap !== intensityCap) say(io, `intensity is now ${intensityCap}: ${verdict.reason}`);
}

async function stopMarked(workload: Workload, io: Io): Promise<void> {
  const marked = await workload.live();
  if (marked.length === 0) {
    say(
      io,
      'no process here bears the mark of the lease; without a shared process namespace only the service can end the pod',
    );
    return;
  }
  const { left, signals, tookMs } = await workload.stop();
  const how = `${signals.join(', ')}, ${(tookMs / 1000).toFixed(1)} s`;
  const rest = left.length === 0 ? '' : `; still there: process ${left.join(', ')}`;
  say(io, `stopped ${marked.length} processes (${how})${rest}`);
}

/** The id of this pod's lease, the same after a restart of this container: the lease is taken up where it was. */
async function leaseId(file: string | undefined, io: Io): Promise<string> {
  const given = io.env['VSF_LEASE']?.trim().toLowerCase();
  if (given) return checked(given, 'VSF_LEASE');
  if (file === undefined) return randomUUID();
  const written = await readFile(file, 'utf8').catch(() => '');
  if (written !== '') return checked(written.trim().toLowerCase(), file);
  const id = randomUUID();
  await write(file, `${id}\n`);
  return id;
}

function checked(id: string, where: string): string {
  if (UUID.test(id)) return id;
  throw new CommandFailed(`${where} holds ${JSON.stringify(id.slice(0, 80))}: must be a UUID`);
}

/** Ready is only who holds a lease. */
async function unready(file: string | null): Promise<void> {
  if (file === null) return;
  await rm(file, { force: true }).catch((error: Error) => {
    throw new CommandFailed(`Cannot remove ${file}: ${error.message}`);
  });
}

async function write(file: string, text: string): Promise<void> {
  await writeFile(file, text).catch((error: Error) => {
    throw new CommandFailed(`Cannot write ${file}: ${error.message}`);
  });
}

function say(io: Io, text: string): void {
  writeLines(io.stderr, [`vsf-safety: ${printable(text)}`]);
}
