// Every key of the configuration: its shape, its bounds, and the rule that a wrong value is answered with. One schema
// is what the file, the environment and the flags are all checked against, and where the names of the environment's
// variables come from. What a text must look like is config-rules.ts, relations between keys are config-build.ts.
//
// Each leaf carries its `rule` as a sentence; whichever keyword of it fails, that sentence is what a person reads.
// Nothing is marked as required and nothing has a default here: what is left out is decided where it is used.
import Type, { type Static, type TSchema } from 'typebox';
import {
  HTTP_URL_RULE,
  isAbsolute,
  isAllowedRange,
  isHost,
  isHostWithPort,
  isHttpUrl,
  isLabelName,
  isLinkLocalUrl,
  isListPath,
  isMatch,
  isNamespace,
  isNodeName,
  isSelector,
  LABEL_NAME_RULE,
  NODE_NAME_RULE,
} from './config-rules.ts';
import type { EventName } from './domain/events.ts';
import { REQUIREMENT_NAMES, type RequirementName } from './domain/settings.ts';

export const ROLES = ['viewer', 'workload', 'operator'] as const;
/** What a caller may do: each role includes those before it. */
export type Role = (typeof ROLES)[number];

export const SOURCES = ['local', 'exporters', 'prometheus', 'simulated'] as const;
export type SourceName = (typeof SOURCES)[number];

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export const NOTIFY_FORMATS = ['plain', 'alertmanager'] as const;
/** What webhooks can be told of. */
export const NOTIFY_EVENTS = [
  'tripped',
  'stop-verified',
  'stop-unverified',
  'reset',
  'cooling-started',
  'cooling-ended',
] as const satisfies readonly EventName[];

/** What applies where the configuration says nothing. Durations in ms. */
export const DEFAULTS = Object.freeze({
  host: '127.0.0.1',
  port: 8470,
  intervalMs: 10_000,
  fastIntervalMs: 2_000,
  staleAfterMs: 30_000,
  blindAbortAfterMs: 30_000,
  bootGraceMs: 120_000,
  namespace: 'vsf-safety',
  /** As the rig of simulated.ts. */
  simulatedGpus: 4,
  nodeLabel: 'node',
  /** From what is set on purpose to what is there anyhow; of `instance` the host counts. */
  nodeLabels: Object.freeze(['node', 'nodename', 'kubernetes_node', 'instance']),
  refreshMs: 30_000,
  historyKeepMs: 86_400_000,
  /** A day of 1,000 nodes with eight GPUs takes some 600 MB, of one with four 0.4. */
  historyMaxBytes: 1024 * 1024 * 1024,
  metricsPath: '/metrics',
  /** As the charts of prometheus-community and NVIDIA label their pods, and NVIDIA's GPU operator. */
  exporters: Object.freeze([
    { selector: 'app.kubernetes.io/name=prometheus-node-exporter', port: 9100 },
    { selector: 'app.kubernetes.io/name=dcgm-exporter', port: 9400 },
    { selector: 'app=nvidia-dcgm-exporter', port: 9400 },
  ]),
});

const DURATION = /^(\d{1,9})(ms|s|m|h)$/;
const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds of a duration such as `10s`, `500ms`, `2m` or `24h`; `null` for any other text. */
export function parseDuration(text: string): number | null {
  const match = DURATION.exec(text);
  if (!match) return null;
  const [, amount = '', unit = ''] = match;
  return Number(amount) * (UNIT_MS[unit] ?? 0);
}

/** A duration as a person would write it: `60000` is `60s`, `120000` is `2m`. */
export function durationText(ms: number): string {
  if (ms % 1000 !== 0) return `${ms}ms`;
  if (ms % 3_600_000 === 0 && ms > 3_600_000) return `${ms / 3_600_000}h`;
  return ms % 60_000 === 0 && ms > 60_000 ? `${ms / 60_000}m` : `${ms / 1000}s`;
}

/** A duration of the configuration in ms; `defaultMs` where it was left out. */
export const durationOf = (text: string | undefined, defaultMs: number): number =>
  text === undefined ? defaultMs : (parseDuration(text) ?? defaultMs);

