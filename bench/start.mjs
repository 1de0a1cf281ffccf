// From the command to a port that listens, to the first evaluation (which takes two looks a second apart), and the memory
// of a service at rest that watches this machine. Each time over an empty state folder, as at a first start.
import { setTimeout as sleep } from 'node:timers/promises';
import { below, bench, row, rssMiBOf, takeTurns } from './measure.mjs';
import { startService } from './service.mjs';

await bench('start', async ({ pick, say, rows, note }) => {
  const [repetitions, restSeconds] = pick([11, 30], [5, 20], [3, 1]);
  const found = await takeTurns(
    repetitions,
    {
      start: async () => {
        const service = await startService();
        await service.untilEvaluated();
        const evaluatedMs = performance.now() - service.startedMs;
        await sleep(restSeconds * 1_000);
        const rssMiB = rssMiBOf(service.pid);
        await service.stop();
        return { listening: service.listeningAfterMs, evaluated: evaluatedMs, rssMiB };
      },
    },
    say,
  );
  const list = (name) => found.start.map((one) => one[name]);
  rows.push(row({ what: 'cold start to listening', unit: 'ms', ours: list('listening'), target: below(1_000, 'ms') }));
  rows.push(row({ what: 'cold start to the first evaluation', unit: 'ms', ours: list('evaluated'), target: below(2_500, 'ms') }));
  rows.push(row({ what: `memory ${restSeconds} s later`, unit: 'MiB', ours: list('rssMiB'), target: below(120, 'MiB') }));
  note('Watching this machine (`source: local`) with what sensors it has. Files are in the page cache, the state folder is new.');
});
