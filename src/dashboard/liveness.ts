// Whether what the page shows is the present. The one rule that must never fail: what is old is never shown as if it
// were now. Pure.
import { type Now, secondsBetween } from './clock.ts';

/** No result by this many intervals after the last is a late tick; the service refuses starts then. */
const LATE_AFTER_INTERVALS = 1.5;
/** For the way from the service to here. */
const GRACE_SECONDS = 1;
/** A first connection may take this long before it is called lost. */
const FIRST_CONTACT_SECONDS = 3;

/** What is known of the connection at one moment. */
export interface Contact {
  /** The socket is open and has spoken. */
  readonly isOpen: boolean;
  /** When it broke, or since when there has been none. */
  readonly brokenSince: Now;
  readonly hadContact: boolean;
  readonly nextTryAt: Now | null;
  /** The service will not talk to us without another token. */
  readonly refusal: string | null;
  /** The newest evaluation: its own age when it came, and when it came. */
  readonly evaluated: { readonly ageSeconds: number; readonly at: Now } | null;
  /** The newest status: the age of the last tick that it told, and when it came; `isFailing`: a newer one did not come. */
  readonly read: { readonly tickAgeSeconds: number | null; readonly at: Now; readonly isFailing: boolean } | null;
  readonly intervalSeconds: number;
}

export type Liveness =
  | { readonly kind: 'live'; readonly ageSeconds: number }
  | { readonly kind: 'connecting' }
  | { readonly kind: 'locked'; readonly why: string }
  | { readonly kind: 'lost'; readonly seconds: number; readonly retrySeconds: number | null }
  | { readonly kind: 'old'; readonly why: string };

/** How much what is shown can be believed at `moment`. */
export function livenessOf(contact: Contact, moment: Now): Liveness {
  if (contact.refusal !== null) return { kind: 'locked', why: contact.refusal };
  if (!contact.isOpen) {
    const seconds = secondsBetween(contact.brokenSince, moment);
    if (!contact.hadContact && seconds < FIRST_CONTACT_SECONDS) return { kind: 'connecting' };
    const { nextTryAt } = contact;
    const retrySeconds = nextTryAt && Math.max(0, nextTryAt.elapsedMs - moment.elapsedMs) / 1000;
    return { kind: 'lost', seconds, retrySeconds };
  }
  const { evaluated, read, intervalSeconds } = contact;
  if (!evaluated || !read) return { kind: 'connecting' };
  const lateSeconds = LATE_AFTER_INTERVALS * intervalSeconds;
  const ageSeconds = evaluated.ageSeconds + secondsBetween(evaluated.at, moment);
  if (ageSeconds > lateSeconds + GRACE_SECONDS) {
    return {
      kind: 'old',
      why: `the last judgement is ${Math.round(ageSeconds)} s old and should be ${intervalSeconds} s at most`,
    };
  }
  const { tickAgeSeconds } = read;
  if (tickAgeSeconds !== null && tickAgeSeconds > lateSeconds) {
    return {
      kind: 'old',
      why: `the service last looked ${Math.round(tickAgeSeconds)} s ago and should every ${intervalSeconds} s`,
    };
  }
  const readAge = secondsBetween(read.at, moment);
  if (readAge > LATE_AFTER_INTERVALS * intervalSeconds + GRACE_SECONDS * 3) {
    return {
      kind: 'old',
      why: `the readings are ${Math.round(readAge)} s old: the service does not answer for its status`,
    };
  }
  return { kind: 'live', ageSeconds };
}
