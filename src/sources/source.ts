// The shape of every source of readings. A source never throws and never blocks: whatever happens to the driver, file
// or exporter behind it comes back as a report, before the deadline that it is given.
import type { SourceReport } from '../domain/reading.ts';

/** One way to read one node. */
export interface Source {
  /** Stable and unique within its node, as in the reports. */
  readonly id: string;
  readonly node: string;
  /** Carries temperature or power: worth asking every 2 s when something is hot. */
  readonly carriesHeat: boolean;
  /**
   * Reads everything once. Resolves at the latest when `deadlineMs` (monotonic) is reached, with a report of kind
   * `failed` if nothing was had by then. A call while another is under way joins it: at most one look per source.
   */
  read(deadlineMs: number): Promise<SourceReport>;
  /** Lets go of children, sockets and files. Never waits for a child that does not die. */
  close(): Promise<void>;
}
