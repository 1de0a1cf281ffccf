import t, { type Test } from 'tap';
import { type PciDisplays, readPciDisplays } from '../../src/sources/pci-display.ts';
import { Sysfs } from '../../src/sources/sysfs.ts';
import { NAVI_CARD, NVIDIA_SERVER, pci, RYZEN_GRAPHICS } from '../fixtures/sysfs-pci.ts';
import { ManualClock } from '../support/manual-clock.ts';
import {
  FAILS_WITH_EIO,
  layOut,
  NEVER_ANSWERS,
  type TreeTable,
  untilTrue,
  whileTimePasses,
} from '../support/sysfs-tree.ts';

async function readTree(t: Test, table: TreeTable): Promise<PciDisplays> {
  const { root } = await layOut(t, table);
  return readPciDisplays(new Sysfs({ clock: new ManualClock(), root }));
}

/** id -> required. */
function requiredOf({ gpus }: PciDisplays): Record<string, boolean> {
  return Object.fromEntries(gpus.map(({ id, required }) => [id, required]));
}

t.test('readPciDisplays() lists VGA and 3D devices, and no audio, network or bridge', async (t) => {
  const found = await readTree(t, NVIDIA_SERVER);
  t.strictSame(found.gpus, [
    {
      id: '0000:03:00.0',
      pciAddress: '0000:03:00.0',
      name: 'ASPEED BMC graphics 1a03:2000, boot display',
      vendor: 'other',
      required: false,
    },
    { id: '0000:41:00.0', pciAddress: '0000:41:00.0', name: 'NVIDIA 10de:2684', vendor: 'nvidia', required: true },
    { id: '0000:81:00.0', pciAddress: '0000:81:00.0', name: 'NVIDIA 10de:20b5', vendor: 'nvidia', required: true },
  ]);
  t.match(found.notes, [
    /3 display functions among 6/,
    /03:00.0.*not required/,
    /41:00.0.*: required/,
    /81:00.0.*: required/,
  ]);
});

t.test('readPciDisplays() goes by the class: 0300, 0302, 0380, and 1200 of AMD', async (t) => {
  for (const [classCode, vendorAndDevice, isListed] of [
    ['0x030000', '10de:2684', true],
    ['0x030200', '10de:20b5', true],
    ['0x038000', '1002:740f', true],
    ['0x120000', '1002:74a1', true],
    ['0x120000', '8086:7d1d', false],
    ['0x040300', '10de:22ba', false],
    ['0x068000', '10de:1af1', false],
    ['0x0c0330', '10de:1ad8', false],
    ['0xffff00', '1af4:1045', false],
  ] as const) {
    const found = await readTree(t, pci('0000:05:00.0', classCode, vendorAndDevice));
    t.strictSame(requiredOf(found), isListed ? { '0000:05:00.0': true } : {}, `${classCode} ${vendorAndDevice}`);
  }
});

t.test('readPciDisplays() lists consoles of BMCs and hypervisors, and requires none', async (t) => {
  for (const vendorAndDevice of [
    '1a03:2000',
    '102b:0538',
    '1234:1111',
    '1af4:1050',
    '1b36:0100',
    '15ad:0405',
    '1414:5353',
    '1013:00b8',
    '80ee:beef',
    '1d0f:1111',
    '126f:0750',
  ]) {
    const found = await readTree(t, pci('0000:00:01.0', '0x030000', vendorAndDevice, { boot_vga: '1\n' }));
    t.match(found.gpus, [{ vendor: 'other', required: false, name: new RegExp(vendorAndDevice) }], vendorAndDevice);
  }
});

t.test("readPciDisplays() tells Intel's integrated graphics by their place, and cards by their id there", async (t) => {
  for (const [address, device, isRequired] of [
    ['0000:00:02.0', 'a780', false],
    ['0000:00:02.1', '2a43', false],
    ['0000:03:00.0', '56a0', true],
    ['0000:03:00.0', 'a780', true],
    ['0000:00:02.0', '56a0', true],
    ['0000:00:02.0', 'e20b', true],
    ['0000:00:02.0', '0bd5', true],
    ['0000:00:02.0', '4905', true],
    ['0001:00:02.0', 'a780', true],
  ] as const) {
    const found = await readTree(t, pci(address, '0x030000', `8086:${device}`));
    t.match(found.gpus, [{ id: address, vendor: 'intel', required: isRequired }], `${address} ${device}`);
  }
});

t.test("readPciDisplays() tells AMD's integrated graphics by the processor's functions beside them", async (t) => {
  t.match((await readTree(t, RYZEN_GRAPHICS)).gpus, [{ id: '0000:13:00.0', vendor: 'amd', required: false }]);
  t.match((await readTree(t, NAVI_CARD)).gpus, [{ id: '0000:03:00.0', vendor: 'amd', required: true }]);
  t.strictSame(requiredOf(await readTree(t, { ...RYZEN_GRAPHICS, ...NAVI_CARD })), {
    '0000:03:00.0': true,
    '0000:13:00.0': false,
  });
  const kaveri = await readTree(t, pci('0000:00:01.0', '0x030000', '1002:130f'));
  t.strictSame(requiredOf(kaveri), { '0000:00:01.0': false }, 'an APU without a security processor, by its id');
});

