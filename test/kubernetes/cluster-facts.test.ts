import t from 'tap';
import { ClusterFacts } from '../../src/kubernetes/cluster-facts.ts';
import type { KubeAnswer, KubeApi, KubeObject } from '../../src/kubernetes/kube-api.ts';
import { type Right, wordsOf } from '../../src/kubernetes/kube-rights.ts';
import { type NeededRight, neededRights } from '../../src/kubernetes/needed-rights.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { failureOf } from '../support/object-store-api.ts';
import { BUILT_IN_KINDS, customKind } from '../support/stand-in-cluster.ts';

type Groups = Readonly<Record<string, readonly (typeof BUILT_IN_KINDS)[number][]>>;

/** A server that tells its kinds group by group, and what it allows. */
class Server {
  groups: Groups = {
    v1: BUILT_IN_KINDS.filter(({ group }) => group === ''),
    'apps/v1': BUILT_IN_KINDS.filter(({ group }) => group === 'apps'),
    'batch/v1': BUILT_IN_KINDS.filter(({ group }) => group === 'batch'),
  };
  /** Paths that fail, and rights that are refused or cannot be asked. */
  readonly failing = new Set<string>();
  isAway = false;
  refused: (right: Right) => boolean = () => false;
  unsaid: (right: Right) => boolean = () => false;
  reviews = 0;
  readonly clock = new ManualClock();

  facts(change: { readonly namespaces?: readonly string[]; readonly findsExporters?: boolean } = {}): ClusterFacts {
    const { namespaces = [], findsExporters = false } = change;
    const ask = (path: string): KubeAnswer<KubeObject> => this.#answer(path);
    const api = {
      get: async (path: string) => ask(path),
      create: async (_: string, body: { readonly spec: { readonly resourceAttributes: Right } }) => {
        this.reviews += 1;
        const right = body.spec.resourceAttributes;
        if (this.isAway || this.unsaid(right)) return failureOf('unreachable', 'connect ECONNREFUSED');
        return { ok: true, value: { metadata: {}, status: { allowed: !this.refused(right) } } };
      },
    } as unknown as KubeApi;
    return new ClusterFacts({ api, clock: this.clock, namespace: 'vsf-safety', namespaces, findsExporters });
  }

