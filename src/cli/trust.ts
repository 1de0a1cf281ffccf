// Whom client commands trust on https: the authorities of VSF_SAFETY_CA_FILE where it is set, as the Python client and the
// SDK do, else the usual ones with those of NODE_EXTRA_CA_CERTS. Node's own fetch takes no authority, so the package
// that it is made of is loaded, and only then.
import { readFileSync } from 'node:fs';
import type { Agent } from 'undici';
import type { Environment } from '../config.ts';
import { CommandFailed } from './io.ts';

/** PEM; `undefined`: the usual authorities. Ends the command where the file cannot be read. */
export function trustedAuthorities(env: Environment): string | undefined {
  const file = env['VSF_SAFETY_CA_FILE'];
  if (!file) return undefined;
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new CommandFailed(
      `Cannot read VSF_SAFETY_CA_FILE ${file}: ${(error as NodeJS.ErrnoException).code ?? String(error)}`,
    );
  }
}

/** A fetch that trusts whom the environment names. */
export function trustingFetch(env: Environment): typeof fetch {
  if (!env['VSF_SAFETY_CA_FILE']) return fetch;
  let agent: Agent | undefined;
  return async (input, init) => {
    const { default: undici } = await import('undici');
    agent ??= new undici.Agent({ connect: { ca: trustedAuthorities(env) } });
    const asked = { ...init, dispatcher: agent } as Parameters<typeof undici.fetch>[1];
    return undici.fetch(input as string, asked) as unknown as Promise<Response>;
  };
}
