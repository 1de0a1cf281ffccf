// The body of an emergency stop. It can narrow the stop to some nodes, name a reason, or ask for a drill; whatever it
// is, it can never prevent the stop: what is empty, broken, too long, too slow or of another type stops everything.
import type { Readable } from 'node:stream';
import type { Clock } from '../clock.ts';

export interface StopAsked {
  /** `null` stops everything. */
  readonly nodes: readonly string[] | null;
  readonly reason: string | null;
  readonly isDrill: boolean;
  /** Why the body was not understood; then nothing of it counts, but that it may say it is a drill. */
  readonly misunderstood: string | null;
}

/** More than a thousand node names. */
const MOST_BYTES = 64 * 1024;
/** Latched within 100 ms of a body that is there; one that dribbles is not waited for. */
const BODY_DEADLINE_MS = 1_000;
const MOST_NODES = 1_000;
const MOST_NODE_CHARACTERS = 253;
const MOST_REASON_CHARACTERS = 500;

const misunderstood = (why: string, isDrill = false): StopAsked => ({ ...EVERYTHING, isDrill, misunderstood: why });

/** What no body asks for. */
export const EVERYTHING: StopAsked = { nodes: null, reason: null, isDrill: false, misunderstood: null };

/** Reads and understands a body. Never rejects, and ends within a second. */
export function readStopBody(payload: Readable, clock: Clock): Promise<StopAsked> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const finish = (asked: StopAsked): void => {
      cancel();
      payload.off('data', take).off('end', understand).off('error', breakOff).off('close', breakOff);
      // The rest is let through unread, so that the client gets to read its answer; an error in it is nobody's.
      payload.on('error', () => undefined).resume();
      resolve(asked);
    };
    const cancel = clock.after(BODY_DEADLINE_MS, () =>
      finish(misunderstood(`it was not complete within ${BODY_DEADLINE_MS} ms`)),
    );
    const take = (chunk: Buffer | string): void => {
      size += chunk.length;
      if (size > MOST_BYTES) finish(misunderstood(`it is longer than ${MOST_BYTES / 1024} KiB`));
      else chunks.push(Buffer.from(chunk));
    };
    const understand = (): void => finish(understandStopBody(Buffer.concat(chunks)));
    const breakOff = (): void => finish(misunderstood('it broke off'));
    payload.on('data', take).on('end', understand).on('error', breakOff).on('close', breakOff);
  });
}

/** What a complete body asks for. Fields that are not known here are passed over: older servers, newer clients. */
export function understandStopBody(bytes: Buffer): StopAsked {
  const text = bytes.toString('utf8').replace(/^\uFEFF/, '');
  if (text.trim() === '') return EVERYTHING;
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return misunderstood('it is no JSON');
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return misunderstood('it is no JSON object');
  const { nodes, reason, drill } = body as Record<string, unknown>;
  const isDrill = drill === true;
  if (drill !== undefined && typeof drill !== 'boolean') return misunderstood('drill must be true or false');
  if (reason !== undefined && typeof reason !== 'string') return misunderstood('reason must be a text', isDrill);
  const names = nodes === undefined ? null : [nodes].flat();
  if (names && !isListOfNames(names)) {
    return misunderstood(`nodes must be a name or a list of 1 to ${MOST_NODES} names`, isDrill);
  }
  const told = reason?.trim().slice(0, MOST_REASON_CHARACTERS);
  return { nodes: names, reason: told ? told : null, isDrill, misunderstood: null };
}

function isListOfNames(names: readonly unknown[]): names is readonly string[] {
  const isName = (name: unknown): boolean =>
    typeof name === 'string' && name.length > 0 && name.length <= MOST_NODE_CHARACTERS;
  return names.length > 0 && names.length <= MOST_NODES && names.every(isName);
}
