// The part of a configuration that says who is told of events. As in config-build.ts, every relation that does not hold
// is told, and none of which one side was refused already.
import type { Layers } from './config-layers.ts';
import { listed, NOTIFY_EVENTS, unique } from './config-schema.ts';
import type { ConfiguredNotify } from './config-types.ts';

const ALERTS_PATH = '/api/v2/alerts';
/** Of Alertmanager's form, which tells what stands: the events that something begins to stand with. */
const BEGINNINGS = ['tripped', 'stop-unverified', 'cooling-started'] as const;

export function notifySettings(layers: Layers, warnings: string[]): ConfiguredNotify[] {
  const names = new Set<string>();
  return listed(layers.input.notify).flatMap(([index, input]) => {
    const path = ['notify', `${index}`];
    const { url, format = 'plain', secretFile = null } = input;
    if (url === undefined) {
      if (!layers.isFaulty([...path, 'url'])) layers.report([...path, 'url'], undefined, 'a webhook needs its address');
      return [];
    }
    const events = input.events === undefined ? NOTIFY_EVENTS : unique(input.events);
    const areFaulty = layers.isFaulty([...path, 'events']);
    if (events.length === 0 && !areFaulty) {
      layers.report([...path, 'events'], [], 'must name at least one event; leave it out for all of them');
    } else if (format === 'alertmanager' && !areFaulty && !BEGINNINGS.some((one) => events.includes(one))) {
      const rule = `must name one of ${BEGINNINGS.join(', ')}: ends are told of alerts that were told`;
      layers.report([...path, 'events'], events, rule);
    }
    if (secretFile !== null && format === 'alertmanager') {
      const rule = 'must not be set here: Alertmanager checks no signature. Name its host under credentials';
      layers.report([...path, 'secretFile'], secretFile, rule);
    }
    const name = input.name ?? new URL(url).host.replace(/[^a-z0-9._-]/gi, '-').replace(/^[^a-z0-9]+/i, '');
    if (names.has(name)) {
      const rule = 'another webhook is called so; give each of them a name';
      layers.report([...path, input.name === undefined ? 'url' : 'name'], name, rule);
    }
    names.add(name);
    if (format === 'plain' && secretFile === null && !layers.isFaulty([...path, 'secretFile'])) {
      warnings.push(`notify[${index}] has no secretFile, so that ${name} cannot know whether a notice is ours`);
    }
    return [{ name, url: format === 'alertmanager' ? alertsUrl(url) : url, format, secretFile, events }];
  });
}

/** The address of the API, whether or not the configuration spells it out. */
function alertsUrl(text: string): string {
  const url = new URL(text);
  const path = url.pathname.replace(/\/+$/, '');
  url.pathname = path.endsWith(ALERTS_PATH) ? path : path + ALERTS_PATH;
  return url.href;
}
