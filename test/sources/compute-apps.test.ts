import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { ComputeApps, parseComputeApps } from '../../src/sources/compute-apps.ts';
import { standIn } from '../support/stand-in-command.ts';

const GPU = 'GPU-7b1f0000-0000-4000-8000-000000000001';
const later = (ms: number): number => systemClock.now().elapsedMs + ms;

t.test('parseComputeApps() takes rows and passes over everything else', async (t) => {
  const rows = [
    `4711, ${GPU}, 1024, /usr/bin/python3`,
    `4712, ${GPU}, [N/A], /opt/a, b/train me`,
    `4713, ${GPU}, 8, [Insufficient Permissions]`,
    `4714, ${GPU}, 8, C:\\tools\\blender.exe`,
    `4715, ${GPU}, 8, /tmp/\u001b[2Jevil\u202e`,
    `4716, ${GPU}, 8`,
    'No running processes found',
    `x, ${GPU}, 8, name`,
    '4717, 0, 8, name',
    '',
  ];
  const app = { gpu: GPU, memoryMiB: 8 };
  t.same(parseComputeApps(rows.join('\r\n')), [
    { pid: 4711, gpu: GPU, memoryMiB: 1024, program: 'python3' },
    { pid: 4712, gpu: GPU, memoryMiB: null, program: 'train me' },
    { ...app, pid: 4713, program: '' },
    { ...app, pid: 4714, program: 'blender.exe' },
    { ...app, pid: 4715, program: '?[2Jevil?' },
    { ...app, pid: 4716, program: '' },
  ]);
  t.equal(parseComputeApps(`${rows[0]}\n`.repeat(1000)).length, 256);
});

t.test('read() asks the tool once, and has no list where that fails, hangs or is not there', async (t) => {
  const tool = await standIn(t, 'nvidia-smi', `echo '4711, ${GPU}, 1024, python3'`);
  const apps = new ComputeApps({ clock: systemClock, env: tool.env });
  t.match(await apps.read(later(5000)), [{ pid: 4711 }]);
  t.same(await tool.calls(), [
    '--query-compute-apps=pid,gpu_uuid,used_memory,process_name --format=csv,noheader,nounits',
  ]);
  await tool.become(`echo '4711, ${GPU}, 1024, python3'; exit 9`);
  t.same(await apps.read(later(5000)), []);
  await tool.become('sleep 60');
  const startedMs = systemClock.now().elapsedMs;
  t.same(await apps.read(later(1000)), []);
  t.ok(systemClock.now().elapsedMs - startedMs < 1500, 'by its deadline');
  apps.close();
  t.same(await apps.read(later(1000)), [], 'closed');
  const nowhere = new ComputeApps({ clock: systemClock, env: { PATH: '/nonexistent' } });
  t.same(await nowhere.read(later(1000)), []);
});
