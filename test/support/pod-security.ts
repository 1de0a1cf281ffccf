// What the pod security standard "restricted" asks of a pod, rule by rule, with the baseline's rules in it. The admission
// plugin that judges by it came with Kubernetes 1.23; the tests' API server is older.
import type { AnyObject } from './control-plane.ts';

const VOLUMES = [
  'configMap',
  'csi',
  'downwardAPI',
  'emptyDir',
  'ephemeral',
  'persistentVolumeClaim',
  'projected',
  'secret',
];
const CONTAINERS = ['containers', 'initContainers', 'ephemeralContainers'];
const PROBES = ['startupProbe', 'livenessProbe', 'readinessProbe'];

/** Which rules a pod's `spec` breaks, in words; empty: none. */
export function brokenRules(spec: AnyObject): readonly string[] {
  const pod = spec.securityContext ?? {};
  const broken: string[] = [];
  const rule = (holds: boolean, what: string): void => {
    if (!holds) broken.push(what);
  };
  const isConfined = ({ seccompProfile }: AnyObject): boolean =>
    ['RuntimeDefault', 'Localhost'].includes(seccompProfile?.type);
  for (const field of ['hostNetwork', 'hostPID', 'hostIPC']) rule(!spec[field], field);
  rule(!pod.windowsOptions?.hostProcess, 'hostProcess');
  rule((pod.sysctls ?? []).length === 0, 'sysctls');
  rule(pod.seLinuxOptions === undefined, 'pod: seLinuxOptions');
  rule(pod.appArmorProfile === undefined, 'pod: appArmorProfile');
  for (const { name, ...volume } of spec.volumes ?? []) {
    rule(
      Object.keys(volume).every((kind) => VOLUMES.includes(kind)),
      `volume ${name}`,
    );
  }
  for (const container of CONTAINERS.flatMap((kind) => spec[kind] ?? [])) {
    const own = container.securityContext ?? {};
    const of = (what: string): string => `${container.name}: ${what}`;
    const { add = [], drop = [] } = own.capabilities ?? {};
    rule(own.privileged !== true, of('privileged'));
    rule(own.allowPrivilegeEscalation === false, of('allowPrivilegeEscalation'));
    rule(drop.includes('ALL'), of('capabilities.drop'));
    rule(
      add.every((one: string) => one === 'NET_BIND_SERVICE'),
      of('capabilities.add'),
    );
    rule(own.runAsNonRoot ?? pod.runAsNonRoot ?? false, of('runAsNonRoot'));
    rule((own.runAsUser ?? pod.runAsUser) !== 0, of('runAsUser'));
    rule(own.seccompProfile === undefined ? isConfined(pod) : isConfined(own), of('seccompProfile'));
    rule((own.procMount ?? 'Default') === 'Default', of('procMount'));
    rule(own.seLinuxOptions === undefined, of('seLinuxOptions'));
    rule(
      (container.ports ?? []).every(({ hostPort }: AnyObject) => !hostPort),
      of('hostPort'),
    );
    const hosts = PROBES.map((probe) => container[probe]?.httpGet?.host ?? container[probe]?.tcpSocket?.host);
    rule(
      hosts.every((host) => host === undefined),
      of('a host in a probe'),
    );
  }
  return broken;
}
