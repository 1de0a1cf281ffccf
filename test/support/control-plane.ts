// A real Kubernetes control plane on loopback: etcd, kube-apiserver and kube-controller-manager from KUBEBUILDER_ASSETS,
// without a kubelet (fake-kubelet.ts) or a scheduler. The service's own token has exactly the rights of helm/rbac, or of
// what a test applies instead, so that a right that is missing there shows in a test. Which flags a version takes is read from its own help: nothing
// here asks for a version.
import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdir, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import { Agent, request } from 'undici';
import { parseAllDocuments } from 'yaml';
import { launch, quietPort, type Running } from './guarded-process.ts';
import { isInstalled } from './real-node-exporter.ts';

const PROGRAMS = ['etcd', 'kube-apiserver', 'kube-controller-manager'] as const;
type ProgramName = (typeof PROGRAMS)[number];

const ASSETS = process.env['KUBEBUILDER_ASSETS'] ?? '';

/** Why a test that needs a control plane is skipped; `false` where all of it is there. */
export const lacksControlPlane: string | false = lacking();

function lacking(): string | false {
  if (ASSETS === '') return `needs KUBEBUILDER_ASSETS, a folder with ${PROGRAMS.join(', ')}`;
  const missing = PROGRAMS.filter((name) => !isInstalled(join(ASSETS, name)));
  return missing.length > 0 && `needs ${missing.join(', ')} in KUBEBUILDER_ASSETS (${ASSETS})`;
}

/** The service's account, as helm/rbac names it. */
const NAMESPACE = 'vsf-safety';
const RIGHTS_FILE = join(process.cwd(), 'helm/rbac/cluster-role.yaml');
/** Without the node lifecycle controller: it would taint nodes away that have no kubelet. */
const CONTROLLERS =
  'deployment,replicaset,replicationcontroller,statefulset,daemonset,job,cronjob,horizontalpodautoscaling,' +
  'garbagecollector,namespace,resourcequota,serviceaccount,disruption,podgc';
/** 4 s on an idle machine of two cores; several test files may start one each. */
const READY_WITHIN_MS = 90_000;

/** Some Kubernetes object, as a test writes or reads it. */
// biome-ignore lint/suspicious/noExplicitAny: tests reach deep into objects of every kind.
export type AnyObject = any;

export interface AdminAnswer {
  readonly status: number;
  readonly body: AnyObject;
}

export interface ControlPlane {
  /** `https://127.0.0.1:PORT`; the same after a restart. */
  readonly url: string;
  /** PEM, of the authority that signed the server's certificate. */
  readonly caFile: string;
  /** PEM, of the server's certificate itself, for a proxy that stands in its place. */
  readonly keyFile: string;
  /** May do everything. */
  readonly adminToken: string;
  /** Of `system:serviceaccount:vsf-safety:vsf-safety`, with the rights of helm/rbac. */
  readonly serviceToken: string;
  /** Of the user `stranger`, who may do nothing. */
  readonly strangerToken: string;
  /** The service's namespace, which is there. */
  readonly namespace: string;
  /** Writes a kubeconfig for this server, or for a proxy before it; its path. */
  kubeconfigFor(token: string, proxy?: { readonly url: string; readonly caFile: string }): Promise<string>;
  /** One request as administrator; the answer whatever its status. A PATCH is a merge patch. */
  ask(method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: unknown): Promise<AdminAnswer>;
  /** `ask`, throwing for anything but a 2xx; the body. */
  must(method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: unknown): Promise<AnyObject>;
  /** Creates or replaces every object of a YAML file; gives `Kind name` of those whose kind this server does not serve. */
  apply(file: string): Promise<readonly string[]>;
  /** `apply` of objects. */
  applyObjects(objects: readonly AnyObject[]): Promise<readonly string[]>;
  /** Whether an object is not there. Throws where its kind is not served. */
  lacks(object: AnyObject): Promise<boolean>;
  /** A token of a service account that is there, as a pod of its would have. */
  tokenOf(namespace: string, account: string): Promise<string>;
  /** A node that is Ready and takes everything. */
  addNode(name: string, labels?: Readonly<Record<string, string>>): Promise<void>;
  setNodeReady(name: string, isReady: boolean): Promise<void>;
  /** `stop` as a crash does; `start` on the same port over the same data, until it is ready. */
  readonly apiserver: { stop(): Promise<void>; start(): Promise<void> };
  /** Ends all of it at once; done by itself after `t`. */
  close(): Promise<void>;
}

