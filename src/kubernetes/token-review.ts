// Who a caller is and what it may do, by the cluster's own word: TokenReview tells whose token it is, SubjectAccessReview
// which of three made-up addresses that user may use, so that roles are given by ClusterRoles and nothing else
// (docs/kubernetes.md). Answers are kept for seconds, and by the token's hash alone. Where the cluster does not answer,
// nobody becomes anybody. One thing must not hang on it: stopping, and staying alive. For those a role that the cluster
// has confirmed before stands in.

import { createHash } from 'node:crypto';
import { type Clock, TIMED_OUT, withDeadline } from '../clock.ts';
import { dropOldest } from '../domain/collections.ts';
import { type KubeApi, type KubeObject, pathOf } from './kube-api.ts';

export type ReviewedRole = 'viewer' | 'workload' | 'operator';

export type TokenReview =
  | {
      readonly kind: 'known';
      /** `kubernetes:` and the user's name: tokens of one account are renewed, its name stays. */
      readonly identity: string;
      /** The highest that is granted; `null`: none. */
      readonly role: ReviewedRole | null;
      /** `false`: a higher role could not be asked for, so that `role` may be too low. */
      readonly isSure: boolean;
    }
  /** The cluster does not know the token. */
  | { readonly kind: 'unknown' }
  /** The cluster did not say. */
  | { readonly kind: 'unanswered' };

/** `prompt`: for what must not wait for a cluster that hangs. */
export type ReviewPace = 'prompt' | 'thorough';

export interface TokenReviewer {
  /**
   * Whose `token` it is. Never rejects. Ends within 3 s; `prompt` within 50 ms for a token with a role that was confirmed
   * in the last 24 h, which then counts, else within 2 s.
   */
  review(token: string, pace: ReviewPace): Promise<TokenReview>;
}

/** A token that is made for this service alone is of no use to whoever steals it from here. */
export const TOKEN_AUDIENCE = 'vsf-safety';

/**
 * What a role is granted by, as `nonResourceURLs` and `verbs` of a ClusterRole. Addresses under a name of our own, since
 * those of the API server, such as /metrics, are granted to many for other reasons; and no resource in a namespace, since
 * whoever owns a namespace often has every right within it.
 */
export const ROLE_RIGHTS: readonly { readonly role: ReviewedRole; readonly path: string; readonly verb: string }[] = [
  { role: 'operator', path: '/vsf-safety/estop/reset', verb: 'post' },
  { role: 'workload', path: '/vsf-safety/leases', verb: 'post' },
  { role: 'viewer', path: '/vsf-safety/status', verb: 'get' },
];

const GRANTED_FOR_MS = 10_000;
const REFUSED_FOR_MS = 5_000;
/** For how long a confirmed role may stand in where the cluster does not answer, and the deed must not wait. */
const STANDS_IN_FOR_MS = 24 * 3_600_000;
const MOST_REMEMBERED = 1_000;
const REVIEW_WITHIN_MS = 3_000;
const PROMPT_WITHIN_MS = 2_000;
/** A stop is latched within 100 ms. */
const STAND_IN_AFTER_MS = 50;
/** Of each pace: whoever sends made-up tokens by the thousand keeps nobody from stopping with a real one. */
const MOST_UNDER_WAY = 64;
/** Kubernetes sets no bound; ours keeps journals and logs readable. */
const LONGEST_USERNAME = 500;

const TOKEN_REVIEWS = pathOf({
  group: 'authentication.k8s.io',
  version: 'v1',
  resource: 'tokenreviews',
  namespaced: false,
});
const ACCESS_REVIEWS = pathOf({
  group: 'authorization.k8s.io',
  version: 'v1',
  resource: 'subjectaccessreviews',
  namespaced: false,
});

type Known = Extract<TokenReview, { kind: 'known' }>;
type Decided = Exclude<TokenReview, { kind: 'unanswered' }>;
type Unanswered = { readonly kind: 'unanswered'; readonly detail: string };

interface Remembered<Answer> {
  readonly answer: Answer;
  readonly atMs: number;
}

