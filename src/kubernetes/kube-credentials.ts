// Where the API server is and what is shown to it: from the service account's files in a cluster, or from a kubeconfig
// that the configuration names (KUBECONFIG and ~/.kube/config are never read). The client library parses both and runs
// login plugins; files are read here, without blocking. What is loaded is a picture of one moment: certificates and
// tokens are rotated, and kube-client.ts loads anew.
import { X509Certificate } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createSecureContext } from 'node:tls';
import type { KubeConfig } from '@kubernetes/client-node';

export interface KubeConnection {
  /** Without a slash at its end; may have a path. */
  readonly server: string;
  /** Of the context or the service account; `null` where neither tells. */
  readonly namespace: string | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: KubeTls;
}

/** PEM, in the words of node:tls. */
export interface KubeTls {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly servername?: string;
  readonly rejectUnauthorized?: false;
}

export type ConnectionAnswer =
  | { readonly ok: true; readonly connection: KubeConnection }
  | { readonly ok: false; readonly detail: string };

export interface CredentialPlace {
  /** Path of a kubeconfig; `null`: the service account of the pod that this runs in. */
  readonly kubeconfig: string | null;
  /** Where the pod's `/var/run/secrets` is, for tests. */
  readonly root?: string;
}

/** A system's whole bundle of authorities has 220 KiB. */
const LARGEST_FILE_BYTES = 2 ** 20;

/** Never rejects. May hang with a hung disk or login plugin: the caller has the deadline. */
export async function loadConnection({ kubeconfig, root = '' }: CredentialPlace): Promise<ConnectionAnswer> {
  const from = kubeconfig === null ? "the pod's service account" : `kubeconfig ${kubeconfig}`;
  let KubeConfig: typeof import('./kube-config.ts').KubeConfig;
  try {
    // Loaded only where there is a cluster: it costs 0.2 s and 35 MB. A library that does not load on this Node, or is not
    // there, is a cluster that cannot be reached, and never no cluster.
    ({ KubeConfig } = await import('./kube-config.ts'));
  } catch (error) {
    return { ok: false, detail: `Cannot load the Kubernetes client: ${textOf(error)}` };
  }
  try {
    const config = new KubeConfig();
    if (kubeconfig === null) {
      config.loadFromCluster(root);
    } else {
      config.loadFromString(await readText(kubeconfig));
      config.makePathsAbsolute(dirname(kubeconfig));
    }
    return { ok: true, connection: await connectionOf(config) };
  } catch (error) {
    return { ok: false, detail: `Cannot read ${from}: ${textOf(error)}` };
  }
}

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error)).slice(0, 300);

async function connectionOf(config: KubeConfig): Promise<KubeConnection> {
  const cluster = config.getCurrentCluster();
  if (!cluster) throw new Error(`its current context ${JSON.stringify(config.currentContext)} leads to no cluster`);
  const { server, caFile, caData, tlsServerName, skipTLSVerify, proxyUrl } = cluster;
  checkServer(server);
  if (proxyUrl) throw new Error('proxy-url is not supported');
  const user = config.getCurrentUser();
  const shown = await shownBy(config, user);
  const ca = await pemOf(caFile, caData);
  const cert = shown.cert ?? (await pemOf(user?.certFile, user?.certData));
  const key = shown.key ?? (await pemOf(user?.keyFile, user?.keyData));
  const tls: KubeTls = {
    ...(ca !== undefined && { ca }),
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
    ...(tlsServerName && { servername: tlsServerName }),
    ...(skipTLSVerify && { rejectUnauthorized: false }),
  };
  checkTls(tls);
  const namespace = config.getContextObject(config.currentContext)?.namespace?.trim();
  return {
    server: server.replace(/\/+$/, ''),
    namespace: namespace || null,
    headers: {
      ...(shown.authorization !== undefined && { authorization: shown.authorization }),
      ...(user?.impersonateUser && { 'impersonate-user': user.impersonateUser }),
    },
    tls,
  };
}

function checkServer(server: string): void {
  // As the library spells a variable that is not set.
  if (server.includes('//undefined')) throw new Error('KUBERNETES_SERVICE_HOST is not set, so this is no pod');
  const url = URL.canParse(server) ? new URL(server) : null;
  if (!url || !/^https?:$/.test(url.protocol)) throw new Error(`its server ${server} is no http or https URL`);
  if (url.username || url.password) throw new Error('a server URL with a password in it is never asked');
  // `kubectl proxy` listens there.
  const isLoopback = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname);
  if (url.protocol === 'http:' && !isLoopback) {
    throw new Error(`a token for ${url.host} would go over plain HTTP: use https`);
  }
}

/** Files can be caught half-written; TLS itself would take an authority that is none, and then trust nobody. */
function checkTls(tls: KubeTls): void {
  createSecureContext(tls);
  if (tls.ca !== undefined) new X509Certificate(tls.ca);
}

interface Shown {
  readonly authorization?: string;
  readonly cert?: string;
  readonly key?: string;
}

async function shownBy(config: KubeConfig, user: ReturnType<KubeConfig['getCurrentUser']>): Promise<Shown> {
  if (!user) return {};
  if (user.token) return { authorization: `Bearer ${user.token.trim()}` };
  const tokenFile: unknown = user.authProvider?.config?.tokenFile;
  if (typeof tokenFile === 'string') return { authorization: `Bearer ${(await readText(tokenFile)).trim()}` };
  if (user.username) {
    return { authorization: `Basic ${Buffer.from(`${user.username}:${user.password ?? ''}`).toString('base64')}` };
  }
  if (!user.exec && !user.authProvider) return {};
  // A login plugin, which the library runs.
  const options: { headers?: Record<string, unknown>; cert?: unknown; key?: unknown } = {};
  await config.applyToHTTPSOptions(options as Parameters<KubeConfig['applyToHTTPSOptions']>[0]);
  const authorization = options.headers?.['Authorization'];
  return {
    ...(typeof authorization === 'string' && { authorization }),
    ...(options.cert != null && { cert: String(options.cert) }),
    ...(options.key != null && { key: String(options.key) }),
  };
}

/** From a file, or else base64. */
async function pemOf(file: string | null | undefined, data: string | null | undefined): Promise<string | undefined> {
  if (file) return readText(file);
  return data ? Buffer.from(data, 'base64').toString('utf8') : undefined;
}

async function readText(path: string): Promise<string> {
  const { size } = await stat(path);
  if (size > LARGEST_FILE_BYTES) throw new Error(`${path} is larger than ${LARGEST_FILE_BYTES} bytes`);
  return readFile(path, 'utf8');
}
