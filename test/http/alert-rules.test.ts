// The alerts, the dashboard and the page about them, against what the service really tells.
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { parse } from 'yaml';
import { METRICS } from '../../src/http/metric-catalogue.ts';
import { metricsText, TEXT_TYPE } from '../../src/http/metrics.ts';
import { DomainWorld, GPU_A, NODE } from '../support/domain-world.ts';
import { metricsContext } from '../support/metrics-context.ts';
import { isInstalled } from '../support/real-node-exporter.ts';
import { freshFolder } from '../support/real-service.ts';

const PROMTOOL = '/usr/bin/promtool';
const lacksPromtool = isInstalled(PROMTOOL) ? false : `needs ${PROMTOOL} (apt install prometheus)`;
const AMTOOL = '/usr/bin/amtool';
const lacksAmtool = isInstalled(AMTOOL) ? false : `needs ${AMTOOL} (apt install prometheus-alertmanager)`;
const RULES = join(process.cwd(), 'helm/alerts/vsf-safety.rules.yaml');
const run = promisify(execFile);

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels: Record<string, string>;
  readonly annotations: Record<string, string>;
}
const rules: Rule[] = parse(await readFile(RULES, 'utf8')).groups.flatMap((group: { rules: Rule[] }) => group.rules);

/** Series by name and labels, as promtool writes them, with what they are in a healthy service. */
type Series = Map<string, string>;

/** What a healthy service really tells, as Prometheus would keep it. */
async function healthy(): Promise<Series> {
  const world = DomainWorld.running();
  const notify = [{ target: 'ops', host: 'x', format: 'plain' as const, ok: true, pending: 0, sent: 1 }].map((one) => ({
    ...one,
    failed: 0,
    dropped: 0,
    lastSentAt: null,
    lastError: null,
  }));
  const context = metricsContext({ now: { elapsedMs: world.elapsedMs, wallMs: world.wallMs }, notify });
  const text = String(await metricsText(world.state, context, TEXT_TYPE));
  const series: Series = new Map([['up{job="vsf-safety",instance="h:8470"}', '1']]);
  for (const line of text.split('\n').filter((one) => one !== '' && !one.startsWith('#'))) {
    const [, name = '', labels = '', value = ''] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    series.set(`${name}{job="vsf-safety",instance="h:8470"${labels === '' ? '' : `,${labels}`}}`, value);
  }
  return series;
}

const own = (name: string, labels = ''): string =>
  `${name}{job="vsf-safety",instance="h:8470"${labels === '' ? '' : `,${labels}`}}`;
const set =
  (name: string, labels: string, value: string) =>
  (series: Series): void => {
    const key = own(name, labels);
    // A name of a series that the service does not tell would make a case of nothing.
    if (!(name in METRICS)) throw new Error(`there is no metric ${name}`);
    series.set(key, value);
  };
const gone = (series: Series): void => {
  for (const key of [...series.keys()]) if (!key.startsWith('up{')) series.delete(key);
};

