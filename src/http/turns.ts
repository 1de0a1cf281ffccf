// Questions that take long to answer (everything that is known of a thousand nodes takes tens of milliseconds) are answered
// one after the other, and between two of them whatever else has arrived gets its turn: a stop or a renewal waits for one
// of them at most, however many are asked. What may wait is bounded, for everybody together and for each client, so that
// one that asks without end takes nobody else's place; whoever comes on top is asked to come again. An answer that nobody
// takes off the wire holds its place, and not for long, since it holds memory as well. Whoever asks the same while nobody
// has begun to work the answer out gets the same one, and for whoever has gone away nothing is worked out. While the
// monitor reads its sources, questions that take long leave it most of the time: nobody's questions may make it blind.
import type { Server } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type Clock, loopTurn } from '../clock.ts';
import type { Monitor } from '../monitor.ts';
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
/** An answer that took longer, ms, is heavy: after it the sources' reading gets … */
const HEAVY_MS = 20;
/** … so many times as long, … */
const READING_SHARE = 2;
/** … ms at most: a stalled machine makes every answer look heavy. */
const LONGEST_GIVEN_MS = 1_000;

/** A reply that may never be read. */
export type Asker = Pick<FastifyReply, 'raw'>;

/** Ends the answering of a question whose asker has gone; nobody reads it. */
export const nobodyAsks = (): Problem =>
  new Problem('too-busy', 'The question was given up by whoever asked it', {}, RETRY_SECONDS);

export class Turns {
  readonly #clock: Clock;
  readonly #underWay: Readonly<Record<TurnKind, Map<string, number>>> = { read: new Map(), start: new Map() };
  readonly #waiting: { readonly asker: Asker | null; readonly begin: () => void; readonly giveUp: () => void }[] = [];
  readonly #monitor: Pick<Monitor, 'isReading'>;
  #isTaken = false;
  #whole: Promise<unknown> = Promise.resolve();
  /** Answers that nobody has begun with, by what was asked. */
  readonly #notBegun = new Map<string, { readonly answer: Promise<unknown>; readonly askers: Asker[] }>();
  #arrivals = 0;

  constructor(clock: Clock, server: Pick<Server, 'on'>, monitor: Pick<Monitor, 'isReading'>) {
    this.#clock = clock;
    this.#monitor = monitor;
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

  /** Resolves when it is this question's turn; with `asker`, rejects when that one waits for no answer by then. */
  next(asker: Asker | null = null): Promise<void> {
    return new Promise((begin, reject) => {
      this.#waiting.push({ asker, begin, giveUp: () => reject(nobodyAsks()) });
      if (!this.#isTaken) void this.#goOn();
    });
  }

  /**
   * Runs what lets others in between its parts, one at a time: the answers of many at once would fill the memory. Those
   * of the same `key` who come before one of them was begun with share it: nothing in it is older than their question.
   */
  whole<T>(key: string, asker: Asker, work: () => Promise<T>): Promise<T> {
    const joined = this.#notBegun.get(key);
    if (joined) {
      joined.askers.push(asker);
      return joined.answer as Promise<T>;
    }
    const askers = [asker];
    const mine = this.#whole.then(() => {
      this.#notBegun.delete(key);
      if (askers.every(isGone)) throw nobodyAsks();
      return work();
    });
    this.#notBegun.set(key, { answer: mine, askers });
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
    this.#isTaken = true;
    for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
      if (next.asker && isGone(next.asker)) {
        next.giveUp();
        continue;
      }
      const beganMs = this.#clock.now().elapsedMs;
      next.begin();
      // What has arrived meanwhile is taken in, and answered where it need not wait.
      await loopTurn();
      const tookMs = this.#clock.now().elapsedMs - beganMs;
      if (tookMs < HEAVY_MS || !this.#monitor.isReading) continue;
      await this.#clock.sleep(Math.min(tookMs * READING_SHARE, LONGEST_GIVEN_MS));
    }
    this.#isTaken = false;
  }
}

export const isGone = ({ raw }: Asker): boolean => raw.destroyed || raw.closed;
