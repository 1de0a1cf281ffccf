import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { isAbsent, parseInteger, Sysfs } from '../../src/sources/sysfs.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { FAILS_WITH_EINVAL, FAILS_WITH_EIO, layOut, NEVER_ANSWERS, untilTrue } from '../support/sysfs-tree.ts';

const SENSOR = '/sys/class/hwmon/hwmon0/temp1_input';
const NEIGHBOUR = '/sys/class/hwmon/hwmon0/temp2_input';
const OTHER_CHIP = '/sys/class/hwmon/hwmon1/temp1_input';

t.test('parseInteger() takes decimal digits with a sign and nothing else', async (t) => {
  for (const [text, value] of [
    ['0', 0],
    ['55000', 55000],
    ['-273150', -273150],
    ['+7', 7],
    ['0012', 12],
    ['4294948300', 4294948300],
  ] as const) {
    t.equal(parseInteger(text), value, text);
  }
  for (const text of ['', ' ', '0x1F', '1e5', '55.0', '1_000', 'NaN', '-', '55000 C', '99,9', '9'.repeat(21), '٣']) {
    t.equal(parseInteger(text), null, JSON.stringify(text));
  }
});

t.test('Sysfs.readText() gives the text without surrounding blanks', async (t) => {
  const { root } = await layOut(t, { [SENSOR]: '55000\n' });
  const sysfs = new Sysfs({ clock: systemClock, root });
  t.strictSame(await sysfs.readText(SENSOR), { ok: true, value: '55000' });
});

t.test('Sysfs.readText() gives each failure as a value with its reason', async (t) => {
  const { root } = await layOut(t, {
    '/sys/empty': '',
    '/sys/blank': ' \n',
    '/sys/directory': { is: 'directory' },
    '/sys/eio': FAILS_WITH_EIO,
    '/sys/einval': FAILS_WITH_EINVAL,
    '/sys/loop': { linkTo: 'loop' },
    '/sys/page': 'x'.repeat(4096),
    '/sys/over-a-page': 'x'.repeat(4097),
  });
  const sysfs = new Sysfs({ clock: systemClock, root });
  for (const [name, code] of [
    ['absent', 'ENOENT'],
    ['empty', 'empty'],
    ['blank', 'empty'],
    ['directory', 'EISDIR'],
    ['eio', 'EIO'],
    ['einval', 'EINVAL'],
    ['loop', 'ELOOP'],
    ['over-a-page', 'too-large'],
  ] as const) {
    const answer = await sysfs.readText(`/sys/${name}`);
    t.match(answer, { ok: false, code, detail: new RegExp(`^Cannot read /sys/${name}: `) }, name);
    t.equal(!answer.ok && isAbsent(answer), name === 'absent', `${name} is ${name === 'absent' ? '' : 'not '}absent`);
  }
  t.equal((await sysfs.readText('/sys/page')).ok, true, 'a full page is no overflow');
  t.equal((await sysfs.readText('/sys/over-a-page', 5000)).ok, true, 'nor what the caller allows');
});

t.test('Sysfs.readInteger() refuses what Number() would take for 0', async (t) => {
  const { root } = await layOut(t, { '/sys/good': '-256000\n', '/sys/empty': '\n', '/sys/hex': '0x10\n' });
  const sysfs = new Sysfs({ clock: systemClock, root });
  t.strictSame(await sysfs.readInteger('/sys/good'), { ok: true, value: -256000 });
  t.match(await sysfs.readInteger('/sys/empty'), { ok: false, code: 'empty' });
  t.match(await sysfs.readInteger('/sys/hex'), { ok: false, code: 'not-a-number', detail: /"0x10"/ });
});

t.test('Sysfs.list() orders numbers as people do, and says what it cannot list', async (t) => {
  const { root } = await layOut(t, { '/sys/c/hwmon10/name': 'a', '/sys/c/hwmon2/name': 'b', '/sys/file': 'c' });
  const sysfs = new Sysfs({ clock: systemClock, root });
  t.strictSame(await sysfs.list('/sys/c'), { ok: true, value: ['hwmon2', 'hwmon10'] });
  t.match(await sysfs.list('/sys/none'), { ok: false, code: 'ENOENT', detail: /^Cannot list/ });
  t.match(await sysfs.list('/sys/file'), { ok: false, code: 'ENOTDIR' });
});

