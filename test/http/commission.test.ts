import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import type { AuditEntry } from '../../src/audit.ts';
import type { CommissionInput } from '../../src/cli/commission-step.ts';
import { COMMISSION_STEPS } from '../../src/domain/commission.ts';
import { tempDir } from '../support/temp-dir.ts';
import { bearer, NODE, startApp, TOKENS } from '../support/test-app.ts';

type Step = CommissionInput['steps'][number];
const step = (verdict: Step['verdict'], text = 'x', id: Step['id'] = 'service'): Step => ({
  id,
  title: 'The service',
  verdict,
  summary: 'as it was',
  notes: [{ level: 'note', text, remedy: 'none' }],
  tables: [{ title: 'GPUs', head: ['A', 'B'], rows: [['1', '2 | 3']] }],
  figures: { tookMs: 12.5 },
  tookSeconds: 1,
});
/** A whole test, of which all but the first step pass. */
const whole = (first: Step): Step[] => [
  first,
  ...COMMISSION_STEPS.filter((id) => id !== first.id).map((id) => step('pass', 'x', id)),
];
const input = (over: Partial<CommissionInput> = {}): CommissionInput => ({
  verdict: 'accepted',
  operator: 'J. Doe',
  host: 'bizon1',
  clientVersion: '0.0.0',
  startedAt: '2026-01-01T00:00:00.000Z',
  finishedAt: '2026-01-01T00:01:00.000Z',
  profile: 'default',
  constraintsDigest: 'not this one',
  nodes: [NODE],
  nodesTotal: 1,
  steps: whole(step('pass')),
  ...over,
});
const asOperator = bearer(TOKENS.operator);

t.test('POST /commission keeps a report with who, when and of what; GET and /status tell of it', async (t) => {
  const folder = await tempDir(t);
  const entries: AuditEntry[] = [];
  const { ask } = await startApp(t, { commissionFolder: folder, audit: { record: (entry) => entries.push(entry) } });
  t.match(await ask({ url: '/commission' }), { statusCode: 404 });
  t.equal((await ask({ url: '/status' })).json().commission, null);

  const { digest } = (await ask({ url: '/status' })).json().constraints;
  const payload = input({ constraintsDigest: digest });
  const kept = await ask({ method: 'POST', url: '/commission', payload, headers: asOperator });
  t.equal(kept.statusCode, 201, kept.body);
  const report = kept.json();
  t.match(report, {
    ...payload,
    name: /^commission-2026-01-01T\d{6}Z$/,
    by: /^token:/,
    version: '0.0.0-test',
    simulated: true,
  });
  t.equal(report.gpus.length, 2);
  t.same((await ask({ url: '/commission', headers: bearer(TOKENS.viewer) })).json(), report);
  t.match((await ask({ url: '/status' })).json().commission, {
    name: report.name,
    verdict: 'accepted',
    operator: 'J. Doe',
    constraintsDigest: digest,
    isCurrent: true,
    outdated: [],
  });
  const words = await readFile(join(folder, 'commission', `${report.name}.md`), 'utf8');
  t.match(words, /^# Commissioning: ACCEPTED \(SIMULATED\)\n/);
  t.match(words, /\| 1 \| 2 \\\| 3 \|/, 'a cell cannot break its table');
  t.match(
    entries.filter(({ deed }) => deed === 'commission'),
    [{ outcome: 'done', role: 'operator', status: 201, detail: 'accepted, tested by J. Doe' }],
  );
});

t.test('a commissioning report is outdated by other limits and other cards, and /status says why', async (t) => {
  const { ask, rig, pass } = await startApp(t, { commissionFolder: await tempDir(t) });
  await ask({ method: 'POST', url: '/commission', payload: input(), headers: asOperator });
  t.match((await ask({ url: '/status' })).json().commission, { isCurrent: false, outdated: [/limits have changed/] });

  const { digest } = (await ask({ url: '/status' })).json().constraints;
  const payload = input({ constraintsDigest: digest });
  const { gpus } = (await ask({ method: 'POST', url: '/commission', payload, headers: asOperator })).json();
  rig.apply({ faults: [{ kind: 'gpu-lost', gpu: 0 }] });
  await pass(20_000);
  t.equal((await ask({ url: '/status' })).json().commission.isCurrent, true, 'a lost card is expected, and missing');
  const [first = ''] = gpus as string[];
  const body = { gpu: first.split('/')[1], reason: 'sold' };
  const forgotten = await ask({ method: 'POST', url: `/nodes/${NODE}/forget`, payload: body, headers: asOperator });
  t.equal(forgotten.statusCode, 200, forgotten.body);
  t.match((await ask({ url: '/status' })).json().commission, {
    isCurrent: false,
    outdated: [`a GPU is gone since: ${first}`],
  });
});

t.test('POST /commission refuses a verdict that its steps do not bear out', async (t) => {
  const { ask } = await startApp(t, { commissionFolder: await tempDir(t) });
  const post = (payload: unknown) =>
    ask({ method: 'POST', url: '/commission', payload: payload as object, headers: asOperator });
  for (const [verdict, steps, due] of [
    ['accepted', whole(step('fail')), 'rejected'],
    ['accepted', whole(step('warning')), 'accepted-with-warnings'],
    ['rejected', whole(step('pass')), 'accepted'],
  ] as const) {
    const answer = await post(input({ verdict, steps }));
    t.match(answer.json(), { status: 400, code: 'invalid-request', detail: new RegExp(`must be ${due}$`) });
  }
  const hidden = { ...step('pass'), notes: [{ level: 'fail' as const, text: 'it is broken' }] };
  for (const [steps, detail] of [
    [whole(step('pass')).slice(1), /step service is there 0 times/],
    [[...whole(step('pass')), step('pass')], /step service is there 2 times/],
    [whole(hidden), /step service noticed a failure/],
  ] as const) {
    t.match((await post(input({ steps: [...steps] }))).json(), { status: 400, code: 'invalid-request', detail });
  }
  t.match((await post(input({ operator: ' ' }))).json(), { code: 'invalid-request', detail: /operator/ });
  t.match((await post({ ...input(), extra: 1 })).json(), { code: 'invalid-request', detail: /extra/ });
  const long = input({ steps: Array.from({ length: 21 }, () => step('pass')) });
  t.match((await post(long)).json(), { code: 'invalid-request', detail: /steps/ });
  t.match(await ask({ url: '/commission' }), { statusCode: 404 }, 'none of them was kept');
});

t.test('POST /commission says when the report cannot be kept', async (t) => {
  const { ask } = await startApp(t);
  const answer = await ask({ method: 'POST', url: '/commission', payload: input(), headers: asOperator });
  t.match(answer.json(), { status: 503, code: 'commission-not-kept' });
});

t.test('GET /status tells each card’s own limits, the witnesses, the bound of a node and who asks', async (t) => {
  const { ask } = await startApp(t);
  const status = (await ask({ url: '/status', headers: bearer(TOKENS.viewer) })).json();
  t.match(status.caller, { identity: /^token:[0-9a-f]{12}$/, role: 'viewer' });
  t.equal(status.nodes[0].staleAfterSeconds, 30);
  t.match(status.nodes[0].gpus[0].ownLimits, { targetC: 83, enforcedPowerW: 280 });
  t.equal(status.sources[0].witnesses.length, 3, 'its clock, and an energy counter for each card');
  t.match(status.sources[0].witnesses, [{ name: 'simulated_seconds', counts: true }, { gpu: /^GPU-/ }]);
});
