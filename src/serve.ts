// The service: the assembled parts with the HTTP layer on top, listening.
import pino, { type Logger } from 'pino';
import { verifyProcessGroup } from './actuators/process-group.ts';
import { type Assembled, type AssembleOptions, assemble } from './assemble.ts';
import type { Config } from './config.ts';
import { buildApp } from './http/app.ts';
import type { App } from './http/parts.ts';
import { VERSION } from './version.ts';

export interface Serving {
  readonly kind: 'running';
  /** Where it listens: `http://127.0.0.1:8470`. */
  readonly url: string;
  readonly instance: string;
  readonly isFirstStart: boolean;
  readonly tokenFile: string;
  close(): Promise<void>;
}

export type ServeOutcome = Serving | { readonly kind: 'refused'; readonly exitCode: number; readonly message: string };

/** JSON lines on standard output, levels as words, and no credentials. */
export function createLogger(level: Config['logLevel']): Logger {
  return pino({
    level,
    formatters: { level: (label) => ({ level: label }) },
    redact: ['req.headers.authorization', 'req.headers["sec-websocket-protocol"]', '*.token'],
  });
}

/** The routes over assembled parts, listening nowhere yet. */
export function appOf(assembled: Assembled, log: Logger): App {
  const { config, supervisor, monitor, clock, instance, journal, history, processTable, simulation, cluster } =
    assembled;
  return buildApp({
    config,
    supervisor,
    monitor,
    clock,
    instance,
    version: VERSION,
    operatorToken: assembled.operatorToken,
    journalHealth: () => journal.health(),
    history,
    verifyProcessGroup: ({ pgid, leaseId }) => verifyProcessGroup({ pgid, leaseId, table: processTable }),
    runDrill: assembled.runDrill,
    gpuProcesses: assembled.gpuProcesses,
    ...(cluster && { cluster: cluster.member }),
    ...(cluster?.reviewToken && { reviewToken: cluster.reviewToken }),
    notify: assembled.notifier.status,
    simulation,
    log,
  });
}

/** Starts the service of `config`. Refuses with the exit code and the reason. */
export async function serve(
  config: Config,
  options: Omit<AssembleOptions, 'log'> & { readonly log?: Logger },
): Promise<ServeOutcome> {
  const { log = createLogger(config.logLevel), ...rest } = options;
  const assembled = await assemble(config, { ...rest, log });
  if (assembled.kind === 'refused') return assembled;
  const app = appOf(assembled, log);
  const close = async (): Promise<void> => {
    await app.close();
    await assembled.close();
  };
  try {
    const url = await app.listen({ host: config.listen.host, port: config.listen.port });
    return {
      kind: 'running',
      url,
      instance: assembled.instance,
      isFirstStart: assembled.isFirstStart,
      tokenFile: assembled.tokenFile,
      close,
    };
  } catch (error) {
    await close();
    const { host, port } = config.listen;
    const why = error instanceof Error ? error.message : String(error);
    return { kind: 'refused', exitCode: 1, message: `Cannot listen on ${host}:${port}: ${why}` };
  }
}
