// The HTTP layer: Fastify with a gate in front of every route, problems for everything that goes wrong, and limits on
// whatever a client can send. It is handed the running parts and runs nothing of its own but the stream.

import type { Socket } from 'node:net';
import fastifyHelmet from '@fastify/helmet';
import fastifySwagger from '@fastify/swagger';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import fastifyWebsocket from '@fastify/websocket';
import type { ConnectionError } from 'fastify';
import Fastify, { type FastifyError, type FastifyReply, type FastifyRequest, LogController } from 'fastify';
import { accessOf, HOST_EXEMPT, isPrompt } from './access.ts';
import { addAudit } from './audited.ts';
import { createGate } from './auth.ts';
import { STYLE_HASH } from './docs-page.ts';
import {
  boundConnections,
  followCertificate,
  MOST_HEADER_BYTES,
  mostConnectionsHere,
  REQUEST_TIMEOUT_MS,
  SERVER_OPTIONS,
  tlsOptionsOf,
} from './listener.ts';
import { OPENAPI_OPTIONS } from './openapi.ts';
import type { App, AppParts } from './parts.ts';
import { answerError, PROBLEM_TYPE, Problem, problemOf, sendProblem } from './problem.ts';
import { QuestionLooks } from './question-looks.ts';
import { addAlertmanagerRoute } from './routes/alertmanager.ts';
import { addCommissionRoutes } from './routes/commission.ts';
import { addDashboardRoutes } from './routes/dashboard.ts';
import { addDocsRoutes } from './routes/docs.ts';
import { addEstopRoutes } from './routes/estop.ts';
import { addHistoryRoute } from './routes/history.ts';
import { addLeaseRoutes } from './routes/leases.ts';
import { addMetricsRoute } from './routes/metrics.ts';
import { addNodeRoutes } from './routes/nodes.ts';
import { addPreflightRoutes } from './routes/preflight.ts';
import { addProbeRoutes } from './routes/probes.ts';
import { addResetRoutes } from './routes/reset.ts';
import { addSimulationRoute } from './routes/simulation.ts';
import { addStatusRoute } from './routes/status.ts';
import { addStreamRoute } from './routes/stream.ts';
import { COMPONENTS } from './schemas.ts';
import { Turns } from './turns.ts';

const MOST_BODY_BYTES = 1024 * 1024;
const MOST_PARAM_CHARACTERS = 500;
/** Clients never speak, but for control frames. */
const MOST_CLIENT_MESSAGE_BYTES = 4 * 1024;

/** Builds the app over the running parts. It listens when the caller says so, and `close()` ends within seconds. */
export function buildApp(parts: AppParts): App {
  const { certificate } = parts;
  // Fastify has other types for a server with TLS, of which nothing differs here.
  const speaksTls = (certificate ? { https: tlsOptionsOf(certificate) } : {}) as object;
  const app: App = Fastify({
    loggerInstance: parts.log,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: MOST_BODY_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    http: SERVER_OPTIONS,
    ...speaksTls,
    routerOptions: { maxParamLength: MOST_PARAM_CHARACTERS, ignoreTrailingSlash: true },
    forceCloseConnections: true,
    // A stop that arrives while the service ends is still taken.
    return503OnClosing: false,
    // "0.5" is no number and an unknown field a mistake: both are refused, and no body is changed on its way in.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false, verbose: true } },
    frameworkErrors: (error, request, reply) =>
      void sendProblem(reply as FastifyReply, frameworkProblem(error, request as FastifyRequest)),
    clientErrorHandler: answerBrokenRequest,
  }).withTypeProvider<TypeBoxTypeProvider>();

  boundConnections(app.server, mostConnectionsHere());
  if (certificate) followCertificate(app.server, certificate);
  // An expectation that is not known here is no reason to refuse anything, least of all a stop.
  app.server.on('checkExpectation', (request, response) => app.server.emit('request', request, response));
  app.setSerializerCompiler(() => JSON.stringify);
  for (const schema of COMPONENTS) app.addSchema(schema);

  void app.register(fastifyHelmet, {
    // Neither of these two may send a browser to a port that speaks no TLS, or will not after the next start.
    strictTransportSecurity: false,
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        'default-src': ["'none'"],
        'script-src': ["'self'"],
        'style-src': ["'self'", STYLE_HASH],
        'img-src': ["'self'", 'data:'],
        'connect-src': ["'self'"],
        'base-uri': ["'none'"],
        'form-action': ["'none'"],
        'frame-ancestors': ["'none'"],
      },
    },
  });
  void app.register(fastifySwagger, OPENAPI_OPTIONS);
  void app.register(fastifyWebsocket, {
    options: {
      maxPayload: MOST_CLIENT_MESSAGE_BYTES,
      perMessageDeflate: false,
      // The stream answers pings itself: one that sends them without reading would fill this process with pongs.
      autoPong: false,
      handleProtocols: (protocols) => (protocols.has('vsf.v1') ? 'vsf.v1' : false),
    },
    // The stream says goodbye itself; the plugin's own way gives no code and waits for every peer.
    preClose: (done) => done(),
    errorHandler: (_error, socket) => socket.terminate(),
  });
  void app.register(async (scope) => addRoutes(scope.withTypeProvider<TypeBoxTypeProvider>(), parts));
  return app;
}