t.test('readPciDisplays() requires an AMD device that cannot be told', async (t) => {
  const inGuest = await readTree(t, {
    ...pci('0000:00:05.0', '0x030000', '1002:744c'),
    ...pci('0000:00:00.0', '0x060000', '1022:1480'),
  });
  t.strictSame(requiredOf(inGuest), { '0000:00:05.0': true }, 'a card passed through to bus 0 of a guest');
  const unreadable = {
    ...RYZEN_GRAPHICS,
    '/sys/bus/pci/devices/0000:13:00.2/vendor': '',
    '/sys/bus/pci/devices/0000:13:00.3/vendor': '',
  };
  t.strictSame(requiredOf(await readTree(t, unreadable)), { '0000:13:00.0': true }, 'neighbours that cannot be read');
  const otherDevice = {
    ...pci('0000:13:00.0', '0x030000', '1002:164e'),
    ...pci('0000:13:01.0', '0x108000', '1022:1649'),
  };
  t.strictSame(requiredOf(await readTree(t, otherDevice)), { '0000:13:00.0': true }, 'another device of that bus');
  const instinct = { ...pci('0000:01:00.0', '0x120000', '1002:74a0'), ...pci('0000:01:00.1', '0x108000', '1022:14de') };
  t.strictSame(
    requiredOf(await readTree(t, instinct)),
    { '0000:01:00.0': true },
    'an accelerator with its own CPU cores',
  );
});

t.test('readPciDisplays() counts the virtual functions of a shared card once', async (t) => {
  const found = await readTree(t, {
    ...pci('0000:41:00.0', '0x030200', '10de:2235'),
    ...pci('0000:41:00.4', '0x030200', '10de:2235', { physfn: { linkTo: '../0000:41:00.0' } }),
  });
  t.strictSame(requiredOf(found), { '0000:41:00.0': true, '0000:41:00.4': false });
});

t.test(
  'readPciDisplays() requires a display whose vendor cannot be read, and passes over an unreadable class',
  async (t) => {
    const card = '/sys/bus/pci/devices/0000:41:00.0';
    const unknown = await readTree(t, { ...NVIDIA_SERVER, [`${card}/vendor`]: FAILS_WITH_EIO });
    t.match(unknown.gpus[1], { id: '0000:41:00.0', vendor: 'other', required: true });
    const noDevice = await readTree(t, { ...NVIDIA_SERVER, [`${card}/device`]: 'none' });
    t.match(noDevice.gpus[1], { id: '0000:41:00.0', vendor: 'nvidia', required: true, name: 'NVIDIA 10de:????' });
    const noClass = await readTree(t, { ...NVIDIA_SERVER, [`${card}/class`]: FAILS_WITH_EIO });
    t.strictSame(requiredOf(noClass), { '0000:03:00.0': false, '0000:81:00.0': true });
    t.match(noClass.notes.join('\n'), /the class of 0000:41:00.0 cannot be read/);
  },
);

t.test('readPciDisplays() keeps long PCI domains', async (t) => {
  const found = await readTree(t, pci('10000:01:00.0', '0x030200', '10de:20b5'));
  t.strictSame(requiredOf(found), { '10000:01:00.0': true });
});

t.test('readPciDisplays() says that it has no bus to look at', async (t) => {
  const none = await readTree(t, { '/sys/class': { is: 'directory' } });
  t.strictSame(none.gpus, []);
  t.match(none.notes, [/none seen: .* is not there/]);
  const broken = await readTree(t, { '/sys/bus/pci/devices': 'a file' });
  t.match(broken.notes, [/none seen: Cannot list .*ENOTDIR/]);
});

t.test('readPciDisplays() takes no half-read device for a GPU when reads hang', async (t) => {
  for (const [file, required] of [
    ['0000:03:00.0/class', { '0000:13:00.0': false }],
    ['0000:03:00.0/vendor', { '0000:13:00.0': false }],
    ['0000:13:00.0/boot_vga', { '0000:03:00.0': false }],
    ['0000:13:00.2/vendor', { '0000:03:00.0': false }],
  ] as const) {
    const path = `/sys/bus/pci/devices/${file}`;
    const vga = pci('0000:03:00.0', '0x030000', '1a03:2000');
    const tree = await layOut(t, { ...vga, ...RYZEN_GRAPHICS, [path]: NEVER_ANSWERS });
    const clock = new ManualClock();
    const sysfs = new Sysfs({ clock, root: tree.root });
    const found = await whileTimePasses(clock, readPciDisplays(sysfs));
    t.strictSame(requiredOf(found), required, file);
    t.match(found.notes.at(-1), /reads of \/sys hang, \d functions left out/);
    await tree.put(path, 'no number');
    await untilTrue(async () => (await sysfs.readText(path)).ok);
  }
});
