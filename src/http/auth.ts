// Who is asking, and from where. A bearer token gives a role; bound to loopback, a caller without one is a workload on
// this machine. Two things keep a web page in somebody's browser from being such a caller: the Host rule (against names
// that an attacker's DNS points at 127.0.0.1) and the Origin rule. What a role may do is access.ts.
import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import { type Config, isLoopbackHost, type Role } from '../config.ts';
import { type Access, type Caller, may } from './access.ts';
import { Problem } from './problem.ts';
import type { TokenSet } from './token-set.ts';

export type { Caller } from './access.ts';

/** Whose token it is, as a cluster says. */
export type TokenReview =
  | {
      readonly kind: 'known';
      readonly identity: string;
      /** `null`: somebody who may do nothing here. */
      readonly role: Role | null;
      /** `false`: not every role could be asked for, so that `role` may be too low. */
      readonly isSure: boolean;
    }
  | { readonly kind: 'unknown' }
  /** The cluster did not say. */
  | { readonly kind: 'unanswered' };

/** Asks the cluster; never rejects, and ends within 3 s. `prompt`: for what must not hang on it. */
export type ReviewToken = (token: string, pace: 'prompt' | 'thorough') => Promise<TokenReview>;

/** What is asked, as far as access depends on it. */
export interface Approach {
  readonly headers: IncomingHttpHeaders;
  readonly access: Access;
  /** Probes are asked for by address. */
  readonly isHostExempt: boolean;
  /** Must not hang on a cluster that does not answer. */
  readonly isPrompt: boolean;
  /** A WebSocket may carry its token as a subprotocol: browsers cannot set a header there. */
  readonly isStream: boolean;
  /** Told who it is, whether or not the role suffices. */
  readonly onCaller?: (caller: Caller) => void;
  /** For messages: `POST /estop`. */
  readonly deed: string;
}

/** Gives the caller of an open route too; `null` is a caller without any role. Rejects with a {@link Problem} to refuse. */
export type Gate = (approach: Approach) => Promise<Caller | null>;

const BEARER = /^bearer +([\x21-\x7e]+) *$/i;
const BEARER_PROTOCOL = 'bearer.';
const REVIEW_AGAIN_SECONDS = 1;

/** The gate in front of every route. `reviewToken` judges the tokens that are not known here; `null` where nobody does. */
export function createGate(
  { listen, auth }: Pick<Config, 'listen' | 'auth'>,
  tokens: TokenSet,
  reviewToken: ReviewToken | null,
): Gate {
  const isLocal = isLoopbackHost(listen.host);
  const hosts = new Set(listen.hosts.flatMap((host) => hostNameOf(bracketed(host)) ?? []));

  function callerWithoutToken(headers: IncomingHttpHeaders): Caller | null {
    if (isLocal) return isForwarded(headers) ? null : { role: 'workload', identity: 'local' };
    return auth.anonymous === 'viewer' ? { role: 'viewer', identity: 'anonymous' } : null;
  }

  /** What the cluster says of a token, where that makes a difference: for probes and public pages it is not asked. */
  async function reviewOf(token: string, { headers, access, isHostExempt, isPrompt }: Approach) {
    const isNeeded = access !== 'open' || (!isHostExempt && isForeignHost(headers, hosts));
    return isNeeded && token !== '' && reviewToken ? reviewToken(token, isPrompt ? 'prompt' : 'thorough') : null;
  }

  return async (approach) => {
    const { headers, access, isHostExempt, isStream, deed } = approach;
    refuseForeignOrigin(headers, deed);
    const token = tokenOf(headers, isStream);
    const own = token === null ? null : tokens.callerOf(token);
    const review = own || token === null ? null : await reviewOf(token, approach);
    if (review?.kind === 'unanswered') refuseUnreviewed(deed);
    const isKnown = own !== null || review?.kind === 'known';
    if (!isKnown && !isHostExempt) refuseForeignHost(headers, hosts, deed);
    const known = own ?? (review?.kind === 'known' ? callerByReview(review) : null);
    if (access === 'open') return known;
    if (token !== null && !isKnown)
      throw new Problem('token-invalid', `Cannot ${deed}: the bearer token is not known here`);
    if (review?.kind === 'known' && !(known && may(known.role, access))) {
      if (!review.isSure) refuseUnreviewed(deed);
      if (!known) refuseWithoutRole(review.identity, access, deed);
    }
    const caller = known ?? callerWithoutToken(headers);
    if (!caller) {
      const why = isLocal ? 'a forwarded request needs a bearer token' : 'a bearer token is needed';
      throw new Problem('token-required', `Cannot ${deed}: ${why}`);
    }
    approach.onCaller?.(caller);
    if (!may(caller.role, access)) refuseRole(caller, access, deed);
    return caller;
  };
}

