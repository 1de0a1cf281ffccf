// Reads API paths: what a request is about, in words, and whether its path can mean only what its caller means. An
// empty name turns "delete one" into "delete all" (kubernetes-client/python#2291 began so).
type Shape = 'object' | 'collection' | 'any';

/**
 * What keeps a path from being asked; `null` if nothing does. `object`: it names one, or a subresource of one, and is
 * no namespace, which would take everything in it along.
 */
export function pathFault(path: string, shape: Shape): string | null {
  if (!/^\/apis?(\/[A-Za-z0-9][A-Za-z0-9._:-]*)*$/.test(path) || path.includes('..')) {
    return `${JSON.stringify(path)} is no path of the API`;
  }
  if (shape === 'any') return null;
  const { names } = read(path);
  if (shape === 'collection') return names.length === 1 ? null : `${path} names no collection`;
  return names.length >= 2 ? null : `${path} names no single object`;
}

/** For people: `delete pods gpu/load-1`, `list pods`, `patch deployments/scale gpu/web`. */
export function deedOf(verb: string, path: string): string {
  const { namespace, names } = read(path);
  const [resource, name, subresource] = names;
  if (resource === undefined) return `${verb} ${path}`;
  const what = subresource === undefined ? resource : `${resource}/${subresource}`;
  if (name === undefined) return `${verb} ${what}${namespace === null ? '' : ` in ${namespace}`}`;
  return `${verb} ${what} ${namespace === null ? '' : `${namespace}/`}${name}`;
}

/** `names`: resource, then name, then subresource, as far as the path goes. */
function read(path: string): { readonly namespace: string | null; readonly names: readonly string[] } {
  const [, root, ...rest] = path.split('/');
  // `/api/v1/…`, `/apis/apps/v1/…`.
  const parts = rest.slice(root === 'api' ? 1 : 2);
  if (parts[0] !== 'namespaces' || parts.length === 1) return { namespace: null, names: parts };
  return { namespace: parts[1] ?? null, names: parts.slice(2) };
}
