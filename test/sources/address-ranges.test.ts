import t from 'tap';
import { explainRefusal, isAllowed, literalAddress } from '../../src/sources/address-ranges.ts';

const cases: readonly (readonly [string, readonly string[], boolean])[] = [
  ['10.0.0.0', ['10.0.0.0/8'], true],
  ['10.255.255.255', ['10.0.0.0/8'], true],
  ['11.0.0.0', ['10.0.0.0/8'], false],
  ['9.255.255.255', ['10.0.0.0/8'], false],
  ['192.168.7.9', ['10.0.0.0/8', '192.168.7.8/29'], true],
  ['192.168.7.16', ['10.0.0.0/8', '192.168.7.8/29'], false],
  ['192.168.7.9', ['192.168.7.9'], true],
  ['192.168.7.10', ['192.168.7.9'], false],
  ['203.0.113.5', ['0.0.0.0/0'], true],
  ['fd12::1', ['fd00::/8'], true],
  ['[fd12::1]', ['fd00::/8'], true],
  ['fe00::1', ['fd00::/8'], false],
  ['::1', ['0.0.0.0/0'], false],
  ['10.0.0.1', ['::/0'], false],
  // Mapped addresses are the IPv4 address, in either spelling, in the address and in the range.
  ['::ffff:10.0.0.1', ['10.0.0.0/8'], true],
  ['::FFFF:a00:1', ['10.0.0.0/8'], true],
  ['0:0:0:0:0:ffff:10.0.0.1', ['10.0.0.0/8'], true],
  ['::ffff:10.0.0.1', ['::/0'], false],
  ['10.0.0.1', ['::ffff:10.0.0.0/104'], true],
  ['11.0.0.1', ['::ffff:10.0.0.0/104'], false],
  // Link-local never, whatever the ranges say.
  ['169.254.169.254', ['0.0.0.0/0', '169.254.0.0/16'], false],
  ['169.253.255.255', ['0.0.0.0/0'], true],
  ['169.255.0.0', ['0.0.0.0/0'], true],
  ['::ffff:169.254.169.254', ['0.0.0.0/0', '::/0'], false],
  ['::ffff:a9fe:a9fe', ['0.0.0.0/0', '::/0'], false],
  ['fe80::1', ['::/0'], false],
  ['fe80::1%eth0', ['::/0'], false],
  ['febf::1', ['::/0'], false],
  ['fec0::1', ['::/0'], true],
  // What is no address, and ranges that are none.
  ['exporter.example', ['0.0.0.0/0', '::/0'], false],
  ['', ['0.0.0.0/0'], false],
  ['10.0.0', ['10.0.0.0/8'], false],
  ['10.0.0.1', [], false],
  ['10.0.0.1', ['10.0.0.0/33', '10.0.0.0/x', '10/8', '', 'all', '10.0.0.0/-1'], false],
];

for (const [address, ranges, expected] of cases) {
  t.test(`isAllowed() ${expected ? 'allows' : 'refuses'} "${address}" in [${ranges.join(', ')}]`, async (t) => {
    t.equal(isAllowed(address, ranges), expected);
    t.equal(isAllowed(address, ranges), expected, 'the same when asked again');
  });
}

t.test('isAllowed() refuses every spelling of a metadata address that a URL makes an address of', async (t) => {
  for (const host of ['169.254.169.254', '169.254.169.254.', '0xa9fea9fe', '2852039166', '0251.254.169.254']) {
    t.equal(isAllowed(new URL(`http://${host}/`).hostname, ['0.0.0.0/0']), false, host);
  }
});

t.test('literalAddress() takes off brackets, zones and IPv6 clothes, and gives null for names', async (t) => {
  t.equal(literalAddress('[::1]'), '::1');
  t.equal(literalAddress('[::ffff:7f00:1]'), '127.0.0.1');
  t.equal(literalAddress('fe80::1%eth0'), 'fe80::1');
  t.equal(literalAddress('10.0.0.1'), '10.0.0.1');
  t.equal(literalAddress('localhost'), null);
});

t.test('explainRefusal() tells link-local from outside', async (t) => {
  t.match(explainRefusal('::ffff:169.254.1.1'), '169.254.1.1 is a link-local address, which is never asked');
  t.match(explainRefusal('11.0.0.1'), '11.0.0.1 lies outside discovery.allow');
  t.match(explainRefusal('x'), '"x" is no address');
});