/** The items of a list with their places; what was refused has left a hole. */
export function listed<T>(list: readonly T[] | undefined): [number, T][] {
  return [...(list ?? []).entries()].filter(([, item]) => item !== undefined);
}

/** The items of a list, each once. */
export const unique = <T>(list: readonly T[] | undefined): T[] => [...new Set(listed(list).map(([, item]) => item))];

const closed = { additionalProperties: false };

const text = (rule: string, isValid: (value: string) => boolean) =>
  Type.Optional(Type.Refine(Type.String({ rule }), isValid));
const listOf = <T extends TSchema>(item: T, maxItems: number, what: string) =>
  Type.Optional(Type.Array(item, { maxItems, rule: `must be a list of at most ${maxItems} ${what}` }));
const choice = <const T extends readonly (string | boolean)[]>(values: T, rule = `must be ${orList(values)}`) =>
  Type.Optional(Type.Unsafe<T[number]>({ enum: values, rule }));
const flag = () => Type.Optional(Type.Boolean({ rule: 'must be true or false' }));
const whole = (minimum: number, maximum: number) =>
  Type.Optional(Type.Integer({ minimum, maximum, rule: `must be a whole number from ${minimum} to ${maximum}` }));
const duration = (fromMs: number, toMs: number) =>
  text(
    `must be a duration from ${durationText(fromMs)} to ${durationText(toMs)}, written as ` +
      (toMs < 3_600_000 ? '10s, 500ms or 2m' : '90s, 30m or 24h'),
    (value) => {
      const ms = parseDuration(value);
      return ms !== null && ms >= fromMs && ms <= toMs;
    },
  );

function orList(values: readonly (string | boolean)[]): string {
  return values.length < 2 ? values.join('') : `${values.slice(0, -1).join(', ')} or ${values.at(-1)}`;
}

const requirement = (names: readonly RequirementName[]) =>
  Type.Unsafe<RequirementName>({ enum: names, rule: `must be ${orList(names)}` });
const GPU_REQUIREMENTS = REQUIREMENT_NAMES.filter((name) => name.startsWith('gpu-'));
const requirements = () => listOf(requirement(REQUIREMENT_NAMES), REQUIREMENT_NAMES.length, 'names');
/** A profile's name or its limits; its own parser reports on it (domain/constraints.ts). */
const constraints = () => Type.Optional(Type.Unknown());
const staleAfter = () => duration(1_000, 60_000);

const GPU = Type.Object(
  {
    waive: listOf(requirement(GPU_REQUIREMENTS), GPU_REQUIREMENTS.length, 'names'),
    ignore: flag(),
  },
  { ...closed, rule: 'must be a mapping with waive and ignore' },
);

const POWER = Type.Object(
  {
    // A board with fans, disks and network cards takes 50 to 300 W; 5 kW is a rack.
    baseW: Type.Optional(Type.Number({ minimum: 0, maximum: 5000, rule: 'must be a number of watts from 0 to 5000' })),
    psuEfficiency: Type.Optional(
      Type.Number({ exclusiveMinimum: 0, maximum: 1, rule: 'must be a share over 0 and at most 1; 90 % is 0.9' }),
    ),
  },
  { ...closed, rule: 'must be a mapping with baseW and psuEfficiency' },
);

const OUTLET = Type.Object(
  {
    series: text('must be the name of a metric', (value) => /^[a-z_:][a-z0-9_:]{0,255}$/i.test(value)),
    labels: Type.Optional(
      Type.Record(Type.String(), Type.String({ maxLength: 1000, rule: 'must be text; put a number in quotes' }), {
        maxProperties: 32,
        rule: 'must be a mapping from at most 32 labels to their values',
      }),
    ),
    // From a PDU that counts in microwatts to one in kilowatts.
    scale: Type.Optional(
      Type.Number({
        minimum: 1e-6,
        maximum: 1000,
        rule: 'must be a number from 0.000001 to 1000; from mW to W it is 0.001',
      }),
    ),
  },
  { ...closed, rule: 'must be a mapping with series, labels and scale' },
);

