// The configuration as the rest of the service sees it: complete, checked, in the units that are computed with.
import type { LogLevel, Role, SourceName } from './config-schema.ts';
import type { SafetySettings } from './domain/settings.ts';

/** The configuration as the parts use it; deeply frozen. */
export interface Config {
  /** `hosts`: names beside loopback ones that a request without a token may carry as `Host`, in lower case. */
  readonly listen: { readonly host: string; readonly port: number; readonly hosts: readonly string[] };
  /** Absolute. */
  readonly stateDir: string;
  /** All that judging needs, but for what each start makes itself. */
  readonly settings: Omit<SafetySettings, 'instance' | 'bootId'>;
  readonly source: SourceName;
  readonly nodes: readonly ConfiguredNode[];
  readonly prometheus: { readonly url: string } | null;
  /** `allow`: address ranges that found targets must lie in. */
  readonly discovery: { readonly kubernetes: boolean; readonly allow: readonly string[] };
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
}
