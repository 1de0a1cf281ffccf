// Chance that a seed decides. One generator per world and purpose (sfc32), and the means to make what the code under test
// draws for itself (jitter, ids) come from the seed, too: a seed gives one run, whatever draws.
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';

export class Chance {
  #a: number;
  #b: number;
  #c: number;
  #count = 1;

  constructor(seed: number, purpose: string) {
    // FNV-1a of the purpose, so that one more draw for one thing does not change another.
    let hash = 0x811c9dc5;
    for (const char of `${seed} ${purpose}`) hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193);
    this.#a = hash;
    this.#b = seed | 0;
    this.#c = Math.imul(hash, 0x9e3779b1);
    for (let round = 0; round < 15; round++) this.bits();
  }

  /** 32 bits. */
  bits(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#count) | 0;
    this.#count = (this.#count + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** In [0, 1). */
  share(): number {
    return this.bits() / 2 ** 32;
  }

  /** A whole number from `least` to `most`. */
  whole(least: number, most: number): number {
    return least + Math.floor(this.share() * (most - least + 1));
  }

  between(least: number, most: number): number {
    return least + this.share() * (most - least);
  }

  is(probability: number): boolean {
    return this.share() < probability;
  }

  pick<T>(choices: readonly T[]): T {
    const choice = choices[this.whole(0, choices.length - 1)];
    if (choice === undefined) throw new Error('Cannot pick from nothing');
    return choice;
  }

  /** A key by weights. */
  weighted<K extends string>(weights: Readonly<Record<K, number>>): K {
    const entries = Object.entries(weights) as [K, number][];
    let left = this.share() * entries.reduce((sum, [, weight]) => sum + weight, 0);
    for (const [key, weight] of entries) {
      left -= weight;
      if (left < 0) return key;
    }
    return entries[0]?.[0] as K;
  }

  uuid(): string {
    const hex = [0, 0, 0, 0].map(() => this.bits().toString(16).padStart(8, '0')).join('');
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20)}`;
  }
}

/** Runs `work` while Math.random and Node's random bytes come from `chance`. One at a time in a process. */
export async function withSeededChance<T>(chance: Chance, work: () => Promise<T>): Promise<T> {
  const { random } = Math;
  const { randomUUID, randomBytes } = crypto;
  Math.random = () => chance.share();
  const draw = (bytes: number): Buffer => Buffer.from(Array.from({ length: bytes }, () => chance.whole(0, 255)));
  Object.assign(crypto, { randomUUID: () => chance.uuid(), randomBytes: draw });
  syncBuiltinESMExports();
  try {
    return await work();
  } finally {
    Math.random = random;
    Object.assign(crypto, { randomUUID, randomBytes });
    syncBuiltinESMExports();
  }
}
