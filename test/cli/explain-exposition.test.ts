// `explain` on exporters: addresses over real HTTP, and saved bodies.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { CARD_A, CARD_B, DCGM_A, DCGM_B, dcgm, dcgmCard } from '../fixtures/gpu-exporters.ts';
import { BOARD, cpuTimes, GIB, intelSocket, memory } from '../fixtures/node-exporter.ts';
import { idracControl, ipmi } from '../fixtures/power-exporters.ts';
import { type Ran, vsfSafety } from '../support/command-line.ts';
import { lacksNodeExporter, startNodeExporter } from '../support/real-node-exporter.ts';
import { isCutAfter, redirectsTo, says, standInExporter } from '../support/stand-in-exporter.ts';
import { tempDir } from '../support/temp-dir.ts';

interface Told {
  readonly component: string;
  readonly id?: string;
  readonly quantity: string;
  readonly value?: number;
  readonly verdict: string;
  readonly missing?: string;
}

const verdicts = (readings: readonly Told[]): string[] =>
  readings.map(({ component, quantity, verdict, value, missing }) =>
    [component, quantity, verdict, value ?? missing].join(' '),
  );

/** A machine of one socket, whose counters go on from look to look. */
function machine(look: number): string {
  return [
    `node_time_seconds ${Date.now() / 1000}\n`,
    'node_scrape_collector_success{collector="cpu"} 1\nnode_scrape_collector_success{collector="hwmon"} 1\n',
    intelSocket(0, 61),
    BOARD,
    cpuTimes({ 0: { idle: 1000 + look * 0.75, user: 500 + look * 0.25 } }),
    memory({ MemTotal: 64 * GIB, MemAvailable: 48 * GIB }),
    'go_goroutines 8\ngo_threads 9\nprocess_open_fds 9\n',
  ].join('');
}

/** An exporter whose body depends on how often it has been asked, from 1. */
async function exporter(t: Test, bodyOf: (look: number) => string) {
  let look = 0;
  return standInExporter(t, (request, response) => says(bodyOf(++look))(request, response));
}

async function explainSaved(t: Test, text: string, ...options: string[]): Promise<Ran> {
  const file = join(await tempDir(t), 'body.txt');
  writeFileSync(file, text);
  return vsfSafety(['explain', file, ...options]);
}

