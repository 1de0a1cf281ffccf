// Writes the second half of docs/api.md, its tables, from the OpenAPI document and the table of codes; with --print it only
// says what it would write. A test compares, so a run that was forgotten is found.
import { readFile, writeFile } from 'node:fs/promises';
import { parse } from 'yaml';
import { PROBLEMS } from '../dist/http/problem.js';

const file = new URL('../docs/api.md', import.meta.url);
const text = await readFile(file, 'utf8');
const end = text.indexOf('-->');
if (end < 0) throw new Error('Cannot write docs/api.md: the comment that ends its first half is gone');
const { paths } = parse(await readFile(new URL('../openapi/openapi.yaml', import.meta.url), 'utf8'));

const operations = Object.entries(paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ route: `${method.toUpperCase()} ${path}`, ...operation })),
);
const routes = operations.map(({ route, summary, responses, 'x-role': role }) => {
  const statuses = Object.keys(responses);
  const of = (test) => statuses.filter((status) => test(Number(status))).join(' ');
  return `| \`${route}\` | ${role} | ${summary} | ${of((status) => status < 400)} | ${of((status) => status >= 400)} |`;
});
const codes = Object.entries(PROBLEMS).map(([code, { status, title }]) => `| ${status} | \`${code}\` | ${title} |`);

const tables = `

## Every route

\`open\`: anybody, without a token. A role stands for those above it, too: viewer, workload, operator.

| route | role | | answers | refusals |
|---|---|---|---|---|
${routes.join('\n')}

## Every code

| status | \`code\` | |
|---|---|---|
${codes.join('\n')}
`;

const whole = text.slice(0, end + 3) + tables;
if (process.argv.includes('--print')) process.stdout.write(whole);
else await writeFile(file, whole);