const NODE = Type.Object(
  {
    name: text(NODE_NAME_RULE, isNodeName),
    endpoints: listOf(Type.Refine(Type.String({ rule: HTTP_URL_RULE }), isHttpUrl), 32, 'addresses'),
    // The largest machines carry 16; 64 leaves room and still catches a slip of the finger.
    expectGpus: whole(0, 64),
    constraints: constraints(),
    waive: requirements(),
    require: requirements(),
    gpus: Type.Optional(
      Type.Record(Type.String(), GPU, {
        maxProperties: 64,
        rule: 'must be a mapping from at most 64 GPUs to settings',
      }),
    ),
    power: Type.Optional(POWER),
    // A machine has two to six power supplies.
    outlets: listOf(OUTLET, 16, 'outlets'),
    staleAfter: staleAfter(),
    // AMD moved Tctl by 10, 20 or 27 °C on some chips. A larger value would hide a hot CPU.
    tctlOffsetC: Type.Optional(
      Type.Number({ minimum: 0, maximum: 27, rule: 'must be a number of degrees from 0 to 27 (AMD: 10, 20 or 27)' }),
    ),
    zfsCacheIsAvailable: flag(),
  },
  { ...closed, rule: 'must be a mapping with at least a name' },
);

const TOKEN = Type.Object(
  {
    role: choice(ROLES),
    sha256: text('must be the SHA-256 of the token, 64 hex digits: printf %s "$TOKEN" | sha256sum', (value) =>
      /^[0-9a-f]{64}$/i.test(value),
    ),
  },
  { ...closed, rule: 'must be a mapping with role and sha256' },
);

const filePath = () => text('must be an absolute path', isAbsolute);

const CREDENTIAL = Type.Object(
  {
    hosts: listOf(
      Type.Refine(
        Type.String({
          rule: 'must be a host name or an IP address, with or without a port; IPv6 with a port in brackets',
        }),
        isHostWithPort,
      ),
      5000,
      'hosts',
    ),
    caFile: filePath(),
    certFile: filePath(),
    keyFile: filePath(),
    serverName: text('must be a host name or an IP address', isHost),
    bearerTokenFile: filePath(),
    // A colon would end the name where it is sent.
    username: text('must be 1 to 256 printable characters without a colon', (value) =>
      /^[^\p{C}:]{1,256}$/u.test(value),
    ),
    passwordFile: filePath(),
    plain: flag(),
  },
  { ...closed, rule: 'must be a mapping with hosts and files' },
);

const NOTIFY = Type.Object(
  {
    name: text(
      'must be 1 to 63 letters, digits, dots, dashes and underscores, beginning with a letter or digit',
      (value) => /^[a-z0-9][a-z0-9._-]{0,62}$/i.test(value),
    ),
    url: text(`${HTTP_URL_RULE}, and no link-local one`, (value) => isHttpUrl(value) && !isLinkLocalUrl(value)),
    format: choice(NOTIFY_FORMATS),
    secretFile: filePath(),
    events: listOf(
      Type.Unsafe<(typeof NOTIFY_EVENTS)[number]>({ enum: NOTIFY_EVENTS, rule: `must be ${orList(NOTIFY_EVENTS)}` }),
      NOTIFY_EVENTS.length,
      'events',
    ),
  },
  { ...closed, rule: 'must be a mapping with at least a url' },
);

