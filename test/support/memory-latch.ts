// A latch that keeps prior values in memory, by the rules of stop-latch.ts, and finds no deny rule to arm. For tests of
// the stop itself, which must hold without one.
import type { StopOrder } from '../../src/domain/stop.ts';
import type { ArmState, PriorValue, StopLatch } from '../../src/kubernetes/stop-latch.ts';

export class MemoryLatch implements StopLatch {
  readonly priors = new Map<string, PriorValue>();
  readonly armedFor: StopOrder[] = [];
  /** What arming answers. */
  armState: ArmState = { kind: 'absent' };
  /** Recording that never answers, as a disk that hangs. */
  hangs = false;

  arm(order: StopOrder): Promise<ArmState> {
    this.armedFor.push(order);
    return Promise.resolve(this.armState);
  }

  /** What asking the others brings. */
  onCatchUp: () => Promise<void> = async () => undefined;

  catchUp(): Promise<void> {
    return this.onCatchUp();
  }

  recordPrior(prior: PriorValue): Promise<boolean> {
    const known = this.priors.get(prior.uid);
    const isKnown = (path: readonly string[]): boolean =>
      known?.fields.some((field) => field.path.join() === path.join()) ?? false;
    const added = prior.fields.filter(({ path }) => !isKnown(path));
    this.priors.set(prior.uid, known ? { ...known, fields: [...known.fields, ...added] } : prior);
    return this.hangs ? new Promise(() => undefined) : Promise.resolve(true);
  }

  priorOf(uid: string): PriorValue | undefined {
    return this.priors.get(uid);
  }
}
