// A client whose credentials may come later than this service: k3s writes its kubeconfig when it starts, and a service
// manager starts both at once. Until they can be read every request fails with the reason, and each one tries anew.
import { type Clock, withDeadline } from '../clock.ts';
import type { KubeAnswer, KubeApi, KubeFailure } from './kube-api.ts';
import { createKubeClient } from './kube-client.ts';
import type { CredentialPlace } from './kube-credentials.ts';

/** Between two tries to read credentials. */
const AGAIN_AFTER_MS = 1_000;

/** The cluster that `place` leads to, now or as soon as it does. */
export function createLateKubeClient(options: { readonly clock: Clock } & CredentialPlace): KubeApi {
  const { clock, kubeconfig } = options;
  let made: KubeApi | null = null;
  let making: Promise<void> | null = null;
  let isClosed = false;
  let triedAtMs = -Infinity;
  let detail = 'its credentials have not been read yet';

  async function make(): Promise<void> {
    triedAtMs = clock.now().elapsedMs;
    const answer = await createKubeClient(options);
    if (!answer.ok) detail = answer.detail;
    else if (isClosed) await answer.api.close();
    else made = answer.api;
  }

  /** A login plugin may take its time; whoever asks waits no longer than for the server. */
  async function ask<T>(timeoutMs: number, question: (api: KubeApi) => Promise<KubeAnswer<T>>): Promise<KubeAnswer<T>> {
    if (!made && !isClosed && (making || clock.now().elapsedMs - triedAtMs >= AGAIN_AFTER_MS)) {
      making ??= make().finally(() => (making = null));
      await withDeadline(clock, timeoutMs, making);
    }
    if (made) return question(made);
    const failure: KubeFailure = { ok: false, kind: 'unreachable', status: null, detail, retryAfterMs: null };
    return failure;
  }

  return {
    get server() {
      return made?.server ?? kubeconfig ?? 'the cluster of this pod';
    },
    list: (path, query, timeoutMs) => ask(timeoutMs, (api) => api.list(path, query, timeoutMs)),
    get: (path, timeoutMs) => ask(timeoutMs, (api) => api.get(path, timeoutMs)),
    create: (path, body, timeoutMs, query) => ask(timeoutMs, (api) => api.create(path, body, timeoutMs, query)),
    patch: (path, body, timeoutMs) => ask(timeoutMs, (api) => api.patch(path, body, timeoutMs)),
    replace: (path, body, timeoutMs) => ask(timeoutMs, (api) => api.replace(path, body, timeoutMs)),
    remove: (path, options, timeoutMs) => ask(timeoutMs, (api) => api.remove(path, options, timeoutMs)),
    async close() {
      isClosed = true;
      await made?.close();
    },
  };
}
