// From a Config to what tells webhooks of events.
import type { Clock } from './clock.ts';
import type { Config } from './config.ts';
import { createNotifier, type Notifier } from './notify/notifier.ts';
import { createCredentials } from './sources/credentials.ts';
import type { Log, Supervisor } from './supervisor.ts';

/** Listens from now on. */
export function openNotifier(config: Config, supervisor: Supervisor, clock: Clock, log: Log): Notifier {
  const notifier = createNotifier({
    clock,
    targets: config.notify,
    credentials: config.credentials.length > 0 ? createCredentials({ clock, settings: config.credentials }) : null,
    state: () => supervisor.state,
    log,
  });
  supervisor.subscribe(notifier.tell);
  return notifier;
}
