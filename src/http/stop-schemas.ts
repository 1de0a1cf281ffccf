// The words of the emergency stop and of drills on a simulated rig, as JSON schemas.
import Type from 'typebox';
import { component, enumOf, InterlockStateSchema, mapOf, orNull, ref, ScopeSchema, timestamp } from './base-schemas.ts';

const StopEntrySchema = component(
  'StopEntry',
  Type.Object({
    actuator: enumOf(['local-processes', 'kubernetes', 'drill']),
    kind: Type.String(),
    name: Type.String(),
    node: Type.Optional(Type.String()),
    leaseId: Type.Optional(Type.String()),
    state: enumOf(['found', 'stopping', 'stopped', 'failed', 'refused', 'would-stop']),
    how: Type.String(),
    prior: Type.Optional(Type.String({ description: 'The value before, where one was changed' })),
    verified: Type.Boolean(),
    tookMs: Type.Number(),
    detail: Type.Optional(Type.String()),
  }),
);

export const StopReportSchema = component(
  'StopReport',
  Type.Object({
    state: enumOf(['stopping', 'verified', 'unverified']),
    actuators: mapOf(Type.Object({ verified: Type.Boolean(), entries: Type.Array(ref(StopEntrySchema)) })),
    stillLoaded: Type.Array(
      Type.Object({
        node: Type.String(),
        gpu: Type.String(),
        atTripW: Type.Number(),
        nowW: orNull(Type.Number({ description: 'null: it cannot be read' })),
      }),
    ),
    unknownNodes: Type.Array(Type.String()),
    startedAt: timestamp('Wall clock'),
    settledAt: orNull(timestamp('When it became verified or unverified')),
  }),
);

const tripFields = {
  tripId: Type.String(),
  scope: ref(ScopeSchema),
  cause: enumOf(['hard-stop', 'blind', 'manual', 'alert', 'corrupt-state', 'broken-invariant']),
  reason: Type.String(),
  by: Type.String(),
  since: timestamp('Wall clock'),
  simulated: Type.Boolean(),
  report: ref(StopReportSchema),
};
export const TripSchema = component('Trip', Type.Object(tripFields));
export const EndedTripSchema = component(
  'EndedTrip',
  Type.Object({ ...tripFields, resetBy: Type.String(), resetReason: Type.String(), resetAt: timestamp('Wall clock') }),
);

export const EstopSchema = component(
  'Estop',
  Type.Object({
    state: InterlockStateSchema,
    tripId: orNull(Type.String({ description: 'The trip of everything, else the oldest' })),
    scope: orNull(ref(ScopeSchema)),
    reason: orNull(Type.String()),
    by: orNull(Type.String()),
    since: orNull(timestamp('Wall clock')),
    report: orNull(ref(StopReportSchema)),
    nodes: mapOf(InterlockStateSchema),
    trips: Type.Array(ref(TripSchema)),
    lastTrip: orNull(ref(EndedTripSchema)),
  }),
);

export const StopAnswerSchema = component(
  'StopAnswer',
  Type.Object({
    tripId: Type.String(),
    joined: Type.Boolean({ description: 'Another trip was active already and covers this one' }),
    recorded: Type.Boolean({ description: 'Already durable; the stop goes on either way' }),
    report: ref(StopReportSchema),
  }),
);

export const DrillAnswerSchema = component(
  'DrillAnswer',
  Type.Object({
    drill: Type.Literal(true),
    orderId: Type.String(),
    scope: ref(ScopeSchema),
    unknownNodes: Type.Array(Type.String()),
    entries: Type.Array(ref(StopEntrySchema)),
  }),
);

export const ResetAnswerSchema = component(
  'ResetAnswer',
  Type.Object({
    tripId: Type.String(),
    epoch: Type.Integer({ description: 'Rises with every reset; nothing older can act' }),
    recorded: Type.Boolean({ description: 'Durable; if not, a restart would be tripped again' }),
  }),
);

export const RestoreStepSchema = component(
  'RestoreStep',
  Type.Object({
    uid: Type.String(),
    object: Type.String({ description: '`deployments.apps gpu/load`' }),
    outcome: enumOf(
      ['would-restore', 'restored', 'kept', 'gone', 'by-controller', 'failed', 'not-reached'],
      '`kept`: it holds another value by now; `gone`: not there, or another one of that name; `by-controller`: the ' +
        'controller above brings it back; `not-reached`: the preflight before it said no',
    ),
    detail: Type.String({ description: 'From what to what, or why not' }),
  }),
);
export const RestoreAnswerSchema = component(
  'RestoreAnswer',
  Type.Object({
    tripId: Type.String(),
    dryRun: Type.Boolean(),
    steps: Type.Array(ref(RestoreStepSchema)),
    otherTrips: mapOf(Type.Integer({ description: 'How many controllers’ values are kept of another stop' })),
  }),
);

export const FaultSchema = component(
  'Fault',
  Type.Object(
    { kind: Type.String() },
    { additionalProperties: true, description: 'Further fields depend on the kind; a refusal names them' },
  ),
);
export const SimulationStateSchema = component(
  'SimulationState',
  Type.Object({
    node: Type.String(),
    load: Type.Number(),
    ambientC: Type.Number(),
    faults: Type.Array(ref(FaultSchema)),
    cpu: Type.Object({ temperatureC: Type.Number(), powerW: Type.Number() }),
    gpus: Type.Array(Type.Object({ id: Type.String(), temperatureC: Type.Number(), powerW: Type.Number() })),
    totalPowerW: Type.Number(),
  }),
);

export const STOP_COMPONENTS = [
  StopEntrySchema,
  StopReportSchema,
  TripSchema,
  EndedTripSchema,
  EstopSchema,
  StopAnswerSchema,
  DrillAnswerSchema,
  ResetAnswerSchema,
  RestoreStepSchema,
  RestoreAnswerSchema,
  FaultSchema,
  SimulationStateSchema,
] as const;
