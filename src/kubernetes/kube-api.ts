// What the parts that talk to Kubernetes may ask of it, and the shapes of its answers. Nothing throws: every failure is
// a value with its kind, since on the stop path each object has a fate of its own. How it is asked (credentials, the
// pool, deadlines) is kube-client.ts; what a cluster offers is kube-discovery.ts.

/** As much of any Kubernetes object as every object has. */
export interface KubeObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid: string;
    readonly resourceVersion?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly ownerReferences?: readonly OwnerReference[];
    readonly deletionTimestamp?: string;
    readonly deletionGracePeriodSeconds?: number;
    readonly creationTimestamp?: string;
    readonly managedFields?: readonly {
      readonly manager?: string;
      readonly time?: string;
      readonly subresource?: string;
    }[];
  };
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly status?: Readonly<Record<string, unknown>>;
  readonly data?: Readonly<Record<string, string>>;
  readonly [key: string]: unknown;
}

export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
}

export type KubeFailureKind =
  | 'timeout'
  | 'unreachable' // refused, reset, no route, TLS
  | 'unauthorized' // 401, also after the token was read anew
  | 'forbidden' // 403: a right that we lack, or somebody's admission rule
  | 'not-found'
  | 'conflict' // 409: another uid, another resourceVersion
  | 'gone' // 410: a continue token that is too old
  | 'too-many-requests'
  | 'refused' // 400, 405, 415, 422: this request will never do
  | 'server-error'
  | 'bad-body'; // a 200 that is not what was asked for: HTML, `{}`, a cut body

export interface KubeFailure {
  readonly ok: false;
  readonly kind: KubeFailureKind;
  /** `null` where no answer came. */
  readonly status: number | null;
  /** Deed and cause, `Cannot list pods: 403 pods is forbidden: …`; at most 300 characters. */
  readonly detail: string;
  /** As the server asks, at most 1 s; `null` where it does not say. */
  readonly retryAfterMs: number | null;
}

export type KubeAnswer<T> = { readonly ok: true; readonly value: T } | KubeFailure;

export interface KubeList {
  readonly items: readonly KubeObject[];
  readonly resourceVersion: string;
}

export interface ListQuery {
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
}

/** One cluster. `path` is below the server: `/api/v1/namespaces/gpu/pods`; names in it are checked to be non-empty. */
export interface KubeApi {
  /** For people: the server's address. */
  readonly server: string;
  /** A consistent list, page by page (500 each); restarts when its continue token is gone. */
  list(path: string, query: ListQuery, timeoutMs: number): Promise<KubeAnswer<KubeList>>;
  get(path: string, timeoutMs: number): Promise<KubeAnswer<KubeObject>>;
  create(
    path: string,
    body: unknown,
    timeoutMs: number,
    query?: { readonly dryRun?: true },
  ): Promise<KubeAnswer<KubeObject>>;
  /** `application/merge-patch+json`; a JSON patch where `body` is a list of operations. */
  patch(path: string, body: unknown, timeoutMs: number): Promise<KubeAnswer<KubeObject>>;
  /** With the resourceVersion in `body`: compare and swap. */
  replace(path: string, body: KubeObject, timeoutMs: number): Promise<KubeAnswer<KubeObject>>;
  /** One object, with a uid precondition. `ok` also for one that is terminating now. */
  remove(
    path: string,
    options: { readonly graceSeconds: number; readonly uid: string },
    timeoutMs: number,
  ): Promise<KubeAnswer<KubeObject>>;
  close(): Promise<void>;
}

/** A kind that the cluster serves. */
export interface KubeResource {
  /** `''` for core. */
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  /** Plural, as in paths. */
  readonly resource: string;
  readonly namespaced: boolean;
  readonly verbs: readonly string[];
  readonly hasScale: boolean;
}

/** The path of a resource: all of it, of a namespace, or one object; names are checked, an empty one throws (invariant). */
export function pathOf(
  { group, version, resource, namespaced }: Pick<KubeResource, 'group' | 'version' | 'resource' | 'namespaced'>,
  place: { readonly namespace?: string; readonly name?: string; readonly subresource?: string } = {},
): string {
  for (const [key, part] of Object.entries(place)) {
    // An empty name would turn "delete one" into "delete all".
    if (!/^[A-Za-z0-9][A-Za-z0-9._:-]{0,252}$/.test(part))
      throw new Error(`Cannot build a path: ${key} is ${JSON.stringify(part)}`);
  }
  const { namespace, name, subresource } = place;
  const root = group === '' ? `/api/${version}` : `/apis/${group}/${version}`;
  const scope = namespaced && namespace !== undefined ? `/namespaces/${namespace}` : '';
  return `${root}${scope}/${resource}${name === undefined ? '' : `/${name}`}${subresource === undefined ? '' : `/${subresource}`}`;
}
