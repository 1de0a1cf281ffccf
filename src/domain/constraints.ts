// The limits. One table of cells says for every limit where it stands in a profile, what is plausible for it, and how it
// is called; parsing, comparing, the digest and the documentation all walk that table. What a limit means for a reading
// is evaluate.ts.
import { invariant } from './invariant.ts';

/** Two limits of one quantity: a warning from `warning` on, a hard stop from `hardStop` on. `warning < hardStop`. */
export interface Thresholds {
  readonly warning: number;
  readonly hardStop: number;
}

/** One limit that may be reached and not passed. */
export interface Maximum {
  readonly max: number;
}

/** A profile, as in the configuration and in requests. °C, W and shares from 0 to 1. */
export interface SafetyConstraints {
  readonly gpu: { readonly temperatureC: Thresholds; readonly powerW: Thresholds; readonly memoryRatio: Maximum };
  readonly cpu: { readonly temperatureC: Thresholds; readonly utilizationRatio: Maximum };
  readonly system: { readonly powerW: Thresholds; readonly memoryRatio: Maximum };
  readonly workload: { readonly intensityRatio: Maximum };
}

function deepFreeze<T extends object>(value: T): T {
  for (const inner of Object.values(value)) if (typeof inner === 'object' && inner !== null) deepFreeze(inner);
  return Object.freeze(value);
}

/** The limits that hold unless a profile says otherwise. */
export const DEFAULT_CONSTRAINTS: SafetyConstraints = deepFreeze({
  gpu: {
    temperatureC: { warning: 80, hardStop: 85 },
    powerW: { warning: 250, hardStop: 300 },
    memoryRatio: { max: 0.9 },
  },
  cpu: { temperatureC: { warning: 90, hardStop: 95 }, utilizationRatio: { max: 0.8 } },
  system: { powerW: { warning: 2000, hardStop: 2200 }, memoryRatio: { max: 0.85 } },
  workload: { intensityRatio: { max: 0.8 } },
});

/** The stricter limits of the workstation `bizon1`. */
export const BIZON1_CONSTRAINTS: SafetyConstraints = deepFreeze({
  gpu: {
    temperatureC: { warning: 75, hardStop: 80 },
    powerW: { warning: 230, hardStop: 280 },
    memoryRatio: { max: 0.85 },
  },
  cpu: { temperatureC: { warning: 85, hardStop: 90 }, utilizationRatio: { max: 0.7 } },
  system: { powerW: { warning: 1800, hardStop: 2000 }, memoryRatio: { max: 0.8 } },
  workload: { intensityRatio: { max: 0.7 } },
});

export type ProfileName = 'default' | 'bizon1' | 'custom';

/** The profiles that have a name. */
export const PROFILES: Readonly<Record<Exclude<ProfileName, 'custom'>, SafetyConstraints>> = Object.freeze({
  default: DEFAULT_CONSTRAINTS,
  bizon1: BIZON1_CONSTRAINTS,
});

/** One cell of the table: `gpu.temperatureC.warning` and its bound of plausibility. */
interface Cell {
  readonly path: readonly [string, string, string];
  /** Largest value that is still plausible. Shares must stay below it: 1 would be "off". */
  readonly atMost?: number;
  readonly below?: number;
  readonly unit: string;
}

const thresholds = (part: string, quantity: string, atMost: number, unit: string): Cell[] => [
  { path: [part, quantity, 'warning'], atMost, unit },
  { path: [part, quantity, 'hardStop'], atMost, unit },
];
const share = (part: string, quantity: string): Cell => ({ path: [part, quantity, 'max'], below: 1, unit: '' });

/** Every limit there is, in a fixed order. */
const CELLS: readonly Cell[] = [
  ...thresholds('gpu', 'temperatureC', 110, ' °C'),
  ...thresholds('gpu', 'powerW', 1500, ' W'),
  share('gpu', 'memoryRatio'),
  ...thresholds('cpu', 'temperatureC', 110, ' °C'),
  share('cpu', 'utilizationRatio'),
  ...thresholds('system', 'powerW', 20_000, ' W'),
  share('system', 'memoryRatio'),
  share('workload', 'intensityRatio'),
];

