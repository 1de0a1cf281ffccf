// The API's own page: the OpenAPI document as one piece of static HTML. No script, nothing from another host, so that it
// can be read on a machine without a network and under the strictest content policy.
import { createHash } from 'node:crypto';

const STYLE = `
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1d232a; background: #fff }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #cfd6dd }
code, pre { font: 13px/1.45 ui-monospace, monospace; background: #f2f4f6; border-radius: 3px }
code { padding: .1em .3em } pre { padding: .7rem; overflow: auto; max-height: 30rem }
.op { margin: 1.2rem 0; padding-left: .8rem; border-left: 3px solid #7a8794 } .op h3 { margin: 0 }
.op.stop { border-color: #c62828 } table { border-collapse: collapse } td { padding: .15rem .8rem .15rem 0; vertical-align: top }
@media (prefers-color-scheme: dark) { body { color: #dfe5ea; background: #14181c } code, pre { background: #20262c } a { color: #8ab4f8 } }
`;

/** For the content policy: the only inline style there is. */
export const STYLE_HASH = `'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`;

interface Operation {
  readonly summary?: string;
  readonly description?: string;
  readonly tags?: readonly string[];
  readonly 'x-role'?: string;
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly description?: string }[];
  readonly requestBody?: {
    readonly content?: Readonly<Record<string, { readonly schema?: unknown; readonly example?: unknown }>>;
  };
  readonly responses?: Readonly<
    Record<
      string,
      { readonly description?: string; readonly content?: Readonly<Record<string, { readonly schema?: unknown }>> }
    >
  >;
}

interface Document {
  readonly info: { readonly title: string; readonly version: string; readonly description?: string };
  readonly paths?: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components?: { readonly schemas?: Readonly<Record<string, unknown>> };
}

/** A page of ours, with its title and body. */
export function page(title: string, body: string): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escapeHtml(title)}</title>
<style>${STYLE}</style></head><body>
${body}
</body></html>
`;
}

/** The page over an OpenAPI document. */
export function docsPage(document: Document): string {
  const { info, paths = {}, components } = document;
  const operations = Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => operationHtml(method, path, operation)),
  );
  const schemas = Object.entries(components?.schemas ?? {}).map(
    ([name, schema]) => `<h3 id="${escapeHtml(name)}">${escapeHtml(name)}</h3>\n${schemaHtml(schema)}`,
  );
  const text = (info.description ?? '')
    .split('\n\n')
    .map((part) => `<p>${withCode(part)}</p>`)
    .join('\n');
  return page(
    `${info.title} API`,
    `<h1>${escapeHtml(info.title)} API ${escapeHtml(info.version)}</h1>
<p><a href="/openapi.json">openapi.json</a> · <a href="/">home</a></p>
${text}
<h2>Routes</h2>
${operations.join('\n')}
<h2>Schemas</h2>
${schemas.join('\n')}`,
  );
}

function operationHtml(method: string, path: string, operation: Operation): string {
  const isStop = operation.tags?.includes('stop') ?? false;
  const parameters = (operation.parameters ?? []).map(
    (parameter) =>
      `<tr><td><code>${escapeHtml(parameter.name)}</code> <small>${escapeHtml(parameter.in)}</small></td><td>${withCode(parameter.description ?? '')}</td></tr>`,
  );
  const responses = Object.entries(operation.responses ?? {}).map(([status, { description = '', content = {} }]) => {
    const schemas = Object.values(content)
      .map(({ schema }) => referenceHtml(schema))
      .filter(Boolean);
    return `<tr><td>${escapeHtml(status)}</td><td>${withCode(description)} ${schemas.join(', ')}</td></tr>`;
  });
  const body = Object.values(operation.requestBody?.content ?? {})[0];
  return `<div class="op${isStop ? ' stop' : ''}">
<h3><code>${escapeHtml(method.toUpperCase())} ${escapeHtml(path)}</code></h3>
<p>${withCode(operation.summary ?? '')} <small>(${escapeHtml(operation['x-role'] ?? '')})</small></p>
${operation.description ? `<p>${withCode(operation.description)}</p>` : ''}
${parameters.length > 0 ? `<table>${parameters.join('')}</table>` : ''}
${body ? `<p>Body, for example:</p>${schemaHtml(body.example)}<p>Its schema:</p>${schemaHtml(body.schema)}` : ''}
<table>${responses.join('')}</table>
</div>`;
}

function referenceHtml(schema: unknown): string {
  const reference = (schema as { $ref?: string } | undefined)?.$ref;
  if (reference === undefined) return '';
  const name = reference.slice(reference.lastIndexOf('/') + 1);
  return `<a href="#${escapeHtml(name)}">${escapeHtml(name)}</a>`;
}

/** A schema as JSON, its references as links. */
function schemaHtml(schema: unknown): string {
  const json = escapeHtml(JSON.stringify(schema, null, 1));
  const linked = json.replace(
    /&quot;#\/components\/schemas\/(\w+)&quot;/g,
    (_whole, name: string) => `<a href="#${name}">${name}</a>`,
  );
  return `<pre>${linked}</pre>`;
}

function withCode(text: string): string {
  return escapeHtml(text).replace(/`([^`]+)`/g, '<code>$1</code>');
}

function escapeHtml(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;');
}
