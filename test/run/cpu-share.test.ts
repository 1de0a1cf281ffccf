import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { prepareCpuShare } from '../../src/run/cpu-share.ts';
import { tempDir } from '../support/temp-dir.ts';

/** What the kernel shows of a cgroup, as plain files; what it does with them only a kernel can show. */
async function cgroup(
  t: Test,
  controllers: string,
  procs: string,
): Promise<{ root: string; membership: string; cpus: number }> {
  const root = await tempDir(t);
  const own = join(root, 'user.slice/run.scope');
  mkdirSync(own, { recursive: true });
  writeFileSync(join(own, 'cgroup.controllers'), controllers);
  writeFileSync(join(own, 'cgroup.procs'), procs);
  writeFileSync(join(root, 'membership'), '0::/user.slice/run.scope\n');
  return { root, membership: join(root, 'membership'), cpus: 8 };
}

t.test('prepareCpuShare() makes a cgroup inside its own and limits by its CPUs', async (t) => {
  const place = await cgroup(t, 'cpuset cpu memory', `${process.pid}\n`);
  const made = await prepareCpuShare('7', place);
  if (!made.ok) throw new Error(made.detail);
  const own = join(place.root, 'user.slice/run.scope');
  t.equal(made.share.folder, join(own, 'workload-7'));
  t.equal(readFileSync(join(own, 'cgroup.subtree_control'), 'utf8'), '+cpu');
  t.equal(readFileSync(join(own, 'vsf-safety/cgroup.procs'), 'utf8'), String(process.pid));
  t.equal(await made.share.adopt(4711), null);
  t.equal(await made.share.limit(0.3), null);
  t.equal(readFileSync(join(made.share.folder, 'cpu.max'), 'utf8'), '240000 100000');
  await made.share.limit(null);
  t.equal(readFileSync(join(made.share.folder, 'cpu.max'), 'utf8'), 'max 100000');
});

t.test('prepareCpuShare() touches nothing in a cgroup that is not its own, and says why', async (t) => {
  const shared = await cgroup(t, 'cpu', `1\n${process.pid}\n`);
  t.match(await prepareCpuShare('7', shared), { ok: false, detail: /shared with 1 other processes; .*Delegate=yes/ });
  t.notOk(existsSync(join(shared.root, 'user.slice/run.scope/vsf-safety')));
  t.match(await prepareCpuShare('7', await cgroup(t, 'memory pids', '')), { ok: false, detail: /no cpu controller/ });
  const old = { ...shared, membership: join(shared.root, 'v1') };
  writeFileSync(old.membership, '1:cpu:/\n');
  t.match(await prepareCpuShare('7', old), { ok: false, detail: 'this system has no cgroup v2' });
});
