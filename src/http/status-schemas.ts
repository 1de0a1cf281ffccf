// What GET /status says, as a schema: the service, the interlock, every node with every reading, and whatever could keep
// it from protecting.
import Type from 'typebox';
import { CONFLICT_CODES } from '../domain/conflicts.ts';
import {
  ConstraintsSchema,
  component,
  enumOf,
  FindingSchema,
  InterlockSchema,
  InterlockStateSchema,
  LeaseSchema,
  mapOf,
  orNull,
  QuantitySchema,
  ref,
  SafetyResultSchema,
  timestamp,
  UnitSchema,
  UnprotectedSchema,
} from './base-schemas.ts';
import { CommissionStatusSchema } from './commission-schemas.ts';
import { HistoryStatusSchema } from './history-schemas.ts';

export const MISSING_CAUSES = [
  'no-sensor',
  'not-supported',
  'invalid',
  'unreadable',
  'source-failed',
  'stale',
  'frozen',
  'implausible-fall',
  'not-yet-seen-to-change',
  'gone',
  'not-yet-read',
] as const;

const ComponentSchema = enumOf(['gpu', 'cpu', 'memory', 'system']);
const seconds = (description: string) => Type.Number({ description, minimum: 0 });

export const ReadingStatusSchema = component(
  'ReadingStatus',
  Type.Object(
    {
      component: ComponentSchema,
      id: Type.Optional(Type.String()),
      quantity: QuantitySchema,
      unit: UnitSchema,
      value: Type.Optional(Type.Number()),
      ageSeconds: Type.Optional(seconds('Since the sample was taken')),
      source: Type.Optional(Type.String()),
      origin: Type.Optional(Type.String({ description: 'Chip, file, field or query, for people' })),
      estimated: Type.Optional(Type.Boolean()),
      informational: Type.Optional(Type.Boolean({ description: 'Shown and never judged' })),
      awaitingSecondSample: Type.Optional(Type.Boolean()),
      limits: Type.Optional(
        Type.Object({
          warning: Type.Optional(Type.Number()),
          hardStop: Type.Optional(Type.Number()),
          max: Type.Optional(Type.Number()),
        }),
      ),
      missing: Type.Optional(enumOf(MISSING_CAUSES)),
      detail: Type.Optional(Type.String()),
      required: Type.Optional(Type.Boolean({ description: 'With `missing`: it keeps workloads from starting' })),
      waived: Type.Optional(Type.Boolean()),
    },
    { description: 'A value with its age and source, or why there is none' },
  ),
);

const OWN_LIMITS = {
  slowdownC: Type.Optional(Type.Number({ description: 'Absolute, at which it slows itself down' })),
  shutdownC: Type.Optional(Type.Number({ description: 'Absolute, at which it turns itself off' })),
  targetC: Type.Optional(Type.Number({ description: 'Which its driver regulates to' })),
  enforcedPowerW: Type.Optional(Type.Number()),
  defaultPowerW: Type.Optional(Type.Number()),
};

const GpuStatusSchema = Type.Object({
  id: Type.String(),
  name: Type.Optional(Type.String()),
  pciAddress: Type.Optional(Type.String()),
  vendor: enumOf(['nvidia', 'amd', 'intel', 'other']),
  required: Type.Boolean(),
  listed: Type.Boolean({ description: 'A source lists it now' }),
  ignored: Type.Boolean({ description: 'Taken out by the configuration' }),
  slowdownC: Type.Optional(Type.Number({ description: 'Its own absolute slowdown temperature' })),
  ownLimits: Type.Optional(
    Type.Object(OWN_LIMITS, { description: 'What the card says of itself; what it does not tell is left out' }),
  ),
  pods: Type.Optional(
    Type.Array(Type.String(), {
      description:
        '`namespace/name` of pods that use it, where an exporter’s labels tell; left out: nobody tells, not idle',
    }),
  ),
});

export const NodeStatusSchema = component(
  'NodeStatus',
  Type.Object({
    node: Type.String(),
    interlock: InterlockStateSchema,
    coolingSeconds: orNull(seconds('Until the cooldown can end')),
    live: Type.Boolean({ description: 'A workload is live here' }),
    profile: enumOf(['default', 'bizon1', 'custom']),
    staleAfterSeconds: seconds('So long a failing source’s last readings count for running workloads'),
    constraints: ref(ConstraintsSchema),
    findings: Type.Array(ref(FindingSchema)),
    readings: Type.Array(ref(ReadingStatusSchema)),
    gpus: Type.Array(GpuStatusSchema),
    unprotected: Type.Array(ref(UnprotectedSchema)),
  }),
);

