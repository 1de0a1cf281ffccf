// What befalls a world, carried out: each act of a story begins something, and ends it when its time is up.
import { unreachable } from '../../src/domain/invariant.ts';
import type { Chance } from './chance.ts';
import type { Chronicle } from './chronicle.ts';
import type { WorldCluster } from './cluster.ts';
import type { ExporterFault } from './exporters.ts';
import type { House } from './house.ts';
import type { Machine } from './machine.ts';
import type { Operators } from './operators.ts';
import type { Replica } from './replica.ts';
import { type Act, describeAct } from './story.ts';
import type { Timeline } from './timeline.ts';
import type { Workload } from './workloads.ts';

export interface Stage {
  readonly timeline: Timeline;
  readonly chronicle: Chronicle;
  readonly chance: Chance;
  readonly machines: readonly Machine[];
  readonly replicas: readonly Replica[];
  readonly cluster: WorldCluster | null;
  readonly workloads: readonly Workload[];
  readonly operators: Operators;
  readonly house: House;
  readonly rotted: Set<Replica>;
}

/** Begins an act. */
export function perform(act: Act, stage: Stage): void {
  const { timeline, chronicle, chance, cluster, operators, house, rotted } = stage;
  const at = <T>(all: readonly T[], index: number): T => all[index % all.length] as T;
  const { nowMs } = timeline;
  const over = (end: () => void): void => void timeline.after(act.forMs, end);
  chronicle.tell('story', describeAct(act).trim());
  chronicle.count(`act ${act.kind}`);
  switch (act.kind) {
    case 'fan-fails': {
      const machine = at(stage.machines, act.node);
      const { part } = at(machine.cards, act.card);
      machine.change(nowMs, () => part.change(nowMs, { coolerFactor: act.factor }));
      over(() => machine.change(timeline.nowMs, () => part.change(timeline.nowMs, { coolerFactor: 1 })));
      return;
    }
    case 'cpu-cooler-fails': {
      const machine = at(stage.machines, act.node);
      machine.change(nowMs, () => machine.cpu.change(nowMs, { coolerFactor: act.factor }));
      over(() => machine.change(timeline.nowMs, () => machine.cpu.change(timeline.nowMs, { coolerFactor: 1 })));
      return;
    }
    case 'hot-air': {
      const machine = at(stage.machines, act.node);
      const warm = (byC: number): void => {
        for (const part of machine.parts) part.change(timeline.nowMs, { ambientC: part.ambientC + byC });
      };
      machine.change(nowMs, () => warm(act.byC));
      over(() => machine.change(timeline.nowMs, () => warm(-act.byC)));
      return;
    }
    case 'power-surge': {
      const machine = at(stage.machines, act.node);
      const { part } = at(machine.cards, act.card);
      machine.change(nowMs, () => part.change(nowMs, { surgeW: act.byW }));
      over(() => machine.change(timeline.nowMs, () => part.change(timeline.nowMs, { surgeW: 0 })));
      return;
    }
    case 'card-lost': {
      const machine = at(stage.machines, act.node);
      const card = at(machine.cards, act.card);
      machine.change(nowMs, () => {
        card.isLost = true;
      });
      over(() =>
        machine.change(timeline.nowMs, () => {
          card.isLost = false;
        }),
      );
      return;
    }
    case 'exporter': {
      const machine = at(stage.machines, act.node);
      const fault = faultOf(act.fault, machine, stage);
      chronicle.count(`exporter ${act.fault}`);
      at(machine.exporters, act.exporter).fail(fault, act.forMs, nowMs);
      return;
    }
    case 'mad-sample': {
      const machine = at(stage.machines, act.node);
      const card = at(machine.cards, act.card);
      const value = act.quantity === 'power' ? act.by : Math.ceil(card.part.temperatureC(nowMs) + act.by);
      // A jump that stays below its hard stop is a plain reading, and one of less than 40 °C is believed.
      const exporter = machine.exporters.find(({ kind }) => kind !== 'node');
      chronicle.count(`mad sample of a ${act.quantity}`);
      exporter?.madden({ quantity: act.quantity, card: card.index, value });
      return;
    }
    case 'server': {
      const whose = act.replica === undefined ? null : at(stage.replicas, act.replica).name;
      cluster?.fail(act.fault, whose);
      over(() => cluster?.fail(null, whose));
      return;
    }
    case 'node-hangs': {
      const { name } = at(stage.machines, act.node);
      cluster?.standIn.hung.add(name);
      if (act.forMs > 40_000) timeline.after(40_000, () => cluster?.standIn.node(name, 'Unknown'));
      over(() => {
        cluster?.standIn.node(name, 'True');
        cluster?.standIn.wake(name);
      });
      return;
    }
    case 'scaled-back': {
      const { name } = at(stage.workloads, act.node);
      for (const { kind, metadata } of cluster?.standIn.all ?? []) {
        if (kind === 'Deployment' && metadata.name.startsWith(`${name}-`)) {
          chronicle.count('controllers scaled back up');
          cluster?.standIn.rescale('Deployment', metadata.name, { replicas: 2 });
        }
      }
      return;
    }
    case 'disk': {
      const replica = at(stage.replicas, act.replica);
      replica.diskFault = act.fault;
      over(() => {
        replica.diskFault = null;
      });
      return;
    }
    case 'dies': {
      const replica = at(stage.replicas, act.replica);
      replica.restartsAfterMs = Math.min(act.forMs, 60_000);
      replica.diesBy = act.by;
      if (act.inSteps === null) replica.die(act.by);
      else replica.diesInSteps = act.inSteps;
      return;
    }
    case 'rots': {
      const replica = at(stage.replicas, act.replica);
      rotted.add(replica);
      house.rotted(replica);
      replica.die('kill');
      house.rotted(replica);
      replica.rot();
      return;
    }
    case 'stalls':
      at(stage.replicas, act.replica).life?.clock.stall(act.forMs);
      return;
    case 'suspends':
      at(stage.replicas, act.replica).life?.clock.suspend(act.forMs);
      return;
    case 'wall-jumps':
      at(stage.replicas, act.replica).life?.clock.jumpWall(act.byMs);
      return;
    case 'operator-presses': {
      const { life } = at(stage.replicas, act.replica);
      const node = act.node === null ? null : at(stage.machines, act.node).name;
      if (life?.running) operators.press(life, node === null ? null : [node]);
      return;
    }
    case 'operator-resets': {
      const { life } = at(stage.replicas, act.replica);
      if (life?.running) operators.resetNow(life);
      return;
    }
    case 'operator-drills': {
      const { life } = at(stage.replicas, act.replica);
      if (life?.running) operators.drill(life);
      return;
    }
    case 'operator-forgets': {
      const { life } = at(stage.replicas, act.replica);
      if (life?.running) operators.forget(life, at(stage.machines, act.node).name);
      return;
    }
    case 'holder-dies':
      at(stage.workloads, act.node).dieSilently();
      return;
    default:
      unreachable(act);
  }

  function faultOf(name: ExporterFault['kind'], machine: Machine, { machines }: Stage): ExporterFault {
    switch (name) {
      case 'stranger':
        return { kind: name, of: machines.find((other) => other !== machine) ?? machine };
      case 'lie-low':
        return { kind: name, by: chance.whole(15, 35) };
      case 'not-a-number':
        return { kind: name, text: chance.pick(['NaN', '+Inf', '9223372036854775792', '0', '[N/A]', '-273.15']) };
      case 'card-missing':
        return { kind: name, card: chance.whole(0, machine.cards.length - 1) };
      case 'cut':
      case 'cut-quietly':
      case 'empty':
      case 'error':
      case 'freeze':
      case 'hang':
      case 'html':
      case 'refuse':
      case 'slow':
        return { kind: name };
    }
  }
}
