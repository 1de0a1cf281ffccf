// The environment of this process: the only file that reads it. By itself, since the SDK needs no more of the configuration
// than this, and must be quick to load.

/** Names of variables to their values. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The environment of this process. */
export const processEnvironment: Environment = process.env;
