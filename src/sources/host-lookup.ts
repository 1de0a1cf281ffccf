// From a host's name to its addresses, for connections. Node asks the system's resolver on one of four threads, which
// cannot be called off: with a dead DNS a thousand names asked every ten seconds would pile up without end, so a name
// is looked up once at a time, and who comes meanwhile waits for the same answer. Where ranges are given, addresses
// outside them are taken out before anything is connected to (a name may resolve to another address at every look).
import { promises as dns, type LookupAddress } from 'node:dns';
import type { LookupFunction } from 'node:net';
import { explainRefusal, isAllowed } from './address-ranges.ts';

/** All addresses of a name, at least one; rejects as `dns.lookup` does. */
export type ResolveHost = (hostname: string) => Promise<readonly LookupAddress[]>;

/** None of the host's addresses may be connected to. */
export class AddressRefused extends Error {}

/** The system's resolver, with at most one look per name under way. */
export function createHostResolver(resolve: ResolveHost = resolveBySystem): ResolveHost {
  const underWay = new Map<string, Promise<readonly LookupAddress[]>>();
  return (hostname) => {
    const running = underWay.get(hostname);
    if (running) return running;
    const look = resolve(hostname).finally(() => underWay.delete(hostname));
    underWay.set(hostname, look);
    return look;
  };
}

/** What `net.connect` calls for a name. `ranges: null` lets every address pass. */
export function lookupWithin(resolve: ResolveHost, ranges: readonly string[] | null): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname).then(
      (found) => {
        const addresses = ranges ? found.filter(({ address }) => isAllowed(address, ranges)) : [...found];
        const [first] = addresses;
        if (!first) {
          const [refused] = found;
          const why = refused ? explainRefusal(refused.address) : 'it has no address';
          callback(new AddressRefused(`${hostname}: ${why}`), '');
        } else if (options.all) {
          callback(null, addresses);
        } else {
          callback(null, first.address, first.family);
        }
      },
      (error: NodeJS.ErrnoException) => callback(error, ''),
    );
  };
}

function resolveBySystem(hostname: string): Promise<readonly LookupAddress[]> {
  return dns.lookup(hostname, { all: true });
}