/**
 * Starts a control plane of its own for `t`. Call it only where {@link lacksControlPlane} is `false`. With `rights: 'none'`
 * the service's account may do nothing yet.
 */
export async function startControlPlane(
  t?: Test,
  { rights = 'files' }: { readonly rights?: 'files' | 'none' } = {},
): Promise<ControlPlane> {
  if (lacksControlPlane) throw new Error(`Cannot start a control plane: ${lacksControlPlane}`);
  const folder = await mkdtemp(join(await realpath(tmpdir()), 'vsf-safety-plane-'));
  const plane = new RealControlPlane(folder, await quietPort());
  t?.teardown(() => plane.close());
  try {
    await plane.start();
    if (rights === 'files') await plane.apply(RIGHTS_FILE);
  } catch (error) {
    await plane.close();
    throw error;
  }
  return plane;
}

class RealControlPlane implements ControlPlane {
  readonly url: string;
  readonly caFile: string;
  readonly keyFile: string;
  readonly adminToken = 'admin-token';
  readonly serviceToken = 'service-token';
  readonly strangerToken = 'stranger-token';
  readonly namespace = NAMESPACE;
  readonly #managerToken = 'manager-token';
  readonly #folder: string;
  readonly #port: number;
  readonly #running = new Map<ProgramName, Running>();
  #agent: Agent | undefined;
  #apiserverArgs: readonly string[] = [];
  #kubeconfigs = 0;

  constructor(folder: string, port: number) {
    this.#folder = folder;
    this.#port = port;
    this.url = `https://127.0.0.1:${port}`;
    this.caFile = join(folder, 'certs/apiserver.crt');
    this.keyFile = join(folder, 'certs/apiserver.key');
  }

