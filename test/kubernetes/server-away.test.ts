// How often a server that is away is asked: a process of a cluster goes on for hours without one, and must neither wear
// itself out nor drown the server when it comes back.
import t from 'tap';
import { ClusterMember } from '../../src/kubernetes/cluster-member.ts';
import type { KubeAnswer, KubeApi } from '../../src/kubernetes/kube-api.ts';
import { DomainWorld } from '../support/domain-world.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { failureOf } from '../support/object-store-api.ts';

t.test('ClusterMember asks a server that is away a few times a second at most, however long', async (t) => {
  const clock = new ManualClock();
  let asked = 0;
  const isAway = async (): Promise<KubeAnswer<never>> => {
    asked += 1;
    return failureOf('unreachable', 'connect ECONNREFUSED');
  };
  const api: KubeApi = {
    server: 'https://10.0.0.1',
    list: isAway,
    get: isAway,
    create: isAway,
    patch: isAway,
    replace: isAway,
    remove: isAway,
    close: async () => undefined,
  };
  const { state } = new DomainWorld();
  const told: unknown[] = [];
  const member = new ClusterMember({
    api,
    clock,
    namespace: 'vsf-safety',
    namespaces: [],
    identity: 'me',
    predecessors: [],
    exporters: null,
    simulated: false,
    state: () => state,
    tell: (event) => told.push(event),
    warn: () => undefined,
  });
  const starting = member.start();
  await clock.advance(4_000);
  await starting;
  member.lead();
  asked = 0;
  // A tick every 10 s, for ten minutes.
  for (let i = 0; i < 60; i++) {
    const looking = Promise.all([member.refresh(), member.actuator.inventory(clock.now().elapsedMs + 3_000)]);
    await clock.advance(10_000);
    await looking;
  }
  t.comment(`${asked} requests in 600 s`);
  t.ok(asked > 600, 'it goes on asking');
  t.ok(asked < 600 * 6, 'it does not drown a server that comes back');
  t.match(told.at(-1), { cluster: { isLatchKnown: false, leadership: { state: 'unknown' } } });
  const closing = member.close();
  await clock.advance(10_000);
  await closing;
});
