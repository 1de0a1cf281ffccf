// The manifests of docs/workloads.md, taken by a real API server. One from before native sidecars (1.29) refuses a startup
// probe on an init container; to it the guard is shown as an ordinary container, so that all the rest is judged.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { lacksControlPlane, startControlPlane } from '../support/control-plane.ts';
import { ROOT } from '../support/real-service.ts';

t.setTimeout(180_000);
const JOBS = '/apis/batch/v1/namespaces/default/jobs?dryRun=All';
const read = (name: string) => parse(readFileSync(join(ROOT, 'examples/kubernetes', name), 'utf8'));

t.test('examples/kubernetes is taken by an API server', { skip: lacksControlPlane }, async (t) => {
  const plane = await startControlPlane(t);
  t.match(await plane.ask('POST', JOBS, read('init-container-gate.yaml')), { status: 201 });
  const guarded = read('guard-sidecar.yaml');
  const pod = guarded.spec.template.spec;
  let answer = await plane.ask('POST', JOBS, guarded);
  // Not every build of the server tells its version; what it refuses does.
  if (/startupProbe.*must not be set for init containers/.test(answer.body.message)) {
    const { restartPolicy: _, ...guard } = pod.initContainers[0];
    pod.containers.push(guard);
    pod.initContainers = [];
    answer = await plane.ask('POST', JOBS, guarded);
  }
  t.match(answer, { status: 201 });
  pod.containers[0].env[0].valueFrom.fieldRef.fieldPath = "metadata.labels['no such label']";
  t.match(await plane.ask('POST', JOBS, guarded), { status: 422 }, 'it does judge');
});
