// Addresses in messages and in the status: some carry a secret in their query.

/** Names of parameters that carry a secret rather than a target. */
const SECRET_PARAMETER = /token|key|secret|pass|auth|sig|cred/i;

/** An address as it is shown to whoever may read the status: which target, and not with which secret. */
export function shownAddress(url: string): string {
  const parsed = new URL(url);
  const secrets = [...parsed.searchParams.keys()].filter((name) => SECRET_PARAMETER.test(name));
  if (secrets.length === 0) return url;
  for (const name of secrets) parsed.searchParams.set(name, '…');
  return parsed.href.replaceAll(encodeURIComponent('…'), '…');
}