export const SourceStatusSchema = component(
  'SourceStatus',
  Type.Object({
    node: Type.String(),
    source: Type.String(),
    up: Type.Boolean(),
    lastSuccessAgeSeconds: orNull(seconds('null: it has not answered since the start')),
    failure: orNull(Type.Object({ cause: Type.String(), detail: Type.String(), seconds: seconds('Since it began') })),
    updatePeriodSeconds: orNull(seconds('Observed, where the source is slower than it is read')),
    witnesses: Type.Array(
      Type.Object({
        name: Type.String(),
        gpu: Type.Optional(Type.String({ description: 'Left out: it vouches for the whole source' })),
        changedAgeSeconds: orNull(seconds('Since it was seen to change; null: never, since the start')),
        counts: Type.Boolean({ description: 'false: it stands at 0, or stood still while readings moved' }),
      }),
      { description: 'Counters and clocks that move while the source is alive' },
    ),
    oldestReadingAgeSeconds: orNull(seconds('Age of the oldest sample that counts; null: none counts')),
    scrape: orNull(
      Type.Object(
        {
          url: Type.String(),
          latencySeconds: seconds('From the request to the last byte'),
          bytes: Type.Integer({ description: 'After decompression' }),
          samples: Type.Integer({ description: 'Of series that are read' }),
          rejectedLines: Type.Integer({ description: 'Lines of such series that could not be read, since the start' }),
          clockAheadSeconds: orNull(
            Type.Number({ description: 'Its wall clock against ours; null: it does not tell' }),
          ),
          rejected: Type.Optional(
            Type.Array(Type.String(), { description: 'The first lines of the last scrape; for operators only' }),
          ),
          excerpt: Type.Optional(Type.String({ description: 'How an error began; for operators only' })),
        },
        { description: 'The last scrape, of a source that is asked over the network' },
      ),
    ),
    notes: Type.Array(Type.String()),
  }),
);

export const ConflictSchema = component(
  'Conflict',
  Type.Object(
    {
      code: enumOf(CONFLICT_CODES),
      node: Type.String(),
      component: enumOf(['gpu', 'cpu']),
      id: Type.Optional(Type.String()),
      key: Type.String({ description: 'Of our limit: `gpu.powerW.hardStop`' }),
      limit: Type.Number(),
      hardware: Type.Number({ description: 'What the hardware says of itself' }),
      message: Type.String(),
      remedy: orNull(Type.String({ description: 'What would resolve it; null where it is resolved already' })),
    },
    { description: 'A limit that does not fit what the hardware says of itself' },
  ),
);

export const ClusterStatusSchema = component(
  'ClusterStatus',
  Type.Object(
    {
      server: Type.String(),
      namespace: Type.String({ description: 'Of this service’s own objects' }),
      namespaces: Type.Array(Type.String(), { description: 'Where workloads are; empty: everywhere' }),
      latch: Type.Object({
        known: Type.Boolean({ description: 'ConfigMap vsf-estop has been read since the start' }),
        failure: orNull(Type.String({ description: 'Why it could not be read or written last' })),
      }),
      denyRule: enumOf(['armed', 'disarmed', 'absent', 'unknown']),
      leases: Type.Object({
        known: Type.Boolean({ description: 'ConfigMap vsf-leases has been read since this process leads' }),
        failure: orNull(Type.String({ description: 'Why it could not be written last' })),
      }),
      missingRights: Type.Array(Type.String(), { description: 'A stop needs them: nothing may start without' }),
      missingOptionalRights: Type.Array(Type.String()),
      failingGroups: Type.Array(Type.Object({ groupVersion: Type.String(), detail: Type.String() })),
      priorValues: Type.Integer({ description: 'Controllers whose value before a stop is kept for a restore' }),
      priorTrips: mapOf(Type.Integer({ description: 'Of these, how many a trip’s stop took' })),
    },
    { description: 'The cluster whose workloads this service stops' },
  ),
);

