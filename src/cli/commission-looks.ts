// The steps of a commissioning test that need one look at the service: how it stands, which sensors it has, its limits
// against what the cards say of themselves, and its rights in a cluster. Functions of what /status says.
import type { NodeStatus, ReadingStatus, Status } from '../http/status-view.ts';
import { VERSION } from '../version.ts';
import { counted, resetCommand, StepDraft } from './commission-step.ts';
import { ageText, limitText, valueText } from './layout.ts';
import { nameOf } from './node-table.ts';

export interface Readiness {
  readonly ready: boolean;
  readonly reasons: readonly string[];
}

/** Named; of more the number. */
const MOST_SOURCES = 6;
const OPERATOR_HINT = 'name the operator’s token with --token-file, or run this where the state folder is';

export function serviceStep(status: Status, url: string, { ready, reasons }: Readiness): StepDraft {
  const step = new StepDraft('service');
  const { version, uptimeSeconds, simulated, interlock, evaluation, lastResult, journal, leadership, caller } = status;
  const { security, notify = [], history } = status;
  const state = interlock.state === 'clear' ? 'interlock clear' : `interlock ${interlock.state.toUpperCase()}`;
  const kinds = [...new Set(status.sources.map(({ source }) => source))];
  const sources = kinds.length > MOST_SOURCES ? `${kinds.length}` : kinds.join(', ') || 'none';
  step.say(
    `vsf-safety ${version} at ${url}, up ${ageText(uptimeSeconds)}, ${ready ? 'ready' : 'NOT READY'}, ${state}, ` +
      `evaluates every ${evaluation.intervalSeconds} s, sources: ${sources}`,
  );
  step.figure('uptimeSeconds', uptimeSeconds);
  step.figure('evaluationIntervalSeconds', evaluation.intervalSeconds);
  step.figure('lastEvaluationAgeSeconds', evaluation.lastEvaluationAgeSeconds);
  if (!ready) step.fail(`The service is not ready to protect: ${reasons.join('; ') || 'it does not say why'}`);
  if (interlock.state === 'tripped') {
    const id = interlock.tripId ?? '…';
    step.fail(`The interlock is tripped (trip ${id}): it must be reset first`, resetCommand(id));
  } else if (interlock.state === 'cooling') {
    step.warn('The interlock is cooling: nothing may start yet', 'wait until it is clear, and run this again');
  } else if (lastResult && lastResult.action !== 'PROCEED') {
    step.warn(`It says ${lastResult.action} now: ${lastResult.reason}`);
  }
  if (!journal.ok) step.fail(`The journal cannot be written: ${journal.detail}`);
  if (leadership.state === 'unknown') step.fail(`It is not known who leads the cluster: ${leadership.detail ?? ''}`);
  if (leadership.state === 'standby') {
    step.warn(`This process does not lead: ${leadership.holder ?? 'nobody'} does`, 'test the one that leads, by --url');
  }
  // An earlier version does not say who asks.
  if (caller && caller.role !== 'operator') {
    step.warn(
      `The caller is a ${caller.role}: the drill, the live stop and keeping the report are an operator’s`,
      OPERATOR_HINT,
    );
  }
  if (version !== VERSION) step.warn(`This command is of version ${VERSION}, the service of ${version}`);
  if (history.state === 'failing') step.warn(`Its history: ${history.detail}`);
  if (security?.tokens.ok === false) step.warn(`Its tokens: ${security.tokens.detail}`);
  if (security?.audit.ok === false) step.warn(`Its audit: ${security.audit.detail}`);
  if (security?.certificate?.ok === false) step.warn(`Its certificate: ${security.certificate.detail}`);
  for (const { target, ok, lastError } of notify) {
    if (!ok) step.warn(`The webhook ${target} cannot be told: ${lastError?.detail ?? ''}`);
  }
  if (simulated) step.note('SIMULATED: no hardware is watched; this report says nothing of a real machine');
  return step;
}

