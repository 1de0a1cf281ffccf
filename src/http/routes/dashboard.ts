// The dashboard: one page and the three files that it is made of. They hold nothing of the rig and are open to anybody;
// the page asks for what it shows like every other client.
import type { FastifyReply, FastifyRequest } from 'fastify';
import Type from 'typebox';
import { DASHBOARD_PAGE, type DashboardFile, readDashboardFiles } from '../dashboard-files.ts';
import { page } from '../docs-page.ts';
import type { App } from '../parts.ts';
import { Problem, shown } from '../problem.ts';
import { problems } from '../schemas.ts';

const FileSchema = Type.String();
const body = (description: string, types: readonly string[]) => ({
  description,
  content: Object.fromEntries(types.map((type) => [type, { schema: FileSchema }])),
});
const unchanged = { type: 'null', description: 'Not changed since the `ETag` that was sent' };

const PLAIN = page(
  'VSF Safety',
  `<h1>VSF Safety</h1>
<p>Watches this hardware, refuses unsafe starts, and stops workloads before a limit is passed for long.</p>
<p>The dashboard is not built here: <code>npm run build</code> makes it.</p>
<ul>
<li><a href="/status">Status</a>: everything that is known</li>
<li><a href="/estop">Emergency stop</a>: the interlock and how far a stop has come</li>
<li><a href="/metrics">Metrics</a> for Prometheus</li>
<li><a href="/docs">API</a></li>
</ul>`,
);

export function addDashboardRoutes(app: App): void {
  const files = readDashboardFiles();

  app.get('/', {
    schema: {
      operationId: 'readDashboard',
      summary: 'The dashboard',
      tags: ['about'],
      response: { 200: body('A page', ['text/html']), 304: unchanged },
    },
    async handler(request, reply) {
      const found = files.get(DASHBOARD_PAGE);
      return found ? answerWith(found, request, reply) : reply.type('text/html; charset=utf-8').send(PLAIN);
    },
  });

  app.get('/dashboard/:file', {
    schema: {
      operationId: 'readDashboardFile',
      summary: 'A file that the dashboard is made of',
      tags: ['about'],
      params: Type.Object({ file: Type.String({ description: '`main.js`, `main.css` or `favicon.svg`' }) }),
      response: {
        200: body('The file', ['text/javascript', 'text/css', 'image/svg+xml', 'text/html']),
        304: unchanged,
        404: problems('There is no such file'),
      },
    },
    async handler(request, reply) {
      const { file } = request.params;
      const found = files.get(file);
      if (!found) throw new Problem('not-found', `The dashboard has no file ${shown(file)}`);
      return answerWith(found, request, reply);
    },
  });
}

/** Asked again each time, and sent only when it is another: a page must fit the service that it talks to. */
function answerWith({ type, etag, bytes }: DashboardFile, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  reply.header('cache-control', 'no-cache').header('etag', etag);
  const known = (request.headers['if-none-match'] ?? '').split(/\s*,\s*/).map((tag) => tag.replace(/^W\//, ''));
  return known.includes(etag) ? reply.code(304).send() : reply.type(type).send(bytes);
}