const EXPORTER = Type.Object(
  {
    selector: text('must be a label selector of Kubernetes, such as app=node-exporter', isSelector),
    namespace: text('must be the name of a Kubernetes namespace', isNamespace),
    port: whole(1, 65_535),
    path: text('must be a path such as /metrics', (value) => /^\/[^\s?#]{0,1000}$/.test(value)),
    scheme: choice(['http', 'https']),
  },
  { ...closed, rule: 'must be a mapping with selector, namespace, port, path and scheme' },
);

const mapping = <T extends Record<string, TSchema>>(properties: T) =>
  Type.Optional(
    Type.Object(properties, { ...closed, rule: `must be a mapping with ${Object.keys(properties).join(', ')}` }),
  );

/** The whole configuration. */
export const SCHEMA = Type.Object(
  {
    listen: mapping({
      host: text('must be a host name or an IP address', isHost),
      // 0 takes any free port.
      port: whole(0, 65_535),
      hosts: listOf(
        Type.Refine(Type.String({ rule: 'must be a host name or an IP address, without a port' }), isHost),
        64,
        'host names',
      ),
      tls: mapping({ certFile: filePath(), keyFile: filePath() }),
    }),
    // Relative to what? The latch must be found again by the next start, from wherever that happens.
    stateDir: text('must be an absolute path', isAbsolute),
    constraints: constraints(),
    // Leases and renewals live by evaluations younger than 30 s.
    interval: duration(1_000, 30_000),
    fastInterval: duration(1_000, 30_000),
    staleAfter: staleAfter(),
    // A card without cooling passes from its warning to its hard stop in well under two minutes.
    blindAbortAfter: duration(1_000, 120_000),
    bootGrace: duration(0, 600_000),
    tripScope: choice(['cluster', 'node']),
    waive: requirements(),
    require: requirements(),
    source: choice(SOURCES),
    // An evaluation of 5000 nodes must still fit into a tick.
    nodes: listOf(NODE, 5000, 'nodes'),
    prometheus: mapping({
      url: text(HTTP_URL_RULE, isHttpUrl),
      nodeLabels: listOf(Type.Refine(Type.String({ rule: LABEL_NAME_RULE }), isLabelName), 16, 'labels'),
      match: text('must be label matchers such as cluster="x", joined by commas, and none of __name__', isMatch),
    }),
    discovery: mapping({
      kubernetes: flag(),
      allow: listOf(
        Type.Refine(
          Type.String({ rule: 'must be an address range such as 10.0.0.0/8, and never a link-local one' }),
          isAllowedRange,
        ),
        64,
        'address ranges',
      ),
      files: listOf(
        Type.Refine(
          Type.String({
            rule: 'must be an absolute path ending in .json, .yaml or .yml, with one * at most, in its last part',
          }),
          isListPath,
        ),
        64,
        'files',
      ),
      http: listOf(Type.Refine(Type.String({ rule: HTTP_URL_RULE }), isHttpUrl), 16, 'addresses'),
      nodeLabel: text(LABEL_NAME_RULE, isLabelName),
      refresh: duration(5_000, 300_000),
      exporters: listOf(EXPORTER, 32, 'exporters'),
    }),
    credentials: listOf(CREDENTIAL, 100, 'entries'),
    kubernetes: mapping({
      enabled: choice(['auto', true, false]),
      namespace: text('must be the name of a Kubernetes namespace', isNamespace),
      namespaces: listOf(
        Type.Refine(Type.String({ rule: 'must be the name of a Kubernetes namespace' }), isNamespace),
        1000,
        'namespaces',
      ),
      kubeconfig: Type.Optional(
        Type.Refine(
          Type.Unsafe<string | null>({ type: ['string', 'null'], rule: 'must be an absolute path, or null' }),
          (value) => value === null || isAbsolute(value),
        ),
      ),
    }),
    auth: mapping({
      tokens: listOf(TOKEN, 100, 'tokens'),
      anonymous: choice(['none', 'viewer']),
      kubernetes: flag(),
    }),
    // Each holds a connection and a queue.
    notify: listOf(NOTIFY, 16, 'webhooks'),
    history: mapping({
      enabled: flag(),
      // 0s keeps none; a month of minutes and quarters is what a person looks at.
      keep: duration(0, 31 * 86_400_000),
      // Below 16 MiB what is written in front of the file leaves no room for it.
      maxBytes: whole(16 * 1024 * 1024, 64 * 1024 * 1024 * 1024),
    }),
    simulated: mapping({ actOnRealWorkloads: flag(), gpus: whole(0, 32) }),
    logLevel: choice(LOG_LEVELS),
  },
  { ...closed, rule: 'must be a mapping of keys to values' },
);

/** A configuration of the right shape: every value good by itself, nothing said of how they fit together. */
export type ConfigInput = Static<typeof SCHEMA>;
export type NodeInput = NonNullable<ConfigInput['nodes']>[number];
export type CredentialInput = NonNullable<ConfigInput['credentials']>[number];
