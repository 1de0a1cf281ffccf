// The OpenAPI 3.1 document: made from the routes' own schemas, with what every route has in common (roles, problems)
// added from the tables that the code itself runs by. The checked-in copy is openapi/openapi.yaml.
import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger';
import { type Access, accessOf } from './access.ts';
import { BODY_EXAMPLES } from './openapi-examples.ts';
import { problems } from './schemas.ts';

/** Of the API, not of the product: it rises when the document changes in a way that clients must know. */
const API_VERSION = '1.0.0';

/** Routes whose body may be left out. */
const OPTIONAL_BODIES = ['postPreflight', 'stop', 'renewLease', 'simulate'];

const SECURITY: Record<Access, readonly Record<string, readonly string[]>[]> = {
  open: [],
  // Bound to loopback a caller without a token is a workload; reads may be opened by the configuration.
  viewer: [{ bearer: [] }, {}],
  workload: [{ bearer: [] }, {}],
  operator: [{ bearer: [] }],
};

interface DocumentedSchema {
  readonly operationId?: string;
  readonly body?: unknown;
  readonly querystring?: unknown;
  readonly params?: unknown;
  readonly response?: Record<string, unknown>;
}

/** What a route can always answer beside its own responses. */
function commonResponses(schema: DocumentedSchema, method: string, access: Access): Record<string, unknown> {
  const takesInput = schema.body !== undefined || schema.querystring !== undefined || schema.params !== undefined;
  // A stop takes whatever body there is; a GET's is never read.
  const mindsBody = method !== 'GET' && schema.operationId !== 'stop';
  return {
    ...(takesInput && { 400: problems('Not as documented; `code` and `detail` say what') }),
    ...(access !== 'open' && { 401: problems('No bearer token where one is needed, or an unknown one') }),
    403: problems('Not for this caller: its role, Host or Origin'),
    ...(schema.params !== undefined && { 414: problems('A part of the path is over 500 characters') }),
    ...(mindsBody && {
      413: problems('The body is over 1 MiB'),
      415: problems('The body is no application/json'),
    }),
    500: problems('A mistake of this service; its log says more'),
  };
}

/** A 503 of the gate, beside the route's own where it has one. */
function unreviewed(own: unknown): unknown {
  const common = problems('A cluster judges tokens and does not answer');
  if (!isDocumented(own)) return common;
  const description = `${own.description}; or a cluster judges tokens and does not answer`;
  return { ...own, description, content: { ...own.content, ...common.content } };
}

const isDocumented = (
  response: unknown,
): response is { readonly description?: string; readonly content: Readonly<Record<string, unknown>> } =>
  typeof response === 'object' && response !== null && 'content' in response;

export const OPENAPI_OPTIONS: FastifyDynamicSwaggerOptions = {
  openapi: {
    openapi: '3.1.0',
    info: {
      title: 'VSF Safety',
      version: API_VERSION,
      description:
        'Watches GPU workstations and clusters while workload generators load them; refuses unsafe starts, stops everything before a limit is passed for long, and stays stopped until an operator resets. It is software and no certified emergency stop (ISO 13850).\n\n' +
        'Temperatures are in °C, powers in W, shares from 0 to 1. Unknown fields are to be ignored; a breaking change gets a prefix. What goes wrong is application/problem+json with a stable `code`; a refused preflight or lease carries its result instead.\n\n' +
        'Roles: `viewer` reads, `workload` also takes leases and stops, `operator` also resets, forgets, drills, simulates and hands in commissioning reports. Bound to loopback, a caller without a token is a `workload`, unless the request was forwarded. Without a bearer token the Host must be a loopback name or one of `listen.hosts`, whatever its port; an Origin must match the Host, token or not.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: 'http://127.0.0.1:8470', description: 'The default' }],
    tags: [
      { name: 'start', description: 'Leave to run' },
      { name: 'stop', description: 'The emergency stop' },
      { name: 'watch', description: 'What is going on' },
      { name: 'nodes', description: 'An operator’s word on the hardware' },
      { name: 'about', description: 'This document and its page' },
    ],
    components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } } },
  },
  convertConstToEnum: false,
  refResolver: {
    buildLocalReference: (json, _baseUri, _fragment, i) => (typeof json['$id'] === 'string' ? json['$id'] : `def-${i}`),
  },
  transform({ schema, url, route }) {
    const method = [route.method].flat()[0] ?? 'GET';
    const access = accessOf(method, url) ?? 'open';
    const documented = schema as unknown as DocumentedSchema;
    const transformed = {
      ...schema,
      security: SECURITY[access],
      'x-role': access,
      response: sorted({
        ...commonResponses(documented, method, access),
        ...documented.response,
        ...(access !== 'open' && { 503: unreviewed(documented.response?.[503]) }),
      }),
    };
    return { schema: transformed as unknown as typeof schema, url };
  },
  transformObject(documentObject) {
    if (!('openapiObject' in documentObject)) return documentObject.swaggerObject;
    const { openapiObject } = documentObject;
    for (const path of Object.values(openapiObject.paths ?? {})) {
      for (const operation of Object.values(path ?? {})) {
        const { operationId = '', requestBody } = operation as {
          operationId?: string;
          requestBody?: { required?: boolean; content?: Record<string, { example?: unknown }> };
        };
        for (const media of Object.values(requestBody?.content ?? {})) media.example = BODY_EXAMPLES[operationId];
        if (requestBody && OPTIONAL_BODIES.includes(operationId)) requestBody.required = false;
      }
    }
    // Without shared parts: YAML would write them as anchors, which few readers follow.
    return JSON.parse(JSON.stringify(openapiObject)) as typeof openapiObject;
  },
};

function sorted(responses: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(responses).sort(([a], [b]) => a.localeCompare(b)));
}