export const StatusSchema = component(
  'Status',
  Type.Object({
    service: Type.Literal('vsf-safety'),
    version: Type.String(),
    instance: Type.String({ description: 'Told apart from other processes and earlier starts' }),
    at: timestamp('Wall clock'),
    uptimeSeconds: seconds('Since this process started'),
    simulated: Type.Boolean(),
    leadership: Type.Object(
      {
        mode: enumOf(['single', 'cluster']),
        leader: Type.Boolean(),
        state: Type.Optional(enumOf(['leader', 'standby', 'unknown'])),
        identity: Type.Optional(Type.String({ description: 'This process among those of its cluster' })),
        holder: Type.Optional(orNull(Type.String({ description: 'Who leads; null: nobody, as far as is known' }))),
        detail: Type.Optional(Type.String({ description: 'Why it is not known' })),
      },
      {
        description: 'Who grants, resets and restores. `single`: no cluster is configured, and this process alone does',
      },
    ),
    interlock: ref(InterlockSchema),
    lastResult: orNull(ref(SafetyResultSchema)),
    evaluation: Type.Object({
      intervalSeconds: Type.Number(),
      fastIntervalSeconds: Type.Number({ description: 'As configured' }),
      effectiveFastIntervalSeconds: Type.Number({
        description: 'Longer where a source would be busy for more than half of the time',
      }),
      lastTickAgeSeconds: orNull(seconds('null: there was none yet')),
      lastTickTookSeconds: orNull(seconds('From the start of the tick to its result')),
      lastEvaluationAgeSeconds: orNull(seconds('Of any kind: tick, fast sampling or question')),
    }),
    constraints: Type.Object({
      digest: Type.String({ description: 'Over every limit in force' }),
      profile: enumOf(['default', 'bizon1', 'custom']),
      limits: ref(ConstraintsSchema),
    }),
    nodes: Type.Array(ref(NodeStatusSchema)),
    unprotected: Type.Array(ref(UnprotectedSchema)),
    conflicts: Type.Array(ref(ConflictSchema)),
    leases: Type.Array(ref(LeaseSchema)),
    unleased: Type.Array(
      Type.Object({
        kind: enumOf(['pod', 'process-group', 'gpu-process']),
        node: Type.Optional(Type.String({ description: 'Left out: a pod that is on no node yet' })),
        name: Type.String({ description: '`namespace/name`, a process group, or `pid 4711 python3`' }),
        gpu: Type.Optional(Type.String({ description: 'Of a GPU process: the UUID of the card' })),
        memoryMiB: Type.Optional(Type.Number({ description: 'Of a GPU process: what it holds of the card' })),
      }),
      { description: 'Workloads that run without a lease; GPU processes are shown and never judged or stopped' },
    ),
    discovery: Type.Object(
      {
        problems: Type.Array(Type.Object({ origin: Type.String(), detail: Type.String() })),
        unread: Type.Array(Type.String(), { description: 'Lists that have not been read once since the start' }),
      },
      { description: 'What is wrong with the lists that nodes and targets are found by' },
    ),
    sources: Type.Array(ref(SourceStatusSchema)),
    actuators: mapOf(Type.Object({ available: Type.Boolean(), detail: Type.String() })),
    cluster: Type.Optional(ref(ClusterStatusSchema)),
    notify: Type.Array(
      Type.Object({
        target: Type.String({ description: 'As the configuration names it' }),
        host: Type.String({ description: 'Of its address, which is not told: its path may be a password' }),
        format: enumOf(['plain', 'alertmanager']),
        ok: Type.Boolean({ description: 'false: the last try failed, and it is tried again' }),
        pending: Type.Integer({ description: 'What waits to be told' }),
        sent: Type.Integer({ description: 'Requests that it took, since the start' }),
        failed: Type.Integer({ description: 'Requests that failed, since the start' }),
        dropped: Type.Integer({ description: 'What it was never told, since the start' }),
        lastSentAt: orNull(timestamp('Wall clock')),
        lastError: orNull(Type.Object({ at: timestamp('Wall clock'), detail: Type.String() })),
      }),
      { description: 'Webhooks that are told of events' },
    ),
    journal: Type.Object({
      ok: Type.Boolean(),
      detail: Type.String(),
      lastError: orNull(Type.Object({ at: timestamp('Wall clock'), detail: Type.String() })),
      sizeBytes: Type.Integer(),
      pending: Type.Integer({ description: 'Handed in and not yet answered by the disk' }),
    }),
    history: ref(HistoryStatusSchema),
    commission: orNull(ref(CommissionStatusSchema)),
    caller: Type.Optional(
      Type.Object(
        { identity: Type.String(), role: enumOf(['viewer', 'workload', 'operator']) },
        { description: 'Who asked, and what that may do' },
      ),
    ),
    security: Type.Optional(
      Type.Object({
        certificate: orNull(
          Type.Object(
            {
              subject: Type.String(),
              notAfter: timestamp('Until then clients accept it'),
              expiresInSeconds: Type.Integer({ description: 'Negative: it has expired' }),
              fingerprint256: Type.String(),
              loadedAt: timestamp('Wall clock'),
              ok: Type.Boolean({ description: 'false: the files have changed and cannot be used; the old one is' }),
              detail: Type.String(),
            },
            { description: 'Of the listener; null: plain HTTP' },
          ),
        ),
        tokens: Type.Object({
          configured: Type.Integer({ description: 'Of auth.tokens' }),
          loadedAt: timestamp('When they changed last'),
          ok: Type.Boolean({ description: 'false: the files have changed and cannot be used; the old tokens hold' }),
          detail: Type.String(),
        }),
        audit: Type.Object({
          ok: Type.Boolean(),
          detail: Type.String(),
          lost: Type.Integer({ description: 'Entries that never reached the disk, since the start' }),
        }),
      }),
    ),
  }),
);

export const STATUS_COMPONENTS = [
  ReadingStatusSchema,
  NodeStatusSchema,
  SourceStatusSchema,
  ConflictSchema,
  ClusterStatusSchema,
  StatusSchema,
] as const;
