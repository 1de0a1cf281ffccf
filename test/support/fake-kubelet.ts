// What a scheduler and the kubelets would do, for a control plane that has none: binds pods, says that they run, and
// confirms the end of terminating ones when their grace is over. Without it a bound pod stays terminating for ever,
// which is just what a node that does not answer looks like: `hang`.
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { Agent, request } from 'undici';
import type { AnyObject, ControlPlane } from './control-plane.ts';

export interface FakeKubelet {
  /** From now on this node starts nothing and confirms nothing. */
  hang(node: string): void;
  /** The node answers again, and catches up. */
  wake(node: string): void;
  /** Done by itself after the test. */
  close(): Promise<void>;
}

/** The kubelet raises every grace to it (minimumGracePeriodInSeconds). */
const LEAST_GRACE_SECONDS = 2;

/** Adds `nodes`, Ready, and does for them what their kubelets would; several of them share the pods in turn. */
export async function startFakeKubelet(
  t: Test,
  plane: ControlPlane,
  nodes: readonly string[] = ['node-1'],
): Promise<FakeKubelet> {
  for (const node of nodes) await plane.addNode(node);
  const kubelet = new Kubelet(plane, nodes, await readFile(plane.caFile, 'utf8'));
  t.teardown(() => kubelet.close());
  return kubelet;
}

class Kubelet implements FakeKubelet {
  readonly #plane: ControlPlane;
  readonly #nodes: readonly string[];
  /** For the watch alone. */
  readonly #agent: Agent;
  readonly #hung = new Set<string>();
  /** Terminating pods by uid, and when they end (`Date.now()`). */
  readonly #ends = new Map<string, { readonly timer: NodeJS.Timeout; readonly atMs: number }>();
  /** Deeds under way, so that none is done twice at a time. */
  readonly #busy = new Set<string>();
  readonly #closing = new AbortController();
  readonly #following: Promise<void>;
  #next = 0;

  constructor(plane: ControlPlane, nodes: readonly string[], ca: string) {
    this.#plane = plane;
    this.#nodes = nodes;
    this.#agent = new Agent({ connect: { ca }, bodyTimeout: 0 });
    this.#following = this.#follow();
  }

  hang(node: string): void {
    this.#hung.add(node);
  }

  wake(node: string): void {
    this.#hung.delete(node);
    void this.#lookAtAll().catch(() => undefined);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    for (const { timer } of this.#ends.values()) clearTimeout(timer);
    this.#ends.clear();
    await this.#following;
    await this.#agent.destroy();
  }

  /** List and watch, and from the start again whenever the watch ends, as it does with the API server. */
  async #follow(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        const resourceVersion = await this.#lookAtAll();
        const { body } = await request(`${this.#plane.url}/api/v1/pods?watch=true&resourceVersion=${resourceVersion}`, {
          dispatcher: this.#agent,
          headers: { authorization: `Bearer ${this.#plane.adminToken}` },
          signal,
        });
        for await (const line of createInterface({ input: body })) {
          const event: AnyObject = JSON.parse(line);
          if (event.type === 'ERROR') break;
          if (event.type === 'DELETED') this.#forget(event.object.metadata.uid);
          else this.#see(event.object);
        }
      } catch {
        // The API server is away, or the test is over.
      }
      await sleep(100, undefined, { signal }).catch(() => undefined);
    }
  }

  async #lookAtAll(): Promise<string> {
    const list = await this.#plane.must('GET', '/api/v1/pods');
    for (const pod of list.items) this.#see(pod);
    return list.metadata.resourceVersion;
  }

  #see(pod: AnyObject): void {
    const node: string | undefined = pod.spec.nodeName;
    if (pod.metadata.deletionTimestamp) {
      if (this.#isOurs(node)) this.#endLater(pod);
    } else if (!node) {
      this.#do('bind', pod, () => this.#bind(pod));
    } else if (this.#isOurs(node) && pod.status.phase === 'Pending') {
      this.#do('run', pod, () => this.#run(pod));
    }
  }

  #isOurs(node: string | undefined): boolean {
    return node !== undefined && this.#nodes.includes(node) && !this.#hung.has(node);
  }

  #do(deed: string, pod: AnyObject, work: () => Promise<unknown>): void {
    const key = `${deed} ${pod.metadata.uid}`;
    if (this.#busy.has(key) || this.#closing.signal.aborted) return;
    this.#busy.add(key);
    // What fails is seen again with the next list: the API server was away, or somebody was quicker.
    void work()
      .catch(() => undefined)
      .finally(() => this.#busy.delete(key));
  }

  async #bind(pod: AnyObject): Promise<void> {
    const node = this.#nodeFor(pod.spec);
    if (node === undefined) return;
    await this.#plane.ask('POST', `${pathOf(pod)}/binding`, {
      apiVersion: 'v1',
      kind: 'Binding',
      metadata: { name: pod.metadata.name },
      target: { apiVersion: 'v1', kind: 'Node', name: node },
    });
  }

  /** The one that a DaemonSet's pod or a host name asks for, else the next in turn; `undefined` where none fits. */
  #nodeFor(spec: AnyObject): string | undefined {
    const selector: Record<string, string> = spec.nodeSelector ?? {};
    const { 'kubernetes.io/hostname': hostname, ...others } = selector;
    if (Object.keys(others).length > 0) return undefined;
    const terms: AnyObject[] =
      spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? [];
    const wanted: string | undefined = hostname ?? terms[0]?.matchFields?.[0]?.values?.[0];
    if (wanted !== undefined) return this.#nodes.find((node) => node === wanted);
    this.#next += 1;
    return this.#nodes[this.#next % this.#nodes.length];
  }

  async #run(pod: AnyObject): Promise<void> {
    const startedAt = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
    const containerStatuses = pod.spec.containers.map((container: AnyObject) => ({
      name: container.name,
      image: container.image,
      imageID: '',
      ready: true,
      started: true,
      restartCount: 0,
      state: { running: { startedAt } },
    }));
    const conditions = ['Initialized', 'ContainersReady', 'Ready'].map((type) => ({ type, status: 'True' }));
    await this.#plane.ask('PATCH', `${pathOf(pod)}/status`, {
      status: { phase: 'Running', startTime: startedAt, conditions, containerStatuses },
    });
  }

  /** A grace can be shortened while it runs, and then counts from now. */
  #endLater(pod: AnyObject): void {
    const { uid, deletionGracePeriodSeconds } = pod.metadata;
    const inMs = Math.max(LEAST_GRACE_SECONDS, deletionGracePeriodSeconds ?? 0) * 1_000;
    const atMs = Date.now() + inMs;
    const running = this.#ends.get(uid);
    if (running && running.atMs <= atMs) return;
    this.#forget(uid);
    const timer = setTimeout(() => {
      this.#ends.delete(uid);
      if (!this.#isOurs(pod.spec.nodeName)) return;
      this.#do('end', pod, () =>
        this.#plane.ask('DELETE', pathOf(pod), { gracePeriodSeconds: 0, preconditions: { uid } }),
      );
    }, inMs);
    this.#ends.set(uid, { timer, atMs });
  }

  #forget(uid: string): void {
    clearTimeout(this.#ends.get(uid)?.timer);
    this.#ends.delete(uid);
  }
}

const pathOf = (pod: AnyObject): string => `/api/v1/namespaces/${pod.metadata.namespace}/pods/${pod.metadata.name}`;
