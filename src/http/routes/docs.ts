// The document, its page, and a plain way in.
import Type from 'typebox';
import { docsPage, page } from '../docs-page.ts';
import type { App } from '../parts.ts';

const HTML = 'text/html; charset=utf-8';
const html = { 200: { description: 'A page', content: { 'text/html': { schema: Type.String() } } } };

const HOME = page(
  'VSF Safety',
  `<h1>VSF Safety</h1>
<p>Watches this hardware, refuses unsafe starts, and stops workloads before a limit is passed for long.</p>
<ul>
<li><a href="/status">Status</a>: everything that is known</li>
<li><a href="/estop">Emergency stop</a>: the interlock and how far a stop has come</li>
<li><a href="/preflight">Preflight</a>: may a workload start now?</li>
<li><a href="/metrics">Metrics</a> for Prometheus</li>
<li><a href="/docs">API</a></li>
</ul>`,
);

export function addDocsRoutes(app: App): void {
  app.get('/openapi.json', {
    schema: {
      operationId: 'readDocument',
      summary: 'This document',
      tags: ['about'],
      response: {
        200: Type.Object({ openapi: Type.String() }, { additionalProperties: true, description: 'OpenAPI 3.1' }),
      },
    },
    handler: async (_request, reply) => reply.send(app.swagger() as { openapi: string }),
  });

  let docs: string | undefined;
  app.get('/docs', {
    schema: { operationId: 'readDocs', summary: 'This document as a page', tags: ['about'], response: html },
    async handler(_request, reply) {
      docs ??= docsPage(app.swagger() as Parameters<typeof docsPage>[0]);
      return reply.type(HTML).send(docs);
    },
  });

  app.get('/', {
    schema: { operationId: 'readHome', summary: 'A plain way in', tags: ['about'], response: html },
    handler: async (_request, reply) => reply.type(HTML).send(HOME),
  });
}
