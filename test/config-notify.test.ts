import t from 'tap';
import { explainProblems, type LoadedConfig, loadConfig } from '../src/config.ts';

const load = (text: string): LoadedConfig =>
  loadConfig({ text, file: 'safety.yaml', env: {}, hostname: 'bizon1', homeDir: '/root' });

function faultsOf(text: string): string {
  const loaded = load(text);
  return loaded.ok ? 'none' : explainProblems(loaded.problems, 'safety.yaml');
}

t.test('loadConfig() takes webhooks, names them by their host, and completes an Alertmanager’s address', async (t) => {
  const loaded = load(`notify:
  - { url: "https://hooks.lab:8443/services/T0/B0", secretFile: /run/secrets/hook, events: [ tripped, reset ] }
  - { url: "http://alertmanager:9093", format: alertmanager }
  - { name: other, url: "http://am/prefix/api/v2/alerts/", format: alertmanager, events: [ tripped ] }
`);
  t.ok(loaded.ok);
  if (!loaded.ok) return;
  t.same(loaded.warnings, []);
  t.match(loaded.config.notify, [
    {
      name: 'hooks.lab-8443',
      url: 'https://hooks.lab:8443/services/T0/B0',
      format: 'plain',
      secretFile: '/run/secrets/hook',
      events: ['tripped', 'reset'],
    },
    { name: 'alertmanager-9093', url: 'http://alertmanager:9093/api/v2/alerts', secretFile: null },
    { name: 'other', url: 'http://am/prefix/api/v2/alerts', events: ['tripped'] },
  ]);
  t.equal(loaded.config.notify[1]?.events.length, 6, 'all of them');
  t.same((load('{}') as { config?: { notify: unknown } }).config?.notify, []);
  const unsigned = load('notify: [ { url: "http://hooks.lab/x" } ]\n');
  t.match(unsigned, { ok: true, warnings: [/notify\[0\] has no secretFile, so that hooks.lab cannot know/] });
});

t.test('loadConfig() explains each fault of a webhook, and shows neither address nor secret', async (t) => {
  const cases: [text: string, explained: RegExp][] = [
    ['[ { format: plain } ]', /notify\[0\]\.url is missing: a webhook needs its address/],
    ['[ { url: "ftp://x/SECRET" } ]', /1:\d+ +notify\[0\]\.url is '\(not shown\)': must be an http:\/\/ or https:\/\//],
    ['[ { url: "http://a:SECRET@x/" } ]', /notify\[0\]\.url is .*without user and password/],
    ['[ { url: "http://169.254.169.254/SECRET" } ]', /notify\[0\]\.url is .*no link-local one/],
    ['[ { url: "http://[fe80::1]/SECRET" } ]', /no link-local one/],
    ['[ { url: "http://x", secretFile: "whsec_SECRET" } ]', /secretFile is '\(not shown\)': must be an absolute path/],
    ['[ { url: "http://x", secret: "SECRET" } ]', /notify\[0\]\.secret is .*no such key here; did you mean secretFile/],
    ['[ { url: "http://x", format: slack } ]', /format is 'slack': must be plain or alertmanager/],
    ['[ { url: "http://x", events: [ trip ] } ]', /events\[0\] is 'trip': must be tripped, .*did you mean tripped/],
    ['[ { url: "http://x", events: [] } ]', /events is .*must name at least one event/],
    ['[ { url: "http://x", name: "a b" } ]', /name is 'a b': must be 1 to 63 letters/],
    ['[ { url: "http://x/1" }, { url: "http://x/SECRET" } ]', /notify\[1\]\.url is .*another webhook is called so/],
    ['[ { url: "http://x", name: a }, { url: "http://y", name: a } ]', /notify\[1\]\.name is 'a': another webhook/],
    [
      '[ { url: "http://x", format: alertmanager, events: [ reset, cooling-ended ] } ]',
      /events is .*must name one of tripped, stop-unverified, cooling-started/,
    ],
    [
      '[ { url: "http://x", format: alertmanager, secretFile: /SECRET } ]',
      /secretFile is .*Alertmanager checks no signature/,
    ],
    ['"http://x/SECRET"', /notify is '\(not shown\)': must be a list of at most 16 webhooks/],
    ['[ "http://x/SECRET" ]', /notify\[0\] is '\(not shown\)': must be a mapping/],
  ];
  for (const [text, explained] of cases) {
    const faults = faultsOf(`notify: ${text}\n`);
    t.match(faults, explained, text);
    t.notMatch(faults, /SECRET/, text);
    t.match(faults, /, 1 fault:/, text);
  }
});
