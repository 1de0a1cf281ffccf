// One digest over every limit in force: profiles, and cards' own slowdown temperatures. Two processes with the same
// digest judge by the same limits.
import { canonicalText, cardTemperatureC, digestOf } from './constraints.ts';
import { type SafetySettings, settingsOf } from './settings.ts';
import type { SafetyState } from './state.ts';

/** The text of the configured profiles never changes, and a thousand nodes' is long; neither does most often the rest. */
interface Digested {
  readonly profiles: string;
  readonly cards: string;
  readonly digest: string;
}

const digested = new WeakMap<SafetySettings, Digested>();

/** The digest of all limits in force, 16 hex digits. */
export function limitsDigest(state: SafetyState): string {
  const { settings } = state;
  const kept = digested.get(settings);
  const cards = cardLines(state);
  if (kept?.cards === cards) return kept.digest;
  const profiles = kept?.profiles ?? profileLines(settings);
  const digest = digestOf(profiles + cards);
  digested.set(settings, { profiles, cards, digest });
  return digest;
}

function profileLines(settings: SafetySettings): string {
  const lines = [canonicalText(settings.defaults.constraints)];
  for (const name of [...settings.nodes.keys()].sort()) {
    lines.push(`${name}:`, canonicalText(settingsOf(settings, name).constraints));
  }
  return lines.join('\n');
}

/** Cards whose own limit differs from their node's profile, a line each. */
function cardLines({ settings, nodes }: SafetyState): string {
  const byNode: [string, string][] = [];
  for (const [name, { watch }] of nodes) {
    if (watch.slowdownC.size === 0) continue;
    const profile = settingsOf(settings, name).constraints.gpu.temperatureC;
    const lines: [string, string][] = [];
    for (const [gpu, slowdownC] of watch.slowdownC) {
      const own = cardTemperatureC(profile, slowdownC);
      if (own !== profile) lines.push([gpu, `\n${name}/${gpu}=${own.warning}/${own.hardStop}`]);
    }
    if (lines.length > 0) byNode.push([name, joined(lines)]);
  }
  return joined(byNode);
}

/** Texts in the order of their names. */
function joined(named: [string, string][]): string {
  return named
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, text]) => text)
    .join('');
}
