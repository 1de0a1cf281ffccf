// The words of the API as JSON schemas. They check what comes in, they are the components of the OpenAPI document, and
// the types that views and clients are written against come from them.
import { BASE_COMPONENTS } from './base-schemas.ts';
import { COMMISSION_COMPONENTS } from './commission-schemas.ts';
import { HISTORY_COMPONENTS } from './history-schemas.ts';
import { STATUS_COMPONENTS } from './status-schemas.ts';
import { STOP_COMPONENTS } from './stop-schemas.ts';
import { STREAM_COMPONENTS } from './stream-schemas.ts';

export * from './base-schemas.ts';
export * from './commission-schemas.ts';
export * from './history-schemas.ts';
export * from './status-schemas.ts';
export * from './stop-schemas.ts';
export * from './stream-schemas.ts';

/** Everything that a schema may refer to by its name. */
export const COMPONENTS = [
  ...BASE_COMPONENTS,
  ...STOP_COMPONENTS,
  ...STATUS_COMPONENTS,
  ...STREAM_COMPONENTS,
  ...HISTORY_COMPONENTS,
  ...COMMISSION_COMPONENTS,
] as const;
