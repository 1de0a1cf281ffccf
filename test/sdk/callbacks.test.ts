import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { Callbacks } from '../../src/sdk/callbacks.ts';
import { localVerdict, type Verdict } from '../../src/sdk/verdict.ts';

const told = (reason: string): Verdict => localVerdict('WAIT_COOLDOWN', 'x', reason);

/** The warnings of the process while `t` runs. */
function warnings(t: { teardown(handler: () => void): void }): string[] {
  const seen: string[] = [];
  const listen = (warning: Error): void => void seen.push(warning.message);
  process.on('warning', listen);
  t.teardown(() => process.off('warning', listen));
  return seen;
}

t.test('Callbacks keeps what nobody is registered for, and hands it over in order', async (t) => {
  const callbacks = new Callbacks('onWarning');
  for (let count = 1; count <= 20; count++) callbacks.deliver(told(String(count)));
  const seen: string[] = [];
  callbacks.add(({ reason }) => seen.push(reason));
  t.same(
    seen,
    Array.from({ length: 16 }, (_, index) => String(index + 5)),
    'the 16 newest',
  );
  const late: string[] = [];
  callbacks.add(({ reason }) => late.push(reason));
  t.same(late, [], 'what was handed over is not kept');
});

t.test('Callbacks calls everybody, whoever throws, and the one that threw again while its cause stands', async (t) => {
  const seen = warnings(t);
  const callbacks = new Callbacks('onWarning');
  let generator: string[] | null = null;
  const rejecting: string[] = [];
  const good: string[] = [];
  callbacks.add(({ reason }) => (generator as string[]).push(reason));
  callbacks.add(async ({ reason }) => {
    rejecting.push(reason);
    throw new Error('async');
  });
  callbacks.add(({ reason }) => good.push(reason));
  callbacks.deliver(told('hot'));
  await callbacks.drain(systemClock);
  t.same(good, ['hot']);
  callbacks.retry(told('hot'));
  await callbacks.drain(systemClock);
  generator = [];
  callbacks.retry(told('hot'));
  callbacks.retry(told('hot'));
  await callbacks.drain(systemClock);
  t.same(generator, ['hot'], 'once, when it could be');
  t.same(good, ['hot'], 'the others are not called again');
  t.ok(rejecting.length >= 3);
  callbacks.forgive();
  callbacks.retry(told('hot'));
  t.equal(generator.length, 1);
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(seen.length, 2, 'each failing callback is told of once');
  t.match(seen.join(), /onWarning failed.*TypeError/s);
});

t.test('Callbacks calls nobody who has left', async (t) => {
  const callbacks = new Callbacks('onWarning');
  const seen: string[] = [];
  const leave = callbacks.add(({ reason }) => seen.push(reason));
  callbacks.deliver(told('1'));
  leave();
  callbacks.deliver(told('2'));
  t.same(seen, ['1']);
});
