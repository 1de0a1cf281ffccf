// What routes, and problems, add to what is written down of a request; who writes it is audited.ts.
import type { FastifyRequest } from 'fastify';
import type { AuditEntry } from '../audit.ts';

export type AuditNote = Partial<Omit<AuditEntry, 'by' | 'role' | 'address' | 'outcome' | 'status'>> & {
  /** Nothing was done and nothing refused: an alert that concerns nobody, repeated every few minutes. */
  readonly isNothing?: boolean;
};
const notes = new WeakMap<FastifyRequest, AuditNote>();

/** Adds to what will be written down of a request. */
export function noteForAudit(request: FastifyRequest, note: AuditNote): void {
  notes.set(request, { ...notes.get(request), ...note });
}

export const auditNoteOf = (request: FastifyRequest): AuditNote => notes.get(request) ?? {};
