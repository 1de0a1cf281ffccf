// The part of a configuration that says what is read and from where: exporters, a Prometheus server, lists of targets,
// what is shown to whom, and how these fit with the source that was chosen. As in config-build.ts, every relation that
// does not hold is told, and none of which one side was refused already.
import type { ConfigPath } from './config-file.ts';
import type { Layers } from './config-layers.ts';
import { type CredentialInput, DEFAULTS, durationOf, listed, type NodeInput, unique } from './config-schema.ts';
import type {
  Config,
  ConfiguredCredentials,
  ConfiguredDiscovery,
  ConfiguredExporter,
  ConfiguredOutlet,
  ConfiguredPrometheus,
} from './config-types.ts';

/** The outlets of a node: each with a series, and none of them twice, since they are added up. */
export function outlets(layers: Layers, path: ConfigPath, input: NodeInput['outlets']): ConfiguredOutlet[] {
  const seen = new Set<string>();
  return listed(input).flatMap(([index, { series, labels = {}, scale = 1 }]) => {
    const place = [...path, `${index}`];
    if (series === undefined) {
      reportMissing(layers, [...place, 'series'], 'an outlet needs the name of its series');
      return [];
    }
    const sorted = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [name, value] of sorted) {
      if (/^[a-z_][a-z0-9_]*$/i.test(name)) continue;
      layers.report([...place, 'labels', name], value, 'this is not the name of a label');
    }
    const key = JSON.stringify([series, sorted]);
    if (seen.has(key)) layers.report(place, series, 'this outlet stands here twice, and would be counted twice');
    seen.add(key);
    return [{ series, labels: Object.fromEntries(sorted), scale }];
  });
}

export function prometheusSettings(layers: Layers): ConfiguredPrometheus | null {
  const { source, prometheus } = layers.input;
  if (prometheus?.url === undefined) {
    if (source === 'prometheus' || prometheus?.nodeLabels !== undefined || prometheus?.match !== undefined) {
      const rule =
        source === 'prometheus'
          ? 'source prometheus needs the address of the server'
          : 'what is asked of a server needs its address';
      reportMissing(layers, ['prometheus', 'url'], rule);
    }
    return null;
  }
  const nodeLabels = unique(prometheus.nodeLabels);
  if (prometheus.nodeLabels?.length === 0) {
    layers.report(['prometheus', 'nodeLabels'], [], 'must name at least one label, else no series belongs to a node');
  }
  return {
    url: prometheus.url,
    nodeLabels: prometheus.nodeLabels === undefined ? DEFAULTS.nodeLabels : nodeLabels,
    match: prometheus.match ?? null,
  };
}

export function discoverySettings(layers: Layers): ConfiguredDiscovery {
  const { discovery } = layers.input;
  return {
    kubernetes: discovery?.kubernetes ?? false,
    allow: listed(discovery?.allow).map(([, range]) => range),
    files: unique(discovery?.files),
    http: unique(discovery?.http),
    nodeLabel: discovery?.nodeLabel ?? DEFAULTS.nodeLabel,
    refreshMs: durationOf(discovery?.refresh, DEFAULTS.refreshMs),
    exporters: exporters(layers),
  };
}

function exporters(layers: Layers): ConfiguredExporter[] {
  const given = layers.input.discovery?.exporters ?? DEFAULTS.exporters;
  return listed<NonNullable<ConfigExporters>[number]>(given).flatMap(([index, exporter]) => {
    const { selector, namespace = null, port, path = DEFAULTS.metricsPath, scheme = 'http' } = exporter;
    for (const [key, value] of Object.entries({ selector, port })) {
      if (value !== undefined) continue;
      reportMissing(layers, ['discovery', 'exporters', `${index}`, key], 'an exporter needs a selector and a port');
    }
    return selector === undefined || port === undefined ? [] : [{ selector, namespace, port, path, scheme }];
  });
}

type ConfigExporters = NonNullable<Layers['input']['discovery']>['exporters'];

/** A pair of keys of which neither means anything alone. */
const PAIRS = [
  ['certFile', 'keyFile', 'a client certificate needs certFile and keyFile'],
  ['username', 'passwordFile', 'basic authentication needs username and passwordFile'],
] as const satisfies readonly (readonly [keyof CredentialInput, keyof CredentialInput, string])[];

