// The product's version, read once from the package.json above the code that runs: one folder up, in a bundle two.
import { readFileSync } from 'node:fs';

function readManifest(): unknown {
  for (const path of ['../package.json', '../../package.json']) {
    try {
      return JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'));
    } catch {
      // The other place.
    }
  }
  return null;
}

const manifest = readManifest();

export const VERSION: string =
  typeof manifest === 'object' && manifest !== null && 'version' in manifest ? String(manifest.version) : 'unknown';
