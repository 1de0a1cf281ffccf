// Questions that take long to answer (everything that is known of a thousand nodes takes tens of milliseconds) are answered
// one after the other, and between two of them whatever else has arrived gets its turn: a stop or a renewal waits for one
// of them at most, however many are asked. What may wait is bounded, for everybody together and for each client, so that
// one that asks without end takes nobody else's place; whoever comes on top is asked to come again. An answer that nobody
// takes off the wire holds its place, and not for long, since it holds memory as well.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type Clock, loopTurn } from '../clock.ts';
import { callerOf } from './callers.ts';
import { Problem } from './problem.ts';

/** `read`: megabytes of what is known. `start`: may something start; small answers, and a thousand pods ask at once. */
export type TurnKind = 'read' | 'start';

/** Under way at the same time: waiting, being answered or being sent. */
const MOST: Readonly<Record<TurnKind, { readonly all: number; readonly client: number }>> = {
  read: { all: 128, client: 64 },
  start: { all: 2_000, client: 1_000 },
};
/** An answer that has not left by then is cut off. */
const SEND_WITHIN_MS = 30_000;
const RETRY_SECONDS = 1;

export class Turns {
  readonly #clock: Clock;
  readonly #underWay: Readonly<Record<TurnKind, Map<string, number>>> = { read: new Map(), start: new Map() };
  readonly #waiting: (() => void)[] = [];
  #isTaken = false;
  #whole: Promise<unknown> = Promise.resolve();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A hook that takes a place until the answer is sent, or refuses with a 503 where none is free. */
  place(kind: TurnKind): (request: FastifyRequest, reply: FastifyReply) => Promise<void> {
    return async (request, reply) => this.#enter(kind, request, reply);
  }

  /** An operator always gets a place. */
  #enter(kind: TurnKind, request: FastifyRequest, reply: FastifyReply): void {
    const { role, identity } = callerOf(request);
    const client = `${identity} ${request.ip}`;
    const counts = this.#underWay[kind];
    const own = counts.get(client) ?? 0;
    const all = [...counts.values()].reduce((sum, count) => sum + count, 0);
    if (role !== 'operator' && (own >= MOST[kind].client || all >= MOST[kind].all)) {
      const whose = own >= MOST[kind].client ? `${own} such questions of this client` : `${all} such questions`;
      const deed = `${request.method} ${request.routeOptions.url ?? ''}`;
      throw new Problem('too-busy', `Cannot answer ${deed}: ${whose} are being answered already`, {}, RETRY_SECONDS);
    }
    counts.set(client, own + 1);
    const cancel = this.#clock.after(SEND_WITHIN_MS, () => reply.raw.destroy());
    let isLeft = false;
    const leave = (): void => {
      if (isLeft) return;
      isLeft = true;
      cancel();
      const left = (counts.get(client) ?? 1) - 1;
      if (left > 0) counts.set(client, left);
      else counts.delete(client);
    };
    reply.raw.once('finish', leave).once('close', leave);
  }

  /** Resolves when it is this question's turn. */
  next(): Promise<void> {
    if (this.#isTaken) return new Promise((resolve) => this.#waiting.push(resolve));
    this.#isTaken = true;
    void this.#goOn();
    return Promise.resolve();
  }

  /** Runs what lets others in between its parts, one at a time: the answers of many at once would fill the memory. */
  whole<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#whole.then(work);
    this.#whole = mine.catch(() => undefined);
    return mine;
  }

  async #goOn(): Promise<void> {
    for (;;) {
      // What has arrived meanwhile is taken in, and answered where it need not wait.
      await loopTurn();
      const next = this.#waiting.shift();
      if (!next) break;
      next();
    }
    this.#isTaken = false;
  }
}