function callerByReview({ role, identity }: Extract<TokenReview, { kind: 'known' }>): Caller | null {
  return role && { role, identity };
}

/** A token of the configuration is told apart here, without a cluster; that is what to have for the day it is down. */
function refuseUnreviewed(deed: string): never {
  const detail = `Cannot ${deed}: the cluster does not say whose token this is; configured tokens need no review`;
  throw new Problem('auth-unavailable', detail, {}, REVIEW_AGAIN_SECONDS);
}

function refuseWithoutRole(identity: string, needed: Access, deed: string): never {
  const detail = `Cannot ${deed}: ${identity} has no role here, ${needed} is needed`;
  throw new Problem('role-insufficient', detail);
}

/** Throws the 403 for a role that does not suffice. */
export function refuseRole(caller: Caller, needed: Access, deed: string): never {
  throw new Problem('role-insufficient', `Cannot ${deed}: the caller is ${caller.role}, ${needed} is needed`);
}

/** The token that a request brings; empty text for an Authorization header of another kind, which no token matches. */
function tokenOf(headers: IncomingHttpHeaders, isStream: boolean): string | null {
  const { authorization } = headers;
  if (authorization !== undefined) return BEARER.exec(authorization)?.[1] ?? '';
  if (!isStream) return null;
  const protocols = headers['sec-websocket-protocol']?.split(',').map((protocol) => protocol.trim()) ?? [];
  return protocols.find((protocol) => protocol.startsWith(BEARER_PROTOCOL))?.slice(BEARER_PROTOCOL.length) ?? null;
}

/** A proxy stands in between, so "from loopback" says nothing of who asks. */
function isForwarded(headers: IncomingHttpHeaders): boolean {
  return Object.keys(headers).some((name) => name === 'forwarded' || name.startsWith('x-forwarded-'));
}

function isForeignHost(headers: IncomingHttpHeaders, hosts: ReadonlySet<string>): boolean {
  const name = hostNameOf(headers.host ?? '');
  return name === null || !(isLoopbackName(name) || hosts.has(name));
}

function refuseForeignHost(headers: IncomingHttpHeaders, hosts: ReadonlySet<string>, deed: string): void {
  if (!isForeignHost(headers, hosts)) return;
  const told = JSON.stringify((headers.host ?? '').slice(0, 100));
  throw new Problem(
    'host-refused',
    `Cannot ${deed}: without a bearer token the Host ${told} must be a loopback name or one of listen.hosts`,
  );
}

function refuseForeignOrigin(headers: IncomingHttpHeaders, deed: string): void {
  const { origin, host } = headers;
  if (origin === undefined || isSameOrigin(origin, host ?? '')) return;
  const told = JSON.stringify(origin.slice(0, 100));
  throw new Problem(
    'origin-refused',
    `Cannot ${deed}: Origin ${told} must match the Host ${JSON.stringify(host ?? '')}`,
  );
}

/** Whether an Origin names the host that was asked; a default port may be written or left out. */
export function isSameOrigin(origin: string, host: string): boolean {
  try {
    const url = new URL(origin);
    if (url.protocol !== 'http:' && url.protocol !== 'https:') return false;
    return (
      url.origin === origin.toLowerCase() &&
      hostNameOf(host) !== null &&
      new URL(`${url.protocol}//${host}`).host === url.host
    );
  } catch {
    return false;
  }
}

/**
 * The name in a Host header or a setting, in lower case and without its port: the port says nothing of whose name it is.
 * `null` for what is no host.
 */
export function hostNameOf(host: string): string | null {
  const name = /^(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?$/i.exec(host)?.[1];
  return name?.toLowerCase().replace(/\.$/, '') ?? null;
}

/** Whether a name (lower case, without port) always means this machine. */
export function isLoopbackName(name: string): boolean {
  if (name === 'localhost' || name.endsWith('.localhost') || name === '[::1]') return true;
  return /^127(?:\.\d{1,3}){3}$/.test(name) && isIP(name) === 4;
}

/** An IPv6 address as settings write it, in the form that a Host header has. */
function bracketed(host: string): string {
  return host.includes(':') && !host.startsWith('[') && host.split(':').length > 2 ? `[${host}]` : host;
}
