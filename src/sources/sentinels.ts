// Numbers that mean "no value": bit patterns that a library writes where it has none, and that exporters pass on. They
// are told apart from numbers that are merely impossible, which the domain refuses, so that the reading says why it is
// missing; and because in a mask of bits, in MiB or as a limit, nothing else would give them away.
import type { MissingCause } from '../domain/reading.ts';
import { isNoValue } from './gpu-sysfs-chip.ts';

export type Blanks = 'dcgm' | 'amd' | null;

/**
 * DCGM's blank codes: a base for each width, and behind it +1 not found, +2 not supported, +3 no permission; 16 in all
 * are kept free. The 64-bit ones are all the same double, 2^63, so they are a range and never an equality.
 */
const DCGM_INT32 = 0x7ffffff0;
const DCGM_FP64 = 2 ** 47;
const DCGM_INT64 = 2 ** 63 - 16;
const DCGM_CODES = 16;
const NOT_SUPPORTED = 2;

/** 65,535 MB of memory may well be in use. */
const ALL_ONES_OF_16_BITS = 0xffff;

/**
 * Why a number is none, or `null` where it may be one. For temperatures, powers, shares and masks.
 *
 * @example
 * blankCause('dcgm', 9223372036854775794) // 'not-supported'
 */
export function blankCause(blanks: Blanks, value: number): MissingCause | null {
  if (blanks === 'dcgm') {
    if (value >= DCGM_INT64) return 'not-supported';
    const base = [DCGM_INT32, DCGM_FP64].find((from) => value >= from && value < from + DCGM_CODES);
    if (base === undefined) return null;
    return value - base === NOT_SUPPORTED ? 'not-supported' : 'unreadable';
  }
  // AMD's exporters pass on what its driver writes into /sys.
  return blanks === 'amd' && isNoValue(value) ? 'invalid' : null;
}

/**
 * The same for what grows large by right: of a counter, which passes 2^31 mJ in a day, only patterns of 64 bits are
 * none; of an amount of memory those of 32 too.
 */
export function blankCountCause(blanks: Blanks, value: number, isMemory: boolean): MissingCause | null {
  if (blanks === null) return null;
  if (value >= DCGM_INT64) return 'not-supported';
  return isMemory && value !== ALL_ONES_OF_16_BITS ? blankCause(blanks, value) : null;
}
