// What may be done to the simulated rig: load, air, and faults of its sensors, fans and driver. One table says which
// kinds of fault there are, with which fields and ranges; checking, the TypeScript types, the JSON schema and the words
// of a refusal all come from it. A change is taken whole or not at all. What the rig does with it is simulated.ts.
import Type, { type Static, type TLiteral, type TObject, type TProperties, type TSchema } from 'typebox';
import { Errors } from 'typebox/value';
import { unreachable } from '../domain/invariant.ts';
import {
  canonicalGpuUuid,
  type HardwareComponent,
  type MissingCause,
  parseReading,
  type Quantity,
  readingKey,
} from '../domain/reading.ts';

// Descriptions complete the sentence "… must be …", so that a refusal and the API's documentation name the same limit.
const from = (minimum: number, maximum: number, unit = '') =>
  Type.Number({ minimum, maximum, description: `${minimum} to ${maximum}${unit}` });
const over = (exclusiveMinimum: number, maximum: number, unit: string) =>
  Type.Number({ exclusiveMinimum, maximum, description: `over ${exclusiveMinimum} to ${maximum}${unit}` });

const gpu = Type.Union([Type.Integer({ minimum: 0 }), Type.String({ maxLength: 64 })], {
  description: "a GPU's index, from 0, or its id",
});
const sensor = {
  component: Type.Enum(['gpu', 'cpu', 'memory', 'system'], { description: 'gpu, cpu, memory or system' }),
  gpu: Type.Optional(gpu),
  quantity: Type.Enum(['temperature', 'power', 'memory', 'utilization', 'total-power'], {
    description: 'temperature, power, memory, utilization or total-power',
  }),
};

function fault<Kind extends string, Fields extends TProperties>(
  kind: Kind,
  description: string,
  fields: Fields,
): TObject<{ kind: TLiteral<Kind> } & Fields> {
  return Type.Object({ kind: Type.Literal(kind), ...fields }, { additionalProperties: false, description });
}

/**
 * Every kind of fault. Pinned values are told exactly, without noise, so that a drill can stand on either side of a
 * limit; they change what is told and never the physics, so the energy counters go on.
 */
export const FAULT_SCHEMAS = {
  'gpu-temperature': fault('gpu-temperature', 'Pins the temperature of a GPU', { gpu, valueC: over(0, 125, ' °C') }),
  'gpu-power': fault('gpu-power', 'Pins the power of a GPU', { gpu, valueW: over(0, 1500, ' W') }),
  'gpu-memory': fault('gpu-memory', "Pins the used share of a GPU's memory", { gpu, ratio: from(0, 1) }),
  'cpu-temperature': fault('cpu-temperature', 'Pins the temperature of the CPU', { valueC: over(0, 125, ' °C') }),
  'cpu-utilization': fault('cpu-utilization', 'Pins the busy share of the CPU', { ratio: from(0, 1) }),
  memory: fault('memory', 'Pins the used share of the memory', { ratio: from(0, 1) }),
  'total-power': fault('total-power', 'Pins the power of the whole node', { valueW: over(0, 20_000, ' W') }),
  'gpu-lost': fault('gpu-lost', 'The GPU is no longer listed, as after a fall from the bus', { gpu }),
  'reading-invalid': fault('reading-invalid', 'One sensor tells a number that is none', {
    ...sensor,
    value: Type.Union([Type.Number(), Type.Enum(['NaN', 'Infinity', '-Infinity']), Type.Null()], {
      description: 'a number that is physically impossible, "NaN", "Infinity", "-Infinity" or null',
    }),
  }),
  'reading-missing': fault('reading-missing', 'One sensor is listed and cannot be read', sensor),
  frozen: fault('frozen', 'The source repeats its last answer, energy counters included', {}),
  'source-failed': fault('source-failed', 'The source answers with an error', {}),
  'source-hung': fault('source-hung', 'The source does not answer before the deadline', {}),
  'hardware-throttle': fault('hardware-throttle', 'The driver reports that the GPU slows itself down', {
    gpu,
    reason: Type.String({ minLength: 1, maxLength: 100, description: 'a text of 1 to 100 characters' }),
  }),
  'fan-failed': fault('fan-failed', 'The fan of a GPU stands still: its thermal resistance doubles', { gpu }),
} as const;

