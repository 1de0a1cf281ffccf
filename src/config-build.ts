// From values that are good by themselves to a configuration that is good as a whole: defaults for what is left out,
// profiles, canonical names of cards, and the relations between keys. Every relation that does not hold is told; where
// one of its sides was refused already, the relation is not judged a second time. What is read from where is
// config-sources.ts.
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import type { ConfigPath } from './config-file.ts';
import { closest, type Layers, pathText } from './config-layers.ts';
import { notifySettings } from './config-notify.ts';
import { isNodeName, NODE_NAME_RULE } from './config-rules.ts';
import { DEFAULTS, durationOf, durationText, listed, type NodeInput, unique } from './config-schema.ts';
import { checkSources, credentialSettings, discoverySettings, outlets, prometheusSettings } from './config-sources.ts';
import type { Config, ConfiguredNode } from './config-types.ts';
import { DEFAULT_CONSTRAINTS, looserKeys, type ParsedConstraints, parseConstraints } from './domain/constraints.ts';
import { canonicalGpuUuid, canonicalPciAddress } from './domain/reading.ts';
import type { GpuSettings, NodeSettings, RequirementName } from './domain/settings.ts';

export interface Surroundings {
  /** As the system tells it: the local node's name unless one is named. */
  readonly hostname: string;
  /** Where state is kept unless `stateDir` says otherwise. */
  readonly defaultStateDir: string;
}

/** A configuration for `layers`; only to be used when `layers.problems` is empty afterwards. */
export function buildConfig(layers: Layers, surroundings: Surroundings): { config: Config; warnings: string[] } {
  const { input } = layers;
  const warnings: string[] = [];
  const intervalMs = durationOf(input.interval, DEFAULTS.intervalMs);
  // Left out, it follows a shorter interval instead of refusing it.
  const fastIntervalMs = durationOf(input.fastInterval, Math.min(DEFAULTS.fastIntervalMs, intervalMs));
  const defaults = nodeSettings(layers, [], input, null, warnings);

  const isIntervalKnown = !layers.isFaulty(['interval']);
  if (fastIntervalMs > intervalMs && isIntervalKnown) {
    const rule = `must be at most interval, which is ${durationText(intervalMs)}`;
    layers.report(['fastInterval'], durationText(fastIntervalMs), rule);
  }
  const staleRule = `must be at least interval, which is ${durationText(intervalMs)}`;
  if (defaults.staleAfterMs < intervalMs && isIntervalKnown) {
    layers.report(['staleAfter'], durationText(defaults.staleAfterMs), staleRule);
  }

  const nodes: ConfiguredNode[] = [];
  const settings = new Map<string, NodeSettings>();
  for (const [index, node] of listed(input.nodes)) {
    const path = ['nodes', `${index}`];
    const own = nodeSettings(layers, path, node, defaults, warnings);
    if (own.staleAfterMs < intervalMs && node.staleAfter !== undefined && isIntervalKnown) {
      layers.report([...path, 'staleAfter'], node.staleAfter, staleRule);
    }
    if (node.name === undefined) {
      if (!layers.isFaulty([...path, 'name'])) layers.report([...path, 'name'], undefined, NODE_NAME_RULE);
      continue;
    }
    if (settings.has(node.name))
      layers.report([...path, 'name'], node.name, 'this name stands for another node already');
    settings.set(node.name, own);
    nodes.push({
      name: node.name,
      endpoints: listed(node.endpoints).map(([, url]) => url),
      tctlOffsetC: node.tctlOffsetC ?? 0,
      zfsCacheIsAvailable: node.zfsCacheIsAvailable ?? false,
      outlets: outlets(layers, [...path, 'outlets'], node.outlets),
    });
  }

  const source = input.source ?? 'local';
  const config: Config = {
    listen: {
      host: input.listen?.host ?? DEFAULTS.host,
      port: input.listen?.port ?? DEFAULTS.port,
      hosts: listed(input.listen?.hosts).map(([, host]) => host.toLowerCase()),
      ...listenerTls(layers),
    },
    stateDir: resolve(input.stateDir ?? surroundings.defaultStateDir),
    settings: {
      localNode: localNode(layers, nodes, surroundings.hostname, source, warnings),
      simulated: source === 'simulated',
      intervalMs,
      fastIntervalMs,
      blindAbortAfterMs: durationOf(input.blindAbortAfter, DEFAULTS.blindAbortAfterMs),
      bootGraceMs: durationOf(input.bootGrace, DEFAULTS.bootGraceMs),
      tripScope: input.tripScope ?? 'cluster',
      defaults,
      nodes: settings,
    },
    source,
    nodes,
    prometheus: prometheusSettings(layers),
    discovery: discoverySettings(layers),
    credentials: credentialSettings(layers),
    kubernetes: {
      enabled: input.kubernetes?.enabled ?? 'auto',
      isWrittenOut: layers.isGiven(['kubernetes', 'enabled']),
      namespace: input.kubernetes?.namespace ?? DEFAULTS.namespace,
      namespaces: unique(input.kubernetes?.namespaces),
      kubeconfig: input.kubernetes?.kubeconfig ?? null,
    },
    auth: {
      tokens: tokens(layers),
      anonymous: input.auth?.anonymous ?? 'none',
      kubernetes: input.auth?.kubernetes ?? false,
    },
    notify: notifySettings(layers, warnings),
    history: historySettings(layers),
    simulated: {
      actOnRealWorkloads: input.simulated?.actOnRealWorkloads ?? false,
      gpus: input.simulated?.gpus ?? DEFAULTS.simulatedGpus,
    },
    logLevel: input.logLevel ?? 'info',
  };
  checkAccess(layers, config);
  warnOfPlainHttp(config, warnings);
  checkSources(layers, config, warnings);
  return { config, warnings };
}