/** Why a profile was refused: the key, the value that stood there, and the rule that it breaks. */
export interface ConstraintProblem {
  readonly key: string;
  readonly value: unknown;
  readonly rule: string;
}

export type ParsedConstraints =
  | {
      readonly ok: true;
      readonly constraints: SafetyConstraints;
      readonly profile: ProfileName;
      /** Keys that the profile itself gives, `gpu.temperatureC.warning`; the others come from what it extends. */
      readonly given: readonly string[];
    }
  | { readonly ok: false; readonly problems: readonly ConstraintProblem[] };

type Nested = { [key: string]: Nested | number };

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function cellOf(constraints: SafetyConstraints, cell: Cell): number {
  const [part, quantity, limit] = cell.path;
  const value = (constraints as unknown as Record<string, Record<string, Record<string, number>>>)[part]?.[quantity]?.[
    limit
  ];
  invariant(value !== undefined, `A profile has no ${cell.path.join('.')}`);
  return value;
}

/** A profile with the value of every cell chosen by `choose`. */
function build(choose: (cell: Cell) => number): SafetyConstraints {
  const profile: Nested = {};
  for (const cell of CELLS) {
    const [part, quantity, limit] = cell.path;
    profile[part] ??= {};
    const quantities = profile[part] as Nested;
    quantities[quantity] ??= {};
    (quantities[quantity] as Nested)[limit] = choose(cell);
  }
  return deepFreeze(profile) as unknown as SafetyConstraints;
}

/**
 * A profile from the configuration or a request: a name (`default`, `bizon1`) or an object of limits, where what is
 * left out comes from `extends` (`default` unless named). Refuses unknown keys, values that are no finite positive
 * numbers, values outside plausibility (temperature ≤ 110 °C, GPU ≤ 1500 W, total ≤ 20 kW, shares < 1) and a warning
 * that is not below its hard stop. Reports all problems, not only the first.
 *
 * @example
 * parseConstraints({ gpu: { temperatureC: { warning: 70 } } }) // ok: warning 70 °C, hard stop 85 °C, the rest as default
 */
export function parseConstraints(input: unknown): ParsedConstraints {
  if (typeof input === 'string') {
    const named = Object.entries(PROFILES).find(([name]) => name === input);
    if (named) {
      const [profile, constraints] = named as [ProfileName, SafetyConstraints];
      return { ok: true, constraints, profile, given: CELLS.map((cell) => cell.path.join('.')) };
    }
  }
  if (!isObject(input)) {
    return {
      ok: false,
      problems: [{ key: '', value: input, rule: 'must be "default", "bizon1" or an object of limits' }],
    };
  }
  const problems: ConstraintProblem[] = [];
  const { extends: baseName = 'default', ...limits } = input;
  const base = baseName === 'default' || baseName === 'bizon1' ? PROFILES[baseName] : undefined;
  if (!base) problems.push({ key: 'extends', value: baseName, rule: 'must be "default" or "bizon1"' });

  const given = new Map<string, number>();
  collect(limits, [], given, problems);
  const constraints = build((cell) => given.get(cell.path.join('.')) ?? cellOf(base ?? DEFAULT_CONSTRAINTS, cell));
  if (problems.length === 0) problems.push(...relationProblems(constraints));
  if (problems.length > 0) return { ok: false, problems };
  return { ok: true, constraints, profile: 'custom', given: [...given.keys()] };
}

/** Walks an object of limits; what is no cell of the table is a problem. */
function collect(
  object: Record<string, unknown>,
  path: readonly string[],
  given: Map<string, number>,
  problems: ConstraintProblem[],
): void {
  for (const [name, value] of Object.entries(object)) {
    const here = [...path, name];
    const key = here.join('.');
    const cells = CELLS.filter((cell) => here.every((step, depth) => cell.path[depth] === step));
    const [cell] = cells;
    if (!cell) problems.push({ key, value, rule: 'is no limit that there is' });
    else if (here.length < 3) {
      if (isObject(value)) collect(value, here, given, problems);
      else problems.push({ key, value, rule: 'must be an object of limits' });
    } else {
      const rule = cellRule(cell, value);
      if (rule) problems.push({ key, value, rule });
      else given.set(key, value as number);
    }
  }
}