function addRoutes(app: App, parts: AppParts): void {
  app.setErrorHandler(answerError);
  app.setNotFoundHandler((request, reply) => {
    return sendProblem(
      reply,
      new Problem('not-found', `There is no ${request.method} ${request.url.split('?', 1)[0]?.slice(0, 200)}`),
    );
  });
  app.removeContentTypeParser(['text/plain', 'application/json']);
  // Many clients name the type of a body that they do not send.
  const parseJson = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body === '') done(null, undefined);
    else void parseJson(request, String(body), done);
  });
  const gate = createGate(parts.config, parts.tokens, parts.reviewToken ?? null);
  app.decorateRequest('caller', null);
  app.addHook('onRoute', ({ method, url }) => {
    for (const one of [method].flat()) {
      if (accessOf(one, url) === undefined) throw new Error(`Cannot add ${one} ${url}: it is not in the access table`);
    }
  });
  app.addHook('onRequest', async (request, reply) => {
    // A gate that a cache answers is no gate.
    reply.header('cache-control', 'no-store');
    const { url } = request.routeOptions;
    const access = url === undefined ? 'open' : (accessOf(request.method, url) ?? 'open');
    request.caller = await gate({
      headers: request.headers,
      access,
      isHostExempt: url !== undefined && HOST_EXEMPT.includes(url),
      isPrompt: url !== undefined && isPrompt(request.method, url),
      isStream: url === '/ws',
      // Also of one who is refused: it is written down who tried.
      onCaller: (caller) => {
        request.caller = caller;
      },
      deed: `${request.method} ${url ?? 'this address'}`,
    });
  });

  addAudit(app, parts);

  const turns = new Turns(parts.clock, app.server, parts.monitor);
  const looks = new QuestionLooks(parts.supervisor);
  addPreflightRoutes(app, parts, turns, looks);
  addLeaseRoutes(app, parts, turns, looks);
  addStatusRoute(app, parts, turns);
  addEstopRoutes(app, parts);
  addResetRoutes(app, parts);
  addAlertmanagerRoute(app, parts);
  addNodeRoutes(app, parts);
  addSimulationRoute(app, parts);
  addCommissionRoutes(app, parts, turns);
  addHistoryRoute(app, parts, turns);
  const stream = addStreamRoute(app, parts);
  addMetricsRoute(app, parts, stream, turns);
  addProbeRoutes(app, parts);
  addDocsRoutes(app);
  addDashboardRoutes(app);
}

/** An address that cannot be read never reaches a route, nor the hooks before it. */
function frameworkProblem(error: FastifyError, request: FastifyRequest): Problem {
  if (error.statusCode === 414) return problemOf(error);
  return error.statusCode === 400
    ? new Problem('invalid-request', `Cannot ${request.method} this address: it is no valid URL`)
    : problemOf(error);
}

/** What is no HTTP never becomes a request; a problem is written straight to its socket. */
function answerBrokenRequest(error: ConnectionError, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return;
  // Below HTTP there is nobody to answer: plain HTTP to a TLS port, a scanner, a client that does not trust us.
  if (/^(ERR_SSL|ERR_TLS|EPROTO)/.test(error.code)) {
    socket.destroy();
    return;
  }
  if (socket.writable && socket.bytesWritten === 0) {
    const problem = brokenRequestProblem(error);
    const body = JSON.stringify(problem);
    socket.write(
      `HTTP/1.1 ${problem.status} ${problem.code}\r\ncontent-type: ${PROBLEM_TYPE}\r\n` +
        `content-length: ${Buffer.byteLength(body)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n${body}`,
    );
  }
  socket.destroy(error);
}

function brokenRequestProblem(error: ConnectionError): Problem {
  switch (error.code as string) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new Problem(
        'request-timeout',
        `Cannot take the request: it must arrive within ${REQUEST_TIMEOUT_MS / 1000} s`,
      );
    case 'HPE_HEADER_OVERFLOW':
      return new Problem(
        'headers-too-large',
        `Cannot take the request: its headers must be at most ${MOST_HEADER_BYTES / 1024} KiB`,
      );
    default:
      return new Problem('invalid-request', 'Cannot take the request: it is no HTTP');
  }
}
