// The example generator, as it stands, against the simulated rig.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Test } from 'tap';
import t from 'tap';
import { type RealService, ROOT } from '../support/real-service.ts';
import { hot, startRig, until } from './real-rig.ts';

t.setTimeout(300_000);

class Generator {
  readonly child;
  out = '';

  constructor(t: Test, { url }: RealService, seconds: number) {
    const file = join(ROOT, 'examples/node-generator/generator.mjs');
    const env = { ...process.env, VSF_SAFETY_URL: url, NODE_OPTIONS: '' };
    this.child = spawn(process.execPath, [file, String(seconds)], { env, stdio: ['ignore', 'pipe', 'inherit'] });
    this.child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.out += text;
    });
    t.teardown(() => this.child.kill('SIGKILL'));
  }

  says = (what: RegExp): Promise<void> => until(String(what), () => what.test(this.out));

  async ended(): Promise<number | null> {
    if (this.child.exitCode === null) await once(this.child, 'exit');
    return this.child.exitCode;
  }
}

t.test('examples/node-generator runs its time, holding a lease, and gives it back', async (t) => {
  const service = await startRig(t);
  const generator = new Generator(t, service, 3);
  await generator.says(/^running at 0\.8$/m);
  t.match((await service.get('/status')).body.leases, [{ workload: 'example-generator' }]);
  t.equal(await generator.ended(), 0);
  t.same((await service.get('/status')).body.leases, []);
});

t.test('examples/node-generator is warned, and stopped with 76; then refused with 75', async (t) => {
  const service = await startRig(t);
  const generator = new Generator(t, service, 60);
  await generator.says(/^running at/m);
  await service.simulate(hot(82));
  await generator.says(/^warning: WAIT_COOLDOWN .*82 °C/m);
  await service.simulate(hot(86));
  t.equal(await generator.ended(), 76);
  t.match(generator.out, /^critical: .*86 °C, hard stop is 85 °C[\s\S]*^stopped: ABORT$/m);
  const refused = new Generator(t, service, 60);
  t.equal(await refused.ended(), 75);
  t.match(refused.out, /^refused: /m);
});
