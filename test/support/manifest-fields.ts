// Whether a manifest has only fields that Kubernetes knows, of the right primitive types, by the types of its client. A
// server up to 1.24 drops what it does not know without a word.
import * as kubernetes from '@kubernetes/client-node';
import type { AnyObject } from './control-plane.ts';

interface Attribute {
  readonly name: string;
  readonly baseName: string;
  readonly type: string;
}

const MODELS = kubernetes as unknown as Record<
  string,
  { getAttributeTypeMap?: () => readonly Attribute[] } | undefined
>;

/** The client's class of a kind; `undefined` for a kind that is no built-in one. */
function modelOf({ apiVersion, kind }: AnyObject): string | undefined {
  const version = apiVersion.split('/').at(-1);
  const names = [`${version[0].toUpperCase()}${version.slice(1)}${kind}`, `Core${version.toUpperCase()}${kind}`];
  return names.find((name) => MODELS[name]?.getAttributeTypeMap);
}

/** Whether {@link fieldFaults} can judge it. */
export const isKnownKind = (object: AnyObject): boolean => modelOf(object) !== undefined;

/** Unknown fields and wrong primitives, as `spec.replicaz: unknown`. */
export function fieldFaults(object: AnyObject): readonly string[] {
  const model = modelOf(object);
  return model === undefined ? [`${object.kind}: unknown`] : faultsOf(object, model, '');
}

function faultsOf(value: AnyObject, type: string, path: string): readonly string[] {
  if (value === null || value === undefined) return [];
  const list = /^Array<(.*)>$/.exec(type)?.[1];
  if (list !== undefined) {
    if (!Array.isArray(value)) return [`${path}: no list`];
    return value.flatMap((item, index) => faultsOf(item, list, `${path}[${index}]`));
  }
  const inner = /^\{ \[key: string\]: (.*); \}$/.exec(type)?.[1];
  if (inner !== undefined) {
    return Object.entries(value).flatMap(([key, item]) => faultsOf(item, inner, `${path}.${key}`));
  }
  if (['string', 'number', 'boolean'].includes(type)) {
    return typeof value === type ? [] : [`${path}: no ${type}`];
  }
  const attributes = MODELS[type]?.getAttributeTypeMap?.();
  if (!attributes) return [];
  return Object.entries(value).flatMap(([key, item]) => {
    const place = path === '' ? key : `${path}.${key}`;
    const attribute = attributes.find(({ baseName }) => baseName === key);
    return attribute ? faultsOf(item, attribute.type, place) : [`${place}: unknown`];
  });
}
