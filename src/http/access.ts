// Who may do what: one row per route. A route that is not in this table cannot be added to the app, and a test walks the
// table for every role. How a caller gets a role is auth.ts.

import type { Role } from '../config.ts';

/** In ascending order: each may do what the ones before it may. */
export const ROLES: readonly Role[] = ['viewer', 'workload', 'operator'];

/** `open`: anybody, without a token, wherever the service listens. */
export type Access = 'open' | Role;

export interface Caller {
  readonly role: Role;
  /**
   * Who holds a lease, and who is named in trips and resets: `local`, `anonymous`, `token:<12 hex of its SHA-256>`,
   * `kubernetes:<user>`.
   */
  readonly identity: string;
}

/** By method and route. A `HEAD` is read as its `GET`. */
export const ACCESS = {
  'GET /preflight': 'viewer',
  'POST /preflight': 'viewer',
  'POST /leases': 'workload',
  'GET /leases/:id': 'viewer',
  'PUT /leases/:id': 'workload',
  'DELETE /leases/:id': 'workload',
  'GET /status': 'viewer',
  'GET /estop': 'viewer',
  // A drill within it is an operator's; the route itself sees to that.
  'POST /estop': 'workload',
  'POST /estop/alertmanager': 'workload',
  'POST /estop/reset': 'operator',
  'POST /estop/restore': 'operator',
  'POST /nodes/:node/forget': 'operator',
  'POST /simulation': 'operator',
  'GET /commission': 'viewer',
  'POST /commission': 'operator',
  'GET /history': 'viewer',
  'GET /metrics': 'viewer',
  'GET /ws': 'viewer',
  'GET /healthz': 'open',
  'GET /readyz': 'open',
  'GET /openapi.json': 'open',
  'GET /docs': 'open',
  // The page holds nothing; what it shows it asks for with its reader's token.
  'GET /': 'open',
  'GET /dashboard/:file': 'open',
} as const satisfies Record<string, Access>;

/** Probes come by IP address, from a kubelet or a load balancer: the only routes without the Host rule. */
export const HOST_EXEMPT: readonly string[] = ['/healthz', '/readyz'];

/**
 * Stopping, staying alive and giving back: these may not hang on a cluster that is down or slow, so a role that it has
 * confirmed before stands in.
 */
const PROMPT: readonly (keyof typeof ACCESS)[] = [
  'POST /estop',
  'POST /estop/alertmanager',
  'PUT /leases/:id',
  'DELETE /leases/:id',
];

/** Whether the caller of a route may be admitted by what the cluster said earlier, where it says nothing now. */
export const isPrompt = (method: string, url: string): boolean => PROMPT.some((key) => key === `${method} ${url}`);

/** The access of a route, `undefined` where the table has none. */
export function accessOf(method: string, url: string): Access | undefined {
  const key = `${method === 'HEAD' ? 'GET' : method} ${url}`;
  return Object.hasOwn(ACCESS, key) ? ACCESS[key as keyof typeof ACCESS] : undefined;
}

/** Whether a role suffices. */
export function may(role: Role, access: Access): boolean {
  return access === 'open' || ROLES.indexOf(role) >= ROLES.indexOf(access);
}
