import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import t from 'tap';
import { parse } from 'yaml';
import { FINDING_CODES } from '../../src/domain/result.ts';
import { ACCESS } from '../../src/http/access.ts';
import { PROBLEM_CODES, PROBLEMS } from '../../src/http/problem.ts';
import { startApp } from '../support/test-app.ts';

interface Operation {
  readonly operationId?: string;
  readonly summary?: string;
  readonly security?: readonly object[];
  readonly requestBody?: { readonly content: Record<string, { readonly example?: unknown }> };
  readonly responses: Record<string, { readonly description: string; readonly content?: Record<string, unknown> }>;
}
interface Document {
  readonly openapi: string;
  readonly paths: Record<string, Record<string, Operation>>;
  readonly components: { readonly schemas: Record<string, { properties?: Record<string, { enum?: string[] }> }> };
}

const checkedIn = await readFile('openapi/openapi.yaml', 'utf8');

t.test('openapi/openapi.yaml is what the routes say; scripts/openapi.ts writes it anew', async (t) => {
  const { app, ask } = await startApp(t);
  t.equal(app.swagger({ yaml: true }), checkedIn);
  t.same((await ask({ url: '/openapi.json' })).json(), parse(checkedIn), 'and so is /openapi.json');
  t.notMatch(checkedIn, /[&*]a\d/, 'without YAML anchors, which few readers follow');
});

t.test('the document is OpenAPI 3.1 with an id, a summary and security for every route', async (t) => {
  const document = parse(checkedIn) as Document;
  t.equal(document.openapi, '3.1.0');
  const operations = Object.values(document.paths).flatMap((item) => Object.values(item));
  t.equal(operations.length, Object.keys(ACCESS).length);
  t.equal(new Set(operations.map((operation) => operation.operationId)).size, operations.length, 'each id once');
  for (const { operationId, summary, security, responses } of operations) {
    t.ok(operationId && summary && security, `${operationId} is described`);
    for (const { description } of Object.values(responses))
      t.not(description, 'Default Response', `${operationId} describes its answers`);
  }
});

t.test('the document names every code there is', async (t) => {
  const { schemas } = (parse(checkedIn) as Document).components;
  t.same(schemas['Problem']?.properties?.['code']?.enum, PROBLEM_CODES);
  t.same(schemas['Finding']?.properties?.['code']?.enum, FINDING_CODES);
  for (const code of PROBLEM_CODES) t.ok(PROBLEMS[code].status >= 400 && PROBLEMS[code].title.length > 0, code);
});

t.test('the document has an example of every body, which its schema takes', (t) => {
  const { paths } = parse(checkedIn) as Document;
  const ajv = new Ajv2020({ strict: false });
  formats.default(ajv);
  ajv.addSchema(parse(checkedIn), 'openapi');
  const bodies = Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).flatMap(([method, { requestBody }]) =>
      Object.entries(requestBody?.content ?? {}).map(([type, { example }]) => ({ path, method, type, example })),
    ),
  );
  t.ok(bodies.length > 8, `${bodies.length} bodies`);
  for (const { path, method, type, example } of bodies) {
    const at = ['paths', path, method, 'requestBody', 'content', type, 'schema'];
    const pointer = at.map((step) => step.replaceAll('/', '~1')).join('/');
    const validate = ajv.compile({ $ref: `openapi#/${pointer}` });
    t.ok(example !== undefined && validate(example), `${method} ${path}: ${ajv.errorsText(validate.errors)}`);
  }
  t.end();
});

t.test('docs/api.md has the routes and codes of the document; npm run api writes them anew', async (t) => {
  const { stdout } = await promisify(execFile)(process.execPath, ['scripts/api-docs.mjs', '--print']);
  t.equal(stdout, await readFile('docs/api.md', 'utf8'));
});

t.test('GET /docs shows every route and schema, from no other host and without a script', async (t) => {
  const { ask } = await startApp(t);
  const page = await ask({ url: '/docs' });
  t.equal(page.statusCode, 200);
  t.equal(page.headers['content-type'], 'text/html; charset=utf-8');
  const document = parse(checkedIn) as Document;
  for (const path of Object.keys(document.paths)) t.ok(page.body.includes(path), path);
  for (const name of Object.keys(document.components.schemas)) t.ok(page.body.includes(`id="${name}"`), name);
  t.notMatch(page.body, /<script|(?:src|href)="(?:https?:)?\/\//);
  t.equal(page.body.match(/<h3 id=/g)?.length, Object.keys(document.components.schemas).length);
});
