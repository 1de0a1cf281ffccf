// The service: the assembled parts with the HTTP layer on top, listening.
import pino, { type Logger } from 'pino';
import { verifyProcessGroup } from './actuators/process-group.ts';
import { type Assembled, type AssembleOptions, assemble } from './assemble.ts';
import { Audit } from './audit.ts';
import { systemClock, withDeadline } from './clock.ts';
import { CommissionStore } from './commission-store.ts';
import type { Config } from './config.ts';
import { buildApp } from './http/app.ts';
import { readCommissionReport } from './http/commission-view.ts';
import type { App, AppParts } from './http/parts.ts';
import { TokenSet } from './http/token-set.ts';
import { openCertificate } from './serve-certificate.ts';
import { type TokenParts, TokenRotation } from './serve-tokens.ts';
import { readOperatorToken } from './state-folder.ts';
import type { Supervisor } from './supervisor.ts';
import { VERSION } from './version.ts';

export interface Serving {
  readonly kind: 'running';
  /** Where it listens: `http://127.0.0.1:8470`. */
  readonly url: string;
  readonly instance: string;
  readonly isFirstStart: boolean;
  readonly tokenFile: string;
  /** Reads tokens and certificate again now. Never rejects. */
  reload(): Promise<void>;
  readonly supervisor: Supervisor;
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
export function appOf(
  assembled: Assembled,
  log: Logger,
  access: Pick<AppParts, 'tokens' | 'security' | 'audit' | 'commission' | 'certificate'>,
): App {
  const { config, supervisor, monitor, clock, instance, journal, history, processTable, simulation, cluster } =
    assembled;
  return buildApp({
    config,
    supervisor,
    monitor,
    clock,
    instance,
    version: VERSION,
    ...access,
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

/** The last lines of the audit may take this long at shutdown. */
const AUDIT_CLOSE_MS = 1_000;

export interface ServeOptions extends Omit<AssembleOptions, 'log'> {
  readonly log?: Logger;
  /** Where tokens are read again from; left out: only the operator's file is. */
  readonly configFile?: TokenParts['configFile'];
}

/** Starts the service of `config`. Refuses with the exit code and the reason. */
export async function serve(config: Config, options: ServeOptions): Promise<ServeOutcome> {
  const { log = createLogger(config.logLevel), configFile, ...rest } = options;
  const opened = config.listen.tls ? await openCertificate(config.listen.tls, rest.clock ?? systemClock, log) : null;
  if (opened && !opened.ok) return { kind: 'refused', exitCode: 1, message: opened.detail };
  const assembled = await assemble(config, { ...rest, log });
  if (assembled.kind === 'refused') return assembled;
  const { clock, operatorToken, supervisor, stateFolder } = assembled;
  const certificate = opened?.certificate ?? null;
  const audit = new Audit({ folder: stateFolder.folder, clock });
  const tokens = new TokenSet({ operator: operatorToken, configured: config.auth.tokens });
  const rotation = new TokenRotation({
    tokens,
    config,
    operatorToken,
    ...(configFile && { configFile }),
    readOperatorToken: (isAsked) =>
      isAsked ? stateFolder.ensureOperatorToken() : readOperatorToken(stateFolder.folder),
    clock,
    log,
    onReload: (outcome, detail) => audit.record({ deed: 'tokens-reloaded', outcome, by: 'service', detail }),
  });
  const onRenewed = (detail: string): void =>
    audit.record({ deed: 'certificate-reloaded', outcome: 'done', by: 'service', detail });
  const commission = await CommissionStore.open(stateFolder.folder, readCommissionReport);
  const app = appOf(assembled, log, {
    tokens,
    commission,
    ...(certificate && { certificate }),
    audit,
    security: () => ({
      certificate: certificate?.status() ?? null,
      tokens: rotation.status(),
      audit: audit.health(),
    }),
  });
  const close = async (): Promise<void> => {
    rotation.close();
    certificate?.close();
    await app.close();
    // The state folder is locked until the parts are closed, so that nobody else writes there meanwhile.
    await withDeadline(clock, AUDIT_CLOSE_MS, audit.close());
    await assembled.close();
  };
  try {
    const url = await app.listen({ host: config.listen.host, port: config.listen.port });
    const standing = [...supervisor.state.trips.keys()];
    const detail = `version ${VERSION}${standing.length === 0 ? '' : `, tripped: ${standing.join(', ')}`}`;
    audit.record({ deed: 'started', outcome: 'done', by: 'service', detail });
    void rotation.watch();
    void certificate?.watch(onRenewed);
    return {
      kind: 'running',
      url,
      instance: assembled.instance,
      isFirstStart: assembled.isFirstStart,
      tokenFile: assembled.tokenFile,
      reload: async () => {
        await Promise.all([rotation.reload(), certificate?.look(onRenewed)]);
      },
      supervisor: assembled.supervisor,
      close,
    };
  } catch (error) {
    await close();
    const { host, port } = config.listen;
    const why = error instanceof Error ? error.message : String(error);
    return { kind: 'refused', exitCode: 1, message: `Cannot listen on ${host}:${port}: ${why}` };
  }
}