export function inventoryStep({ nodes, unprotected, discovery }: Status): StepDraft {
  const step = new StepDraft('inventory');
  const cards = nodes.flatMap((node) => node.gpus.filter(({ required, ignored }) => required && !ignored));
  const readings = nodes.flatMap((node) => node.readings.filter(({ informational }) => !informational));
  const valid = readings.filter(({ value }) => value !== undefined);
  step.say(`${counted(nodes.length, 'node')}, ${counted(cards.length, 'GPU')}, ${counted(valid.length, 'reading')}`);
  step.figure('nodes', nodes.length);
  step.figure('gpus', cards.length);
  step.figure('readings', valid.length);
  if (nodes.length === 0) step.fail('No node is known: there is nothing that it watches');
  step.table(
    'GPUs',
    ['NODE', 'PLACE', 'NAME', 'UUID', 'TEMPERATURE', 'POWER', 'MEMORY', 'FROM'],
    nodes.flatMap((node) => node.gpus.map((gpu) => gpuRow(node, gpu))),
  );
  step.table(
    'CPU, memory and total power',
    ['NODE', 'WHAT', 'VALUE', 'FROM'],
    nodes.flatMap((node) =>
      node.readings
        .filter(({ component, informational }) => component !== 'gpu' && !informational)
        .map((reading) => [node.node, nameOf(reading, node), saidOf(reading), fromOf(reading)]),
    ),
  );
  const lost = nodes.flatMap(({ node, gpus }) =>
    gpus.filter(({ required, listed, ignored }) => required && !listed && !ignored).map(({ id }) => ({ node, id })),
  );
  const isLost = new Set(lost.map(({ node, id }) => `${node}/${id}`));
  const tellLost = ({ node, id }: (typeof lost)[number]): void =>
    step.fail(
      `GPU ${id} of ${node} was there and is gone`,
      `look at the card; taken out for good: vsf-safety forget ${node} --gpu ${id} --reason "…"`,
    );
  step.each(lost, tellLost, 'fail');
  const missing = nodes.flatMap((node) =>
    node.readings
      .filter(({ value, required, id = '' }) => value === undefined && required && !isLost.has(`${node.node}/${id}`))
      .map(
        (reading) => `${nameOf(reading, node)} of ${node.node} is missing: ${saidOf(reading)}: ${reading.detail ?? ''}`,
      ),
  );
  const excuse = 'set the sensor up; "vsf-safety check" says what was looked for, and how to excuse what cannot be had';
  step.each(missing, (text) => step.fail(text, excuse), 'fail');
  step.each(
    unprotected.filter(({ code }) => ['waived', 'ignored', 'not-measured'].includes(code)),
    ({ message }) => step.warn(`Nothing protects this: ${message}`),
    'warning',
  );
  step.each(
    nodes.flatMap((node) => node.readings.filter(({ estimated }) => estimated).map((reading) => ({ node, reading }))),
    ({ node, reading }) => step.warn(`Total power of ${node.node} is not measured: ${reading.origin ?? 'an estimate'}`),
    'warning',
  );
  step.each(discovery.problems, ({ origin, detail }) => step.warn(`${origin}: ${detail}`), 'warning');
  step.each(discovery.unread, (list) => step.warn(`${list} has not been read yet`), 'warning');
  return step;
}

function gpuRow(node: NodeStatus, gpu: NodeStatus['gpus'][number]): string[] {
  const { id, pciAddress = '', name = '', required, listed, ignored } = gpu;
  const told = (quantity: ReadingStatus['quantity']): ReadingStatus | undefined =>
    node.readings.find(
      (one) => one.component === 'gpu' && one.id === id && one.quantity === quantity && !one.informational,
    );
  const state = ignored ? 'ignored' : !listed ? 'GONE' : required ? '' : 'not required';
  const [temperature, power, memory] = [told('temperature'), told('power'), told('memory')];
  const from = [temperature, power, memory].flatMap((one) => one?.source ?? []);
  return [
    node.node,
    pciAddress,
    name,
    id === pciAddress ? '' : id,
    ...[temperature, power, memory].map((one) => (one ? saidOf(one) : '')),
    [state, ...new Set(from)].filter(Boolean).join(', '),
  ];
}

