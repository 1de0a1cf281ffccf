// What the service says, by the service's own types: a field that it renames does not compile here. Types alone; nothing
// of the service's code comes into the page.

import type { WorstMargin } from '../domain/evaluate.ts';
import type { EventData } from '../domain/events.ts';
import type { InterlockView, SafetyResult } from '../domain/result.ts';
import type { DrillAnswerSchema, EstopSchema, StopReportSchema, Told } from '../http/schemas.ts';

export type { NodeStatus, ReadingStatus, Status } from '../http/status-view.ts';
export type { EventData, SafetyResult, WorstMargin };
export type Estop = Told<typeof EstopSchema>;
export type Trip = Estop['trips'][number];
export type StopReport = Told<typeof StopReportSchema>;
export type StopEntry = StopReport['actuators'][string]['entries'][number];
export type DrillAnswer = Told<typeof DrillAnswerSchema>;
export type Evaluation = SafetyResult & { readonly worstMargins: readonly WorstMargin[] };

interface Envelope {
  readonly instance: string;
  readonly sequence: number;
  /** Wall clock of the service. */
  readonly at: string;
}
export type Message = Envelope &
  (
    | { readonly type: 'hello'; readonly data: { readonly gap: boolean; readonly interlock: InterlockView } }
    | { readonly type: 'evaluation'; readonly data: Evaluation }
    | { readonly type: 'event'; readonly data: EventData }
  );

/** Problem details, as far as the page reads them. */
export interface Problem {
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: string;
  readonly still?: readonly string[];
}

/** What a status says of the history; services that keep none do not have it. */
export interface WithHistory {
  readonly history?: { readonly state: 'off' | 'ok' | 'failing'; readonly detail: string };
}

/** GET /history of one node, as far as the page reads it: columns over one time axis, `null` where there is nothing. */
export interface History {
  readonly from: string;
  readonly to: string;
  readonly stepSeconds: number;
  readonly store: { readonly state: 'ok' | 'failing'; readonly detail: string };
  /** Epoch ms, ascending. */
  readonly at: readonly number[];
  readonly series: readonly HistorySeries[];
  readonly spans: readonly HistorySpan[];
  readonly events: readonly HistoryEvent[];
}
export interface HistorySeries {
  readonly node: string;
  readonly component: 'gpu' | 'cpu' | 'memory' | 'system';
  readonly id?: string;
  readonly quantity: string;
  readonly max: readonly (number | null)[];
}
export interface HistorySpan {
  readonly state: 'tripped' | 'cooling';
  /** `null`: everything. */
  readonly node: string | null;
  readonly tripId?: string;
  readonly from: number;
  readonly to: number | null;
}
export type HistoryEvent = Pick<EventData, 'message' | 'node' | 'by'> & { readonly name: string; readonly at: string };
