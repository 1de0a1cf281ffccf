// The configuration as the rest of the service sees it: complete, checked, in the units that are computed with.
import type { LogLevel, NOTIFY_EVENTS, NOTIFY_FORMATS, Role, SourceName } from './config-schema.ts';
import type { SafetySettings } from './domain/settings.ts';

/** The configuration as the parts use it; deeply frozen. */
export interface Config {
  /** `hosts`: names beside loopback ones that a request without a token may carry as `Host`, in lower case. */
  readonly listen: {
    readonly host: string;
    readonly port: number;
    readonly hosts: readonly string[];
    /** Absolute paths of PEM files, read again when they change; left out: plain HTTP. */
    readonly tls?: { readonly certFile: string; readonly keyFile: string };
  };
  /** Absolute. */
  readonly stateDir: string;
  /** All that judging needs, but for what each start makes itself. */
  readonly settings: Omit<SafetySettings, 'instance' | 'bootId'>;
  readonly source: SourceName;
  readonly nodes: readonly ConfiguredNode[];
  readonly prometheus: ConfiguredPrometheus | null;
  readonly discovery: ConfiguredDiscovery;
  /** What is shown to which hosts; every host stands in one entry. */
  readonly credentials: readonly ConfiguredCredentials[];
  /** `isWrittenOut`: `enabled` was set by somebody and did not come by default. */
  readonly kubernetes: {
    readonly enabled: 'auto' | boolean;
    readonly isWrittenOut: boolean;
    readonly namespace: string;
    readonly namespaces: readonly string[];
    readonly kubeconfig: string | null;
  };
  /** `sha256`: 64 hex digits in lower case, of the token's text. */
  readonly auth: {
    readonly tokens: readonly { readonly role: Role; readonly sha256: string }[];
    readonly anonymous: 'none' | 'viewer';
    readonly kubernetes: boolean;
  };
  /** Webhooks that are told of events. */
  readonly notify: readonly ConfiguredNotify[];
  /** `null`: none is kept. */
  readonly history: { readonly keepMs: number; readonly maxBytes: number } | null;
  readonly simulated: { readonly actOnRealWorkloads: boolean; readonly gpus: number };
  readonly logLevel: LogLevel;
}

/** What is read of a named node; how it is judged is in `settings.nodes`. */
export interface ConfiguredNode {
  readonly name: string;
  readonly endpoints: readonly string[];
  /** How far Tctl lies above the die on this machine, °C, 0 to 27. */
  readonly tctlOffsetC: number;
  readonly zfsCacheIsAvailable: boolean;
  /** Series of a PDU that together are the node's total power. */
  readonly outlets: readonly ConfiguredOutlet[];
}

/** The samples of `series` that bear all of `labels`; times `scale` they are W. */
export interface ConfiguredOutlet {
  readonly series: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly scale: number;
}

export interface ConfiguredNotify {
  /** Once in the list; the host of `url` unless one was given. */
  readonly name: string;
  /** Whole: for Alertmanager with the path of its API. */
  readonly url: string;
  readonly format: (typeof NOTIFY_FORMATS)[number];
  /** Absolute; `null`: what is sent is not signed. */
  readonly secretFile: string | null;
  readonly events: readonly (typeof NOTIFY_EVENTS)[number][];
}

export interface ConfiguredPrometheus {
  readonly url: string;
  /** Labels that may name a node, the best first. */
  readonly nodeLabels: readonly string[];
  /** More label matchers for every question, `cluster="x"`; `null` for none. */
  readonly match: string | null;
}

export interface ConfiguredDiscovery {
  readonly kubernetes: boolean;
  /** Address ranges that found targets must lie in. */
  readonly allow: readonly string[];
  /** Absolute paths of target lists, with one `*` at most, in the last part. */
  readonly files: readonly string[];
  /** Addresses of target lists. */
  readonly http: readonly string[];
  /** The label of a target list that names the node. */
  readonly nodeLabel: string;
  readonly refreshMs: number;
  /** Which pods of a cluster are exporters. */
  readonly exporters: readonly ConfiguredExporter[];
}

export interface ConfiguredExporter {
  readonly selector: string;
  /** `null`: in every namespace. */
  readonly namespace: string | null;
  readonly port: number;
  readonly path: string;
  readonly scheme: 'http' | 'https';
}

/** Files are absolute paths, read when they are needed. A key without its certificate, or the like, does not exist. */
export interface ConfiguredCredentials {
  /** In lower case, with or without a port. */
  readonly hosts: readonly string[];
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
  readonly serverName?: string;
  readonly bearerTokenFile?: string;
  readonly username?: string;
  readonly passwordFile?: string;
  /** A token or password may go over plain HTTP to another machine. */
  readonly plain?: boolean;
}
