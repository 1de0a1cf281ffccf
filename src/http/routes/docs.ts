// The document and its page.
import Type from 'typebox';
import { docsPage } from '../docs-page.ts';
import type { App } from '../parts.ts';

const HTML = 'text/html; charset=utf-8';
const html = { 200: { description: 'A page', content: { 'text/html': { schema: Type.String() } } } };

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
}
