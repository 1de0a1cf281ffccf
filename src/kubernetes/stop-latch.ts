// What a stop needs of the cluster's memory: a deny rule to arm, and a place for the values that it overwrites. Kept by
// cluster-latch.ts; the stop (kubernetes-stop.ts) never waits for it longer than a moment.
import type { StopOrder } from '../domain/stop.ts';

/** Whether the cluster refuses new labelled pods. */
export type ArmState =
  | { readonly kind: 'armed' }
  /** The chart's admission objects are not installed: nothing to arm, and nothing that a stop could be kept by. */
  | { readonly kind: 'absent' }
  | { readonly kind: 'failed'; readonly detail: string };

/** One field that a stop sets. */
export interface PriorField {
  /** `['spec', 'replicas']`; a key may hold dots and slashes, so this is no dotted path. */
  readonly path: readonly string[];
  /** As it was; `null` where there was none (a merge patch with `null` takes the key away again). */
  readonly prior: unknown;
  /** What the stop sets, never equal to `prior`. Restored only while the field still holds it. */
  readonly stop: unknown;
}

/** What one controller was before it was stopped. */
export interface PriorValue {
  readonly orderId: string;
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly resource: string;
  readonly namespace: string | undefined;
  readonly name: string;
  readonly uid: string;
  /** The uid of the controller above, if any: what that one restores comes back by itself. */
  readonly controllerUid: string | undefined;
  /** Where the fields are: the `/scale` subresource, the object itself, or its status, moved by a `Command` (Volcano). */
  readonly through: 'scale' | 'object' | 'command';
  readonly fields: readonly PriorField[];
}

export interface StopLatch {
  /**
   * Arms the deny rule, or finds it armed, by reading it back. Called at the start of a stop of everything and about
   * every 2 s while it stands, never twice at once. Not called for a node's or a lease's stop: the rule cannot tell
   * nodes apart, and the others may go on. Never rejects; has its own deadlines.
   */
  arm(order: StopOrder): Promise<ArmState>;
  /**
   * Keeps a value, at once in memory and as soon as it can on disk and in the cluster. Resolves when it is durable
   * somewhere, `false` when it could not be made so; never rejects. The stop waits for at most 250 ms. Per uid and field
   * the first write wins until the reset of the trip; after that a later trip's value replaces it. Called more than
   * once for a controller that needs a second kind of field: the fields are joined.
   */
  recordPrior(prior: PriorValue): Promise<boolean>;
  /**
   * After the server was away: asks what other processes did meanwhile, so that what was reset elsewhere is withdrawn
   * before it is stopped again. At once where nothing was missed; never rejects, has its own deadline.
   */
  catchUp(): Promise<void>;
  /** What is recorded of a controller by its uid, also from before a restart. */
  priorOf(uid: string): PriorValue | undefined;
}
