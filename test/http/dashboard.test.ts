import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { readDashboardFiles } from '../../src/http/dashboard-files.ts';
import { startApp } from '../support/test-app.ts';

t.test(
  'GET / is the dashboard: a page of files of this service alone, sent again only when they changed',
  async (t) => {
    const { ask } = await startApp(t);
    const page = await ask({ url: '/' });
    t.equal(page.statusCode, 200);
    t.equal(page.headers['content-type'], 'text/html; charset=utf-8');
    const files = [...page.body.matchAll(/(?:src|href)="(\/dashboard\/[^"]+)"/g)].map((match) => match[1] ?? '');
    t.same(files.sort(), ['/dashboard/favicon.svg', '/dashboard/main.css', '/dashboard/main.js']);
    t.match(page.body, /<noscript>[\s\S]*href="\/status"/, 'and a way on without scripts');
    for (const url of ['/', ...files]) {
      const { headers, statusCode } = await ask({ url });
      t.equal(statusCode, 200, url);
      t.equal(headers['cache-control'], 'no-cache');
      const again = await ask({ url, headers: { 'if-none-match': `"other", W/${String(headers.etag)}` } });
      t.equal(again.statusCode, 304, `${url} is not sent twice`);
      t.equal(again.body, '');
      t.equal((await ask({ url, headers: { 'if-none-match': '"other"' } })).statusCode, 200);
    }
  },
);

t.test('GET /dashboard/:file knows its own files and no others', async (t) => {
  const { ask } = await startApp(t);
  for (const url of ['/dashboard/nothing.js', '/dashboard/..%2f..%2fpackage.json', '/dashboard/__proto__']) {
    const { statusCode } = await ask({ url });
    t.equal(statusCode, 404, url);
  }
});

t.test('readDashboardFiles() gives nothing of a dashboard that is not whole', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'vsf-dashboard-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'index.html'), '<!doctype html>');
  t.equal(readDashboardFiles(pathToFileURL(`${folder}/`)).size, 0);
});