function saidOf({ value, unit, estimated, missing = 'not-yet-read', waived }: ReadingStatus): string {
  if (value === undefined) return `${missing}${waived ? ' (waived)' : ''}`;
  return `${valueText(value, unit)}${estimated ? ' estimated' : ''}`;
}

const fromOf = ({ source = '', origin = '', detail = '', value }: ReadingStatus): string =>
  value === undefined ? detail : [source, origin].filter(Boolean).join(': ');

/** Below it a card's word on its slowdown is not believed, and the service does not take it. */
const LEAST_SLOWDOWN_C = 60;

export function limitsStep({ nodes, conflicts, constraints }: Status): StepDraft {
  const step = new StepDraft('limits');
  const rows = nodes.flatMap((node) =>
    node.gpus
      .filter(({ required, ignored }) => required && !ignored)
      .map((gpu) => ({ node, gpu, own: gpu.ownLimits ?? {} })),
  );
  step.table(
    'GPUs: warning/hard stop, and what the card says of itself',
    ['NODE', 'GPU', 'TEMPERATURE', 'SLOWDOWN', 'SHUTDOWN', 'TARGET', 'POWER', 'CAP NOW', 'DEFAULT CAP'],
    rows.map(({ node, gpu, own }) => [
      node.node,
      gpu.pciAddress ?? gpu.id,
      limitsText(node, gpu.id, 'temperature'),
      limitText(own.slowdownC, '°C') || '-',
      limitText(own.shutdownC, '°C') || '-',
      limitText(own.targetC, '°C') || '-',
      limitsText(node, gpu.id, 'power'),
      limitText(own.enforcedPowerW, 'W') || '-',
      limitText(own.defaultPowerW, 'W') || '-',
    ]),
  );
  const others = conflicts.filter(({ code }) => code !== 'gpu-slowdown-below-hard-stop');
  step.each(
    alike(others),
    ({ conflict: { message, remedy, node }, more }) =>
      step.warn(more === 0 ? message : `${message} (and so for ${more} more of ${node})`, remedy),
    'warning',
  );
  const slow = rows.filter(
    ({ node, own: { slowdownC = 0 } }) =>
      slowdownC >= LEAST_SLOWDOWN_C && slowdownC <= node.constraints.gpu.temperatureC.hardStop,
  );
  const tellSlow = ({ node, gpu, own: { slowdownC = 0 } }: (typeof slow)[number]): void => {
    const { hardStop } = node.constraints.gpu.temperatureC;
    step.warn(
      `The hard stop of GPU ${gpu.id} on ${node.node}, ${hardStop} °C, is at or over the card’s own slowdown at ${slowdownC} °C` +
        `${slowdownC < hardStop ? ', which is taken as its hard stop' : ''}: the card slows down before anything is stopped`,
      `constraints: { gpu: { temperatureC: { warning: ${slowdownC - 8}, hardStop: ${slowdownC - 3} } } }`,
    );
  };
  step.each(slow, tellSlow, 'warning');
  // What a person set is gone after a reboot.
  const reset = rows.filter(({ node, own: { defaultPowerW = 0, enforcedPowerW = defaultPowerW } }) => {
    const { hardStop } = node.constraints.gpu.powerW;
    return defaultPowerW >= hardStop && enforcedPowerW < hardStop;
  });
  const tellReset = ({ node, gpu, own }: (typeof reset)[number]): void =>
    step.warn(
      `GPU ${gpu.id} on ${node.node} is capped at ${own.enforcedPowerW} W now; by default it may draw ${own.defaultPowerW} W, ` +
        `the hard stop is ${node.constraints.gpu.powerW.hardStop} W: without the cap full load stops everything`,
      `see to it that the cap is set at every boot: nvidia-smi -i ${gpu.id} -pl ${own.enforcedPowerW}`,
    );
  step.each(reset, tellReset, 'warning');
  const silent = rows.filter(({ own }) => Object.keys(own).length === 0).length;
  if (silent > 0) step.note(`${counted(silent, 'GPU')} of ${rows.length} say nothing of their own limits`);
  const problems = others.length + slow.length + reset.length;
  step.figure('conflicts', problems);
  const profile = `profile ${constraints.profile}, digest ${constraints.digest}`;
  return step.say(
    `${profile}: ${problems === 0 ? 'nothing contradicts what the hardware says of itself' : counted(problems, 'conflict')}`,
  );
}

