// What a stop found and did, object by object, as estop and drill show it.
import type { EstopSchema, StopReportSchema, Told } from '../http/schemas.ts';
import { type Cell, type Colour, type Paint, tableOf } from './layout.ts';

export type Estop = Told<typeof EstopSchema>;
export type StopReport = Told<typeof StopReportSchema>;
export type StopEntry = StopReport['actuators'][string]['entries'][number];

const COLOURS: Partial<Record<StopEntry['state'], Colour>> = {
  stopped: 'green',
  failed: 'red',
  refused: 'red',
  stopping: 'yellow',
  found: 'yellow',
};

/** One line for each object. */
export function entryLines(entries: readonly StopEntry[], paint: Paint): string[] {
  const rows = entries.map(({ state, kind, name, node = '', how, prior, tookMs, detail = '' }): Cell[] => {
    const colour = COLOURS[state];
    const before = prior === undefined ? '' : `was ${prior}`;
    const text = state.replace('-', ' ');
    return [colour ? { text, colour } : text, kind, name, node, how, before, `${(tookMs / 1000).toFixed(1)} s`, detail];
  });
  return tableOf(rows, paint);
}

/** The report of a trip: what was stopped, by whom, and whether that is certain. */
export function reportLines(report: StopReport, paint: Paint): string[] {
  const entries = Object.values(report.actuators).flatMap((actuator) => actuator.entries);
  const waiting = Object.entries(report.actuators).filter(([, { verified }]) => !verified);
  return [
    ...(entries.length === 0 ? ['  Nothing was found that runs.'] : entryLines(entries, paint)),
    ...report.stillLoaded.map(({ node, gpu, atTripW, nowW }) => {
      const now = nowW === null ? 'cannot be read now' : `draws ${Math.round(nowW)} W now`;
      return `  ${paint('still loaded', 'red')}  GPU ${gpu} on ${node} ${now}, ${Math.round(atTripW)} W at the trip`;
    }),
    ...report.unknownNodes.map((node) => `  ${paint('unknown node', 'red')}  ${node}: nothing was stopped there`),
    stateLine(
      report,
      waiting.map(([name]) => name),
      paint,
    ),
  ];
}

function stateLine({ state }: StopReport, waiting: readonly string[], paint: Paint): string {
  switch (state) {
    case 'verified':
      return `  ${paint('verified', 'green')}: nothing is left running`;
    case 'stopping':
      return `  ${paint('stopping', 'yellow')}: not yet verified${waiting.length > 0 ? ` by ${waiting.join(', ')}` : ''}; see "vsf-safety status"`;
    case 'unverified':
      return `  ${paint('NOT VERIFIED', 'red')}: something may still run; look at the machine, or cut its power`;
  }
}