export interface TokenReviewParts {
  /** Of a pool of its own: made-up tokens must not take connections from a stop. */
  readonly api: KubeApi;
  readonly clock: Clock;
  /** Told once when the cluster stops answering, with the reason, and with `null` when it answers again. */
  readonly onTrouble: (detail: string | null) => void;
}

export function createTokenReviewer(parts: TokenReviewParts): TokenReviewer {
  return new ClusterTokenReviewer(parts);
}

class ClusterTokenReviewer implements TokenReviewer {
  readonly #api: KubeApi;
  readonly #clock: Clock;
  readonly #onTrouble: (detail: string | null) => void;
  /** By the token's SHA-256, the longest unconfirmed first. Only the cluster's yes gets in here. */
  readonly #grants = new Map<string, Remembered<Known>>();
  /** Apart from the grants: anybody can fill these. */
  readonly #refusals = new Map<string, Remembered<Decided>>();
  readonly #underWay = new Map<string, Promise<Decided | Unanswered>>();
  readonly #count: Record<ReviewPace, number> = { prompt: 0, thorough: 0 };
  #isInTrouble = false;

  constructor({ api, clock, onTrouble }: TokenReviewParts) {
    this.#api = api;
    this.#clock = clock;
    this.#onTrouble = onTrouble;
  }

  async review(token: string, pace: ReviewPace): Promise<TokenReview> {
    const key = createHash('sha256').update(token).digest('hex');
    const fresh =
      this.#remembered(this.#refusals, key, REFUSED_FOR_MS) ?? this.#remembered(this.#grants, key, GRANTED_FOR_MS);
    if (fresh) return fresh;
    const asked = this.#ask(key, token, pace);
    if (pace === 'thorough') return published(await asked);
    const standIn = this.#remembered(this.#grants, key, STANDS_IN_FOR_MS);
    const answer = await withDeadline(this.#clock, standIn ? STAND_IN_AFTER_MS : PROMPT_WITHIN_MS, asked);
    if (answer === TIMED_OUT) return standIn ?? { kind: 'unanswered' };
    const isDecided = answer.kind === 'unknown' || (answer.kind === 'known' && answer.isSure);
    return isDecided ? answer : (standIn ?? published(answer));
  }

  #remembered<Answer>(map: ReadonlyMap<string, Remembered<Answer>>, key: string, forMs: number): Answer | null {
    const found = map.get(key);
    return found && this.#clock.now().elapsedMs - found.atMs < forMs ? found.answer : null;
  }

