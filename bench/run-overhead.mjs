// What `vsf-safety run -- true` takes beside `true` itself: with a service that is there, and with one in the same process,
// which has to look at the hardware first.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { below, bench, freshFolder, MAIN, row, takeTurns } from './measure.mjs';
import { startService } from './service.mjs';

async function timed(command, args) {
  const startedMs = performance.now();
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text) => {
    said += text;
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`${args.join(' ')} gave ${code}: ${said}`);
  return performance.now() - startedMs;
}

await bench('run', async ({ pick, say, rows, note }) => {
  const repetitions = pick(21, 9, 5);
  const service = await startService({ config: 'source: simulated' });
  await service.untilSafe();
  const embedded = () => {
    const folder = freshFolder();
    const file = join(folder, 'safety.yaml');
    writeFileSync(file, `source: simulated\nstateDir: ${folder}/state\n`);
    return timed(process.execPath, [MAIN, 'run', '--embedded', '--config', file, '--', 'true']);
  };
  const took = await takeTurns(
    repetitions,
    {
      bare: () => timed('true', []),
      node: () => timed(process.execPath, ['-e', '0']),
      service: () => timed(process.execPath, [MAIN, 'run', '--url', service.url, '--', 'true']),
      embedded,
    },
    say,
  );
  await service.stop();
  const over = (name) => took[name].map((ms, i) => ms - took.bare[i]);
  rows.push(row({ what: 'run -- true with a service, over a bare spawn', unit: 'ms', ours: over('service'), target: below(300, 'ms') }));
  rows.push(row({ what: 'run --embedded -- true, over a bare spawn', unit: 'ms', ours: over('embedded'), target: below(1_000, 'ms') }));
  rows.push(row({ what: 'of these: Node that does nothing, over a bare spawn', unit: 'ms', ours: over('node') }));
  rows.push(row({ what: 'run -- true with a service, beside a Node that does nothing', unit: 'ms', ours: took.service, peer: took.node, peerName: 'node -e 0' }));
  note('The readings are simulated. The first evaluation takes two looks a second apart (docs/operations.md), which an embedded service waits for.');
});
