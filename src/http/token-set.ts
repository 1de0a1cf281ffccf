// The bearer tokens that are known here: the configuration's, by their SHA-256, and the operator's own. They can be
// replaced while the service runs (serve-tokens.ts); whoever was let in for longer than one answer is told, and asks again.
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Config, Role } from '../config.ts';
import { type Caller, ROLES } from './access.ts';

export interface Tokens {
  /** The text itself; always an operator's. */
  readonly operator: string;
  readonly configured: Config['auth']['tokens'];
}

interface KnownToken {
  readonly role: Role;
  readonly digest: Buffer;
}

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();

export class TokenSet {
  readonly #listeners = new Set<() => void>();
  #known: readonly KnownToken[];

  constructor(tokens: Tokens) {
    this.#known = digestsOf(tokens);
  }

  /** Compares with every token, so that time tells nothing; of several rows for one token the highest role counts. */
  callerOf(token: string): Caller | null {
    const digest = sha256(token);
    let best: Role | null = null;
    for (const known of this.#known) {
      const isSame = known.digest.length === digest.length && timingSafeEqual(known.digest, digest);
      if (isSame && (best === null || ROLES.indexOf(known.role) > ROLES.indexOf(best))) best = known.role;
    }
    return best && { role: best, identity: identityOf(digest) };
  }

  /** Whether a caller that {@link callerOf} gave would be given again. */
  stillKnows({ identity }: Caller): boolean {
    return this.#known.some(({ digest }) => identityOf(digest) === identity);
  }

  /** From now on these, and no others; gives the identities that came and those that are gone. */
  replace(tokens: Tokens): { readonly added: readonly string[]; readonly removed: readonly string[] } {
    const before = new Set(this.#known.map(rowOf));
    this.#known = digestsOf(tokens);
    const after = new Set(this.#known.map(rowOf));
    const added = [...after].filter((row) => !before.has(row));
    const removed = [...before].filter((row) => !after.has(row));
    if (added.length + removed.length > 0) for (const listener of this.#listeners) listener();
    return { added, removed };
  }

  /** Calls `listener` after each change; the returned function ends that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** Enough to tell tokens apart, and nothing that a token can be made of. */
const identityOf = (digest: Buffer): string => `token:${digest.toString('hex').slice(0, 12)}`;
const rowOf = ({ role, digest }: KnownToken): string => `${role} ${identityOf(digest)}`;

function digestsOf({ operator, configured }: Tokens): KnownToken[] {
  return [
    { role: 'operator', digest: sha256(operator) },
    ...configured.map(({ role, sha256: hex }) => ({ role, digest: Buffer.from(hex, 'hex') })),
  ];
}
