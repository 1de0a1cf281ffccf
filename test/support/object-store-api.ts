// A KubeApi over objects in memory, which answers as a server does where it matters to whoever writes records:
// resourceVersions rise with each change and are compared, a second create is a conflict, a merge patch with `null`
// takes a key away. Faults are put before it by a function.
import type { KubeAnswer, KubeApi, KubeFailure, KubeFailureKind, KubeObject } from '../../src/kubernetes/kube-api.ts';
import { copied } from './copied.ts';

export interface StoreRequest {
  readonly verb: 'get' | 'create' | 'replace' | 'patch';
  readonly path: string;
  readonly body?: unknown;
}

export interface ObjectStore {
  readonly api: KubeApi;
  /** What is there, by path. */
  readonly objects: Map<string, KubeObject>;
  /** All requests, also those that met a fault. */
  readonly requests: StoreRequest[];
  /** Asked before each request: a failure instead of it, or what happens before it (somebody else's write). */
  before: (request: StoreRequest) => KubeFailure | undefined | Promise<KubeFailure | undefined>;
  /** Asked after a request was carried out: a failure here is an answer that got lost. */
  after: (request: StoreRequest) => KubeFailure | undefined;
  put(path: string, object: Omit<Partial<KubeObject>, 'metadata'>): void;
}

export function failureOf(kind: KubeFailureKind, detail: string = kind): KubeFailure {
  const status = { 'not-found': 404, conflict: 409, forbidden: 403, refused: 422, 'server-error': 500 } as const;
  return { ok: false, kind, status: status[kind as keyof typeof status] ?? null, detail, retryAfterMs: null };
}

type Fields = Record<string, unknown>;

export function objectStore(): ObjectStore {
  let version = 0;
  const objects = new Map<string, KubeObject>();
  const stamp = (object: KubeObject, name: string): KubeObject => {
    version += 1;
    const uid = object.metadata?.uid ?? `uid-${version}`;
    return { ...object, metadata: { ...object.metadata, name, uid, resourceVersion: String(version) } };
  };
  const nameIn = (path: string): string => path.split('/').at(-1) ?? '';

  async function ask(request: StoreRequest, carryOut: () => KubeAnswer<KubeObject>): Promise<KubeAnswer<KubeObject>> {
    store.requests.push(copied(request));
    const fault = await store.before(request);
    if (fault) return fault;
    const answer = carryOut();
    return store.after(request) ?? copied(answer);
  }

  const found = (path: string): KubeAnswer<KubeObject> => {
    const object = objects.get(path);
    return object ? { ok: true, value: object } : failureOf('not-found', `404 ${path} not found`);
  };
  const keep = (path: string, object: KubeObject): KubeAnswer<KubeObject> => {
    const stamped = stamp(object, nameIn(path));
    objects.set(path, stamped);
    return { ok: true, value: stamped };
  };

  const store: ObjectStore = {
    objects,
    requests: [],
    before: () => undefined,
    after: () => undefined,
    put: (path, object) => void keep(path, object as KubeObject),
    api: {
      server: 'https://pretend',
      get: (path) => ask({ verb: 'get', path }, () => found(path)),
      create: (path, body) =>
        ask({ verb: 'create', path, body }, () => {
          const object = copied(body) as KubeObject;
          const place = `${path}/${object.metadata.name}`;
          return objects.has(place) ? failureOf('conflict', `409 ${place} exists`) : keep(place, object);
        }),
      replace: (path, body) =>
        ask({ verb: 'replace', path, body }, () => {
          const now = objects.get(path);
          if (!now) return failureOf('not-found', `404 ${path} not found`);
          if (body.metadata.resourceVersion !== now.metadata.resourceVersion)
            return failureOf('conflict', '409 changed');
          return keep(path, copied(body));
        }),
      patch: (path, body) =>
        ask({ verb: 'patch', path, body }, () => {
          const now = objects.get(path);
          if (!now) return failureOf('not-found', `404 ${path} not found`);
          const asked = (body as Fields)['metadata'] as Fields | undefined;
          const wanted = asked?.['resourceVersion'];
          if (wanted !== undefined && wanted !== now.metadata.resourceVersion)
            return failureOf('conflict', '409 changed');
          return keep(path, merged(now, body) as KubeObject);
        }),
      list: async () => failureOf('forbidden', 'nothing here lists'),
      remove: async () => failureOf('forbidden', 'nothing here deletes'),
      close: async () => undefined,
    },
  };
  return store;
}

/** RFC 7386. */
function merged(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const result: Fields = typeof target === 'object' && target !== null ? { ...(target as Fields) } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = merged(result[key], value);
  }
  return result;
}
