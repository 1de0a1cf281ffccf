// What the HTTP layer is given. Routes only submit events, read the state and ask these parts; everything that runs is
// made by whoever assembles the service.

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from 'fastify';
import type { Audit, AuditHealth } from '../audit.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config.ts';
import type { ClusterDetails } from '../domain/cluster.ts';
import type { JudgedReset } from '../domain/events.ts';
import type { GpuProcess } from '../domain/lease.ts';
import type { ProcessGroup, StopEntry, StopOrder } from '../domain/stop.ts';
import type { History } from '../history/history.ts';
import type { JournalHealth } from '../journal.ts';
import type { Monitor } from '../monitor.ts';
import type { NotifyStatus } from '../notify/target.ts';
import type { Supervisor } from '../supervisor.ts';
import type { ReviewToken } from './auth.ts';
import type { ProblemCode } from './problem.ts';
import type { CommissionReportSchema, RestoreStepSchema, SimulationStateSchema, Told } from './schemas.ts';
import type { TokenSet } from './token-set.ts';

export type ProcessGroupCheck =
  | { readonly ok: true; readonly group: ProcessGroup }
  | { readonly ok: false; readonly code: ProblemCode; readonly detail: string };

/** What is asked of the simulated rig. */
export interface Simulation {
  apply(
    change: unknown,
  ):
    | { readonly ok: true; readonly state: Told<typeof SimulationStateSchema> }
    | { readonly ok: false; readonly problem: string };
}

/** What becomes of a reset that is to be written to the cluster. */
export type ClusterResetOutcome =
  | { readonly kind: 'done' }
  | { readonly kind: 'not-leader' }
  | { readonly kind: 'changed' | 'not-written'; readonly detail: string };

/** One controller, given back what a stop took from it, or not. */
export type RestoreStep = Told<typeof RestoreStepSchema>;

/** This process as one of its cluster's. */
export interface ClusterPart {
  facts(): ClusterDetails;
  /** Writes a reset there, and calls `commit` only if that succeeded. Ends within some 5 s; never rejects. */
  reset(request: {
    readonly tripId: string;
    readonly by: string;
    readonly reason: string;
    /** What it knew when it was judged, in this very turn: what came later keeps it from being written. */
    readonly judged: JudgedReset;
    readonly commit: () => void;
  }): Promise<ClusterResetOutcome>;
  /** Gives controllers back what a trip's stop took, one at a time; `mayGoOn` is asked before each. Never rejects. */
  restore(request: {
    readonly tripId: string;
    readonly dryRun: boolean;
    readonly mayGoOn: () => Promise<{ readonly ok: true } | { readonly ok: false; readonly detail: string }>;
    readonly onStep: (step: RestoreStep) => void;
  }): Promise<readonly RestoreStep[]>;
}

export type CommissionReport = Told<typeof CommissionReportSchema>;

/** Where commissioning reports are kept. */
export interface CommissionPart {
  readonly last: CommissionReport | null;
  /** Rejects with Node's error. */
  keep(report: CommissionReport, inWords: string): Promise<void>;
}

/** PEM. */
export interface TlsPair {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** The listener's certificate, which may be replaced while the service runs. */
export interface ServingCertificate {
  /** The one in use. */
  readonly pair: TlsPair;
  onChange(listener: (pair: TlsPair) => void): void;
}

/** How the certificate in use stands; `ok: false`: a newer one is there and cannot be used, `detail` says why. */
export interface CertificateStatus {
  readonly subject: string;
  readonly notAfter: string;
  /** Negative: it has expired. */
  readonly expiresInSeconds: number;
  readonly fingerprint256: string;
  readonly loadedAt: string;
  readonly ok: boolean;
  readonly detail: string;
}

/** How the last look at the token files went. */
export interface TokensStatus {
  /** Of `auth.tokens`. */
  readonly configured: number;
  readonly loadedAt: string;
  readonly ok: boolean;
  readonly detail: string;
}

export interface SecurityView {
  /** `null`: plain HTTP. */
  readonly certificate: CertificateStatus | null;
  readonly tokens: TokensStatus;
  readonly audit: AuditHealth;
}

export type JournalView = Pick<JournalHealth, 'ok' | 'lastError' | 'sizeBytes' | 'pending'>;

export interface AppParts {
  readonly config: Pick<Config, 'listen' | 'auth'>;
  readonly supervisor: Pick<Supervisor, 'state' | 'submit' | 'subscribe'>;
  readonly monitor: Pick<Monitor, 'observeNow' | 'lastTickTookMs' | 'effectiveFastIntervalMs' | 'isReading'>;
  readonly clock: Clock;
  /** Told apart from other processes and earlier starts. */
  readonly instance: string;
  readonly version: string;
  /** Whose tokens are known; they may change while the service runs. */
  readonly tokens: TokenSet;
  /** How the last look at the token files and, with TLS, at the certificate went. */
  readonly security?: () => SecurityView;
  /** Who did what and why, for good; left out where nobody keeps it. */
  readonly audit?: Pick<Audit, 'record'>;
  /** Where commissioning reports are kept; left out: nowhere. */
  readonly commission?: CommissionPart;
  /** The listener's certificate; left out: plain HTTP. */
  readonly certificate?: ServingCertificate;
  /** The cluster whose workloads are stopped; left out where none is configured. */
  readonly cluster?: ClusterPart;
  /** Asks the cluster about tokens that are not known here; only with `auth.kubernetes`. */
  readonly reviewToken?: ReviewToken;
  readonly journalHealth: () => JournalView;
  /** What was, on the disk; left out or `null` where none is kept. */
  readonly history?: Pick<History, 'ask' | 'health'> | null;
  /** Pins a process group for a lease: its leader must bear the lease's mark. */
  readonly verifyProcessGroup: (asked: {
    readonly pgid: number;
    readonly leaseId: string;
  }) => Promise<ProcessGroupCheck>;
  /** What computes on this machine's GPUs, by the last look; left out where nobody looks. */
  readonly gpuProcesses?: () => readonly GpuProcess[];
  /** How telling the configured webhooks goes; left out where none is. */
  readonly notify?: () => readonly NotifyStatus[];
  /** Lists what `order` would stop, and touches nothing. */
  readonly runDrill: (order: StopOrder) => Promise<readonly StopEntry[]>;
  /** The simulated rig, with `source: simulated` alone. */
  readonly simulation: Simulation | null;
  readonly log: FastifyBaseLogger;
}

/** Fastify with types taken from the schemas. */
export type App = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;
