// Finds out what kinds a cluster serves, so that nothing here ever asks for a version. Newer servers tell everything in
// two answers, others group by group. A group whose own server is down is named and left out: nobody's broken metrics
// adapter may keep an emergency stop from its Deployments.
import type { KubeAnswer, KubeApi, KubeObject, KubeResource } from './kube-api.ts';

export interface Discovery {
  /** Each once per group, at the version that the server prefers where it is served there. */
  readonly kinds: readonly KubeResource[];
  /** What could not be looked at, or may be out of date. */
  readonly failing: readonly FailingGroup[];
}

export interface FailingGroup {
  /** `metrics.k8s.io/v1beta1`. */
  readonly groupVersion: string;
  readonly detail: string;
}

/** One version of a group; versions come in the server's order of preference. */
interface Served {
  readonly group: string;
  readonly version: string;
}

interface Looked {
  readonly kinds: readonly KubeResource[];
  readonly failing: readonly FailingGroup[];
}

type Json = Readonly<Record<string, unknown>>;

/** @param timeoutMs of each request; there are two rounds of them at most. Fails only where the server itself does. */
export async function discoverKinds(api: KubeApi, timeoutMs: number): Promise<KubeAnswer<Discovery>> {
  const [core, groups] = await Promise.all([api.get('/api', timeoutMs), api.get('/apis', timeoutMs)]);
  if (!core.ok) return core;
  if (!groups.ok) return groups;
  const looked = await Promise.all(
    [core.value, groups.value].map(async (answer) =>
      answer.kind === 'APIGroupDiscoveryList'
        ? allToldBy(answer)
        : joined(await Promise.all(versionsToldBy(answer).map((served) => look(api, served, timeoutMs)))),
    ),
  );
  const { kinds, failing } = joined(looked);
  return { ok: true, value: { kinds: preferred(kinds), failing } };
}

/** From `APIVersions` (core) or `APIGroupList`. */
function versionsToldBy(answer: KubeObject): readonly Served[] {
  if (answer.kind === 'APIVersions') {
    return listOf(answer['versions']).map((version) => ({ group: '', version: String(version) }));
  }
  return objectsOf(answer['groups']).flatMap(({ name, versions, preferredVersion }) => {
    const first = textOf(isJson(preferredVersion) ? preferredVersion['version'] : undefined);
    const all = objectsOf(versions).map(({ version }) => textOf(version));
    return [...new Set([first, ...all])]
      .filter((version) => version !== '')
      .map((version) => ({ group: textOf(name), version }));
  });
}

async function look(api: KubeApi, { group, version }: Served, timeoutMs: number): Promise<Looked> {
  const groupVersion = group === '' ? version : `${group}/${version}`;
  const answer = await api.get(group === '' ? `/api/${version}` : `/apis/${groupVersion}`, timeoutMs);
  if (!answer.ok) return { kinds: [], failing: [{ groupVersion, detail: answer.detail }] };
  const resources = objectsOf(answer.value['resources']);
  const names = new Set(resources.map(({ name }) => textOf(name)));
  const kinds = resources
    .filter(({ name }) => isPlural(name))
    .map(({ name, kind, namespaced, verbs }) => ({
      group,
      version,
      kind: textOf(kind),
      resource: textOf(name),
      namespaced: namespaced === true,
      verbs: listOf(verbs).map(String),
      hasScale: names.has(`${textOf(name)}/scale`),
    }));
  return { kinds, failing: [] };
}

/** From `APIGroupDiscoveryList`: all groups, versions and kinds in one. */
function allToldBy(answer: KubeObject): Looked {
  return joined(
    objectsOf(answer['items']).flatMap((item) => {
      const group = textOf(isJson(item['metadata']) ? item['metadata']['name'] : undefined);
      return objectsOf(item['versions']).map((one) => toldOf(group, one));
    }),
  );
}

function toldOf(group: string, { version, freshness, resources }: Json): Looked {
  const kinds = objectsOf(resources)
    .filter(({ resource }) => isPlural(resource))
    .map(({ resource, responseKind, scope, verbs, subresources }) => ({
      group,
      version: textOf(version),
      kind: textOf(isJson(responseKind) ? responseKind['kind'] : undefined),
      resource: textOf(resource),
      namespaced: scope === 'Namespaced',
      verbs: listOf(verbs).map(String),
      hasScale: objectsOf(subresources).some(({ subresource }) => subresource === 'scale'),
    }));
  const groupVersion = group === '' ? textOf(version) : `${group}/${textOf(version)}`;
  const detail = `Cannot trust what ${groupVersion} serves: its server does not answer the API server`;
  return { kinds, failing: freshness === 'Stale' ? [{ groupVersion, detail }] : [] };
}

/** Each kind once: CronJobs are in batch/v1beta1 alone where batch/v1 does not have them yet. */
function preferred(kinds: readonly KubeResource[]): readonly KubeResource[] {
  const first = new Map<string, KubeResource>();
  for (const kind of kinds) {
    const key = `${kind.group}/${kind.resource}`;
    if (!first.has(key)) first.set(key, kind);
  }
  return [...first.values()];
}

function joined(all: readonly Looked[]): Looked {
  return { kinds: all.flatMap(({ kinds }) => kinds), failing: all.flatMap(({ failing }) => failing) };
}

/** Not a subresource, and nothing that would be odd in a path. */
const isPlural = (name: unknown): boolean => typeof name === 'string' && /^[a-z0-9][a-z0-9.-]*$/.test(name);
const isJson = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value);
const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
const objectsOf = (value: unknown): readonly Json[] => listOf(value).filter(isJson);
const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');
