// Three layers say what is wanted: the file, then the environment, then the flags; the later one wins. Each is checked
// against the schema by itself, so that a wrong value is told even where a later layer covers it. What is faulty is
// taken out and told; what is left has the right shape.
import { inspect } from 'node:util';
import { Compile } from 'typebox/compile';
import { Settings } from 'typebox/system';
import type { ConfigPath, ParsedFile } from './config-file.ts';
import { type ConfigInput, SCHEMA } from './config-schema.ts';

/** Why a value was refused. */
export interface ConfigProblem {
  /** The key as it was written: `nodes[0].expectGpus`, `VSF_SAFETY_INTERVAL`, `--port`. Empty: the file itself. */
  readonly key: string;
  /** What stood there, shortened; `undefined` where nothing did. Never a secret. */
  readonly value: unknown;
  readonly rule: string;
  /** In the file, from 1 on. */
  readonly line?: number;
  readonly column?: number;
  readonly source: 'file' | 'environment' | 'flag';
}

/** What loadConfig takes from the command line; each as it was typed. */
export type ConfigFlags = Partial<Record<keyof typeof FLAG_PATHS, string>>;

const FLAG_PATHS = {
  host: ['listen', 'host'],
  port: ['listen', 'port'],
  'state-dir': ['stateDir'],
  source: ['source'],
  'log-level': ['logLevel'],
} as const satisfies Record<string, ConfigPath>;

/** As much of a schema as is looked at here. */
interface Shape {
  readonly type?: string | readonly string[];
  readonly rule?: string;
  readonly enum?: readonly unknown[];
  readonly properties?: Readonly<Record<string, Shape>>;
  readonly patternProperties?: Readonly<Record<string, Shape>>;
  readonly items?: Shape;
}
const ROOT = SCHEMA as Shape;
const VALIDATOR = Compile(SCHEMA);

const PREFIX = 'VSF_SAFETY_';
/** The file's own variable, and those that only client commands read. */
const OTHER_VARIABLES = [
  'VSF_SAFETY_CONFIG',
  'VSF_SAFETY_URL',
  'VSF_SAFETY_TOKEN',
  'VSF_SAFETY_TOKEN_FILE',
  'VSF_SAFETY_CA_FILE',
];
/**
 * Kubernetes describes every Service of the namespace to every pod in this form, so that a Service called `vsf-safety`
 * or `vsf-safety-metrics` would otherwise keep the pod from starting.
 */
const SERVICE_LINK =
  /^VSF_SAFETY_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$/;
