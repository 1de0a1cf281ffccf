// What a node's sources themselves say against a start there: one that never answered, one too slow to protect, one that
// names more cards than a machine can have. Running workloads are judged by the readings alone.
import { isSilent, tooManyGpus } from './expected-readings.ts';
import type { Finding } from './result.ts';
import { settingsOf } from './settings.ts';
import type { NodeState, SafetyState } from './state.ts';

/** Everything about the sources of a node that refuses a start. */
export function sourceFindings(state: SafetyState, node: NodeState): Finding[] {
  return [...unlearntFindings(node), ...silentSourceFindings(node), ...slowSourceFindings(state, node)];
}

/** Cards beyond the bound are judged by what is read of them, but nobody would miss them: nothing starts beside them. */
function unlearntFindings({ watch }: NodeState): Finding[] {
  const message = tooManyGpus(watch);
  if (message === null) return [];
  return [
    { code: 'reading-missing', level: 'missing', node: watch.node, component: 'gpu', action: 'WAIT_COOLDOWN', message },
  ];
}

/**
 * A source that has never answered may be the one that reads the cards: nobody knows what it would tell, so nothing
 * starts. A tool that is not installed is no such source; signs of a card speak for themselves.
 */
function silentSourceFindings(node: NodeState): Finding[] {
  return [...node.watch.sources.values()].filter(isSilent).flatMap(({ source, failure }) => {
    if (!failure) return [];
    const message = `${source} on ${node.watch.node} has not answered since this service started: ${failure.detail}`;
    return [
      {
        code: 'reading-missing' as const,
        level: 'missing' as const,
        node: node.watch.node,
        component: 'monitor' as const,
        id: source,
        action: 'WAIT_COOLDOWN' as const,
        message,
      },
    ];
  });
}

function slowSourceFindings(state: SafetyState, node: NodeState): Finding[] {
  const { intervalMs } = state.settings;
  const { staleAfterMs } = settingsOf(state.settings, node.watch.node);
  const findings: Finding[] = [];
  for (const source of node.watch.sources.values()) {
    const periodMs = source.updatePeriodMs;
    if (periodMs === null || periodMs + intervalMs <= staleAfterMs) continue;
    findings.push({
      code: 'source-too-slow',
      level: 'refusal',
      node: node.watch.node,
      component: 'monitor',
      id: source.source,
      action: 'WAIT_COOLDOWN',
      message:
        `${source.source} on ${node.watch.node} updates every ${Math.round(periodMs / 1000)} s; with an interval of ` +
        `${intervalMs / 1000} s that exceeds staleAfter (${staleAfterMs / 1000} s). Let it collect every second ` +
        `(dcgm-exporter: -c 1000), or raise that node's staleAfter (60 s at most)`,
    });
  }
  return findings;
}