/** For each alert what makes it fire, and what else must then fire, too. */
const CASES: Record<string, readonly { readonly make: (series: Series) => void; readonly also?: readonly string[] }[]> =
  {
    VsfSafetyAbsent: [{ make: gone }],
    VsfSafetyTargetDown: [
      {
        make: (series) => {
          gone(series);
          series.set('up{job="vsf-safety",instance="h:8470"}', '0');
        },
        also: ['VsfSafetyAbsent'],
      },
    ],
    VsfSafetyEvaluationStale: [
      { make: set('vsf_safety_tick_age_seconds', '', '31') },
      {
        make: (series) => {
          series.delete(own('vsf_safety_tick_age_seconds'));
          series.set(own('vsf_safety_uptime_seconds'), '100');
        },
      },
    ],
    VsfSafetyNoLeader: [{ make: set('vsf_safety_leader', 'mode="single"', '0') }],
    VsfSafetySeveralLeaders: [
      {
        make: (series) => {
          series.delete(own('vsf_safety_leader', 'mode="single"'));
          series.set('vsf_safety_leader{job="vsf-safety",instance="a",mode="elected"}', '1');
          series.set('vsf_safety_leader{job="vsf-safety",instance="b",mode="elected"}', '1');
        },
      },
    ],
    VsfSafetyTripped: [{ make: set('vsf_safety_interlock', 'state="tripped"', '1') }],
    VsfSafetyStopUnverified: [{ make: set('vsf_safety_stops', 'state="unverified"', '1') }],
    VsfSafetyActuatorUnavailable: [{ make: set('vsf_safety_actuator_available', 'actuator="local-processes"', '0') }],
    VsfSafetyNotObeyed: [{ make: set('vsf_safety_leases_not_obeying', '', '1') }],
    VsfSafetyNearLimit: [
      { make: set('vsf_safety_node_margin_ratio', `node="${NODE}",quantity="temperature"`, '0.079') },
      { make: set('vsf_safety_node_margin_ratio', `node="${NODE}",quantity="total-power"`, '-0.01') },
    ],
    VsfSafetyHardwareThrottle: [{ make: set('vsf_safety_findings', 'code="hardware-throttle"', '1') }],
    VsfSafetyGpuLost: [
      {
        make: set(
          'vsf_safety_reading_missing',
          `node="${NODE}",component="gpu",id="${GPU_A}",quantity="temperature",cause="gone"`,
          '1',
        ),
      },
    ],
    VsfSafetyReadingMissing: [
      {
        make: set(
          'vsf_safety_reading_missing',
          `node="${NODE}",component="cpu",id="",quantity="temperature",cause="no-sensor"`,
          '1',
        ),
      },
    ],
    VsfSafetySourceDown: [{ make: set('vsf_safety_source_up', `node="${NODE}",source="fake"`, '0') }],
    VsfSafetyDiscoveryFailing: [
      { make: set('vsf_safety_discovery_problems', '', '1') },
      { make: set('vsf_safety_discovery_unread_lists', '', '1') },
    ],
    VsfSafetyClockSkew: [
      { make: set('vsf_safety_source_clock_ahead_seconds', `node="${NODE}",source="fake"`, '6') },
      { make: set('vsf_safety_source_clock_ahead_seconds', `node="${NODE}",source="fake"`, '-6') },
    ],
    VsfSafetyJournalFailing: [{ make: set('vsf_safety_journal_ok', '', '0') }],
    VsfSafetyNotifyFailing: [
      { make: set('vsf_safety_notify_ok', 'target="ops"', '0') },
      { make: set('vsf_safety_notify_dropped_total', 'target="ops"', 'rising') },
    ],
    VsfSafetyCertificateExpiring: [{ make: set('vsf_safety_certificate_not_after_seconds', '', '600000') }],
    VsfSafetyAccessFilesFailing: [
      { make: set('vsf_safety_access_ok', 'part="certificate"', '0') },
      { make: set('vsf_safety_access_ok', 'part="audit"', '0') },
    ],
    VsfSafetyLimitConflict: [{ make: set('vsf_safety_limit_conflicts', 'code="cpu-critical-at-hard-stop"', '1') }],
    VsfSafetyUnprotected: [{ make: set('vsf_safety_node_unprotected', `node="${NODE}",code="waived"`, '2') }],
    VsfSafetySimulated: [{ make: set('vsf_safety_simulated', '', '1') }],
  };
const WATCHDOG = 'VsfSafetyWatchdog';
const MINUTES = 20;

/** One test of promtool: these series for 20 minutes, and exactly these alerts firing. */
function testOf(name: string, series: Series, firing: readonly string[]): object {
  const length = `x${MINUTES}`;
  return {
    name,
    interval: '1m',
    input_series: [...series].map(([key, value]) => ({
      series: key,
      values: value === 'rising' ? `0+1${length}` : `${value}+0${length}`,
    })),
    promql_expr_test: [
      {
        expr: 'count by (alertname) (ALERTS{alertstate="firing"})',
        eval_time: `${MINUTES}m`,
        exp_samples: [WATCHDOG, ...firing].map((alertname) => ({ labels: `{alertname="${alertname}"}`, value: 1 })),
      },
    ],
  };
}

async function promtoolTest(folder: string, tests: readonly object[]): Promise<string> {
  const file = join(folder, 'tests.yaml');
  await writeFile(file, JSON.stringify({ rule_files: [RULES], evaluation_interval: '1m', tests }));
  return run(PROMTOOL, ['test', 'rules', file], { maxBuffer: 2 ** 24 }).then(
    () => '',
    (error: { stdout: string; stderr: string }) => error.stdout + error.stderr,
  );
}