/** One of each kind on a node, and how many more say the same. */
function alike(conflicts: Status['conflicts']): { readonly conflict: Status['conflicts'][number]; more: number }[] {
  const kinds = new Map<string, { readonly conflict: Status['conflicts'][number]; more: number }>();
  for (const conflict of conflicts) {
    const { code, node, limit, hardware } = conflict;
    const key = `${code}/${node}/${limit}/${hardware}`;
    const kind = kinds.get(key);
    if (kind) kind.more += 1;
    else kinds.set(key, { conflict, more: 0 });
  }
  return [...kinds.values()];
}

function limitsText({ readings }: NodeStatus, id: string, quantity: ReadingStatus['quantity']): string {
  const { limits, unit } =
    readings.find((one) => one.component === 'gpu' && one.id === id && one.quantity === quantity) ?? {};
  if (!limits || !unit) return '-';
  return `${limits.warning ?? '-'}/${limitText(limits.hardStop, unit)}`;
}

export function clusterStep({ cluster, actuators, unprotected }: Status): StepDraft {
  const step = new StepDraft('cluster');
  if (!cluster) return step.leaveOut('no cluster is configured: process groups of this machine alone are stopped');
  const {
    server,
    namespace,
    namespaces,
    latch,
    denyRule,
    leases,
    missingRights,
    missingOptionalRights,
    failingGroups,
  } = cluster;
  const where = namespaces.length === 0 ? 'all namespaces' : counted(namespaces.length, 'namespace');
  step.say(`${server}: its own objects in ${namespace}, workloads in ${where}, deny rule ${denyRule}`);
  step.figure('missingRights', missingRights.length);
  step.figure('missingOptionalRights', missingOptionalRights.length);
  const { available = false, detail = '' } = actuators['kubernetes'] ?? {};
  if (!available) step.fail(`The cluster cannot be stopped: ${detail}`);
  step.each(
    missingRights,
    (right) => step.fail(`A stop needs the right ${right}`, 'grant it: helm/rbac, or the chart'),
    'fail',
  );
  step.each(
    missingOptionalRights,
    (right) => step.warn(`It has not the right ${right}`, 'grant it: helm/rbac, or the chart'),
    'warning',
  );
  step.each(
    failingGroups,
    ({ groupVersion, detail: why }) => step.warn(`Kinds of ${groupVersion} cannot be listed: ${why}`),
    'warning',
  );
  if (!latch.known || latch.failure !== null)
    step.fail(`The latch (ConfigMap vsf-estop): ${latch.failure ?? 'not read yet'}`);
  if (leases.failure !== null) step.warn(`The leases (ConfigMap vsf-leases): ${leases.failure}`);
  if (denyRule === 'absent' || denyRule === 'unknown') {
    step.warn(
      `The deny rule is ${denyRule}: after a stop controllers may make pods again, until they are swept`,
      'helm/admission, or the chart',
    );
  }
  step.each(
    unprotected.filter(({ code }) => code === 'no-actuator' || code === 'may-be-raised'),
    ({ message }) => step.warn(message),
    'warning',
  );
  return step;
}
