// Which addresses a found target may have. A list of targets that somebody else writes must not make this service ask
// a cloud's metadata service or a neighbour's port: what is connected to has to lie in the configured ranges, and
// never is link-local, whatever the ranges say. An IPv4 address in IPv6 clothes (::ffff:10.0.0.1) is the IPv4 address,
// since that is where the connection goes. Names are judged by what they resolve to (host-lookup.ts).
import { BlockList, isIP, isIPv6 } from 'node:net';

/** 169.254.169.254 and its like: cloud metadata, which hands out credentials to whoever asks from inside. */
const LINK_LOCAL = new BlockList();
LINK_LOCAL.addSubnet('169.254.0.0', 16, 'ipv4');
LINK_LOCAL.addSubnet('fe80::', 10, 'ipv6');

/** One list of ranges is asked about thousands of addresses. */
const parsedRanges = new WeakMap<readonly string[], Ranges>();

type Family = 'ipv4' | 'ipv6';
/** Apart, since a list of both takes 10.0.0.1 for a part of ::/0. */
type Ranges = Readonly<Record<Family, BlockList>>;

/**
 * Whether `address` (an IP address, maybe in a URL's brackets, maybe with a zone) lies in one of `ranges` (`10.0.0.0/8`,
 * `fd00::/8`, or a single address) and is not link-local. `false` for what is no address; a range that is none matches
 * nothing.
 *
 * @example
 * isAllowed('::ffff:10.1.2.3', ['10.0.0.0/8']) // true
 * isAllowed('169.254.169.254', ['0.0.0.0/0']) // false
 */
export function isAllowed(address: string, ranges: readonly string[]): boolean {
  const literal = literalAddress(address);
  if (literal === null || isLinkLocal(literal)) return false;
  const parsed = parsedRanges.get(ranges) ?? parseRanges(ranges);
  parsedRanges.set(ranges, parsed);
  const family = familyOf(literal);
  return parsed[family].check(literal, family);
}

/** Why {@link isAllowed} says no, for people. */
export function explainRefusal(address: string): string {
  const literal = literalAddress(address);
  if (literal === null) return `"${address}" is no address`;
  if (isLinkLocal(literal)) return `${literal} is a link-local address, which is never asked`;
  return `${literal} lies outside discovery.allow`;
}

/**
 * The IP address that a URL's host is, without brackets and zone, IPv4-mapped ones as IPv4; `null` where it is a name.
 *
 * @example
 * literalAddress('[::ffff:10.0.0.1]') // '10.0.0.1'
 */
export function literalAddress(host: string): string | null {
  const bare = host.replace(/^\[(.*)\]$/, '$1').replace(/%.*$/, '');
  if (isIP(bare) === 0) return null;
  if (!isIPv6(bare)) return bare;
  // The URL parser writes every spelling of an IPv6 address in one way.
  const [, high, low] = /^\[::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})\]$/.exec(new URL(`http://[${bare}]`).hostname) ?? [];
  if (high === undefined || low === undefined) return bare;
  return [high, low]
    .map((part) => Number.parseInt(part, 16))
    .flatMap((part) => [part >> 8, part & 0xff])
    .join('.');
}

function isLinkLocal(literal: string): boolean {
  return LINK_LOCAL.check(literal, familyOf(literal));
}

function parseRanges(ranges: readonly string[]): Ranges {
  const parsed = { ipv4: new BlockList(), ipv6: new BlockList() };
  for (const range of ranges) {
    const [, base = '', digits] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(range.trim()) ?? [];
    const literal = literalAddress(base);
    if (literal === null) continue;
    const family = familyOf(literal);
    const widest = family === 'ipv4' ? 32 : 128;
    // A range of mapped addresses counts the 96 bits before the IPv4 address, too.
    const before = family === 'ipv4' && isIPv6(base) ? 96 : 0;
    const prefix = digits === undefined ? widest : Number(digits) - before;
    if (prefix >= 0 && prefix <= widest) parsed[family].addSubnet(literal, prefix, family);
  }
  return parsed;
}

function familyOf(literal: string): Family {
  return isIPv6(literal) ? 'ipv6' : 'ipv4';
}
