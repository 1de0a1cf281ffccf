// No file descriptor is left: callers open as many connections as the process may have files. Ending a workload takes
// descriptors, since whose process it is stands in /proc, and so does every look at the hardware.
import { readdirSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { fedNode } from '../support/fed-node.ts';
import { dial } from '../support/raw-http.ts';
import { isGroupAlive, STUBBORN, startLeased, startService } from '../support/real-service.ts';

// Real processes on a machine that may be busy.
t.setTimeout(120_000);

/** Open files that the service may have, hard and soft: Node raises the soft one. */
const MOST_FILES = 128;
const CALLERS = 400;
const CARD = 'GPU-aaaaaaaa-0000-4000-8000-00000000000a';
/** A connection that has said so much is at work, and makes no room for others, for the 10 s that a request may take. */
const HALF_A_REQUEST = 'POST /preflight HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{';

t.test('serve with more callers than descriptors still looks, and still stops workloads', async (t) => {
  const node = await fedNode(t, CARD);
  const nodes = `nodes: [ { name: gpu-1, endpoints: [ "${node.exporter.url}" ], expectGpus: 1 } ]`;
  const config = `source: exporters\ninterval: 1s\nfastInterval: 1s\n${nodes}\n`;
  const wrap = ['sh', '-c', `ulimit -n ${MOST_FILES} && exec "$@"`, 'sh'];
  const service = await startService(t, { config, args: [], wrap });
  const { pgid } = await startLeased(t, service, STUBBORN);
  const port = Number(new URL(service.url).port);
  /** They read, and so see it when they are cut off. */
  const crowd = (): Promise<Socket[]> =>
    Promise.all(Array.from({ length: CALLERS }, async () => (await dial(t, port)).resume()));
  const until = async (what: string, holds: () => boolean): Promise<void> => {
    const endMs = performance.now() + 15_000;
    while (!holds()) {
      if (performance.now() > endMs) throw new Error(`${what}: not within 15 s\n${service.output.join('')}`);
      await sleep(50);
    }
  };

  const callers = await crowd();
  for (const socket of callers) socket.write(HALF_A_REQUEST);
  await until('callers are turned away', () => callers.filter((c) => c.destroyed).length > CALLERS - MOST_FILES);
  const open = readdirSync(`/proc/${service.child.pid}/fd`).length;
  t.ok(open > MOST_FILES / 2 && open < MOST_FILES, `${open} files are open: all that callers may have, and not all`);
  node.celsius = 86;
  await until('a dead workload', () => !isGroupAlive(pgid));
  t.ok(
    callers.some((c) => !c.destroyed),
    'while callers hold what they have',
  );

  for (const socket of callers) socket.destroy();
  await crowd();
  const { body } = await service.get('/estop');
  t.match(body, { state: 'tripped', reason: /86/ }, 'idle callers make room for whoever comes');
  // The group is gone before the service has looked whether it is.
  const verified = await service.until(
    'a report that it is gone',
    () => service.get('/estop'),
    (answer) => answer.body.report.actuators['local-processes']?.verified === true,
  );
  const { entries } = verified.body.report.actuators['local-processes'];
  t.match(entries, [{ state: 'stopped', how: /SIGKILL/ }]);
});