t.test('explain URL asks as the service does, twice, and tells rates, witnesses and what is skipped', async (t) => {
  const { url, requests } = await exporter(t, machine);
  const { code, out } = await vsfSafety(['explain', url, '--json']);
  t.equal(code, 0, out);
  t.equal(requests.length, 2);
  t.equal(requests[0]?.path, '/metrics');
  t.match(requests[1]?.path, /collect\[\]=cpu&collect\[\]=hwmon/, 'the second look names collectors');
  for (const { headers } of requests) {
    t.match(headers, { accept: /^text\/plain;version=0\.0\.4/, 'user-agent': /^vsf-safety\// });
    t.match(headers, { 'x-prometheus-scrape-timeout-seconds': /^(10|9\.\d+)/ });
  }
  const told = JSON.parse(out);
  t.equal(told.form, 'exposition');
  t.match(verdicts(told.readings).sort(), [
    /^cpu temperature judged 61$/,
    /^cpu utilization judged 0\.25$/,
    /^memory memory judged 0\.25$/,
  ]);
  t.match(told.witnesses, [{ name: 'node_time_seconds', moved: true }]);
  const { exposition } = told;
  t.match(exposition, { format: 'text', rejectedLines: 0, rejected: [], bytes: Number });
  t.equal(exposition.skipped.rejectedLines, 0);
  t.ok(exposition.skipped.prefixes.some(([prefix, count]: [string, number]) => prefix === 'go_' && count === 2));
  const acpitz = told.ignored.find(({ what }: { what: string }) => /thermal_thermal_zone0.*temp0/.test(what));
  t.match(acpitz, { says: '27.8 °C', why: /firmware/ });
});

t.test('explain URL says what stood still, and the remedy for a dcgm-exporter', async (t) => {
  const { url } = await exporter(t, () => dcgmCard(DCGM_A));
  const { out } = await vsfSafety(['explain', url]);
  t.match(out, /TOTAL_ENERGY_CONSUMPTION +4742776 +has not moved/);
  t.match(out, /start it with\n-c 1000 /);
  let joule = 0;
  const live = await exporter(t, () => dcgmCard(DCGM_A).replace('4742776', `${4742776 + ++joule}`));
  const moving = await vsfSafety(['explain', live.url]);
  t.match(moving.out, /TOTAL_ENERGY_CONSUMPTION +4742778 +moved/);
  t.notMatch(moving.out, /-c 1000/);
});

t.test('explain URL judges stamps by the source’s time: too old, too far ahead, and fresh', async (t) => {
  const { url } = await exporter(t, () => {
    const now = Date.now();
    return [
      dcgm('GPU_TEMP', DCGM_A, `61 ${now - 45_000}`),
      dcgm('POWER_USAGE', DCGM_A, `180 ${now + 9_000}`),
      dcgm('GPU_TEMP', DCGM_B, `62 ${now - 12_000}`),
    ].join('');
  });
  const { readings } = JSON.parse((await vsfSafety(['explain', url, '--json'])).out);
  const of = (id: string) => verdicts(readings.filter((one: Told) => one.id === id && one.verdict !== 'missing'));
  t.same(of(CARD_A), ['gpu temperature refused 61', 'gpu power refused 180']);
  t.same(of(CARD_B), ['gpu temperature judged 62']);
  const [old, ahead] = readings.filter(({ verdict }: Told) => verdict === 'refused');
  t.match(old, { missing: 'stale', detail: /4[456] s old, at most 30 s/ });
  t.match(ahead, { missing: 'invalid', detail: /\d+ s ahead, at most 5 s/ });
});

t.test('explain URL shows the first look where the second fails, and says what is lacking', async (t) => {
  let look = 0;
  const standIn = await standInExporter(t, (request, response) =>
    (++look === 1 ? says(machine(1)) : says('gone', {}, 503))(request, response),
  );
  const { code, out } = await vsfSafety(['explain', standIn.url]);
  t.equal(code, 0);
  t.match(out, /only the first answer was good/);
  t.match(out, /the second look failed: .*503.*no CPU load and no RAPL/);
  t.match(out, /cpu temperature|cpu platform_coretemp_0 temperature|61\.0 °C/);
});

t.test('explain URL explains an answer of which nothing is read', async (t) => {
  const { url } = await exporter(t, () => 'go_goroutines 8\nmysql_up 1\nmysql_a{b="c" d="e"} 1\n');
  const { code, out } = await vsfSafety(['explain', url]);
  t.equal(code, 0);
  t.match(out, /no series that is read/);
  t.match(
    out,
    /skipped: 2 samples of 2 names \(go_\* 1, mysql_\* 1\); 1 line that cannot be read, which costs nothing/,
  );
  t.match(out, /To the service this target has failed/);
});

t.test('explain URL gives the service’s words for each failure, and what to try next', async (t) => {
  const standIn = await standInExporter(t, says(''));
  const { url, port } = standIn;
  const refused = async (address: string, ...words: RegExp[]): Promise<void> => {
    const { code, out, err } = await vsfSafety(['explain', address]);
    t.match({ code, out }, { code: 1, out: '' }, address);
    for (const word of words) t.match(err, word, address);
  };
  standIn.answer = says('<html><title>Node Exporter</title></html>', { 'content-type': 'text/html' });
  await refused(
    `http://127.0.0.1:${port}`,
    /a web page/,
    /It said: <html>/,
    /mostly answer at http:\/\/127\.0\.0\.1:\d+\/metrics/,
  );
  standIn.answer = says('Unauthorized', {}, 401);
  await refused(url, /it answered 401/, /"credentials" in a configuration, and use --config/);
  standIn.answer = says('no such page', {}, 404);
  await refused(`http://127.0.0.1:${port}/metric`, /it answered 404/, /\/metrics\n/);
  standIn.answer = redirectsTo('https://elsewhere/metrics');
  await refused(url, /redirect to https:\/\/elsewhere\/metrics refused/, /follows no redirect/);
  standIn.answer = says('{}', { 'content-type': 'application/json' });
  await refused(url, /JSON, not metrics/, /source: prometheus/);
  standIn.answer = isCutAfter(dcgmCard(DCGM_A), 'length');
  await refused(url, /the connection broke after \d+ bytes/);
  await refused(url.replace('http:', 'https:'), /try http:\/\/127/);
  await standIn.close();
  await refused(url, /the connection was refused/, /ss -ltn \| grep \d+/);
  await refused('ftp://ann:hunter2@host/metrics', /no http or https URL/);
  await refused('http://ann:hunter2@host/metrics', /passwordFile for host/);
  for (const scheme of ['ftp', 'http']) {
    t.notMatch((await vsfSafety(['explain', `${scheme}://ann:hunter2@host/metrics`])).err, /hunter2/);
  }
});

t.test(
  'explain URL shows no credentials unless a configuration names the host, and reads by its settings',
  async (t) => {
    const { url, port, requests } = await exporter(
      t,
      () => `${idracControl('0', 'System Power Control', 820)}my_pdu 0.6\n`,
    );
    const folder = await tempDir(t);
    const [token, file] = [join(folder, 'token'), join(folder, 'safety.yaml')];
    writeFileSync(token, 'sesame\n');
    writeFileSync(
      file,
      `source: exporters
nodes: [ { name: box, endpoints: [ "${url}" ], outlets: [ { series: my_pdu, scale: 1000 } ] } ]
credentials: [ { hosts: [ "127.0.0.1:${port}" ], bearerTokenFile: ${token} } ]
`,
    );
    await vsfSafety(['explain', url], { env: { VSF_SAFETY_CONFIG: file } });
    t.ok(requests.every(({ headers }) => headers.authorization === undefined));
    const { out } = await vsfSafety(['explain', url, '--config', file, '--json']);
    t.equal(requests.at(-1)?.headers.authorization, 'Bearer sesame');
    const told = JSON.parse(out);
    t.same(verdicts(told.readings), ['system total-power judged 600', 'system total-power covered 820']);
    t.ok(told.notes.includes("read as one of box's"));
    const other = await vsfSafety(['explain', `${url}?x=1`, '--config', file]);
    t.match(other.out, /no node of .*safety\.yaml names this address/);
    t.match(await vsfSafety(['explain', file, '--config', file]), { code: 2, err: /--config is for a URL/ });
  },
);

t.test('explain FILE reads a saved body; what takes two looks is missing, and what counts is told', async (t) => {
  const { code, out } = await explainSaved(
    t,
    `${machine(1)}${ipmi()}${idracControl('0', 'System Power Control', 390)}`,
  );
  t.equal(code, 0);
  t.match(out, /a Prometheus exposition, one look\n {2}Prometheus text, \d+ bytes; read: /);
  t.match(out, /cpu utilization +- +missing, not-yet-read/);
  t.match(out, /total power +372 W +judged/);
  t.match(out, /total power +390 W +covered +a better source counts: idrac_exporter/);
  t.match(out, /node_time_seconds.*one look tells nothing/);
  t.match(out, /ipmi_temperature_celsius +24 +a BMC sensor may be/);
});

t.test('explain FILE tells each bad line of what is read, and counts those of others', async (t) => {
  const bad = 'DCGM_FI_DEV_GPU_TEMP{gpu="1",UUID="GPU-x" pod="a"} 71\n';
  const others = 'x_a{b="c" d="e"} 1\n'.repeat(60);
  const { out } = await explainSaved(t, `${others}${dcgm('GPU_TEMP', DCGM_A, 61)}${bad}`, '--json');
  const { exposition, readings } = JSON.parse(out);
  t.match(exposition, { rejectedLines: 1, rejected: [{ line: 62, name: 'DCGM_FI_DEV_GPU_TEMP', text: /GPU-x/ }] });
  t.equal(exposition.skipped.rejectedLines, 60);
  t.match(readings, [{ id: CARD_A, value: 61, verdict: 'judged' }]);
  const shown = await explainSaved(t, `${others}${dcgm('GPU_TEMP', DCGM_A, 61)}${bad.repeat(30)}`);
  t.match(shown.out, /Lines that cannot be read: what they would have told is missing\n {2}line 62 /);
  t.match(shown.out, /and 10 more/);
});

t.test('explain FILE knows OpenMetrics by its end mark, and a body without a final newline', async (t) => {
  const text = dcgm('GPU_TEMP', DCGM_A, 61);
  t.match(JSON.parse((await explainSaved(t, `${text}# EOF\n`, '--json')).out).exposition, { format: 'openmetrics' });
  const cut = await explainSaved(t, text.trimEnd());
  t.match(cut.out, /ends without a newline/);
  t.match(await explainSaved(t, `${text}# EOF\n${text}# EOF\n`), { code: 1, err: /after "# EOF"/ });
  const windows = JSON.parse((await explainSaved(t, `${dcgmCard(DCGM_A)}`.replaceAll('\n', '\r\n'), '--json')).out);
  t.ok(verdicts(windows.readings).includes('gpu temperature judged 61'), 'line ends of Windows');
});

t.test('explain FILE takes no exporter’s body for an nvidia-smi output, and none of those for a body', async (t) => {
  const bodies = [dcgmCard(DCGM_A), 'node_load1 1.5\n', 'up 1 1767225600000\n', '{"my.metric",a="b"} 1\n'];
  for (const body of bodies) t.equal(JSON.parse((await explainSaved(t, body, '--json')).out).form, 'exposition', body);
  const list = 'GPU 0: NVIDIA X (UUID: GPU-0c1a7e52-93b4-4f0d-8a6e-1d2f3b4c5d60)\n';
  t.equal(JSON.parse((await explainSaved(t, list, '--json')).out).form, 'nvidia-smi-list');
});

t.test('explain URL reads a real node_exporter', { skip: lacksNodeExporter }, async (t) => {
  const { url } = await startNodeExporter(t);
  const { code, out } = await vsfSafety(['explain', `${url}/metrics`]);
  t.equal(code, 0, out);
  t.match(out, /^ {2}cpu utilization +\d+\.\d % +judged +node_cpu_seconds_total/m);
  t.match(out, /^ {2}memory +\d+\.\d % +judged +node_memory: MemAvailable/m);
  t.match(out, /node_time_seconds +\S+ +moved/);
  t.match(out, /skipped: \d+ samples of \d+ names \(node_\* \d+/);
});
