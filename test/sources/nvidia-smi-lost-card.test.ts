// One card of several is lost: the others must still be read, and nobody may think that it never was there.
import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { ADA, ADA_IDLE, ADA_THIRD, UUID } from '../fixtures/nvidia-smi-cards.ts';
import { LOST_AT_41, TEMPERATURE_LIMITS } from '../fixtures/nvidia-smi-texts.ts';
import { driverScript, says, smiSource, told } from '../support/stand-in-nvidia-smi.ts';
import type { TreeTable } from '../support/sysfs-tree.ts';

const nowMs = (): number => systemClock.now().elapsedMs;
const LOST = LOST_AT_41[1] ?? '';

const ADA_READINGS = { temperature: 71, power: 241.37, memory: 0.25 };
const ADA_THIRD_READINGS = { temperature: 44, power: 21.05, memory: 0 };
const UNREADABLE = { temperature: 'unreadable', power: 'unreadable', memory: 'unreadable' };

t.test('NvidiaSmi.read() reads the others where one card is lost among the rows, whatever the status', async (t) => {
  for (const status of [0, 15]) {
    const { look } = await smiSource(
      t,
      `(${driverScript({ cards: [ADA, ADA_THIRD] })})\n${says({ stdout: `${LOST}\n`, status })}`,
    );
    const report = await look();
    t.strictSame(told(report), {
      '0000:41:00.0': UNREADABLE,
      [UUID.first]: ADA_READINGS,
      [UUID.third]: ADA_THIRD_READINGS,
    });
    t.match(
      report.gpus.find(({ id }) => id === '0000:41:00.0'),
      { pciAddress: '0000:41:00.0', vendor: 'nvidia', required: true },
    );
    const lost = report.readings.find(({ id }) => id === '0000:41:00.0');
    t.match(lost?.origin, /^Unable to determine the device handle .* GPU is lost\. Reboot/, 'the reason is its text');
    t.match(report.gpuSigns, [{ kind: 'nvidia-smi-failed', detail: /GPU is lost/ }]);
  }
});

t.test('NvidiaSmi.read() asks for the others one by one where a lost card takes the place of all rows', async (t) => {
  const cards = [ADA, ADA_IDLE, ADA_THIRD];
  const { look, program } = await smiSource(t, driverScript({ cards, temperatureLimits: TEMPERATURE_LIMITS }));
  await look();
  await program.become(driverScript({ cards, all: { stdout: `${LOST}\n`, status: 15 } }));
  const report = await look();
  t.match(report.outcome, { kind: 'answered' });
  t.strictSame(told(report), {
    [UUID.first]: ADA_READINGS,
    [UUID.second]: UNREADABLE,
    [UUID.third]: ADA_THIRD_READINGS,
  });
  const calls = await program.calls();
  t.strictSame(
    calls.slice(-3).map((call) => call.split(' ').slice(0, 2).join(' ')),
    [calls[0]?.split(' ').join(' '), `-i ${UUID.first}`, `-i ${UUID.third}`],
    'the lost one, known by its place, is not asked',
  );
  t.equal(report.hardwareLimits.find(({ id }) => id === UUID.first)?.slowdownC, 95, 'its limits are remembered');
});

t.test('NvidiaSmi.read() calls the others unreadable where they cannot be had one by one either', async (t) => {
  const cards = [ADA, ADA_IDLE];
  const lost = { stdout: `${LOST}\n`, status: 15 };
  const { look, program } = await smiSource(t, driverScript({ cards }));
  await look();
  await program.become(driverScript({ cards, all: lost, one: { [UUID.first]: lost } }));
  const report = await look();
  t.strictSame(told(report), { [UUID.first]: UNREADABLE, [UUID.second]: UNREADABLE });
  t.strictSame(told(await look()), { [UUID.first]: UNREADABLE, [UUID.second]: UNREADABLE }, 'and does not forget them');
});

t.test('NvidiaSmi.read() checks the status of a single card’s answer, too', async (t) => {
  const cards = [ADA, ADA_IDLE];
  const { look, program } = await smiSource(t, driverScript({ cards }));
  await look();
  const all = { stdout: `${LOST}\n`, status: 15 };
  await program.become(
    `case "$1" in -i) (${driverScript({ cards })}); exit 18 ;; esac\n${driverScript({ cards, all })}`,
  );
  t.strictSame(told(await look()), { [UUID.first]: UNREADABLE, [UUID.second]: UNREADABLE });
});

t.test('NvidiaSmi.read() finds out which card is lost where the tool names none', async (t) => {
  const { look, program } = await smiSource(t, driverScript({ cards: [ADA, ADA_IDLE] }));
  await look();
  const text = 'Unable to determine the device handle for GPU1: Unknown Error';
  await program.become(`(${driverScript({ cards: [ADA] })})\n${says({ stdout: '', stderr: text, status: 0 })}`);
  const report = await look();
  t.strictSame(told(report), { [UUID.first]: ADA_READINGS, [UUID.second]: UNREADABLE });
  t.match(report.readings.find(({ id }) => id === UUID.second)?.origin, /GPU1: Unknown Error/);
});

t.test('NvidiaSmi.read() knows the others from the driver’s own list when a card is dead from the start', async (t) => {
  const tree: TreeTable = {
    '/proc/driver/nvidia/gpus/0000:0b:00.0/information': 'Model: example\n',
    '/proc/driver/nvidia/gpus/0000:41:00.0/information': 'Model: example\n',
    '/proc/driver/nvidia/gpus/0000:81:00.0/information': 'Model: example\n',
  };
  const lost = { stdout: `${LOST}\n`, status: 15 };
  const { look } = await smiSource(
    t,
    driverScript({ cards: [ADA, ADA_THIRD], all: lost, one: { '0000:81:00.0': lost } }),
    {
      tree,
    },
  );
  const report = await look();
  t.strictSame(told(report), { [UUID.first]: ADA_READINGS, '0000:41:00.0': UNREADABLE, '0000:81:00.0': UNREADABLE });
  t.equal(report.gpus.length, 3, 'a card that is read goes by its UUID alone');
});

t.test('NvidiaSmi.read() shares the time among the cards that it asks one by one', async (t) => {
  const cards = [ADA, ADA_IDLE, ADA_THIRD];
  const { look, program } = await smiSource(t, driverScript({ cards, temperatureLimits: TEMPERATURE_LIMITS }));
  await look();
  const script = driverScript({ cards, all: { stdout: `${LOST}\n`, status: 15 } });
  await program.become(`case "$*" in "-i ${UUID.first}"*) exec sleep 60 ;; esac\n${script}`);
  const startMs = nowMs();
  const report = await look(3000);
  t.ok(nowMs() - startMs < 3500);
  t.strictSame(told(report), {
    [UUID.first]: UNREADABLE,
    [UUID.second]: UNREADABLE,
    [UUID.third]: ADA_THIRD_READINGS,
  });
  t.match(report.readings.find(({ id }) => id === UUID.first)?.origin, /did not answer within 1\d\d\d ms/);
});
