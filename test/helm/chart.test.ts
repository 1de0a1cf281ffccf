// The chart as Helm renders it, for old clusters and new ones: what each object must be, whatever the values.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { parse, parseAllDocuments } from 'yaml';
import { loadConfig } from '../../src/config.ts';
import { neededRights } from '../../src/kubernetes/needed-rights.ts';
import { BUILT_IN_GROUPS, OWNER_RULES } from '../../src/kubernetes/owner-kinds.ts';
import { ROLE_RIGHTS } from '../../src/kubernetes/token-review.ts';
import { helm, lacksHelm, type Render, renderChart, runTemplate } from '../support/chart.ts';
import type { AnyObject } from '../support/control-plane.ts';
import { fieldFaults, isKnownKind } from '../support/manifest-fields.ts';
import { brokenRules } from '../support/pod-security.ts';
import { grantedBy, servedKinds } from '../support/rbac-rights.ts';
import { freshFolder } from '../support/real-service.ts';

const OLD = '1.20.2';
const NEW = '1.35.0';
const OPERATOR = ['monitoring.coreos.com/v1/ServiceMonitor', 'monitoring.coreos.com/v1/PrometheusRule'];
const EVERYTHING: Render = {
  kubeVersion: NEW,
  apiVersions: OPERATOR,
  values: {
    replicas: 2,
    persistence: { enabled: true, storageClassName: 'fast' },
    workloadNamespaces: ['gpu', 'train'],
    rbac: { projects: ['keda', 'volcano'], extraRules: [{ apiGroups: ['x'], resources: ['ys'], verbs: ['list'] }] },
    callers: {
      workload: [
        { kind: 'ServiceAccount', name: 'default', namespace: 'gpu' },
        { kind: 'Group', name: 'ops' },
      ],
    },
    networkPolicy: { callerCidrs: ['10.0.0.0/8'], egress: { restricted: true } },
    secrets: ['webhook'],
    monitoring: { labels: { release: 'prometheus' }, serviceMonitor: { authorization: { type: 'Bearer' } } },
  },
};

const read = (path: string): Promise<string> => readFile(join('helm', path), 'utf8');
const objectsIn = async (path: string): Promise<AnyObject[]> =>
  parseAllDocuments(await read(path)).map((document) => document.toJS());
const ofKind = (objects: readonly AnyObject[], kind: string): AnyObject[] => objects.filter((one) => one.kind === kind);
const one = (objects: readonly AnyObject[], kind: string, name = 'vsf-safety'): AnyObject =>
  objects.find((object) => object.kind === kind && object.metadata.name === name) ?? null;

