// What an HTTP answer of an API server is worth. A 200 is believed only if its body is the kind of thing that was asked
// for: behind a proxy, `{}` or a login page would else read as "no pods to stop". And only the API server itself can
// say that something is gone: a proxy's own 404 has no Status in its body.
import type { KubeAnswer, KubeFailure, KubeFailureKind, KubeObject } from './kube-api.ts';

export interface HttpAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly retryAfter: string | null;
  readonly text: string;
}

export interface ListPage {
  readonly items: readonly KubeObject[];
  readonly resourceVersion: string;
  /** `''` on the last page. */
  readonly continueToken: string;
}

/** However long a server wants to be left alone: an emergency stop asks again after this. */
const LONGEST_RETRY_AFTER_MS = 1_000;
const LONGEST_DETAIL = 300;

/** Kinds that describe and answer rather than exist: they have neither name nor uid, and are given empty ones. */
const WITHOUT_IDENTITY = /^(APIVersions|APIGroupList|APIGroup|APIResourceList|APIGroupDiscoveryList|\w+Review)$/;

type Json = Readonly<Record<string, unknown>>;

/** @param deed what was tried, for people: `patch deployments/scale gpu/web`. */
export function failure(
  deed: string,
  kind: KubeFailureKind,
  cause: string,
  status: number | null = null,
  retryAfterMs: number | null = null,
): KubeFailure {
  return { ok: false, kind, status, detail: bounded(`Cannot ${deed}: ${cause}`), retryAfterMs };
}

/** One object; for a DELETE also the Status that some kinds answer with, under the name and uid that it tells. */
export function objectOf(deed: string, answer: HttpAnswer): KubeAnswer<KubeObject> {
  const parsed = parse(deed, answer);
  if (!parsed.ok) return parsed;
  const body = parsed.value;
  const kind = body['kind'];
  if (typeof kind !== 'string' || kind === '') return misshapen(deed, answer, 'it is no Kubernetes object');
  const metadata = isJson(body['metadata']) ? body['metadata'] : {};
  if (WITHOUT_IDENTITY.test(kind))
    return { ok: true, value: { ...body, metadata: { ...metadata, name: '', uid: '' } } };
  const identity = kind === 'Status' ? deletedBy(body) : metadata;
  if (!hasIdentity(identity)) return misshapen(deed, answer, `it is a ${kind} without name or uid`);
  return { ok: true, value: { ...body, metadata: identity } };
}

/** One page of a list; its items are told their kind, which a server leaves out in lists. */
export function listPageOf(deed: string, answer: HttpAnswer): KubeAnswer<ListPage> {
  const parsed = parse(deed, answer);
  if (!parsed.ok) return parsed;
  const { kind, apiVersion, metadata, items } = parsed.value;
  if (typeof kind !== 'string' || !/.List$/.test(kind)) return misshapen(deed, answer, 'it is no list');
  if (!Array.isArray(items)) return misshapen(deed, answer, `its ${kind} has no items`);
  const itemKind = kind.slice(0, -'List'.length);
  const objects: KubeObject[] = [];
  for (const item of items) {
    if (!isJson(item) || !hasIdentity(item['metadata'])) {
      return misshapen(deed, answer, `item ${objects.length} of its ${kind} has no name or uid`);
    }
    objects.push({ apiVersion: String(apiVersion), kind: itemKind, ...item, metadata: item['metadata'] });
  }
  const { resourceVersion, continue: token } = isJson(metadata) ? metadata : {};
  return {
    ok: true,
    value: {
      items: objects,
      resourceVersion: typeof resourceVersion === 'string' ? resourceVersion : '',
      continueToken: typeof token === 'string' ? token : '',
    },
  };
}

/** The body of a 2xx; a failure for everything else. */
function parse(deed: string, answer: HttpAnswer): KubeAnswer<Json> {
  const body = jsonOf(answer);
  if (answer.status < 200 || answer.status > 299) return refusalOf(deed, answer, body);
  if (!body) return misshapen(deed, answer, 'it is no JSON object');
  return { ok: true, value: body };
}

function jsonOf({ contentType, text }: HttpAnswer): Json | null {
  if (!/^application\/json\s*(;|$)/i.test(contentType)) return null;
  try {
    const body: unknown = JSON.parse(text);
    return isJson(body) ? body : null;
  } catch {
    return null;
  }
}

function refusalOf(deed: string, answer: HttpAnswer, body: Json | null): KubeFailure {
  const { status } = answer;
  const isStatus = body?.['kind'] === 'Status';
  const kind = kindOf(status);
  const isAboutAnObject = kind === 'not-found' || kind === 'conflict' || kind === 'gone';
  if (kind === 'bad-body' || (isAboutAnObject && !isStatus)) {
    return misshapen(deed, answer, `answer ${status} is not the API server's own`);
  }
  const message = isStatus ? body['message'] : answer.text;
  const cause = `${status} ${typeof message === 'string' && message !== '' ? message : 'without a reason'}`;
  return failure(deed, kind, cause, status, retryAfterMsOf(answer, body));
}

function kindOf(status: number): KubeFailureKind {
  switch (status) {
    case 401:
      return 'unauthorized';
    case 403:
      return 'forbidden';
    case 404:
      return 'not-found';
    case 409:
      return 'conflict';
    case 410:
      return 'gone';
    case 429:
      return 'too-many-requests';
    default:
      if (status >= 500) return 'server-error';
      // Redirects are never followed: they lead to login pages.
      return status >= 400 ? 'refused' : 'bad-body';
  }
}

function retryAfterMsOf({ retryAfter }: HttpAnswer, body: Json | null): number | null {
  const details = isJson(body?.['details']) ? body['details'] : {};
  const asked = retryAfter ?? details['retryAfterSeconds'] ?? null;
  if (asked === null) return null;
  const ms = Number(asked) * 1_000;
  // A date, or no number at all: somebody wants to be left alone, and the longest will do.
  return ms >= 0 && ms < LONGEST_RETRY_AFTER_MS ? ms : LONGEST_RETRY_AFTER_MS;
}

function misshapen(deed: string, { status, contentType, text }: HttpAnswer, why: string): KubeFailure {
  const excerpt = bounded(text.slice(0, 300), 80);
  const shown = excerpt === '' ? 'its body is empty' : `${contentType || 'no content type'}: ${excerpt}`;
  return failure(deed, 'bad-body', `${why} (${shown})`, status);
}

/** `details` of the Status that answers a DELETE: `{name, kind, uid}`. */
function deletedBy(body: Json): unknown {
  return body['status'] === 'Success' ? body['details'] : null;
}

function hasIdentity(metadata: unknown): metadata is KubeObject['metadata'] {
  if (!isJson(metadata)) return false;
  const { name, uid } = metadata;
  return typeof name === 'string' && name !== '' && typeof uid === 'string' && uid !== '';
}

function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Servers' words go into logs: one line, printable, cut. */
function bounded(text: string, most = LONGEST_DETAIL): string {
  const line = text
    .replace(/[^\x20-\x7e]+/g, ' ')
    .replace(/ {2,}/g, ' ')
    .trim();
  return line.length > most ? `${line.slice(0, most - 3)}...` : line;
}
