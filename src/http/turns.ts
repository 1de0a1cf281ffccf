// Questions that take long to answer (everything that is known of a thousand nodes takes tens of milliseconds) are answered
// one after the other, and between two of them whatever else has arrived gets its turn: a stop or a renewal waits for one
// of them at most, however many are asked. What may wait is bounded, for everybody together and for each client, so that
// one that asks without end takes nobody else's place; whoever comes on top is asked to come again. An answer that nobody
// takes off the wire holds its place, and not for long, since it holds memory as well. Whoever asks the same while nobody
// has begun to work the answer out gets the same one.
import type { Server } from 'node:http';
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
/** Turns of the loop in one pause: as many new connections are let in, since libuv takes one a turn (from 1.45 on). */
const MOST_TURNS_IN_PAUSE = 16;

export class Turns {
  readonly #clock: Clock;
  readonly #underWay: Readonly<Record<TurnKind, Map<string, number>>> = { read: new Map(), start: new Map() };
  readonly #waiting: (() => void)[] = [];
  #isTaken = false;
  #whole: Promise<unknown> = Promise.resolve();
  /** Answers that nobody has begun with, by what was asked. */
  readonly #notBegun = new Map<string, Promise<unknown>>();
  #arrivals = 0;

  constructor(clock: Clock, server: Pick<Server, 'on'>) {
    this.#clock = clock;
    const arrived = (): void => {
      this.#arrivals += 1;
    };
    server.on('connection', arrived).on('request', arrived);
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

  /**
   * Runs what lets others in between its parts, one at a time: the answers of many at once would fill the memory. Those
   * of the same `key` who come before one of them was begun with share it: nothing in it is older than their question.
   */
  whole<T>(key: string, work: () => Promise<T>): Promise<T> {
    const joined = this.#notBegun.get(key);
    if (joined) return joined as Promise<T>;
    const mine = this.#whole.then(() => {
      this.#notBegun.delete(key);
      return work();
    });
    this.#notBegun.set(key, mine);
    this.#whole = mine.catch(() => undefined);
    return mine;
  }

  /** Between two parts of an answer: lets in what has arrived, new connections one after the other. */
  async pause(): Promise<void> {
    for (let turns = 0, before = -1; turns < MOST_TURNS_IN_PAUSE && before !== this.#arrivals; turns++) {
      before = this.#arrivals;
      await loopTurn();
    }
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
