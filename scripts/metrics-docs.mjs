// Writes docs/metrics.md from the catalogue of metrics and the alert rules; with --print it only says what it would
// write. A test compares, so a run that was forgotten is found.
import { readFile, writeFile } from 'node:fs/promises';
import { parse } from 'yaml';
import { METRICS } from '../dist/http/metric-catalogue.js';

const root = new URL('../', import.meta.url);
const intro = await readFile(new URL('scripts/metrics-intro.md', root), 'utf8');
const rules = parse(await readFile(new URL('helm/alerts/vsf-safety.rules.yaml', root), 'utf8'));

/** A cell of a table. */
const cell = (text) => text.replaceAll('|', '\\|').replaceAll(/\s+/g, ' ').trim();
const code = (text) => (text === '' ? '' : `\`${cell(text)}\``);

const metricLines = Object.entries(METRICS).flatMap(([name, { type, help, labels, query }]) => [
  `### \`${name}\``,
  '',
  `${cell(help)}.`,
  '',
  `- ${type}${labels.length === 0 ? ', no labels' : `, labels ${labels.map((label) => `\`${label}\``).join(', ')}`}`,
  `- \`${query}\``,
  '',
]);

const alertLines = rules.groups
  .flatMap((group) => group.rules)
  .map(
    ({ alert, expr, for: wait = '0s', labels, annotations }) =>
      `| ${[code(alert), labels.severity, wait, code(expr), cell(annotations.description)].join(' | ')} |`,
  );

const text = `${intro
  .replace(
    '<!-- alerts -->',
    ['| alert | severity | for | fires when | what it means |', '|---|---|---|---|---|', ...alertLines].join('\n'),
  )
  .trim()}

## Every metric

${Object.keys(METRICS).length} metrics. \`vsf_safety_reading\` bears three units, told by its quantity: °C (\`temperature\`), W (\`power\`,
\`total-power\`), and shares from 0 to 1 (\`memory\`, \`utilization\`).

${metricLines.join('\n').trim()}
`;

if (process.argv.includes('--print')) process.stdout.write(text);
else await writeFile(new URL('docs/metrics.md', root), text);
