// The whole way round, with real programs: this service is scraped by a Prometheus whose rules fire, an Alertmanager
// sends what fires back as an emergency stop, and the service tells that Alertmanager of its trip.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { lacksAlertmanager, startAlertmanager } from '../support/real-alertmanager.ts';
import { freePort } from '../support/real-node-exporter.ts';
import { lacksPrometheus, startPrometheus } from '../support/real-prometheus.ts';
import { freshFolder, startService } from '../support/real-service.ts';

const RULES = join(process.cwd(), 'helm/alerts/vsf-safety.rules.yaml');

// biome-ignore lint/suspicious/noExplicitAny: answers of other programs, looked into by this test alone
async function json(url: string): Promise<any> {
  const answer = await fetch(url);
  return answer.json();
}

async function until<T>(what: string, ask: () => Promise<T>, holds: (value: T) => boolean): Promise<T> {
  let last: T | undefined;
  for (const endMs = Date.now() + 40_000; Date.now() < endMs; await sleep(200)) {
    last = await ask();
    if (holds(last)) return last;
  }
  throw new Error(`It did not come about: ${what}; last: ${JSON.stringify(last)?.slice(0, 2_000)}`);
}

t.test(
  'a real Prometheus scrapes the service and its rules fire, a real Alertmanager trips it and is told of it',
  { skip: lacksPrometheus || lacksAlertmanager, timeout: 240_000 },
  async (t) => {
    const port = await freePort();
    const alertmanagerUrl = `http://127.0.0.1:${port}`;
    const service = await startService(t, {
      config: `interval: 1s\nnotify: [ { name: am, url: "${alertmanagerUrl}", format: alertmanager } ]\n`,
    });
    // Everything is sent to the service, the watchdog too: it must know by itself what stops.
    const webhook = { url: `${service.url}/estop/alertmanager`, send_resolved: false };
    const alertmanager = await startAlertmanager(
      t,
      {
        route: {
          receiver: 'estop',
          group_by: ['alertname'],
          group_wait: '1s',
          group_interval: '1s',
          repeat_interval: '2s',
        },
        receivers: [{ name: 'estop', webhook_configs: [webhook] }],
      },
      port,
    );
    const ownRules = join(freshFolder(t), 'own.yaml');
    const expr = 'max(vsf_safety_reading{component="gpu",quantity="temperature"}) > 70';
    const labels = { severity: 'critical', vsf_estop: 'true' };
    const tooWarm = { alert: 'WarmerThanWeLike', expr, labels };
    await writeFile(ownRules, JSON.stringify({ groups: [{ name: 'own', rules: [tooWarm] }] }));
    const prometheus = await startPrometheus(t, [{ job: 'vsf-safety', targets: [new URL(service.url).host] }], {
      ruleFiles: [RULES, ownRules],
      alertmanager: `127.0.0.1:${port}`,
    });
    const firing = async (): Promise<string[]> =>
      (await json(`${prometheus.url}/api/v1/alerts`)).data.alerts
        .filter((alert: { state: string }) => alert.state === 'firing')
        .map((alert: { labels: Record<string, string> }) => alert.labels['alertname']);
    const atAlertmanager = async (): Promise<{ labels: Record<string, string> }[]> =>
      json(`${alertmanager.url}/api/v2/alerts`);
    const isTold = (name: string) => (alerts: { labels: Record<string, string> }[]) =>
      alerts.some((alert) => alert.labels['alertname'] === name);
    const sentOn = async (): Promise<number> => {
      const text = await (await fetch(`${alertmanager.url}/metrics`)).text();
      return Number(/alertmanager_notifications_total\{integration="webhook"\} (\d+)/.exec(text)?.[1] ?? 0);
    };

    await t.test('the watchdog fires, arrives at the service, and stops nothing', async (t) => {
      await until('the watchdog at Alertmanager', atAlertmanager, isTold('VsfSafetyWatchdog'));
      await until('a webhook of Alertmanager', sentOn, (count) => count > 0);
      const text = await (await fetch(`${alertmanager.url}/metrics`)).text();
      t.match(text, /alertmanager_notifications_failed_total\{integration="webhook"\} 0/, 'it was answered with 200');
      t.match((await service.get('/estop')).body, { state: 'clear' });
      t.same(await firing(), ['VsfSafetyWatchdog'], 'a healthy service');
    });

    await t.test('the dashboard’s questions are answered by what is scraped', async (t) => {
      const dashboard = JSON.parse(await readFile('helm/dashboards/vsf-safety.json', 'utf8'));
      const unanswered = async (): Promise<string[]> => {
        const empty: string[] = [];
        for (const { title, targets = [] } of dashboard.panels) {
          for (const { expr } of targets) {
            const query = encodeURIComponent(expr.replaceAll('$instance', '.*').replaceAll('$node', '.*'));
            const { status, error, data } = await json(`${prometheus.url}/api/v1/query?query=${query}`);
            t.equal(status, 'success', `${title}: ${error}`);
            if (data?.result.length === 0) empty.push(title);
          }
        }
        // A rig tells no clock, lists what is wrong nowhere, and has had no events for long enough.
        return empty.filter((title) => !/^(Sources|Sources that .*|Missing readings|Events)$/.test(title));
      };
      // A rate takes two scrapes.
      await until('an answer to each question', unanswered, (titles) => titles.length === 0);
    });

    await t.test('an alert with vsf_estop="true" trips the service', async (t) => {
      // Warm, and below every limit of ours.
      await service.simulate({ faults: [{ kind: 'gpu-temperature', gpu: 0, valueC: 75 }] });
      const { body } = await until(
        'the trip',
        () => service.get('/estop'),
        (reply) => reply.body.state === 'tripped',
      );
      t.match(body, { by: /^alertmanager/, reason: 'Alertmanager: WarmerThanWeLike', scope: { kind: 'all' } });
    });

    await t.test('the trip is told by Prometheus’ rule and by the service itself', async (t) => {
      await until('the rule', firing, (names) => names.includes('VsfSafetyTripped'));
      const { data } = await json(`${prometheus.url}/api/v1/alerts`);
      t.notMatch(JSON.stringify(data), /error expanding/, 'every annotation is well');
      const alerts = await until('the alert', atAlertmanager, isTold('VsfSafetyEmergencyStop'));
      const own = alerts.filter(isTheirs);
      t.match(own, [{ labels: { severity: 'critical', service: 'vsf-safety', simulated: 'true' } }]);
      t.match((await service.get('/status')).body.notify, [{ target: 'am', ok: true, dropped: 0, pending: 0 }]);
    });

    await t.test('after the reset the alert ends, and what still fires does not trip again', async (t) => {
      const { tripId } = (await service.get('/estop')).body;
      const reason = 'it was warm by intention';
      const reset = () => service.operate('/estop/reset', { tripId, reason, acknowledgeUnverified: true });
      await until('the reset', reset, (reply) => reply.status === 200);
      await until('its end', atAlertmanager, (alerts) => !isTold('VsfSafetyEmergencyStop')(alerts));
      const before = await sentOn();
      t.ok((await firing()).includes('WarmerThanWeLike'));
      await until('more webhooks', sentOn, (count) => count > before);
      t.match((await service.get('/estop')).body, { state: 'clear' });
    });
  },
);

const isTheirs = ({ labels }: { labels: Record<string, string> }): boolean =>
  labels['alertname'] === 'VsfSafetyEmergencyStop';