const isServiceLink = (name: string, value: string): boolean =>
  SERVICE_LINK.test(name) || (/_PORT$/.test(name) && /^(tcp|udp|sctp):\/\//.test(value));

export interface EnvironmentVariable {
  readonly name: string;
  /** The key that it sets: `listen.port`. */
  readonly key: string;
  readonly rule: string;
}
interface Variable extends EnvironmentVariable {
  readonly path: ConfigPath;
}

const VARIABLES: readonly Variable[] = Object.entries(ROOT.properties ?? {}).flatMap(([name, shape]) =>
  variableOf([name], shape),
);

/** Every variable that sets a key, in the order of the file. Lists are written with commas. */
export const ENVIRONMENT_VARIABLES: readonly EnvironmentVariable[] = VARIABLES;

function variableMeantBy(name: string): string | null {
  const names = [...VARIABLES.map((known) => known.name), ...OTHER_VARIABLES];
  const bare = name.slice(PREFIX.length);
  const near = closest(
    bare,
    names.map((known) => known.slice(PREFIX.length)),
  );
  if (near !== null) return PREFIX + near;
  return VARIABLES.find(({ path }) => plain(path.at(-1) ?? '') === plain(bare))?.name ?? null;
}

/** None for lists of mappings: `nodes` and `auth.tokens` have no place in a variable. */
function variableOf(path: ConfigPath, shape: Shape): readonly Variable[] {
  if (shape.items?.properties) return [];
  if (shape.properties) {
    return Object.entries(shape.properties).flatMap(([inner, innerShape]) => variableOf([...path, inner], innerShape));
  }
  const name = PREFIX + path.map((step) => step.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()).join('_');
  return [{ name, path, key: path.join('.'), rule: shape.rule ?? 'must be default or bizon1' }];
}

/** One layer: its values by place, and how a fault in it is told. */
interface Layer {
  readonly source: ConfigProblem['source'];
  readonly value: Record<string, unknown>;
  /** The name of what set `path`, and where. */
  describe(path: ConfigPath, what: 'key' | 'value'): Pick<ConfigProblem, 'key' | 'line' | 'column'>;
}

/** All layers joined. `report` is for whoever finds that good values do not fit together. */
export interface Layers {
  readonly input: ConfigInput;
  readonly problems: ConfigProblem[];
  /** Whether a layer sets `path`. */
  isGiven(path: ConfigPath): boolean;
  /** Whether something at, in or around `path` was refused, so that what is there now says nothing. */
  isFaulty(path: ConfigPath): boolean;
  /** Tells a fault at `path`, in the layer that set it; `value` is what stood there. */
  report(path: ConfigPath, value: unknown, rule: string): void;
}

export function joinLayers(
  file: ParsedFile,
  env: Readonly<Record<string, string | undefined>>,
  flags: ConfigFlags,
): Layers {
  const problems: ConfigProblem[] = file.faults.map(({ rule, ...position }) => ({
    key: '',
    value: undefined,
    rule,
    ...position,
    source: 'file',
  }));
  const layers = [fileLayer(file), environmentLayer(env, problems), flagLayer(flags)];
  const faulty = layers.flatMap((layer) => check(layer, problems));

  const [base, ...above] = layers as [Layer, Layer, Layer];
  for (const { value } of above) {
    for (const { path } of VARIABLES) {
      const wanted = valueAt(value, path);
      if (wanted !== undefined) setAt(base.value, path, wanted);
    }
  }
  // Which layer a value came from is asked of the upper ones first; the file answers for what nobody set.
  const ownerOf = (path: ConfigPath): Layer =>
    above.findLast(
      ({ value }) => valueAt(value, VARIABLES.find((known) => isWithin(path, known.path))?.path ?? path) !== undefined,
    ) ?? base;
  return {
    input: base.value as ConfigInput,
    problems,
    isGiven: (path) => valueAt(base.value, path) !== undefined,
    isFaulty: (path) => faulty.some((fault) => isWithin(fault, path) || isWithin(path, fault)),
    report(path, value, rule) {
      const owner = ownerOf(path);
      const told = { value: presentable(path, value), rule, source: owner.source };
      problems.push({ ...owner.describe(path, 'value'), ...told });
    },
  };
}

function fileLayer(file: ParsedFile): Layer {
  return {
    source: 'file',
    value: file.value,
    describe: (path, what) => ({ key: pathText(path), ...file.locate(path, what) }),
  };
}

function environmentLayer(env: Readonly<Record<string, string | undefined>>, problems: ConfigProblem[]): Layer {
  const value: Record<string, unknown> = {};
  for (const [name, text] of Object.entries(env)) {
    if (!name.startsWith(PREFIX) || text === undefined || OTHER_VARIABLES.includes(name)) continue;
    const variable = VARIABLES.find((known) => known.name === name);
    if (variable) setAt(value, variable.path, valueOfText(shapeAt(variable.path), text));
    else if (!isServiceLink(name, text)) {
      const hint = variableMeantBy(name);
      const rule = `no such variable${hint === null ? '' : `; did you mean ${hint}?`}`;
      problems.push({ key: name, value: NOT_SHOWN, rule, source: 'environment' });
    }
  }
  const nameOf = (path: ConfigPath): string => VARIABLES.find((known) => isWithin(path, known.path))?.name ?? PREFIX;
  return { source: 'environment', value, describe: (path) => ({ key: nameOf(path) }) };
}

function flagLayer(flags: ConfigFlags): Layer {
  const value: Record<string, unknown> = {};
  const given = Object.entries(FLAG_PATHS).filter(([flag]) => flags[flag as keyof ConfigFlags] !== undefined);
  for (const [flag, path] of given) {
    setAt(value, path, valueOfText(shapeAt(path), flags[flag as keyof ConfigFlags] ?? ''));
  }
  const nameOf = (path: ConfigPath): string => given.find(([, known]) => isWithin(path, known))?.[0] ?? '';
  return { source: 'flag', value, describe: (path) => ({ key: `--${nameOf(path)}` }) };
}

/** Finds what is wrong in one layer by itself, tells it, and takes it out. */
function check(layer: Layer, problems: ConfigProblem[]): readonly ConfigPath[] {
  const faulty: ConfigPath[] = [];
  for (const { keyword, instancePath } of errorsOf(layer.value)) {
    // Told a second time for the mapping around an unknown key.
    if (keyword === 'additionalProperties') continue;
    const path = instancePath
      .split('/')
      .slice(1)
      .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
    if (faulty.some((known) => isWithin(path, known))) continue;
    faulty.push(path);
    const value = valueAt(layer.value, path);
    const isUnknown = keyword === 'boolean';
    const rule = isUnknown ? unknownKeyRule(path) : ruleFor(shapeAt(path), value);
    const where = layer.describe(path, isUnknown ? 'key' : 'value');
    // Nobody knows what an unknown key was to hold: `password`, at the top, holds a password.
    const shown = isUnknown ? NOT_SHOWN : presentable(path, value);
    problems.push({ ...where, value: shown, rule, source: layer.source });
  }
  for (const path of faulty) setAt(layer.value, path, undefined);
  return faulty;
}

/** A configuration has more than the eight faults that typebox tells unless asked. */
const MOST_SCHEMA_ERRORS = 1000;

function errorsOf(value: unknown): ReturnType<typeof VALIDATOR.Errors> {
  const { maxErrors } = Settings.Get();
  Settings.Set({ maxErrors: MOST_SCHEMA_ERRORS });
  try {
    return VALIDATOR.Errors(value);
  } finally {
    Settings.Set({ maxErrors });
  }
}

function ruleFor(shape: Shape, value: unknown): string {
  const names = (shape.enum ?? []).filter((name) => typeof name === 'string');
  const hint = typeof value === 'string' ? closest(value, names) : null;
  return (shape.rule ?? 'is not allowed here') + (hint === null ? '' : `; did you mean ${hint}?`);
}

function unknownKeyRule(path: ConfigPath): string {
  const name = path.at(-1) ?? '';
  const siblings = Object.keys(shapeAt(path.slice(0, -1)).properties ?? {});
  const elsewhere = allKeys(ROOT, '').find((key) => plain(key.split('.').at(-1) ?? '') === plain(name));
  const hint = closest(name, siblings) ?? elsewhere ?? null;
  return `no such key here; ${hint === null ? `there are ${siblings.join(', ')}` : `did you mean ${hint}?`}`;
}

/** Every key that there is, `nodes[].gpus[].waive`. */
function allKeys(shape: Shape, prefix: string): string[] {
  if (shape.items) return allKeys(shape.items, `${prefix}[]`);
  return Object.entries(shape.properties ?? {}).flatMap(([name, inner]) => {
    const key = prefix === '' ? name : `${prefix}.${name}`;
    return [key, ...allKeys(inner, key)];
  });
}

function shapeAt(path: ConfigPath): Shape {
  let shape = ROOT;
  for (const step of path) {
    shape = shape.properties?.[step] ?? shape.items ?? Object.values(shape.patternProperties ?? {})[0] ?? {};
  }
  return shape;
}

/** A text from outside the file as the type that its key has; what does not fit stays text and is refused as such. */
function valueOfText(shape: Shape, text: string): unknown {
  if (shape.type === 'array') {
    return text.trim() === '' ? [] : text.split(',').map((item) => item.trim());
  }
  const isNumber = shape.type === 'integer' || shape.type === 'number';
  if (isNumber && /^-?\d+(\.\d+)?$/.test(text)) return Number(text);
  const isYesOrNo = shape.type === 'boolean' || shape.enum?.includes(true) === true;
  if (isYesOrNo && (text === 'true' || text === 'false')) return text === 'true';
  return text;
}

function valueAt(value: unknown, path: ConfigPath): unknown {
  let here = value;
  for (const step of path) {
    if (typeof here !== 'object' || here === null || !Object.hasOwn(here, step)) return undefined;
    here = (here as Record<string, unknown>)[step];
  }
  return here;
}

/** Sets a value deep inside; an item of a list that is taken out leaves a hole, so that the others keep their places. */
function setAt(root: Record<string, unknown>, path: ConfigPath, value: unknown): void {
  let here = root;
  for (const step of path.slice(0, -1)) {
    if (!Object.hasOwn(here, step) || here[step] === undefined) here[step] = {};
    here = here[step] as Record<string, unknown>;
  }
  const last = path.at(-1) ?? '';
  if (value === undefined && !Array.isArray(here)) delete here[last];
  else here[last] = value;
}

const isWithin = (path: ConfigPath, around: ConfigPath): boolean => around.every((step, depth) => path[depth] === step);

/** `nodes[0].gpus["0000:0b:00.0"].ignore` */
export function pathText(path: ConfigPath): string {
  return path.reduce((text, step) => {
    if (/^\d+$/.test(step)) return `${text}[${step}]`;
    if (!/^[\w-]+$/.test(step)) return `${text}[${JSON.stringify(step)}]`;
    return text === '' ? step : `${text}.${step}`;
  }, '');
}

const NOT_SHOWN = '(not shown)';
const OPEN_AUTH_KEYS = ['role', 'anonymous', 'kubernetes'];
/** The address of many a webhook is its password. */
const OPEN_NOTIFY_KEYS = ['name', 'format', 'events'];

/**
 * What may be shown of a value: short, without a token that stands where its hash belongs, without the secret that
 * stands where its file does, without a URL's password.
 */
function presentable(path: ConfigPath, value: unknown): unknown {
  if (value === undefined || value === null) return value;
  // A password may be a number.
  if (path[0] === 'credentials') return NOT_SHOWN;
  if (path[0] === 'auth' && !OPEN_AUTH_KEYS.includes(path.at(-1) ?? '')) return NOT_SHOWN;
  if (path[0] === 'notify' && !OPEN_NOTIFY_KEYS.includes(path[2] ?? '')) return NOT_SHOWN;
  if (typeof value === 'number' || typeof value === 'boolean') return value;
  const shown = typeof value === 'string' ? value : inspect(value, { depth: 1, breakLength: Number.POSITIVE_INFINITY });
  const safe = shown.replace(/\/\/[^/@\s]*@/g, '//…@');
  return safe.length > 100 ? `${safe.slice(0, 99)}…` : safe;
}

const plain = (word: string): string => word.toLowerCase().replace(/[^a-z0-9]/g, '');

/**
 * The candidate that a person most likely meant, or `null` when none is near: one that begins so, or one of which at
 * most a third of the letters differ.
 */
export function closest(word: string, candidates: readonly string[]): string | null {
  const target = plain(word).slice(0, 64);
  let best: string | null = null;
  let bestDistance = Math.floor(target.length / 3) + 1;
  for (const candidate of candidates) {
    const isBeginning = target.length >= 3 && plain(candidate).startsWith(target);
    const distance = isBeginning ? 0.5 : editDistance(target, plain(candidate));
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** How many letters to add, drop or change (Levenshtein). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) {
      const change = (row[j] ?? 0) + (b[j] === letter ? 0 : 1);
      next.push(Math.min(change, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
