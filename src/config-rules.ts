// What texts in a configuration must look like: names, addresses, paths, label matchers. Yes or no, and nothing read.
import { isIP } from 'node:net';

const HOST_NAME = /^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\.?$/i;
export const isHost = (value: string): boolean => isIP(value) !== 0 || HOST_NAME.test(value);
/** Also the rule of Kubernetes for a namespace. */
export const isNamespace = (value: string): boolean => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(value);
export const isAbsolute = (value: string): boolean => /^\/[^\0]{0,4000}$/.test(value);

/** What may name a node: no slash, since it stands in paths and keys; nothing that JavaScript or a shell reads as its own. */
export const NODE_NAME_RULE =
  'must be 1 to 253 letters, digits, dots, dashes and underscores, beginning with a letter or digit';
export const isNodeName = (value: string): boolean => /^[a-z0-9][a-z0-9._-]{0,252}$/i.test(value);

/** No user and password: addresses are shown in /status and in the log. */
export const HTTP_URL_RULE = 'must be an http:// or https:// address without user and password';
export function isHttpUrl(value: string): boolean {
  if (!URL.canParse(value)) return false;
  const { protocol, username, password, hostname } = new URL(value);
  return (protocol === 'http:' || protocol === 'https:') && username === '' && password === '' && hostname !== '';
}

/** Whether a URL's host is a literal link-local address; names are judged when they are looked up. */
export function isLinkLocalUrl(value: string): boolean {
  return /^(169\.254\.|\[fe[89ab]|\[::ffff:a9fe:)/i.test(new URL(value).hostname);
}

/** `169.254.0.0/16` and `fe80::/10`: where clouds keep their credentials; a range inside them could only hold that. */
export function isAllowedRange(value: string): boolean {
  const [address = '', bits = '', ...rest] = value.split('/');
  const family = isIP(address);
  if (family === 0 || rest.length > 0 || !/^\d{1,3}$/.test(bits)) return false;
  const isInLinkLocal =
    family === 4
      ? address.startsWith('169.254.') && Number(bits) >= 16
      : /^fe[89ab]/i.test(address) && Number(bits) >= 10;
  return Number(bits) <= (family === 4 ? 32 : 128) && !isInLinkLocal;
}

/** `host`, `host:9100`, `fd00::7` or `[fd00::7]:9100`. */
export function isHostWithPort(value: string): boolean {
  const [, inBrackets, name, port] = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(value) ?? [];
  const isKnown = inBrackets === undefined ? isHost(name ?? value) : isIP(inBrackets) === 6;
  return isKnown && (port === undefined || (Number(port) >= 1 && Number(port) <= 65_535));
}

export const isLabelName = (value: string): boolean => /^[a-z_][a-z0-9_]{0,127}$/i.test(value);
export const LABEL_NAME_RULE =
  'must be the name of a label: letters, digits and underscores, not beginning with a digit';

/** One `name="value"` of PromQL; the value with its escapes, so that no quote can end it early. */
const MATCHER = /\s*([a-z_][a-z0-9_]*)\s*(?:=~|!~|!=|=)\s*"(?:[^"\\\n]|\\.)*"\s*/iy;
/** Whether `value` is label matchers and nothing that would end the braces it is put into. */
export function isMatch(value: string): boolean {
  if (value.length > 1000) return false;
  for (let at = 0; ; at++) {
    MATCHER.lastIndex = at;
    const [matched = '', name] = MATCHER.exec(value) ?? [];
    // `__name__` chooses the series, which is the service's own part of the question.
    if (matched === '' || name === '__name__') return false;
    at += matched.length;
    if (at === value.length) return true;
    if (value[at] !== ',') return false;
  }
}

/** Prometheus' own rule: one `*` at most, and only in the last part. */
export const isListPath = (value: string): boolean =>
  isAbsolute(value) && /^[^*]*\/[^*/]*\*?[^*/]*\.(json|ya?ml)$/.test(value);

const LABEL_KEY = /^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\/)?[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$/i;
const LABEL_VALUE = /^([a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?)?$/i;
/** Whether `value` is a label selector of Kubernetes, and not the empty one, which means every pod. */
export function isSelector(value: string): boolean {
  if (value.length > 1000) return false;
  return value.split(/,(?![^(]*\))/).every((requirement) => {
    const [, setKey, values] = /^\s*(\S+)\s+(?:in|notin)\s*\(([^()]*)\)\s*$/.exec(requirement) ?? [];
    if (setKey !== undefined && values !== undefined) {
      return LABEL_KEY.test(setKey) && values.split(',').every((one) => LABEL_VALUE.test(one.trim()));
    }
    const [, key, one] = /^\s*([^\s=!]+)\s*(?:==|!=|=)\s*([^\s=!]*)\s*$/.exec(requirement) ?? [];
    if (key !== undefined && one !== undefined) return LABEL_KEY.test(key) && LABEL_VALUE.test(one);
    return LABEL_KEY.test(requirement.trim().replace(/^!/, ''));
  });
}