/** One active fault. Of several on one reading the last in the list wins; a lost GPU stays lost. */
export type Fault = Static<(typeof FAULT_SCHEMAS)[keyof typeof FAULT_SCHEMAS]>;

/** More than any drill needs; bounds what one request can leave behind. */
const MAX_FAULTS = 100;

const setting = {
  load: Type.Optional(from(0, 1)),
  ambientC: Type.Optional(from(0, 50, ' °C')),
};
const faultList = { maxItems: MAX_FAULTS, description: `a list of at most ${MAX_FAULTS} faults` };

/** Body of `POST /simulation`. */
export const SimulationChangeSchema = Type.Object(
  { ...setting, faults: Type.Optional(Type.Array(Type.Union(Object.values(FAULT_SCHEMAS)), faultList)) },
  { additionalProperties: false, description: 'What is left out stays; `faults` replaces all active faults' },
);
const ChangeWithUncheckedFaults = Type.Object(
  { ...setting, faults: Type.Optional(Type.Array(Type.Unknown(), faultList)) },
  { additionalProperties: false },
);

/** `load` 0 to 1 for all GPUs and the CPU; `ambientC` 0 to 50 °C; `faults` replaces the active ones, `[]` clears. */
export interface SimulationChange {
  readonly load?: number;
  readonly ambientC?: number;
  readonly faults?: readonly Fault[];
}

/** What a fault may name on a rig. */
export interface FaultTargets {
  /** Ids by index. */
  readonly gpuIds: readonly string[];
  /** Keys ({@link readingKey}) of all readings that the rig has when nothing is wrong. */
  readonly readingKeys: ReadonlySet<string>;
}

/**
 * A change that can be applied to this rig, or the first thing wrong with it, in words that name deed, value and limit.
 *
 * @example
 * parseSimulationChange({ faults: [{ kind: 'cpu-temperature', valueC: 130 }] }, targets)
 * // { ok: false, problem: 'Cannot apply fault 0 (cpu-temperature): valueC 130 must be over 0 to 125 °C' }
 */
export function parseSimulationChange(
  input: unknown,
  targets: FaultTargets,
): { readonly ok: true; readonly change: SimulationChange } | { readonly ok: false; readonly problem: string } {
  const problem = problemOf(ChangeWithUncheckedFaults, input);
  if (problem !== undefined) return { ok: false, problem: `Cannot change the simulation: ${problem}` };
  const change = input as Static<typeof ChangeWithUncheckedFaults>;
  for (const [index, candidate] of (change.faults ?? []).entries()) {
    const fault = problemOfFault(candidate, targets);
    if (fault !== undefined) return { ok: false, problem: `Cannot apply fault ${index}${fault}` };
  }
  // A copy: the caller keeps its object and may change it later.
  return { ok: true, change: structuredClone(change) as SimulationChange };
}

/** The id of the GPU that a fault names by index or id; `undefined` if the rig has none such. */
export function gpuIdOf(gpu: number | string, gpuIds: readonly string[]): string | undefined {
  return typeof gpu === 'number' ? gpuIds[gpu] : gpuIds.find((id) => id === canonicalGpuUuid(gpu));
}

/** One sensor, and what a fault makes it say instead of the truth. */
export interface FalseReading {
  readonly component: HardwareComponent;
  readonly gpu?: number | string;
  readonly quantity: Quantity;
  readonly says: { readonly value: number } | { readonly value: null; readonly cause: MissingCause };
}