export function credentialSettings(layers: Layers): ConfiguredCredentials[] {
  const owners = new Map<string, number>();
  return listed(layers.input.credentials).map(([index, input]) => {
    const path = ['credentials', `${index}`];
    const hosts = unique(listed(input.hosts).map(([, host]) => host.toLowerCase()));
    for (const [place, host] of listed(input.hosts)) {
      const owner = owners.get(host.toLowerCase()) ?? index;
      owners.set(host.toLowerCase(), owner);
      if (owner === index) continue;
      layers.report([...path, 'hosts', `${place}`], host, `stands in credentials[${owner}] already`);
    }
    if (hosts.length === 0) {
      reportMissing(layers, [...path, 'hosts'], 'must name the hosts that these are shown to; nobody else sees them');
    }
    for (const [one, other, rule] of PAIRS) {
      if (input[one] !== undefined && input[other] === undefined) reportMissing(layers, [...path, other], rule);
      if (input[other] !== undefined && input[one] === undefined) reportMissing(layers, [...path, one], rule);
    }
    const { bearerTokenFile, username, passwordFile, caFile, certFile, keyFile, plain } = input;
    const isBasic = username !== undefined || passwordFile !== undefined;
    if (bearerTokenFile !== undefined && isBasic) {
      const rule = 'must not stand beside username and passwordFile: one request carries one of them';
      layers.report([...path, 'bearerTokenFile'], bearerTokenFile, rule);
    }
    if (plain && bearerTokenFile === undefined && !isBasic && !layers.isFaulty(path)) {
      layers.report([...path, 'plain'], plain, 'lets a token or password go over plain HTTP, and there is none here');
    }
    const isEmpty = [caFile, certFile, keyFile, bearerTokenFile, username, passwordFile].every(
      (one) => one === undefined,
    );
    if (isEmpty && !plain && !layers.isFaulty(path)) {
      layers.report(path, input, 'must name what is shown: caFile, certFile, bearerTokenFile or username');
    }
    return { ...input, hosts };
  });
}

function reportMissing(layers: Layers, path: ConfigPath, rule: string): void {
  if (!layers.isFaulty(path)) layers.report(path, undefined, rule);
}

/** The source against what it reads, and what is found against what may be read. */
export function checkSources(layers: Layers, config: Config, warnings: string[]): void {
  const { source, kubernetes, simulated, discovery, nodes, auth } = config;
  if (kubernetes.enabled === false) {
    const rule = 'needs the cluster that kubernetes.enabled: false leaves alone';
    if (discovery.kubernetes) layers.report(['discovery', 'kubernetes'], true, rule);
    if (auth.kubernetes) layers.report(['auth', 'kubernetes'], true, rule);
  }
  const actsOnPods = kubernetes.enabled === true || (kubernetes.enabled === 'auto' && kubernetes.kubeconfig !== null);
  if (source === 'simulated' && actsOnPods && !simulated.actOnRealWorkloads) {
    layers.report(
      ['source'],
      source,
      'must not stop real workloads: set kubernetes.enabled: false, or simulated.actOnRealWorkloads: true where that is meant',
    );
  }
  const finders = [
    ...(discovery.kubernetes ? ['discovery.kubernetes'] : []),
    ...(discovery.files.length > 0 ? ['discovery.files'] : []),
    ...(discovery.http.length > 0 ? ['discovery.http'] : []),
  ];
  const hasEndpoints = nodes.some(({ endpoints }) => endpoints.length > 0);
  const hasFaultyNodes = layers.isFaulty(['nodes']) || layers.isFaulty(['discovery']);
  if (source === 'exporters' && !hasEndpoints && finders.length === 0 && !hasFaultyNodes) {
    layers.report(
      ['source'],
      source,
      'needs nodes with endpoints, or discovery.files, discovery.http or discovery.kubernetes: true',
    );
  }
  if (finders.length > 0 && discovery.allow.length === 0 && !layers.isFaulty(['discovery', 'allow'])) {
    const verb = finders.length === 1 ? 'finds' : 'find';
    warnings.push(`discovery.allow is empty, so that ${finders.join(' and ')} ${verb} nothing that may be read`);
  }
  if (discovery.kubernetes && discovery.exporters.length === 0 && !layers.isFaulty(['discovery', 'exporters'])) {
    warnings.push('discovery.exporters is empty, so that discovery.kubernetes finds nothing');
  }
  if (!discovery.kubernetes && layers.isGiven(['discovery', 'exporters'])) {
    warnings.push('discovery.exporters is not used, since discovery.kubernetes is not true');
  }
  if (kubernetes.enabled === false && kubernetes.kubeconfig !== null) {
    warnings.push('kubernetes.kubeconfig is not used, since kubernetes.enabled is false');
  }
}