t.test('Sysfs.resolve() follows a link of /sys/class to its device', async (t) => {
  const { root } = await layOut(t, {
    '/sys/devices/platform/coretemp.0/name': 'coretemp',
    '/sys/class/hwmon/hwmon3': { linkTo: '../../devices/platform/coretemp.0' },
  });
  const sysfs = new Sysfs({ clock: systemClock, root });
  const target = await sysfs.resolve('/sys/class/hwmon/hwmon3');
  t.strictSame(target, { ok: true, value: '/sys/devices/platform/coretemp.0' });
  t.match(await sysfs.resolve('/sys/class/hwmon/hwmon4'), { ok: false, code: 'ENOENT' });
});

t.test('Sysfs gives a read up at its time limit, and asks that driver nothing more while it hangs', async (t) => {
  const tree = await layOut(t, { [SENSOR]: NEVER_ANSWERS, [NEIGHBOUR]: '50000\n', [OTHER_CHIP]: '60000\n' });
  const clock = new ManualClock();
  const sysfs = new Sysfs({ clock, root: tree.root, readTimeoutMs: 1000 });

  const first = sysfs.readText(SENSOR);
  await clock.advance(999);
  t.equal(await Promise.race([first, Promise.resolve('waiting')]), 'waiting', 'not given up before the limit');
  await clock.advance(1);
  t.match(await first, { ok: false, code: 'hung', detail: /no answer within 1000 ms/ });

  await clock.advance(5000);
  t.match(await sysfs.readText(SENSOR), { ok: false, code: 'hung', detail: /not answered for 6 s/ }, 'without a wait');
  t.match(await sysfs.readText(NEIGHBOUR), { ok: false, code: 'hung' }, 'nor its neighbour, which is the same driver');
  t.match(await sysfs.list('/sys/class/hwmon/hwmon0'), { ok: false, code: 'hung' });
  t.match(await sysfs.readText(OTHER_CHIP), { ok: true, value: '60000' }, 'another driver is still read');

  await tree.put(SENSOR, '51000\n');
  await untilTrue(async () => (await sysfs.readText(SENSOR)).ok);
  t.match(await sysfs.readText(SENSOR), { ok: true, value: '51000' }, 'read again once the kernel has let go');
  t.match(await sysfs.readText(NEIGHBOUR), { ok: true, value: '50000' });
});

t.test('Sysfs opens nothing further while two reads hang: the rest of the thread pool is for others', async (t) => {
  const tree = await layOut(t, {
    [SENSOR]: NEVER_ANSWERS,
    [OTHER_CHIP]: NEVER_ANSWERS,
    '/proc/stat': 'cpu0 1 2 3 4\n',
  });
  const clock = new ManualClock();
  const sysfs = new Sysfs({ clock, root: tree.root });
  const hung = Promise.all([sysfs.readText(SENSOR), sysfs.readText(OTHER_CHIP)]);
  await clock.advance(2000);
  t.match(await hung, [{ code: 'hung' }, { code: 'hung' }]);
  t.match(await sysfs.readText('/proc/stat'), { ok: false, code: 'hung', detail: /^\/proc\/stat not opened/ });

  await tree.release(OTHER_CHIP);
  await untilTrue(async () => (await sysfs.readText('/proc/stat')).ok);
  t.match(await sysfs.readText('/proc/stat'), { ok: true }, 'opened again once one of them came back');
});

t.test('Sysfs knows of a hung read that another one waits for, below the same root', async (t) => {
  const tree = await layOut(t, { [SENSOR]: NEVER_ANSWERS });
  const other = await layOut(t, { [SENSOR]: '50000\n' });
  const clock = new ManualClock();
  const hung = new Sysfs({ clock, root: tree.root }).readText(SENSOR);
  await clock.advance(1000);
  t.match(await hung, { code: 'hung' });
  t.match(await new Sysfs({ clock, root: tree.root }).readText(SENSOR), { code: 'hung', detail: /not opened/ });
  t.match(await new Sysfs({ clock, root: other.root }).readText(SENSOR), { ok: true });
});

t.test('Sysfs in /proc takes a hung file for that file only', async (t) => {
  const tree = await layOut(t, { '/proc/meminfo': NEVER_ANSWERS, '/proc/stat': 'cpu0 1 2 3 4\n' });
  const clock = new ManualClock();
  const sysfs = new Sysfs({ clock, root: tree.root });
  const hung = sysfs.readText('/proc/meminfo');
  await clock.advance(1000);
  t.match(await hung, { code: 'hung' });
  t.match(await sysfs.readText('/proc/stat'), { ok: true });
});
