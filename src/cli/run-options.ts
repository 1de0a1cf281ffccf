// What `run` and `guard` share: the options of a lease and of the way to the service, read strictly.
import { isLoopbackHost } from '../config.ts';
import { HttpService } from '../sdk/http-service.ts';
import type { LeaseAsk } from '../sdk/lease-requests.ts';
import { type SafetyService, SafetyServiceError } from '../sdk/safety-service.ts';
import { DEFAULT_URL } from './client.ts';
import { CommandFailed, EXIT, type Io, readSeconds } from './io.ts';
import { printable } from './layout.ts';

/** The exit code of what was started and stopped for safety. */
export const STOPPED_FOR_SAFETY = 76;

export const LEASE_OPTIONS = {
  intensity: { type: 'string' },
  name: { type: 'string' },
  nodes: { type: 'string' },
  gpus: { type: 'string' },
  ttl: { type: 'string' },
  wait: { type: 'boolean' },
  url: { type: 'string' },
  'token-file': { type: 'string' },
} as const;

export const LEASE_HELP = `\
  --intensity SHARE  the share of full load asked for, over 0 to 1 (default: the profile's maximum)
  --nodes A,B        judge these nodes only (default: all)
  --gpus A,B         these GPUs, by UUID or PCI address`;

export const SERVICE_HELP = `\
  --url URL          where the service listens (default ${DEFAULT_URL})
  --token-file FILE  holds the bearer token; read anew for each request

Environment:
  VSF_SAFETY_URL     as --url
  VSF_SAFETY_TOKEN   the bearer token itself; on the service's own machine none is needed`;

export interface LeaseValues {
  readonly intensity?: string | undefined;
  readonly nodes?: string | undefined;
  readonly gpus?: string | undefined;
  readonly ttl?: string | undefined;
  readonly url?: string | undefined;
  readonly 'token-file'?: string | undefined;
}

/** `name` is what people see of the workload. Exit code 2 for what can be no lease. */
export function readLeaseAsk(values: LeaseValues, name: string, defaultTtlSeconds: number): LeaseAsk {
  const workload = printable(name).trim();
  if (workload === '' || workload.length > 200) {
    throw new CommandFailed(`--name is ${JSON.stringify(name)}: must be 1 to 200 printable characters`, EXIT.usage);
  }
  const { intensity, nodes, gpus, ttl } = values;
  return {
    workload,
    ttlSeconds: ttl === undefined ? defaultTtlSeconds : readSeconds('ttl', ttl, 5, 300),
    ...(intensity !== undefined && { intensity: readIntensity(intensity) }),
    ...(nodes !== undefined && { nodes: readList('nodes', nodes) }),
    ...(gpus !== undefined && { gpus: readList('gpus', gpus) }),
  };
}

function readIntensity(text: string): number {
  const share = /^(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) : Number.NaN;
  if (share > 0 && share <= 1) return share;
  throw new CommandFailed(`--intensity is ${JSON.stringify(text)}: must be a number over 0 to 1`, EXIT.usage);
}

function readList(name: string, text: string): readonly string[] {
  const items = text.split(',').map((item) => item.trim());
  if (!items.includes('')) return items;
  throw new CommandFailed(`--${name} is ${JSON.stringify(text)}: must be names with commas between`, EXIT.usage);
}

/** Exit code 2 for an address that is none. Nothing is asked yet. */
export function httpService({ url, 'token-file': tokenFile }: LeaseValues, io: Io): SafetyService {
  try {
    return new HttpService({ url, tokenFile }, io.env, io.clock);
  } catch (error) {
    if (error instanceof TypeError) throw new CommandFailed(error.message, EXIT.usage);
    throw error;
  }
}

/** Whether it can see the processes of this machine: what listens on loopback mostly can. */
export function isOnThisMachine({ place }: SafetyService): boolean {
  return !URL.canParse(place) || isLoopbackHost(new URL(place).hostname);
}

/** Runs `ask`; a mistake in what was asked ends the command with exit code 1. */
export async function orFail<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof SafetyServiceError) throw new CommandFailed(error.message);
    throw error;
  }
}