  /** One question per token at a time, whoever asks. */
  #ask(key: string, token: string, pace: ReviewPace): Promise<Decided | Unanswered> {
    const underWay = this.#underWay.get(key);
    if (underWay) return underWay;
    if (this.#count[pace] >= MOST_UNDER_WAY) {
      return Promise.resolve({ kind: 'unanswered', detail: `${MOST_UNDER_WAY} tokens are being asked about already` });
    }
    this.#count[pace] += 1;
    const asking = this.#askCluster(token)
      .catch((error: unknown): Unanswered => ({ kind: 'unanswered', detail: String(error) }))
      .then((answer) => {
        this.#count[pace] -= 1;
        this.#underWay.delete(key);
        this.#remember(key, answer);
        return answer;
      });
    this.#underWay.set(key, asking);
    return asking;
  }

  #remember(key: string, answer: Decided | Unanswered): void {
    const isAnswered = answer.kind !== 'unanswered';
    if (isAnswered === this.#isInTrouble) {
      this.#isInTrouble = !isAnswered;
      this.#onTrouble(isAnswered ? null : answer.detail);
    }
    // Half an answer is for the caller that waits for it; the next one asks anew.
    if (!isAnswered || (answer.kind === 'known' && !answer.isSure)) return;
    const remembered = { answer, atMs: this.#clock.now().elapsedMs };
    this.#grants.delete(key);
    this.#refusals.delete(key);
    if (answer.kind === 'known' && answer.role !== null) keep(this.#grants, key, { ...remembered, answer });
    else keep(this.#refusals, key, remembered);
  }

  async #askCluster(token: string): Promise<Decided | Unanswered> {
    const untilMs = this.#clock.now().elapsedMs + REVIEW_WITHIN_MS;
    const audiences = isMadeForUs(token) ? [TOKEN_AUDIENCE] : undefined;
    const asked = { spec: { token, ...(audiences && { audiences }) } };
    const review = await this.#reviewed('TokenReview', TOKEN_REVIEWS, asked, untilMs);
    if ('detail' in review) return review;
    // Left out where it is false.
    if (review.status['authenticated'] !== true) return { kind: 'unknown' };
    // A server that knows nothing of audiences says yes to a token for somebody else.
    if (audiences && !textsOf(review.status['audiences']).includes(TOKEN_AUDIENCE)) return { kind: 'unknown' };
    const user = isMapping(review.status['user']) ? review.status['user'] : {};
    const { username } = user;
    if (typeof username !== 'string' || username === '' || username.length > LONGEST_USERNAME) {
      return { kind: 'unanswered', detail: `TokenReview names no user of 1 to ${LONGEST_USERNAME} characters` };
    }
    return this.#rolesOf(username, user, untilMs);
  }

  /** All three at the same time: the highest one that is granted counts. */
  async #rolesOf(username: string, user: Mapping, untilMs: number): Promise<Known | Unanswered> {
    const { uid, groups, extra } = user;
    const answers = await Promise.all(
      ROLE_RIGHTS.map(async ({ role, path, verb }) => {
        const spec = { user: username, uid, groups, extra, nonResourceAttributes: { path, verb } };
        const review = await this.#reviewed('SubjectAccessReview', ACCESS_REVIEWS, { spec }, untilMs);
        if ('detail' in review) return { role, detail: review.detail, isAllowed: false };
        const isAllowed = review.status['allowed'] === true && review.status['denied'] !== true;
        return { role, detail: null, isAllowed };
      }),
    );
    const granted = answers.findIndex(({ isAllowed }) => isAllowed);
    const doubtful = (granted < 0 ? answers : answers.slice(0, granted)).find(({ detail }) => detail !== null);
    const role = answers[granted]?.role ?? null;
    if (role === null && doubtful) return { kind: 'unanswered', detail: doubtful.detail ?? '' };
    return { kind: 'known', identity: `kubernetes:${username}`, role, isSure: !doubtful };
  }

  /** Posts a review; its status, if it is that kind's. */
  async #reviewed(
    kind: string,
    path: string,
    body: Mapping,
    untilMs: number,
  ): Promise<{ readonly status: Mapping } | Unanswered> {
    const leftMs = untilMs - this.#clock.now().elapsedMs;
    if (leftMs <= 0) return { kind: 'unanswered', detail: `${kind} was not reached within ${REVIEW_WITHIN_MS} ms` };
    const apiVersion = path.split('/').slice(2, 4).join('/');
    const answer = await this.#api.create(path, { apiVersion, kind, ...body }, leftMs);
    if (!answer.ok) return { kind: 'unanswered', detail: answer.detail };
    const { status } = answer.value as KubeObject & { readonly status?: unknown };
    if (answer.value.kind !== kind || !isMapping(status)) {
      return { kind: 'unanswered', detail: `The answer to ${kind} is none: ${String(answer.value.kind)}` };
    }
    return { status };
  }
}

/** At the end of the map; what is too much goes from its start. */
function keep<Answer>(map: Map<string, Answer>, key: string, answer: Answer): void {
  map.set(key, answer);
  dropOldest(map, MOST_REMEMBERED);
}

/** Without the reason, which may name servers and is for the log. */
function published(answer: Decided | Unanswered): TokenReview {
  return answer.kind === 'unanswered' ? { kind: 'unanswered' } : answer;
}

/**
 * Whether a token says that it is for this service. Nothing is believed of it: what it says only decides which question
 * the cluster is asked, since a question without audiences means the API server's own.
 */
function isMadeForUs(token: string): boolean {
  const parts = token.split('.');
  if (parts.length !== 3) return false;
  try {
    const claims: unknown = JSON.parse(Buffer.from(parts[1] ?? '', 'base64url').toString());
    const audience = isMapping(claims) ? claims['aud'] : null;
    return [audience].flat().includes(TOKEN_AUDIENCE);
  } catch {
    return false;
  }
}

type Mapping = Readonly<Record<string, unknown>>;

const isMapping = (value: unknown): value is Mapping =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const textsOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