function cellRule(cell: Cell, value: unknown): string | null {
  if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) {
    return 'must be a finite number over 0; no value means "off"';
  }
  if (cell.atMost !== undefined && value > cell.atMost) return `must be at most ${cell.atMost}${cell.unit}`;
  if (cell.below !== undefined && value >= cell.below) return `must be below ${cell.below}`;
  return null;
}

function relationProblems(constraints: SafetyConstraints): ConstraintProblem[] {
  const problems: ConstraintProblem[] = [];
  for (const cell of CELLS) {
    if (cell.path[2] !== 'warning') continue;
    const [part, quantity] = cell.path;
    const hardStopCell = CELLS.find((o) => o.path[0] === part && o.path[1] === quantity && o.path[2] === 'hardStop');
    invariant(hardStopCell, `${part}.${quantity} has a warning and no hard stop`);
    const hardStop = cellOf(constraints, hardStopCell);
    const warning = cellOf(constraints, cell);
    if (!(warning < hardStop)) {
      const rule = `must be below ${part}.${quantity}.hardStop, which is ${hardStop}${cell.unit}`;
      problems.push({ key: cell.path.join('.'), value: warning, rule });
    }
  }
  return problems;
}

/** Per cell the stricter of two profiles. A warning stays below its hard stop, since it does in both. */
export function stricterOf(a: SafetyConstraints, b: SafetyConstraints): SafetyConstraints {
  return a === b ? a : build((cell) => Math.min(cellOf(a, cell), cellOf(b, cell)));
}

/** The `keys` in which `asked` is looser than `inForce`: they are ignored, and named in the answer. */
export function looserKeys(
  asked: SafetyConstraints,
  inForce: SafetyConstraints,
  keys: readonly string[],
): readonly string[] {
  return CELLS.filter((cell) => keys.includes(cell.path.join('.')))
    .filter((cell) => cellOf(asked, cell) > cellOf(inForce, cell))
    .map((cell) => cell.path.join('.'));
}

/** One limit; `key` is its path, `gpu.powerW.warning`. */
export function limitAt(constraints: SafetyConstraints, key: string): number {
  return cellOf(constraints, cellAt(key));
}

/** One limit for people: `250 W`, `0.8`. */
export function limitText(constraints: SafetyConstraints, key: string): string {
  const cell = cellAt(key);
  return `${cellOf(constraints, cell)}${cell.unit}`;
}

function cellAt(key: string): Cell {
  const cell = CELLS.find(({ path }) => path.join('.') === key);
  invariant(cell, `There is no limit ${key}`);
  return cell;
}

/** The name that these limits go by. */
export function profileNameOf(constraints: SafetyConstraints): ProfileName {
  const text = canonicalText(constraints);
  const named = (['default', 'bizon1'] as const).find((name) => canonicalText(PROFILES[name]) === text);
  return named ?? 'custom';
}

/** All limits as `key=value` lines in a fixed order: what the digest is made of. */
export function canonicalText(constraints: SafetyConstraints): string {
  return CELLS.map((cell) => `${cell.path.join('.')}=${cellOf(constraints, cell)}`).join('\n');
}

/** 64-bit FNV-1a of a text as 16 hex digits: tells whether two processes judge by the same limits; no secret. */
export function digestOf(text: string): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(text)) {
    hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn;
  }
  return hash.toString(16).padStart(16, '0');
}

/**
 * A card's temperature limits: the profile's, unless the card itself gives an absolute slowdown temperature from 60 °C
 * to below the hard stop. That becomes its hard stop, and its warning is then at most 5 °C below it.
 */
export function cardTemperatureC(profile: Thresholds, slowdownC: number | undefined): Thresholds {
  // Asked the positive way: NaN would otherwise become a hard stop that nothing reaches.
  if (slowdownC === undefined || !(slowdownC >= 60 && slowdownC < profile.hardStop)) return profile;
  return { warning: Math.min(profile.warning, slowdownC - 5), hardStop: slowdownC };
}
