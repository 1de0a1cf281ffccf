// The files of the dashboard, as the build made them, read once and held in memory: a page, a script, a style sheet and
// an icon. A full disk or a lost mount must not take away the page that somebody needs just then.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

export interface DashboardFile {
  readonly type: string;
  /** Strong: over every byte. */
  readonly etag: string;
  readonly bytes: Buffer;
}

/** Beside this file's folder, in `dist` as well as where tests run. */
const FOLDER = new URL('../dashboard/', import.meta.url);

const TYPES = {
  'index.html': 'text/html; charset=utf-8',
  'main.js': 'text/javascript; charset=utf-8',
  'main.css': 'text/css; charset=utf-8',
  'favicon.svg': 'image/svg+xml',
} as const;

export const DASHBOARD_PAGE = 'index.html';

/** Every file by its name; empty where nobody built the dashboard, as in a checkout that is run from its sources. */
export function readDashboardFiles(folder: URL = FOLDER): ReadonlyMap<string, DashboardFile> {
  const files = new Map<string, DashboardFile>();
  for (const [name, type] of Object.entries(TYPES)) {
    try {
      const bytes = readFileSync(new URL(name, folder));
      const etag = `"${createHash('sha256').update(bytes).digest('base64url').slice(0, 27)}"`;
      files.set(name, { type, etag, bytes });
    } catch {
      // Half a dashboard is none: the plain page says what is missing.
      return new Map();
    }
  }
  return files;
}