/** The reading that `fault` falsifies; `undefined` for faults of a whole GPU, a fan or the source. */
export function falseReadingOf(fault: Fault): FalseReading | undefined {
  switch (fault.kind) {
    case 'gpu-temperature':
      return { component: 'gpu', gpu: fault.gpu, quantity: 'temperature', says: { value: fault.valueC } };
    case 'gpu-power':
      return { component: 'gpu', gpu: fault.gpu, quantity: 'power', says: { value: fault.valueW } };
    case 'gpu-memory':
      return { component: 'gpu', gpu: fault.gpu, quantity: 'memory', says: { value: fault.ratio } };
    case 'cpu-temperature':
      return { component: 'cpu', quantity: 'temperature', says: { value: fault.valueC } };
    case 'cpu-utilization':
      return { component: 'cpu', quantity: 'utilization', says: { value: fault.ratio } };
    case 'memory':
      return { component: 'memory', quantity: 'memory', says: { value: fault.ratio } };
    case 'total-power':
      return { component: 'system', quantity: 'total-power', says: { value: fault.valueW } };
    case 'reading-invalid':
      // JSON has no NaN; the names are what Number() reads.
      return {
        ...sensorOf(fault),
        says: fault.value === null ? { value: null, cause: 'invalid' } : { value: Number(fault.value) },
      };
    case 'reading-missing':
      return { ...sensorOf(fault), says: { value: null, cause: 'unreadable' } };
    case 'gpu-lost':
    case 'frozen':
    case 'source-failed':
    case 'source-hung':
    case 'hardware-throttle':
    case 'fan-failed':
      return undefined;
    default:
      return unreachable(fault);
  }
}

type SensorFault = Extract<Fault, { kind: 'reading-invalid' | 'reading-missing' }>;

function sensorOf({ component, gpu, quantity }: SensorFault): Omit<FalseReading, 'says'> {
  return { component, ...(gpu === undefined ? {} : { gpu }), quantity };
}

/** What is wrong with one fault, to go after "Cannot apply fault 3". */
function problemOfFault(candidate: unknown, targets: FaultTargets): string | undefined {
  const kind = (candidate as { kind?: unknown } | null)?.kind;
  if (!isKind(kind)) return `: kind ${shown(kind)} must be one of ${Object.keys(FAULT_SCHEMAS).join(', ')}`;
  const problem = problemOf(FAULT_SCHEMAS[kind], candidate) ?? problemOfTarget(candidate as Fault, targets);
  return problem === undefined ? undefined : ` (${kind}): ${problem}`;
}

function isKind(kind: unknown): kind is Fault['kind'] {
  return typeof kind === 'string' && Object.hasOwn(FAULT_SCHEMAS, kind);
}

/** What the schema cannot know: which GPUs and readings this rig has, and which numbers are impossible. */
function problemOfTarget(fault: Fault, { gpuIds, readingKeys }: FaultTargets): string | undefined {
  const gpu = 'gpu' in fault ? fault.gpu : undefined;
  const gpuId = gpu === undefined ? undefined : gpuIdOf(gpu, gpuIds);
  if (gpu !== undefined && gpuId === undefined) {
    return `gpu ${shown(gpu)} must be one of the ${gpuIds.length} GPUs of this rig, by index from 0 or by id`;
  }
  if (fault.kind !== 'reading-invalid' && fault.kind !== 'reading-missing') return undefined;
  const key = readingKey(fault.component, gpuId, fault.quantity);
  if (!readingKeys.has(key)) return `reading ${key} must be one of ${[...readingKeys].join(', ')}`;
  if (fault.kind === 'reading-missing' || typeof fault.value !== 'number') return undefined;
  // A plausible number would be a drill that does not do what it says.
  const isPossible = parseReading(fault.quantity, fault.value).ok;
  return isPossible ? `value ${fault.value} must be ${descriptionOf(FAULT_SCHEMAS[fault.kind], 'value')}` : undefined;
}

/** The first fault that a schema finds, in words. */
function problemOf(schema: TObject, value: unknown): string | undefined {
  const [error] = Errors(schema, value);
  if (!error) return undefined;
  const fields = Object.keys(schema.properties);
  const field = error.keyword === 'required' ? error.params.requiredProperties[0] : error.instancePath.split('/')[1];
  if (field === undefined) return `${shown(value)} must be an object with the fields ${fields.join(', ')}`;
  if (!fields.includes(field)) return `field ${shown(field)} must be one of ${fields.join(', ')}`;
  const told = shown((value as Record<string, unknown>)[field]);
  return `${field} ${told} must be ${descriptionOf(schema, field)}`;
}

function descriptionOf(schema: TObject, field: string): string {
  const { description } = schema.properties[field] as TSchema & { description?: string };
  return description ?? 'as documented';
}

/** A value in a message: short, whatever was sent. */
function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 60));
  if (Array.isArray(value)) return `(a list of ${value.length})`;
  if (typeof value === 'object' && value !== null) return '(an object)';
  return value === undefined ? '(missing)' : String(value);
}