/** What holds for one node, or (at the top, without `above`) for every node that is not named. */
function nodeSettings(
  layers: Layers,
  path: ConfigPath,
  input: Omit<NodeInput, 'name'>,
  above: NodeSettings | null,
  warnings: string[],
): NodeSettings {
  const { waive, require } = input;
  for (const [index, name] of listed(require)) {
    if (!waive?.includes(name)) continue;
    layers.report([...path, 'require', `${index}`], name, 'must not be required and waived in the same place');
  }
  return {
    ...profile(layers, [...path, 'constraints'], input.constraints, above, warnings),
    waive: unique([...(above?.waive ?? []), ...unique(waive)]),
    require: unique([...(above?.require ?? []), ...unique(require)]),
    expectGpus: input.expectGpus ?? 0,
    gpus: gpuSettings(layers, [...path, 'gpus'], input.gpus),
    power: powerSettings(layers, [...path, 'power'], input.power),
    staleAfterMs: durationOf(input.staleAfter, above?.staleAfterMs ?? DEFAULTS.staleAfterMs),
  };
}

function profile(
  layers: Layers,
  path: ConfigPath,
  input: unknown,
  above: NodeSettings | null,
  warnings: string[],
): Pick<NodeSettings, 'constraints' | 'profile'> {
  if (input === undefined) {
    return above ?? { constraints: DEFAULT_CONSTRAINTS, profile: 'default' };
  }
  const parsed: ParsedConstraints = parseConstraints(input);
  if (!parsed.ok) {
    for (const { key, value, rule } of parsed.problems) {
      const place = key === '' ? [] : key.split('.');
      layers.report([...path, ...place], value, rule + limitMeant(place, value));
    }
    return { constraints: DEFAULT_CONSTRAINTS, profile: 'default' };
  }
  const { constraints, given } = parsed;
  const looser = looserKeys(constraints, DEFAULT_CONSTRAINTS, given);
  if (looser.length > 0) warnings.push(`${pathText(path)} is looser than the default profile in ${looser.join(', ')}`);
  return { constraints, profile: parsed.profile };
}

/** A hint for a key that is no limit, or for a profile that is none. */
function limitMeant(place: ConfigPath, value: unknown): string {
  let siblings: unknown = { ...DEFAULT_CONSTRAINTS, extends: 'default' };
  for (const step of place.slice(0, -1)) siblings = (siblings as Record<string, unknown> | undefined)?.[step];
  const name = place.at(-1);
  const names = typeof siblings === 'object' && siblings !== null ? Object.keys(siblings) : [];
  if (name !== undefined && names.includes(name)) return '';
  const hint = name === undefined ? closest(String(value), ['default', 'bizon1']) : closest(name, names);
  return hint === null ? '' : `; did you mean ${hint}?`;
}

const GPU_KEY_RULE =
  'must be a GPU UUID such as GPU-8f750be4-dfbc-23b9-b33f-da729a536494 or a PCI address such as 0000:0b:00.0';
const UUID = /^(gpu-)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

function gpuSettings(layers: Layers, path: ConfigPath, gpus: NodeInput['gpus']): Map<string, GpuSettings> {
  const settings = new Map<string, GpuSettings>();
  for (const [key, gpu] of Object.entries(gpus ?? {})) {
    // An index is refused: it names another card after the next boot.
    const id = UUID.test(key) ? canonicalGpuUuid(key) : canonicalPciAddress(key);
    if (id === null) layers.report([...path, key], key, GPU_KEY_RULE);
    else if (settings.has(id)) layers.report([...path, key], key, `names the same card as another key here, ${id}`);
    else settings.set(id, { waive: unique<RequirementName>(gpu.waive), ignore: gpu.ignore ?? false });
  }
  return settings;
}