t.test('helm/alerts is good for promtool and amtool', { skip: lacksPromtool || lacksAmtool }, async (t) => {
  await run(PROMTOOL, ['check', 'rules', RULES]);
  await run(AMTOOL, ['check-config', 'helm/alerts/alertmanager-estop.yaml']);
  const { route } = parse(await readFile('helm/alerts/alertmanager-estop.yaml', 'utf8'));
  t.equal(route.routes[0].matchers[0], 'vsf_estop="true"');
  for (const { alert, labels, annotations } of rules) {
    t.match(alert, /^VsfSafety[A-Z]/);
    t.match(labels['severity'], /^(critical|warning|info|none)$/, alert);
    t.notOk('vsf_estop' in labels, `${alert} stops nothing`);
    t.ok(annotations['summary'] && annotations['description'], alert);
  }
});

t.test(
  'each alert fires on its case, with no other, and none but the watchdog on a healthy service',
  {
    skip: lacksPromtool,
  },
  async (t) => {
    t.same(rules.map(({ alert }) => alert).sort(), [...Object.keys(CASES), WATCHDOG].sort(), 'each has a case');
    const base = await healthy();
    const tests = [testOf('healthy', base, [])];
    for (const [alert, cases] of Object.entries(CASES)) {
      for (const [index, { make, also = [] }] of cases.entries()) {
        const series = new Map(base);
        make(series);
        tests.push(testOf(`${alert} ${index}`, series, [alert, ...also]));
      }
    }
    const folder = freshFolder(t);
    t.equal(await promtoolTest(folder, tests), '');
    t.match(await promtoolTest(folder, [testOf('wrong', base, ['VsfSafetyTripped'])]), /FAILED/, 'it can fail');
  },
);

t.test('docs/metrics.md is what scripts/metrics-docs.mjs writes; npm run metrics writes it anew', async (t) => {
  const { stdout } = await run(process.execPath, ['scripts/metrics-docs.mjs', '--print'], { maxBuffer: 2 ** 24 });
  t.equal(await readFile('docs/metrics.md', 'utf8'), stdout);
  for (const name of Object.keys(METRICS)) t.ok(stdout.includes(`### \`${name}\``), name);
});

const NOT_OURS = /^(up|process_\w+)$/;
const namesIn = (expr: string): string[] =>
  [...expr.matchAll(/\b(vsf_safety_\w+|process_\w+|up)\b(?!\s*\()/g)].map(([, name = '']) => name);

t.test('alerts and examples ask only for what there is', async (t) => {
  const exprs = [...rules.map(({ expr }) => expr), ...Object.values(METRICS).map(({ query }) => query)];
  for (const name of exprs.flatMap(namesIn)) t.ok(name in METRICS || NOT_OURS.test(name), name);
});

interface Panel {
  readonly id: number;
  readonly title: string;
  readonly type: string;
  readonly description?: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly datasource?: { readonly uid: string };
  readonly targets?: readonly { readonly expr: string; readonly refId: string }[];
}

t.test('helm/dashboards/vsf-safety.json is a Grafana dashboard that asks only for what there is', async (t) => {
  const dashboard = JSON.parse(await readFile('helm/dashboards/vsf-safety.json', 'utf8'));
  t.match(dashboard, { title: 'VSF Safety', uid: 'vsf-safety', schemaVersion: 39 });
  t.notOk('id' in dashboard, 'an id would be another dashboard’s');
  const panels: Panel[] = dashboard.panels;
  t.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  const cells = new Set<string>();
  for (const { title, type, description, gridPos, datasource, targets = [] } of panels) {
    t.match(type, /^(row|stat|timeseries|state-timeline|table)$/, title);
    t.ok(gridPos.x >= 0 && gridPos.x + gridPos.w <= 24, `${title} is on the grid`);
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        t.notOk(cells.has(`${x}/${y}`), `${title} lies on another panel`);
        cells.add(`${x}/${y}`);
      }
    }
    if (type === 'row') continue;
    t.ok(description, `${title} says what it shows`);
    t.match(datasource?.uid, /^\$\{datasource\}$/, title);
    t.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length, title);
    t.ok(targets.length > 0, title);
    for (const name of targets.flatMap(({ expr }) => namesIn(expr))) t.ok(name in METRICS, `${title}: ${name}`);
  }
  for (const wanted of [
    'Action',
    'Interlock per node',
    'GPU temperature',
    'Total power per node',
    'Leases',
    'Events',
  ]) {
    t.ok(
      panels.some(({ title }) => title === wanted),
      wanted,
    );
  }
  t.same(
    dashboard.templating.list.map(({ name }: { name: string }) => name),
    ['datasource', 'instance', 'node'],
  );
});