t.test('the chart', { skip: lacksHelm }, async (t) => {
  const folder = freshFolder(t);
  const render = (how: Render = {}): Promise<AnyObject[]> => renderChart(folder, how);
  const usual = await render({ kubeVersion: NEW });
  const old = await render({ kubeVersion: OLD });
  const everything = await render(EVERYTHING);
  const podOf = (objects: readonly AnyObject[]): AnyObject =>
    [...ofKind(objects, 'Deployment'), ...ofKind(objects, 'StatefulSet')][0].spec.template;
  const configOf = (objects: readonly AnyObject[]): AnyObject =>
    parse(objects.find(({ data }) => data?.['safety.yaml']).data['safety.yaml']);

  await t.test('helm lint --strict has nothing to say', async (t) => {
    const { code, out, err } = await helm(['lint', '--strict', 'helm']);
    t.equal(code, 0, out + err);
    t.notMatch(out, /WARNING|ERROR/);
  });

  await t.test('Chart.yaml has the version of package.json', async (t) => {
    const { version } = JSON.parse(await readFile('package.json', 'utf8'));
    t.match(parse(await read('Chart.yaml')), { version, appVersion: version });
    t.equal(podOf(usual).spec.containers[0].image, `vsf-safety:${version}`);
  });

  await t.test('every manifest has only fields that Kubernetes knows', async (t) => {
    for (const object of [...usual, ...everything].filter(isKnownKind)) {
      t.same(fieldFaults(object), [], `${object.kind} ${object.metadata.name}`);
    }
    const custom = everything.filter((object) => !isKnownKind(object)).map(({ kind }) => kind);
    t.same(custom.sort(), ['PrometheusRule', 'ServiceMonitor']);
    t.same(fieldFaults({ apiVersion: 'apps/v1', kind: 'Deployment', spec: { replicaz: 1, paused: 'no' } }), [
      'spec.replicaz: unknown',
      'spec.paused: no boolean',
    ]);
  });

  await t.test('the pod is restricted, whatever else is wanted of it', async (t) => {
    for (const objects of [usual, old, everything]) t.same(brokenRules(podOf(objects).spec), []);
    const [container] = podOf(usual).spec.containers;
    t.equal(container.securityContext.readOnlyRootFilesystem, true);
    t.same(
      container.volumeMounts
        .filter(({ readOnly }: AnyObject) => !readOnly)
        .map(({ mountPath }: AnyObject) => mountPath),
      ['/var/lib/vsf-safety', '/tmp'],
      'what it may write to',
    );
    t.match(podOf(usual).spec.securityContext, { fsGroup: 8470, fsGroupChangePolicy: 'OnRootMismatch' });
    // The checks themselves can fail, each of them.
    const broken = (change: (spec: AnyObject) => void): readonly string[] => {
      const { spec } = structuredClone(podOf(usual));
      change(spec);
      return brokenRules(spec);
    };
    const cases: Record<string, (spec: AnyObject, own: AnyObject) => void> = {
      hostNetwork: (spec) => Object.assign(spec, { hostNetwork: true }),
      hostPID: (spec) => Object.assign(spec, { hostPID: true }),
      hostIPC: (spec) => Object.assign(spec, { hostIPC: true }),
      sysctls: (spec) => Object.assign(spec.securityContext, { sysctls: [{ name: 'x', value: '1' }] }),
      'volume root': (spec) => spec.volumes.push({ name: 'root', hostPath: { path: '/' } }),
      'vsf-safety: privileged': (_, own) => Object.assign(own, { privileged: true }),
      'vsf-safety: allowPrivilegeEscalation': (_, own) => delete own.allowPrivilegeEscalation,
      'vsf-safety: capabilities.drop': (_, own) => delete own.capabilities,
      'vsf-safety: capabilities.add': (_, own) => Object.assign(own.capabilities, { add: ['SYS_ADMIN'] }),
      'vsf-safety: runAsNonRoot': (spec) => delete spec.securityContext.runAsNonRoot,
      'vsf-safety: runAsUser': (_, own) => Object.assign(own, { runAsUser: 0 }),
      'vsf-safety: seccompProfile': (spec) => delete spec.securityContext.seccompProfile,
      'vsf-safety: procMount': (_, own) => Object.assign(own, { procMount: 'Unmasked' }),
      'vsf-safety: seLinuxOptions': (_, own) => Object.assign(own, { seLinuxOptions: {} }),
      'vsf-safety: hostPort': (spec) => Object.assign(spec.containers[0].ports[0], { hostPort: 8470 }),
    };
    for (const [what, change] of Object.entries(cases)) {
      t.same(
        broken((spec) => change(spec, spec.containers[0].securityContext)),
        [what],
      );
    }
    const openshift = podOf(await render({ values: { runAs: { user: null, group: null } } })).spec.securityContext;
    t.notHas(openshift, { runAsUser: Number, fsGroup: Number });
    t.equal(openshift.runAsNonRoot, true);
  });

  await t.test('the pod outlives a crowded cluster and leaves a lost node', async (t) => {
    const { spec } = podOf(usual);
    const [container] = spec.containers;
    t.same(container.resources.requests, container.resources.limits, 'Guaranteed');
    t.equal(spec.priorityClassName, 'system-cluster-critical');
    t.ok(spec.terminationGracePeriodSeconds > 5, 'longer than the service’s own end');
    for (const key of ['not-ready', 'unreachable']) {
      t.match(
        spec.tolerations.find((one: AnyObject) => one.key === `node.kubernetes.io/${key}`),
        { effect: 'NoExecute', tolerationSeconds: 10 },
      );
    }
    t.match(podOf(usual).metadata.labels, { 'vsf-workload': 'false' }, 'it never stops itself');
    const probes = ['startupProbe', 'livenessProbe', 'readinessProbe'].map((probe) => container[probe].httpGet.path);
    t.same(probes, ['/healthz', '/healthz', '/readyz']);
    t.equal(spec.automountServiceAccountToken, true);
    t.equal(one(usual, 'ServiceAccount').automountServiceAccountToken, false);
  });

  await t.test('the rights are those of helm/rbac, what the code asks for, and nothing beyond', async (t) => {
    const files = await objectsIn('rbac/cluster-role.yaml');
    for (const { kind, metadata, rules } of files.filter((object) => object.rules)) {
      t.same(one(usual, kind, metadata.name).rules, rules, metadata.name);
    }
    const bindings = ({ kind, roleRef, subjects }: AnyObject): object => ({ kind, roleRef, subjects });
    const bound = (objects: AnyObject[]): object[] =>
      objects.filter(({ kind }) => kind.endsWith('RoleBinding')).map(bindings);
    t.same(
      bound(usual)
        .map((one) => JSON.stringify(one))
        .sort(),
      bound(files)
        .map((one) => JSON.stringify(one))
        .sort(),
    );

    const scope = {
      kinds: servedKinds(BUILT_IN_GROUPS),
      namespaces: [],
      namespace: 'vsf-safety',
      findsExporters: true,
    };
    const account = 'system:serviceaccount:vsf-safety:vsf-safety';
    const granted = grantedBy(usual, account);
    const needed = new Set(neededRights(scope).map(({ right }) => JSON.stringify(right)));
    t.same(
      [...needed].filter((right) => !granted.has(right)),
      [],
    );
    t.same(
      [...granted].filter((right) => !needed.has(right)).map((right) => JSON.parse(right)),
      [
        // A pod that somebody protects is looked at by itself.
        { verb: 'get', group: '', resource: 'pods' },
        // The further parts of what is split over several objects.
        ...['get', 'update'].flatMap((verb) =>
          ['vsf-estop-restore', 'vsf-leases'].flatMap((name) =>
            [1, 2, 3].map((part) => ({
              verb,
              group: '',
              resource: 'configmaps',
              namespace: 'vsf-safety',
              name: `${name}-${part}`,
            })),
          ),
        ),
      ],
    );
    for (const { rules = [], metadata } of [...usual, ...everything]) {
      for (const rule of rules) {
        const said = [...(rule.apiGroups ?? []), ...(rule.resources ?? []), ...rule.verbs];
        t.notOk(
          said.some((word: string) =>
            ['*', 'secrets', 'deletecollection', 'escalate', 'bind', 'impersonate'].includes(word),
          ),
          `${metadata.name}: ${said}`,
        );
      }
    }
  });

  await t.test('workloadNamespaces: its rights end there', async (t) => {
    const objects = await render({ values: { workloadNamespaces: ['gpu', 'train'] } });
    const account = 'system:serviceaccount:vsf-safety:vsf-safety';
    const granted = [...grantedBy(objects, account)].map((right) => JSON.parse(right));
    const namespaces = ['gpu', 'train'];
    const kinds = servedKinds(BUILT_IN_GROUPS);
    const needed = neededRights({ kinds, namespaces, namespace: 'vsf-safety', findsExporters: true });
    for (const { right } of needed)
      t.ok(
        granted.some((one) => JSON.stringify(one) === JSON.stringify(right)),
        JSON.stringify(right),
      );
    const everywhere = granted.filter(({ namespace }) => namespace === undefined);
    t.same([...new Set(everywhere.map(({ verb, resource }) => `${verb} ${resource}`))].sort(), [
      'get validatingadmissionpolicybindings',
      'get validatingwebhookconfigurations',
      'list nodes',
      'list pods',
      'patch validatingadmissionpolicybindings',
      'patch validatingwebhookconfigurations',
    ]);
    t.same(configOf(objects).kubernetes, { enabled: true, namespace: 'vsf-safety', namespaces });
    const narrow = await render({
      values: {
        workloadNamespaces: ['gpu'],
        config: { source: 'prometheus', discovery: { kubernetes: false }, prometheus: { url: 'http://p:9090' } },
      },
    });
    t.notOk(grantedBy(narrow, account).has(JSON.stringify({ verb: 'list', group: '', resource: 'pods' })));
    const { code, err } = await runTemplate(folder, { values: { workloadNamespaces: ['vsf-safety'] } });
    t.not(code, 0);
    t.match(err, /workloadNamespaces lists vsf-safety, the namespace of the release/);
  });

  await t.test('rbac.projects adds the rights for a project’s kinds, and only when it is named', async (t) => {
    const roles = (objects: AnyObject[]): string[] =>
      ofKind(objects, 'ClusterRole').map(({ metadata }) => metadata.name);
    t.notOk(roles(usual).includes('vsf-safety-keda'));
    const keda = (await objectsIn('rbac/other-kinds.yaml')).find(({ metadata }) => metadata.name === 'vsf-safety-keda');
    t.same(one(everything, 'ClusterRole', 'vsf-safety-keda').rules, keda?.rules);
    const places = ofKind(everything, 'RoleBinding').filter(({ roleRef }) => roleRef.name === 'vsf-safety-keda');
    t.same(
      places.map(({ metadata }) => metadata.namespace),
      ['gpu', 'train'],
    );
    const workloads = one(everything, 'ClusterRole', 'vsf-safety-workloads');
    t.match(workloads.rules.at(-1), { apiGroups: ['x'], resources: ['ys'] });

    const projects = parse(await read('values.schema.json')).properties.rbac.properties.projects.items.enum;
    const all = await render({ values: { rbac: { projects } } });
    const groups = [...new Set(OWNER_RULES.map(({ group }) => group))];
    const granted = grantedBy(all, 'system:serviceaccount:vsf-safety:vsf-safety');
    const needed = neededRights({
      kinds: servedKinds(groups),
      namespaces: [],
      namespace: 'vsf-safety',
      findsExporters: false,
    });
    t.same(
      needed.map(({ right }) => JSON.stringify(right)).filter((right) => !granted.has(right)),
      [],
    );
  });

  await t.test('callers are granted the roles that the service asks for', async (t) => {
    for (const { role, path, verb } of ROLE_RIGHTS) {
      t.same(one(usual, 'ClusterRole', `vsf-safety-${role}`).rules, [{ nonResourceURLs: [path], verbs: [verb] }]);
      t.equal(one(usual, 'ClusterRoleBinding', `vsf-safety-${role}`), null, 'nobody by default');
    }
    t.same(one(everything, 'ClusterRoleBinding', 'vsf-safety-workload').subjects, [
      { kind: 'ServiceAccount', name: 'default', namespace: 'gpu' },
      { kind: 'Group', name: 'ops', apiGroup: 'rbac.authorization.k8s.io' },
    ]);
    const auth = { kubernetes: false, tokens: [{ role: 'workload', sha256: 'a'.repeat(64) }] };
    const without = await render({ values: { config: { auth } } });
    t.notOk(without.some(({ metadata }) => /auth-delegator|operator/.test(metadata.name)));
  });

  await t.test('the deny rule is that of helm/admission: disarmed, and kept', async (t) => {
    const [webhook] = await objectsIn('admission/estop.yaml');
    t.same(one(usual, 'ValidatingWebhookConfiguration', 'vsf-estop').webhooks, webhook?.webhooks);
    for (const { kind, spec } of await objectsIn('admission/estop-policy.yaml')) {
      t.same(one(usual, kind, 'vsf-estop').spec, spec);
      t.equal(one(old, kind, 'vsf-estop'), null, 'not before 1.30');
    }
    const rule = usual.filter(({ metadata }) => metadata.name === 'vsf-estop');
    t.equal(rule.length, 3);
    for (const { metadata } of rule) t.match(metadata.annotations, { 'helm.sh/resource-policy': 'keep' });
    const none = await render({ values: { admission: { enabled: false } } });
    t.notOk(none.some(({ metadata }) => metadata.name === 'vsf-estop'));
  });

  await t.test('the Service is reached whether the service is ready or not, and its names are let in', async (t) => {
    t.match(one(usual, 'Service').spec, {
      publishNotReadyAddresses: true,
      ports: [{ port: 8470 }],
      selector: podOf(usual).metadata.labels['app.kubernetes.io/name'] && {
        'app.kubernetes.io/name': 'vsf-safety',
        'app.kubernetes.io/instance': 'vsf-safety',
      },
    });
    const names = [
      'vsf-safety',
      'vsf-safety.vsf-safety',
      'vsf-safety.vsf-safety.svc',
      'vsf-safety.vsf-safety.svc.cluster.local',
    ];
    t.same(configOf(usual).listen, { host: '0.0.0.0', hosts: names });
    const { env } = podOf(usual).spec.containers[0];
    t.equal(
      env.find(({ name }: AnyObject) => name === 'VSF_SAFETY_LISTEN_HOSTS').value,
      [...names, '$(POD_IP)'].join(),
    );
    const more = await render({
      release: 'lab',
      namespace: 'safety',
      values: { clusterDomain: 'k8s.lab', config: { listen: { hosts: ['vsf.lab'] } } },
    });
    const of = 'lab-vsf-safety.safety';
    t.same(configOf(more).listen.hosts, ['lab-vsf-safety', of, `${of}.svc`, `${of}.svc.k8s.lab`, 'vsf.lab']);
    t.equal(configOf(more).kubernetes.namespace, 'safety');
    for (const { metadata } of more.filter(({ metadata }) => metadata.name !== 'vsf-estop')) {
      t.match(metadata.name, /^lab-vsf-safety/);
      t.ok([undefined, 'safety'].includes(metadata.namespace));
    }
  });

  await t.test('the service takes its configuration, and is restarted by another one', async (t) => {
    const config = {
      history: { maxBytes: 1073741824 },
      staleAfter: '60s',
      constraints: { gpu: { powerW: { warning: 320, hardStop: 360 } } },
    };
    const changed = await render({ values: { config } });
    for (const objects of [usual, old, everything, changed]) {
      const text = one(objects, 'ConfigMap').data['safety.yaml'];
      const { env } = podOf(objects).spec.containers[0];
      const VSF_SAFETY_LISTEN_HOSTS = env[1].value.replace('$(POD_IP)', '10.42.0.7');
      const loaded = loadConfig({
        text,
        file: 'safety.yaml',
        env: { VSF_SAFETY_LISTEN_HOSTS },
        hostname: 'pod',
        homeDir: '/',
      });
      t.match(loaded, { ok: true, warnings: [], config: { listen: { host: '0.0.0.0' }, auth: { kubernetes: true } } });
    }
    t.match(configOf(changed), config);
    t.not(podOf(changed).metadata.annotations['checksum/config'], podOf(usual).metadata.annotations['checksum/config']);
  });

  await t.test('an emptyDir is a Deployment’s, whose new pod comes first; volumes are a StatefulSet’s', async (t) => {
    t.match(one(usual, 'Deployment').spec, {
      replicas: 1,
      strategy: { rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
    });
    t.match(
      podOf(usual).spec.volumes.find(({ name }: AnyObject) => name === 'state'),
      { emptyDir: {} },
    );
    t.equal(one(everything, 'Deployment'), null);
    const set = one(everything, 'StatefulSet').spec;
    t.match(set.volumeClaimTemplates, [{ metadata: { name: 'state' }, spec: { storageClassName: 'fast' } }]);
    t.notOk(podOf(everything).spec.volumes.some(({ name }: AnyObject) => name === 'state'));
    t.equal(set.serviceName, one(everything, 'Service').metadata.name);
  });

  await t.test('two replicas: on two nodes, and drained one by one', async (t) => {
    t.equal(ofKind(usual, 'PodDisruptionBudget').length, 0, 'one would block drains');
    t.match(one(everything, 'PodDisruptionBudget'), { apiVersion: 'policy/v1', spec: { maxUnavailable: 1 } });
    t.ok(podOf(everything).spec.affinity.podAntiAffinity);
    t.ok(podOf(everything).spec.topologySpreadConstraints);
    const two = await render({ kubeVersion: OLD, values: { replicas: 2 } });
    t.equal(one(two, 'PodDisruptionBudget').apiVersion, 'policy/v1beta1');
    t.equal(one(two, 'Deployment').spec.replicas, 2);
  });

  await t.test('NetworkPolicy: callers come in, and nothing keeps the service from the API server', async (t) => {
    t.match(one(usual, 'NetworkPolicy').spec, {
      policyTypes: ['Ingress'],
      ingress: [{ from: [{ namespaceSelector: {} }] }],
    });
    const { policyTypes, ingress, egress } = one(everything, 'NetworkPolicy').spec;
    t.same(policyTypes, ['Ingress', 'Egress']);
    t.match(ingress[0].from, [{}, { ipBlock: { cidr: '10.0.0.0/8' } }]);
    const ports = egress.map((rule: AnyObject) => [
      rule.to ?? 'anywhere',
      ...rule.ports.map(({ port }: AnyObject) => port),
    ]);
    t.same(ports, [
      ['anywhere', 53, 53],
      ['anywhere', 443, 6443],
      ['anywhere', 9100, 9400, 9090],
    ]);
  });

  await t.test('ServiceMonitor and rules where the cluster has their kinds: the rules of helm/alerts', async (t) => {
    t.notOk(usual.some(({ apiVersion }) => apiVersion.startsWith('monitoring.coreos.com')));
    t.same(one(everything, 'PrometheusRule').spec, parse(await read('alerts/vsf-safety.rules.yaml')));
    t.match(one(everything, 'ServiceMonitor').spec.endpoints, [
      { path: '/metrics', relabelings: [{ targetLabel: 'job' }] },
    ]);
    t.match(one(everything, 'ServiceMonitor').metadata.labels, { release: 'prometheus' });
    const dashboard = one(usual, 'ConfigMap', 'vsf-safety-dashboard');
    t.match(dashboard.metadata.labels, { grafana_dashboard: '1' });
    t.same(JSON.parse(dashboard.data['vsf-safety.json']), JSON.parse(await read('dashboards/vsf-safety.json')));
  });

  await t.test('FlowSchema: of the version that the cluster serves', async (t) => {
    const versions: Record<string, string> = {
      [OLD]: 'v1beta1',
      '1.24.0': 'v1beta2',
      '1.27.0': 'v1beta3',
      [NEW]: 'v1',
    };
    for (const [kubeVersion, version] of Object.entries(versions)) {
      const schema = one(await render({ kubeVersion }), 'FlowSchema');
      t.equal(schema.apiVersion, `flowcontrol.apiserver.k8s.io/${version}`);
      t.match(schema.spec, { priorityLevelConfiguration: { name: 'workload-high' }, matchingPrecedence: 850 });
    }
  });

  await t.test('NOTES.txt says how to look at the rights, to drill, and where the dashboard is', async (t) => {
    const args = ['install', 'vsf-safety', 'helm', '--namespace=vsf-safety', '--dry-run=client'];
    const { code, out, err } = await helm(args);
    t.equal(code, 0, err);
    const notes = out.slice(out.indexOf('NOTES:'));
    t.match(notes, /1\. .*rights[\s\S]*main\.js status\n/);
    t.match(notes, /2\. .*[\s\S]*main\.js drill\n/);
    t.match(notes, /3\. The dashboard[\s\S]*port-forward service\/vsf-safety 8470/);
    t.match(notes, /Nobody may take a lease yet/);
  });
});
