// What computes on a GPU without a lease is shown, under its number and name; what has a lease is not, and nobody is
// touched.
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { ADA, UUID } from '../fixtures/nvidia-smi-cards.ts';
import { startMachine } from '../support/laid-out-machine.ts';
import { isGroupAlive, startWorkload } from '../support/real-service.ts';
import { driverScript } from '../support/stand-in-nvidia-smi.ts';

// Real processes on a machine that may be busy.
t.setTimeout(120_000);

t.test('GET /status tells GPU processes without a lease, as seen through nvidia-smi', async (t) => {
  const leaseId = randomUUID();
  const leased = startWorkload(t, leaseId).pid ?? 0;
  const stray = startWorkload(t, randomUUID()).pid ?? 0;
  const rows = [leased, stray].map((pid) => `${pid}, ${UUID.first}, 512, /usr/bin/python3`).join('\\n');
  const apps = `case "$1" in --query-compute-apps=*) printf '${rows}\\n'; exit 0 ;; esac\n`;
  const { service, nvidiaSmi, preflight } = await startMachine(t, { nvidiaSmi: apps + driverScript({ cards: [ADA] }) });
  await preflight('one card', (r) => r.status === 200);
  const asked = { id: leaseId, workload: 'train-7', processGroup: { pgid: leased }, ttlSeconds: 300 };
  t.equal((await service.post('/leases', asked)).status, 201);
  const { body } = await service.until(
    'one process without a lease',
    () => service.get('/status'),
    (r) => r.body.unleased.length === 1,
  );
  const gpuProcess = { kind: 'gpu-process', name: `pid ${stray} python3`, gpu: UUID.first, memoryMiB: 512 };
  t.match(body.unleased, [gpuProcess]);
  await nvidiaSmi.become('exit 9');
  await service.until(
    'no list of a driver that fails',
    () => service.get('/status'),
    (r) => r.body.unleased.length === 0,
  );
  t.ok(isGroupAlive(stray), 'only shown');
});
