// What a configuration may say and this version does not act on: a start that protected less than it says is refused.
import type { Config } from './config-types.ts';

/** What this version takes in a configuration and does not act on; `null` where there is nothing of it. */
export function notReadYet(config: Config): string | null {
  const { discovery, auth, kubernetes } = config;
  const found = [
    ...(discovery.kubernetes ? ['discovery.kubernetes'] : []),
    ...(auth.kubernetes ? ['auth.kubernetes'] : []),
    ...(kubernetes.enabled === true ? ['kubernetes.enabled: true'] : []),
    ...(kubernetes.kubeconfig !== null && kubernetes.enabled !== false ? ['kubernetes.kubeconfig'] : []),
  ];
  if (found.length === 0) return null;
  const listed = found.join(', ');
  return `Cannot start: this version does not act on ${listed} yet, and would protect less than the configuration says`;
}
