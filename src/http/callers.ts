// The caller of a request, put there by the gate before any route runs.
import type { FastifyRequest } from 'fastify';
import { invariant } from '../domain/invariant.ts';
import type { Caller } from './auth.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** `null` on open routes, for callers without a role. */
    caller: Caller | null;
  }
}

/** The caller of a route that is not open: there is always one. */
export function callerOf(request: FastifyRequest): Caller {
  invariant(request.caller, `${request.method} ${request.routeOptions.url ?? ''} is open and has no caller`);
  return request.caller;
}
