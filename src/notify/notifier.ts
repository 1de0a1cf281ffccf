// Events out: whoever is named under `notify` is told of trips, of how the stop goes, of resets and of cooldowns. It
// listens to what is published and is never waited for: with every webhook dead the service stops workloads as well.
import type { Clock } from '../clock.ts';
import type { Message } from '../domain/events.ts';
import type { SafetyState } from '../domain/state.ts';
import type { Credentials } from '../sources/credentials.ts';
import { createHttpGetter } from '../sources/http-get.ts';
import { AlertBoard } from './alert-board.ts';
import { NoticeQueue } from './notice-queue.ts';
import { type NotifySettings, type NotifyStatus, NotifyTarget, type TargetParts } from './target.ts';

export interface Notifier {
  /** Takes one published message; returns at once and never throws. */
  tell(message: Message): void;
  status(): readonly NotifyStatus[];
  /** Breaks off what is under way; what waits is not told. */
  close(): Promise<void>;
}

export interface NotifierParts {
  readonly clock: Clock;
  readonly targets: readonly NotifySettings[];
  readonly credentials: Credentials | null;
  readonly state: () => SafetyState;
  readonly log: TargetParts['log'];
  /** From 0 to 1, for jitter. */
  readonly random?: () => number;
}

export function createNotifier(parts: NotifierParts): Notifier {
  const { clock, credentials, state, log, random = Math.random } = parts;
  const getter = createHttpGetter({ clock });
  const targets = parts.targets.map((settings) => {
    const events = new Set(settings.events);
    const outbox = settings.format === 'alertmanager' ? new AlertBoard(events) : new NoticeQueue(events);
    return new NotifyTarget(settings, outbox, { clock, post: getter.post, credentials, state, log, random });
  });
  return {
    tell(message) {
      for (const target of targets) {
        try {
          target.take(message);
        } catch (error) {
          log.warn(`Cannot note what a webhook is to be told: ${String(error)}`);
        }
      }
    },
    status: () => targets.map((target) => target.status()),
    async close() {
      const closing = targets.map((target) => target.close());
      getter.close();
      await Promise.all(closing);
    },
  };
}