function powerSettings(layers: Layers, path: ConfigPath, power: NodeInput['power']): NodeSettings['power'] {
  if (power === undefined) return null;
  const { baseW, psuEfficiency } = power;
  const isWhole = { baseW: baseW !== undefined, psuEfficiency: psuEfficiency !== undefined };
  for (const [key, isThere] of Object.entries(isWhole)) {
    if (isThere || layers.isFaulty([...path, key])) continue;
    layers.report([...path, key], undefined, 'an estimate of total power needs baseW and psuEfficiency');
  }
  return baseW === undefined || psuEfficiency === undefined ? null : { baseW, psuEfficiency };
}

function historySettings({ input }: Layers): Config['history'] {
  const { enabled = true, keep, maxBytes = DEFAULTS.historyMaxBytes } = input.history ?? {};
  const keepMs = durationOf(keep, DEFAULTS.historyKeepMs);
  return enabled && keepMs > 0 ? { keepMs, maxBytes } : null;
}

function listenerTls(layers: Layers): Pick<Config['listen'], 'tls'> {
  const { tls } = layers.input.listen ?? {};
  if (!tls) return {};
  const { certFile, keyFile } = tls;
  if (certFile !== undefined && keyFile !== undefined) return { tls: { certFile, keyFile } };
  for (const [key, value] of Object.entries({ certFile, keyFile })) {
    const path = ['listen', 'tls', key];
    if (value === undefined && !layers.isFaulty(path)) layers.report(path, undefined, 'TLS needs certFile and keyFile');
  }
  return {};
}

/** No refusal: in a cluster a mesh or an ingress often speaks TLS in front. */
function warnOfPlainHttp({ listen }: Config, warnings: string[]): void {
  if (isLoopbackHost(listen.host) || listen.tls) return;
  warnings.push(
    `listen.host ${listen.host} is reached over plain HTTP: tokens and answers can be read and changed on the network. ` +
      'Set listen.tls, or let a proxy or mesh speak TLS in front of it',
  );
}

function tokens(layers: Layers): Config['auth']['tokens'] {
  const seen = new Set<string>();
  return listed(layers.input.auth?.tokens).flatMap(([index, { role, sha256 }]) => {
    const path = ['auth', 'tokens', `${index}`];
    for (const [key, value] of Object.entries({ role, sha256 })) {
      if (value !== undefined || layers.isFaulty([...path, key])) continue;
      layers.report([...path, key], undefined, 'a token needs a role and the SHA-256 of its text');
    }
    if (role === undefined || sha256 === undefined) return [];
    const hash = sha256.toLowerCase();
    if (seen.has(hash)) layers.report([...path, 'sha256'], hash, 'this token stands here twice');
    seen.add(hash);
    return [{ role, sha256: hash }];
  });
}

/**
 * Which node this machine is: the one with its name, in full or up to the first dot; else the only one
 * that is named, unless its endpoints lie elsewhere; else none of them, and the name is the host's own.
 */
function localNode(
  layers: Layers,
  nodes: readonly ConfiguredNode[],
  hostname: string,
  source: Config['source'],
  warnings: string[],
): string {
  const short = (name: string): string => name.toLowerCase().split('.')[0] ?? '';
  const named =
    nodes.find(({ name }) => name.toLowerCase() === hostname.toLowerCase()) ??
    nodes.find(({ name }) => short(name) === short(hostname));
  if (named) return named.name;
  const [only, ...others] = nodes;
  if (only && others.length === 0 && only.endpoints.every((url) => isLoopbackHost(new URL(url).hostname))) {
    return only.name;
  }
  if (!isNodeName(hostname)) {
    layers.report(
      ['nodes'],
      undefined,
      `must name this machine, since its host name ${JSON.stringify(hostname)} cannot be a node's`,
    );
  } else if (only && source === 'local') {
    const names = nodes.slice(0, 3).map(({ name }) => name);
    warnings.push(
      `None of the nodes (${names.join(', ')}${nodes.length > 3 ? ', …' : ''}) is named like this machine, ${hostname}: ` +
        'it is judged by what holds for every node',
    );
  }
  return hostname;
}

/** Whether only this machine can reach a listener on `host`. */
export function isLoopbackHost(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase();
  if (isIP(bare) === 4) return bare.startsWith('127.');
  return bare === '::1' || bare === 'localhost';
}

/** Off loopback somebody must be able to say who they are. */
function checkAccess(layers: Layers, { listen, auth }: Config): void {
  if (isLoopbackHost(listen.host) || auth.tokens.length > 0 || auth.kubernetes) return;
  if (layers.isFaulty(['auth'])) return;
  layers.report(
    ['listen', 'host'],
    listen.host,
    'can be reached from other machines, so callers must be told apart: add a token ' +
      '(auth.tokens: [{ role: operator, sha256: … }], the hash by printf %s "$TOKEN" | sha256sum), ' +
      'set auth.kubernetes: true in a cluster, or listen on 127.0.0.1',
  );
}