  #answer(path: string): KubeAnswer<KubeObject> {
    if (this.isAway || this.failing.has(path)) return failureOf('server-error', `503 of ${path}`);
    const told = (object: object): KubeAnswer<KubeObject> => ({
      ok: true,
      value: { metadata: { name: '', uid: '' }, ...object },
    });
    if (path === '/api') return told({ kind: 'APIVersions', versions: ['v1'] });
    if (path === '/apis') {
      const names = Object.keys(this.groups).filter((name) => name.includes('/'));
      const groups = names.map((name) => ({ name: name.split('/')[0], versions: [{ version: name.split('/')[1] }] }));
      return told({ kind: 'APIGroupList', groups });
    }
    const served = this.groups[path.replace(/^\/apis?\//, '')] ?? [];
    const resources = served.flatMap(({ resource, kind, namespaced, verbs, hasScale }) => [
      { name: resource, kind, namespaced, verbs },
      ...(hasScale ? [{ name: `${resource}/scale`, kind: 'Scale', namespaced, verbs }] : []),
    ]);
    return told({ resources });
  }
}

t.test('ClusterFacts refuses starts until its kinds and rights were found out, and while one is missing', async (t) => {
  const server = new Server();
  const facts = server.facts();
  t.match(facts.missing, [/kinds have not been asked/, /rights have not been asked/]);
  server.isAway = true;
  await facts.refresh();
  t.match(facts.missing, [/kinds could not be found out: 503 of \/api/, /rights could not be found out: connect/]);
  server.isAway = false;
  await facts.refresh();
  t.same(facts.missing, []);
  t.equal(facts.kinds.length, BUILT_IN_KINDS.length);

  await t.test('a right that is taken away shows within 5 min, and one given at the next tick', async (t) => {
    server.refused = ({ verb, resource }) => verb === 'delete' && resource === 'pods';
    await server.clock.advance(299_000);
    await facts.refresh();
    t.same(facts.missing, []);
    await server.clock.advance(1_000);
    await facts.refresh();
    t.same(facts.missing, ['delete pods']);
    server.refused = () => false;
    await facts.refresh();
    t.same(facts.missing, []);
  });

  await t.test('what was known stays while the server is away', async (t) => {
    server.isAway = true;
    await server.clock.advance(600_000);
    await facts.refresh();
    t.same(facts.missing, []);
    t.equal(facts.kinds.length, BUILT_IN_KINDS.length);
    server.isAway = false;
  });

  await t.test('what is optional refuses nothing', async (t) => {
    server.refused = ({ resource }) => resource === 'events';
    await server.clock.advance(300_000);
    await facts.refresh();
    t.same(facts.missing, []);
    t.same(facts.missingOptional, ['create events in vsf-safety']);
  });

  await t.test('asks once at a time', async (t) => {
    await server.clock.advance(300_000);
    server.reviews = 0;
    await Promise.all([facts.refresh(), facts.refresh(), facts.refresh()]);
    const once = server.reviews;
    server.reviews = 0;
    await server.clock.advance(300_000);
    await facts.refresh();
    t.equal(once, server.reviews);
  });
});

t.test('ClusterFacts: a group that every cluster has and that cannot be looked at refuses starts', async (t) => {
  const server = new Server();
  const facts = server.facts();
  server.failing.add('/apis/apps/v1');
  await facts.refresh();
  t.same(facts.missing, ['its kinds in apps/v1 could not be found out: 503 of /apis/apps/v1']);
  t.match(facts.failing, [{ groupVersion: 'apps/v1' }]);
  server.failing.clear();
  await facts.refresh();
  t.same(facts.missing, [], 'asked again at the next tick');
  server.failing.add('/apis/apps/v1');
  await server.clock.advance(60_000);
  await facts.refresh();
  t.same(facts.missing, [], 'what was found before serves on');
  t.ok(facts.kinds.some(({ kind }) => kind === 'Deployment'));

  await t.test('somebody’s own group does not', async (t) => {
    server.failing.clear();
    server.groups = { ...server.groups, 'metrics.k8s.io/v1beta1': [] };
    server.failing.add('/apis/metrics.k8s.io/v1beta1');
    await server.clock.advance(60_000);
    await facts.refresh();
    t.match([facts.failing, facts.missing], [[{ groupVersion: 'metrics.k8s.io/v1beta1' }], []]);
  });

  await t.test('kinds that come later have their rights asked for at once', async (t) => {
    server.failing.clear();
    server.groups = {
      ...server.groups,
      'argoproj.io/v1alpha1': [customKind('argoproj.io', 'Rollout', 'rollouts', true, 'v1alpha1')],
    };
    server.refused = ({ resource, subresource }) => resource === 'rollouts' && subresource === 'scale';
    await server.clock.advance(60_000);
    await facts.refresh();
    t.same(facts.missing, [], 'a custom kind keeps nobody from starting');
    t.same(facts.missingOptional, ['get rollouts.argoproj.io/scale', 'patch rollouts.argoproj.io/scale']);
  });
});

t.test('ClusterFacts: a right that nobody tells of is no right', async (t) => {
  const server = new Server();
  server.unsaid = ({ verb, resource }) => verb === 'patch' && resource === 'jobs';
  const facts = server.facts();
  await facts.refresh();
  t.match(facts.missing, [/rights could not be found out: connect ECONNREFUSED/]);
  server.unsaid = () => false;
  await facts.refresh();
  t.same(facts.missing, []);
});

t.test('neededRights() names each right once, where workloads are', async (t) => {
  const words = (needed: readonly NeededRight[], isVital?: boolean): string[] =>
    needed.filter((one) => isVital === undefined || one.isVital === isVital).map(({ right }) => wordsOf(right));
  const parts = { kinds: BUILT_IN_KINDS, namespaces: [], namespace: 'vsf-safety', findsExporters: true };
  const all = words(neededRights(parts));
  t.equal(new Set(all).size, all.length);
  const vital = words(neededRights(parts), true);
  for (const right of [
    'list pods',
    'delete pods',
    'list nodes',
    'patch deployments.apps/scale',
    'patch jobs.batch',
    'patch cronjobs.batch',
    'patch daemonsets.apps',
    'patch replicationcontrollers/scale',
    'update configmaps "vsf-estop" in vsf-safety',
    'update configmaps "vsf-leases" in vsf-safety',
    'update leases.coordination.k8s.io "vsf-safety" in vsf-safety',
    'patch validatingwebhookconfigurations.admissionregistration.k8s.io "vsf-estop"',
  ]) {
    t.ok(vital.includes(right), right);
  }
  t.notOk(all.some((right) => /secrets|deletecollection|\*/.test(right)));

  const narrow = words(neededRights({ ...parts, namespaces: ['a', 'b'] }));
  t.ok(narrow.includes('delete pods in a') && narrow.includes('delete pods in b'));
  t.notOk(narrow.includes('delete pods'));
  t.ok(narrow.includes('list pods'), 'exporters may be anywhere');
  t.ok(narrow.includes('list nodes'));
});
