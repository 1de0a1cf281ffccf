// From raw numbers to readings: what is no number, and who is who.
import t from 'tap';
import { canonicalGpuUuid, canonicalPciAddress, parseReading, type Quantity } from '../../src/domain/reading.ts';

t.test('parseReading() takes what is physically possible and nothing else', async (t) => {
  const table: [Quantity, number, boolean][] = [
    ['temperature', 0.1, true],
    ['temperature', 125, true],
    ['temperature', 0, false],
    ['temperature', -0, false],
    ['temperature', -5, false],
    ['temperature', 125.1, false],
    ['temperature', 511, false],
    ['power', 0.5, true],
    ['power', 1500, true],
    ['power', 0, false],
    ['power', 1500.1, false],
    ['power', 2 ** 63, false],
    ['total-power', 20_000, true],
    ['total-power', 0, false],
    ['total-power', 20_000.1, false],
    ['total-power', 4294.967295, false],
    ['total-power', 4294.967294, true],
    ['total-power', 4294.967296, true],
    ['total-power', 4294.967, true],
    ['total-power', 4_294_967.295, false],
    ['memory', 0, true],
    ['memory', 1.005, true],
    ['memory', 1.006, false],
    ['memory', -0.01, false],
    ['utilization', 0, true],
    ['utilization', 4_294_967_295, false],
  ];
  for (const [quantity, value, isOk] of table) t.equal(parseReading(quantity, value).ok, isOk, `${quantity} ${value}`);
  for (const quantity of ['temperature', 'power', 'total-power', 'memory', 'utilization', 'intensity'] as const) {
    for (const value of [Number.NaN, Infinity, -Infinity])
      t.notOk(parseReading(quantity, value).ok, `${quantity} ${value}`);
    // What a caller without types might hand in: text, nothing, an object. '9' >= '85' is true in JavaScript.
    for (const value of ['86', '9', ' ', '', null, undefined, {}, [86]]) {
      t.notOk(parseReading(quantity, value as unknown as number).ok, `${quantity} ${JSON.stringify(value)}`);
    }
  }
  t.same(parseReading('memory', 1.004), { ok: true, value: 1 }, 'rounding over 100 % counts as 100 %');
  t.match(parseReading('total-power', 4294.967295), { detail: /all ones.*0xFFFFFFFF µW/ });
  t.match(parseReading('temperature', 0), { detail: /temperature 0 °C is outside over 0 to 125 °C/ });
});

t.test('canonicalGpuUuid() and canonicalPciAddress() give one spelling to what tools spell differently', async (t) => {
  for (const text of ['GPU-7B1F00aa', 'gpu-7b1f00AA', '7b1f00aa', '  GPU-7b1f00aa ']) {
    t.equal(canonicalGpuUuid(text), 'GPU-7b1f00aa', text);
  }
  for (const text of ['00000000:0B:00.0', '0000:0b:00.0', '0b:00.0', 'b:0.0', '0:B:00.0']) {
    t.equal(canonicalPciAddress(text), '0000:0b:00.0', text);
  }
  t.equal(canonicalPciAddress('00010000:0B:00.0'), '10000:0b:00.0', 'a domain over 16 bits keeps its digits');
  for (const text of ['', '0b:00', '0b:00.8', '123456789:0b:00.0', 'GPU-1', '0b:00.0 x']) {
    t.equal(canonicalPciAddress(text), null, text);
  }
});