  async start(): Promise<void> {
    await this.#writeKeysAndTokens();
    const [etcdPort, peerPort] = [await quietPort(), await quietPort()];
    const etcdUrl = `http://127.0.0.1:${etcdPort}`;
    const peerUrl = `http://127.0.0.1:${peerPort}`;
    await this.#launch('etcd', [
      `--data-dir=${join(this.#folder, 'etcd')}`,
      `--listen-client-urls=${etcdUrl}`,
      `--advertise-client-urls=${etcdUrl}`,
      `--listen-peer-urls=${peerUrl}`,
      `--initial-advertise-peer-urls=${peerUrl}`,
      `--initial-cluster=default=${peerUrl}`,
      // From etcd 3.5 on; a test's data need not outlive the machine.
      ...(await acceptedFlags('etcd', ['--unsafe-no-fsync'])),
    ]);
    this.#apiserverArgs = [
      `--etcd-servers=${etcdUrl}`,
      `--cert-dir=${join(this.#folder, 'certs')}`,
      '--bind-address=127.0.0.1',
      '--advertise-address=127.0.0.1',
      `--secure-port=${this.#port}`,
      '--service-cluster-ip-range=10.0.0.0/24',
      '--allow-privileged=true',
      '--authorization-mode=RBAC',
      `--token-auth-file=${join(this.#folder, 'tokens.csv')}`,
      `--service-account-issuer=${this.url}/`,
      `--service-account-key-file=${join(this.#folder, 'sa.pub')}`,
      `--service-account-signing-key-file=${join(this.#folder, 'sa.key')}`,
      '--disable-admission-plugins=ServiceAccount',
      ...(await acceptedFlags('kube-apiserver', ['--insecure-port=0'])),
    ];
    await this.apiserver.start();
    await this.#startManager();
    await this.must('POST', '/api/v1/namespaces', { metadata: { name: NAMESPACE } });
    // Its controllers run: one of them has made the new namespace's account.
    await this.#until('kube-controller-manager', async () => {
      const account = await this.ask('GET', `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/default`);
      return account.status === 200;
    });
  }

  readonly apiserver = {
    start: async (): Promise<void> => {
      await this.#launch('kube-apiserver', this.#apiserverArgs);
      await this.#until('kube-apiserver', async () => {
        // The server makes its certificate at its first start.
        const ca = this.#agent ? null : await readFile(this.caFile).catch(() => null);
        if (ca) this.#agent = new Agent({ connections: 16, connect: { ca } });
        return this.#agent !== undefined && (await this.ask('GET', '/readyz')).status === 200;
      });
    },
    stop: async (): Promise<void> => this.#kill('kube-apiserver'),
  };

  async close(): Promise<void> {
    // The server before its store, or it spends its last moments complaining.
    for (const name of [...PROGRAMS].reverse()) await this.#kill(name);
    await this.#agent?.destroy();
    this.#agent = undefined;
    await rm(this.#folder, { recursive: true, force: true });
  }

  async kubeconfigFor(token: string, proxy?: { readonly url: string; readonly caFile: string }): Promise<string> {
    const { url, caFile } = proxy ?? this;
    this.#kubeconfigs += 1;
    const path = join(this.#folder, `kubeconfig-${this.#kubeconfigs}`);
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'test', cluster: { server: url, 'certificate-authority': caFile } }],
      users: [{ name: 'test', user: { token } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'test', namespace: NAMESPACE } }],
      'current-context': 'test',
    };
    // JSON is YAML.
    await writeFile(path, JSON.stringify(config));
    return path;
  }

  async ask(method: string, path: string, body?: unknown): Promise<AdminAnswer> {
    if (!this.#agent) throw new Error('the control plane is not running');
    const answer = await request(`${this.url}${path}`, {
      method: method as 'GET',
      dispatcher: this.#agent,
      // Else each DELETE closes its connection.
      reset: false,
      headers: {
        authorization: `Bearer ${this.adminToken}`,
        accept: 'application/json',
        ...(body !== undefined && {
          'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/json',
        }),
      },
      body: body === undefined ? null : JSON.stringify(body),
    });
    const text = await answer.body.text();
    return { status: answer.statusCode, body: /^\s*[{[]/.test(text) ? JSON.parse(text) : text };
  }

  async must(method: string, path: string, body?: unknown): Promise<AnyObject> {
    const answer = await this.ask(method, path, body);
    if (answer.status < 200 || answer.status > 299) {
      const why = JSON.stringify(answer.body).slice(0, 1_000);
      throw new Error(`Cannot ${method} ${path}: ${answer.status} ${why}`);
    }
    return answer.body;
  }

  async apply(file: string): Promise<readonly string[]> {
    const documents = parseAllDocuments(await readFile(file, 'utf8'));
    return this.applyObjects(documents.map((document) => document.toJS()));
  }

  async applyObjects(objects: readonly AnyObject[]): Promise<readonly string[]> {
    const unserved: string[] = [];
    for (const object of objects) {
      const collection = await this.#collectionOf(object);
      if (collection === null) {
        unserved.push(`${object.kind} ${object.metadata.name}`);
        continue;
      }
      const existing = await this.ask('GET', `${collection}/${object.metadata.name}`);
      if (existing.status === 404) {
        await this.must('POST', collection, object);
      } else {
        const { resourceVersion } = existing.body.metadata;
        const replacement = { ...object, metadata: { ...object.metadata, resourceVersion } };
        await this.must('PUT', `${collection}/${object.metadata.name}`, replacement);
      }
    }
    return unserved;
  }

  async lacks(object: AnyObject): Promise<boolean> {
    const collection = await this.#collectionOf(object);
    if (collection === null) throw new Error(`${object.apiVersion} ${object.kind} is not served`);
    return (await this.ask('GET', `${collection}/${object.metadata.name}`)).status === 404;
  }

  async tokenOf(namespace: string, account: string): Promise<string> {
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`;
    return (await this.must('POST', path, { spec: { expirationSeconds: 3600 } })).status.token;
  }

  async #collectionOf({ apiVersion, kind, metadata }: AnyObject): Promise<string | null> {
    const root = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    const served = await this.ask('GET', root);
    const found = served.body.resources?.find((one: AnyObject) => one.kind === kind && !one.name.includes('/'));
    if (!found) return null;
    return `${root}${found.namespaced ? `/namespaces/${metadata.namespace ?? 'default'}` : ''}/${found.name}`;
  }

  async addNode(name: string, labels: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.must('POST', '/api/v1/nodes', {
      metadata: { name, labels: { 'kubernetes.io/hostname': name, ...labels } },
    });
    // Admission taints a new node as not ready, and no DaemonSet would have a pod there.
    await this.must('PATCH', `/api/v1/nodes/${name}`, { spec: { taints: null } });
    await this.setNodeReady(name, true);
  }

  async setNodeReady(name: string, isReady: boolean): Promise<void> {
    const amount = { cpu: '256', memory: '1Ti', pods: '10000' };
    const now = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
    const status = isReady ? 'True' : 'Unknown';
    const ready = { type: 'Ready', status, reason: 'Test', lastHeartbeatTime: now, lastTransitionTime: now };
    const node = { status: { capacity: amount, allocatable: amount, conditions: [ready] } };
    await this.must('PATCH', `/api/v1/nodes/${name}/status`, node);
  }

  async #writeKeysAndTokens(): Promise<void> {
    const keys = generateKeyPairSync('rsa', {
      modulusLength: 2048,
      privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
      publicKeyEncoding: { type: 'spki', format: 'pem' },
    });
    const accounts = `system:serviceaccounts,system:serviceaccounts:${NAMESPACE}`;
    const tokens = [
      `${this.adminToken},admin,1,"system:masters"`,
      `${this.#managerToken},system:kube-controller-manager,2`,
      `${this.serviceToken},system:serviceaccount:${NAMESPACE}:vsf-safety,3,"${accounts}"`,
      `${this.strangerToken},stranger,4`,
    ];
    await mkdir(join(this.#folder, 'certs'));
    await writeFile(join(this.#folder, 'sa.key'), keys.privateKey);
    await writeFile(join(this.#folder, 'sa.pub'), keys.publicKey);
    await writeFile(join(this.#folder, 'tokens.csv'), `${tokens.join('\n')}\n`);
  }

  async #startManager(): Promise<void> {
    const kubeconfig = await this.kubeconfigFor(this.#managerToken);
    await this.#launch('kube-controller-manager', [
      `--kubeconfig=${kubeconfig}`,
      `--authentication-kubeconfig=${kubeconfig}`,
      `--authorization-kubeconfig=${kubeconfig}`,
      '--bind-address=127.0.0.1',
      `--secure-port=${await quietPort()}`,
      '--leader-elect=false',
      // Each controller by its own account: the manager's own may not create pods.
      '--use-service-account-credentials=true',
      `--service-account-private-key-file=${join(this.#folder, 'sa.key')}`,
      `--controllers=${CONTROLLERS}`,
      // Up to 1.23 it serves plain HTTP, too, on one port for all.
      ...(await acceptedFlags('kube-controller-manager', ['--port=0'])),
    ]);
  }

  async #launch(name: ProgramName, args: readonly string[]): Promise<void> {
    // Two of one program would fight for its port.
    await this.#kill(name);
    this.#running.set(name, launch(join(ASSETS, name), args));
  }

  async #kill(name: ProgramName): Promise<void> {
    const running = this.#running.get(name);
    this.#running.delete(name);
    await running?.kill();
  }

  async #until(name: ProgramName, isReady: () => Promise<boolean>): Promise<void> {
    const untilMs = Date.now() + READY_WITHIN_MS;
    while (!(await isReady().catch(() => false))) {
      for (const [program, { child, said }] of this.#running) {
        const hasEnded = child.exitCode !== null || child.signalCode !== null;
        if (hasEnded) throw new Error(`${program} has ended: ${said()}`);
      }
      if (Date.now() > untilMs) throw new Error(`${name} does not answer: ${this.#running.get(name)?.said()}`);
      await sleep(50);
    }
  }
}

const helpOf = new Map<ProgramName, Promise<string>>();

/** Those of `flags` that the program's help knows. */
async function acceptedFlags(name: ProgramName, flags: readonly string[]): Promise<readonly string[]> {
  const asking = helpOf.get(name) ?? execHelp(name);
  helpOf.set(name, asking);
  const help = await asking;
  return flags.filter((flag) => new RegExp(`(^|\\s)${flag.replace(/=.*/, '')}\\b`, 'm').test(help));
}

async function execHelp(name: ProgramName): Promise<string> {
  const { stdout, stderr } = await promisify(execFile)(join(ASSETS, name), ['--help'], { maxBuffer: 2 ** 22 });
  return stdout + stderr;
}
