// Holds answers against the OpenAPI document: an answer whose status, type or body is not written there fails, and so
// does one with a field that is not. Clients are written against the document, so it must not drift from the code.
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';

type Json = Record<string, unknown>;

interface Answered {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: string;
}

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const pointer = (...steps: string[]): string =>
  steps.map((step) => step.replace(/~/g, '~0').replace(/\//g, '~1')).join('/');

export class ApiDocument {
  readonly #document: Json;
  readonly #ajv: Ajv2020;
  readonly #compiled = new Map<string, ValidateFunction>();

  constructor(document: unknown) {
    const copy: unknown = structuredClone(document);
    if (!isObject(copy)) throw new Error('the document is no object');
    closeObjects(copy['components']);
    closeObjects(copy['paths']);
    this.#document = copy;
    this.#ajv = new Ajv2020({ strict: false, allErrors: true });
    formats.default(this.#ajv);
    this.#ajv.addSchema(copy, 'openapi');
  }

  /** What an answer breaks of the document; empty is nothing. */
  problemsOf(method: string, url: string, answer: Answered): string[] {
    const path = this.#pathOf(method, url);
    // An address that nobody documented is answered 404, 400 or 403 with a problem.
    if (path === null) return this.#problemsAt(`#/components/schemas/Problem`, JSON.parse(answer.body));
    const operation = (this.#document['paths'] as Json)[path] as Record<string, { responses: Record<string, Json> }>;
    const response = operation[method.toLowerCase()]?.responses[answer.statusCode];
    if (!response) return [`${method} ${path}: ${answer.statusCode} is not documented`];
    const content = response['content'];
    if (!isObject(content)) return answer.body === '' ? [] : [`${method} ${path}: ${answer.statusCode} has a body`];
    const type = String(answer.headers['content-type'] ?? '').split(';', 1)[0] ?? '';
    if (!(type in content)) return [`${method} ${path}: ${answer.statusCode} as ${type} is not documented`];
    const value: unknown = type.endsWith('json') ? JSON.parse(answer.body) : answer.body;
    const at = pointer(
      'paths',
      path,
      method.toLowerCase(),
      'responses',
      String(answer.statusCode),
      'content',
      type,
      'schema',
    );
    return this.#problemsAt(`#/${at}`, value).map((problem) => `${method} ${path} ${answer.statusCode}: ${problem}`);
  }

  /** What a value breaks of a component. */
  problemsOfComponent(name: string, value: unknown): string[] {
    return this.#problemsAt(`#/components/schemas/${name}`, value);
  }

  #problemsAt(at: string, value: unknown): string[] {
    const validate = this.#compiled.get(at) ?? this.#ajv.compile({ $ref: `openapi${at}` });
    this.#compiled.set(at, validate);
    if (validate(value)) return [];
    return (validate.errors ?? []).map(
      (error) => `${error.instancePath} ${error.message} ${JSON.stringify(error.params)}`,
    );
  }

  #pathOf(method: string, url: string): string | null {
    const asked = (url.split('?', 1)[0] ?? '').replace(/(?<=.)\/$/, '').split('/');
    for (const [path, item] of Object.entries(this.#document['paths'] as Json)) {
      const steps = path.split('/');
      const isMatch =
        steps.length === asked.length &&
        steps.every((step, i) => step === asked[i] || (step.startsWith('{') && asked[i]));
      if (isMatch && method.toLowerCase() in (item as Json)) return path;
    }
    return null;
  }
}

/** An object with documented fields has no others, unless it says so. */
function closeObjects(value: unknown): void {
  if (Array.isArray(value)) value.forEach(closeObjects);
  if (!isObject(value)) return;
  if (isObject(value['properties']) && value['type'] === 'object') value['additionalProperties'] ??= false;
  Object.values(value).forEach(closeObjects);
}
